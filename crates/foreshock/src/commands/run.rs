use std::path::PathBuf;

use clap::Args;

use crate::error::{CommandError, Exit};

/// Arguments of `foreshock run`.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  foreshock run --config foreshock.toml")]
pub struct RunArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// The command.
///
/// # Errors
/// Always, for now.
pub fn execute(_args: RunArgs) -> Result<(), CommandError> {
    Err(CommandError::new(Exit::Usage, "not built yet"))
}
