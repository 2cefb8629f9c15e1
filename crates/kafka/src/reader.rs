use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use crate::settings::ConnectionSettings;

/// A record as a reader of the events sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Key bytes.
    pub key: Vec<u8>,
    /// Value bytes.
    pub payload: Vec<u8>,
    /// Headers in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// What the client says of errors it mends by itself is of no interest outside a group.
pub(crate) struct Quiet;

impl rdkafka::ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client");
    }
}

impl rdkafka::consumer::ConsumerContext for Quiet {}

/// Reads whole topics from their beginning, committed records only, outside any group.
pub struct TopicReader {
    consumer: BaseConsumer<Quiet>,
}

impl TopicReader {
    /// Begins at the first record of every partition.
    ///
    /// # Errors
    /// When the brokers can't be reached or a topic is not there.
    pub fn new(connection: &ConnectionSettings, topics: &[&str]) -> Result<Self, KafkaError> {
        let mut config = connection.client();
        config
            .set("group.id", "foreshock-reader")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "50");
        let consumer: BaseConsumer<Quiet> = config.create_with_context(Quiet)?;
        let mut list = TopicPartitionList::new();
        for topic in topics {
            for partition in partitions_of(&consumer, topic)? {
                list.add_partition_offset(topic, partition, Offset::Beginning)?;
            }
        }
        consumer.assign(&list)?;
        Ok(Self { consumer })
    }

    /// The next record, if one comes in time. Errors of the connection are retried by the client and only logged.
    pub fn next(&self, timeout: Duration) -> Option<Received> {
        match self.consumer.poll(timeout)? {
            Ok(m) => Some(Received {
                topic: m.topic().into(),
                partition: m.partition(),
                offset: m.offset(),
                key: m.key().unwrap_or_default().to_vec(),
                payload: m.payload().unwrap_or_default().to_vec(),
                headers: m
                    .headers()
                    .map(|h| {
                        h.iter()
                            .map(|h| (h.key.into(), h.value.unwrap_or_default().to_vec()))
                            .collect()
                    })
                    .unwrap_or_default(),
            }),
            Err(error) => {
                tracing::debug!(%error, "reading goes on after an error");
                None
            }
        }
    }
}

/// Partitions of a topic.
pub(crate) fn partitions_of<C: rdkafka::consumer::ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
) -> Result<Vec<i32>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(15))?;
    let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else {
        return Err(KafkaError::MetadataFetch(
            rdkafka::types::RDKafkaErrorCode::UnknownTopic,
        ));
    };
    if let Some(error) = found.error() {
        return Err(KafkaError::MetadataFetch(error.into()));
    }
    Ok(found
        .partitions()
        .iter()
        .map(rdkafka::metadata::MetadataPartition::id)
        .collect())
}
