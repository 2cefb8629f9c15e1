//! What input from somebody hostile, or from a producer gone mad, does to one partition of each topic at the default limits: how much
//! memory it takes at most, how fast it is read, and what is counted. Without a broker: what the client library holds comes on top.
//!
//! Each case runs in a process of its own, so that its peak is its own.

use std::fmt::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foreshock_engine::{
    Assignment, Counters, Destination, Engine, EngineConfig, Record, SourceConfig, TopicId, TopicPartition,
};
use foreshock_failure::{FailureConfig, Rules};
use foreshock_wire::{Format, time};

use super::{Noise, plain, start};
use crate::error::{CommandError, Exit};
use crate::memory;

const METRICS: TopicId = TopicId(1);
const LOGS: TopicId = TopicId(2);
const MIB: usize = 1 << 20;
/// Records between two epochs, as the service has them twice a second.
const EPOCH: i64 = 50_000;
/// Counters that say how much was read, and not what was done about it.
const PLAIN: [&str; 6] = [
    "records",
    "samples",
    "lines",
    "series_scored",
    "windows_sent",
    "signals_sent",
];

/// One kind of attack.
struct Case {
    name: &'static str,
    about: &'static str,
    inflict: fn(&mut Victim),
}

const CASES: [Case; 12] = [
    Case {
        name: "series",
        about: "a million new series in a minute",
        inflict: |victim| {
            for i in 0..1_000_000 {
                let at = at(i / 17_000);
                victim.sample(&format!(
                    "{{\"timestamp\":\"{at}\",\"name\":\"requests_total\",\"value\":1,\"labels\":{{\"host\":\"web-{}\",\"user\":\"u{i}\"}}}}",
                    i % 100
                ));
            }
        },
    },
    Case {
        name: "hosts",
        about: "a million new hosts in a minute",
        inflict: |victim| {
            for i in 0..1_000_000 {
                let at = at(i / 17_000);
                victim.sample(&format!(
                    "{{\"timestamp\":\"{at}\",\"name\":\"up\",\"value\":1,\"labels\":{{\"host\":\"pod-{i}\"}}}}"
                ));
            }
        },
    },
    Case {
        name: "templates",
        about: "a million kinds of log line in a minute, of one host",
        inflict: |victim| {
            let mut noise = Noise(11);
            for i in 0..1_000_000 {
                let words: Vec<String> = (0..6).map(|_| word(&mut noise)).collect();
                victim.line(i / 17_000, "web-1", &words.join(" "));
            }
        },
    },
    Case {
        name: "writers",
        about: "the same of 20,000 hosts",
        inflict: |victim| {
            let mut noise = Noise(12);
            for i in 0..1_000_000 {
                let words: Vec<String> = (0..6).map(|_| word(&mut noise)).collect();
                victim.line(i / 17_000, &format!("pod-{}", i % 20_000), &words.join(" "));
            }
        },
    },
    Case {
        name: "long",
        about: "100 samples and 100 log lines of 10 MiB",
        inflict: |victim| {
            let long = "x".repeat(10 * MIB);
            for i in 0..100 {
                let at = at(i);
                victim.sample(&format!(
                    "{{\"timestamp\":\"{at}\",\"name\":\"up\",\"value\":1,\"labels\":{{\"host\":\"web-1\",\"note\":\"{long}\"}}}}"
                ));
                victim.line(i, "web-1", &long);
            }
        },
    },
    Case {
        name: "deep",
        about: "100 samples and 100 log lines of a million brackets",
        inflict: |victim| {
            let deep = "[".repeat(1_000_000);
            for _ in 0..100 {
                victim.sample(&deep);
                victim.sample(&format!("{{\"labels\":{deep}"));
                victim.log(&format!("{{\"message\":{deep}"));
            }
        },
    },
    Case {
        name: "wide",
        about: "100 samples and 100 log lines of 100,000 labels",
        inflict: |victim| {
            let mut labels = String::new();
            for i in 0..100_000 {
                let _ = write!(labels, ",\"label_{i}\":\"v\"");
            }
            for i in 0..100 {
                let at = at(i);
                victim.sample(&format!(
                    "{{\"timestamp\":\"{at}\",\"name\":\"up\",\"value\":1,\"labels\":{{\"host\":\"web-1\"{labels}}}}}"
                ));
                victim.log(&format!(
                    "{{\"@timestamp\":\"{at}\",\"host\":\"web-1\",\"message\":\"hello\"{labels}}}"
                ));
            }
        },
    },
    Case {
        name: "garbage",
        about: "a million records that can't be read",
        inflict: |victim| {
            for i in 0..1_000_000 {
                victim.sample(&format!("\u{1b}[31m{i}"));
            }
        },
    },
    Case {
        name: "clocks",
        about: "a million samples of a thousand hosts whose clocks jump between 1971, now and 2099",
        inflict: |victim| {
            for i in 0..1_000_000_i64 {
                let at = match i % 7 {
                    0 => "1971-02-03T04:05:06Z".to_owned(),
                    1 => "2099-12-31T23:59:59Z".to_owned(),
                    2 => at(i / 1_000 + 3 * 365 * 86_400),
                    _ => at(i / 1_000),
                };
                victim.sample(&format!(
                    "{{\"timestamp\":\"{at}\",\"name\":\"up\",\"value\":1,\"labels\":{{\"host\":\"web-{}\"}}}}",
                    i % 1_000
                ));
            }
        },
    },
    Case {
        name: "silence",
        about: "20,000 series of a thousand hosts, silent for thirty days, and back",
        inflict: |victim| {
            let mut noise = Noise(13);
            for window in (0..30).chain((0..30).map(|w| w + 30 * 8_640)) {
                for series in 0..20_000 {
                    let payload = plain(series, window, noise.value());
                    victim.take(METRICS, &payload);
                }
            }
        },
    },
    Case {
        name: "lag",
        about: "metrics of 2,000 hosts for ten hours, while logs stand still",
        inflict: |victim| {
            let mut noise = Noise(14);
            victim.line(0, "web-1", "here I am");
            for window in 0..3_600_i64 {
                for host in 0..2_000 {
                    let (at, value) = (at(window * 10), noise.value());
                    // Every tenth is odd, so that its window carries signals.
                    let value = if window > 300 && host % 10 == 0 {
                        value * 3.0
                    } else {
                        value
                    };
                    victim.sample(&format!(
                        "{{\"timestamp\":\"{at}\",\"name\":\"load\",\"value\":{value:.3},\"labels\":{{\"host\":\"pod-{host}\"}}}}"
                    ));
                }
            }
        },
    },
    Case {
        name: "usual",
        about: "for comparison: 200,000 series of 10,000 hosts, as they should be",
        inflict: |victim| {
            let mut noise = Noise(15);
            for window in 0..40 {
                for series in 0..200_000 {
                    let payload = plain(series, window, noise.value());
                    victim.take(METRICS, &payload);
                }
            }
        },
    },
];

