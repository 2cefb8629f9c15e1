use std::collections::BTreeMap;
use std::sync::Arc;

use foreshock_domain::{SignalRecord, Tick, Timestamp, Upstream};
use foreshock_wire::signals;

use crate::config::EngineConfig;
use crate::correlate::{self, CorrelatePartition};
use crate::counters::Counters;
use crate::detect::{self, DetectPartition};
use crate::log::{Assignment, Epoch};
use crate::record::{Destination, Output, Record, TopicId, TopicPartition, Unreadable};
use crate::state::{Frozen, FrozenBlock, LoadError, STATE_VERSION, Snapshot, reads};

/// Why a partition could not be taken up.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Written by a version from which there is no way to this one.
    #[error("the snapshot of {of:?} has version {found}, from which there is no way to {STATE_VERSION}")]
    Version {
        /// Which partition.
        of: TopicPartition,
        /// Its version.
        found: u16,
    },
    /// Cut off or damaged.
    #[error("the snapshot of {of:?} can't be read: {error}")]
    Damaged {
        /// Which partition.
        of: TopicPartition,
        /// What is wrong with it.
        error: LoadError,
    },
    /// A topic that is not configured.
    #[error("no source is configured for {0:?}")]
    UnknownTopic(TopicPartition),
}

/// Epochs that freezing waits for windows to close: a little more than a window, at the usual cadence.
const FREEZE_WAIT_EPOCHS: u32 = 24;

enum State {
    Detect(Box<DetectPartition>),
    Correlate(Box<CorrelatePartition>),
}

struct Partition {
    state: State,
    /// The next record to apply.
    next: i64,
    /// Records before this were committed in an earlier life: they change the state, and nothing leaves.
    committed: i64,
    /// Moved since the last epoch.
    moved: bool,
    /// Moved since its state was frozen last.
    stale: bool,
    /// Its state is to be frozen: how far windows were closed when that was asked for, and epochs since.
    wanted: Option<(Timestamp, u32)>,
}

impl Partition {
    /// Whether the state is to be frozen now. Right after windows were closed most blocks will be left alone until the next are;
    /// where none closes, it is not waited for long.
    fn is_freezing_due(&mut self) -> bool {
        let State::Detect(state) = &self.state else {
            return self.wanted.is_some();
        };
        let Some((closed_until, epochs)) = &mut self.wanted else {
            return false;
        };
        *epochs += 1;
        *closed_until != state.closed_until() || *epochs > FREEZE_WAIT_EPOCHS
    }
}

/// All partitions of one instance.
pub struct Engine {
    config: Arc<EngineConfig>,
    partitions: BTreeMap<TopicPartition, Partition>,
    outputs: Vec<Output>,
    /// Of these, values alone.
    output_bytes: usize,
    counters: Counters,
}

impl Engine {
    /// Without any partition yet.
    #[must_use]
    pub fn new(config: Arc<EngineConfig>) -> Self {
        Self {
            config,
            partitions: BTreeMap::new(),
            outputs: Vec::new(),
            output_bytes: 0,
            counters: Counters::default(),
        }
    }

    /// What it was told.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Takes up a partition, from its snapshot or without a past. What the log no longer has and the snapshot does not hold is counted, and
    /// the partition goes on behind it.
    ///
    /// # Errors
    /// When its snapshot can't be read: the partition is then not owned, and can be assigned again with another one.
    pub fn assign(&mut self, assignment: Assignment) -> Result<(), RestoreError> {
        let of = assignment.of;
        let stale = assignment.snapshot.is_none();
        let (state, next) = match assignment.snapshot {
            Some(snapshot) => {
                let offset = snapshot.offset;
                (self.load(of, snapshot)?, offset)
            }
            None => (self.fresh(of)?, 0),
        };
        // Without a snapshot nobody knows what the state should hold, but what was never read is missing for certain.
        let needed = if stale { assignment.committed } else { next };
        if needed > 0 {
            self.counters.records_gone += u64::try_from(assignment.first - needed).unwrap_or(0);
        }
        let next = next.max(assignment.first);
        self.partitions.insert(
            of,
            Partition {
                state,
                next,
                committed: assignment.committed,
                moved: false,
                stale,
                wanted: None,
            },
        );
        Ok(())
    }

