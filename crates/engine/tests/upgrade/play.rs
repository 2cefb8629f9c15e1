//! Three hosts that send metrics and lines, in which one fails, one burns its error budget and one grows odd: always the same. It is
//! played by each version that leaves a state behind, so it says nothing that only one of them understands.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;

use foreshock_domain::{SignalRecord, Timestamp};
use foreshock_engine::{
    Assignment, Destination, Engine, EngineConfig, Output, Record, Snapshot, SourceConfig, TopicId, TopicPartition,
};
use foreshock_failure::{FailureConfig, Rules};
use foreshock_stats::AlarmBudget;
use foreshock_wire::{Format, signals};

/// Metrics, lines, and the signals that come of both.
const TOPICS: [TopicId; 3] = [TopicId(1), TopicId(2), TopicId::SIGNALS];
const START: i64 = 1_760_000_000;
/// Seconds of a window.
const WIDTH: i64 = 10;

const RULES: &str = r#"
[[slo]]
name = "availability"
objective = 0.99
errors = "errors_total"
total = "requests_total"

[[probe]]
name = "probe"
series = "up"
down = "== 0"
"#;

/// An engine, its input and signals topics, and what it told.
pub struct Play {
    pub engine: Engine,
    /// Offsets of the next records, as [`TOPICS`].
    next: [i64; 3],
    /// Every signal of a metric: when, whose, which, and how odd. The last is told to a millionth.
    pub signals: String,
    /// Every event: what, of which incident, its number there, whose, and of which class.
    pub events: String,
}

fn of(topic: TopicId) -> TopicPartition {
    TopicPartition { topic, partition: 0 }
}

/// Those of metrics and of lines.
pub fn sources() -> Vec<SourceConfig> {
    let source = |topic, format| SourceConfig::new(topic, format, &["host"]);
    vec![source("metrics", Format::PlainJson), source("logs", Format::LogJson)]
}

fn engine() -> Engine {
    let rules: FailureConfig = toml::from_str(RULES).expect("valid rules");
    let mut config = EngineConfig::new(sources(), Rules::new(&rules).expect("valid rules"));
    config.alarms.budget = AlarmBudget {
        false_alarms_per_day: 48.0,
    };
    Engine::new(Arc::new(config))
}

impl Play {
    /// From these states, in the order of [`TOPICS`], or from the beginning.
    pub fn new(states: Option<Vec<Snapshot>>) -> Self {
        let (mut engine, mut next) = (engine(), [0; 3]);
        let mut states = states.into_iter().flatten();
        for (topic, next) in TOPICS.into_iter().zip(&mut next) {
            let snapshot = states.next();
            *next = snapshot.as_ref().map_or(0, |s| s.offset);
            let assignment = Assignment {
                of: of(topic),
                snapshot,
                committed: *next,
                first: 0,
            };
            engine.assign(assignment).expect("a state that can be read");
        }
        Self {
            engine,
            next,
            signals: String::new(),
            events: String::new(),
        }
    }

    /// All states as of now, in the order of [`TOPICS`].
    pub fn states(&mut self) -> Vec<Snapshot> {
        let (mut epoch, _) = self.engine.take_epoch(true);
        assert!(
            epoch.outputs.is_empty(),
            "what was told is told before the state is taken"
        );
        let mut state = |topic| {
            let place = epoch.states.iter().position(|(from, _)| *from == of(topic));
            epoch.states.swap_remove(place.expect("every partition moved")).1
        };
        let all = TOPICS.map(&mut state);
        all.map(|frozen| frozen.encode().expect("memory")).into()
    }

