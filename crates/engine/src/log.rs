use foreshock_domain::Timestamp;

use crate::{Frozen, Output, Record, Snapshot, TopicPartition, Unreadable};

/// A partition that this instance now owns. The log will hand out its records from the snapshot's offset on (or from the
/// first record that is still there).
#[derive(Clone, Debug)]
pub struct Assignment {
    /// Which partition.
    pub of: TopicPartition,
    /// The newest whole snapshot that this program reads, if there is one.
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
    /// Stretches that can't be read. What comes before them went through the sink, and what comes next is behind them.
    Unreadable(Vec<Unreadable>),
    /// Partitions came.
    Assigned(Vec<Assignment>),
    /// Partitions went; their uncommitted work is void.
    Revoked(Vec<TopicPartition>),
    /// Time to write a tick into every signals partition that is owned.
    Tick(Timestamp),
    /// Time to commit an epoch.
    Due {
        /// Whether this or the next epochs should carry the state of what moved. No log asks for states while it is still
        /// writing the last.
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
    /// States as of `reached`. A log may write them with later epochs, a part with each.
    pub states: Vec<(TopicPartition, Frozen)>,
}

/// What a log has stored of states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Snapshots that are whole now.
    pub snapshots: u64,
    /// Bytes of these states before compression.
    pub state_bytes: u64,
    /// Bytes written, of whole and of unfinished snapshots.
    pub written_bytes: u64,
}

impl Epoch {
    /// Whether there is nothing to commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty() && self.reached.is_empty() && self.states.is_empty()
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

    /// Writes an epoch: all of it or nothing, but for its states, which may follow with later ones.
    ///
    /// # Errors
    /// When it is not known to be written; see the trait.
    fn commit(&mut self, epoch: Epoch) -> Result<Saved, Self::Error>;

    /// Whether states are still being written, so that there is something to commit in an empty epoch.
    fn is_saving(&self) -> bool {
        false
    }

    /// The snapshot of a partition that was just assigned can't be read: the next best thing, which is an older snapshot or
    /// none. Records come from there on.
    ///
    /// # Errors
    /// When the log can't go on; see the trait.
    fn fall_back(&mut self, of: TopicPartition) -> Result<Assignment, Self::Error>;

    /// After the last epoch: finishes what states are still being written, as far as there is time.
    ///
    /// # Errors
    /// When it is not known to be written; the epochs before stand.
    fn finish(&mut self) -> Result<Saved, Self::Error> {
        Ok(Saved::default())
    }
}
