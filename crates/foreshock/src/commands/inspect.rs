use clap::Args;

use crate::error::{CommandError, Exit};

/// Arguments of `foreshock inspect`.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  foreshock inspect")]
pub struct InspectArgs {}

/// The command.
///
/// # Errors
/// Always, for now.
pub fn execute(_args: &InspectArgs) -> Result<(), CommandError> {
    Err(CommandError::new(Exit::Usage, "not built yet"))
}
