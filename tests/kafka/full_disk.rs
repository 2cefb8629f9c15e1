//! Brokers whose disk fills up in the middle of a transaction: what is written after there is room again is what an undisturbed
//! deployment writes.
//!
//! See `volume.rs`: this needs root.

use std::cell::OnceCell;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::broker::{Broker, kafka_folder, properties};
use crate::deployment::{Deployment, multiset};
use crate::pipeline::{Incident, complete};
use crate::process::Foreshock;
use crate::topics::Topics;
use crate::volume::{Volume, is_skipped};

const PATIENCE: Duration = Duration::from_secs(240);
const VOLUME_KIB: u64 = 192 << 10;
/// Room that is left each time, in KiB: enough to begin, and too little for all that is written.
const ROOM_KIB: [u64; 3] = [64, 112, 144];

fn is_alive(process: &Foreshock) {
    // Right after its start it does not answer yet.
    let is_alive = process.is_running() && process.get("/livez").is_none_or(|(status, _)| status == 200);
    assert!(is_alive, "a restart would mend nothing:\n{}", process.last_stderr());
}

#[test]
fn a_broker_whose_disk_is_full_ends_and_nothing_is_lost_or_doubled_when_it_is_back() {
    if is_skipped() {
        return;
    }
    let volume: OnceCell<Volume> = OnceCell::new();
    let settings = |folder: &Path, port, controller_port| {
        let volume = volume.get_or_init(|| Volume::mount(&kafka_folder().join("volume"), VOLUME_KIB));
        let data = folder.join("data").display().to_string();
        properties(folder, port, controller_port).replace(&data, &volume.folder().display().to_string())
    };
    let Some(broker) = Broker::with(&settings, &[]) else {
        return;
    };
    let volume = volume.get().expect("mounted");
    let topics = Topics::new(&broker, "full");
    let sources = Incident::create_inputs(&topics);
    Incident::new().send(&topics, 0.0, 1.0);
    let (calm, tried) = (
        Deployment::new(&broker, &topics, "calm", &sources),
        Deployment::new(&broker, &topics, "tried", &sources),
    );
    // Its own topics are there from the first commit on.
    let mut process = None;
    let mut committed = Vec::new();
    for room_kib in ROOM_KIB {
        volume.fill(room_kib);
        let process = process.get_or_insert_with(|| tried.launch("a"));
        let until = Instant::now() + PATIENCE;
        while !broker.has_ended() {
            assert!(Instant::now() < until, "{room_kib} KiB were enough for all");
            is_alive(process);
            std::thread::sleep(Duration::from_millis(200));
        }
        committed.push(process.metric("foreshock_epochs_committed_total").unwrap_or(0.0));
        println!(
            "{room_kib} KiB: the broker ended after {:.1} s",
            (PATIENCE - (until - Instant::now())).as_secs_f64()
        );
        // Nobody comes at once.
        std::thread::sleep(Duration::from_secs(5));
        is_alive(process);
        volume.free();
        broker.kill();
        broker.start();
    }
    let said = broker.output();
    println!(
        "epochs committed by then: {committed:?}; failed appends: {}",
        said.matches("Error while appending").count()
    );
    assert!(
        said.contains("No space left on device"),
        "{}",
        said.lines().last().unwrap_or_default()
    );
    let process = process.expect("launched");
    let calm_process = calm.start("a");
    let expected = multiset(&calm.events_until(PATIENCE, complete));
    assert!(expected.values().all(|n| *n == 1), "undisturbed: each event once");
    let events = tried.wait_for(PATIENCE, |seen| seen.len() >= expected.len() && complete(seen));
    assert_eq!(multiset(&events), expected);
    assert_eq!(tried.dead_letters(), calm.dead_letters());
    for process in [process, calm_process] {
        assert!(process.terminate(Duration::from_secs(30)).success());
    }
}
