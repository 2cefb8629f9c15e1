//! The recorder: three shops, one of which will fail, watched from outside until the failure is over.
//!
//! It never decides when the failure is: that is when the process dies by itself, as `wait` tells. The end is the first
//! probe that is answered after the restart.

pub mod instance;
pub mod procfs;
pub mod telegraf;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::Timestamp;

use instance::{Customers, Instance, Plan, drain};
use telegraf::Tags;

/// The instance that leaks.
const LEAKING: usize = 1;
/// Log lines that may wait between two samples; a shop that logs faster waits itself, at its full pipe.
const LINES_MAX: usize = 1 << 16;
/// How often a shop is looked at between samples to see whether it has died.
const WATCH_EVERY: Duration = Duration::from_millis(50);

/// Timeline and limits of a recording.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Folder for metrics.jsonl, logs.jsonl and failures.csv
    #[arg(long)]
    output: PathBuf,
    /// Seconds before the leak begins
    #[arg(long, default_value_t = 2_280)]
    healthy_s: u64,
    /// Seconds within which the leak has to end in a failure
    #[arg(long, default_value_t = 1_800)]
    leak_s_max: u64,
    /// Seconds from the failure to the restart
    #[arg(long, default_value_t = 180)]
    down_s: u64,
    /// Seconds from the failure to the end of the recording
    #[arg(long, default_value_t = 480)]
    aftermath_s: u64,
    /// Seconds between samples
    #[arg(long, default_value_t = 2)]
    every_s: i64,
    /// Limit of each shop's address space in MiB
    #[arg(long, default_value_t = 110)]
    memory_limit_mib: u64,
    /// Share of the expired sessions that leak
    #[arg(long, default_value_t = 1.0)]
    leak_rate: f64,
    /// Mean requests a second and shop
    #[arg(long, default_value_t = 40.0)]
    rate: f64,
    /// Length of the load's compressed day in seconds
    #[arg(long, default_value_t = 900.0)]
    day_s: f64,
    /// When the harmless load burst begins, in seconds from the start
    #[arg(long, default_value_t = 1_320.0)]
    burst_after_s: f64,
    /// How long the burst lasts in seconds
    #[arg(long, default_value_t = 60.0)]
    burst_for_s: f64,
    /// Seed of shops and customers
    #[arg(long, default_value_t = 11)]
    seed: u64,
}

/// A failure as the recorder saw it.
#[derive(Debug)]
struct Failure {
    entity: String,
    onset: Timestamp,
    died: Instant,
    end: Option<Timestamp>,
}

/// Records one incident.
///
/// # Errors
/// Where a process cannot be started, an output not be written, or no failure comes in time.
pub fn run(options: &Options) -> Result<()> {
    std::fs::create_dir_all(&options.output).context("cannot make the output folder")?;
    // The journals are of no interest afterwards; they lie where the temporary folder's owner clears up.
    let scratch = std::env::temp_dir().join(format!("foreshock-lab-{}", std::process::id()));
    let (lines, log) = sync_channel(LINES_MAX);
    let mut shops = Vec::new();
    let mut customers = Vec::new();
    for (n, address) in free_addresses(3)?.into_iter().enumerate() {
        let name = format!("shop-{}", n + 1);
        let seed = options.seed.wrapping_add(n as u64);
        let plan = Plan {
            folder: scratch.join(&name),
            name,
            address,
            seed,
            memory_limit_kib: options.memory_limit_mib << 10,
            leak_after_s: (n == LEAKING).then_some(options.healthy_s),
            leak_rate: options.leak_rate,
        };
        shops.push(Instance::start(plan, &lines)?);
        #[allow(clippy::cast_precision_loss)] // three shops; each has a little more or less to do than the others
        let rate = options.rate * (1.0 + 0.08 * (n as f64 - 1.0));
        let (day_s, burst) = (options.day_s, options.burst_after_s);
        customers.push(Customers::start(
            address,
            seed,
            rate,
            day_s,
            burst,
            options.burst_for_s,
        )?);
    }
    let mut recording = Recording::open(options, &lines, log)?;
    let done = recording.watch(&mut shops);
    drop((customers, shops));
    // Nobody needs the journals any more, and a folder that is gone already is as good.
    let _ = std::fs::remove_dir_all(&scratch);
    done
}

/// Loopback addresses that were free a moment ago, all held until the last is found so that none comes twice.
///
/// # Errors
/// Where there are not so many.
pub fn free_addresses(n: usize) -> Result<Vec<SocketAddr>> {
    let held: std::io::Result<Vec<_>> = (0..n).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect();
    held.and_then(|held| held.iter().map(TcpListener::local_addr).collect())
        .context("no free port")
}

/// Says on standard error how far it is.
fn tell(message: std::fmt::Arguments<'_>) {
    // Where standard error is gone the recording is still good.
    let _ = writeln!(std::io::stderr(), "{:.0} {message}", Timestamp::now());
}

