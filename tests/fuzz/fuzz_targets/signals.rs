//! Records of the topic between the stages, of the events and of the ledger, or bytes that claim to be: what is read can be
//! written and reads the same again.
#![no_main]

use foreshock_wire::{event, ledger, signals};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(record) = signals::decode(data) {
        let mut once = Vec::new();
        signals::encode(&record, &mut once);
        let again = signals::decode(&once).expect("what was written can be read");
        let mut twice = Vec::new();
        signals::encode(&again, &mut twice);
        // By bytes: numbers that are none equal nothing, not even themselves.
        assert_eq!(once, twice, "a record that changes by being written");
    }
    if let Ok(record) = event::decode(data) {
        let mut once = Vec::new();
        event::encode(&record, &mut once);
        event::decode(&once).expect("what was written can be read");
        let _ = (event::headers(&record, "foreshock"), event::dedup_key(&record));
    }
    if let Ok(entry) = ledger::decode(data) {
        let mut once = Vec::new();
        ledger::encode(&entry, &mut once);
        ledger::decode(&once).expect("what was written can be read");
        let _ = ledger::headers(&entry, "foreshock");
    }
});
