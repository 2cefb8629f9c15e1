//! Bytes to domain and back: one module per format.
//!
//! Records of input topics go through a [`Decoder`], which is all or nothing: either every item of a record reaches the
//! caller or the record is refused with a [`DecodeError`] and belongs on the dead-letter topic. What leaves the program is
//! written by [`event`] and [`dead_letter`]; [`signals`] is the topic between the two stages.
//!
//! All input is hostile. Nothing here panics, recurses without bound or keeps more than one record's worth of memory;
//! the caps are in [`limits`].
//!
//! Architecture invariant: no I/O, no clock. A record without a time has no time here; the engine gives it the log's own.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))] // a test that fails may say so

pub mod dead_letter;
pub mod event;
pub mod ledger;
pub mod limits;
pub mod signals;
pub mod time;

mod cri;
mod decoder;
mod error;
mod fields;
mod format;
mod incident_json;
mod json;
mod labels;
mod level;
mod log_auto;
mod log_json;
mod log_text;
mod logfmt;
mod otlp_json;
mod otlp_proto;
mod outlet;
mod plain_json;
mod syslog;
mod telegraf_json;

pub use decoder::{Decoded, Decoder, Memory, Near, Origin};
pub use error::DecodeError;
pub use format::{Format, UnknownFormat};
pub use incident_json::{decode as parse_incident, encode as encode_incident};
pub use level::parse_level;