    /// What comes in these windows.
    pub fn run(&mut self, windows: std::ops::Range<i64>) {
        for window in windows {
            let at = START + window * WIDTH;
            for host in 1..=3 {
                for (name, value) in metrics(host, window) {
                    let labels = format!(r#"{{"host":"web-{host}"}}"#);
                    let sample = format!(r#"{{"timestamp":{at},"name":"{name}","value":{value},"labels":{labels}}}"#);
                    self.read(0, at, &sample);
                }
                for line in lines(host, window) {
                    let time = (at + 1) * 1_000;
                    let line =
                        format!(r#"{{"timestamp":{time},"level":"info","host":"web-{host}","message":"{line}"}}"#);
                    self.read(1, at, &line);
                }
            }
            self.engine.tick(Timestamp::from_secs(at + WIDTH));
            self.epoch();
        }
    }

    fn read(&mut self, topic: usize, at: i64, payload: &str) {
        self.engine.apply(&Record {
            from: of(TOPICS[topic]),
            offset: self.next[topic],
            timestamp: Some(Timestamp::from_secs(at)),
            key: None,
            payload: Some(payload.as_bytes()),
        });
        self.next[topic] += 1;
    }

    /// Takes what was told, and lets the second stage read what is for it.
    fn epoch(&mut self) {
        let mut told: VecDeque<Output> = self.engine.take_epoch(false).0.outputs.into();
        while let Some(output) = told.pop_front() {
            match output.to {
                Destination::Signals(_) => {
                    self.note_signals(&output.value);
                    let (offset, payload) = (self.next[2], Some(&*output.value));
                    self.engine.apply(&Record {
                        from: of(TopicId::SIGNALS),
                        offset,
                        timestamp: None,
                        key: Some(&output.key),
                        payload,
                    });
                    self.next[2] += 1;
                    told.extend(self.engine.take_epoch(false).0.outputs);
                }
                Destination::Anomalies | Destination::Failures => self.note_event(&output.value),
                _ => {}
            }
        }
    }

    fn note_signals(&mut self, value: &[u8]) {
        let Ok(SignalRecord::Window(window)) = signals::decode(value) else {
            return;
        };
        let second = window.end.as_millis() / 1_000 - START;
        for s in window
            .signals
            .iter()
            .filter(|_| *window.position.upstream.topic == *"metrics")
        {
            let (entity, name, score) = (window.entity.as_str(), &s.name, s.score().surprise());
            writeln!(self.signals, "{second} {entity} {name} {score:.6}").expect("memory");
        }
    }

    fn note_event(&mut self, value: &[u8]) {
        let event: serde_json::Value = serde_json::from_slice(value).expect("an event");
        let told = ["event", "incident_id", "seq", "entity", "class"].map(|field| event[field].to_string());
        writeln!(self.events, "{}", told.join(" ").replace('"', "")).expect("memory");
    }
}

/// A repeatable number in 0–1.
fn noise(host: i64, window: i64, what: u64) -> f64 {
    let mut x = (host as u64) << 48 ^ (window as u64) << 8 ^ what;
    for _ in 0..2 {
        x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x ^= x >> 29;
    }
    (x >> 11) as f64 / (1_u64 << 53) as f64
}

fn metrics(host: i64, window: i64) -> Vec<(&'static str, f64)> {
    // The third host grows odd before the state is taken, and is odd in other ways after it.
    let odd = match window {
        335..=480 if host == 3 => 40.0,
        400..=402 => 25.0,
        _ => 0.0,
    };
    let errors: i64 = (0..=window)
        .map(|w| {
            if host == 1 && (290..375).contains(&w) {
                90
            } else {
                w % 2
            }
        })
        .sum();
    let is_up = !(host == 2 && (350..380).contains(&window));
    vec![
        ("cpu", 30.0 + 10.0 * noise(host, window, 1) + odd),
        ("latency", 20.0 + 3.0 * noise(host, window, 2) + odd / 2.0),
        ("requests_total", 100.0 * window as f64),
        ("errors_total", errors as f64),
        ("up", f64::from(u8::from(is_up))),
    ]
}

fn lines(host: i64, window: i64) -> Vec<String> {
    let took = (10.0 * noise(host, window, 3)) as u32 + 5;
    let mut lines = vec![
        format!("request {window} served in {took} ms"),
        "cache was refreshed".to_owned(),
    ];
    if window % 7 == host {
        lines.push(format!("checkpoint written for segment {}", window / 7));
    }
    if host == 3 && window >= 335 {
        lines.push("memory of the pool runs low".to_owned());
    }
    lines
}
