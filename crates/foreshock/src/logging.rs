use std::io;

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;
use crate::screen::Paint;

/// Environment variable with a filter, in the syntax of `tracing_subscriber::EnvFilter`.
const FILTER_VARIABLE: &str = "FORESHOCK_LOG";

/// Log lines go to standard error: standard output belongs to results. A service tells its doings, other commands only what
/// is wrong, unless told otherwise.
pub fn start(format: LogFormat, verbose: u8, is_service: bool) {
    let usual = match (verbose, is_service) {
        (0, false) => "warn,librdkafka=error",
        (0, true) => "warn,foreshock=info",
        (1, _) => "info,foreshock=debug",
        _ => "debug,foreshock=trace",
    };
    let filter = std::env::var(FILTER_VARIABLE).ok().filter(|f| !f.is_empty());
    let filter = match filter.as_deref().map(EnvFilter::try_new) {
        Some(Ok(filter)) => filter,
        Some(Err(error)) => {
            crate::screen::note(&format!(
                "warning: {FILTER_VARIABLE} is no filter and is ignored: {error}"
            ));
            EnvFilter::new(usual)
        }
        None => EnvFilter::new(usual),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(Paint::for_stderr().colours());
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}
