//! Records of the format `syslog`, or of bytes that claim to be.
#![no_main]

include!("check.rs");

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(Format::Syslog, data));
