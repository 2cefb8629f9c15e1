//! Coming back to what is not as it was left: records deleted meanwhile, a snapshot that can't be used, brokers that were all away.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use foreshock_domain::Timestamp;
use foreshock_engine::{Log, Polled, TopicId, TopicPartition};
use foreshock_kafka::{Cadence, ConnectionSettings, Delivery, KafkaLog, LogSettings, Tally, Topics as Names};
use foreshock_wire::time::format_rfc3339;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};

use crate::broker::Broker;
use crate::deployment::Deployment;
use crate::process::Foreshock;
use crate::topics::{Outgoing, Topics};

const PATIENCE: Duration = Duration::from_secs(120);

fn samples(from: i64, to: i64) -> Vec<Outgoing> {
    let sample = |s: i64| {
        let at = Timestamp::from_secs(1_700_000_000 + s);
        let text = format!(
            r#"{{"timestamp":"{}","name":"load","value":{}.5,"labels":{{"host":"h"}}}}"#,
            format_rfc3339(at),
            s % 7
        );
        Outgoing {
            partition: Some(0),
            timestamp_ms: Some(at.as_millis()),
            ..Outgoing::new("h", text)
        }
    };
    (from..to).map(sample).collect()
}

fn one_input(topics: &Topics<'_>) -> (String, String) {
    let metrics = topics.create("metrics", 1, &[("retention.ms", "-1")]);
    let source = format!("[[source]]\ntopic = \"{metrics}\"\nformat = \"plain_json\"\n");
    (metrics, source)
}

/// Deletes the records of partition 0 before an offset, as retention does.
fn delete_before(broker: &Broker, topic: &str, offset: i64) {
    let admin: AdminClient<DefaultClientContext> = broker.client().create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let deleted = runtime.block_on(admin.delete_records(&list, &options)).unwrap();
    let element = deleted.find_partition(topic, 0).unwrap();
    assert!(element.error().is_ok(), "{:?}", element.error());
    assert_eq!(element.offset(), Offset::Offset(offset), "records are deleted");
}

