use clap::Args;

use crate::error::{CommandError, Exit};

/// Arguments of `foreshock score`.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  foreshock score")]
pub struct ScoreArgs {}

/// The command.
///
/// # Errors
/// Always, for now.
pub fn execute(_args: &ScoreArgs) -> Result<(), CommandError> {
    Err(CommandError::new(Exit::Usage, "not built yet"))
}
