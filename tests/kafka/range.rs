//! Ranges of topics as dumps: what the brokers hold, of committed records alone, merged by time, up to an end known before.

use std::process::{Command, Output};
use std::time::Duration;

use foreshock_domain::Timestamp;
use foreshock_kafka::{Bound, ConnectionSettings, RangeError, open_range};
use rdkafka::producer::{BaseProducer, Producer};

use crate::broker::Broker;
use crate::topics::{Outgoing, Topics, send};

const PATIENCE: Duration = Duration::from_secs(30);
/// 2026-01-31T10:00:00Z, in seconds.
const T0: i64 = 1_769_853_600;

fn sample(partition: i32, second: i64) -> Outgoing {
    let value = format!(
        r#"{{"timestamp":{},"name":"cpu","value":{second},"labels":{{"host":"h{partition}"}}}}"#,
        T0 + second
    );
    Outgoing {
        partition: Some(partition),
        timestamp_ms: Some((T0 + second) * 1_000),
        ..Outgoing::new(format!("h{partition}"), value)
    }
}

/// Offsets and values by partition, of records that carry their second as value.
fn read(broker: &Broker, topic: &str, from: Bound, to: Bound) -> Vec<Vec<i64>> {
    let connection = ConnectionSettings::plain(broker.bootstrap());
    let ranges = open_range(&connection, topic, from, to).expect("a range");
    let mut all = Vec::new();
    for mut range in ranges {
        let offsets: Vec<i64> = range.by_ref().map(|r| r.expect("a record").offset).collect();
        assert_eq!(range.offsets_taken(), range.offsets_total(), "all is passed at the end");
        all.push(offsets);
    }
    all
}

