//! The whole way on Apache Kafka: metrics and logs in, events out, once each, whatever dies on the way.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::broker::Broker;
use crate::deployment::{Deployment, body, multiset, summary};
use crate::topics::{Incoming, Outgoing, Topics};

const PATIENCE: Duration = Duration::from_secs(240);

/// Input records of a golden case with their topic, in order of time.
pub fn golden(case: &str) -> Vec<(i64, String, Outgoing)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(case)
        .join("input.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    text.lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            let at = foreshock_wire::time::parse_rfc3339(row["at"].as_str().unwrap())
                .unwrap()
                .as_millis();
            let record = Outgoing {
                partition: row["partition"].as_i64().and_then(|p| i32::try_from(p).ok()),
                timestamp_ms: Some(at),
                key: row["key"].as_str().map(|k| k.as_bytes().to_vec()),
                value: row["payload"].as_str().map(|p| p.as_bytes().to_vec()),
                headers: Vec::new(),
            };
            (at, row["topic"].as_str().unwrap().to_owned(), record)
        })
        .collect()
}

/// Metrics of two hosts, one of which leaks and goes down, and logs of two databases, one of which dies.
pub struct Incident {
    rows: Vec<(i64, String, Outgoing)>,
}

impl Incident {
    pub fn new() -> Self {
        let mut rows = golden("leak_then_down");
        rows.extend(golden("new_lines_then_fatal"));
        rows.sort_by_key(|(at, ..)| *at);
        Self { rows }
    }

    pub fn create_inputs(topics: &Topics<'_>) -> String {
        let (metrics, logs) = (topics.create("metrics", 2, &[]), topics.create("logs", 1, &[]));
        format!(
            "[[source]]\ntopic = \"{metrics}\"\nformat = \"plain_json\"\n\n[[source]]\ntopic = \"{logs}\"\n\
             format = \"log_json\"\n\n[[failure.probe]]\nname = \"probe\"\nseries = \"up\"\nwindows = 3\n"
        )
    }

    /// Sends the part of the incident between two shares of its length.
    pub fn send(&self, topics: &Topics<'_>, from: f64, to: f64) {
        let place = |share: f64| (share * self.rows.len() as f64).round() as usize;
        for topic in ["metrics", "logs"] {
            let part = self.rows[place(from)..place(to)].iter().filter(|(_, t, _)| t == topic);
            topics.produce(&topics.name(topic), &part.map(|(.., r)| r.clone()).collect::<Vec<_>>());
        }
    }
}

pub fn has(events: &[Value], kind: &str, event: &str, entity: &str) -> bool {
    events
        .iter()
        .any(|e| e["kind"] == kind && e["event"] == event && e["entity"] == entity)
}

/// Both failures are over: what comes before them is decided as well.
pub fn complete(events: &[Value]) -> bool {
    has(events, "failure", "resolve", "web-1") && has(events, "failure", "open", "db-1")
}

fn assert_schema(events: &[Incoming]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema/event.schema.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for record in events {
        let event = body(record);
        let errors: Vec<String> = validator.iter_errors(&event).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?} in {event:#}");
        assert_eq!(record.header("ce_id"), event["event_id"].as_str(), "CloudEvents id");
        assert_eq!(record.header("ce_specversion"), Some("1.0"));
        assert_eq!(
            record.key.as_deref(),
            event["entity"].as_str().map(str::as_bytes),
            "keyed by entity"
        );
        let kind = if record.topic.ends_with("anomalies") {
            "precursor"
        } else {
            "failure"
        };
        assert_eq!(event["kind"], kind, "on the right topic");
    }
}

#[test]
fn metrics_and_logs_become_precursors_and_failures() {
    let Some(broker) = Broker::shared() else { return };
    let topics = Topics::new(broker, "events");
    let sources = Incident::create_inputs(&topics);
    let deployment = Deployment::new(broker, &topics, "one", &sources);
    let process = deployment.start("a");
    Incident::new().send(&topics, 0.0, 1.0);
    let events = deployment.events_until(PATIENCE, complete);
    assert_schema(&events);
    let bodies: Vec<Value> = events.iter().map(body).collect();
    let all: Vec<String> = bodies.iter().map(summary).collect();
    assert!(
        has(&bodies, "precursor", "open", "web-1"),
        "web-1 was not foretold: {all:#?}"
    );
    let failure = bodies
        .iter()
        .find(|e| e["kind"] == "failure" && e["event"] == "open" && e["entity"] == "web-1");
    let lead = failure.and_then(|f| f["preceded_by"][0]["lead_s"].as_f64());
    assert!(lead.is_some_and(|s| s > 60.0), "web-1: lead {lead:?} of {failure:#?}");
    let fatal = bodies
        .iter()
        .find(|e| e["kind"] == "failure" && e["event"] == "open" && e["entity"] == "db-1");
    assert_eq!(
        fatal.map(|f| &f["class"]),
        Some(&Value::from("log")),
        "a fatal line is a failure: {all:#?}"
    );
    let healthy = bodies
        .iter()
        .filter(|e| e["entity"] == "web-2" || e["entity"] == "db-2")
        .count();
    assert_eq!(healthy, 0, "the healthy peers are left alone: {all:#?}");
    let status = process.terminate(Duration::from_secs(30));
    assert!(status.success(), "SIGTERM ends it in order: {status}");
}

