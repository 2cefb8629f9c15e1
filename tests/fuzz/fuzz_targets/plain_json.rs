//! Records of the format `plain_json`, or of bytes that claim to be.
#![no_main]

include!("check_samples.rs");

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(Format::PlainJson, data));
