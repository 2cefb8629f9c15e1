use std::time::{Duration, Instant};

use foreshock_domain::Timestamp;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use crate::settings::ConnectionSettings;

/// Writes records to topics in order, each once (an idempotent producer).
pub struct Sender {
    producer: ThreadedProducer<DefaultProducerContext>,
}

impl Sender {
    /// Connects lazily: wrong brokers show at the first [`Self::flush`].
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn new(connection: &ConnectionSettings) -> Result<Self, KafkaError> {
        let mut config = connection.client();
        config
            .set("enable.idempotence", "true")
            .set("linger.ms", "20")
            .set("compression.type", "lz4");
        Ok(Self {
            producer: config.create()?,
        })
    }

    /// Queues a record; waits while the queue is full. Records of one key keep their order.
    ///
    /// # Errors
    /// When the record can never be sent, or the queue stays full for a minute.
    pub fn send(&self, topic: &str, key: &[u8], payload: &[u8], at: Option<Timestamp>) -> Result<(), KafkaError> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let mut record = BaseRecord::to(topic).payload(payload);
            record.timestamp = at.map(Timestamp::as_millis);
            if !key.is_empty() {
                record = record.key(key);
            }
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// When it is not written in time.
    pub fn flush(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.producer.flush(timeout)
    }
}
