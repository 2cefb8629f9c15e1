//! What a hard failure is: the service no longer does its job, by a rule that somebody declared.
//!
//! Six kinds of rule: a heartbeat that is missed, a probe that fails several times in a row, a process that ends where nobody asked
//! for it, log lines that say so, an error budget that burns too fast, and incidents that somebody else declares. Never a bare threshold on a resource: that is at
//! most a symptom.
//!
//! Work is split as the topology is. In the first stage, where the series are, [`Rules`] says what to watch and condenses a
//! window of it into a [`foreshock_domain::Fact`]; in the second stage, where the entities are, a [`FailureTracker`] turns facts,
//! silence and declarations into [`Transition`]s of one failure at a time: open, update, resolve.
//!
//! Planned work, maintenance and deploys ([`Planned`]), is kept out of both: what is unusual in it is nobody's failure.
//!
//! Architecture invariant: no clock. Event time orders what happened; silence alone is measured on the observed clock that
//! the log carries, so that a backlog does not look like silence.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))] // a test that fails may say so

mod cause;
mod config;
mod course;
mod declared;
mod error;
mod exhaustion;
mod glob;
mod heartbeat;
mod lines;
mod openslo;
mod planned;
pub mod predict;
mod probe;
mod process;
mod rules;
mod selector;
mod slo;
mod tracker;
mod transition;
mod watch;

pub use config::{FailureConfig, HeartbeatRule, LogRule, ProbeRule, ProcessRule, SloRule};
pub use declared::TELEMETRY_LOST;
pub use error::RuleError;
pub use exhaustion::{Course, ExhaustionConfig, Resource};
pub use glob::Glob;
pub use lines::{FATAL_LINE, FATAL_PATTERNS_VERSION};
pub use openslo::{OpenSlo, OpenSloError, OpenSloFile};
pub use planned::{Noted, Planned, Span, is_pattern};
pub use probe::Down;
pub use process::{Growth, When};
pub use rules::Rules;
pub use selector::{Selector, SelectorError};
pub use tracker::FailureTracker;
pub use transition::{Standing, Transition};
pub use watch::{SeriesWatch, WatchRole, WatchWindow};
