//! The engine's log over dumps: what brokers are to `run`, files are to `backtest`.
//!
//! Records go to the engine merged by event time, one partition a topic; what it writes for the second stage comes back to it once
//! committed, as from a topic. Ticks follow the records' own times, as `run` writes them by the clock. Nothing is restored
//! and nothing kept: memory is one line of each dump and one epoch.

use std::collections::VecDeque;

use foreshock_domain::{Millis, Timestamp};
use foreshock_engine::{Assignment, Destination, Epoch, Log, Output, Polled, Record, TopicId, TopicPartition};

use crate::dump::{Dump, DumpError, Merged, TimedRecord, merge};

/// Records between two commits.
const EPOCH_RECORDS: usize = 2_048;
/// A record further ahead than this moves the clock only when [`BELIEVED`] records in a row say so: one machine with a wrong
/// clock does not age everybody.
const LEAP_MS: Millis = 24 * 3_600_000;
const BELIEVED: u32 = 16;
/// Longest gap that is walked tick by tick; of a longer one only its end is told.
const TICKS_MAX: i64 = 1_000;

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
    started: bool,
    head: Option<(usize, TimedRecord)>,
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
            records: merge(dumps),
            topics,
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

    fn assignments(&self) -> Vec<Assignment> {
        let topics = self.topics.iter().copied().chain([TopicId::SIGNALS]);
        let all: std::collections::BTreeSet<TopicId> = topics.collect();
        let fresh = |topic| Assignment {
            of: TopicPartition { topic, partition: 0 },
            snapshot: None,
            committed: 0,
            first: 0,
        };
        all.into_iter().map(fresh).collect()
    }

    /// Makes sure that the next record is known, if there is one.
    fn look(&mut self) -> Result<(), DumpError> {
        while self.head.is_none() && !self.ended {
            match self.records.next().transpose()? {
                Some((_, record)) if record.at >= self.until => {}
                Some(found) => self.head = Some(found),
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
            return Ok(Polled::Due { snapshot: false });
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

    fn begin_anew(&mut self, _: TopicPartition) -> Result<(), DumpError> {
        // There are no snapshots, so everything begins at the first record anyway.
        Ok(())
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), DumpError> {
        for output in epoch.outputs {
            (self.written)(&output);
            if matches!(output.to, Destination::Signals(_)) {
                self.signals.push_back((self.signals_next, output.value));
                self.signals_next += 1;
            }
        }
        Ok(())
    }
}
