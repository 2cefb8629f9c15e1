//! Snapshots of a partition of the second stage.
#![no_main]

include!("snapshot.rs");

thread_local! {
    static SIGNALS_LIVED: Lived = lived(SIGNALS);
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| SIGNALS_LIVED.with(|lived| check(lived, SIGNALS, data)));
