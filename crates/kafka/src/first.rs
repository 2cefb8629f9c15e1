//! What a client says first when it reads from somewhere, with the place of what it can't read.
//!
//! The client library knows the first offset of a batch that it can't unpack, and its Rust binding leaves that out, so it is asked
//! here. With [`crate::rights_held`] the only unsafe code of the project.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_int};
use std::time::Duration;

use rdkafka::bindings as ffi;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// Nothing in that time.
    Nothing,
    /// A record, or the end of what can be read by now.
    Readable,
    /// A batch that can't be read. Wherever in it reading begins, brokers send all of it.
    Unreadable {
        /// Its first offset.
        batch: i64,
        /// Why.
        reason: String,
    },
    /// Another error, which may pass.
    Error(KafkaError),
}

/// Waits for what comes next. Only for a client that was told its partitions and is in no group: nobody would hear of a rebalance.
pub(crate) fn first<C: ConsumerContext>(consumer: &BaseConsumer<C>, wait: Duration) -> Came {
    let millis = c_int::try_from(wait.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: the client lives as long as `consumer`. The message is read only between the check that there is one and its end, and
    // ended once; texts are copied before, and the library ends each with a zero.
    unsafe {
        let message = ffi::rd_kafka_consumer_poll(consumer.client().native_ptr(), millis);
        let Some(found) = message.as_ref() else {
            return Came::Nothing;
        };
        let code = RDKafkaErrorCode::from(found.err);
        let came = match code {
            RDKafkaErrorCode::NoError | RDKafkaErrorCode::PartitionEOF => Came::Readable,
            RDKafkaErrorCode::BadCompression | RDKafkaErrorCode::BadMessage | RDKafkaErrorCode::NotImplemented => {
                let text = ffi::rd_kafka_message_errstr(message);
                let reason = if text.is_null() {
                    code.to_string()
                } else {
                    CStr::from_ptr(text).to_string_lossy().into_owned()
                };
                Came::Unreadable {
                    batch: found.offset,
                    reason,
                }
            }
            _ => Came::Error(KafkaError::MessageConsumption(code)),
        };
        ffi::rd_kafka_message_destroy(message);
        came
    }
}