#[test]
fn killed_and_taken_over_deployments_write_what_an_undisturbed_one_does() {
    let Some(broker) = Broker::shared() else { return };
    let topics = Topics::new(broker, "once");
    let sources = Incident::create_inputs(&topics);
    let incident = Incident::new();
    let (calm, killed, shared) = (
        Deployment::new(broker, &topics, "calm", &sources),
        Deployment::new(broker, &topics, "killed", &sources),
        Deployment::new(broker, &topics, "shared", &sources),
    );
    let calm_process = calm.start("a");
    let mut victim = killed.start("a");
    let (first, second) = (shared.start("a"), shared.start("b"));

    // Killed in mid-stream, three times, while records come; the same instance goes on each time.
    let steps = 12;
    for step in 0..steps {
        incident.send(
            &topics,
            f64::from(step) / f64::from(steps),
            f64::from(step + 1) / f64::from(steps),
        );
        std::thread::sleep(Duration::from_millis(1_300));
        if step % 4 == 2 {
            victim.kill();
            victim = killed.start("a");
        }
        if step == 5 {
            let partitions = |p: &crate::process::Foreshock| {
                let (_, text) = p.get("/metrics").expect("metrics are served");
                let line = text
                    .lines()
                    .find(|l| l.starts_with("foreshock_owned_partitions "))
                    .expect("a gauge");
                line.rsplit(' ')
                    .next()
                    .and_then(|n| n.parse::<f64>().ok())
                    .expect("a number")
            };
            let (a, b) = (partitions(&first), partitions(&second));
            assert!(
                a >= 1.0 && b >= 1.0 && a + b == 5.0,
                "both instances own some of the five partitions: {a} and {b}"
            );
        }
    }
    // One of two is killed for good in mid-stream, and the other takes over with its state.
    second.kill();

    let expected = multiset(&calm.events_until(PATIENCE, complete));
    assert!(expected.values().all(|n| *n == 1), "undisturbed: each event once");
    for (name, deployment) in [("killed", &killed), ("shared", &shared)] {
        let events = deployment.wait_for(PATIENCE, |seen| seen.len() >= expected.len() && complete(seen));
        let got = multiset(&events);
        let missing: Vec<_> = expected.keys().filter(|k| !got.contains_key(k)).collect();
        let extra: Vec<_> = got
            .iter()
            .filter(|(k, n)| **n > 1 || !expected.contains_key(k))
            .collect();
        assert!(
            missing.is_empty() && extra.is_empty(),
            "{name}: missing {missing:#?}\nextra or doubled {extra:#?}"
        );
        assert_schema(&events);
    }
    for process in [calm_process, victim, first] {
        assert!(process.terminate(Duration::from_secs(30)).success());
    }
}

#[test]
fn a_poison_record_goes_to_dead_letters_and_the_partition_goes_on() {
    let Some(broker) = Broker::shared() else { return };
    let topics = Topics::new(broker, "poison");
    let metrics = topics.create("metrics", 1, &[]);
    let source = format!("[[source]]\ntopic = \"{metrics}\"\nformat = \"plain_json\"\n");
    let deployment = Deployment::new(broker, &topics, "one", &source);
    let sample = |s: i64| {
        let at = foreshock_wire::time::format_rfc3339(foreshock_domain::Timestamp::from_secs(1_700_000_000 + s));
        Outgoing::new(
            "h",
            format!(r#"{{"timestamp":"{at}","name":"load","value":1.5,"labels":{{"host":"h"}}}}"#),
        )
    };
    let poison: [&[u8]; 4] = [b"\x00\xff\xfe not a record", b"", b"{\"timestamp\":", &[b'['; 5_000]];
    let mut records: Vec<Outgoing> = (0..20).map(sample).collect();
    for (i, bytes) in poison.iter().enumerate() {
        records.insert(5 * i + 3, Outgoing::new("h", *bytes));
    }
    let process = deployment.start("a");
    topics.produce(&metrics, &records);
    let until = std::time::Instant::now() + PATIENCE;
    let metric = |name: &str| {
        let (_, text) = process.get("/metrics").unwrap_or_default();
        let line = text.lines().find(|l| l.starts_with(&format!("{name} ")))?.to_owned();
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    while metric("foreshock_samples_total") != Some(20.0) {
        assert!(
            std::time::Instant::now() < until,
            "the partition is stuck: {:?}",
            metric("foreshock_samples_total")
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut letters = deployment.dead_letters();
    letters.sort_by_key(|l| l.header("source_offset").and_then(|o| o.parse::<i64>().ok()));
    let bytes: Vec<&[u8]> = letters.iter().map(|l| l.value.as_deref().unwrap_or_default()).collect();
    assert_eq!(bytes, poison, "original bytes, in order");
    for (letter, offset) in letters.iter().zip([3, 8, 13, 18]) {
        assert_eq!(letter.header("source_topic"), Some(metrics.as_str()));
        assert_eq!(letter.header("source_partition"), Some("0"));
        assert_eq!(letter.header("source_offset"), Some(offset.to_string().as_str()));
        assert!(letter.header("error").is_some_and(|e| !e.is_empty()), "a reason");
    }
    assert!(process.terminate(Duration::from_secs(30)).success());
}
