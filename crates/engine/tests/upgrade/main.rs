//! What a state of an earlier version is worth to this one.
//!
//! Each folder was written by a program of that state version: `states` are what it held of `play.rs` after 360 windows (metrics, lines,
//! signals; a list of `Snapshot`s as postcard), `events-before.txt` is what it had told until then, `events-after.txt` and
//! `signals-after.txt` are what it told of the next 120 windows. `UPDATE_LAYOUT=1` writes the folder of the present version. Where series
//! are judged otherwise on purpose, `signals-after.txt` of older versions is written anew from what this one says.

// A test says what is wrong by panicking.
#![allow(clippy::unwrap_used, clippy::panic)]

mod play;

use std::collections::BTreeMap;
use std::path::PathBuf;

use foreshock_engine::correlate::CorrelatePartition;
use foreshock_engine::detect::DetectPartition;
use foreshock_engine::state::BlockId;
use foreshock_engine::{Frozen, STATE_VERSION, Snapshot};

use self::play::{Play, sources};

/// Versions before this one that can be read.
const OLDER: [u16; 2] = [8, 9];

/// Windows before the states were taken, and until the end.
const BEFORE: i64 = 360;
const AFTER: i64 = 480;

fn folder(version: u16) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/upgrade")
        .join(version.to_string())
}

fn text(version: u16, name: &str) -> String {
    let path = folder(version).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn states(version: u16) -> Vec<Snapshot> {
    let path = folder(version).join("states");
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let states: Vec<Snapshot> = postcard::from_bytes(&bytes).unwrap();
    assert!(states.iter().all(|s| s.version == version), "{}", path.display());
    states
}

/// By incident, the numbers of its events in order.
fn numbers(events: &str) -> BTreeMap<&str, Vec<u32>> {
    let mut numbers: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for event in events.lines() {
        let words: Vec<&str> = event.split(' ').collect();
        numbers.entry(words[1]).or_default().push(words[2].parse().unwrap());
    }
    numbers
}

/// Those of failures: precursors are judged by more than the version before knew.
fn failures(events: &str) -> Vec<&str> {
    events.lines().filter(|event| !event.ends_with(" null")).collect()
}

#[test]
fn every_version_that_can_be_read_is_tried() {
    let read: Vec<u16> = (0..STATE_VERSION)
        .filter(|v| foreshock_engine::state::reads(*v))
        .collect();
    assert_eq!(read, OLDER);
}

#[test]
fn baselines_are_kept_and_nothing_is_told_twice() {
    for version in OLDER {
        let mut play = Play::new(Some(states(version)));
        assert_eq!(play.engine.held(), (15, 3), "{version}");
        play.run(BEFORE..AFTER);
        assert_eq!(
            play.signals,
            text(version, "signals-after.txt"),
            "{version}: of metrics"
        );
        let after = text(version, "events-after.txt");
        assert_eq!(failures(&play.events), failures(&after), "{version}");
        let before = text(version, "events-before.txt");
        let all = before.clone() + &play.events;
        for (incident, numbers) in numbers(&all) {
            let expected: Vec<u32> = (0..).take(numbers.len()).collect();
            assert_eq!(numbers, expected, "{version}, {incident}: {all}");
        }
        // Both were open when the state was taken.
        for class in [" probe\n", " slo_burn\n"] {
            assert!(
                before.contains(class) && play.events.contains(class),
                "{version}: {all}"
            );
        }
    }
}

#[test]
fn without_a_state_nobody_would_know_yet_what_is_odd() {
    let (mut known, mut fresh) = (Play::new(Some(states(STATE_VERSION))), Play::new(None));
    for play in [&mut known, &mut fresh] {
        play.run(BEFORE..BEFORE + 20);
    }
    assert!(known.signals.lines().count() > 20);
    assert_eq!(fresh.signals, "");
}

#[test]
fn what_was_migrated_is_stored_as_this_version_and_goes_on_to_the_bit() {
    for version in OLDER {
        let mut undisturbed = Play::new(Some(states(version)));
        undisturbed.run(BEFORE..BEFORE + 10);
        let stored = undisturbed.states();
        assert!(stored.iter().all(|s| s.version == STATE_VERSION));
        let mut restored = Play::new(Some(stored));
        undisturbed.signals.clear();
        undisturbed.events.clear();
        for play in [&mut undisturbed, &mut restored] {
            play.run(BEFORE + 10..AFTER);
        }
        assert!(undisturbed.signals.lines().count() > 20 && undisturbed.events.lines().count() > 2);
        assert_eq!(undisturbed.signals, restored.signals, "{version}");
        assert_eq!(undisturbed.events, restored.events, "{version}");
        let held = |mut play: Play| play.states().iter().map(unpacked).collect::<Vec<_>>();
        assert!(held(undisturbed) == held(restored), "{version}: to the bit");
    }
}

/// Its blocks as they are before compression, which may get better.
fn unpacked(snapshot: &Snapshot) -> BTreeMap<BlockId, Vec<u8>> {
    let blocks = snapshot.blocks.iter();
    let unpacked = blocks.map(|b| (b.id, zstd::bulk::decompress(&b.bytes, b.raw_bytes).unwrap()));
    unpacked.collect()
}

#[test]
fn a_state_of_the_present_layout_is_written_to_the_bit_as_it_was_read() {
    if std::env::var_os("UPDATE_LAYOUT").is_some() {
        return write_the_folder_of_this_version();
    }
    let changed = "the layout of a state changed: crates/engine/src/state/migrate/mod.rs says what to do";
    let states = states(STATE_VERSION);
    let [metrics, lines, of_signals] = &states[..] else {
        panic!("three states")
    };
    let again = |blocks| Frozen { offset: 0, blocks }.encode().unwrap();
    for (source, state) in sources().iter().zip([metrics, lines]) {
        let mut partition = DetectPartition::load(source, 10_000, state.clone()).expect(changed);
        let again = again(partition.freeze().unwrap());
        assert!(unpacked(&again) == unpacked(state), "{}: {changed}", source.topic);
    }
    let mut partition = CorrelatePartition::load(of_signals.clone()).expect(changed);
    assert!(
        unpacked(&again(partition.freeze().unwrap())) == unpacked(of_signals),
        "{changed}"
    );
}

fn write_the_folder_of_this_version() {
    let write = |name: &str, content: &[u8]| {
        std::fs::create_dir_all(folder(STATE_VERSION)).unwrap();
        std::fs::write(folder(STATE_VERSION).join(name), content).unwrap();
    };
    let mut play = Play::new(None);
    play.run(0..BEFORE);
    write("states", &postcard::to_stdvec(&play.states()).unwrap());
    write("events-before.txt", play.events.as_bytes());
    play.events.clear();
    play.signals.clear();
    play.run(BEFORE..AFTER);
    write("events-after.txt", play.events.as_bytes());
    write("signals-after.txt", play.signals.as_bytes());
}
