use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use foreshock_domain::Timestamp;
use foreshock_engine::{Assignment, Record, STATE_VERSION, Snapshot, TopicId, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};

use crate::error::is_unreadable;
use crate::pulse::{Pulse, during};
use crate::reader::partitions_of;
use crate::settings::{LogSettings, Topics};
use crate::standstill::Fetched;
use crate::state::{Kept, Restored, StateError, restore};
use crate::tally::Lag;

/// A transaction that a killed member left behind hides the committed offsets until the brokers abort it.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(60);
/// For where a partition begins and ends: its leader may be elected just now, and then not know the end yet.
const ENDS_TIMEOUT: Duration = Duration::from_secs(15);

/// What a rebalance did.
pub(crate) enum Rebalanced {
    Came(Vec<(Assignment, Kept)>),
    Went(Vec<TopicPartition>),
    Failed(StateError),
}

/// This member's side of the group protocol: finds the state of what comes before a single record of it is read.
pub(crate) struct Member {
    settings: LogSettings,
    events: Mutex<VecDeque<Rebalanced>>,
    lag: Lag,
    /// How far partitions are fetched, from the last time that the client told.
    fetched: Mutex<Option<BTreeMap<TopicPartition, Fetched>>>,
    hooks: Hooks,
    /// Partitions that still come are not restored any more.
    leaves: AtomicBool,
}

/// What restoring asks of the rest.
pub(crate) struct Hooks {
    /// Called while it goes on.
    pub(crate) pulse: Pulse,
    /// Called before it begins: commits what was sent ahead.
    pub(crate) settle: Box<dyn Fn() -> Result<(), KafkaError> + Send + Sync>,
}

impl Member {
    pub(crate) fn new(settings: LogSettings, lag: Lag, hooks: Hooks) -> Self {
        Self {
            hooks,
            settings,
            events: Mutex::default(),
            lag,
            fetched: Mutex::default(),
            leaves: AtomicBool::new(false),
        }
    }

    /// The log is over: what the group still says is obeyed, and leads to nothing.
    pub(crate) fn leave(&self) {
        self.leaves.store(true, Ordering::Relaxed);
    }

    pub(crate) fn next_event(&self) -> Option<Rebalanced> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// How far partitions are fetched, if that was told since the last call.
    pub(crate) fn fetched(&self) -> Option<BTreeMap<TopicPartition, Fetched>> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn has_event(&self) -> bool {
        !self.events.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn tell(&self, event: Rebalanced) {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(event);
    }

    /// Finds where each partition begins: its snapshot's offset, or its first record. States of the offset `below` or later are
    /// left aside.
    fn restore(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &TopicPartitionList,
        below: Option<i64>,
    ) -> Result<(TopicPartitionList, Vec<(Assignment, Kept)>), StateError> {
        let topics = &self.settings.topics;
        (self.hooks.settle)()?;
        let committed = consumer.committed_offsets(list.clone(), COMMITTED_TIMEOUT)?;
        let elements = committed.elements();
        let wanted: Vec<(String, i32)> = elements.iter().map(|e| (e.topic().to_owned(), e.partition())).collect();
        let found = restore(
            (&self.settings.connection, &self.settings.group),
            &topics.state,
            &wanted,
            below,
            &*self.hooks.pulse,
        )?;
        let count = |topic: &str| -> Result<u32, KafkaError> {
            Ok(u32::try_from(partitions_of(consumer, topic)?.len()).unwrap_or(u32::MAX))
        };
        let mut counts: BTreeMap<&str, u32> = BTreeMap::from([(&*topics.signals, count(&topics.signals)?)]);
        let mut starts = TopicPartitionList::new();
        let mut came = Vec::new();
        for (element, restored) in elements.iter().zip(found) {
            element.error()?;
            let (name, partition) = (element.topic(), element.partition());
            let Some(topic) = topic_id(topics, name) else {
                continue;
            };
            if !counts.contains_key(name) {
                counts.insert(name, count(name)?);
            }
            let now = (counts[name], counts[&*topics.signals]);
            for complaint in &restored.complaints {
                tracing::warn!(topic = name, partition, complaint, "state");
            }
            let version = restored.snapshot.as_ref().map_or(STATE_VERSION, |s| s.version);
            if version != STATE_VERSION {
                tracing::info!(
                    topic = name,
                    partition,
                    "state is migrated from version {version} to {STATE_VERSION}"
                );
            }
            if let Some(then) = restored.partitions {
                regrown(name, now, then, topic == TopicId::SIGNALS);
            }
            let committed = element.offset().to_raw().filter(|o| *o >= 0);
            let marks = ends(consumer, name, partition, committed.unwrap_or(0));
            if let Err(error) = &marks {
                tracing::warn!(%error, topic = name, partition, "it can't be seen whether the log reaches back to the state");
            }
            let begin = begin(restored, committed, marks.ok(), name, partition);
            let start = begin
                .snapshot
                .as_ref()
                .map_or(Offset::Beginning, |s| Offset::Offset(s.offset.max(begin.first)));
            starts.add_partition_offset(name, partition, start)?;
            let of = TopicPartition { topic, partition };
            let committed = begin.committed;
            tracing::info!(topic = name, partition, ?start, committed, "takes up a partition");
            let mut kept = begin.kept;
            kept.counted(now);
            let assignment = Assignment {
                of,
                snapshot: begin.snapshot,
                committed,
                first: begin.first,
            };
            came.push((assignment, kept));
        }
        Ok((starts, came))
    }

    /// As at a rebalance, for one partition whose newer states can't be read.
    pub(crate) fn take_up(
        &self,
        consumer: &BaseConsumer<Self>,
        topic: &str,
        of: TopicPartition,
        below: Option<i64>,
    ) -> Result<(Offset, Assignment, Kept), StateError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, of.partition);
        let (starts, came) = self.restore(consumer, &list, below)?;
        let start = starts.elements().first().map_or(Offset::Beginning, |e| e.offset());
        let (assignment, kept) = came.into_iter().next().ok_or(KafkaError::Canceled)?;
        Ok((start, assignment, kept))
    }
}

