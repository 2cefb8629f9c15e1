//! Golden cases: folders of plain files that run through the whole machine over the log in memory.
//!
//! Each runs undisturbed, cut into random batches, and killed before and after every commit; all must write the same
//! events and dead letters, and every event must satisfy the published schema.

// A test says what is wrong by panicking.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foreshock_engine::{
    Counters, Crash, Destination, Engine, EngineConfig, EpochReport, LogConfig, MemoryLog, MemoryTopic, Output,
    SessionConfig, SourceConfig, StoredRecord, TopicId, TopicPartition, run,
};
use foreshock_failure::{FailureConfig, Rules};
use foreshock_logs::SessionIds;
use foreshock_wire::{Format, time};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    signals_partitions: u32,
    source: Vec<Source>,
    #[serde(default)]
    failure: FailureConfig,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    topic: String,
    format: Format,
    /// Pattern of the ids of sessions.
    session: Option<String>,
    #[serde(default)]
    log_text: LogText,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LogText {
    #[default]
    Redacted,
    Raw,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    topic: String,
    partition: i32,
    at: String,
    key: Option<String>,
    payload: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

fn cases() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.join("case.toml").exists())
        .map(|p| p.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert!(names.len() >= 5, "golden cases are missing: {names:?}");
    // One at a time, where somebody looks for what is wrong with it.
    if let Ok(wanted) = std::env::var("FORESHOCK_GOLDEN") {
        names.retain(|name| *name == wanted);
    }
    names
}

fn config(case: &Case) -> EngineConfig {
    let sources = case.source.iter().map(|s| SourceConfig {
        topic: s.topic.as_str().into(),
        format: s.format,
        entity: vec!["host".into()],
        sessions: s.session.as_deref().map(|pattern| SessionConfig {
            ids: SessionIds::new(&[], Some(pattern), None).unwrap(),
            idle_ms: 20_000,
        }),
        log: LogConfig {
            raw_text: s.log_text == LogText::Raw,
            masks: None,
        },
    });
    let mut config = EngineConfig::new(sources.collect(), Rules::new(&case.failure).unwrap());
    config.signals_partitions = case.signals_partitions;
    config
}

fn load(name: &str) -> (Case, Vec<StoredRecord>) {
    let text = fs::read_to_string(folder().join(name).join("case.toml")).unwrap();
    let case: Case = toml::from_str(&text).unwrap();
    let rows = fs::read_to_string(folder().join(name).join("input.jsonl")).unwrap();
    let records = rows.lines().map(|line| {
        let row: Row = serde_json::from_str(line).unwrap();
        let place = case.source.iter().position(|s| s.topic == row.topic).unwrap();
        StoredRecord {
            of: TopicPartition {
                topic: TopicId(u16::try_from(place + 1).unwrap()),
                partition: row.partition,
            },
            timestamp: time::parse_rfc3339(&row.at),
            key: row.key.map(String::into_bytes),
            payload: Some(row.payload.into_bytes()),
        }
    });
    let records = records.collect();
    (case, records)
}

