//! The store's background work, and what a fault does there: it takes something away a bit at a time, until the system
//! refuses more of it. What happens then is the store's own affair.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rusqlite::TransactionBehavior;

use super::handler::{Answer, Store};
use super::limits::Limits;
use super::{pool, queue, spawn};
use crate::fault::{Fault, Growing, Shape};
use crate::shop::log::Level;
use crate::shop::stats::count;
use clap::ValueEnum as _;

const TICK: Duration = Duration::from_millis(200);
const WORKERS: usize = 2;
/// One job in so many takes seconds, so that a healthy queue is not always empty.
const LONG_JOB: u64 = 60;
/// Every so often the report locks the database for a moment.
const REPORT_EVERY: Duration = Duration::from_secs(3);
const REPORT_TAKES: Duration = Duration::from_millis(15);
/// How long the report holds the lock when the fault has grown.
const REPORT_TAKES_MAX_S: f64 = 2.8;
const CHUNK_BYTES: usize = 64 << 10;
/// Refused allocations after which the store gives up.
const REFUSED_MAX: u32 = 25;
/// Share of a resource from which on it is worth a warning.
const WARN_FROM: f64 = 0.7;
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Starts the background threads.
///
/// # Errors
/// Where one cannot be started.
pub fn start(store: &Arc<Store>) -> Result<()> {
    for _ in 0..WORKERS {
        let store = Arc::clone(store);
        spawn("worker", move || work(&store)).context("cannot start a worker")?;
    }
    let reporting = Arc::clone(store);
    spawn("report", move || report(&reporting)).context("cannot start the report")?;
    let worn = Arc::clone(store);
    spawn("housekeeper", move || keep_house(&worn)).context("cannot start the housekeeper")
}

/// A worker; when it falls behind it leaves as many jobs as the fault says.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)] // at most 400 jobs
fn work(store: &Store) {
    loop {
        let backlog = (store.severity(Fault::QueueGrowth) * 1.02 * queue::CAPACITY as f64) as usize;
        if store.queue.pop(backlog).is_some() {
            std::thread::sleep(Duration::from_millis(4 + store.draw(|r| r.below(12))));
            count(&store.stats.jobs);
            if store.draw(|r| r.below(LONG_JOB)) == 0 {
                std::thread::sleep(Duration::from_millis(1_000 + store.draw(|r| r.below(2_000))));
            }
        } else {
            std::thread::sleep(Duration::from_millis(30));
        }
    }
}

/// The report: a transaction that keeps all others out while it runs.
fn report(store: &Store) {
    let path = store.folder.join("shop.db");
    let Ok(mut db) = pool::open(&path) else {
        store.log.write(Level::Error, format_args!("report has no database"));
        return;
    };
    loop {
        std::thread::sleep(REPORT_EVERY);
        let takes = REPORT_TAKES + Duration::from_secs_f64(store.severity(Fault::LockContention) * REPORT_TAKES_MAX_S);
        let done = db
            .transaction_with_behavior(TransactionBehavior::Exclusive)
            .and_then(|report| {
                std::thread::sleep(takes);
                report.commit()
            });
        if let Err(error) = done {
            store.log.write(Level::Warn, format_args!("report skipped: {error}"));
        }
    }
}

/// Everything that is held for ever.
#[derive(Default)]
struct Held {
    chunks: Vec<Vec<u8>>,
    files: Vec<File>,
    threads: usize,
    trace_bytes: u64,
    refused: u32,
    /// How much there was to take when the fault began.
    room: Option<f64>,
    told: Option<Instant>,
}

fn keep_house(store: &Store) {
    let mut held = Held::default();
    loop {
        std::thread::sleep(TICK);
        if let Some(growing) = store.growing() {
            let room = *held.room.get_or_insert_with(|| room(store, growing.fault));
            // A little more than everything, because others give some back meanwhile.
            held.take(store, growing, growing.severity() * 1.03 * room);
        }
        let (depth, _) = store.queue.depth();
        if depth * 2 > queue::CAPACITY {
            held.tell(store, format_args!("job backlog of {depth}, workers behind"));
        }
    }
}

/// What is left of the resource that `fault` takes.
#[allow(clippy::cast_precision_loss)] // resources of one small process
fn room(store: &Store, fault: Fault) -> f64 {
    let limits = Limits::of_this_process();
    let usage = crate::record::procfs::usage(std::process::id()).unwrap_or_default();
    let left = |limit: Option<u64>, used: u64| limit.map_or(1e3, |limit| limit.saturating_sub(used) as f64);
    match fault {
        Fault::MemoryLeak => limits
            .address_space
            .map_or(256e6, |l| l.saturating_sub(usage.memory_vms) as f64),
        Fault::FdLeak => left(limits.open_files, usage.num_fds),
        Fault::ThreadLeak => left(limits.processes, usage.num_threads),
        Fault::DiskFill => rustix::fs::statvfs(&store.folder).map_or(1e6, |v| (v.f_bavail * v.f_frsize) as f64),
        Fault::PoolLeak => pool::SIZE as f64,
        _ => 0.0,
    }
}

impl Held {
    /// A warning, but not too often.
    fn tell(&mut self, store: &Store, message: std::fmt::Arguments<'_>) {
        if self.told.is_none_or(|told| told.elapsed() > WARN_EVERY) {
            self.told = Some(Instant::now());
            store.log.write(Level::Warn, message);
        }
    }

