//! A partition of a topic as a dump. Who reads it is not known here: brokers are on the same floor.
//!
//! Records are taken as `run` takes them: a record has its own time where its value has none, and one that can't be read is
//! handed on, for the engine to count.

use foreshock_domain::Timestamp;

/// A record as a topic holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRecord {
    /// Its place in the partition.
    pub offset: i64,
    /// Its own time.
    pub at: Option<Timestamp>,
    /// Key bytes; empty where there is none.
    pub key: Vec<u8>,
    /// Value bytes.
    pub payload: Vec<u8>,
}

/// Why a topic can't be read on: what its reader says.
pub type TopicFault = Box<dyn std::error::Error + Send + Sync>;

/// Records of one partition of a topic, in its order.
pub trait TopicRecords: Iterator<Item = Result<TopicRecord, TopicFault>> + Send {
    /// Offsets passed, and all that there are.
    fn progress(&self) -> (u64, u64);
}
