//! How fast this machine is, on one core: decoding, models and the whole pipeline, each on data made here, the same on every
//! machine. Rates are for comparing things in one run; a busy machine makes all of them smaller.

mod hostile;
mod state;
mod training;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use foreshock_domain::{Detector, Learning, Level, Timestamp};
use foreshock_engine::{
    Engine, EngineConfig, EpochReport, MemoryLog, MemoryTopic, SourceConfig, StoredRecord, TopicId, TopicPartition, run,
};
use foreshock_failure::{FailureConfig, Rules};
use foreshock_logs::Miner;
use foreshock_metrics::{Point, SeriesModel};
use foreshock_wire::{Decoder, Format, time};

use crate::error::{CommandError, Exit};
use crate::screen::{print, table};

/// Each measurement repeats until this much time has gone by.
const LONG_ENOUGH: Duration = Duration::from_millis(800);
/// Age of a series that is just past the warm-up, and of one that is at home; in points.
const YOUNG: usize = 40;
const GROWN: usize = 3_000;
/// Few, so that they grow up in a second.
const GROWN_SERIES: usize = 500;
/// Windows of ten seconds in the pipeline's input: past the warm-up, so that most of them are scored.
const WINDOWS: usize = 64;
/// Hosts that write log lines into the pipeline, and lines of each in a window.
const LOG_HOSTS: usize = 200;
const LOG_LINES: usize = 20;

/// Arguments of `foreshock bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  foreshock bench
  foreshock bench --series 100000
  foreshock bench --train
  foreshock bench --state                  10 thousand, 100 thousand and a million series; takes minutes and 10 GB
  foreshock bench --state --series 50000   in one partition and in eight
  foreshock bench --hostile                what floods, long lines and mad clocks cost at most; takes minutes and 4 GB

Prints records or samples per second and nanoseconds for each, and the bytes of state that a series costs.")]
pub struct BenchArgs {
    /// Series that take turns; 10000 unless told otherwise
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    pub series: Option<u32>,

    /// Train a predictor on a history made here instead: samples a second, peak memory, time to restore the model
    #[arg(long)]
    pub train: bool,

    /// Save and restore state instead: how long the pipeline stands still, seconds, bytes, peak memory
    #[arg(long, conflicts_with = "train")]
    pub state: bool,

    /// Feed what nobody should send instead: most memory, longest record, and what is counted
    #[arg(long, conflicts_with_all = ["train", "state", "series"])]
    pub hostile: bool,

    /// One case of these, in this process
    #[arg(long, requires = "hostile", hide = true)]
    pub case: Option<String>,
}

/// Numbers that look like noise and are the same everywhere.
struct Noise(u64);

