use clap::Args;

use crate::error::{CommandError, Exit};

/// Arguments of `foreshock bench`.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  foreshock bench")]
pub struct BenchArgs {}

/// The command.
///
/// # Errors
/// Always, for now.
pub fn execute(_args: BenchArgs) -> Result<(), CommandError> {
    Err(CommandError::new(Exit::Usage, "not built yet"))
}
