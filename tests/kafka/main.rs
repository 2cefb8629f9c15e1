//! Tests against Apache Kafka: what librdkafka's mock broker cannot prove, above all exactly-once.
//!
//! They need a broker: see `broker.rs`.

// A test says what is wrong by panicking, and prints for whoever runs it.
#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod acls;
mod broker;
mod deployment;
mod harness;
mod pipeline;
mod process;
mod range;
mod secure;
mod secured;
mod stop;
mod topics;
