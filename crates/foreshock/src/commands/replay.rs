use clap::Args;

use crate::error::{CommandError, Exit};

/// Arguments of `foreshock replay`.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  foreshock replay")]
pub struct ReplayArgs {}

/// The command.
///
/// # Errors
/// Always, for now.
pub fn execute(_args: &ReplayArgs) -> Result<(), CommandError> {
    Err(CommandError::new(Exit::Usage, "not built yet"))
}
