use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use foreshock_kafka::LogError;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, Secrets};
use crate::error::{CommandError, Exit};
use crate::http;
use crate::model;
use crate::service::{Plan, Workers, wall_clock};
use crate::vitals::Vitals;

/// Orchestrators kill after 30 s; this leaves them something to spare.
const DRAIN: Duration = Duration::from_secs(25);

/// Arguments of `foreshock run`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  foreshock run --config foreshock.toml
  FORESHOCK_LOG=debug foreshock --log-format json run --config foreshock.toml

Runs until SIGTERM or Ctrl-C: then it drains, commits, writes a last snapshot and leaves, within 25 seconds.
While it runs, /livez, /readyz and /metrics are served where [http] listen says (127.0.0.1:9464).")]
pub struct RunArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// The command: runs the service until it is told to stop.
///
/// # Errors
/// When the configuration is wrong, the address is taken, or a worker can't go on.
pub fn execute(args: &RunArgs) -> Result<(), CommandError> {
    let mut config = Config::load(&args.config, Secrets::Read)?;
    model::of_config(&mut config)?;
    let vitals = Arc::new(Vitals::new(config.workers));
    let server = http::Server::start(config.listen, http::router(Arc::clone(&vitals)))
        .map_err(|e| CommandError::io(format!("{} can't be listened on", config.listen), e))?;
    tracing::info!(
        group = config.group, instance = config.instance, workers = config.workers, http = %server.address(),
        sources = config.engine.sources.len(), model = config.model.as_ref().map(|m| tracing::field::display(m.display())), "starts"
    );
    let logs = (0..config.workers).map(|worker| config.log_settings(worker)).collect();
    let plan = Plan {
        engine: config.engine,
        logs,
        clock: wall_clock(),
    };
    let workers = Workers::start(plan, &vitals).map_err(|e| CommandError::io("no thread can be started", e))?;
    wait_for_end(&workers)?;
    match workers.stop(DRAIN) {
        Ok(true) => {
            tracing::info!("has committed everything and ends");
            Ok(())
        }
        Ok(false) => {
            // A client call that hangs would keep the process for ever. What is not committed is read again.
            tracing::error!("could not drain within 25 s; what was not committed will be read again");
            process::exit(Exit::Io as i32);
        }
        Err(LogError::Setup(error)) => {
            Err(CommandError::new(Exit::Config, format!("the Kafka client: {error}"))
                .at(args.config.display().to_string()))
        }
        Err(error) => Err(CommandError::io("the service can't go on", error)),
    }
}

/// Waits for SIGTERM, Ctrl-C or the end of a worker.
fn wait_for_end(workers: &Workers) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CommandError::io("signals can't be waited for", e))?;
    runtime.block_on(async {
        let mut terminate =
            signal(SignalKind::terminate()).map_err(|e| CommandError::io("SIGTERM can't be waited for", e))?;
        let mut look = tokio::time::interval(Duration::from_millis(200));
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = tokio::signal::ctrl_c() => break,
                _ = look.tick() => if workers.any_ended() { return Ok(()) },
            }
        }
        tracing::info!("was told to stop; drains and commits");
        Ok(())
    })
}
