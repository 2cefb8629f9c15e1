use clap::Args;

use crate::error::{CommandError, Exit};

/// Arguments of `foreshock demo`.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  foreshock demo")]
pub struct DemoArgs {}

/// The command.
///
/// # Errors
/// Always, for now.
pub fn execute(_args: DemoArgs) -> Result<(), CommandError> {
    Err(CommandError::new(Exit::Usage, "not built yet"))
}
