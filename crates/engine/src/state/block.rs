use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::Blocks;
use super::migrate::{Migration, Stage};

/// A block larger than this when unpacked is not one of ours.
const BLOCK_BYTES_MAX: usize = 2 << 30;
/// Fast rather than small: a snapshot is read once in a while and written every minute.
const LEVEL: i32 = 1;

/// Which table of a state a block is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Part {
    /// Everything that is in no table, and the tables' lengths.
    Head,
    /// Series and their models.
    Series,
    /// Entities.
    Entities,
    /// What series got in an open window.
    WindowSeries,
    /// What entities got in an open window.
    WindowEntities,
    /// Windows of entities that the second stage holds back.
    Held,
}

impl Part {
    pub(super) const ALL: [(Self, &'static str); 6] = [
        (Self::Head, "head"),
        (Self::Series, "series"),
        (Self::Entities, "entities"),
        (Self::WindowSeries, "window-series"),
        (Self::WindowEntities, "window-entities"),
        (Self::Held, "held"),
    ];
}

/// Names one block of one partition's state; written `part.of.number`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BlockId {
    /// The table.
    pub part: Part,
    /// Which of the tables of that kind: the time of a window, in milliseconds; 0 where there is one table.
    pub of: i64,
    /// Place in the table, in blocks.
    pub number: u32,
}

impl BlockId {
    /// The head.
    pub const HEAD: Self = Self {
        part: Part::Head,
        of: 0,
        number: 0,
    };
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Part::ALL.iter().find(|(p, _)| *p == self.part).map_or("?", |(_, n)| n);
        write!(f, "{name}.{}.{}", self.of, self.number)
    }
}

impl FromStr for BlockId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split('.');
        let (Some(part), Some(of), Some(number), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(());
        };
        Ok(Self {
            part: Part::ALL.iter().find(|(_, n)| *n == part).ok_or(())?.0,
            of: of.parse().map_err(|_| ())?,
            number: number.parse().map_err(|_| ())?,
        })
    }
}

/// Why a state can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its bytes are not those that were written.
    #[error("block {0} does not match its checksum")]
    Checksum(BlockId),
    /// Not compressed as ours are.
    #[error("block {0} can't be unpacked: {1}")]
    Unpack(BlockId, std::io::Error),
    /// Unpacked and yet no state of this version.
    #[error("block {0} can't be read: {1}")]
    Damaged(BlockId, postcard::Error),
    /// Of an earlier version, and not as states of that version are.
    #[error("block {0} is no block of state version {1}")]
    Migration(BlockId, u16),
    /// Of a version from which there is no way to this one.
    #[error("states of version {0} can't be read")]
    Version(u16),
    /// The head tells of blocks that did not come.
    #[error("blocks are missing: {0}")]
    Incomplete(&'static str),
}

/// The bytes of a value.
pub(crate) fn pack<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_stdvec(value)
}

/// What can be packed later, on any thread.
pub(super) trait Pack: Send + Sync {
    fn pack(&self) -> Result<Vec<u8>, postcard::Error>;
}

impl<T: Serialize + Send + Sync> Pack for Vec<T> {
    fn pack(&self) -> Result<Vec<u8>, postcard::Error> {
        pack(self.as_slice())
    }
}

pub(super) enum Body {
    Packed(Vec<u8>),
    Shared(Arc<dyn Pack>),
}

/// Compresses blocks; its memory is used again for each.
pub struct Packer(zstd::bulk::Compressor<'static>);

impl Packer {
    /// # Errors
    /// When memory runs out.
    pub fn new() -> std::io::Result<Self> {
        zstd::bulk::Compressor::new(LEVEL).map(Self)
    }
}

/// One block as of a moment, not packed yet.
pub struct FrozenBlock {
    pub(super) id: BlockId,
    pub(super) changed: bool,
    pub(super) body: Body,
}

impl FrozenBlock {
    /// The head, which is packed at once.
    pub(crate) fn head(packed: Vec<u8>) -> Self {
        Self {
            id: BlockId::HEAD,
            changed: true,
            body: Body::Packed(packed),
        }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> BlockId {
        self.id
    }

    /// Whether it may differ from what the last frozen state held under this name.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.changed
    }

    /// Packs, compresses and signs it: a few microseconds per series.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn encode(self, packer: &mut Packer) -> std::io::Result<EncodedBlock> {
        let raw = match self.body {
            Body::Packed(bytes) => bytes,
            Body::Shared(items) => items.pack().map_err(std::io::Error::other)?,
        };
        let bytes = packer.0.compress(&raw)?;
        Ok(EncodedBlock {
            id: self.id,
            xxh3: xxh3_64(&bytes),
            raw_bytes: raw.len(),
            bytes,
        })
    }
}

impl fmt::Debug for FrozenBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrozenBlock({}, changed: {})", self.id, self.changed)
    }
}

