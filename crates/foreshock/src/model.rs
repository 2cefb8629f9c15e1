//! The model learned from failures, as a command finds it on disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use foreshock_engine::EngineConfig;
use foreshock_failure::predict::HazardModel;
use foreshock_history::train::registry::{self, RegistryError};

use crate::config::Config;
use crate::error::{CommandError, Exit};
use crate::screen::duration;

/// Reads the model that the configuration names, if it names one.
///
/// # Errors
/// When it is not there, damaged, or was learned from other windows.
pub fn of_config(config: &mut Config) -> Result<(), CommandError> {
    if let Some(dir) = &config.model {
        config.engine.predictor = Some(Arc::new(load(dir, &config.engine)?));
    }
    Ok(())
}

fn load(dir: &Path, engine: &EngineConfig) -> Result<HazardModel, CommandError> {
    let model = registry::load(dir).map_err(|e| of_registry(&e))?;
    if model.window_ms != engine.windows.width_ms {
        let span = |ms: i64| duration(Duration::from_millis(ms.unsigned_abs()));
        let what = format!(
            "the model was learned from windows of {}, the configuration has {}",
            span(model.window_ms),
            span(engine.windows.width_ms)
        );
        return Err(CommandError::new(Exit::Config, what)
            .at(dir.display().to_string())
            .expected("windows.width as it was in training, or a model trained anew"));
    }
    Ok(model)
}

/// An error of a model on disk as one of a command.
#[must_use]
pub fn of_registry(error: &RegistryError) -> CommandError {
    let exit = match error {
        RegistryError::Io { .. } => Exit::Io,
        RegistryError::Data { .. } => Exit::Data,
    };
    CommandError::new(exit, error.to_string())
}