#[test]
fn a_range_is_read_by_offsets_and_times_without_what_was_aborted() {
    let Some(broker) = Broker::shared() else { return };
    let topics = Topics::new(broker, "range");
    let topic = topics.create("metrics", 3, &[("retention.ms", "-1")]);
    let evens: Vec<Outgoing> = (0..50).map(|i| sample(0, 2 * i)).collect();
    let odds: Vec<Outgoing> = (0..50).map(|i| sample(1, 2 * i + 1)).collect();
    topics.produce(&topic, &[evens, odds].concat());
    // Behind them in partition 1: one that was aborted, one committed, and one that is open still.
    let mut config = broker.client();
    config.set("transactional.id", format!("{}t", topics.prefix()));
    let producer: BaseProducer = config.create().expect("a producer");
    producer.init_transactions(PATIENCE).expect("transactions");
    for (second, is_kept) in [(200, false), (201, true)] {
        producer.begin_transaction().expect("begin");
        send(&producer, &topic, &sample(1, second));
        producer.flush(PATIENCE).expect("flush");
        let end = if is_kept {
            producer.commit_transaction(PATIENCE)
        } else {
            producer.abort_transaction(PATIENCE)
        };
        end.expect("its end");
    }
    // 50: aborted, 51: its mark, 52: committed, 53: its mark.
    let whole: Vec<i64> = (0..50).collect();
    let with_committed: Vec<i64> = whole.iter().copied().chain([52]).collect();
    let at = |second: i64| Bound::Time(Timestamp::from_secs(T0 + second));
    /// Name, from, to, and what is read before and after the transactions.
    type Case = (&'static str, Bound, Bound, Vec<i64>, Vec<i64>);
    let cases: [Case; 7] = [
        ("all", Bound::Open, Bound::Open, whole, with_committed.clone()),
        (
            "offsets",
            Bound::Offset(10),
            Bound::Offset(12),
            vec![10, 11],
            vec![10, 11],
        ),
        ("an offset on", Bound::Offset(49), Bound::Open, vec![49], vec![49, 52]),
        ("past the end", Bound::Offset(1_000), Bound::Open, vec![], vec![]),
        ("times", at(10), at(14), vec![5, 6], vec![5, 6]),
        ("a time on", at(99), Bound::Open, vec![], vec![49, 52]),
        ("up to a time", Bound::Open, at(1), vec![0], vec![]),
    ];
    for (name, from, to, first, second) in cases {
        assert_eq!(read(broker, &topic, from, to), [first, second, vec![]], "{name}");
    }

    producer.begin_transaction().expect("begin");
    send(&producer, &topic, &sample(1, 202));
    producer.flush(PATIENCE).expect("flush");
    assert_eq!(
        read(broker, &topic, Bound::Open, Bound::Open)[1],
        with_committed,
        "it ends before what is open"
    );
    producer.abort_transaction(PATIENCE).expect("abort");

    let connection = ConnectionSettings::plain(broker.bootstrap());
    let absent = open_range(&connection, &topics.name("absent"), Bound::Open, Bound::Open).err();
    assert!(matches!(absent, Some(RangeError::Broker { .. })), "{absent:?}");
}

#[test]
fn a_topic_that_is_written_to_ends_where_it_ended_when_it_was_opened() {
    let Some(broker) = Broker::shared() else { return };
    let topics = Topics::new(broker, "range-end");
    let topic = topics.create("metrics", 1, &[("retention.ms", "-1")]);
    topics.produce(&topic, &(0..500).map(|i| sample(0, i)).collect::<Vec<_>>());
    let connection = ConnectionSettings::plain(broker.bootstrap());
    let mut ranges = open_range(&connection, &topic, Bound::Open, Bound::Open).expect("a range");
    topics.produce(&topic, &(500..900).map(|i| sample(0, i)).collect::<Vec<_>>());
    assert_eq!(ranges[0].offsets_total(), 500);
    assert_eq!(ranges[0].by_ref().filter(Result::is_ok).count(), 500);
}

fn foreshock(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_foreshock"))
        .args(args)
        .output()
        .expect("it runs")
}

#[test]
fn replay_and_backtest_read_a_range_merged_by_time() {
    let Some(broker) = Broker::shared() else { return };
    let topics = Topics::new(broker, "range-cli");
    let (from, to) = (
        topics.create("from", 2, &[("retention.ms", "-1")]),
        topics.create("to", 1, &[("retention.ms", "-1")]),
    );
    let evens: Vec<Outgoing> = (0..200).map(|i| sample(0, 2 * i)).collect();
    let odds: Vec<Outgoing> = (0..200).map(|i| sample(1, 2 * i + 1)).collect();
    topics.produce(&from, &[evens, odds].concat());
    let named = format!("kafka:{from}@2026-01-31T10:00:10Z..");
    let args = [
        "replay",
        "--brokers",
        broker.bootstrap(),
        "--topic",
        &to,
        "--format",
        "plain_json",
        "--speed",
        "max",
        &named,
    ];
    let done = foreshock(&args);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let sent = topics.read_committed(&to);
    let times: Vec<i64> = sent
        .iter()
        .filter_map(|r| r.timestamp_ms)
        .map(|ms| ms / 1_000 - T0)
        .collect();
    assert_eq!(times, (10..400).collect::<Vec<i64>>());
    assert_eq!(
        (sent[0].key.as_deref(), sent[1].key.as_deref()),
        (Some(&b"h0"[..]), Some(&b"h1"[..]))
    );

    let folder = tempfile::tempdir().expect("a folder");
    let (config, json) = (folder.path().join("f.toml"), folder.path().join("out.json"));
    let text = format!(
        "[kafka]\nbrokers = {:?}\n[[source]]\ntopic = \"m\"\nformat = \"plain_json\"\n",
        broker.bootstrap()
    );
    std::fs::write(&config, text).expect("a configuration");
    let (config, json_name) = (config.to_str().expect("a name"), json.to_str().expect("a name"));
    let whole = format!("kafka:{from}");
    let done = foreshock(&["backtest", "--config", config, "--metrics", &whole, "--json", json_name]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).expect("a report")).expect("JSON");
    assert_eq!(report["counters"]["dead_letters"], 0, "{report}");

    for (range, code, expected) in [
        (format!("kafka:{from}@500..600"), 64, "has no record in the range"),
        (format!("kafka:{from}@9..3"), 64, "it ends before it begins"),
        (format!("kafka:{}", topics.name("absent")), 74, "can't be seen"),
    ] {
        let done = foreshock(&["backtest", "--config", config, "--metrics", &range]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(
            done.status.code() == Some(code) && said.contains(expected),
            "{range}: {said}"
        );
    }
}
