use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use foreshock_engine::{Assignment, Snapshot, TopicId, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};

use crate::pulse::{Pulse, during};
use crate::settings::{LogSettings, Topics};
use crate::state;

/// A transaction that a killed member left behind hides the committed offsets until the brokers abort it.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(60);
/// For where a partition begins and ends: its leader may be elected just now, and then not know the end yet.
const ENDS_TIMEOUT: Duration = Duration::from_secs(15);

/// Records behind, by input topic; shared with whoever shows it.
pub type Lag = Arc<Mutex<BTreeMap<String, i64>>>;

/// What a rebalance did.
pub(crate) enum Rebalanced {
    Came(Vec<Assignment>),
    Went(Vec<TopicPartition>),
    Failed(KafkaError),
}

/// This member's side of the group protocol: finds the state of what comes before a single record of it is read.
pub(crate) struct Member {
    settings: LogSettings,
    events: Mutex<VecDeque<Rebalanced>>,
    lag: Lag,
    pulse: Pulse,
    /// Partitions that still come are not restored any more.
    leaves: AtomicBool,
}

impl Member {
    pub(crate) fn new(settings: LogSettings, lag: Lag, pulse: Pulse) -> Self {
        Self {
            settings,
            events: Mutex::default(),
            lag,
            pulse,
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

    pub(crate) fn has_event(&self) -> bool {
        !self.events.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn tell(&self, event: Rebalanced) {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(event);
    }

    /// Finds where each partition begins: its snapshot's offset, or its first record.
    fn restore(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &TopicPartitionList,
    ) -> Result<(TopicPartitionList, Vec<Assignment>), KafkaError> {
        let committed = consumer.committed_offsets(list.clone(), COMMITTED_TIMEOUT)?;
        let elements = committed.elements();
        let wanted: Vec<(String, i32)> = elements.iter().map(|e| (e.topic().to_owned(), e.partition())).collect();
        let snapshots = state::newest(&self.settings.connection, &self.settings.topics.state, &wanted)?;
        let mut starts = TopicPartitionList::new();
        let mut assignments = Vec::new();
        for (element, snapshot) in elements.iter().zip(snapshots) {
            element.error()?;
            let Some(topic) = topic_id(&self.settings.topics, element.topic()) else {
                continue;
            };
            let committed = element.offset().to_raw().unwrap_or(0).max(0);
            let ends = ends(consumer, element.topic(), element.partition(), committed)?;
            let place = Place::find(snapshot, committed, ends);
            place.tell(element.topic(), element.partition(), committed, ends);
            let start = Offset::Offset(place.start);
            starts.add_partition_offset(element.topic(), element.partition(), start)?;
            let of = TopicPartition {
                topic,
                partition: element.partition(),
            };
            assignments.push(Assignment {
                of,
                snapshot: place.snapshot,
                committed: place.committed,
                first: ends.0,
            });
        }
        Ok((starts, assignments))
    }
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

/// Where a partition is taken up.
#[derive(Debug, PartialEq)]
struct Place {
    snapshot: Option<Snapshot>,
    committed: i64,
    start: i64,
}

impl Place {
    /// What was stored of a partition, held against what the brokers still have of it.
    fn find(snapshot: Option<Snapshot>, committed: i64, (first, end): (i64, i64)) -> Self {
        // An end before what was committed: this is not the topic that was read, or it lost its end.
        let snapshot = snapshot.filter(|s| s.offset <= end);
        let committed = match (committed > end, &snapshot) {
            (false, _) => committed,
            (true, Some(_)) => end,
            (true, None) => 0,
        };
        let start = snapshot.as_ref().map_or(0, |s| s.offset).max(first);
        Self {
            snapshot,
            committed,
            start,
        }
    }

    /// Says where it begins, and what is missing.
    fn tell(&self, topic: &str, partition: i32, committed: i64, (first, end): (i64, i64)) {
        let snapshot = self.snapshot.as_ref().map(|s| s.offset);
        let start = self.start;
        tracing::info!(topic, partition, start, committed, "takes up a partition");
        if committed > end {
            tracing::error!(
                topic,
                partition,
                committed,
                end,
                go_on_from = self.committed,
                "the topic ends before what was committed: it was deleted and created anew, or lost its end in an unclean \
                 election; what it holds now is read as new"
            );
        } else if first > committed && committed > 0 {
            tracing::error!(
                topic,
                partition,
                unread = first - committed,
                committed,
                first,
                "retention deleted records before they were read; goes on from the first that is there. Keep records for \
                 longer than this service may be down or behind"
            );
        } else if snapshot.is_some_and(|offset| first > offset) {
            tracing::warn!(
                topic,
                partition,
                snapshot,
                first,
                "retention deleted records that were to be replayed, and the state misses them. Keep records well above a minute"
            );
        }
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

impl ClientContext for Member {
    fn stats(&self, statistics: Statistics) {
        let mut lag = self.lag.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, topic) in &statistics.topics {
            let behind = topic
                .partitions
                .values()
                .map(|p| p.consumer_lag)
                .filter(|l| *l >= 0)
                .sum();
            lag.insert(name.clone(), behind);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka client");
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, tpl: &mut TopicPartitionList) {
        let result = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS if self.leaves.load(Ordering::Relaxed) => {
                consumer.incremental_assign(tpl)
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => during(&self.pulse, || self.restore(consumer, tpl))
                .and_then(|(starts, assignments)| {
                    consumer.incremental_assign(&starts)?;
                    self.tell(Rebalanced::Came(assignments));
                    Ok(())
                }),
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
                consumer.incremental_unassign(tpl)
            }
            error => Err(KafkaError::Rebalance(error.into())),
        };
        if let Err(error) = result {
            self.tell(Rebalanced::Failed(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_taken_up_where_the_brokers_still_have_it() {
        let snapshot = |offset| {
            Some(Snapshot {
                offset,
                state: Vec::new(),
            })
        };
        // Name, snapshot, committed, first and end; snapshot that is kept, committed, start.
        type Case<'a> = (&'a str, Option<i64>, i64, (i64, i64), Option<i64>, i64, i64);
        let cases: [Case<'_>; 9] = [
            ("new group", None, 0, (0, 10), None, 0, 0),
            ("new group on an old topic", None, 0, (5, 10), None, 0, 5),
            ("as it was left", Some(7), 9, (0, 10), Some(7), 9, 7),
            ("before the first snapshot", None, 9, (0, 10), None, 9, 0),
            ("replay gone in part", Some(3), 9, (5, 10), Some(3), 9, 5),
            ("unread records gone", Some(3), 4, (6, 10), Some(3), 4, 6),
            ("all gone", Some(3), 4, (10, 10), Some(3), 4, 10),
            ("end lost", Some(7), 9, (0, 8), Some(7), 8, 7),
            ("another topic", Some(7), 9, (0, 5), None, 0, 0),
        ];
        for (name, had, committed, ends, kept, goes_on, start) in cases {
            let expected = Place {
                snapshot: kept.and_then(snapshot),
                committed: goes_on,
                start,
            };
            assert_eq!(Place::find(had.and_then(snapshot), committed, ends), expected, "{name}");
        }
    }
}
