//! Snapshots of earlier versions, of both stages: their blocks are migrated first.
#![no_main]

include!("snapshot.rs");

/// What a program of an earlier version stored, in the order of the test `upgrade`: metrics, logs, signals.
const STORED: [&[u8]; 2] = [
    include_bytes!("../../../crates/engine/tests/upgrade/8/states"),
    include_bytes!("../../../crates/engine/tests/upgrade/9/states"),
];

/// Partitions of earlier versions; what they stored is taken up, and the records that come next are of this version.
fn older() -> Vec<(TopicPartition, Lived)> {
    let all = STORED.into_iter().flat_map(|bytes| {
        let stored: Vec<Snapshot> = postcard::from_bytes(bytes).expect("a list of snapshots");
        [input(1), input(2), SIGNALS].into_iter().zip(stored)
    });
    let mut older = Vec::new();
    for (of, snapshot) in all {
        let mut next = lived(of).next;
        next.truncate(4);
        let mut lived = Lived::new(snapshot, next);
        lived.snapshot.offset = 0;
        assert!(assign(&mut engine(), of, Some(lived.snapshot.clone())), "it is migrated");
        older.push((of, lived));
    }
    older
}

thread_local! {
    static OLDER: Vec<(TopicPartition, Lived)> = older();
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| OLDER.with(|older| {
    // The other bits of the first byte say which partition.
    if let Some(first) = data.first() {
        let (of, lived) = &older[usize::from(first >> 1) % older.len()];
        check(lived, *of, data);
    }
}));