/// From where a partition goes on.
#[derive(Debug)]
struct Begin {
    snapshot: Option<Snapshot>,
    committed: i64,
    /// The first record that is still there, where that is known.
    first: i64,
    kept: Kept,
}

/// Puts together what the state topic, the group and the partition itself say, and says what does not fit.
fn begin(restored: Restored, committed: Option<i64>, marks: Option<(i64, i64)>, topic: &str, partition: i32) -> Begin {
    let Restored { mut snapshot, kept, .. } = restored;
    let (low, high) = marks.unwrap_or((0, i64::MAX));
    let mut committed = committed;
    if let Some(read) = committed.filter(|c| *c > high) {
        tracing::error!(
            topic,
            partition,
            read,
            end = high,
            "the log ends before what was read of it: it was deleted and made anew, or lost its end in an unclean election; what it \
             holds now is read as new"
        );
        // A state that the log still reaches is true; what follows it is new.
        let reached = snapshot.as_ref().is_some_and(|s| s.offset <= high);
        committed = reached.then_some(high);
    }
    // Without a committed offset (they expire) the state is still true, and what follows it is written again, under the same ids.
    if let Some(offset) = snapshot
        .as_ref()
        .map(|s| s.offset)
        .filter(|o| *o > committed.unwrap_or(high))
    {
        tracing::error!(
            topic,
            partition,
            offset,
            committed,
            end = high,
            "the state is of a later offset than is to be read next, as after a reset, and is left aside"
        );
        snapshot = None;
    }
    let start = snapshot.as_ref().map_or(0, |s| s.offset);
    let committed = committed.unwrap_or(0);
    if low > committed && committed > 0 {
        tracing::error!(
            topic,
            partition,
            unread = low - committed,
            committed,
            first = low,
            "retention deleted records before they were read; goes on from the first that is there. Keep records for longer than this \
             service may be down or behind"
        );
    } else if start < low && (snapshot.is_some() || committed > 0) {
        tracing::error!(
            topic,
            partition,
            lost = low - start,
            "records that the state needs are gone: it is built from what is left. Raise retention.ms (`foreshock check` says how far)"
        );
    } else if snapshot.is_none() && committed > 0 {
        tracing::warn!(
            topic,
            partition,
            records = committed - low,
            "the state is rebuilt from the first record on"
        );
    }
    Begin {
        snapshot,
        committed,
        first: low,
        kept,
    }
}

/// Says what follows when a topic has another number of partitions than when a state was written.
fn regrown(topic: &str, (now, signals_now): (u32, u32), (then, signals_then): (u32, u32), is_signals: bool) -> bool {
    if now != then && !is_signals {
        tracing::warn!(
            topic,
            now,
            then,
            "the topic has another number of partitions than when its state was written: series whose key moved are learned anew"
        );
    }
    if signals_now != signals_then {
        tracing::warn!(
            topic,
            now = signals_now,
            then = signals_then,
            "the signals topic has another number of partitions than when this state was written: entities that moved are learned \
             anew, and what is open of them is resolved as silent. Restart all instances, so that all spread entities alike"
        );
    }
    now != then || signals_now != signals_then
}

