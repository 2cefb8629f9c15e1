//! Snapshots in a compacted topic.
//!
//! A state is stored block by block ([`foreshock_engine::state`]). A block's records are keyed
//! `topic/partition/block/offset/0`, `…/1`, …, where the offset is that of the state it was first written with; a block that did
//! not change is not written again. The manifest lists the blocks of a state with their checksums and is written last. There are
//! two of them, `topic/partition/manifest-0` and `-1`, and a new one takes the older's place; in the same transaction records
//! that neither of the two refers to are deleted. So compaction keeps whatever the last two manifests need, and nothing else.
//!
//! Writing takes many transactions, none of which waits for it: [`Saver`] hands over a bounded number of bytes to each. States are
//! packed on a thread of their own.
//!
//! Equal offsets mean equal bytes, since a state follows from its log; so what two owners of a partition write never mixes.

mod key;
mod manifest;
mod restore;
mod saver;

pub use restore::{Found, StateError, newest};
pub(crate) use restore::{Restored, restore};
pub(crate) use saver::{Kept, Saver, StateRecord};

/// Below the brokers' usual limit of 1 MiB a record, with room for the envelope.
const RECORD_BYTES: usize = 768 * 1024;

/// What the state topic's `max.message.bytes` must be at least.
pub const STATE_RECORD_BYTES: u64 = RECORD_BYTES as u64 + 4_096;