struct Recording<'a> {
    options: &'a Options,
    start: Instant,
    metrics: BufWriter<File>,
    logs: BufWriter<File>,
    lines: SyncSender<String>,
    log: Receiver<String>,
    failures: Vec<Failure>,
}

impl<'a> Recording<'a> {
    fn open(options: &'a Options, lines: &SyncSender<String>, log: Receiver<String>) -> Result<Self> {
        let create = |name: &str| {
            let path = options.output.join(name);
            File::create(&path)
                .map(BufWriter::new)
                .with_context(|| format!("cannot write {}", path.display()))
        };
        Ok(Self {
            options,
            start: Instant::now(),
            metrics: create("metrics.jsonl")?,
            logs: create("logs.jsonl")?,
            lines: lines.clone(),
            log,
            failures: Vec::new(),
        })
    }

    /// Samples until the failure and its aftermath are over.
    fn watch(&mut self, shops: &mut [Instance]) -> Result<()> {
        let every_s = self.options.every_s.max(1);
        tell(format_args!("recording, healthy for {} s", self.options.healthy_s));
        let mut sampled_s = Timestamp::now().as_second();
        while !self.is_over()? {
            std::thread::sleep(WATCH_EVERY);
            for shop in shops.iter_mut() {
                if let Some(status) = shop.ended() {
                    self.note_failure(shop, status);
                }
            }
            self.restart(shops)?;
            // Samples are stamped with a multiple of the interval, as agents that align their clocks do.
            let now_s = Timestamp::now().as_second();
            let due_s = now_s - now_s.rem_euclid(every_s);
            if due_s > sampled_s {
                sampled_s = due_s;
                for shop in shops.iter() {
                    self.sample(shop, due_s)?;
                }
                drain(&self.log, &mut self.logs)
                    .and_then(|_| self.logs.flush())
                    .context("cannot write logs")?;
                self.metrics.flush().context("cannot write metrics")?;
            }
        }
        drain(&self.log, &mut self.logs)
            .and_then(|_| self.logs.flush())
            .context("cannot write logs")?;
        write_failures(&self.options.output, &self.failures)
    }

    fn is_over(&self) -> Result<bool> {
        let limit_s = self.options.healthy_s + self.options.leak_s_max;
        match self.failures.first() {
            Some(first) => Ok(first.died.elapsed().as_secs() >= self.options.aftermath_s),
            None if self.start.elapsed().as_secs() >= limit_s => bail!("no failure within {limit_s} s"),
            None => Ok(false),
        }
    }

    fn note_failure(&mut self, shop: &Instance, status: ExitStatus) {
        let entity = shop.plan.name.clone();
        tell(format_args!("{entity} died: {status}"));
        self.failures.push(Failure {
            entity,
            onset: Timestamp::now(),
            died: Instant::now(),
            end: None,
        });
    }

    /// Starts shops anew that were down long enough, now without the fault.
    fn restart(&mut self, shops: &mut [Instance]) -> Result<()> {
        for shop in shops.iter_mut().filter(|s| s.is_dead()) {
            let died = self
                .failures
                .iter()
                .rev()
                .find(|f| f.entity == shop.plan.name)
                .map(|f| f.died);
            if died.is_some_and(|died| died.elapsed().as_secs() >= self.options.down_s) {
                let plan = Plan {
                    leak_after_s: None,
                    seed: shop.plan.seed.wrapping_add(100),
                    ..shop.plan.clone()
                };
                tell(format_args!("{} restarted", plan.name));
                *shop = Instance::start(plan, &self.lines)?;
            }
        }
        Ok(())
    }

    /// One sample of everything; what is not there is not written.
    fn sample(&mut self, shop: &Instance, at_s: i64) -> Result<()> {
        let tags = Tags {
            host: &shop.plan.name,
            service: "shop",
        };
        let out = &mut self.metrics;
        if let Some(usage) = shop.usage() {
            telegraf::write(out, "procstat", tags, at_s, &usage)?;
        }
        if let Some(stats) = shop.stats() {
            telegraf::write(out, "shop", tags, at_s, &stats)?;
        }
        let probe = shop.probe();
        telegraf::write(out, "probe", tags, at_s, &probe)?;
        if probe.up == 1
            && let Some(failure) = self
                .failures
                .iter_mut()
                .find(|f| f.entity == shop.plan.name && f.end.is_none())
        {
            failure.end = Some(Timestamp::now());
        }
        Ok(())
    }
}

fn write_failures(folder: &Path, failures: &[Failure]) -> Result<()> {
    let mut out = File::create(folder.join("failures.csv")).context("cannot write failures.csv")?;
    writeln!(out, "entity,class,onset,end")?;
    for Failure { entity, onset, end, .. } in failures {
        let end = end.map(|end| format!("{end:.3}")).unwrap_or_default();
        writeln!(out, "{entity},crash,{onset:.3},{end}")?;
    }
    Ok(())
}
