//! A log in memory: topics that outlive the process, and a process's reading of them.
//!
//! It keeps the same promises as brokers do (an epoch is written as a whole or not at all, signals are seen once they are
//! committed), so that the machine can be cut into batches and killed at every commit in a test. The clock follows the records'
//! own timestamps: a tick stands before the first record beyond each interval, wherever the batches are cut.

use std::collections::BTreeMap;

use foreshock_domain::{Millis, Timestamp};

use crate::log::{Assignment, Epoch, Log, Polled, Saved};
use crate::record::{Destination, Output, Record, TopicId, TopicPartition};
use crate::state::{Frozen, Packer, Snapshot};

/// One record at rest.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRecord {
    /// Where it stands.
    pub of: TopicPartition,
    /// The log's timestamp.
    pub timestamp: Option<Timestamp>,
    /// Key bytes.
    pub key: Option<Vec<u8>>,
    /// Value bytes.
    pub payload: Option<Vec<u8>>,
}

/// Topics, committed offsets and snapshots: what outlives a process.
#[derive(Debug, Default)]
pub struct MemoryTopic {
    /// Input records in order of arrival, with their offsets.
    inputs: Vec<(i64, StoredRecord)>,
    signals: BTreeMap<i32, Vec<StoredRecord>>,
    committed: BTreeMap<TopicPartition, i64>,
    /// The last two of each partition, the newest last.
    pub snapshots: BTreeMap<TopicPartition, Vec<Snapshot>>,
    /// Events and dead letters in order of writing.
    pub written: Vec<Output>,
    commits: u64,
}

impl MemoryTopic {
    /// Topics that hold these input records and `signals_partitions` empty partitions of signals.
    #[must_use]
    pub fn new(inputs: Vec<StoredRecord>, signals_partitions: u32) -> Self {
        let mut next: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        let numbered = inputs.into_iter().map(|record| {
            let offset = next.entry(record.of).or_default();
            *offset += 1;
            (*offset - 1, record)
        });
        let inputs = numbered.collect();
        let signals = (0..signals_partitions)
            .filter_map(|p| Some((i32::try_from(p).ok()?, Vec::new())))
            .collect();
        Self {
            inputs,
            signals,
            ..Self::default()
        }
    }

    /// How many epochs have been committed.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// Records of the signals topic, by partition.
    #[must_use]
    pub fn signals(&self) -> &BTreeMap<i32, Vec<StoredRecord>> {
        &self.signals
    }

    fn assignments(&self) -> Vec<Assignment> {
        let inputs = self.inputs.iter().map(|(_, r)| r.of);
        let signals = self.signals.keys().map(|p| TopicPartition {
            topic: TopicId::SIGNALS,
            partition: *p,
        });
        let all: std::collections::BTreeSet<_> = inputs.chain(signals).collect();
        let assignment = |of: TopicPartition| Assignment {
            of,
            snapshot: self.snapshots.get(&of).and_then(|all| all.last()).cloned(),
            committed: self.committed.get(&of).copied().unwrap_or(0),
            first: 0,
        };
        all.into_iter().map(assignment).collect()
    }

    fn write(&mut self, epoch: Epoch) {
        for output in epoch.outputs {
            match output.to {
                Destination::Signals(partition) => {
                    let of = TopicPartition {
                        topic: TopicId::SIGNALS,
                        partition,
                    };
                    let (key, payload) = (Some(output.key), Some(output.value));
                    self.signals.entry(partition).or_default().push(StoredRecord {
                        of,
                        timestamp: None,
                        key,
                        payload,
                    });
                }
                Destination::Anomalies
                | Destination::Failures
                | Destination::Ledger
                | Destination::DeadLetters
                | Destination::Moments => {
                    self.written.push(output);
                }
            }
        }
        self.committed.extend(epoch.reached);
        self.commits += 1;
    }

    fn keep(&mut self, of: TopicPartition, snapshot: Snapshot) {
        let all = self.snapshots.entry(of).or_default();
        if all.len() == 2 {
            all.remove(0);
        }
        all.push(snapshot);
    }
}

/// Where a process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Before its n-th commit (from 0) takes effect: all of the epoch is lost.
    Before(u64),
    /// After its n-th commit took effect, but before it learned of that.
    After(u64),
}