/// How a run is disturbed.
#[derive(Clone, Copy, Default)]
struct Disturbance {
    /// Seed of the batch sizes; 0 for one size.
    seed: u64,
    /// Where the first process dies; the second runs to the end.
    crash: Option<Crash>,
    /// Partitions of the signals topic, where not those of the case.
    partitions: Option<u32>,
    /// What happens to the snapshots before the second begins.
    harm: Harm,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Harm {
    #[default]
    None,
    /// A bit of the newest of each partition is turned.
    Newest,
    /// Of both.
    Both,
    /// The newest is of an older version.
    Older,
}

impl Harm {
    fn inflict(self, topics: &mut MemoryTopic) {
        for all in topics.snapshots.values_mut() {
            let count = if self == Self::Both { 2 } else { 1 };
            for snapshot in all.iter_mut().rev().take(count) {
                let Some(block) = snapshot.blocks.last_mut() else {
                    continue;
                };
                match self {
                    Self::None => {}
                    Self::Older => snapshot.version -= 1,
                    Self::Newest | Self::Both => block.bytes[0] ^= 1,
                }
            }
        }
    }
}

struct Ran {
    /// Destination and bytes, sorted: partitions of the signals topic are independent of each other.
    written: Vec<(Destination, String)>,
    events: Vec<Output>,
    counters: Counters,
    commits: u64,
    crashed: bool,
}

fn ran(name: &str, disturbance: Disturbance) -> Ran {
    let (mut case, records) = load(name);
    case.signals_partitions = disturbance.partitions.unwrap_or(case.signals_partitions);
    let mut topics = MemoryTopic::new(records, case.signals_partitions);
    let mut counters = Counters::default();
    let mut crashed = false;
    let mut crash = disturbance.crash;
    loop {
        let mut x = disturbance.seed;
        let batch = move || {
            if disturbance.seed == 0 {
                return 200;
            }
            x = x
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(x >> 55).unwrap() % 300 + 1
        };
        let every = if disturbance.seed.is_multiple_of(2) {
            4
        } else {
            2 + disturbance.seed % 9
        };
        let mut engine = Engine::new(Arc::new(config(&case)));
        let mut log = MemoryLog::new(&mut topics, engine.config().tick_every_ms, batch)
            .committing(every, 1 + disturbance.seed % 4)
            .dying(crash.take());
        let ended = run(&mut log, &mut engine, &mut |report| {
            if let EpochReport::Committed { counters: c, .. } = report {
                counters += *c;
            }
        });
        if ended.is_ok() {
            break;
        }
        crashed = true;
        drop(log);
        disturbance.harm.inflict(&mut topics);
    }
    let mut written: Vec<_> = topics
        .written
        .iter()
        .map(|o| (o.to, String::from_utf8_lossy(&o.value).into_owned()))
        .collect();
    written.sort();
    let commits = topics.commits();
    let events = topics.written;
    Ran {
        written,
        events,
        counters,
        commits,
        crashed,
    }
}

/// What only one of them wrote.
fn difference(plain: &Ran, other: &Ran) -> String {
    let only = |a: &Ran, b: &Ran, name: &str| {
        let lines = a.written.iter().filter(|line| !b.written.contains(line));
        lines
            .map(|(to, value)| format!("only {name}: {to:?} {value}\n"))
            .collect::<String>()
    };
    only(plain, other, "undisturbed") + &only(other, plain, "disturbed")
}

#[test]
fn undisturbed_runs_write_what_is_expected() {
    for name in cases() {
        let ran = ran(&name, Disturbance::default());
        let lines: String = ran
            .written
            .iter()
            .map(|(to, value)| format!("{to:?} {value}\n"))
            .collect();
        let path = folder().join(&name).join("expected.jsonl");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &lines).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap();
        assert!(lines == expected, "{name}: events differ from expected.jsonl:\n{lines}");
    }
}

#[test]
fn batches_of_any_size_write_the_same() {
    for name in cases() {
        let plain = ran(&name, Disturbance::default());
        for seed in 1..=12 {
            let cut = ran(
                &name,
                Disturbance {
                    seed,
                    ..Disturbance::default()
                },
            );
            assert!(
                cut.written == plain.written,
                "{name}, batches of seed {seed}:\n{}",
                difference(&plain, &cut)
            );
        }
    }
}

#[test]
fn killed_at_every_commit_writes_the_same() {
    for name in cases() {
        let plain = ran(&name, Disturbance::default());
        assert!(
            plain.commits > 5,
            "{name}: too few commits ({}) to kill at",
            plain.commits
        );
        for n in 0..plain.commits {
            for crash in [Crash::Before(n), Crash::After(n)] {
                let killed = ran(
                    &name,
                    Disturbance {
                        crash: Some(crash),
                        ..Disturbance::default()
                    },
                );
                assert!(killed.crashed, "{name}: {crash:?} did not happen");
                assert!(
                    killed.written == plain.written,
                    "{name}, killed {crash:?}:\n{}",
                    difference(&plain, &killed)
                );
            }
        }
    }
}

/// A state that can't be read costs a longer replay, and no event.
#[test]
fn damaged_snapshots_write_the_same() {
    for name in cases() {
        let plain = ran(&name, Disturbance::default());
        for harm in [Harm::Newest, Harm::Both, Harm::Older] {
            for n in (0..plain.commits).step_by(9).skip(2) {
                let crash = Some(Crash::After(n));
                let damaged = ran(
                    &name,
                    Disturbance {
                        crash,
                        harm,
                        ..Disturbance::default()
                    },
                );
                assert!(damaged.crashed, "{name}: no crash at {n}");
                assert!(
                    damaged.written == plain.written,
                    "{name}, damaged and killed after {n}:\n{}",
                    difference(&plain, &damaged)
                );
            }
        }
    }
}

