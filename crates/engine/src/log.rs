use foreshock_domain::Timestamp;

use crate::{Output, Record, TopicPartition};

/// A partition's state as of an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The next record to apply.
    pub offset: i64,
    /// The state, as the engine wrote it.
    pub state: Vec<u8>,
}

/// A partition that this instance now owns. The log will hand out its records from the snapshot's offset on (or from the
/// first record that is still there).
#[derive(Clone, Debug)]
pub struct Assignment {
    /// Which partition.
    pub of: TopicPartition,
    /// The newest complete snapshot, if there is one.
    pub snapshot: Option<Snapshot>,
    /// The next record whose effects have not been committed: what comes before it is replayed silently.
    pub committed: i64,
    /// The first record that is still there: what comes before it, and is in no snapshot, is gone.
    pub first: i64,
}

/// What a poll brought.
#[derive(Debug)]
pub enum Polled {
    /// That many records went through the sink.
    Records(usize),
    /// Nothing to read just now.
    Idle,
    /// Partitions came.
    Assigned(Vec<Assignment>),
    /// Partitions went; their uncommitted work is void.
    Revoked(Vec<TopicPartition>),
    /// Time to write a tick into every signals partition that is owned.
    Tick(Timestamp),
    /// Time to commit an epoch, with snapshots of the state or without.
    Due {
        /// Whether the epoch should carry snapshots.
        snapshot: bool,
    },
    /// There will be no more: commit what there is, and stop.
    End,
}

/// One atomic unit: written as a whole or not at all.
#[derive(Debug, Default)]
pub struct Epoch {
    /// Records to write.
    pub outputs: Vec<Output>,
    /// For each partition that moved, the next record to read.
    pub reached: Vec<(TopicPartition, i64)>,
    /// States as of `reached`.
    pub snapshots: Vec<(TopicPartition, Snapshot)>,
}

impl Epoch {
    /// Whether there is nothing to commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty() && self.reached.is_empty() && self.snapshots.is_empty()
    }
}

/// Where records come from and go to: brokers, dumps or memory.
///
/// After any error the caller must throw its state away and begin again with a new log: what was committed is then
/// read back, and nothing else counts.
pub trait Log {
    /// What may go wrong.
    type Error;

    /// Waits a short while for something to happen. Records go through `sink` one by one, in the order of their partition.
    ///
    /// # Errors
    /// When the log can't go on; see the trait.
    fn poll(&mut self, sink: &mut dyn FnMut(Record<'_>)) -> Result<Polled, Self::Error>;

    /// Hands out the records of a partition that came with the last poll from the first that is still there, and not from its
    /// snapshot's offset: the snapshot can't be used.
    ///
    /// # Errors
    /// When the log can't go on; see the trait.
    fn begin_anew(&mut self, of: TopicPartition) -> Result<(), Self::Error>;

    /// Writes an epoch: all of it or nothing.
    ///
    /// # Errors
    /// When it is not known to be written; see the trait.
    fn commit(&mut self, epoch: Epoch) -> Result<(), Self::Error>;
}
