// Included by the targets of snapshots. A snapshot is what somebody with the right to write the state topic says it is: it
// is taken up or refused, and then records come.

use std::sync::Arc;

use foreshock_domain::Timestamp;
use foreshock_engine::{
    Assignment, Engine, EngineConfig, LogConfig, Record, Snapshot, SourceConfig, TopicId, TopicPartition,
};
use foreshock_failure::{FailureConfig, Rules};
use foreshock_wire::Format;
use serde::Deserialize;

/// A row of a golden case.
#[derive(Deserialize)]
struct Row {
    topic: String,
    key: Option<String>,
    payload: String,
}

const SIGNALS: TopicPartition = TopicPartition {
    topic: TopicId::SIGNALS,
    partition: 0,
};

fn input(place: u16) -> TopicPartition {
    TopicPartition {
        topic: TopicId(place),
        partition: 0,
    }
}

fn config() -> EngineConfig {
    let source = |topic: &str, format| SourceConfig {
        topic: topic.into(),
        format,
        entity: vec!["host".into()],
        sessions: None,
        log: LogConfig::default(),
    };
    let sources = vec![source("metrics", Format::PlainJson), source("logs", Format::LogJson)];
    let rules = Rules::new(&FailureConfig::default()).expect("rules without any");
    let mut config = EngineConfig::new(sources, rules);
    config.signals_partitions = 1;
    config
}

fn engine() -> Engine {
    thread_local! {
        /// Rules hold regular expressions, which take longer to compile than a snapshot to read.
        static CONFIG: Arc<EngineConfig> = Arc::new(config());
    }
    Engine::new(CONFIG.with(Arc::clone))
}

/// Owns `of` from `snapshot` on; whether that was taken up.
fn assign(engine: &mut Engine, of: TopicPartition, snapshot: Option<Vec<u8>>) -> bool {
    let snapshot = snapshot.map(|state| Snapshot { offset: 0, state });
    let assignment = Assignment {
        of,
        snapshot,
        committed: 0,
    };
    engine.assign(&assignment).is_ok()
}

fn apply(engine: &mut Engine, of: TopicPartition, offset: i64, key: Option<&str>, payload: &[u8]) {
    engine.apply(&Record {
        from: of,
        offset,
        timestamp: Some(Timestamp::from_millis(1_709_539_200_000 + offset * 1_000)),
        key: key.map(str::as_bytes),
        payload: Some(payload),
    });
}

/// A partition that has seen something, as it is stored, and the records that come next.
struct Lived {
    state: Vec<u8>,
    next: Vec<(Option<String>, Vec<u8>)>,
}

/// Plays golden cases of metrics and logs, and gives the partition `of` in the middle of them.
fn lived(of: TopicPartition) -> Lived {
    let rows = [
        include_str!("../../golden/leak_then_down/input.jsonl"),
        include_str!("../../golden/new_lines_then_fatal/input.jsonl"),
    ];
    let mut engine = engine();
    for of in [SIGNALS, input(1), input(2)] {
        assign(&mut engine, of, None);
    }
    let mut next = Vec::new();
    let mut written = 0;
    for line in rows.iter().flat_map(|rows| rows.lines().take(1_200)) {
        let row: Row = serde_json::from_str(line).expect("a row");
        let to = input(if row.topic == "metrics" { 1 } else { 2 });
        written += 1;
        apply(&mut engine, to, written, row.key.as_deref(), row.payload.as_bytes());
        if to == of {
            next.push((row.key, row.payload.into_bytes()));
        }
        if written % 200 == 0 {
            let (epoch, _) = engine.take_epoch(false);
            for output in epoch.outputs {
                if matches!(output.to, foreshock_engine::Destination::Signals(_)) {
                    written += 1;
                    apply(&mut engine, SIGNALS, written, None, &output.value);
                    if of == SIGNALS {
                        next.push((None, output.value));
                    }
                }
            }
        }
    }
    let (epoch, _) = engine.take_epoch(true);
    let of_it = epoch.snapshots.into_iter().find(|(found, _)| *found == of);
    let tail = next.len().saturating_sub(8);
    Lived {
        state: of_it.expect("a snapshot").1.state,
        next: next.split_off(tail),
    }
}

/// The bytes are a state, or where the first is odd, changes to one that was lived: place, and what stands there then.
fn check(lived: &Lived, of: TopicPartition, data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let state = if first & 1 == 0 {
        rest.to_vec()
    } else {
        let mut state = lived.state.clone();
        for change in rest.chunks_exact(5) {
            let place = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize % state.len();
            match change[3] % 4 {
                0 => state[place] = change[4],
                1 => state[place] ^= 1 << (change[4] % 8),
                2 => state.truncate(place.max(6)),
                _ => state.insert(place, change[4]),
            }
        }
        state
    };
    let mut engine = engine();
    let is_taken_up = assign(&mut engine, of, Some(state));
    // What is refused begins without a past and goes on all the same.
    for (offset, (key, payload)) in (0..).zip(&lived.next) {
        apply(&mut engine, of, 5_000 + offset, key.as_deref(), payload);
    }
    engine.tick(Timestamp::from_millis(1_709_545_200_000));
    let (epoch, counters) = engine.take_epoch(true);
    assert_eq!(counters.records, lived.next.len() as u64, "all were applied");
    // What it came to can be stored and taken up again.
    for (of, snapshot) in epoch.snapshots {
        assert!(
            assign(&mut self::engine(), of, Some(snapshot.state)) || is_taken_up,
            "a state of its own that it can't read"
        );
    }
}