#[test]
fn every_event_satisfies_the_schema_and_has_its_own_id() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema/event.schema.json");
    let schema: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut seen = BTreeMap::new();
    for name in cases() {
        for output in ran(&name, Disturbance::default()).events {
            if !matches!(output.to, Destination::Anomalies | Destination::Failures) {
                continue;
            }
            let event: serde_json::Value = serde_json::from_slice(&output.value).unwrap();
            let errors: Vec<String> = validator.iter_errors(&event).map(|e| e.to_string()).collect();
            assert!(errors.is_empty(), "{name}: {errors:?} in {event:#}");
            let id = event["event_id"].as_str().unwrap().to_owned();
            assert_eq!(
                seen.insert(id.clone(), name.clone()),
                None,
                "{name}: event id {id} twice"
            );
        }
    }
    assert!(seen.len() > 10, "too few events to prove anything: {}", seen.len());
}

/// The failures that a case opens: class, entity and onset, in that order.
fn failures(name: &str, disturbance: Disturbance) -> Vec<(String, String, String)> {
    let mut opened = Vec::new();
    for output in ran(name, disturbance).events {
        let value: serde_json::Value = serde_json::from_slice(&output.value).unwrap_or_default();
        if output.to == Destination::Failures && value["event"] == "open" {
            let text = |key: &str| value[key].as_str().unwrap().to_owned();
            opened.push((text("class"), text("entity"), text("started_at")));
        }
    }
    opened.sort();
    opened
}

fn one(class: &str, entity: &str, time: &str) -> (String, String, String) {
    (class.into(), entity.into(), format!("2024-03-04T{time}.000Z"))
}

/// However many partitions of the signals topic find the loss, it is told once. What they tell each other has no fixed place
/// between other records, so only its onset and not its end is the same for all batches; the case ends before that.
#[test]
fn a_collector_that_dies_is_one_failure() {
    for partitions in [1, 2] {
        let disturbance = Disturbance {
            partitions: Some(partitions),
            ..Disturbance::default()
        };
        let opened = failures("collector_down", disturbance);
        let [dead, left_out, probe, lost] = &opened[..] else {
            panic!("{partitions}: {opened:?}")
        };
        // The last two windows stay open in the first stage: nothing comes that would move the clock past them.
        assert_eq!(*lost, one("telemetry_lost", "metrics", "08:19:40"), "{partitions}");
        assert_eq!(*probe, one("probe", "host-4", "08:20:50"), "{partitions}");
        assert_eq!(*dead, one("heartbeat", "host-3", "08:20:30"), "{partitions}");
        let (class, host, since) = left_out;
        assert_eq!((class.as_str(), host.as_str()), ("heartbeat", "host-7"), "{partitions}");
        assert!(
            since.as_str() >= "2024-03-04T08:29:00.000Z",
            "{partitions}: counts from when the others are back: {since}"
        );
    }
}

#[test]
fn processes_fail_where_nobody_asked_for_their_end() {
    let opened = failures("processes_that_end", Disturbance::default());
    let expected = [
        one("process", "killed", "08:15:00"),
        one("process", "loops", "08:30:00"),
        one("process", "restarted", "08:25:00"),
        one("process", "unit", "08:35:00"),
    ];
    assert_eq!(opened, expected);
}

/// Nobody wants twenty alarms of one deployment.
#[test]
fn a_burst_of_new_templates_is_one_event() {
    let ran = ran("restart_with_new_lines", Disturbance::default());
    let mut opened = Vec::new();
    for output in ran.events.iter().filter(|o| o.to == Destination::Anomalies) {
        let event: serde_json::Value = serde_json::from_slice(&output.value).unwrap();
        if event["event"] == "open" {
            opened.push(event);
        }
    }
    assert_eq!(opened.len(), 1, "{opened:#?}");
    assert_eq!(opened[0]["entity"], "app-1");
    let log = &opened[0]["contributors"][0]["log"];
    assert_eq!((&log["level"], &log["count"]), (&"info".into(), &0.into()), "{log}");
    assert!(log["seen"].as_u64().unwrap() > 2_000, "{log}");
}

#[test]
fn odd_input_is_counted_and_bounded() {
    let ran = ran("odd_input", Disturbance::default());
    let letters = ran.events.iter().filter(|o| o.to == Destination::DeadLetters).count();
    assert_eq!(letters, 7, "each unreadable record, once");
    let c = ran.counters;
    assert_eq!(c.dead_letters, 7);
    assert_eq!(c.future, 10, "clocks from 2099");
    assert_eq!(c.late, 20, "stamps of 1971 and of ten minutes ago");
    assert_eq!(c.missing, 3, "NaN and infinities");
    assert!(c.duplicates >= 10, "samples sent twice: {}", c.duplicates);
    assert_eq!((c.precursors_opened, c.failures_opened), (0, 0));
}
