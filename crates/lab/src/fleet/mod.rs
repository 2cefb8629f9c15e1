//! The recorder of a fleet: stores under limits, most of which fail again and again, each watched from outside.
//!
//! What begins when is planned from the seed; when it ends in a failure is not: that is found by looking, and by the
//! same rules for all. Needs root, because each store has a volume and a user of its own.

mod customers;
mod keeper;
mod output;
mod payment;
mod rules;
mod schedule;
mod unit;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use jiff::Timestamp;

use crate::random::Random;
use customers::Customers;
use keeper::Keeper;
use output::{Event, Output};
use payment::Payment;
use schedule::{Bounds, Schedule};
use unit::{Limits, Unit};

/// Log lines that may wait; a store that logs faster waits itself, at its full pipe.
const LINES_MAX: usize = 1 << 16;
/// Instances that never have a fault.
const ALWAYS_WELL: usize = 2;

/// How large the fleet is, for how long, and what its faults are like.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Folder for metrics.jsonl, logs.jsonl, failures.csv, faults.csv and events.csv
    #[arg(long)]
    output: PathBuf,
    /// Stores; the last two never have a fault
    #[arg(long, default_value_t = 14, value_parser = clap::value_parser!(u16).range(1..=64))]
    instances: u16,
    /// How long to record, in minutes
    #[arg(long, default_value_t = 35.0)]
    minutes: f64,
    /// Seed of faults, customers and chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Mean requests a second and store
    #[arg(long, default_value_t = 9.0)]
    rate: f64,
    /// Length of the compressed day in seconds
    #[arg(long, default_value_t = 300.0)]
    day_s: f64,
    /// Shortest time before the first fault, in seconds
    #[arg(long, default_value_t = 240.0)]
    first_s: f64,
    /// Shortest and longest time without a fault after a failure, in seconds
    #[arg(long, num_args = 2, default_values_t = [60.0, 110.0])]
    gap_s: Vec<f64>,
    /// Shortest and longest growth of a fault, in seconds
    #[arg(long, num_args = 2, default_values_t = [60.0, 200.0])]
    growth_s: Vec<f64>,
    /// Limits of each store: memory in MiB, files, threads, volume in KiB
    #[arg(long, default_value = "memory=112,files=96,threads=64,volume=4096")]
    limits: Limits,
}

/// Says on standard error how far it is.
fn tell(message: std::fmt::Arguments<'_>) {
    // Where standard error is gone the recording is still good.
    let _ = writeln!(std::io::stderr(), "{:.0} {message}", Timestamp::now());
}

/// Records a fleet.
///
/// # Errors
/// Where a volume cannot be mounted, a store not be started, or an output not be written.
pub fn run(options: &Options) -> Result<()> {
    let output = Arc::new(Output::create(&options.output)?);
    let scratch = std::env::temp_dir().join(format!("foreshock-lab-{}", std::process::id()));
    let instances = usize::from(options.instances);
    let (lines, log) = sync_channel(LINES_MAX);
    let keepers: Result<Vec<Keeper>> = crate::record::free_addresses(instances)?
        .into_iter()
        .enumerate()
        .map(|(n, address)| {
            let mut random = Random::new(options.seed.wrapping_mul(1_000).wrapping_add(n as u64));
            let payment = Payment::start(random.bits())?;
            let unit = Unit::new(n, (address, payment.address), &scratch, options.limits, lines.clone())?;
            let rate = options.rate * (0.85 + 0.3 * random.unit());
            let first_s = (options.first_s, options.first_s + 60.0);
            let bounds = Bounds {
                first_s,
                gap_s: (options.gap_s[0], options.gap_s[1]),
                growth_s: (options.growth_s[0], options.growth_s[1]),
            };
            let faulty = n + ALWAYS_WELL < instances;
            let schedule = Schedule::new(random.bits(), bounds);
            Ok(Keeper {
                unit,
                customers: Customers::start(address, random.bits(), rate, options.day_s)?,
                payment,
                schedule: faulty.then_some(schedule),
                // Every third has batch hours.
                batch_at: (n % 3 == 1).then(|| Instant::now() + Duration::from_secs(60 + random.below(180))),
                offset_ms: 100 * i64::try_from(n).unwrap_or(0) % 1_500,
                random,
                output: Arc::clone(&output),
            })
        })
        .collect();
    let keepers = keepers?;
    drop(lines);
    let end = Instant::now() + Duration::from_secs_f64(options.minutes * 60.0);
    tell(format_args!(
        "recording {} stores for {} min",
        keepers.len(),
        options.minutes
    ));
    let names: Vec<_> = keepers.iter().map(|k| (k.unit.name.clone(), k.unit.address)).collect();
    let done = std::thread::scope(|scope| {
        let (writer, log) = (&output, log);
        let logs = scope.spawn(move || writer.write_logs(&log));
        let burner = scope.spawn(|| burn_now_and_then(&names, &output, options.seed, end));
        let kept: Vec<_> = keepers
            .into_iter()
            .map(|keeper| scope.spawn(move || keeper.run(end)))
            .collect();
        kept.into_iter()
            .chain([burner, logs])
            .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    });
    // Volumes are unmounted by now; an empty folder that stays harms nobody.
    let _ = std::fs::remove_dir_all(&scratch);
    done
}

/// Lets one instance at a time burn CPU that nobody else wants.
fn burn_now_and_then(units: &[(String, std::net::SocketAddr)], output: &Output, seed: u64, end: Instant) -> Result<()> {
    let mut random = Random::new(seed ^ 0xb0b);
    let sleep = |seconds: u64| {
        let until = (Instant::now() + Duration::from_secs(seconds)).min(end);
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
    };
    sleep(45);
    while Instant::now() < end {
        let at = usize::try_from(random.below(units.len() as u64)).unwrap_or(0);
        let (name, address) = units.get(at).context("no instances")?;
        let seconds = 20 + random.below(11);
        let start = Timestamp::now();
        let asked = crate::http::Client::connect(*address, Duration::from_secs(1))
            .and_then(|mut c| c.request("POST", &format!("/control/burn/{seconds}")));
        if asked.is_ok_and(|a| a.status == 200) {
            sleep(seconds);
            output.event(Event {
                entity: name.clone(),
                kind: "burner",
                start,
                end: Timestamp::now(),
            })?;
        }
        sleep(30 + random.below(60));
    }
    Ok(())
}
