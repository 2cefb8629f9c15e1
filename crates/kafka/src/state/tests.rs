use std::sync::Arc;

use foreshock_engine::state::reads;
use foreshock_engine::{Assignment, Engine, EngineConfig, Frozen, Record, SourceConfig, TopicId, TopicPartition};
use foreshock_failure::{FailureConfig, Rules};
use foreshock_wire::Format;

use super::super::manifest::Stored as Placed;
use super::super::saver::{Saver, StateRecord};
use super::*;

const OF: TopicPartition = TopicPartition {
    topic: TopicId(1),
    partition: 3,
};
const SERIES: usize = 1_000;

/// The state topic after compaction: the newest record of each key, by partition.
#[derive(Clone, Default)]
struct Stored(BTreeMap<(i32, String), Vec<u8>>);

impl Stored {
    fn take(&mut self, record: StateRecord) {
        match record.value {
            Some(value) => self.0.insert((record.home, record.key), value),
            None => self.0.remove(&(record.home, record.key)),
        };
    }

    fn records(&self) -> Records {
        let parse = |((home, key), value): (&(i32, String), &Vec<u8>)| {
            let (topic, partition, key) = Key::parse(key).unwrap();
            assert_eq!((topic, partition), ("in", OF.partition));
            ((*home, key), value.clone())
        };
        self.0.iter().map(parse).collect()
    }

    fn choose(&self, partitions: usize) -> Result<Restored, StateError> {
        choose(
            "in",
            OF.partition,
            home("in", OF.partition, partitions),
            self.records(),
            None,
        )
    }
}

/// A partition that is read by an engine and saved, as a worker does it.
struct Worker {
    engine: Engine,
    saver: Saver,
    offset: i64,
}

impl Worker {
    /// Takes the partition up where the topic says.
    fn new(stored: &Stored, partitions: usize) -> Self {
        let source = SourceConfig::new("in", Format::PlainJson, &["host"]);
        let rules = Rules::new(&FailureConfig::default()).unwrap();
        let mut engine = Engine::new(Arc::new(EngineConfig::new(vec![source], rules)));
        let restored = stored.choose(partitions).unwrap();
        let offset = restored.snapshot.as_ref().map_or(0, |s| s.offset);
        let assignment = Assignment {
            of: OF,
            snapshot: restored.snapshot,
            committed: offset,
            first: 0,
        };
        engine.assign(assignment).unwrap();
        let mut saver = Saver::new(partitions).unwrap();
        saver.take_up(OF, restored.kept);
        Self { engine, saver, offset }
    }

    /// One sample of each of these series in a window of its own.
    fn read(&mut self, window: i64, series: std::ops::Range<usize>) {
        for i in series {
            let payload = format!(
                r#"{{"timestamp":{},"name":"m{i}","value":{},"labels":{{"host":"h{}"}}}}"#,
                1_700_000_000 + 10 * window,
                i as i64 * 7 % 13 + window,
                i / 20
            );
            self.engine.apply(&Record {
                from: OF,
                offset: self.offset,
                timestamp: None,
                key: None,
                payload: Some(payload.as_bytes()),
            });
            self.offset += 1;
        }
    }

    fn freeze(&mut self) -> Frozen {
        let (epoch, _) = self.engine.take_epoch(true);
        epoch.states.into_iter().next().unwrap().1
    }

    fn save(&mut self) -> Vec<StateRecord> {
        let frozen = self.freeze();
        self.saver.begin(OF, frozen);
        let mut records = Vec::new();
        while self.saver.is_saving() {
            records.extend(self.saver.step(Duration::from_secs(5)).unwrap().0);
        }
        records
    }

    /// All of the state as it would be stored, whatever of it is stored already.
    fn state(&mut self) -> Snapshot {
        self.read(90, 0..1);
        let mut snapshot = self.freeze().encode().unwrap();
        snapshot.blocks.sort_by_key(|b| b.id);
        snapshot
    }
}

