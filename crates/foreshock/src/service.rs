//! Workers: each is one member of the consumer group on a thread of its own, with its own log and engine.
//!
//! A worker shares nothing with the others but what is shown of them. When its log ends with an error it throws log and engine
//! away and begins again from what was committed; only what a new beginning can't mend ends the service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use foreshock_domain::Timestamp;
use foreshock_engine::{Engine, EngineConfig, EpochReport, run};
use foreshock_kafka::{
    Cause, KafkaLog, LogError, LogSettings, Resource, Rights, missing_rights, needed_rights, partitions,
};

use crate::vitals::Vitals;

/// Wait before the first new beginning, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// A worker that is fenced so often within [`OUTRUN`] shares its name with another process. The one that came later is one behind in
/// this count, so it is the older that ends.
const FENCED_MAX: usize = 4;
/// See [`FENCED_MAX`].
const OUTRUN: Duration = Duration::from_secs(60);
/// A worker that lived this long begins again without a long wait.
const LIVED: Duration = Duration::from_secs(60);

/// What ticks say.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What all workers have in common.
pub struct Plan {
    /// What every engine must be told, but for the number of signals partitions, which the brokers know.
    pub engine: EngineConfig,
    /// Settings of each worker's log; as many workers as there are settings.
    pub logs: Vec<LogSettings>,
    /// What ticks say.
    pub clock: Clock,
}

/// The clock of this machine.
#[must_use]
pub fn wall_clock() -> Clock {
    Arc::new(|| {
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    })
}

/// Running workers.
pub struct Workers {
    threads: Vec<JoinHandle<Result<(), LogError>>>,
    stop: Arc<AtomicBool>,
}

impl Workers {
    /// Starts them.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(plan: Plan, vitals: &Arc<Vitals>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let plan = Arc::new(plan);
        let mut threads = Vec::new();
        for number in 0..plan.logs.len() {
            let (plan, vitals, stop) = (Arc::clone(&plan), Arc::clone(vitals), Arc::clone(&stop));
            let name = format!("worker-{number}");
            threads.push(
                thread::Builder::new()
                    .name(name)
                    .spawn(move || work(&plan, number, &vitals, &stop))?,
            );
        }
        Ok(Self { threads, stop })
    }

    /// Whether any worker has ended.
    #[must_use]
    pub fn any_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Lets every worker drain, commit and leave; true when all did so in time.
    ///
    /// # Errors
    /// What ended a worker before its time.
    pub fn stop(self, patience: Duration) -> Result<bool, LogError> {
        self.stop.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + patience;
        while self.threads.iter().any(|t| !t.is_finished()) {
            if Instant::now() > deadline {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(20));
        }
        for thread in self.threads {
            match thread.join() {
                Ok(ended) => ended?,
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }
}

fn work(plan: &Plan, number: usize, vitals: &Arc<Vitals>, stop: &Arc<AtomicBool>) -> Result<(), LogError> {
    let mut wait = BACKOFF.0;
    let mut fenced: Vec<Instant> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let error = match once(plan, number, vitals, stop) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if matches!(error, LogError::Fenced(_)) {
            fenced.retain(|at| at.elapsed() < OUTRUN);
            fenced.push(Instant::now());
        }
        if matches!(error, LogError::Setup(_) | LogError::State(_)) || fenced.len() >= FENCED_MAX {
            tracing::error!(%error, advice = error.advice(), worker = number, "this worker can't go on");
            return Err(error);
        }
        vitals.restarted(number);
        explain(&error, &plan.logs[number], number, vitals);
        wait = if began.elapsed() > LIVED {
            BACKOFF.0
        } else {
            (wait * 2).min(BACKOFF.1)
        };
        tracing::warn!(
            %error, advice = error.advice(), worker = number, wait_ms = wait.as_millis(),
            "begins again from what was committed"
        );
        let until = Instant::now() + wait;
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            vitals.observe(number, EpochReport::Alive);
            thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// Says what to do about brokers that do not let this program in: waiting alone does not mend that.
fn explain(error: &LogError, settings: &LogSettings, number: usize, vitals: &Vitals) {
    if let LogError::Unreached(unreached) = error {
        if unreached.cause != Cause::Silence {
            vitals.refused(number);
        }
        tracing::error!(worker = number, expected = unreached.cause.help(), "{unreached}");
    }
    if !error.is_denied() {
        return;
    }
    vitals.refused(number);
    let asked;
    let missing = match error {
        LogError::Denied(missing) => missing,
        _ => match missing_rights(&settings.connection, &needed(settings)) {
            Ok(missing) => {
                asked = missing;
                &asked
            }
            Err(why) => {
                tracing::warn!(worker = number, error = %why, "the brokers don't say which right is missing");
                return;
            }
        },
    };
    for right in missing {
        let grant = right.grant(settings.connection.servers(), &settings.connection.principal());
        tracing::error!(worker = number, grant, "the brokers deny {right}");
    }
}

/// The rights without which a worker can't do its work.
fn needed(settings: &LogSettings) -> Vec<Rights> {
    let all = needed_rights(&settings.topics, &settings.group, settings.delivery);
    all.into_iter().filter_map(Rights::to_run).collect()
}

/// Asks for rights before the work begins: one that is missing on the topic of events would else show with the first failure, and
/// that one would not be told. Transactional ids show by themselves.
fn check_rights(settings: &LogSettings) -> Result<(), LogError> {
    let mut needed = needed(settings);
    needed.retain(|right| !matches!(right.on, Resource::TransactionalIds(_)));
    match missing_rights(&settings.connection, &needed) {
        Ok(missing) if missing.is_empty() => Ok(()),
        Ok(missing) => Err(LogError::Denied(missing)),
        Err(error) => {
            // What matters will be refused when it is used.
            tracing::debug!(%error, "the brokers don't say what is allowed");
            Ok(())
        }
    }
}

fn once(plan: &Plan, number: usize, vitals: &Arc<Vitals>, stop: &Arc<AtomicBool>) -> Result<(), LogError> {
    let settings = plan.logs[number].clone();
    let signals_partitions = partitions(&settings.connection, &settings.topics.signals)?;
    check_rights(&settings)?;
    let clock = Arc::clone(&plan.clock);
    let beating = Arc::clone(vitals);
    let mut log = KafkaLog::join(
        settings,
        Box::new(move || clock()),
        Arc::new(move || beating.observe(number, EpochReport::Alive)),
        Arc::clone(stop),
        vitals.tally(number),
    )?;
    let config = EngineConfig {
        signals_partitions,
        ..plan.engine.clone()
    };
    let mut engine = Engine::new(Arc::new(config));
    run(&mut log, &mut engine, &mut |report| vitals.observe(number, report))
}
