//! One file a command: its arguments with their help, and `execute`.

pub mod backtest;
pub mod bench;
pub mod check;
pub mod demo;
mod dumps;
pub mod inspect;
mod recording;
pub mod replay;
pub mod run;
pub mod score;
pub mod templates;
pub mod train;

use crate::cli::Command;
use crate::error::CommandError;

/// Does what was asked for.
///
/// # Errors
/// With the exit code of the command's contract.
pub fn execute(command: Command) -> Result<(), CommandError> {
    match command {
        Command::Demo(args) => demo::execute(&args),
        Command::Run(args) => run::execute(&args),
        Command::Check(args) => check::execute(&args),
        Command::Train(args) => train::execute(&args),
        Command::Backtest(args) => backtest::execute(&args),
        Command::Score(args) => score::execute(&args),
        Command::Templates(args) => templates::execute(&args),
        Command::Replay(args) => replay::execute(&args),
        Command::Inspect(args) => inspect::execute(&args),
        Command::Bench(args) => bench::execute(&args),
    }
}