fn bytes(records: &[StateRecord]) -> usize {
    records.iter().filter_map(|r| r.value.as_ref()).map(Vec::len).sum()
}

/// A topic with so many snapshots, and the offset of each.
fn stored(snapshots: i64) -> (Stored, Vec<i64>) {
    let mut stored = Stored::default();
    let mut worker = Worker::new(&stored, 1);
    let mut offsets = Vec::new();
    for window in 0..snapshots {
        worker.read(window, 0..SERIES);
        worker.save().into_iter().for_each(|r| stored.take(r));
        offsets.push(worker.offset);
    }
    (stored, offsets)
}

#[test]
fn a_restored_partition_goes_on_to_the_bit_like_the_undisturbed_one() {
    let mut stored = Stored::default();
    let mut calm = Worker::new(&stored, 1);
    for window in 0..4 {
        calm.read(window, 0..SERIES);
        calm.save().into_iter().for_each(|r| stored.take(r));
    }
    let mut restored = Worker::new(&stored, 1);
    assert_eq!(restored.offset, calm.offset);
    for worker in [&mut calm, &mut restored] {
        worker.read(4, 0..SERIES);
        worker.read(7, 5..SERIES / 2);
    }
    assert!(calm.state() == restored.state());
}

#[test]
fn idle_series_are_not_written_again() {
    let (mut topic, _) = stored(4);
    let mut worker = Worker::new(&topic, 1);
    // The windows that the last round left open close once, for all.
    worker.read(10, 0..1);
    let all = worker.save();
    let all_bytes = bytes(&all);
    all.into_iter().for_each(|r| topic.take(r));
    let mut worker = Worker::new(&topic, 1);
    worker.read(11, 0..1);
    worker.read(14, 0..1);
    let one = worker.save();
    let of_series = |r: &&StateRecord| r.key.contains("/series.") && r.value.is_some();
    assert_eq!(
        one.iter().filter(of_series).count(),
        1,
        "the block of the one that moved"
    );
    assert!(bytes(&one) * 4 < all_bytes, "{} of {all_bytes}", bytes(&one));
    one.into_iter().for_each(|r| topic.take(r));
    assert!(topic.choose(1).unwrap().complaints.is_empty());
}

#[test]
fn torn_anywhere_the_topic_holds_a_whole_state_and_in_the_end_nothing_else() {
    let mut topic = Stored::default();
    let mut worker = Worker::new(&topic, 1);
    let (mut last, mut before_last) = (0, 0);
    for window in 0..8 {
        // Most series are idle in most windows.
        worker.read(window, if window % 3 == 0 { 0..SERIES } else { 100..300 });
        for record in worker.save() {
            topic.take(record);
            let restored = topic.choose(1).unwrap();
            assert_eq!(restored.complaints, [""; 0]);
            let found = restored.snapshot.map_or(0, |s| s.offset);
            assert!(found == last || found == worker.offset, "{found} at {}", worker.offset);
        }
        (before_last, last) = (last, worker.offset);
    }
    let restored = topic.choose(1).unwrap();
    let (current, previous) = (restored.kept.current.unwrap().1, restored.kept.previous.unwrap());
    assert_eq!((current.offset, previous.offset), (last, before_last));
    let needed: BTreeSet<Key> = current.keys().chain(previous.keys()).collect();
    let held: BTreeSet<Key> = topic.records().into_keys().map(|(_, key)| key).collect();
    let blocks = held.iter().filter(|k| matches!(k, Key::Block { .. })).copied();
    assert_eq!(blocks.collect::<BTreeSet<_>>(), needed);
    assert_eq!(restored.kept.garbage, []);
}

