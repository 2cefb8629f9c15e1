//! Log lines to templates, and what is odd about how templates come.
//!
//! A **template** is what stays of a log line when its variables are taken out (Drain's word). [`Miner`] gives each line the
//! id of its template; [`TemplateBank`] holds, per entity, what is normal of each template and says when one is new, comes
//! more or less often than it used to, or stays away. A **session** is all lines with one block, request or trace id, which
//! [`OpenSessions`] gathers; [`SessionModel`] says which have lines that they should not have, or lack some.
//!
//! Architecture invariant: no I/O, no clock, no randomness, no threads. The id of a template is a hash of what it says, so two
//! instances that never met agree on it.

#![cfg_attr(test, allow(clippy::unwrap_used))] // a test that fails may say so

mod bank;
mod form;
mod line_values;
mod mask;
mod masks;
mod miner;
mod number;
mod occurrence;
mod open_sessions;
mod pattern;
mod recency;
mod rules;
mod session;
mod session_ids;
mod session_model;
mod session_ranks;
mod session_table;
mod sessions;
mod showing;
mod template;
mod tokens;
mod tombstones;
mod trace;
mod value_set;
mod value_tally;
mod value_trial;
mod words;

pub use bank::{GATE_SURPRISE, TEMPLATES_MAX, TemplateBank, TemplateCount, TemplatePast, TemplateVerdict};
pub use line_values::{LineValue, part_of, position_of};
pub use masks::{MASKS_MAX, MaskError, MaskPart, Masking, Masks};
pub use miner::{MinedLine, Miner};
pub use number::{Number, Unit};
pub use open_sessions::{OPEN_SESSIONS_MAX, OpenCount, OpenSession, OpenSessions, SESSION_EVENTS_MAX};
pub use rules::MiningRules;
pub use session::{SessionCount, SessionOddity, SessionVerdict};
pub use session_ids::{LINE_SESSIONS_MAX, SessionIds};
pub use session_model::{SESSIONS_MIN, SessionModel};
pub use sessions::Sessions;
pub use showing::{Showing, plain_text};
pub use template::TemplateId;
pub use trace::{LinePlace, TraceJoiner, shows_trace, telling_line};
pub use value_set::{SET_VALUES_MAX, ValueSet};
pub use value_tally::{ValueTally, value_hash};
pub use value_trial::{ValueKind, ValueTrial};
