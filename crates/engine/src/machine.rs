use std::collections::BTreeMap;
use std::sync::Arc;

use foreshock_domain::{SignalRecord, Tick, Timestamp};
use foreshock_wire::signals;

use crate::config::EngineConfig;
use crate::correlate::{self, CorrelatePartition};
use crate::counters::Counters;
use crate::detect::{self, DetectPartition};
use crate::log::{Assignment, Epoch, Snapshot};
use crate::record::{Destination, Output, Record, TopicId, TopicPartition};

/// Raised whenever the bytes of a state change; a state of another version is not read.
const STATE_VERSION: u16 = 7;
/// First bytes of every state.
const STATE_MAGIC: [u8; 4] = *b"FSHK";

/// Why a snapshot could not be taken up. The partition then begins without a past, at the first record that is still there.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Not one of ours.
    #[error("the snapshot of {0:?} does not begin like one")]
    NotASnapshot(TopicPartition),
    /// Written by another version.
    #[error("the snapshot of {of:?} has version {found}, this program reads {STATE_VERSION}")]
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
        /// What the decoder says.
        error: postcard::Error,
    },
    /// A topic that is not configured.
    #[error("no source is configured for {0:?}")]
    UnknownTopic(TopicPartition),
}

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
    /// Moved since the last snapshot.
    stale: bool,
}

/// All partitions of one instance.
pub struct Engine {
    config: Arc<EngineConfig>,
    partitions: BTreeMap<TopicPartition, Partition>,
    outputs: Vec<Output>,
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
            counters: Counters::default(),
        }
    }

    /// What it was told.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Takes up a partition. What the log no longer has and no snapshot holds is counted, and the partition goes on behind it.
    ///
    /// # Errors
    /// When its snapshot can't be read: the partition is owned all the same, without a past, and its records must come from the
    /// first that is still there.
    pub fn assign(&mut self, assignment: &Assignment) -> Result<(), RestoreError> {
        let of = assignment.of;
        let loaded = match &assignment.snapshot {
            Some(snapshot) => self.load(of, &snapshot.state),
            None => self.fresh(of),
        };
        let (state, error) = match loaded {
            Ok(state) => (state, None),
            Err(error) => (self.fresh(of)?, Some(error)),
        };
        let usable = assignment.snapshot.as_ref().filter(|_| error.is_none());
        // Without a snapshot nobody knows what the state should hold, but what was never read is missing for certain.
        let needed = usable.map_or(assignment.committed, |s| s.offset);
        if needed > 0 {
            self.counters.records_gone += u64::try_from(assignment.first - needed).unwrap_or(0);
        }
        let next = usable.map_or(0, |s| s.offset).max(assignment.first);
        let stale = usable.is_none();
        self.partitions.insert(
            of,
            Partition {
                state,
                next,
                committed: assignment.committed,
                moved: false,
                stale,
            },
        );
        error.map_or(Ok(()), Err)
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
        self.outputs.len() >= limits.epoch_outputs || self.counters.records >= limits.epoch_records
    }

    /// All that happened since the last call, as one atomic unit, and what it counted.
    #[must_use]
    pub fn take_epoch(&mut self, with_snapshots: bool) -> (Epoch, Counters) {
        let mut epoch = Epoch {
            outputs: std::mem::take(&mut self.outputs),
            ..Epoch::default()
        };
        for (of, partition) in &mut self.partitions {
            if std::mem::take(&mut partition.moved) && partition.next > partition.committed {
                epoch.reached.push((*of, partition.next));
            }
            // A state from the middle of a silent replay would be true but of no use: a newer one exists.
            if with_snapshots && partition.stale && partition.next >= partition.committed {
                partition.stale = false;
                match save(&partition.state) {
                    Ok(state) => epoch.snapshots.push((
                        *of,
                        Snapshot {
                            offset: partition.next,
                            state,
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

    fn load(&self, of: TopicPartition, bytes: &[u8]) -> Result<State, RestoreError> {
        let body = bytes.strip_prefix(&STATE_MAGIC).ok_or(RestoreError::NotASnapshot(of))?;
        let Some((version, body)) = body.split_first_chunk::<2>() else {
            return Err(RestoreError::NotASnapshot(of));
        };
        let found = u16::from_le_bytes(*version);
        if found != STATE_VERSION {
            return Err(RestoreError::Version { of, found });
        }
        let damaged = |error| RestoreError::Damaged { of, error };
        if of.topic == TopicId::SIGNALS {
            return Ok(State::Correlate(Box::new(
                CorrelatePartition::load(body).map_err(damaged)?,
            )));
        }
        let source = source(&self.config, of.topic).ok_or(RestoreError::UnknownTopic(of))?;
        Ok(State::Detect(Box::new(
            DetectPartition::load(source, body).map_err(damaged)?,
        )))
    }
}

fn source(config: &EngineConfig, topic: TopicId) -> Option<&crate::config::SourceConfig> {
    config.sources.get(usize::from(topic.0).checked_sub(1)?)
}

fn save(state: &State) -> Result<Vec<u8>, postcard::Error> {
    let mut bytes = STATE_MAGIC.to_vec();
    bytes.extend_from_slice(&STATE_VERSION.to_le_bytes());
    bytes.extend(match state {
        State::Detect(d) => d.save()?,
        State::Correlate(c) => c.save()?,
    });
    Ok(bytes)
}