    /// Gives partitions up, with all their work that was not committed.
    pub fn revoke(&mut self, partitions: &[TopicPartition]) {
        for of in partitions {
            self.partitions.remove(of);
        }
        self.outputs.retain(|o| !partitions.contains(&o.from));
    }

    /// Applies one record; one that was applied already is passed over.
    pub fn apply(&mut self, record: &Record<'_>) {
        let Some(partition) = self.partitions.get_mut(&record.from) else {
            return;
        };
        if record.offset < partition.next {
            return;
        }
        partition.next = record.offset + 1;
        partition.moved = true;
        partition.stale = true;
        let silent = record.offset < partition.committed;
        let before = self.outputs.len();
        let (mut ignored, config) = (Counters::default(), &*self.config);
        let counters = if silent { &mut ignored } else { &mut self.counters };
        counters.records += 1;
        match &mut partition.state {
            State::Detect(state) => {
                let Some(source) = source(config, record.from.topic) else {
                    return;
                };
                let from = record.from;
                let mut cx = detect::Context {
                    config,
                    source,
                    from,
                    counters,
                    outputs: &mut self.outputs,
                };
                state.apply(&mut cx, record);
            }
            State::Correlate(state) => {
                let mut cx = correlate::Context {
                    config,
                    counters,
                    outputs: &mut self.outputs,
                };
                state.apply(&mut cx, record);
            }
        }
        if silent {
            self.outputs.truncate(before);
            self.counters.records_replayed += 1;
        }
        let new = self.outputs.iter().skip(before);
        self.output_bytes += new.map(|output| output.value.len()).sum::<usize>();
    }

    /// Goes on behind what can't be read. It leaves no trace in the state, so that a replay that meets it again, or finds it deleted,
    /// comes to the same; and it is told of once: what was committed in an earlier life was told of then.
    pub fn skip(&mut self, unreadable: &Unreadable) {
        let of = unreadable.of;
        let topic = if of.topic == TopicId::SIGNALS {
            Some(&self.config.signals_topic)
        } else {
            source(&self.config, of.topic).map(|s| &s.topic)
        };
        let (Some(partition), Some(topic)) = (self.partitions.get_mut(&of), topic) else {
            return;
        };
        if unreadable.to <= partition.next {
            return;
        }
        let untold = unreadable.from.max(partition.next).max(partition.committed);
        (partition.next, partition.moved, partition.stale) = (unreadable.to, true, true);
        if untold < unreadable.to {
            let upstream = Upstream {
                topic: topic.clone(),
                partition: of.partition,
            };
            self.counters.dead_letters += 1;
            self.counters.batches_skipped += 1;
            let offsets = untold..=unreadable.to - 1;
            self.outputs
                .push(Output::skipped(&upstream, of, &offsets, &unreadable.reason));
        }
    }

    /// Writes the clock into every signals partition that is owned.
    pub fn tick(&mut self, at: Timestamp) {
        let record = SignalRecord::Tick(Tick {
            at,
            every_ms: self.config.tick_every_ms,
        });
        let owned = self.partitions.keys().filter(|of| of.topic == TopicId::SIGNALS);
        for of in owned {
            let mut value = Vec::with_capacity(64);
            signals::encode(&record, &mut value);
            self.outputs.push(Output {
                from: *of,
                to: Destination::Signals(of.partition),
                key: Vec::new(),
                value,
                headers: Vec::new(),
            });
        }
    }

    /// Whether an epoch has grown so large that it should be committed before its time.
    #[must_use]
    pub fn epoch_is_full(&self) -> bool {
        let limits = &self.config.limits;
        self.outputs.len() >= limits.epoch_outputs
            || self.output_bytes >= limits.epoch_bytes
            || self.counters.records >= limits.epoch_records
    }

    /// The next epochs shall carry the state of each partition that moved, each at a moment that suits it: within
    /// some epochs.
    pub fn want_states(&mut self) {
        for partition in self.partitions.values_mut() {
            let closed_until = match &partition.state {
                State::Detect(state) => state.closed_until(),
                State::Correlate(_) => Timestamp::MIN,
            };
            partition.wanted.get_or_insert((closed_until, 0));
        }
    }

