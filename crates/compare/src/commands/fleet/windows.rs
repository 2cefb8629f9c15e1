//! Raw windows of a recorded fleet, as the rivals see them: means of gauges, increases of counters, lines by level.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use foreshock_domain::{Millis, Timestamp};
use foreshock_history::open::{LineRead, open};
use serde::Deserialize;

/// Endings of names of counters in these recordings.
const COUNTERS: [&str; 6] = [
    "_total",
    "cpu_time_user",
    "cpu_time_system",
    "_faults",
    "voluntary_context_switches",
    "involuntary_context_switches",
];
/// Longest line.
const LINE_BYTES_MAX: usize = 1 << 20;

/// One window of one host.
#[derive(Clone, Debug)]
pub struct Window {
    /// Its end.
    pub end: Timestamp,
    /// By [`Fleet::series`]; NaN where missing.
    pub values: Vec<f64>,
    /// Lines of level warning, and of error or worse.
    pub warnings: f64,
    pub errors: f64,
    /// All lines.
    pub lines: f64,
}

/// All windows.
#[derive(Debug, Default)]
pub struct Fleet {
    /// Names of series, sorted.
    pub series: Vec<String>,
    /// By host, in order of time.
    pub hosts: BTreeMap<String, Vec<Window>>,
}

#[derive(Deserialize)]
struct Metric {
    name: String,
    tags: BTreeMap<String, String>,
    fields: BTreeMap<String, f64>,
    timestamp: i64,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "@timestamp")]
    at: String,
    #[serde(default)]
    level: Option<String>,
    host: String,
}

/// Sums and counts of one window.
#[derive(Default)]
struct Sums {
    gauges: BTreeMap<u32, (f64, f64)>,
    lines: [f64; 3],
}

impl Fleet {
    /// Reads `metrics` and `logs`.
    ///
    /// # Errors
    /// Where a file can't be read or a line is not what the lab writes.
    pub fn read(metrics: &Path, logs: &Path, width_ms: Millis) -> Result<Self> {
        let mut names: BTreeMap<String, u32> = BTreeMap::new();
        let mut windows: BTreeMap<(String, i64), Sums> = BTreeMap::new();
        let mut last: BTreeMap<(String, u32), f64> = BTreeMap::new();
        each_line(metrics, |bytes| {
            let m: Metric = serde_json::from_slice(bytes)?;
            let host = m.tags.get("host").cloned().unwrap_or_default();
            let sums = windows
                .entry((host.clone(), (m.timestamp * 1_000).div_euclid(width_ms)))
                .or_default();
            for (field, value) in m.fields {
                let name = format!("{}_{field}", m.name);
                let is_counter = COUNTERS.iter().any(|c| name.ends_with(c));
                let next = u32::try_from(names.len())?;
                let id = *names.entry(name).or_insert(next);
                let value = if is_counter {
                    // After a restart a counter begins anew.
                    let before = last.insert((host.clone(), id), value);
                    before.map_or(0.0, |b| if value >= b { value - b } else { value })
                } else {
                    value
                };
                let cell = sums.gauges.entry(id).or_default();
                cell.0 += value;
                cell.1 += if is_counter { 0.0 } else { 1.0 };
            }
            Ok(())
        })?;
        each_line(logs, |bytes| {
            let line: Line = serde_json::from_slice(bytes)?;
            let at = foreshock_wire::time::parse(&line.at).context("@timestamp: expected a time")?;
            let sums = windows
                .entry((line.host, at.as_millis().div_euclid(width_ms)))
                .or_default();
            match line.level.as_deref().map(str::to_ascii_lowercase).as_deref() {
                Some("warn" | "warning") => sums.lines[0] += 1.0,
                Some("error" | "fatal") => sums.lines[1] += 1.0,
                _ => {}
            }
            sums.lines[2] += 1.0;
            Ok(())
        })?;
        let order: Vec<(String, u32)> = names.into_iter().collect();
        let mut fleet = Self {
            series: order.iter().map(|(name, _)| name.clone()).collect(),
            hosts: BTreeMap::new(),
        };
        for ((host, index), sums) in windows {
            let value = |id: u32| {
                sums.gauges
                    .get(&id)
                    .map_or(f64::NAN, |(sum, n)| if *n > 0.0 { sum / n } else { *sum })
            };
            fleet.hosts.entry(host).or_default().push(Window {
                end: Timestamp::from_millis((index + 1) * width_ms),
                values: order.iter().map(|(_, id)| value(*id)).collect(),
                warnings: sums.lines[0],
                errors: sums.lines[1],
                lines: sums.lines[2],
            });
        }
        Ok(fleet)
    }

    /// Leaves out windows that end later.
    pub fn end_at(&mut self, last: Timestamp) {
        for windows in self.hosts.values_mut() {
            windows.retain(|w| w.end <= last);
        }
        self.hosts.retain(|_, windows| !windows.is_empty());
    }

    /// Place of a series.
    #[must_use]
    pub fn place(&self, name: &str) -> Option<usize> {
        self.series.iter().position(|s| s == name)
    }
}

fn each_line(path: &Path, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut opened = open(path).with_context(|| path.display().to_string())?;
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        number += 1;
        match opened.read_line(&mut line, LINE_BYTES_MAX)? {
            LineRead::End => return Ok(()),
            LineRead::Line | LineRead::TooLong => {
                take(&line).with_context(|| format!("{} line {number}", path.display()))?;
            }
        }
    }
}