fn wait_for(process: &Foreshock, metric: &str, value: f64) {
    let until = Instant::now() + PATIENCE;
    loop {
        let now = process.metric(metric);
        if now == Some(value) {
            return;
        }
        assert!(
            Instant::now() < until,
            "{metric} is {now:?} and not {value}:\n{}",
            process.last_stderr()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn what_retention_deleted_is_counted_and_reading_goes_on_behind_it() {
    let Some(broker) = Broker::shared() else { return };
    let topics = Topics::new(broker, "retention");
    let (metrics, source) = one_input(&topics);
    let deployment = Deployment::new(broker, &topics, "one", &source);
    topics.produce(&metrics, &samples(0, 200));
    let process = deployment.start("a");
    wait_for(&process, "foreshock_samples_total", 200.0);
    // In order, so that there is a snapshot.
    assert!(process.terminate(PATIENCE).success());

    // More is read and committed, but in no snapshot yet, when it dies; then all of it is deleted.
    let process = deployment.start("a");
    topics.produce(&metrics, &samples(200, 300));
    wait_for(&process, "foreshock_samples_total", 100.0);
    let positions = crate::faults::Positions::new(broker, &deployment.group(), std::slice::from_ref(&metrics));
    let until = Instant::now() + PATIENCE;
    while positions.committed() != Some(vec![300]) {
        assert!(Instant::now() < until, "{:?} is committed", positions.committed());
        std::thread::sleep(Duration::from_millis(50));
    }
    process.kill();
    delete_before(broker, &metrics, 300);
    let mut process = deployment.launch("a");
    process.wait_ready(PATIENCE);
    topics.produce(&metrics, &samples(300, 310));
    wait_for(&process, "foreshock_samples_total", 10.0);
    assert!(
        process
            .metric("foreshock_records_gone_total")
            .is_some_and(|n| n <= 100.0)
    );
    assert!(process.terminate(PATIENCE).success());

    // Records that nobody read are deleted.
    topics.produce(&metrics, &samples(310, 400));
    delete_before(broker, &metrics, 350);
    let mut process = deployment.launch("a");
    process.wait_ready(PATIENCE);
    wait_for(&process, "foreshock_samples_total", 50.0);
    wait_for(&process, "foreshock_records_gone_total", 40.0);
    assert!(
        process
            .stderr()
            .contains("retention deleted records before they were read")
    );
    assert!(process.terminate(PATIENCE).success());
}

#[test]
fn without_a_usable_snapshot_a_partition_is_read_from_its_first_record() {
    let Some(broker) = Broker::shared() else { return };
    let topics = Topics::new(broker, "anew");
    let (metrics, source) = one_input(&topics);
    let deployment = Deployment::new(broker, &topics, "one", &source);
    topics.produce(&metrics, &samples(0, 100));
    let process = deployment.start("a");
    wait_for(&process, "foreshock_samples_total", 100.0);
    assert!(process.terminate(PATIENCE).success());
    topics.produce(&metrics, &samples(100, 150));

    let settings = LogSettings {
        connection: ConnectionSettings::plain(broker.bootstrap()),
        group: deployment.group(),
        instance: "a-0".into(),
        session_timeout: Duration::from_secs(6),
        topics: Names {
            inputs: vec![metrics],
            signals: deployment.topic("signals"),
            anomalies: deployment.topic("anomalies"),
            failures: deployment.topic("failures"),
            ledger: deployment.topic("ledger"),
            dead_letters: deployment.topic("dead-letters"),
            state: deployment.topic("state"),
        },
        cadence: Cadence::default(),
        delivery: Delivery::ExactlyOnce,
    };
    let mut log = KafkaLog::join(
        settings,
        Box::new(|| Timestamp::from_secs(0)),
        Arc::new(|| {}),
        Arc::new(AtomicBool::new(false)),
        Tally::default(),
    )
    .unwrap();
    let input = TopicPartition {
        topic: TopicId(1),
        partition: 0,
    };
    let mut offsets: Vec<i64> = Vec::new();
    let mut anew = false;
    let until = Instant::now() + PATIENCE;
    while offsets.last() != Some(&149) {
        assert!(Instant::now() < until, "anew: {anew}, {offsets:?}");
        let polled = log.poll(&mut |record| {
            if record.from == input {
                offsets.push(record.offset);
            }
        });
        if let Polled::Assigned(assignments) = polled.unwrap() {
            for assignment in assignments.iter().filter(|a| a.of == input) {
                let snapshot = assignment.snapshot.as_ref().map(|s| s.offset);
                assert_eq!((snapshot, assignment.committed, assignment.first), (Some(100), 100, 0));
                // As if neither it nor the one before could be read.
                while log.fall_back(input).unwrap().snapshot.is_some() {}
                anew = true;
            }
        }
    }
    assert!(anew);
    assert_eq!(
        offsets,
        (0..150).collect::<Vec<i64>>(),
        "from the first record, each once"
    );
}

#[test]
fn a_damaged_state_topic_is_told_of_and_written_anew() {
    let Some(broker) = Broker::shared() else { return };
    let topics = Topics::new(broker, "damaged");
    let (metrics, source) = one_input(&topics);
    let deployment = Deployment::new(broker, &topics, "one", &source);
    topics.produce(&metrics, &samples(0, 100));
    let process = deployment.start("a");
    wait_for(&process, "foreshock_samples_total", 100.0);
    assert!(process.terminate(PATIENCE).success());

    // Blocks that are not what was written, and one manifest in two.
    let state = deployment.topic("state");
    let stored = topics.read_committed(&state);
    let harmed: Vec<Outgoing> = stored
        .into_iter()
        .filter(|r| r.value.is_some() && r.key.as_deref().is_some_and(|key| !key.ends_with(b"manifest-0")))
        .map(|r| Outgoing {
            partition: Some(r.partition),
            key: r.key,
            ..Outgoing::new("", "nothing of the kind")
        })
        .collect();
    assert!(!harmed.is_empty());
    topics.produce(&state, &harmed);
    topics.produce(&metrics, &samples(100, 150));
    let process = deployment.start("a");
    wait_for(&process, "foreshock_samples_total", 50.0);
    // Of the signals some as well.
    let replayed = |process: &Foreshock| process.metric("foreshock_records_replayed_total").unwrap();
    assert!(replayed(&process) >= 100.0, "{}", replayed(&process));
    let told = process.stderr();
    assert!(told.contains("is damaged") && !told.contains("panicked"), "{told}");
    assert!(process.terminate(PATIENCE).success());

    topics.produce(&metrics, &samples(150, 160));
    let process = deployment.start("a");
    wait_for(&process, "foreshock_samples_total", 10.0);
    assert!(replayed(&process) < 100.0, "it begins with the state");
    assert!(process.terminate(PATIENCE).success());
}

#[test]
fn all_brokers_away_are_waited_for_alive_and_told_of() {
    let Some(broker) = Broker::own() else { return };
    let topics = Topics::new(&broker, "away");
    let (metrics, source) = one_input(&topics);
    let deployment = Deployment::new(&broker, &topics, "one", &source);
    let process = deployment.start("a");
    topics.produce(&metrics, &samples(0, 100));
    wait_for(&process, "foreshock_samples_total", 100.0);
    broker.kill();
    // Longer than a loop may stand still, a session and a transaction.
    let until = Instant::now() + Duration::from_secs(50);
    while Instant::now() < until {
        let (status, why) = process.get("/livez").expect("it answers");
        assert_eq!(
            status,
            200,
            "a restart would mend nothing: {why}\n{}",
            process.last_stderr()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(
        process.stderr().contains("look whether the brokers run"),
        "it says what to do:\n{}",
        process.last_stderr()
    );
    broker.start();
    topics.produce(&metrics, &samples(100, 200));
    wait_for(&process, "foreshock_samples_total", 200.0);
    assert!(process.terminate(PATIENCE).success());
}