impl Noise {
    #[allow(clippy::cast_precision_loss)] // 53 bits
    fn unit(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Nearly normal: the sum of four uniform numbers.
    fn value(&mut self) -> f64 {
        50.0 + 4.0 * (self.unit() + self.unit() + self.unit() + self.unit() - 2.0)
    }
}

/// The command.
///
/// # Errors
/// When standard output is closed.
pub fn execute(args: &BenchArgs) -> Result<(), CommandError> {
    if args.train {
        return train();
    }
    if args.state {
        return states(args.series);
    }
    if args.hostile {
        return match &args.case {
            Some(name) => print(&format!("{}\n", hostile::one(name)?)),
            None => print(&table(&hostile::all()?)),
        };
    }
    let series = args.series.unwrap_or(10_000) as usize;
    print(&format!(
        "one core, {series} series that take turns; every number is the best of three\n\n"
    ))?;
    let mut rows = vec![["what", "per second", "ns each", ""].map(String::from).to_vec()];
    let mut row = |what: &str, ns: f64, note: String| {
        rows.push(vec![what.into(), format!("{:.0}", 1e9 / ns), format!("{ns:.0}"), note]);
    };
    for (format, payload) in [
        (Format::PlainJson, plain(7, 0, 51.25)),
        (Format::TelegrafJson, telegraf()),
    ] {
        let samples = if format == Format::TelegrafJson { 4.0 } else { 1.0 };
        let bytes = payload.len();
        row(
            &format!("decode {format}"),
            best(|| decode(format, &payload)) / samples,
            format!("samples, {bytes} bytes a record"),
        );
    }
    let bytes = SeriesModel::STATE_BYTES;
    row(
        "metric models, young",
        best(|| models(series, YOUNG)),
        format!("samples of series {YOUNG} points old, {bytes} bytes of model a series"),
    );
    row(
        "metric models, grown",
        best(|| models(GROWN_SERIES, GROWN)),
        format!("samples of {GROWN_SERIES} series {GROWN} points old: tails are fitted seldom by then"),
    );
    row("template miner", best(mine), "log lines of known templates".into());
    let (ns, state) = pipeline(series)?;
    row(
        "whole pipeline",
        ns,
        format!("JSON samples, {state} bytes of state a series, in a snapshot"),
    );
    let bytes = shipped(7, 0, &messages()[0]).len();
    row(
        "whole pipeline, logs",
        log_pipeline()?,
        format!("JSON log lines of {LOG_HOSTS} hosts, {bytes} bytes a record"),
    );
    print(&table(&rows))
}

fn states(series: Option<u32>) -> Result<(), CommandError> {
    let sizes = match series {
        Some(n) => vec![(n, 1), (n, 8)],
        None => vec![(10_000, 1), (100_000, 1), (1_000_000, 1), (1_000_000, 8)],
    };
    let head = [
        "series",
        "partitions",
        "frozen in",
        "a window",
        "while saving",
        "packed in",
        "state",
        "snapshot",
        "next, 1 % moving",
        "restored in",
        "peak saving",
        "peak restoring",
    ];
    let mut rows = vec![head.map(String::from).to_vec()];
    #[allow(clippy::cast_precision_loss)] // bytes
    let mb = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let peak = |p: Option<u64>| p.map_or_else(|| "not told".into(), mb);
    for (series, partitions) in sizes {
        let m = state::measure(series as usize, partitions)?;
        let seconds = |d: Duration| format!("{:.2} s", d.as_secs_f64());
        let window =
            |all: Duration, longest: Duration| format!("{} (longest record {})", seconds(all), seconds(longest));
        rows.push(vec![
            m.series.to_string(),
            m.partitions.to_string(),
            format!("{:.1} ms", m.freeze.as_secs_f64() * 1e3),
            window(m.calm, m.calm_longest),
            window(m.busy, m.busy_longest),
            seconds(m.pack),
            mb(m.raw_bytes as u64),
            mb(m.packed_bytes as u64),
            mb(m.next_bytes as u64),
            seconds(m.restore),
            peak(m.peak_saving),
            peak(m.peak_restoring),
        ]);
        tracing::info!(series, partitions, "measured");
    }
    print(&table(&rows))
}

fn train() -> Result<(), CommandError> {
    let m = training::measure()?;
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    #[allow(clippy::cast_precision_loss)] // bytes
    let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    print(&table(&[
        row(
            "read",
            format!("{:.0} samples a second", m.samples / m.reading.as_secs_f64()),
        ),
        row(
            "read and fit",
            format!(
                "{:.0} samples a second",
                m.samples / (m.reading + m.fitting).as_secs_f64()
            ),
        ),
        row("fit", format!("{:.1} s", m.fitting.as_secs_f64())),
        row(
            "peak memory",
            m.peak.map_or_else(|| "not told by this system".into(), megabytes),
        ),
        row(
            "restore a model",
            format!("{:.1} ms, {}", m.restore.as_secs_f64() * 1e3, megabytes(m.bytes)),
        ),
    ]))
}

fn best(mut measure: impl FnMut() -> f64) -> f64 {
    (0..3).map(|_| measure()).fold(f64::INFINITY, f64::min)
}

/// Nanoseconds of one call, over calls enough.
fn nanoseconds(mut step: impl FnMut()) -> f64 {
    let (began, mut calls) = (Instant::now(), 0u32);
    while began.elapsed() < LONG_ENOUGH {
        for _ in 0..256 {
            step();
        }
        calls += 256;
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
}

fn start() -> Timestamp {
    Timestamp::from_secs(1_700_000_000)
}

/// A sample as the prometheus-like producers write it, about 200 bytes.
fn plain(series: usize, window: usize, value: f64) -> Vec<u8> {
    let at = time::format_rfc3339(start() + i64::try_from(window).unwrap_or(0) * 10_000);
    let host = series / 20;
    format!(
        "{{\"timestamp\":\"{at}\",\"name\":\"node_disk_io_time_weighted_seconds\",\"value\":{value:.4},\"labels\":\
         {{\"host\":\"web-{host:05}\",\"device\":\"nvme{}n1\",\"region\":\"eu-central\",\"team\":\"payments\"}}}}",
        series % 20
    )
    .into_bytes()
}

fn telegraf() -> Vec<u8> {
    br#"{"fields":{"usage_idle":97.1,"usage_system":1.2,"usage_user":1.6,"usage_iowait":0.1},"name":"cpu","tags":{"cpu":"cpu3","host":"web-00017","region":"eu-central"},"timestamp":1700000000}"#.to_vec()
}

fn decode(format: Format, payload: &[u8]) -> f64 {
    let mut decoder = Decoder::new(format);
    nanoseconds(|| {
        let _ = black_box(decoder.decode(black_box(payload), &mut |input| {
            black_box(&input);
        }));
    })
}

fn models(series: usize, age: usize) -> f64 {
    let mut models = vec![SeriesModel::new(None); series];
    let mut noise = Noise(1);
    let (mut i, mut window) = (0, 0);
    let mut step = || {
        let at = start() + window * 10_000;
        black_box(models[i].score_learn(
            &Point {
                at,
                value: noise.value(),
            },
            Learning::Normal,
        ));
        i += 1;
        if i == series {
            (i, window) = (0, window + 1);
        }
    };
    for _ in 0..series * age {
        step();
    }
    nanoseconds(step)
}

/// Messages of known templates, 60 bytes on average.
fn messages() -> Vec<String> {
    let mut noise = Noise(2);
    (0..512)
        .map(|i| match i % 4 {
            0 => format!(
                "Received block blk_{:.0} of size {:.0} from /10.250.19.102",
                noise.unit() * 1e12,
                noise.unit() * 1e8
            ),
            1 => format!(
                "PacketResponder {} for block blk_{:.0} terminating",
                i % 3,
                noise.unit() * 1e12
            ),
            2 => format!(
                "connection from 10.0.{}.{}:5{i} accepted by worker {}",
                i % 7,
                i % 200,
                i % 16
            ),
            _ => format!("checkpoint {i} written in {:.3} s, {} pages", noise.unit(), i * 31),
        })
        .collect()
}

fn mine() -> f64 {
    let mut miner = Miner::new();
    let lines = messages();
    let mut i = 0;
    nanoseconds(|| {
        black_box(miner.mine(&lines[i], Some(Level::Info)));
        i = (i + 1) % lines.len();
    })
}

/// JSON samples in, signals and events out: nanoseconds a sample, and bytes of snapshot a series.
fn pipeline(series: usize) -> Result<(f64, usize), CommandError> {
    let mut noise = Noise(3);
    let mut records = Vec::with_capacity(series * WINDOWS);
    for window in 0..WINDOWS {
        for i in 0..series {
            records.push((window, plain(i, window, noise.value())));
        }
    }
    through(Format::PlainJson, &records)
}

/// A log line as a shipper writes it, about 230 bytes.
fn shipped(host: usize, window: usize, message: &str) -> Vec<u8> {
    let at = time::format_rfc3339(start() + i64::try_from(window).unwrap_or(0) * 10_000);
    format!(
        "{{\"@timestamp\":\"{at}\",\"log.level\":\"INFO\",\"message\":\"{message}\",\"service\":{{\"name\":\"store\"}},\
         \"host\":{{\"name\":\"web-{host:05}\"}},\"ecs.version\":\"1.2.0\",\"process.thread.name\":\"worker-{}\"}}",
        host % 16
    )
    .into_bytes()
}

/// JSON log lines in, signals and events out: nanoseconds a line.
fn log_pipeline() -> Result<f64, CommandError> {
    let messages = messages();
    let mut records = Vec::with_capacity(LOG_HOSTS * LOG_LINES * WINDOWS);
    for window in 0..WINDOWS {
        for i in 0..LOG_HOSTS * LOG_LINES {
            let message = &messages[(window * 7 + i) % messages.len()];
            records.push((window, shipped(i % LOG_HOSTS, window, message)));
        }
    }
    Ok(through(Format::LogJson, &records)?.0)
}

/// Records, each of a window, through both stages over the log in memory: nanoseconds a record, and bytes of snapshot a series.
fn through(format: Format, payloads: &[(usize, Vec<u8>)]) -> Result<(f64, usize), CommandError> {
    let refused = |e: &dyn std::fmt::Display| CommandError::new(Exit::Config, e.to_string());
    let rules = Rules::new(&FailureConfig::default()).map_err(|e| refused(&e))?;
    let source = SourceConfig::new("input", format, &["host"]);
    let config = Arc::new(EngineConfig::new(vec![source], rules));
    let mut best_ns = f64::INFINITY;
    let mut state = 0;
    for _ in 0..3 {
        let of = TopicPartition {
            topic: TopicId(1),
            partition: 0,
        };
        let record = |(window, payload): &(usize, Vec<u8>)| StoredRecord {
            of,
            timestamp: Some(start() + i64::try_from(*window).unwrap_or(0) * 10_000),
            key: None,
            payload: Some(payload.clone()),
        };
        let records: Vec<StoredRecord> = payloads.iter().map(record).collect();
        let mut topics = MemoryTopic::new(records, 1);
        let mut engine = Engine::new(Arc::clone(&config));
        let mut log = MemoryLog::new(&mut topics, config.tick_every_ms, || 10_000).committing(16, u64::MAX);
        let began = Instant::now();
        let ran = run(&mut log, &mut engine, &mut |report| {
            if let EpochReport::Committed { saved, series, .. } = report
                && saved.snapshots > 0
            {
                state = usize::try_from(saved.state_bytes).unwrap_or(usize::MAX) / series.max(1);
            }
        });
        if ran.is_err() {
            return Err(CommandError::new(Exit::Data, "the log in memory failed"));
        }
        #[allow(clippy::cast_precision_loss)] // far below 2^53
        let ns = began.elapsed().as_secs_f64() * 1e9 / payloads.len() as f64;
        best_ns = best_ns.min(ns);
    }
    Ok((best_ns, state))
}
