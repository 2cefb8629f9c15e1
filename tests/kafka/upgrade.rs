//! A program that is upgraded in place: what one of an earlier state version left on the brokers is taken up by this one.
//!
//! Each folder of `upgrade/` was written by a program of that state version, which read the first half of these records and was ended in
//! order: `state.jsonl` is what its state topic held, `committed.jsonl` how far it had come in each partition, `events.jsonl` what it
//! had told. `UPDATE_UPGRADE=1` writes the folder of the present version.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use foreshock_engine::STATE_VERSION;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::broker::Broker;
use crate::deployment::{Deployment, body, summary};
use crate::faults::Positions;
use crate::topics::{Outgoing, Topics};

const PATIENCE: Duration = Duration::from_secs(120);

/// Names of topics stand in states, so they are always the same, on a broker of their own.
const PREFIX: &str = "upgrade.";

/// Windows of 10 s that were read before, until the probe answers again, and in all.
const BEFORE: i64 = 120;
const ANSWERS: i64 = 140;
const ALL: i64 = 260;

/// A record of the state topic, in hexadecimal.
#[derive(Serialize, Deserialize)]
struct Stored {
    partition: i32,
    key: String,
    value: String,
}

/// How far a partition was read.
#[derive(Serialize, Deserialize)]
struct Committed {
    topic: String,
    partition: i32,
    offset: i64,
}

fn folder(version: u16) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/kafka/upgrade")
        .join(version.to_string())
}

/// Versions of which there is a folder.
fn versions() -> Vec<u16> {
    let folders = std::fs::read_dir(folder(STATE_VERSION).join("..")).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    folders.map(name).filter_map(|name| name.parse().ok()).collect()
}