/// Seconds after the start, as text.
fn at(second: i64) -> String {
    time::format_rfc3339(start() + second * 1_000)
}

/// Six letters: nothing that looks like a variable.
fn word(noise: &mut Noise) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 25
    let letter = |noise: &mut Noise| char::from(b'a' + (noise.unit() * 26.0) as u8);
    (0..6).map(|_| letter(noise)).collect()
}

/// Both stages, a partition of each topic, at the default limits.
struct Victim {
    engine: Engine,
    /// Next offset of signals, metrics and logs.
    next: [i64; 3],
    counters: Counters,
    epochs: i64,
    /// The longest that one record took, and the largest that was written.
    longest: Duration,
    largest: usize,
    since_epoch: i64,
}

fn failed(e: &dyn std::fmt::Display) -> CommandError {
    CommandError::new(Exit::Data, e.to_string())
}

impl Victim {
    fn new() -> Result<Self, CommandError> {
        let rules = Rules::new(&FailureConfig::default()).map_err(|e| failed(&e))?;
        let sources = vec![
            SourceConfig::new("metrics", Format::PlainJson, &["host"]),
            SourceConfig::new("logs", Format::Log, &["host"]),
        ];
        let mut engine = Engine::new(Arc::new(EngineConfig::new(sources, rules)));
        for topic in [TopicId::SIGNALS, METRICS, LOGS] {
            let assignment = Assignment {
                of: TopicPartition { topic, partition: 0 },
                snapshot: None,
                committed: 0,
                first: 0,
            };
            engine.assign(assignment).map_err(|e| failed(&e))?;
        }
        Ok(Self {
            engine,
            next: [0; 3],
            counters: Counters::default(),
            epochs: 0,
            longest: Duration::ZERO,
            largest: 0,
            since_epoch: 0,
        })
    }

