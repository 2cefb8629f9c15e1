//! Tests against Apache Kafka: what librdkafka's mock broker cannot prove, above all exactly-once.
//!
//! They need a broker: see `broker.rs`.

// A test says what is wrong by panicking, and prints for whoever runs it.
#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod acls;
mod bounds;
mod broker;
mod cluster;
mod comeback;
mod deployment;
mod faults;
mod fleet;
mod full_disk;
mod harness;
mod orphans;
mod pipeline;
mod process;
mod proxy;
mod range;
mod secure;
mod secured;
mod stop;
mod topics;
mod unreadable;
mod upgrade;
mod volume;
