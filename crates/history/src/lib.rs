//! Dumps: reading them, scoring and replaying them.
//!
//! Everything streams: memory does not grow with the length of a dump. Errors of a dump say file, line and what was expected.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))] // a test that fails may say so

pub mod alert_rule;
pub mod backtest;
pub mod dump;
pub mod dump_error;
pub mod dump_log;
pub mod dump_parquet;
pub mod dump_shift;
pub mod dump_topic;
pub mod entity_bank;
pub mod inputs;
pub mod labels;
mod merged;
pub mod metric_csv;
mod metric_json;
pub mod metric_record;
pub mod open;
pub mod parquet_columns;
pub mod parquet_rows;
pub mod score;
pub mod templates;
pub mod train;