    fn sample(&mut self, payload: &str) {
        self.take(METRICS, payload.as_bytes());
    }

    fn log(&mut self, payload: &str) {
        self.take(LOGS, payload.as_bytes());
    }

    fn line(&mut self, second: i64, host: &str, message: &str) {
        let at = at(second);
        self.log(&format!(
            "{{\"@timestamp\":\"{at}\",\"level\":\"INFO\",\"host\":\"{host}\",\"message\":\"{message}\"}}"
        ));
    }

    fn take(&mut self, topic: TopicId, payload: &[u8]) {
        let began = Instant::now();
        self.apply(topic, payload);
        self.longest = self.longest.max(began.elapsed());
        self.since_epoch += 1;
        if self.since_epoch >= EPOCH || self.engine.epoch_is_full() {
            self.epoch();
        }
    }

    fn apply(&mut self, topic: TopicId, payload: &[u8]) {
        let next = &mut self.next[usize::from(topic.0)];
        *next += 1;
        self.engine.apply(&Record {
            from: TopicPartition { topic, partition: 0 },
            offset: *next - 1,
            timestamp: None,
            key: None,
            payload: Some(payload),
        });
    }

    /// What was written is committed, and signals come back.
    fn epoch(&mut self) {
        self.since_epoch = 0;
        self.epochs += 1;
        self.engine.tick(start() + self.epochs * 500);
        let (epoch, counters) = self.engine.take_epoch(false);
        self.counters += counters;
        for output in epoch.outputs {
            self.largest = self.largest.max(output.value.len());
            if matches!(output.to, Destination::Signals(_)) {
                self.apply(TopicId::SIGNALS, &output.value);
            }
        }
    }
}

/// Runs one case in this process, and says what came of it in a line: seconds, records a second, longest record, peak, counters.
pub(super) fn one(name: &str) -> Result<String, CommandError> {
    let case = CASES.iter().find(|case| case.name == name).ok_or_else(|| {
        let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        let expected = names.join(", ");
        CommandError::new(Exit::Usage, format!("--case {name}: expected one of {expected}"))
    })?;
    let mut victim = Victim::new()?;
    memory::forget_peak();
    let began = Instant::now();
    (case.inflict)(&mut victim);
    victim.epoch();
    victim.epoch();
    let took = began.elapsed();
    let told: Vec<String> = victim
        .counters
        .entries()
        .into_iter()
        .filter(|(name, count)| *count > 0 && !PLAIN.contains(name))
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    #[allow(clippy::cast_precision_loss)] // bytes
    let peak = memory::peak().map_or_else(|| "not told".into(), |bytes| format!("{:.0} MB", bytes as f64 / 1e6));
    Ok(format!(
        "{}\t{:.1} s\t{:.0} ms\t{:.0} kB\t{peak}\t{}",
        case.about,
        took.as_secs_f64(),
        victim.longest.as_secs_f64() * 1e3,
        victim.largest as f64 / 1e3,
        told.join(", ")
    ))
}

/// Runs all, each in a process of its own.
pub(super) fn all() -> Result<Vec<Vec<String>>, CommandError> {
    let program = std::env::current_exe().map_err(|e| failed(&e))?;
    let mut rows = vec![
        [
            "input",
            "took",
            "longest record",
            "largest written",
            "peak memory",
            "counted",
        ]
        .map(String::from)
        .to_vec(),
    ];
    for case in &CASES {
        let done = Command::new(&program)
            .args(["bench", "--hostile", "--case", case.name])
            .output()
            .map_err(|e| failed(&e))?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            return Err(CommandError::new(
                Exit::Data,
                format!("{}: {}: {said}", case.about, done.status),
            ));
        }
        let line = String::from_utf8_lossy(&done.stdout);
        rows.push(line.trim_end().split('\t').map(str::to_owned).collect());
        tracing::info!(case = case.name, "measured");
    }
    Ok(rows)
}
