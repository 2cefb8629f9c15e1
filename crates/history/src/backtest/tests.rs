use std::fmt::Write as _;

use foreshock_engine::{MemoryLog, MemoryTopic, SourceConfig, StoredRecord, TopicPartition};
use foreshock_failure::Rules;
use foreshock_wire::Format;

use super::*;

const START_MS: i64 = 1_700_000_000_000;
const HOUR_MS: i64 = 3_600_000;

/// Two hosts sampled every ten seconds for six hours; the second runs hot for twenty minutes before it fails at five hours.
fn metrics() -> String {
    let mut text = String::new();
    for i in 0..2_160_i64 {
        for host in ["a", "b"] {
            let noise = ((i * 7_919 + i64::from(host == "b") * 31) % 101) as f64 / 101.0;
            let hot = host == "b" && (1_680..1_800).contains(&i);
            let value = 50.0 + noise + if hot { (i - 1_680) as f64 } else { 0.0 };
            let at = START_MS + i * 10_000;
            let _ = writeln!(
                text,
                r#"{{"timestamp":{at},"name":"load","value":{value},"labels":{{"host":"{host}"}}}}"#
            );
        }
    }
    text
}

fn config() -> Arc<EngineConfig> {
    let source = SourceConfig::new("metrics", Format::PlainJson, &["host"]);
    let mut config = EngineConfig::new(vec![source], Rules::new(&Default::default()).unwrap());
    config.alarms.budget.false_alarms_per_day = 1.0;
    Arc::new(config)
}

fn dump(text: &str) -> Dump {
    let opened = crate::open::Opened::new(std::io::Cursor::new(text.to_owned().into_bytes()), None).unwrap();
    Dump::new(Path::new("metrics.jsonl"), Format::PlainJson, opened).keyed_by(&["host"])
}

fn terms() -> Terms {
    Terms {
        lead_ms: 60_000,
        horizon_ms: HOUR_MS,
        from: Timestamp::MIN,
        apart: vec![],
        budget_per_day: 1.0,
    }
}

fn labels() -> Labels {
    Labels::settle(vec![Label {
        entity: foreshock_domain::Entity::new("b"),
        class: "crash".into(),
        onset: Timestamp::from_millis(START_MS + 5 * HOUR_MS),
        end: None,
        lead_ms: None,
    }])
}

fn backtest(text: &str, labels: Option<Labels>, events: Option<&mut dyn Write>) -> Result<Backtested, BacktestError> {
    let backtest = Backtest {
        config: config(),
        dumps: vec![(TopicId(1), dump(text))],
        labels,
        terms: terms(),
        until: Timestamp::LATEST,
        events,
        predictions: None,
    };
    backtest.run(&mut |_| true)
}

#[test]
fn a_failure_that_announces_itself_is_foretold() {
    let done = backtest(&metrics(), Some(labels()), None).unwrap();
    let f = &done.figures;
    assert_eq!((f.recall.hits, f.recall.of), (1, 1), "{f:?}");
    assert!(
        f.leads_s[0] > 600.0,
        "it has run hot for twenty minutes: {:?}",
        f.leads_s
    );
    assert_eq!((f.precision.hits, f.precision.of), (1, 1));
    assert_eq!(f.kinds[0].name, "load", "{:?}", f.kinds);
    let page = html::page(&done).into_string();
    assert!(page.contains("Backtest") && page.contains("crash") && !page.contains("NaN"));
    assert!(
        !page.contains("http://") && !page.contains("https://") && !page.contains("<script"),
        "self-contained"
    );
}

/// The same records through a log that commits, snapshots and ticks as the tests of the engine do: the same events.
#[test]
fn it_writes_what_the_engine_writes_elsewhere() {
    let text = metrics();
    let mut events = Vec::new();
    backtest(&text, Some(labels()), Some(&mut events)).unwrap();
    let records = dump(&text).map(|r| {
        let r = r.unwrap();
        StoredRecord {
            of: TopicPartition {
                topic: TopicId(1),
                partition: 0,
            },
            timestamp: Some(r.at),
            key: Some(r.key.into_bytes()),
            payload: Some(r.payload),
        }
    });
    let mut topics = MemoryTopic::new(records.collect(), 1);
    let config = config();
    {
        let mut log = MemoryLog::new(&mut topics, config.tick_every_ms, || 37);
        run(&mut log, &mut Engine::new(config), &mut |_| {}).unwrap();
    }
    let elsewhere = topics
        .written
        .iter()
        .map(|o| String::from_utf8(o.value.clone()).unwrap());
    let here = String::from_utf8(events).unwrap();
    assert!(!here.is_empty());
    assert_eq!(here.lines().collect::<Vec<_>>(), elsewhere.collect::<Vec<_>>());
}

/// No look-ahead: what is cut off later changes nothing earlier.
#[test]
fn a_shorter_dump_gives_the_same_beginning() {
    let text = metrics();
    let (mut whole, mut cut) = (Vec::new(), Vec::new());
    backtest(&text, Some(labels()), Some(&mut whole)).unwrap();
    let until = Timestamp::from_millis(START_MS + 5 * HOUR_MS - 5 * 60_000);
    let shorter = Backtest {
        config: config(),
        dumps: vec![(TopicId(1), dump(&text))],
        labels: None,
        terms: terms(),
        until,
        events: Some(&mut cut),
        predictions: None,
    };
    shorter.run(&mut |_| true).unwrap();
    assert!(!cut.is_empty() && whole.starts_with(&cut));
}

/// Labels are looked at by the evaluation alone.
#[test]
fn labels_change_no_event() {
    let text = metrics();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    backtest(&text, Some(labels()), Some(&mut with)).unwrap();
    let done = backtest(&text, None, Some(&mut without)).unwrap();
    assert_eq!(with, without);
    assert_eq!(done.figures.recall.of, 0, "no rule saw a failure");
    assert_eq!(done.figures.precision.hits, 0);
}

#[test]
fn a_wrong_clock_moves_nobody_else() {
    let mut lines: Vec<String> = metrics().lines().map(str::to_owned).collect();
    // One record of 2099 in the middle, and one of 1971.
    lines.insert(
        1_000,
        r#"{"timestamp":4070908800000,"name":"load","value":1,"labels":{"host":"c"}}"#.into(),
    );
    lines.insert(
        2_000,
        r#"{"timestamp":31536000000,"name":"load","value":1,"labels":{"host":"c"}}"#.into(),
    );
    let done = backtest(&lines.join("\n"), Some(labels()), None).unwrap();
    assert_eq!(done.figures.recall.hits, 1, "{:?}", done.figures);
}

#[test]
fn bad_lines_say_where_and_stopping_leaves_no_result() {
    let bad = format!("{}{{\"timestamp\":\n", metrics());
    let error = backtest(&bad, None, None).unwrap_err().to_string();
    assert!(error.contains("metrics.jsonl line 4321"), "{error}");
    let stopped = Backtest {
        config: config(),
        dumps: vec![(TopicId(1), dump(&metrics()))],
        labels: None,
        terms: terms(),
        until: Timestamp::LATEST,
        events: None,
        predictions: None,
    };
    assert!(matches!(stopped.run(&mut |_| false), Err(BacktestError::Stopped)));
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("x.json");
    let failed = whole(&path, |out| {
        out.write_all(b"half")?;
        Err(io::ErrorKind::Other.into())
    });
    assert!(failed.is_err());
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing half-written is left"
    );
}
