//! The engine's log over Kafka brokers.
//!
//! [`KafkaLog`] is one member of a consumer group with one transactional producer. What an epoch writes (signals, events, dead
//! letters, snapshots) and how far it read commit in one transaction, so that a `read_committed` reader sees each epoch whole and
//! once. When partitions come, [`state`] finds each one's newest snapshot, and the log goes on from there; the engine replays
//! silently up to the offset that was committed.
//!
//! Everything that can't be told apart from a torn epoch (a failed commit, a lost assignment, a fenced producer) ends the log
//! with an error. Its owner then builds a new one, which reads back what was committed; nothing is patched in place.

// A test says what is wrong by panicking.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod admin;
mod embedded;
mod error;
mod log;
mod member;
mod pulse;
mod range;
mod reader;
mod sender;
mod settings;
mod state;

pub use admin::{BrokerView, TopicView, look, partitions};
pub use embedded::EmbeddedBroker;
pub use error::LogError;
pub use log::KafkaLog;
pub use member::Lag;
pub use pulse::Pulse;
pub use range::{Bound, PartitionRange, RangeError, RangeRecord, open_range};
pub use rdkafka::error::KafkaError;
pub use reader::{Received, TopicReader};
pub use sender::Sender;
pub use settings::{Cadence, ConnectionSettings, Delivery, LogSettings, Topics};
pub use state::newest as newest_snapshots;