/// How a process reads.
pub struct MemoryLog<'a> {
    topics: &'a mut MemoryTopic,
    /// Records of the next poll; asked before each.
    batch: Box<dyn FnMut() -> usize + 'a>,
    /// Polls between two commits.
    commit_every: u64,
    /// Commits between two snapshots.
    snapshot_every: u64,
    tick_every_ms: Millis,
    crash: Option<Crash>,
    started: bool,
    polls: u64,
    commits: u64,
    /// Place in `topics.inputs`.
    next_input: usize,
    /// Inputs before this were committed by an earlier process: its ticks are in the log already.
    ticked_inputs: usize,
    last_tick: Option<Timestamp>,
    starts: BTreeMap<TopicPartition, i64>,
    next_signal: BTreeMap<i32, usize>,
    /// States that are not stored yet, as brokers store them some epochs after they were frozen.
    saving: Vec<(TopicPartition, Frozen)>,
    packer: Option<Packer>,
}

impl<'a> MemoryLog<'a> {
    /// A process that reads all partitions from where they were left. `batch` says how many records each poll brings.
    #[must_use]
    pub fn new(topics: &'a mut MemoryTopic, tick_every_ms: Millis, batch: impl FnMut() -> usize + 'a) -> Self {
        Self {
            topics,
            batch: Box::new(batch),
            commit_every: 4,
            snapshot_every: 3,
            tick_every_ms,
            crash: None,
            started: false,
            polls: 0,
            commits: 0,
            next_input: 0,
            ticked_inputs: 0,
            last_tick: None,
            starts: BTreeMap::new(),
            next_signal: BTreeMap::new(),
            saving: Vec::new(),
            packer: Packer::new().ok(),
        }
    }

    /// Dies there.
    #[must_use]
    pub fn dying(mut self, crash: Option<Crash>) -> Self {
        self.crash = crash;
        self
    }

    /// Commits after so many polls, with a snapshot after so many commits.
    #[must_use]
    pub fn committing(mut self, every_polls: u64, snapshot_every_commits: u64) -> Self {
        (self.commit_every, self.snapshot_every) = (every_polls.max(1), snapshot_every_commits.max(1));
        self
    }

    fn start(&mut self) -> Polled {
        self.started = true;
        let assignments = self.topics.assignments();
        for a in &assignments {
            self.start_at(a);
        }
        let committed = &self.topics.committed;
        let done = |(offset, r): &&(i64, StoredRecord)| committed.get(&r.of).is_some_and(|c| offset < c);
        self.ticked_inputs = self.topics.inputs.iter().take_while(done).count();
        let past = self.topics.inputs[..self.ticked_inputs]
            .iter()
            .filter_map(|(_, r)| r.timestamp);
        self.last_tick = past.max().map(|at| at.window_start(self.tick_every_ms));
        Polled::Assigned(assignments)
    }

    fn start_at(&mut self, assignment: &Assignment) {
        let of = assignment.of;
        let start = assignment.snapshot.as_ref().map_or(0, |s| s.offset);
        self.starts.insert(of, start);
        if of.topic == TopicId::SIGNALS {
            self.next_signal
                .insert(of.partition, usize::try_from(start).unwrap_or(0));
        }
    }

    /// The tick that stands before the next input, if one does.
    fn tick_due(&mut self) -> Option<Timestamp> {
        if self.next_input < self.ticked_inputs {
            return None;
        }
        let at = self
            .topics
            .inputs
            .get(self.next_input)?
            .1
            .timestamp?
            .window_start(self.tick_every_ms);
        if self.last_tick.is_some_and(|last| at <= last) {
            return None;
        }
        // A gap is walked in steps, as a clock would: whoever is silent in it was watched.
        let next = self.last_tick.map_or(at, |last| (last + self.tick_every_ms).min(at));
        let far = self
            .last_tick
            .is_some_and(|last| at - last > 1_000 * self.tick_every_ms);
        let next = if far { at } else { next };
        self.last_tick = Some(next);
        Some(next)
    }