fn read<T: DeserializeOwned>(version: u16, name: &str) -> Vec<T> {
    let path = folder(version).join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn write<T: Serialize>(name: &str, of: &[T]) {
    let folder = folder(STATE_VERSION);
    std::fs::create_dir_all(&folder).unwrap();
    let lines: String = of.iter().map(|l| serde_json::to_string(l).unwrap() + "\n").collect();
    std::fs::write(folder.join(name), lines).unwrap();
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

/// Two hosts; the door of one does not answer from window 100 on.
fn records(windows: std::ops::Range<i64>) -> Vec<Outgoing> {
    let mut records = Vec::new();
    for window in windows {
        let at = 1_700_000_000_000 + window * 10_000;
        for host in ["a", "b"] {
            let up = i64::from(host == "a" || !(100..ANSWERS).contains(&window));
            for (name, value) in [("load", window % 7), ("up", up)] {
                let text =
                    format!(r#"{{"timestamp":{at},"name":"{name}","value":{value},"labels":{{"host":"{host}"}}}}"#);
                records.push(Outgoing {
                    partition: Some(0),
                    timestamp_ms: Some(at),
                    ..Outgoing::new(host, text)
                });
            }
        }
    }
    records
}

/// A broker with the topics, and nothing read yet.
fn deployment<'a>(broker: &'a Broker, topics: &'a Topics<'a>) -> (String, Deployment<'a>) {
    let metrics = topics.create("metrics", 1, &[("retention.ms", "-1")]);
    let source = format!(
        "[[source]]\ntopic = \"{metrics}\"\nformat = \"plain_json\"\nentity = [\"host\"]\n\n\
         [[failure.probe]]\nname = \"door\"\nseries = \"up\"\n"
    );
    let deployment = Deployment::new(broker, topics, "one", &source);
    (metrics, deployment)
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn failures(events: &[Value]) -> Vec<&Value> {
    events.iter().filter(|e| e["kind"] == "failure").collect()
}

#[test]
fn what_an_earlier_version_left_is_taken_up_and_nothing_is_told_twice() {
    if std::env::var_os("UPDATE_UPGRADE").is_some() {
        return write_the_folder_of_this_version();
    }
    let versions = versions();
    assert!(versions.len() > 1 && versions.contains(&STATE_VERSION), "{versions:?}");
    for version in versions {
        let Some(broker) = Broker::own() else { return };
        let topics = Topics::with_prefix(&broker, PREFIX);
        let (metrics, deployment) = deployment(&broker, &topics);
        lay_out(version, &broker, &topics, &metrics, &deployment);
        let told: Vec<Value> = read(version, "events.jsonl");
        let opened = failures(&told);
        let last = opened.last().expect("the failure was told");
        assert_ne!(last["event"], "resolve", "it is still open");

        topics.produce(&metrics, &records(BEFORE..ALL));
        let process = deployment.start("a");
        let events = deployment.events_until(PATIENCE, |events| events.iter().any(|e| e["event"] == "resolve"));
        let events: Vec<Value> = events.iter().map(body).collect();
        let after = failures(&events);
        let said: Vec<String> = after.iter().map(|e| summary(e)).collect();
        for (event, seq) in after.iter().zip(last["seq"].as_i64().unwrap() + 1..) {
            assert_eq!(
                event["incident_id"], last["incident_id"],
                "version {version}: {said:#?}"
            );
            assert_eq!(event["seq"], seq, "version {version}: {said:#?}");
        }
        assert_eq!(
            after.last().unwrap()["event"],
            "resolve",
            "version {version}: {said:#?}"
        );
        let metric = |name: &str| process.metric(name).unwrap_or_default();
        assert_eq!(metric("foreshock_records_replayed_total"), 0.0, "version {version}");
        assert_eq!(metric("foreshock_dead_letters_total"), 0.0, "version {version}");
        let log = process.stderr();
        let migrated = log.contains(&format!("migrated from version {version} to {STATE_VERSION}"));
        assert_eq!(migrated, version != STATE_VERSION, "version {version}: {log}");

        // Stored as of this version, and taken up as such by another, whose log is its own.
        assert!(process.terminate(PATIENCE).success());
        let process = deployment.start("b");
        let log = process.stderr();
        assert!(!log.contains("migrated"), "version {version}: {log}");
        assert!(process.terminate(PATIENCE).success());
    }
}

/// What the program of a version left: its state topic, as many records as it had read, and how far it had come.
fn lay_out(version: u16, broker: &Broker, topics: &Topics<'_>, metrics: &str, deployment: &Deployment<'_>) {
    let stored: Vec<Stored> = read(version, "state.jsonl");
    let stored = stored.iter().map(|record| Outgoing {
        partition: Some(record.partition),
        ..Outgoing::new(from_hex(&record.key), from_hex(&record.value))
    });
    topics.produce(&deployment.topic("state"), &stored.collect::<Vec<_>>());
    topics.produce(metrics, &records(0..BEFORE));
    let mut list = TopicPartitionList::new();
    for at in read::<Committed>(version, "committed.jsonl") {
        // Transactions leave marks in a topic, so the records that were read can't be laid out as they stood: others take their
        // places.
        if at.topic != metrics {
            let filler = Outgoing {
                partition: Some(at.partition),
                ..Outgoing::new("", "read before")
            };
            topics.produce(&at.topic, &vec![filler; usize::try_from(at.offset).unwrap()]);
        }
        list.add_partition_offset(&at.topic, at.partition, Offset::Offset(at.offset))
            .unwrap();
    }
    let consumer: BaseConsumer = broker
        .client()
        .set("group.id", deployment.group())
        .create()
        .expect("a consumer");
    wait_until("the group's coordinator", || {
        consumer.commit(&list, CommitMode::Sync).is_ok()
    });
}

fn write_the_folder_of_this_version() {
    let broker = Broker::own().expect("a broker");
    let topics = Topics::with_prefix(&broker, PREFIX);
    let (metrics, deployment) = deployment(&broker, &topics);
    topics.produce(&metrics, &records(0..BEFORE));
    let process = deployment.start("a");
    let names = [metrics, deployment.topic("signals")];
    let positions = Positions::new(&broker, &deployment.group(), &names);
    let ends = positions.ends().expect("brokers say");
    wait_until("all is read", || positions.committed().is_some_and(|c| c[0] == ends[0]));
    deployment.events_until(PATIENCE, |events| events.iter().any(|e| e["kind"] == "failure"));
    assert!(process.terminate(PATIENCE).success());

    let mut state = BTreeMap::new();
    for record in topics.read_committed(&deployment.topic("state")) {
        state.insert((record.partition, record.key.unwrap_or_default()), record.value);
    }
    let state = state.into_iter().filter_map(|((partition, key), value)| {
        let (key, value) = (to_hex(&key), to_hex(&value?));
        Some(Stored { partition, key, value })
    });
    write("state.jsonl", &state.collect::<Vec<_>>());
    let committed = positions.committed().expect("brokers say");
    let committed = positions
        .partitions()
        .iter()
        .zip(committed)
        .map(|((topic, partition), offset)| Committed {
            topic: topic.clone(),
            partition: *partition,
            offset,
        });
    write("committed.jsonl", &committed.collect::<Vec<_>>());
    let events: Vec<Value> = deployment.events().iter().map(body).collect();
    assert!(!failures(&events).is_empty(), "a failure is open");
    write("events.jsonl", &events);
}