    /// All that happened since the last call, as one atomic unit, and what it counted. `with_states`: the state of every partition
    /// that moved is to be in it, here and now.
    #[must_use]
    pub fn take_epoch(&mut self, with_states: bool) -> (Epoch, Counters) {
        let mut epoch = Epoch {
            outputs: std::mem::take(&mut self.outputs),
            ..Epoch::default()
        };
        self.output_bytes = 0;
        for (of, partition) in &mut self.partitions {
            if std::mem::take(&mut partition.moved) && partition.next > partition.committed {
                epoch.reached.push((*of, partition.next));
            }
            // A state from the middle of a silent replay would be true but of no use: a newer one exists.
            let is_due = with_states || partition.is_freezing_due();
            if is_due && partition.stale && partition.next >= partition.committed {
                (partition.stale, partition.wanted) = (false, None);
                match partition.state.freeze() {
                    Ok(blocks) => epoch.states.push((
                        *of,
                        Frozen {
                            offset: partition.next,
                            blocks,
                        },
                    )),
                    Err(error) => tracing::error!(?of, %error, "no snapshot: the state can't be written"),
                }
            }
        }
        (epoch, std::mem::take(&mut self.counters))
    }

    /// Partitions owned.
    #[must_use]
    pub fn owned(&self) -> Vec<TopicPartition> {
        self.partitions.keys().copied().collect()
    }

    /// Whether every partition owned has been replayed up to what was committed.
    #[must_use]
    pub fn is_restored(&self) -> bool {
        self.partitions.values().all(|p| p.next >= p.committed)
    }

    /// Series and entities held over all partitions.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        self.partitions
            .values()
            .fold((0, 0), |(series, entities), p| match &p.state {
                State::Detect(d) => (series + d.held().0, entities),
                State::Correlate(c) => (series, entities + c.entities()),
            })
    }

    fn fresh(&self, of: TopicPartition) -> Result<State, RestoreError> {
        if of.topic == TopicId::SIGNALS {
            return Ok(State::Correlate(Box::default()));
        }
        let source = source(&self.config, of.topic).ok_or(RestoreError::UnknownTopic(of))?;
        Ok(State::Detect(Box::new(DetectPartition::new(source, of.partition))))
    }

    fn load(&self, of: TopicPartition, snapshot: Snapshot) -> Result<State, RestoreError> {
        if !reads(snapshot.version) {
            let found = snapshot.version;
            return Err(RestoreError::Version { of, found });
        }
        let damaged = |error| RestoreError::Damaged { of, error };
        if of.topic == TopicId::SIGNALS {
            return Ok(State::Correlate(Box::new(
                CorrelatePartition::load(snapshot).map_err(damaged)?,
            )));
        }
        let source = source(&self.config, of.topic).ok_or(RestoreError::UnknownTopic(of))?;
        Ok(State::Detect(Box::new(
            DetectPartition::load(source, self.config.windows.width_ms, snapshot).map_err(damaged)?,
        )))
    }
}

impl State {
    fn freeze(&mut self) -> Result<Vec<FrozenBlock>, postcard::Error> {
        match self {
            Self::Detect(d) => d.freeze(),
            Self::Correlate(c) => c.freeze(),
        }
    }
}

