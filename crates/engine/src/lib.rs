//! The pure machine: record → signal → event.
//!
//! Two kinds of partition state live here. A [`detect`] partition holds the models of one partition of an input topic and
//! turns its records into signals; a [`correlate`] partition holds the entities of one partition of the signals topic and
//! turns signals into precursors and failures. [`Engine`] owns the partitions an instance has been assigned, and [`run`] is the
//! one loop that live operation, backtest and demo share: only the [`Log`] under it differs.
//!
//! Architecture invariants
//! - **A partition's state is a pure function of that partition's records, in order.** Replay, exactly-once and
//!   backtest = live rest on it. So there is no clock, no randomness, no thread and no I/O here, and no order of a hash map
//!   ever reaches an output.
//! - Outputs and offsets leave together, as one [`Epoch`], or not at all.
//! - Every table is capped, and what the caps refuse or evict is counted in [`Counters`].

// A test says what is wrong by panicking.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod config;
pub mod correlate;
mod counters;
pub mod detect;
mod id;
mod log;
mod machine;
mod memory;
mod record;
mod run;
mod slots;
pub mod state;

pub use config::{
    AlarmConfig, EngineConfig, Limits, LogConfig, Observe, SESSION_IDLE_MS, SessionConfig, SourceConfig, Windows,
};
pub use correlate::Moment;
pub use counters::Counters;
pub use log::{Assignment, Epoch, Log, Polled, Saved};
pub use machine::{Engine, RestoreError};
pub use memory::{Crash, MemoryLog, MemoryTopic, StoredRecord};
pub use record::{Destination, Output, Record, TopicId, TopicPartition, Unreadable};
pub use run::{EpochReport, run};
pub use state::{Frozen, STATE_VERSION, Snapshot};