#[test]
fn a_damaged_or_torn_state_gives_way_to_the_one_before() {
    let (topic, offsets) = stored(4);
    let newest = format!("/{}/", offsets[3]);
    let keys: Vec<_> = topic
        .0
        .keys()
        .filter(|(_, key)| key.contains(&newest))
        .cloned()
        .collect();
    assert!(keys.len() > 10, "{keys:?}");
    for key in keys {
        for is_torn in [false, true] {
            let mut harmed = topic.clone();
            if is_torn {
                harmed.0.remove(&key);
            } else {
                let value = harmed.0.get_mut(&key).unwrap();
                let middle = value.len() / 2;
                value[middle] ^= 4;
            }
            let restored = harmed.choose(1).unwrap();
            assert_eq!(restored.snapshot.map(|s| s.offset), Some(offsets[2]), "{key:?}");
            assert_eq!(restored.complaints.len(), 1, "{key:?}: {:?}", restored.complaints);
            // And it heals: the next state takes the damaged one's place.
            let mut worker = Worker::new(&harmed, 1);
            worker.read(5, 0..SERIES);
            worker.save().into_iter().for_each(|r| harmed.take(r));
            let healed = harmed.choose(1).unwrap();
            assert_eq!(healed.complaints, [""; 0]);
            assert_eq!(healed.kept.previous.map(|m| m.offset), Some(offsets[2]));
        }
    }
    let mut hopeless = topic;
    hopeless.0.retain(|(_, key), _| !key.contains("head."));
    let restored = hopeless.choose(1).unwrap();
    assert!(restored.snapshot.is_none());
    assert_eq!(restored.complaints.len(), 2);
}

/// A manifest of the newest state as another version would have signed it.
fn of_version(topic: &mut Stored, format: u16, version: u16) {
    let slot = topic.choose(1).unwrap().kept.current.unwrap().0;
    let value = topic.0.get_mut(&(0, format!("in/3/manifest-{slot}"))).unwrap();
    value[4..6].copy_from_slice(&format.to_le_bytes());
    value[6..8].copy_from_slice(&version.to_le_bytes());
}

#[test]
fn what_a_newer_version_wrote_is_refused_and_what_an_older_one_wrote_is_left_aside() {
    for (format, version) in [(2, STATE_VERSION + 1), (3, STATE_VERSION)] {
        let (mut topic, _) = stored(2);
        of_version(&mut topic, format, version);
        let error = topic.choose(1).unwrap_err().to_string();
        assert!(
            error.contains("in/3") && error.contains("newer version") && error.contains("upgrade"),
            "{error}"
        );
        assert!(error.contains("delete the records in/3/manifest-0"), "{error}");
    }
    let (mut topic, offsets) = stored(2);
    let unreadable = (0..STATE_VERSION).rev().find(|v| !reads(*v)).unwrap();
    of_version(&mut topic, 2, unreadable);
    let restored = topic.choose(1).unwrap();
    assert_eq!(
        restored.snapshot.map(|s| s.offset),
        Some(offsets[0]),
        "the one before is of this version"
    );
    assert!(restored.complaints[0].contains("no way"), "{:?}", restored.complaints);
}

/// The topic as a program of state version 8 left it, and the offset of its state, which holds 15 series.
fn left_by_version_8() -> (Stored, i64) {
    let states: &[u8] = include_bytes!("../../../engine/tests/upgrade/8/states");
    let states: Vec<Snapshot> = postcard::from_bytes(states).unwrap();
    let (mut topic, state) = (Stored::default(), &states[0]);
    let mut manifest = Manifest {
        offset: state.offset,
        topic_partitions: 4,
        signals_partitions: 1,
        blocks: BTreeMap::new(),
    };
    for block in &state.blocks {
        let stored = Placed::new(block, state.offset);
        for (key, part) in stored
            .keys(block.id)
            .zip(block.bytes.chunks(super::super::RECORD_BYTES))
        {
            topic.0.insert((0, key.of("in", OF.partition)), part.to_vec());
        }
        manifest.blocks.insert(block.id, stored);
    }
    let value = manifest.encode().unwrap();
    topic.0.insert((0, "in/3/manifest-0".into()), value);
    of_version(&mut topic, 2, 8);
    (topic, state.offset)
}

