//! Snapshots of a partition of the first stage.
#![no_main]

include!("snapshot.rs");

thread_local! {
    static METRICS: Lived = lived(input(1));
    static LOGS: Lived = lived(input(2));
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // The second bit of the first byte says which input.
    if data.first().is_some_and(|b| b & 2 == 0) {
        METRICS.with(|lived| check(lived, input(1), data));
    } else {
        LOGS.with(|lived| check(lived, input(2), data));
    }
});
