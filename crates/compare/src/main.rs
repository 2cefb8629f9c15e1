//! The comparison: ours and rivals on the same data in the same run, each rival at its published defaults.
//!
//! Everything is scored before it is learned, strictly causally, and no score is point-adjusted. Nothing else in the
//! project depends on this binary.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))] // a test that fails may say so

mod commands;
mod corpus;
mod measures;
mod parallel;
mod report;
mod rivals;
mod selection;
mod table;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

const EXAMPLES: &str = "Examples:
  foreshock-compare nab nab/                 # scores of the benchmark, with held-out and blind-alarm controls
  foreshock-compare nab nab/ --json          # the same for scripts
  foreshock-compare nab nab/ --per-file      # where windows are missed and false alarms raised
  foreshock-compare injected --half tune --by-family
  foreshock-compare injected --rivals        # beside every rival, on seeds that nothing was tuned on
  foreshock-compare injected --contaminated  # with outliers in the warm-up
  foreshock-compare calibration --half tune
  foreshock-compare speed --rivals
  foreshock-compare cmapss cmapss/
  foreshock-compare fleet data/fleet --leave-out --output docs/comparison/fleet.md
  foreshock-compare hdfs hdfs_sessions/      # sessions, with and without failures in what is learned
  foreshock-compare openstack openstack_faults/ --logs unpacked/
  foreshock-compare all --nab nab/ --output docs/comparison";

/// Ours and rivals on the same data in the same run
#[derive(Debug, Parser)]
#[command(name = "foreshock-compare", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Prints JSON instead of tables
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The Numenta Anomaly Benchmark: best, held-out and fixed threshold, beside an alarm every 600 rows
    Nab(commands::nab::Options),
    /// Injected anomalies of nine kinds in nineteen families of series, by kind
    Injected(commands::injected::Options),
    /// How often streams without failures pass a surprise, over how often they should
    Calibration(commands::calibration::Options),
    /// Rows a second on one thread, and bytes a series
    Speed(commands::speed::Options),
    /// Log lines grouped by template, beside Drain3 in Rust and in Python: grouping, speed, memory, and whether the rules carry over
    Templates(commands::templates::Options),
    /// Everything in one run, and the page with tables and figures
    All(commands::all::Options),
    /// Faults injected into `OpenStack`: warned of before the first error that a user sees, from logs alone
    Openstack(commands::openstack::Options),
    /// Faults injected into pods, found in the right pod within five minutes, beside chance at the same alarm rate
    Trainticket(commands::trainticket::Options),
    /// Engines that run to failure (C-MAPSS), through `train` and `backtest`
    Cmapss(commands::cmapss::Options),
    /// Failures of a recorded fleet, foretold by ours and by simple rivals
    Fleet(commands::fleet::Options),
    /// Sessions of HDFS blocks: precision and recall at a threshold set beforehand, learned with and without failures inside
    Hdfs(commands::hdfs::Options),
}

fn run(cli: &Cli) -> Result<String> {
    match &cli.command {
        Command::Nab(options) => {
            let rated = commands::nab::measure(options)?;
            let results: Vec<_> = rated.iter().map(|r| r.result.clone()).collect();
            if cli.json {
                return Ok(serde_json::to_string_pretty(&results)?);
            }
            let mut out = commands::nab::tables(&results);
            if options.per_file
                && let Some(first) = rated.first()
            {
                out += &commands::nab::per_file(options, first)?;
            }
            Ok(out)
        }
        Command::Injected(options) => {
            let evaluations = commands::injected::measure(options);
            if cli.json {
                return Ok(serde_json::to_string_pretty(&evaluations)?);
            }
            let mut out = commands::injected::tables(&evaluations);
            out += &format!(
                "### Surprise 4, beside one threshold for all series\n\n{}",
                report::one_threshold(&evaluations)
            );
            if options.by_family {
                out += &commands::injected::by_family(&evaluations);
            }
            Ok(out)
        }
        Command::Calibration(options) => {
            let results = commands::calibration::measure(options);
            shown(cli.json, &results, commands::calibration::table)
        }
        Command::Cmapss(options) => {
            let results = commands::cmapss::measure(options)?;
            shown(cli.json, &results, commands::cmapss::table)
        }
        Command::Fleet(options) => {
            let result = commands::fleet::measure(options)?;
            if let Some(path) = &options.output {
                commands::fleet::write(path, options, &result)?;
            }
            if cli.json {
                return Ok(serde_json::to_string_pretty(&result)?);
            }
            Ok(commands::fleet::table(&result))
        }
        Command::Speed(options) => {
            let results = commands::speed::measure(options)?;
            shown(cli.json, &results, commands::speed::table)
        }
        Command::All(options) => {
            let results = commands::all::run(options)?;
            if cli.json {
                return Ok(serde_json::to_string_pretty(&results)?);
            }
            Ok(format!("{}", options.output.join("README.md").display()))
        }
        Command::Templates(options) => {
            let results = commands::templates::measure(options)?;
            if cli.json {
                return Ok(serde_json::to_string_pretty(&results)?);
            }
            Ok(commands::templates::tables(&results))
        }
        Command::Openstack(options) => {
            let results = commands::openstack::measure(options)?;
            shown(cli.json, &results, commands::openstack::table)
        }
        Command::Trainticket(options) => {
            let results = commands::trainticket::measure(options)?;
            shown(cli.json, &results, commands::trainticket::table)
        }
        Command::Hdfs(options) => {
            let results = commands::hdfs::measure(options)?;
            shown(cli.json, &results, commands::hdfs::table)
        }
    }
}

fn shown<T: serde::Serialize>(json: bool, results: &[T], table: impl Fn(&[T]) -> String) -> Result<String> {
    if json {
        return Ok(serde_json::to_string_pretty(results)?);
    }
    Ok(table(results))
}

fn main() -> ExitCode {
    let written = run(&Cli::parse()).and_then(|text| Ok(writeln!(std::io::stdout().lock(), "{}", text.trim_end())?));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell where standard error itself is gone.
            let _ = writeln!(std::io::stderr(), "foreshock-compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}
