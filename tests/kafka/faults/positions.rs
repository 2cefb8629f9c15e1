//! Where a group stands, and where topics end, asked from outside the group.

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::broker::Broker;

const ASK_MAX: Duration = Duration::from_secs(2);

/// Partitions of some topics, in a fixed order.
pub struct Positions {
    consumer: BaseConsumer,
    of: Vec<(String, i32)>,
}

impl Positions {
    /// # Panics
    /// Where a topic is not seen within a minute.
    pub fn new(broker: &Broker, group: &str, topics: &[String]) -> Self {
        let mut config = broker.client();
        config.set("group.id", group).set("enable.auto.commit", "false");
        // Offsets of an open transaction are not waited for: what is committed counts.
        config.set("isolation.level", "read_uncommitted");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut of = Vec::new();
        for topic in topics {
            let metadata = consumer
                .fetch_metadata(Some(topic), Duration::from_secs(60))
                .expect("metadata");
            let mut partitions: Vec<i32> = metadata.topics()[0].partitions().iter().map(|p| p.id()).collect();
            partitions.sort_unstable();
            of.extend(partitions.into_iter().map(|p| (topic.clone(), p)));
        }
        Self { consumer, of }
    }

    /// Topic and number of each.
    pub fn partitions(&self) -> &[(String, i32)] {
        &self.of
    }

    /// The next record of each partition as the group has committed it, 0 where it has not; `None` where brokers do not say.
    pub fn committed(&self) -> Option<Vec<i64>> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in &self.of {
            list.add_partition(topic, *partition);
        }
        let found = self.consumer.committed_offsets(list, ASK_MAX).ok()?;
        let offset = |(topic, partition): &(String, i32)| {
            let element = found.find_partition(topic, *partition)?;
            element.error().ok()?;
            Some(element.offset().to_raw().unwrap_or(0).max(0))
        };
        self.of.iter().map(offset).collect()
    }

    /// The end of each partition; `None` where brokers do not say.
    pub fn ends(&self) -> Option<Vec<i64>> {
        let end = |(topic, partition): &(String, i32)| {
            let (_, high) = self.consumer.fetch_watermarks(topic, *partition, ASK_MAX).ok()?;
            Some(high)
        };
        self.of.iter().map(end).collect()
    }
}