/// The first offset of a partition, and the one after its last.
fn ends(
    consumer: &BaseConsumer<Member>,
    topic: &str,
    partition: i32,
    committed: i64,
) -> Result<(i64, i64), KafkaError> {
    let until = Instant::now() + ENDS_TIMEOUT;
    loop {
        let answer = consumer.fetch_watermarks(topic, partition, ENDS_TIMEOUT);
        if Instant::now() > until || answer.as_ref().is_ok_and(|(_, end)| committed <= *end) {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// What the group gave can't be taken up, so the log is over. The group must have its answer all the same: a client that owes one, and
/// whose name the brokers have given to another, never ends.
fn answer_with_nothing(consumer: &BaseConsumer<Member>) {
    if let Err(error) = consumer.incremental_assign(&TopicPartitionList::new()) {
        tracing::warn!(%error, "the group has no answer");
    }
}

/// The engine's id of a topic.
pub(crate) fn topic_id(topics: &Topics, name: &str) -> Option<TopicId> {
    if name == topics.signals {
        return Some(TopicId::SIGNALS);
    }
    let place = topics.inputs.iter().position(|t| t == name)?;
    u16::try_from(place + 1).ok().map(TopicId)
}

/// A record of one of these topics, as the engine takes it.
pub(crate) fn record_of<'a, M: Message>(topics: &Topics, message: &'a M) -> Option<Record<'a>> {
    let topic = topic_id(topics, message.topic())?;
    Some(Record {
        from: TopicPartition {
            topic,
            partition: message.partition(),
        },
        offset: message.offset(),
        timestamp: message.timestamp().to_millis().map(Timestamp::from_millis),
        key: message.key(),
        payload: message.payload(),
    })
}

impl ClientContext for Member {
    fn stats(&self, statistics: Statistics) {
        let mut lag = self.lag.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fetched = BTreeMap::new();
        for (name, topic) in &statistics.topics {
            let partitions = &topic.partitions;
            let behind = partitions.values().map(|p| p.consumer_lag).filter(|l| *l >= 0).sum();
            lag.insert(name.clone(), behind);
            let Some(topic) = topic_id(&self.settings.topics, name) else {
                continue;
            };
            fetched.extend(partitions.values().map(|p| {
                let partition = p.partition;
                let (next, stable) = (p.next_offset, p.ls_offset);
                (TopicPartition { topic, partition }, Fetched { next, stable })
            }));
        }
        *self.fetched.lock().unwrap_or_else(PoisonError::into_inner) = Some(fetched);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if is_unreadable(&error) {
            tracing::debug!(%error, reason, "kafka client");
        } else {
            tracing::warn!(%error, reason, "kafka client");
        }
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, tpl: &mut TopicPartitionList) {
        // Taking partitions up may take long: without this nobody could tell that from never being given any.
        tracing::info!(?err, partitions = tpl.count(), "the group gives or takes partitions");
        let result = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS if self.leaves.load(Ordering::Relaxed) => {
                consumer.incremental_assign(tpl).map_err(StateError::from)
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let what = "what is committed and stored of partitions that come";
                let took = during(&self.hooks.pulse, what, || self.restore(consumer, tpl, None));
                let took = took.and_then(|(starts, came)| {
                    consumer.incremental_assign(&starts)?;
                    self.tell(Rebalanced::Came(came));
                    Ok(())
                });
                took.inspect_err(|_| answer_with_nothing(consumer))
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                let elements = tpl.elements();
                let went = elements.iter().filter_map(|e| {
                    let topic = topic_id(&self.settings.topics, e.topic())?;
                    Some(TopicPartition {
                        topic,
                        partition: e.partition(),
                    })
                });
                self.tell(Rebalanced::Went(went.collect()));
                consumer.incremental_unassign(tpl).map_err(StateError::from)
            }
            error => Err(KafkaError::Rebalance(error.into()).into()),
        };
        if let Err(error) = result {
            self.tell(Rebalanced::Failed(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restored(offset: Option<i64>) -> Restored {
        Restored {
            snapshot: offset.map(|offset| Snapshot {
                offset,
                version: 1,
                blocks: Vec::new(),
            }),
            complaints: Vec::new(),
            partitions: None,
            kept: Kept::default(),
        }
    }

    #[test]
    fn a_partition_begins_where_state_offsets_and_log_agree() {
        let cases = [
            ("nothing is known", None, None, (0, 100), (None, 0)),
            ("a state and what follows", Some(50), Some(70), (0, 100), (Some(50), 70)),
            ("offsets expired", Some(50), None, (0, 100), (Some(50), 0)),
            ("no state: rebuilt silently", None, Some(70), (0, 100), (None, 70)),
            ("set back by hand", Some(50), Some(20), (0, 100), (None, 20)),
            ("a topic made anew", Some(50), Some(70), (0, 10), (None, 0)),
            ("the end of the log was lost", Some(7), Some(9), (0, 8), (Some(7), 8)),
            ("retention took some", Some(50), Some(70), (60, 100), (Some(50), 70)),
        ];
        for (name, snapshot, committed, marks, expected) in cases {
            let begin = begin(restored(snapshot), committed, Some(marks), "t", 0);
            assert_eq!((begin.snapshot.map(|s| s.offset), begin.committed), expected, "{name}");
        }
    }

    #[test]
    fn another_number_of_partitions_is_told() {
        assert!(!regrown("t", (6, 3), (6, 3), false));
        assert!(regrown("t", (8, 3), (6, 3), false), "the input has grown");
        assert!(regrown("t", (6, 4), (6, 3), false), "the signals topic has grown");
        assert!(regrown("signals", (4, 4), (3, 3), true));
    }
}