#[test]
fn a_state_of_an_older_version_is_taken_up_and_gives_way_to_one_of_this_version() {
    /// A window after all that it holds.
    const LATER: i64 = 6_000_400;
    let (mut topic, offset) = left_by_version_8();
    let found = |topic: &Stored| {
        let restored = topic.choose(1).unwrap();
        assert_eq!(restored.complaints, [""; 0]);
        restored.snapshot.map(|s| (s.version, s.offset)).unwrap()
    };
    assert_eq!(found(&topic), (8, offset));
    let mut worker = Worker::new(&topic, 1);
    assert_eq!(worker.engine.held().0, 15);
    worker.read(LATER, 0..1);
    let records = worker.save();
    let last = records.len() - 1;
    for (i, record) in records.into_iter().enumerate() {
        topic.take(record);
        let is_whole = i == last || found(&topic).0 == STATE_VERSION;
        let expected = if is_whole {
            (STATE_VERSION, worker.offset)
        } else {
            (8, offset)
        };
        assert_eq!(found(&topic), expected, "record {i}");
    }
    // What it wrote is read back to the bit, and the next state leaves nothing behind.
    let mut restored = Worker::new(&topic, 1);
    for worker in [&mut worker, &mut restored] {
        worker.read(LATER + 3, 0..2);
    }
    worker.save().into_iter().for_each(|r| topic.take(r));
    assert!(worker.state() == restored.state());
    assert_eq!(found(&topic).0, STATE_VERSION);
    assert_eq!(topic.choose(1).unwrap().kept.garbage, []);
}

#[test]
fn what_was_stored_in_one_piece_is_rebuilt_and_cleared_away() {
    let mut topic = Stored::default();
    for key in ["in/3/manifest", "in/3/0", "in/3/1"] {
        topic.0.insert((0, key.into()), b"{\"format\":1}".to_vec());
    }
    let restored = topic.choose(1).unwrap();
    assert!(restored.snapshot.is_none());
    assert!(
        restored.complaints[0].contains("older version"),
        "{:?}",
        restored.complaints
    );
    let mut worker = Worker::new(&topic, 1);
    assert_eq!(worker.offset, 0, "from the first record");
    worker.read(0, 0..SERIES);
    worker.save().into_iter().for_each(|r| topic.take(r));
    assert!(topic.choose(1).unwrap().complaints.is_empty());
    assert!(
        topic
            .0
            .keys()
            .all(|(_, key)| key.contains("manifest-") || key.contains("/0/") || key.contains('.'))
    );
    assert!(!topic.0.contains_key(&(0, "in/3/0".to_owned())));
}

#[test]
fn more_partitions_of_the_state_topic_lose_nothing() {
    let (mut topic, offsets) = stored(2);
    let (partitions, at) = (2..40)
        .map(|n| (n, home("in", OF.partition, n)))
        .find(|(_, at)| *at != 0)
        .unwrap();
    for round in 0..2 {
        let restored = topic.choose(partitions).unwrap();
        assert_eq!(restored.complaints, [""; 0]);
        let mut worker = Worker::new(&topic, partitions);
        assert_eq!(worker.offset, offsets[1] + round * SERIES as i64);
        worker.read(5 + round, 0..SERIES);
        worker.save().into_iter().for_each(|r| topic.take(r));
        let left = topic.0.keys().filter(|(home, _)| *home == 0).count();
        assert_eq!(
            left > 0,
            round == 0,
            "kept until two states stand in the new place: {left}"
        );
    }
    assert!(topic.0.keys().all(|(home, _)| *home == at));
}

#[test]
fn records_of_strangers_are_no_state() {
    assert!(Stored::default().choose(7).unwrap().snapshot.is_none());
    for text in [&b""[..], b"FSHM", b"FSHM\x02\x00\x08\x00", b"no manifest", &[0xff; 300]] {
        let mut topic = Stored::default();
        topic.0.insert((0, "in/3/manifest-1".into()), text.to_vec());
        let restored = topic.choose(1).unwrap();
        assert!(restored.snapshot.is_none(), "{text:?}");
        assert_eq!(restored.complaints.len(), 1, "{text:?}");
    }
}