    /// Takes up to `target` of what the fault is about.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )] // as above
    fn take(&mut self, store: &Store, growing: Growing, target: f64) {
        let target = target as usize;
        let severe = growing.severity() > WARN_FROM;
        match growing.fault {
            Fault::MemoryLeak => self.take_memory(store, target, severe),
            Fault::FdLeak => {
                while self.files.len() < target
                    && let Ok(file) = File::open("/dev/null")
                {
                    self.files.push(file);
                }
            }
            Fault::ThreadLeak => {
                // They stop at the first refusal and try again with the next tick.
                while self.threads < target
                    && spawn("watcher", || {
                        loop {
                            std::thread::park();
                        }
                    })
                    .is_ok()
                {
                    self.threads += 1;
                }
            }
            Fault::DiskFill => {
                self.trace(store, target as u64);
                if severe {
                    let free = rustix::fs::statvfs(&store.folder).map_or(0, |v| v.f_bavail * v.f_frsize);
                    self.tell(store, format_args!("volume almost full, {free} bytes free"));
                }
            }
            Fault::PoolLeak => {
                let before = store.pool.lost_target.swap(target.min(pool::SIZE), Ordering::Relaxed);
                let lost = store.pool.lost();
                if before < target && lost > 1 {
                    self.tell(
                        store,
                        format_args!("{lost} database connections lent for more than 30 s"),
                    );
                }
            }
            _ => {}
        }
    }

    fn take_memory(&mut self, store: &Store, target: usize, severe: bool) {
        while self.chunks.len() * CHUNK_BYTES < target {
            let mut chunk = Vec::new();
            if chunk.try_reserve_exact(CHUNK_BYTES).is_err() || self.chunks.try_reserve(1).is_err() {
                self.refused += 1;
                let refused = self.refused;
                if refused > REFUSED_MAX {
                    let message = format_args!("out of memory: {refused} allocations refused, aborting");
                    store.log.write(Level::Fatal, message);
                    std::process::abort();
                }
                let message = format_args!("allocation of {CHUNK_BYTES} bytes refused");
                store.log.write(Level::Error, message);
                return;
            }
            chunk.resize(CHUNK_BYTES, 1); // used and not only reserved
            self.chunks.push(chunk);
        }
        if severe {
            let mib = (self.chunks.len() * CHUNK_BYTES) >> 20;
            self.tell(store, format_args!("heap has grown by {mib} MiB since start"));
        }
    }

    fn trace(&mut self, store: &Store, target: u64) {
        let Ok(mut file) = File::options()
            .create(true)
            .append(true)
            .open(store.folder.join("trace.log"))
        else {
            return;
        };
        while self.trace_bytes < target {
            // A full volume takes a part of it or nothing; the trace goes on as soon as there is room again.
            match file.write(&[b'.'; 4_096]) {
                Ok(n) if n > 0 => self.trace_bytes += n as u64,
                _ => return,
            }
        }
    }
}

/// What only the recorder asks for: `/control/fault/NAME/SHAPE/GROWTH_MS`, `/control/noise/SECONDS`,
/// `/control/burn/SECONDS`, `/control/quit`.
pub fn control(store: &Arc<Store>, path: &str) -> Answer {
    let words: Vec<&str> = path.split('/').skip(2).collect();
    let done = match words[..] {
        ["fault", fault, shape, growth_ms] => begin(store, fault, shape, growth_ms),
        ["noise", seconds] => seconds.parse().ok().and_then(|s| {
            let store = Arc::clone(store);
            spawn("noise", move || make_noise(&store, s)).ok()
        }),
        ["burn", seconds] => seconds.parse().ok().and_then(|s| spawn("burner", move || burn(s)).ok()),
        ["quit"] => {
            store
                .log
                .write(Level::Info, format_args!("shutting down for deployment"));
            std::process::exit(0);
        }
        _ => None,
    };
    let status = if done.is_some() { 200 } else { 400 };
    Answer {
        status,
        body: Vec::new(),
    }
}

fn begin(store: &Store, fault: &str, shape: &str, growth_ms: &str) -> Option<()> {
    store.begin(Growing {
        fault: Fault::from_str(fault, false).ok()?,
        shape: Shape::from_str(shape, false).ok()?,
        growth: Duration::from_millis(growth_ms.parse().ok()?),
        since: Instant::now(),
    });
    Some(())
}

/// Warnings that mean nothing.
fn make_noise(store: &Store, seconds: u64) {
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        let (kind, n) = store.draw(|r| (r.below(4), r.below(900)));
        match kind {
            0 => store.log.write(
                Level::Warn,
                format_args!("lookup of cdn.example took {} ms, cached answer used", 100 + n),
            ),
            1 => store.log.write(
                Level::Warn,
                format_args!("deprecated client version 3.{} in use", n % 20),
            ),
            2 => store.log.write(
                Level::Warn,
                format_args!("image of product {} missing, placeholder sent", n % 200),
            ),
            _ => store.log.write(
                Level::Warn,
                format_args!("metrics push retried, collector answered 429"),
            ),
        }
        std::thread::sleep(Duration::from_millis(100 + n));
    }
}

/// Keeps a core busy for about nine tenths of the time, but lets everybody else go first.
fn burn(seconds: u64) {
    let tid = std::fs::read_link("/proc/thread-self").ok();
    if let Some(tid) = tid.as_deref().and_then(|t| t.file_name()).and_then(|t| t.to_str()) {
        // Where it cannot be made nice it only disturbs a little more.
        let _ = std::process::Command::new("renice")
            .args(["-n", "19", "-p", tid])
            .output();
    }
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        let pause = Instant::now() + Duration::from_millis(90);
        let mut sum = 0u64;
        while Instant::now() < pause {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