fn source(config: &EngineConfig, topic: TopicId) -> Option<&crate::config::SourceConfig> {
    config.sources.get(usize::from(topic.0).checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use foreshock_failure::{FailureConfig, Rules};
    use foreshock_wire::Format;

    use super::*;
    use crate::config::SourceConfig;

    const OF: TopicPartition = TopicPartition {
        topic: TopicId(1),
        partition: 0,
    };

    fn engine() -> Engine {
        let source = SourceConfig::new("in", Format::PlainJson, &["host"]);
        let rules = Rules::new(&FailureConfig::default()).unwrap();
        let mut engine = Engine::new(Arc::new(EngineConfig::new(vec![source], rules)));
        let assignment = Assignment {
            of: OF,
            snapshot: None,
            committed: 0,
            first: 0,
        };
        engine.assign(assignment).unwrap();
        engine
    }

    fn read(engine: &mut Engine, offset: i64, second: i64) {
        let payload = format!(r#"{{"timestamp":{},"name":"m","value":1}}"#, 1_700_000_000 + second);
        engine.apply(&Record {
            from: OF,
            offset,
            timestamp: None,
            key: None,
            payload: Some(payload.as_bytes()),
        });
    }

    #[test]
    fn a_state_is_frozen_when_windows_have_just_been_closed_or_after_a_while() {
        let mut engine = engine();
        read(&mut engine, 0, 0);
        engine.want_states();
        assert!(engine.take_epoch(false).0.states.is_empty());
        read(&mut engine, 1, 40);
        let (epoch, _) = engine.take_epoch(false);
        assert_eq!(
            epoch.states.iter().map(|(of, s)| (*of, s.offset)).collect::<Vec<_>>(),
            [(OF, 2)]
        );
        engine.want_states();
        read(&mut engine, 2, 40);
        let waited = (0..).find(|_| !engine.take_epoch(false).0.states.is_empty());
        assert_eq!(waited, Some(FREEZE_WAIT_EPOCHS as usize));
        assert!(engine.take_epoch(true).0.states.is_empty(), "nothing moved since");
    }

    fn header<'a>(output: &'a Output, name: &str) -> &'a str {
        let (_, value) = output.headers.iter().find(|(k, _)| k == name).unwrap();
        std::str::from_utf8(value).unwrap()
    }

    #[test]
    fn a_stretch_that_cant_be_read_is_told_of_once_and_leaves_no_trace_in_the_state() {
        let skip = |engine: &mut Engine, from, to| {
            engine.skip(&Unreadable {
                of: OF,
                from,
                to,
                reason: "no zstd".into(),
            });
        };
        let mut first = engine();
        read(&mut first, 0, 0);
        skip(&mut first, 2, 5);
        skip(&mut first, 2, 5);
        read(&mut first, 4, 9);
        read(&mut first, 5, 10);
        let (epoch, counters) = first.take_epoch(true);
        assert_eq!(
            (counters.dead_letters, counters.batches_skipped, counters.records),
            (1, 1, 2)
        );
        assert_eq!(epoch.reached, [(OF, 6)]);
        let mut letters = epoch.outputs.iter().filter(|o| o.to == Destination::DeadLetters);
        let letter = letters.next().unwrap();
        assert!(letters.next().is_none(), "once");
        let said = ["source_topic", "source_offset", "source_last_offset"].map(|name| header(letter, name));
        assert_eq!(said, ["in", "2", "4"]);
        let state = |mut epoch: Epoch| epoch.states.remove(0).1.encode().unwrap();
        let undisturbed = state(epoch);
        // After a restart it is met again, with and without what was committed reaching behind it.
        for (committed, told) in [(6, None), (5, None), (4, Some("4")), (0, Some("2"))] {
            let mut second = engine();
            let assignment = Assignment {
                of: OF,
                snapshot: None,
                committed,
                first: 0,
            };
            second.assign(assignment).unwrap();
            read(&mut second, 0, 0);
            skip(&mut second, 2, 5);
            read(&mut second, 5, 10);
            let (again, counters) = second.take_epoch(true);
            assert_eq!(counters.batches_skipped, u64::from(told.is_some()), "{committed}");
            let letter = again.outputs.iter().find(|o| o.to == Destination::DeadLetters);
            assert_eq!(letter.map(|o| header(o, "source_offset")), told, "{committed}");
            assert!(state(again) == undisturbed, "{committed}");
        }
    }

    #[test]
    fn a_state_of_another_version_is_refused_and_the_partition_can_be_assigned_again() {
        let mut first = engine();
        read(&mut first, 0, 0);
        let (_, frozen) = first.take_epoch(true).0.states.remove(0);
        let snapshot = frozen.encode().unwrap();
        let mut second = engine();
        second.revoke(&[OF]);
        for (version, blocks, is_read) in [
            (STATE_VERSION + 1, snapshot.blocks.len(), false),
            (1, snapshot.blocks.len(), false),
            // It is not what it says.
            (8, snapshot.blocks.len(), false),
            (STATE_VERSION, 1, false),
            (STATE_VERSION, snapshot.blocks.len(), true),
        ] {
            let mut changed = snapshot.clone();
            changed.version = version;
            changed.blocks.truncate(blocks);
            let assignment = Assignment {
                of: OF,
                snapshot: Some(changed),
                committed: 1,
                first: 0,
            };
            assert_eq!(second.assign(assignment).is_ok(), is_read, "{version}, {blocks} blocks");
            assert_eq!(second.owned().len(), usize::from(is_read));
        }
        assert_eq!(second.held().0, 1);
    }
}
