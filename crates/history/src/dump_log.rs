//! The engine's log over dumps: what brokers are to `run`, files are to `backtest`.
//!
//! Records go to the engine merged by event time, one partition a topic; what it writes for the second stage comes back to it once
//! committed, as from a topic. Ticks follow the records' own times, as `run` writes them by the clock. Memory is one line of each
//! dump and one epoch.
//!
//! Where somebody asks for it, a [`Mark`] between two epochs holds what is needed to go on there after a stop: how many records of
//! each dump were taken, the state of the engine, and what its first stage has just written for the second.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use foreshock_domain::{Millis, Timestamp};
use foreshock_engine::{
    Assignment, Destination, Epoch, Frozen, Log, Output, Polled, Record, Saved, Snapshot, TopicId, TopicPartition,
};
use serde::{Deserialize, Serialize};

use crate::dump::{Dump, DumpError, Merged, TimedRecord, merge};

/// Records between two commits.
const EPOCH_RECORDS: usize = 2_048;
/// Records read over between two looks at whether to stop.
const PASSED_OVER: u64 = 16_384;
/// A record further ahead than this moves the clock only when [`BELIEVED`] records in a row say so: one machine with a wrong
/// clock does not age everybody.
const LEAP_MS: Millis = 24 * 3_600_000;
const BELIEVED: u32 = 16;
/// Longest gap that is walked tick by tick; of a longer one only its end is told.
const TICKS_MAX: i64 = 1_000;

/// Where reading stands between two epochs: all that is needed to go on from there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Mark {
    /// Records taken of each dump, in the order of the dumps.
    pub taken: Vec<u64>,
    offsets: Vec<i64>,
    last_tick: Option<Timestamp>,
    leaps: u32,
    /// Written by the last epoch, and not read yet.
    signals: Vec<Vec<u8>>,
    signals_next: i64,
    states: Vec<(TopicPartition, Snapshot)>,
}

/// Who wants marks.
pub trait Marking {
    /// Whether one is due; asked with every epoch.
    fn is_due(&mut self) -> bool;
    /// Takes one.
    ///
    /// # Errors
    /// When it can't be kept.
    fn keep(&mut self, mark: Mark) -> std::io::Result<()>;
}

/// Dumps as a log. Every output goes to `written` in order of commits.
pub struct DumpLog<'a> {
    records: Merged<Dump>,
    /// Topic of each dump, in the order of the dumps.
    topics: Vec<TopicId>,
    /// Records of this time or later are not read.
    until: Timestamp,
    tick_every_ms: Millis,
    written: &'a mut dyn FnMut(&Output),
    progress: &'a mut dyn FnMut(&[Dump]) -> bool,
    marking: Option<&'a mut dyn Marking>,
    started: bool,
    head: Option<(usize, TimedRecord)>,
    /// Records taken of each dump, the head among them.
    taken: Vec<u64>,
    /// The last state of each partition that a mark was made with, or that it began with.
    states: BTreeMap<TopicPartition, Snapshot>,
    ended: bool,
    /// Next offset of each topic, by its place in the configuration.
    offsets: Vec<i64>,
    last_tick: Option<Timestamp>,
    leaps: u32,
    uncommitted: usize,
    signals: VecDeque<(i64, Vec<u8>)>,
    signals_next: i64,
    stopped: bool,
}

impl<'a> DumpLog<'a> {
    /// Dumps with the topic that each belongs to. `progress` is asked with every epoch; where it says false, no more is read.
    #[must_use]
    pub fn new(
        dumps: Vec<(TopicId, Dump)>,
        tick_every_ms: Millis,
        written: &'a mut dyn FnMut(&Output),
        progress: &'a mut dyn FnMut(&[Dump]) -> bool,
    ) -> Self {
        let (topics, dumps): (Vec<TopicId>, Vec<Dump>) = dumps.into_iter().unzip();
        let topics_max = topics.iter().map(|t| usize::from(t.0)).max().unwrap_or(0);
        Self {
            taken: vec![0; dumps.len()],
            records: merge(dumps),
            topics,
            marking: None,
            states: BTreeMap::new(),
            until: Timestamp::LATEST,
            tick_every_ms,
            written,
            progress,
            started: false,
            head: None,
            ended: false,
            offsets: vec![0; topics_max + 1],
            last_tick: None,
            leaps: 0,
            uncommitted: 0,
            signals: VecDeque::new(),
            signals_next: 0,
            stopped: false,
        }
    }

    /// Reads no record of this time or later.
    #[must_use]
    pub fn until(mut self, until: Timestamp) -> Self {
        self.until = until;
        self
    }

    /// Makes marks for somebody, and one where it is stopped.
    #[must_use]
    pub fn marking(mut self, marking: &'a mut dyn Marking) -> Self {
        self.marking = Some(marking);
        self
    }

    /// Goes on from a mark: what was taken is read over.
    ///
    /// # Errors
    /// When a dump can't be read or ends before.
    pub fn from_mark(mut self, mark: Mark) -> Result<Self, DumpError> {
        for (place, taken) in mark.taken.iter().enumerate() {
            let mut left = *taken;
            while left > 0 {
                let Some(dump) = self.records.dumps_mut().get_mut(place) else {
                    break;
                };
                dump.pass_over(left.min(PASSED_OVER))?;
                left -= left.min(PASSED_OVER);
                if !(self.progress)(self.records.dumps()) {
                    // Stopped again before it began: what is written down stands.
                    (self.stopped, self.ended, self.marking) = (true, true, None);
                    return Ok(self);
                }
            }
        }
        self.taken = mark.taken;
        self.offsets = mark.offsets;
        (self.last_tick, self.leaps) = (mark.last_tick, mark.leaps);
        self.signals_next = mark.signals_next;
        #[allow(clippy::cast_possible_wrap)] // signals of one epoch
        let first = mark.signals_next - mark.signals.len() as i64;
        self.signals = (first..).zip(mark.signals).collect();
        self.states = mark.states.into_iter().collect();
        Ok(self)
    }

