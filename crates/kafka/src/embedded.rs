use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

/// A broker inside this process that speaks the Kafka protocol, for the demo: nothing has to be installed.
///
/// It is librdkafka's own. It keeps a few megabytes per partition and does not isolate transactions, so it shows the way of a
/// record and proves nothing about exactly-once; Apache Kafka does that in the tests.
pub struct EmbeddedBroker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl EmbeddedBroker {
    /// Starts it with these topics and their numbers of partitions.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, KafkaError> {
        let cluster = MockCluster::new(1)?;
        for (name, partitions) in topics {
            cluster.create_topic(name, *partitions, 1)?;
        }
        Ok(Self { cluster })
    }

    /// Where it listens.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }
}