    fn read_signals(&mut self, sink: &mut dyn FnMut(Record<'_>)) -> usize {
        let mut read = 0;
        for (partition, records) in &self.topics.signals {
            let next = self.next_signal.entry(*partition).or_default();
            for record in &records[(*next).min(records.len())..] {
                hand_over(record, i64::try_from(*next).unwrap_or(i64::MAX), sink);
                *next += 1;
                read += 1;
            }
        }
        read
    }
}

fn hand_over(record: &StoredRecord, offset: i64, sink: &mut dyn FnMut(Record<'_>)) {
    let (key, payload) = (record.key.as_deref(), record.payload.as_deref());
    sink(Record {
        from: record.of,
        offset,
        timestamp: record.timestamp,
        key,
        payload,
    });
}

impl Log for MemoryLog<'_> {
    type Error = Crash;

    fn poll(&mut self, sink: &mut dyn FnMut(Record<'_>)) -> Result<Polled, Crash> {
        if !self.started {
            return Ok(self.start());
        }
        self.polls += 1;
        if self.polls.is_multiple_of(self.commit_every) {
            return Ok(Polled::Due {
                snapshot: self.saving.is_empty() && (self.commits + 1).is_multiple_of(self.snapshot_every),
            });
        }
        let mut read = self.read_signals(sink);
        let wanted = (self.batch)().max(1);
        while read < wanted && self.next_input < self.topics.inputs.len() {
            if let Some(at) = self.tick_due() {
                return Ok(Polled::Tick(at));
            }
            let (offset, record) = &self.topics.inputs[self.next_input];
            self.next_input += 1;
            if self.starts.get(&record.of).is_some_and(|start| offset >= start) {
                hand_over(record, *offset, sink);
                read += 1;
            }
        }
        let unread = self
            .topics
            .signals
            .iter()
            .any(|(p, r)| self.next_signal.get(p).is_some_and(|n| *n < r.len()));
        if read == 0 && !unread && self.next_input == self.topics.inputs.len() {
            // What the last epoch wrote must be read too, so the end is where a commit brings nothing new.
            let quiet = self.polls % self.commit_every == self.commit_every - 1 || self.commit_every == 1;
            return Ok(if quiet && self.settled() {
                Polled::End
            } else {
                Polled::Idle
            });
        }
        Ok(Polled::Records(read))
    }

    fn commit(&mut self, mut epoch: Epoch) -> Result<Saved, Crash> {
        let n = self.commits;
        self.commits += 1;
        if self.crash == Some(Crash::Before(n)) {
            return Err(Crash::Before(n));
        }
        let frozen = std::mem::take(&mut epoch.states);
        self.topics.write(epoch);
        let saved = self.save();
        self.saving = frozen;
        match self.crash {
            Some(Crash::After(at)) if at == n => Err(Crash::After(n)),
            _ => Ok(saved),
        }
    }

    fn fall_back(&mut self, of: TopicPartition) -> Result<Assignment, Crash> {
        let snapshots = self.topics.snapshots.entry(of).or_default();
        snapshots.pop();
        let assignment = Assignment {
            of,
            snapshot: snapshots.last().cloned(),
            committed: self.topics.committed.get(&of).copied().unwrap_or(0),
            first: 0,
        };
        self.start_at(&assignment);
        Ok(assignment)
    }

    fn finish(&mut self) -> Result<Saved, Crash> {
        Ok(self.save())
    }
}

impl MemoryLog<'_> {
    /// Stores what was frozen an epoch ago: meanwhile the partitions went on.
    fn save(&mut self) -> Saved {
        let mut saved = Saved::default();
        for (of, frozen) in std::mem::take(&mut self.saving) {
            let Some(Ok(snapshot)) = self.packer.as_mut().map(|packer| frozen.encode_with(packer)) else {
                continue;
            };
            saved.snapshots += 1;
            saved.state_bytes += snapshot.raw_bytes() as u64;
            saved.written_bytes += snapshot.blocks.iter().map(|b| b.bytes.len() as u64).sum::<u64>();
            self.topics.keep(of, snapshot);
        }
        saved
    }
}

impl MemoryLog<'_> {
    /// Whether all that was read has been committed.
    fn settled(&self) -> bool {
        let inputs = self
            .topics
            .inputs
            .iter()
            .all(|(offset, r)| self.topics.committed.get(&r.of).is_some_and(|c| offset < c));
        let signals = self.topics.signals.iter().all(|(p, records)| {
            let of = TopicPartition {
                topic: TopicId::SIGNALS,
                partition: *p,
            };
            let committed = self.topics.committed.get(&of).copied().unwrap_or(0);
            usize::try_from(committed).is_ok_and(|c| c >= records.len())
        });
        inputs && signals
    }
}
