use clap::Args;

use crate::error::{CommandError, Exit};

/// Arguments of `foreshock check`.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  foreshock check")]
pub struct CheckArgs {}

/// The command.
///
/// # Errors
/// Always, for now.
pub fn execute(_args: &CheckArgs) -> Result<(), CommandError> {
    Err(CommandError::new(Exit::Usage, "not built yet"))
}
