use std::fmt;

use foreshock_engine::state::BlockId;
use xxhash_rust::xxh3::xxh3_64;

/// Key of a record of the state topic, without the partition it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// One of the two manifests.
    Manifest(u8),
    /// A part of a block.
    Block {
        id: BlockId,
        /// Offset of the state that it was first written with.
        at: i64,
        number: u32,
    },
    /// The manifest that programs before state version 8 wrote.
    OldManifest,
    /// A chunk of theirs.
    OldChunk(u32),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest(slot) => write!(f, "manifest-{slot}"),
            Self::Block { id, at, number } => write!(f, "{id}/{at}/{number}"),
            Self::OldManifest => write!(f, "manifest"),
            Self::OldChunk(number) => write!(f, "{number}"),
        }
    }
}

impl Key {
    /// As it stands in the topic.
    pub(super) fn of(self, topic: &str, partition: i32) -> String {
        format!("{topic}/{partition}/{self}")
    }

    /// Topic, partition and key of a record's key; `None` where it is not one of ours.
    pub(super) fn parse(key: &str) -> Option<(&str, i32, Self)> {
        let mut words = key.split('/');
        let (topic, partition, first) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
        let key = match (first, words.next(), words.next(), words.next()) {
            ("manifest-0", None, ..) => Self::Manifest(0),
            ("manifest-1", None, ..) => Self::Manifest(1),
            ("manifest", None, ..) => Self::OldManifest,
            (number, None, ..) => Self::OldChunk(number.parse().ok()?),
            (id, Some(at), Some(number), None) => Self::Block {
                id: id.parse().ok()?,
                at: at.parse().ok()?,
                number: number.parse().ok()?,
            },
            _ => return None,
        };
        Some((topic, partition, key))
    }
}

/// Which of so many partitions of the state topic holds the snapshots of a partition.
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // a remainder of a small number
pub(super) fn home(topic: &str, partition: i32, of: usize) -> i32 {
    (xxh3_64(format!("{topic}/{partition}").as_bytes()) % of.max(1) as u64) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written_and_nothing_else_is() {
        let block = Key::Block {
            id: BlockId::HEAD,
            at: 77,
            number: 3,
        };
        for key in [Key::Manifest(1), block, Key::OldManifest, Key::OldChunk(4)] {
            assert_eq!(Key::parse(&key.of("a.b-c", 7)), Some(("a.b-c", 7, key)));
        }
        for text in [
            "",
            "a",
            "a/1",
            "a/x/manifest",
            "a/1/manifest-2",
            "a/1/head.0.0/5",
            "a/1/b.0.0/5/6",
            "a/1/2/3/4/5",
        ] {
            assert_eq!(Key::parse(text), None, "{text}");
        }
    }
}
