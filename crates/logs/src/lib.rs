//! Log lines to templates, and what is odd about how templates come.
//!
//! A **template** is what stays of a log line when its variables are taken out (Drain's word). [`Miner`] gives each line the
//! id of its template; [`TemplateBank`] holds, per entity, what is normal of each template and says when one is new, comes
//! more or less often than it used to, or stays away.
//!
//! Architecture invariant: no I/O, no clock, no randomness, no threads. The id of a template is a hash of what it says, so two
//! instances that never met agree on it.

mod bank;
mod form;
mod mask;
mod miner;
mod occurrence;
mod recency;
mod rules;
mod template;
mod tokens;
mod tombstones;
mod trace;

pub use bank::{GATE_SURPRISE, TEMPLATES_MAX, TemplateBank, TemplateCount, TemplateVerdict};
pub use miner::{MinedLine, Miner};
pub use rules::MiningRules;
pub use template::TemplateId;
pub use trace::{LinePlace, TraceJoiner, telling_line};