    fn assignments(&self) -> Vec<Assignment> {
        let topics = self.topics.iter().copied().chain([TopicId::SIGNALS]);
        let all: BTreeSet<TopicId> = topics.collect();
        let assignment = |topic| {
            let of = TopicPartition { topic, partition: 0 };
            let snapshot = self.states.get(&of).cloned();
            let committed = snapshot.as_ref().map_or(0, |s| s.offset);
            Assignment {
                of,
                snapshot,
                committed,
                first: 0,
            }
        };
        all.into_iter().map(assignment).collect()
    }

    fn mark(&self) -> Mark {
        let mut taken = self.taken.clone();
        if let Some((place, _)) = &self.head {
            taken[*place] -= 1;
        }
        Mark {
            taken,
            offsets: self.offsets.clone(),
            last_tick: self.last_tick,
            leaps: self.leaps,
            signals: self.signals.iter().map(|s| s.1.clone()).collect(),
            signals_next: self.signals_next,
            states: self.states.iter().map(|(of, s)| (*of, s.clone())).collect(),
        }
    }

    /// Makes sure that the next record is known, if there is one.
    fn look(&mut self) -> Result<(), DumpError> {
        while self.head.is_none() && !self.ended {
            match self.records.next().transpose()? {
                Some((place, record)) => {
                    self.taken[place] += 1;
                    self.head = (record.at < self.until).then_some((place, record));
                }
                None => self.ended = true,
            }
            self.ended |= self.stopped;
        }
        Ok(())
    }

    /// The tick that stands before the next record, if one does.
    fn tick_due(&mut self) -> Option<Timestamp> {
        let at = self.head.as_ref()?.1.at.window_start(self.tick_every_ms);
        let Some(last) = self.last_tick else {
            self.last_tick = Some(at);
            return Some(at);
        };
        if at <= last {
            self.leaps = 0;
            return None;
        }
        if at - last > LEAP_MS && self.leaps < BELIEVED {
            self.leaps += 1;
            return None;
        }
        self.leaps = 0;
        let is_far = at - last > TICKS_MAX * self.tick_every_ms;
        let next = if is_far { at } else { last + self.tick_every_ms };
        self.last_tick = Some(next);
        Some(next)
    }

    fn keep(&mut self, states: Vec<(TopicPartition, Frozen)>) -> std::io::Result<()> {
        for (of, frozen) in states {
            self.states.insert(of, frozen.encode()?);
        }
        let mark = self.mark();
        self.marking.as_mut().map_or(Ok(()), |m| m.keep(mark))
    }

    fn hand_over_signals(&mut self, sink: &mut dyn FnMut(Record<'_>)) -> usize {
        let from = TopicPartition {
            topic: TopicId::SIGNALS,
            partition: 0,
        };
        let n = self.signals.len();
        for (offset, value) in self.signals.drain(..) {
            sink(Record {
                from,
                offset,
                timestamp: None,
                key: None,
                payload: Some(&value),
            });
        }
        n
    }

    fn hand_over_head(&mut self, sink: &mut dyn FnMut(Record<'_>)) {
        let Some((place, record)) = self.head.take() else {
            return;
        };
        let topic = self.topics[place];
        let offset = &mut self.offsets[usize::from(topic.0)];
        sink(Record {
            from: TopicPartition { topic, partition: 0 },
            offset: *offset,
            timestamp: Some(record.at),
            key: Some(record.key.as_bytes()),
            payload: Some(&record.payload),
        });
        *offset += 1;
        self.uncommitted += 1;
    }
}

impl Log for DumpLog<'_> {
    type Error = DumpError;

    fn poll(&mut self, sink: &mut dyn FnMut(Record<'_>)) -> Result<Polled, DumpError> {
        if !std::mem::replace(&mut self.started, true) {
            return Ok(Polled::Assigned(self.assignments()));
        }
        let read = self.hand_over_signals(sink);
        if read > 0 {
            return Ok(Polled::Records(read));
        }
        if self.uncommitted >= EPOCH_RECORDS {
            self.uncommitted = 0;
            self.stopped |= !(self.progress)(self.records.dumps());
            let snapshot = self.marking.as_mut().is_some_and(|m| self.stopped || m.is_due());
            return Ok(Polled::Due { snapshot });
        }
        self.look()?;
        if self.head.is_none() {
            // The last epochs: what they bring for the second stage must be read as well.
            let was = std::mem::take(&mut self.uncommitted);
            return Ok(if was > 0 {
                Polled::Due { snapshot: false }
            } else {
                Polled::End
            });
        }
        if let Some(at) = self.tick_due() {
            self.uncommitted += 1;
            return Ok(Polled::Tick(at));
        }
        self.hand_over_head(sink);
        Ok(Polled::Records(1))
    }

    fn commit(&mut self, epoch: Epoch) -> Result<Saved, DumpError> {
        for output in epoch.outputs {
            (self.written)(&output);
            if matches!(output.to, Destination::Signals(_)) {
                self.signals.push_back((self.signals_next, output.value));
                self.signals_next += 1;
            }
        }
        if !epoch.states.is_empty() && self.marking.is_some() {
            self.keep(epoch.states).map_err(DumpError::Mark)?;
        }
        Ok(Saved::default())
    }

    fn fall_back(&mut self, of: TopicPartition) -> Result<Assignment, DumpError> {
        // Never asked: a dump has no snapshots.
        Ok(Assignment {
            of,
            snapshot: None,
            committed: 0,
            first: 0,
        })
    }
}
