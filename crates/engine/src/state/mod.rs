//! A partition's state as blocks, so that saving it never stands in the way of the records.
//!
//! Tables keep their entries in [`Blocks`] of a fixed number each. [`Frozen`] is the state as of an offset: it shares every block
//! with the living partition, and costs a reference each. A block that is written to while a frozen state holds it is copied
//! first, so packing may take its time and may happen on another thread. What is small (clock, template miner, lengths of the
//! tables) is packed at once, as the head.
//!
//! A block that did not change since the last frozen state says so, and need not be written again.
//!
//! States of versions before are read too, see `migrate`; their layouts are written down beside it.
//!
//! Fails when: a window of all series closes while their blocks are still held; then all of them are copied, once, and the first time in
//! memory that the process has to be given.
//! Cost: 10 ns per block to freeze; a compare-and-swap per mutable access; a copy of the block at the first write after a freeze, 0.4 µs a
//! series, or 3 µs in new memory.

mod block;
mod blocks;
pub(crate) mod layout;
mod migrate;

pub use block::{BlockId, EncodedBlock, Frozen, FrozenBlock, LoadError, Packer, Part, Snapshot};
pub(crate) use block::{Loading, pack};
pub(crate) use blocks::Blocks;
pub(crate) use migrate::Stage;

/// Raised whenever the layout of a state changes: a test fails where that is forgotten, and says what to do.
pub const STATE_VERSION: u16 = 10;

/// Whether this program can read states of a version: of its own, and of those before for which there is a step. Of a newer one
/// nobody here knows.
#[must_use]
pub fn reads(version: u16) -> bool {
    version == STATE_VERSION || migrate::leads_from(version)
}
