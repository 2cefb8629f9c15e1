use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foreshock_engine::{Assignment, TopicId, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, Statistics, TopicPartitionList};

use crate::settings::{LogSettings, Topics};
use crate::state;

/// A transaction that a killed member left behind hides the committed offsets until the brokers abort it.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(60);

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
}

impl Member {
    pub(crate) fn new(settings: LogSettings, lag: Lag) -> Self {
        Self {
            settings,
            events: Mutex::default(),
            lag,
        }
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
        let LogSettings {
            connection,
            group,
            topics,
            ..
        } = &self.settings;
        let snapshots = state::newest(connection, group, &topics.state, &wanted)?;
        let mut starts = TopicPartitionList::new();
        let mut assignments = Vec::new();
        for (element, snapshot) in elements.iter().zip(snapshots) {
            element.error()?;
            let Some(topic) = topic_id(&self.settings.topics, element.topic()) else {
                continue;
            };
            let committed = element.offset().to_raw().filter(|o| *o >= 0).unwrap_or(0);
            let start = snapshot
                .as_ref()
                .map_or(Offset::Beginning, |s| Offset::Offset(s.offset));
            starts.add_partition_offset(element.topic(), element.partition(), start)?;
            let of = TopicPartition {
                topic,
                partition: element.partition(),
            };
            tracing::info!(
                topic = element.topic(),
                partition = element.partition(),
                ?start,
                committed,
                "takes up a partition"
            );
            assignments.push(Assignment {
                of,
                snapshot,
                committed,
            });
        }
        Ok((starts, assignments))
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
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.restore(consumer, tpl).and_then(|(starts, assignments)| {
                    consumer.incremental_assign(&starts)?;
                    self.tell(Rebalanced::Came(assignments));
                    Ok(())
                })
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
                consumer.incremental_unassign(tpl)
            }
            error => Err(KafkaError::Rebalance(error.into())),
        };
        if let Err(error) = result {
            self.tell(Rebalanced::Failed(error));
        }
    }
}
