//! The engine's log over Kafka brokers.
//!
//! [`KafkaLog`] is one member of a consumer group with one transactional producer. What an epoch writes (signals, events, dead
//! letters) and how far it read commit in one transaction, so that a `read_committed` reader sees each epoch whole and once. States
//! are stored with the epochs, a part with each. When partitions come, [`state`] finds each one's newest whole snapshot, and the
//! log goes on from there; the engine replays silently up to the offset that was committed.
//!
//! Everything that can't be told apart from a torn epoch (a failed commit, a lost assignment, a fenced producer) ends the log
//! with an error. Its owner then builds a new one, which reads back what was committed; nothing is patched in place.

// A test says what is wrong by panicking.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod admin;
mod clients;
mod contact;
mod embedded;
mod error;
mod farewell;
mod first;
mod log;
mod member;
mod orphans;
mod pulse;
mod range;
mod reader;
mod rights;
mod rights_held;
mod sender;
mod settings;
mod standstill;
mod state;
mod tally;

pub use admin::{BrokerView, TopicView, look, partitions};
pub use contact::{Cause, Unreached};
pub use embedded::EmbeddedBroker;
pub use error::LogError;
pub use log::KafkaLog;
pub use pulse::Pulse;
pub use range::{Bound, PartitionRange, RangeError, RangeRecord, open_range};
pub use rdkafka::error::KafkaError;
pub use reader::{Received, TopicReader};
pub use rights::{Operation, Resource, Rights, needed as needed_rights};
pub use rights_held::missing as missing_rights;
pub use sender::Sender;
pub use settings::{Cadence, ConnectionSettings, Delivery, LogSettings, Topics};
pub use state::{Found, STATE_RECORD_BYTES, StateError, newest as newest_snapshots};
pub use tally::{Lag, Tally};
