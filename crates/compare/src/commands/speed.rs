//! `speed`: rows a second on one thread, and bytes a series; each measurement in a process of its own, one after the other.

use std::env;
use std::fs;
use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use foreshock_domain::Timestamp;
use serde::{Deserialize, Serialize};

use crate::corpus::injected::{Draws, Family, base};
use crate::rivals::{Method, OneSeries, Scorer, Shape};
use crate::selection::Selection;
use crate::table::Table;

/// Rows that every detector has seen before it is measured, so that windows are full and models trained.
const WARM_UP: usize = 2_500;
/// Rows of each base series.
const ROWS: usize = 5_000;
/// Rows that they have seen at least, however many series there are.
const WARM_UP_LEAST: usize = 300;
const BUDGET: Duration = Duration::from_secs(1);
/// Most memory that a run may be expected to take.
const BYTES_MAX: u64 = 8 << 30;
const INTERVAL_MS: i64 = 10_000;

/// Options of `speed`.
#[derive(Debug, Args)]
pub struct Options {
    /// Series that are scored in turn, separated by commas
    #[arg(long, value_delimiter = ',', default_values_t = [1usize, 1_000, 100_000])]
    pub series: Vec<usize>,
    /// Which methods
    #[command(flatten)]
    pub selection: Selection,
    /// Measures in this process; without it each measurement has a process of its own, so that none inherits memory
    #[arg(long, hide = true)]
    pub in_process: bool,
}

/// One method over so many series.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Speed {
    /// Name of the method.
    pub method: String,
    /// Series scored in turn.
    pub series: usize,
    /// Score and learn, rows a second; `None` where the memory of this machine would not do.
    pub rows_per_s: Option<f64>,
    /// Resident bytes a series, by what the process grew; `None` where the system does not tell.
    pub bytes: Option<u64>,
}

/// Measures each method over each number of series.
///
/// # Errors
/// When a process can't be started, or fails.
pub fn measure(options: &Options) -> Result<Vec<Speed>> {
    let mut out = Vec::new();
    for method in options.selection.methods().into_iter().filter(|&m| m != Method::Chance) {
        let mut bytes_each = 0;
        for &series in &options.series {
            let speed = if bytes_each * series as u64 > BYTES_MAX {
                Speed {
                    method: method.name().to_owned(),
                    series,
                    rows_per_s: None,
                    bytes: None,
                }
            } else if options.in_process {
                run(method, series)
            } else {
                in_a_process(method, series)?
            };
            bytes_each = speed.bytes.unwrap_or(bytes_each);
            out.push(speed);
        }
    }
    Ok(out)
}

fn in_a_process(method: Method, series: usize) -> Result<Speed> {
    let name = method.to_possible_value().context("a method has a name")?;
    let output = Command::new(env::current_exe()?)
        .args(["speed", "--json", "--in-process", "--methods", name.get_name()])
        .args(["--series", &series.to_string()])
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{} over {series} series: {errors}",
        method.name()
    );
    let speeds: Vec<Speed> = serde_json::from_slice(&output.stdout)?;
    speeds.into_iter().next().context("one measurement")
}

fn run(method: Method, series: usize) -> Speed {
    let values: Vec<Vec<f64>> = Family::ALL
        .iter()
        .map(|&family| base(family, ROWS, &mut Draws::new(1, &["speed", family.name()])).values)
        .collect();
    let before = resident_bytes();
    let shape = Shape {
        metrics: 1,
        period: None,
    };
    let scorer = || match method {
        Method::Foreshock => Box::new(OneSeries::default()),
        rival => rival.scorer(shape),
    };
    let mut scorers: Vec<Box<dyn Scorer>> = (0..series).map(|_| scorer()).collect();
    // Many series warm up as far as the time allows.
    let warm_up = Instant::now();
    let mut row = 0;
    while row < WARM_UP && (row < WARM_UP_LEAST || warm_up.elapsed() < 5 * BUDGET) {
        step(&mut scorers, &values, row);
        row += 1;
    }
    let grown = resident_bytes()
        .zip(before)
        .map(|(after, before)| after.saturating_sub(before) / series as u64);
    let begin = Instant::now();
    let mut rounds = 0u32;
    while rounds == 0 || begin.elapsed() < BUDGET {
        step(&mut scorers, &values, row);
        row += 1;
        rounds += 1;
    }
    let rows = f64::from(rounds) * series as f64;
    Speed {
        method: method.name().to_owned(),
        series,
        rows_per_s: Some(rows / begin.elapsed().as_secs_f64()),
        bytes: grown,
    }
}

fn step(scorers: &mut [Box<dyn Scorer>], values: &[Vec<f64>], row: usize) {
    let at = Timestamp::from_secs(1_700_000_000) + row as i64 * INTERVAL_MS;
    for (scorer, values) in scorers.iter_mut().zip(values.iter().cycle()) {
        black_box(scorer.score_learn(at, &[values[row % ROWS]]));
    }
}

/// Resident memory of this process, where the system is Linux.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim()
        .trim_end_matches("kB")
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kb| kb << 10)
}

/// A row a method and number of series, with ratios to ours.
#[must_use]
pub fn table(results: &[Speed]) -> String {
    let mut table = Table::new(&["method", "series", "rows/s", "of ours", "bytes a series", "of ours"]);
    for r in results {
        let ours = results
            .iter()
            .find(|o| o.method == Method::Foreshock.name() && o.series == r.series);
        let ratio = |x: Option<f64>, ours: Option<f64>| match (x, ours) {
            (Some(x), Some(ours)) if ours > 0.0 => format!("{:.3}", x / ours),
            _ => "–".to_owned(),
        };
        let bytes = |s: &Speed| s.bytes.map(|b| b as f64);
        table.row(vec![
            r.method.clone(),
            r.series.to_string(),
            r.rows_per_s
                .map_or_else(|| "too large".to_owned(), |x| format!("{x:.0}")),
            ratio(r.rows_per_s, ours.and_then(|o| o.rows_per_s)),
            r.bytes.map_or_else(|| "–".to_owned(), |b| b.to_string()),
            ratio(bytes(r), ours.and_then(bytes)),
        ]);
    }
    table.to_string()
}
