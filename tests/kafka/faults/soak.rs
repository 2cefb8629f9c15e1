//! What a process holds over an hour of faults: resident memory, descriptors, threads. None may grow without end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(2);
/// Growth in an hour that is no leak, as a share of the middle value, and as a number for what is small.
const GROWTH_SHARE: f64 = 0.15;
const GROWTH_COUNT: f64 = 8.0;

#[derive(Clone, Copy)]
struct Sample {
    second: f64,
    rss_mib: f64,
    descriptors: f64,
    threads: f64,
}

/// Samples by process.
#[derive(Default)]
pub struct Soak {
    samples: Mutex<BTreeMap<String, Vec<Sample>>>,
}

impl Soak {
    /// Samples these processes until the stream ends.
    pub fn watch(&self, ended: &AtomicBool, processes: &[(String, u32)]) {
        let began = Instant::now();
        while !ended.load(Ordering::Relaxed) {
            for (name, pid) in processes {
                if let Some(sample) = sample(*pid, began.elapsed().as_secs_f64()) {
                    let mut all = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
                    all.entry(name.clone()).or_default().push(sample);
                }
            }
            std::thread::sleep(EVERY);
        }
    }

    /// Writes `soak.csv` and `soak.svg`.
    pub fn write(&self, folder: &Path) {
        let all = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let mut csv = String::from("process,second,rss_mib,descriptors,threads\n");
        for (name, samples) in &*all {
            for s in samples {
                let _ = writeln!(
                    csv,
                    "{name},{:.1},{:.2},{},{}",
                    s.second, s.rss_mib, s.descriptors, s.threads
                );
            }
        }
        fs::write(folder.join("soak.csv"), csv).unwrap();
        fs::write(folder.join("soak.svg"), plot(&all)).unwrap();
    }

    /// # Panics
    /// Where something grows, by the median of all slopes after the first half.
    pub fn assert_flat(&self) {
        let all = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(!all.is_empty(), "nothing was sampled");
        for (name, samples) in &*all {
            let late = &samples[samples.len() / 2..];
            assert!(late.len() >= 30, "{name}: {} samples say nothing", late.len());
            type Of = fn(&Sample) -> f64;
            let quantities: [(&str, Of); 3] = [
                ("resident MiB", |s| s.rss_mib),
                ("descriptors", |s| s.descriptors),
                ("threads", |s| s.threads),
            ];
            for (what, of) in quantities {
                let points: Vec<(f64, f64)> = late.iter().map(|s| (s.second, of(s))).collect();
                let hourly = 3_600.0 * slope(&points);
                let middle = median(points.iter().map(|p| p.1).collect());
                println!("{name}: {middle:.1} {what}, {hourly:+.2} an hour");
                let bound = (GROWTH_SHARE * middle).max(GROWTH_COUNT);
                assert!(
                    hourly < bound,
                    "{name}: {what} grow by {hourly:.2} an hour, from {middle:.1}"
                );
            }
        }
    }
}

fn sample(pid: u32, second: f64) -> Option<Sample> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find(|l| l.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    Some(Sample {
        second,
        rss_mib: field("VmRSS:")? / 1_024.0,
        threads: field("Threads:")?,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as f64,
    })
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(0.0)
}

/// Theil–Sen: the median of the slopes of all pairs, of at most some hundred points.
fn slope(points: &[(f64, f64)]) -> f64 {
    let every = points.len().div_ceil(400).max(1);
    let points: Vec<_> = points.iter().step_by(every).collect();
    let mut slopes = Vec::new();
    for (i, a) in points.iter().enumerate() {
        slopes.extend(points[i + 1..].iter().map(|b| (b.1 - a.1) / (b.0 - a.0)));
    }
    median(slopes)
}

/// Resident memory over time, one line a process.
fn plot(all: &BTreeMap<String, Vec<Sample>>) -> String {
    let (width, height, left, bottom) = (720.0, 260.0, 60.0, 40.0);
    let samples = || all.values().flatten();
    let last = samples().map(|s| s.second).fold(1.0, f64::max);
    let most = samples().map(|s| s.rss_mib).fold(1.0, f64::max) * 1.1;
    let x = |second: f64| left + (width - left - 10.0) * second / last;
    let y = |mib: f64| 10.0 + (height - bottom - 10.0) * (1.0 - mib / most);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for part in 0..=4 {
        let share = f64::from(part) / 4.0;
        let (mib, minute) = (most * share, last * share / 60.0);
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" x2=\"{0}\" y1=\"{1:.1}\" y2=\"{1:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{2}\" y=\"{1:.1}\" text-anchor=\"end\">{mib:.0} MiB</text>\
             <text x=\"{3:.1}\" y=\"{4}\" text-anchor=\"middle\">{minute:.0} min</text>",
            width - 10.0,
            y(mib),
            left - 6.0,
            x(last * share),
            height - 22.0,
        );
    }
    for ((i, (name, samples)), colour) in all.iter().enumerate().zip(["#06c", "#c60", "#283", "#93c"]) {
        let points: Vec<String> = samples
            .iter()
            .map(|s| format!("{:.1},{:.1}", x(s.second), y(s.rss_mib)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" points=\"{}\"/>\
             <text x=\"{}\" y=\"{}\" fill=\"{colour}\">{name}</text>",
            points.join(" "),
            left + 140.0 * i as f64,
            height - 4.0,
        );
    }
    svg + "</svg>\n"
}

#[test]
fn the_slope_sees_a_leak_through_noise_and_none_where_there_is_none() {
    let noise = |i: u32| f64::from(i * 7_919 % 13) - 6.0;
    let points = |leak: f64| -> Vec<(f64, f64)> {
        let value = |i: u32| 100.0 + leak * f64::from(i) + noise(i) + if i.is_multiple_of(50) { 80.0 } else { 0.0 };
        (0..600).map(|i| (f64::from(i), value(i))).collect()
    };
    assert!(slope(&points(0.0)).abs() < 1e-3);
    assert!((slope(&points(0.01)) - 0.01).abs() < 1e-3);
}