/// One block as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncodedBlock {
    /// Its name.
    pub id: BlockId,
    /// Of `bytes`.
    pub xxh3: u64,
    /// Bytes before compression.
    pub raw_bytes: usize,
    /// Compressed.
    pub bytes: Vec<u8>,
}

impl EncodedBlock {
    /// Whether the bytes are those that were signed.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        xxh3_64(&self.bytes) == self.xxh3
    }

    fn unpack(&self) -> Result<Vec<u8>, LoadError> {
        if !self.is_whole() {
            return Err(LoadError::Checksum(self.id));
        }
        let unpack = |error| LoadError::Unpack(self.id, error);
        if self.raw_bytes > BLOCK_BYTES_MAX {
            return Err(unpack(std::io::Error::other("it claims to be larger than any block")));
        }
        zstd::bulk::decompress(&self.bytes, self.raw_bytes).map_err(unpack)
    }

    /// What it holds, if it is of this version.
    #[cfg(test)]
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T, LoadError> {
        read(self.id, &self.unpack()?)
    }
}

/// A partition's state as of an offset, shared with the partition; to be written.
#[derive(Debug, Default)]
pub struct Frozen {
    /// The next record to apply.
    pub offset: i64,
    /// All its blocks, the head first.
    pub blocks: Vec<FrozenBlock>,
}

impl Frozen {
    /// Packs all of it here and now.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn encode(self) -> std::io::Result<Snapshot> {
        let mut packer = Packer::new()?;
        self.encode_with(&mut packer)
    }

    /// As [`Self::encode`], many times over.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn encode_with(self, packer: &mut Packer) -> std::io::Result<Snapshot> {
        let blocks: std::io::Result<Vec<_>> = self.blocks.into_iter().map(|b| b.encode(packer)).collect();
        Ok(Snapshot {
            offset: self.offset,
            version: super::STATE_VERSION,
            blocks: blocks?,
        })
    }
}

/// A partition's state as of an offset, as it was read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The next record to apply.
    pub offset: i64,
    /// [`super::STATE_VERSION`] of the program that wrote it.
    pub version: u16,
    /// Its blocks in any order.
    pub blocks: Vec<EncodedBlock>,
}

impl Snapshot {
    /// Bytes before compression.
    #[must_use]
    pub fn raw_bytes(&self) -> usize {
        self.blocks.iter().map(|b| b.raw_bytes).sum()
    }
}

/// Reads a block's value, which must be all there is: bytes left over are those of another layout.
fn read<T: DeserializeOwned>(id: BlockId, raw: &[u8]) -> Result<T, LoadError> {
    match postcard::take_from_bytes(raw) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(LoadError::Damaged(id, postcard::Error::DeserializeBadEncoding)),
        Err(error) => Err(LoadError::Damaged(id, error)),
    }
}

/// Blocks on their way into the tables; each is freed as soon as it is read.
pub(crate) struct Loading {
    blocks: BTreeMap<BlockId, EncodedBlock>,
    version: u16,
    /// What makes blocks of this version of them, where they are of an earlier one.
    migration: Option<Migration>,
}

impl Loading {
    pub(crate) fn new(snapshot: Snapshot, stage: Stage) -> Result<Self, LoadError> {
        let version = snapshot.version;
        let migration = match version {
            super::STATE_VERSION => None,
            _ => Some(Migration::find(stage, version).ok_or(LoadError::Version(version))?),
        };
        Ok(Self {
            blocks: snapshot.blocks.into_iter().map(|b| (b.id, b)).collect(),
            version,
            migration,
        })
    }

    pub(crate) fn head<T: DeserializeOwned>(&mut self) -> Result<T, LoadError> {
        self.take(BlockId::HEAD)?.ok_or(LoadError::Incomplete("no head"))
    }

    /// Fills a table whose length the head said.
    pub(crate) fn fill<T, const N: usize>(
        &mut self,
        table: &mut Blocks<T, N>,
        part: Part,
        of: i64,
    ) -> Result<(), LoadError>
    where
        T: DeserializeOwned + Clone + Serialize + Send + Sync + 'static,
    {
        for number in 0..table.blocks_wanted() {
            let Some(items) = self.take(BlockId { part, of, number })? else {
                return Err(LoadError::Incomplete("a table is shorter than the head says"));
            };
            // What was migrated is stored nowhere yet.
            if !table.append(items, self.migration.is_some()) {
                return Err(LoadError::Incomplete("a block holds fewer entries than the head says"));
            }
        }
        Ok(())
    }

    /// What a block holds, if it is there.
    fn take<T: DeserializeOwned>(&mut self, id: BlockId) -> Result<Option<T>, LoadError> {
        let Some(block) = self.blocks.remove(&id) else {
            return Ok(None);
        };
        let mut raw = block.unpack()?;
        drop(block);
        if let Some(migration) = &self.migration {
            let migrated = migration.apply(id.part, raw);
            raw = migrated.map_err(|_| LoadError::Migration(id, self.version))?;
        }
        read(id, &raw).map(Some)
    }
}
