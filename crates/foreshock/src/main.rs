//! Foreshock beside a Kafka pipeline: learns metrics and logs online, and tells precursors from failures.
//!
//! This binary is the top floor: it reads the command line and the configuration, owns threads, clock and sockets, and hands
//! everything else to the crates below.
//!
//! Architecture invariant: no algorithm lives here, and nothing below depends on this crate.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))] // a test that fails may say so

mod cli;
mod commands;
mod config;
mod error;
mod http;
mod interrupt;
mod logging;
mod memory;
mod model;
mod screen;
mod service;
mod vitals;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(refused) => {
            // Help and version are printed by the same way as mistakes; a closed terminal is no reason to fail either.
            let _ = refused.print();
            return if refused.use_stderr() {
                error::Exit::Usage.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    logging::start(cli.log_format, cli.verbose, cli.command.is_service());
    match commands::execute(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
