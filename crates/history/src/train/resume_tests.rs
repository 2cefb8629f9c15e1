use std::fmt::Write as _;
use std::io::Cursor;

use foreshock_engine::{EngineConfig, SourceConfig, TopicId};
use foreshock_failure::{FailureConfig, Rules};
use foreshock_wire::Format;

use super::super::{Progress, TrainError, Training};
use super::*;
use crate::dump::Dump;
use crate::labels::Labels;
use crate::open::Opened;

const START_S: i64 = 1_700_000_000;

/// Four hosts with three series and a log line each, every ten seconds for an hour and a half: nine epochs.
fn dumps() -> Vec<(TopicId, Dump)> {
    let (mut metrics, mut logs) = (String::new(), String::new());
    for i in 0..540_i64 {
        let at = START_S + 10 * i;
        for host in 0..4 {
            for (k, name) in ["load", "memory", "queue"].iter().enumerate() {
                let value = (i * 7 + host * 13 + k as i64 * 5) % 11 + i / 100;
                let _ = writeln!(
                    metrics,
                    r#"{{"timestamp":{at},"name":"{name}","value":{value},"labels":{{"host":"h{host}"}}}}"#
                );
            }
            let _ = writeln!(
                logs,
                r#"{{"timestamp":{at},"message":"request {i} took {} ms","level":"info","host":"h{host}"}}"#,
                i % 17
            );
        }
    }
    let dump = |name: &str, format, text: String| {
        Dump::new(
            Path::new(name),
            format,
            Opened::new(Cursor::new(text.into_bytes()), None).unwrap(),
        )
        .keyed_by(&["host"])
    };
    vec![
        (TopicId(1), dump("metrics", Format::PlainJson, metrics)),
        (TopicId(2), dump("logs", Format::LogJson, logs)),
    ]
}

fn training(resume: Option<(Resume, Option<Stopped>)>) -> Training {
    let source = |topic: &str, format| SourceConfig::new(topic, format, &["host"]);
    let sources = vec![source("metrics", Format::PlainJson), source("logs", Format::LogJson)];
    Training {
        config: EngineConfig::new(sources, Rules::new(&FailureConfig::default()).unwrap()),
        dumps: dumps(),
        labels: Labels::settle(Vec::new()),
        apart: Vec::new(),
        horizon_ms: 600_000,
        lead_ms: 60_000,
        until: foreshock_domain::Timestamp::from_secs(START_S + 5_000),
        resume,
    }
}

/// Reads until it was asked so many times whether to go on.
fn read(resume: Option<(Resume, Option<Stopped>)>, times: usize) -> Result<Rows, TrainError> {
    let mut asked = 0;
    training(resume).rows(&mut |progress| {
        asked += usize::from(matches!(progress, Progress::Reading(_)));
        asked < times
    })
}

#[test]
fn a_training_that_was_stopped_goes_on_as_if_it_had_not_been() {
    let whole = read(None, usize::MAX).unwrap();
    assert!(whole.rows.len() > 1_500 && whole.seen > 0, "{}", whole.rows.len());
    let folder = tempfile::tempdir().unwrap();
    let resume = Resume::new(folder.path(), "these dumps".into());
    for stops in [vec![1], vec![2], vec![1, 3], vec![2, 2, 2]] {
        resume.done().unwrap();
        for times in &stops {
            let left = resume.find().unwrap();
            let stopped = read(Some((resume.clone(), left)), *times);
            assert!(matches!(stopped, Err(TrainError::Stopped)));
        }
        let left = resume.find().unwrap().expect("it was written down");
        assert!(left.records() > 0);
        let rows = read(Some((resume.clone(), Some(left))), usize::MAX).unwrap();
        assert!(rows.rows == whole.rows, "{stops:?}: rows differ");
        assert_eq!((rows.seen, rows.end), (whole.seen, whole.end));
        assert_eq!(rows.entities, whole.entities);
        // What was read to its end is not read again: only fitting is left.
        let left = resume.find().unwrap().expect("the end is written down too");
        let again = read(Some((resume.clone(), Some(left))), usize::MAX).unwrap();
        assert!(again.rows == whole.rows);
    }
    resume.done().unwrap();
    assert!(resume.find().unwrap().is_none());
}

#[test]
fn what_is_of_something_else_or_damaged_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let resume = Resume::new(folder.path(), "these dumps".into());
    assert!(read(Some((resume.clone(), None)), 1).is_err());
    assert!(resume.find().unwrap().is_some());
    let other = Resume::new(folder.path(), "other dumps".into());
    assert!(other.find().unwrap().is_none());
    let file = folder.path().join(NAME);
    let mut bytes = fs::read(&file).unwrap();
    let half = bytes.len() / 2;
    bytes.truncate(half);
    fs::write(&file, &bytes).unwrap();
    assert!(resume.find().is_err(), "cut off");
    fs::write(&file, b"no file of ours").unwrap();
    assert!(resume.find().is_err(), "not ours");
}
