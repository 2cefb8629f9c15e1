use std::collections::BTreeMap;

use foreshock_engine::STATE_VERSION;
use foreshock_engine::state::{BlockId, EncodedBlock};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::RECORD_BYTES;
use super::key::Key;

/// First bytes of a manifest.
const MAGIC: [u8; 4] = *b"FSHM";
/// Raised whenever the bytes of a manifest change.
const FORMAT: u16 = 2;

/// Where one block stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    /// Offset of the state that it was first written with.
    pub(super) at: i64,
    pub(super) records: u32,
    pub(super) raw_bytes: usize,
    pub(super) xxh3: u64,
}

impl Stored {
    pub(super) fn new(block: &EncodedBlock, at: i64) -> Self {
        Self {
            at,
            records: u32::try_from(block.bytes.len().div_ceil(RECORD_BYTES)).unwrap_or(u32::MAX),
            raw_bytes: block.raw_bytes,
            xxh3: block.xxh3,
        }
    }

    /// Keys of its records.
    pub(super) fn keys(self, id: BlockId) -> impl Iterator<Item = Key> {
        (0..self.records).map(move |number| Key::Block {
            id,
            at: self.at,
            number,
        })
    }
}

/// What a state consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The next record to apply.
    pub(super) offset: i64,
    /// Partitions that the partition's own topic had.
    pub(super) topic_partitions: u32,
    /// Partitions that the signals topic had: entities are spread by it.
    pub(super) signals_partitions: u32,
    pub(super) blocks: BTreeMap<BlockId, Stored>,
}

/// Why a manifest is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// Of a program newer than this one: format and state version.
    Newer(u16, u16),
    /// Of an older one, from which there is no way to this one.
    Older(u16),
    Damaged,
}

impl Manifest {
    /// Keys of all its records but its own.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.blocks.iter().flat_map(|(id, stored)| stored.keys(*id))
    }

    pub(super) fn raw_bytes(&self) -> usize {
        self.blocks.values().map(|b| b.raw_bytes).sum()
    }

    pub(super) fn encode(&self) -> std::io::Result<Vec<u8>> {
        let packed = postcard::to_stdvec(self).map_err(std::io::Error::other)?;
        let body = zstd::bulk::compress(&packed, 3)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&STATE_VERSION.to_le_bytes());
        bytes.extend_from_slice(&xxh3_64(&body).to_le_bytes());
        bytes.extend_from_slice(&(packed.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    /// A manifest, and the version of the state that it is of.
    pub(super) fn decode(bytes: &[u8]) -> Result<(u16, Self), Unread> {
        let (format, rest) = number::<2>(bytes.strip_prefix(&MAGIC).ok_or(Unread::Damaged)?)?;
        let (version, rest) = number::<2>(rest)?;
        let (format, version) = (u16::from_le_bytes(format), u16::from_le_bytes(version));
        if format > FORMAT || version > STATE_VERSION {
            return Err(Unread::Newer(format, version));
        }
        if format < FORMAT || !foreshock_engine::state::reads(version) {
            return Err(Unread::Older(version));
        }
        let (hash, rest) = number::<8>(rest)?;
        let (len, body) = number::<8>(rest)?;
        if xxh3_64(body) != u64::from_le_bytes(hash) {
            return Err(Unread::Damaged);
        }
        let len = usize::try_from(u64::from_le_bytes(len)).unwrap_or(usize::MAX);
        let packed = zstd::bulk::decompress(body, len.min(256 << 20)).map_err(|_| Unread::Damaged)?;
        let manifest = postcard::from_bytes(&packed).map_err(|_| Unread::Damaged)?;
        Ok((version, manifest))
    }
}

fn number<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), Unread> {
    bytes
        .split_first_chunk::<N>()
        .map(|(n, rest)| (*n, rest))
        .ok_or(Unread::Damaged)
}
