//! Records on their way to the brokers.

use std::time::{Duration, Instant};

use foreshock_engine::{Destination, Output};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};

use super::{CALL_TIMEOUT, KafkaLog};
use crate::error::{LogError, fatal};
use crate::pulse::Wait;
use crate::state::StateRecord;

impl KafkaLog {
    pub(super) fn send_output(&self, output: &Output) -> Result<(), LogError> {
        let topics = &self.settings.topics;
        let (topic, partition) = match output.to {
            Destination::Signals(partition) => (&topics.signals, Some(partition)),
            Destination::Anomalies => (&topics.anomalies, None),
            Destination::Failures => (&topics.failures, None),
            Destination::Ledger => (&topics.ledger, None),
            Destination::DeadLetters => (&topics.dead_letters, None),
            // Nobody asks for them live: they are what a predictor is learned from.
            Destination::Moments => return Ok(()),
        };
        let headers = (!output.headers.is_empty()).then(|| {
            let empty = OwnedHeaders::new_with_capacity(output.headers.len());
            output.headers.iter().fold(empty, |all, (key, value)| {
                all.insert(Header {
                    key,
                    value: Some(value),
                })
            })
        });
        let key = (!output.key.is_empty()).then_some(&output.key[..]);
        self.send(topic, partition, key, Some(&output.value), headers)
    }

    /// Queues a record, and waits while the queue is full.
    fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: Option<OwnedHeaders>,
    ) -> Result<(), LogError> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        (record.partition, record.key, record.payload, record.headers) = (partition, key, payload, headers);
        let deadline = Instant::now() + CALL_TIMEOUT;
        let mut wait = Wait::new("room for records that are to be written");
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if Instant::now() < deadline =>
                {
                    (self.pulse)();
                    wait.look();
                    std::thread::sleep(Duration::from_millis(2));
                    record = back;
                }
                Err((error, _)) => {
                    let cause = self.producer.client().fatal_error().map(|(code, _)| code);
                    return Err(fatal("a record can't be written", error, cause));
                }
            }
        }
    }

    pub(super) fn send_state(&self, records: &[StateRecord]) -> Result<(), LogError> {
        for r in records {
            let topic = &self.settings.topics.state;
            self.send(topic, Some(r.home), Some(r.key.as_bytes()), r.value.as_deref(), None)?;
        }
        Ok(())
    }
}
