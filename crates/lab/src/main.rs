//! The failure lab: a service that really fails under a real limit, the load on it, and a recorder beside it.
//!
//! No public data set has metrics **and** logs **and** failure times with minutes of warning, so this program makes one.
//! `serve` is a small web shop whose session cache leaks when told to, `load` is its customers, and `record` starts three
//! shops under a limit of address space, watches them from outside as a monitoring agent would, and writes what it saw.
//! `store` is a larger shop, with a database, a payment provider, a queue and a volume, that can be told to have one of nine
//! faults while it runs; `fleet` runs many of them with their customers and lets most fail again and again.
//! What they record lies in `data/`; nothing else in the project depends on this binary.
//!
//! Linux only: the recorders read `/proc`, and `fleet` mounts volumes and so needs root.

mod fault;
mod fleet;
mod http;
mod load;
mod random;
mod record;
mod shop;
mod store;

use std::io::{Read, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "foreshock-lab", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A small web shop with a session cache that can leak; logs JSON lines to standard output
    Serve(shop::Options),
    /// Customers of one shop: a request rate with waves, noise and a burst
    Load(load::Options),
    /// Starts three shops under a memory limit, lets one leak until it dies, and records metrics, logs and failures
    Record(record::Options),
    /// A web shop with a database, a payment provider, a queue and a volume, which can be told to have one of nine faults
    Store(store::Options),
    /// Starts a fleet of stores under limits, lets them fail again and again, and records metrics, logs and failures
    Fleet(fleet::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(options) => shop::serve(options),
        Command::Load(options) => load::run(&options),
        Command::Record(options) => record::run(&options),
        Command::Store(options) => store::serve(&options),
        Command::Fleet(options) => fleet::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell where standard error itself is gone.
            let _ = writeln!(std::io::stderr(), "foreshock-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ends this process when its standard input closes, which the system does for a parent however the parent dies.
fn exit_when_stdin_closes() -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("parent".into())
        .stack_size(64 << 10)
        .spawn(|| {
            let mut byte = [0];
            while matches!(std::io::stdin().read(&mut byte), Ok(n) if n > 0) {}
            std::process::exit(0);
        })?;
    Ok(())
}
