// Included by the targets of snapshots. A snapshot is what somebody with the right to write the state topic says it is: it
// is taken up or refused, and then records come.

use std::sync::Arc;

use foreshock_domain::Timestamp;
use foreshock_engine::state::EncodedBlock;
use foreshock_engine::{
    Assignment, Engine, EngineConfig, Record, Snapshot, SourceConfig, TopicId, TopicPartition,
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
    let source = |topic: &str, format| SourceConfig::new(topic, format, &["host"]);
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

/// Owns `of` from `snapshot` on; whether that was taken up. What is refused begins without a past.
fn assign(engine: &mut Engine, of: TopicPartition, snapshot: Option<Snapshot>) -> bool {
    let assignment = |snapshot| Assignment {
        of,
        snapshot,
        committed: 0,
        first: 0,
    };
    let is_taken_up = engine.assign(assignment(snapshot)).is_ok();
    if !is_taken_up {
        engine.assign(assignment(None)).expect("nothing to read");
    }
    is_taken_up
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

/// A partition that has seen something, as it is stored, its blocks unpacked, and the records that come next.
struct Lived {
    snapshot: Snapshot,
    raw: Vec<Vec<u8>>,
    next: Vec<(Option<String>, Vec<u8>)>,
}

impl Lived {
    fn new(snapshot: Snapshot, next: Vec<(Option<String>, Vec<u8>)>) -> Self {
        let unpack = |b: &EncodedBlock| zstd::bulk::decompress(&b.bytes, b.raw_bytes).expect("what was packed");
        let raw = snapshot.blocks.iter().map(unpack).collect();
        Self { snapshot, raw, next }
    }
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
    let of_it = epoch.states.into_iter().find(|(found, _)| *found == of);
    let mut snapshot = of_it.expect("a state").1.encode().expect("packed");
    snapshot.offset = 0;
    let tail = next.len().saturating_sub(8);
    Lived::new(snapshot, next.split_off(tail))
}

/// Packed and signed as if it were ours: the checksum keeps accidents out, and not those who write it themselves.
fn signed(block: &EncodedBlock, raw: &[u8]) -> EncodedBlock {
    let bytes = zstd::bulk::compress(raw, 1).expect("packed");
    EncodedBlock {
        id: block.id,
        xxh3: xxhash_rust::xxh3::xxh3_64(&bytes),
        raw_bytes: raw.len(),
        bytes,
    }
}

/// The bytes stand for one block, or where the first is odd, for changes to one that was lived: place, and what stands there then.
fn check(lived: &Lived, of: TopicPartition, data: &[u8]) {
    let [first, which, rest @ ..] = data else {
        return;
    };
    let place = usize::from(*which) % lived.raw.len();
    let raw = if first & 1 == 0 {
        rest.to_vec()
    } else {
        let mut raw = lived.raw[place].clone();
        for change in rest.chunks_exact(5) {
            let at = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize % raw.len().max(1);
            match change[3] % 4 {
                _ if raw.is_empty() => raw.push(change[4]),
                0 => raw[at] = change[4],
                1 => raw[at] ^= 1 << (change[4] % 8),
                2 => raw.truncate(at),
                _ => raw.insert(at, change[4]),
            }
        }
        raw
    };
    let mut snapshot = lived.snapshot.clone();
    snapshot.blocks[place] = signed(&lived.snapshot.blocks[place], &raw);
    let mut engine = engine();
    let is_taken_up = assign(&mut engine, of, Some(snapshot));
    // What is refused goes on all the same.
    for (offset, (key, payload)) in (0..).zip(&lived.next) {
        apply(&mut engine, of, 5_000 + offset, key.as_deref(), payload);
    }
    engine.tick(Timestamp::from_millis(1_709_545_200_000));
    let (epoch, counters) = engine.take_epoch(true);
    assert_eq!(counters.records, lived.next.len() as u64, "all were applied");
    // What it came to can be stored and taken up again.
    for (of, frozen) in epoch.states {
        let snapshot = frozen.encode().expect("packed");
        assert!(
            assign(&mut self::engine(), of, Some(snapshot)) || is_taken_up,
            "a state of its own that it can't read"
        );
    }
}
