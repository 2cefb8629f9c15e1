use clap::Args;

use crate::error::{CommandError, Exit};

/// Arguments of `foreshock templates`.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  foreshock templates")]
pub struct TemplatesArgs {}

/// The command.
///
/// # Errors
/// Always, for now.
pub fn execute(_args: &TemplatesArgs) -> Result<(), CommandError> {
    Err(CommandError::new(Exit::Usage, "not built yet"))
}
