//! A number inside log lines that grows, and a value that was never there, are told as precursors, by name; ids, ports, clocks and
//! counters in lines are not.

use std::sync::Arc;

use foreshock_domain::Timestamp;
use foreshock_engine::{
    Engine, EngineConfig, LogConfig, MemoryLog, MemoryTopic, SourceConfig, StoredRecord, TopicId, TopicPartition, run,
};
use foreshock_failure::{FailureConfig, Rules};
use foreshock_wire::Format;

/// Repeatable numbers (`SplitMix64`).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % n
    }

    /// Skewed, 20 in the middle.
    fn duration(&mut self) -> f64 {
        let normal = (0..12).map(|_| self.below(1_000) as f64 / 1_000.0).sum::<f64>() - 6.0;
        20.0 * (0.4 * normal).exp()
    }
}

/// Seconds of each run.
const SECONDS: u64 = 30_000;
/// When what is odd begins.
const ODD_FROM: u64 = 28_000;

/// The events of a third of a day of a host that writes these lines, one or more a second.
fn events(raw_text: bool, mut lines: impl FnMut(&mut Random, u64) -> Vec<String>) -> String {
    let source = SourceConfig {
        log: LogConfig { raw_text, masks: None },
        ..SourceConfig::new("logs", Format::LogJson, &["host"])
    };
    let mut config = EngineConfig::new(
        vec![source],
        Rules::new(&FailureConfig::default()).expect("valid rules"),
    );
    // One new value is as rare as one window among all so far, and a third of a day is no long time.
    config.alarms.budget.false_alarms_per_day = 48.0;
    let mut random = Random(11);
    let mut records = Vec::new();
    for second in 0..SECONDS {
        for message in lines(&mut random, second) {
            let line = serde_json::json!({"message": message, "level": "info", "host": "web-1"});
            records.push(StoredRecord {
                of: TopicPartition {
                    topic: TopicId(1),
                    partition: 0,
                },
                timestamp: Some(Timestamp::from_secs(
                    1_760_000_000 + i64::try_from(second).expect("small"),
                )),
                key: None,
                payload: Some(line.to_string().into_bytes()),
            });
        }
    }
    let mut topics = MemoryTopic::new(records, 1);
    let mut engine = Engine::new(Arc::new(config));
    let mut log = MemoryLog::new(&mut topics, engine.config().tick_every_ms, || 500);
    run(&mut log, &mut engine, &mut |_| {}).expect("nobody kills it");
    drop(log);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned() + "\n";
    topics.written.iter().map(|o| text(&o.value)).collect()
}

#[test]
fn a_duration_that_rises_in_lines_is_told() {
    let told = events(false, |random, second| {
        let slow = if second < ODD_FROM {
            1.0
        } else {
            1.0 + (second - ODD_FROM) as f64 / 300.0
        };
        vec![format!(
            "request {} took {:.0} ms",
            random.below(1_000_000_000),
            slow * random.duration()
        )]
    });
    assert!(told.contains("\"precursor\""), "{told}");
    assert!(told.contains("took (ms) in \\\"request <*> took <*>\\\""), "{told}");
}

#[test]
fn a_status_never_seen_is_told() {
    for (raw_text, name) in [(false, "status=<?>"), (true, "status=503")] {
        let told = events(raw_text, |random, second| {
            let usual = ["200", "200", "200", "304", "404"][random.below(5) as usize];
            // Beside it something that never changes.
            let status = if second > ODD_FROM && random.below(20) == 0 {
                "503"
            } else {
                usual
            };
            vec![format!("answer status={status} sent"), "heartbeat sent".to_owned()]
        });
        assert!(
            told.contains("a value never seen before") && told.contains(name),
            "{told}"
        );
        assert_eq!(told.contains("503"), raw_text);
    }
}

#[test]
fn ids_ports_clocks_and_counters_alarm_nobody() {
    let told = events(false, |random, second| {
        vec![
            format!("request {} accepted", random.below(1_000_000_000)),
            format!(
                "peer 10.0.0.{} port {} connected",
                random.below(250),
                1_024 + random.below(60_000)
            ),
            format!("flushed up to {} entries", 1_000 + 3 * second),
            format!("checkpoint at {} done", 1_760_000_000 + second),
            format!("uptime {second} s"),
        ]
    });
    assert!(told.is_empty(), "{told}");
}

/// Run with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement: what reading values costs a line"]
#[allow(clippy::print_stdout)] // that is what it is for
fn cost_of_a_line() {
    let seconds = |amount: &str| {
        let mut best = f64::MAX;
        for _ in 0..3 {
            let began = std::time::Instant::now();
            let mut lines = 0;
            events(false, |random, _| {
                lines += 10;
                (0..10)
                    .map(|_| {
                        format!(
                            "request {} took {}{amount}",
                            random.below(1_000_000_000),
                            random.below(900)
                        )
                    })
                    .collect()
            });
            best = best.min(began.elapsed().as_secs_f64() / f64::from(lines) * 1e9);
        }
        best
    };
    // A number that no unit follows and no value is read of, against one that is followed.
    let (dropped, followed) = (seconds("x"), seconds("ms"));
    println!("nothing followed {dropped:.0} ns a line, a duration followed {followed:.0} ns a line, JSON and all");
}
