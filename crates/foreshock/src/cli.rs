//! The command line. Names of commands and options are a contract: other people's scripts depend on them.

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use crate::commands::{backtest, bench, check, demo, inspect, replay, run, score, templates, train};

/// Learns what is normal for every metric and log stream of a Kafka pipeline, and publishes precursor anomalies apart from
/// hard failures.
#[derive(Debug, Parser)]
#[command(name = "foreshock", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "\
EXAMPLES
  foreshock demo                              see it work, nothing to install
  foreshock check --config foreshock.toml     is everything in place?
  foreshock run --config foreshock.toml       the service

Exit codes: 0 done, 64 wrong usage, 65 bad data, 74 I/O or broker, 78 bad configuration, 130 Ctrl-C.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// How log lines on standard error are written
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// More log lines; twice for even more. FORESHOCK_LOG sets a filter instead, such as `debug,librdkafka=warn`
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A recorded incident through the real pipeline in one process, with a broker of its own
    Demo(demo::DemoArgs),
    /// The service: consume, learn, emit
    Run(run::RunArgs),
    /// Is the configuration right, and are brokers, topics and rights in place?
    Check(check::CheckArgs),
    /// Learn from dumps and failures how probable a failure is
    Train(train::TrainArgs),
    /// Replay labelled history through the same engine: what would it have foretold?
    Backtest(backtest::BacktestArgs),
    /// Streaming anomaly scores of metric files
    Score(score::ScoreArgs),
    /// Templates of raw log lines
    Templates(templates::TemplatesArgs),
    /// Send dumps into Kafka topics at real or multiplied speed
    Replay(replay::ReplayArgs),
    /// What a model or the stored state of each partition holds
    Inspect(inspect::InspectArgs),
    /// How fast this machine is
    Bench(bench::BenchArgs),
}

impl Command {
    /// Whether it runs for long and its log is what people watch.
    #[must_use]
    pub const fn is_service(&self) -> bool {
        matches!(self, Self::Run(_))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
