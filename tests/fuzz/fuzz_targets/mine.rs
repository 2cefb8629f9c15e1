//! The miner, and the joiner of traces, on arbitrary lines: no panic, the same line twice has the same id, no control character in a template's text,
//! and memory stays bounded however long it goes on.
#![no_main]

use std::cell::RefCell;

use foreshock_domain::{Level, Timestamp};
use foreshock_logs::{LinePlace, Miner, TraceJoiner, telling_line};
use libfuzzer_sys::fuzz_target;

/// Small, so that eviction is met all the time.
const FORMS_MAX: usize = 256;
/// What 256 forms of the longest lines, their evidence and the tombstones may take.
const STATE_BYTES_MAX: usize = 2 << 20;

thread_local! {
    /// Lives from input to input: what one input leaves behind meets the next.
    static OLD: RefCell<(Miner, u64)> = RefCell::new((Miner::with_forms_max(FORMS_MAX), 0));
}

const LEVELS: [Option<Level>; 7] = [
    None,
    Some(Level::Trace),
    Some(Level::Debug),
    Some(Level::Info),
    Some(Level::Warning),
    Some(Level::Error),
    Some(Level::Fatal),
];

fn feed(miner: &mut Miner, text: &str, level: Option<Level>) {
    for line in text.split('\n') {
        let evicted = miner.evicted();
        let first = miner.mine(line, level);
        let again = miner.mine(line, level);
        assert!(!again.first_seen, "seen twice for the first time");
        // A template that is pushed out takes what it had merged with it; its lines then begin anew.
        if miner.evicted() == evicted {
            assert_eq!(
                miner.canonical(first.id),
                miner.canonical(again.id),
                "two ids for one line"
            );
        }
        if let Some(text) = miner.template(miner.canonical(again.id)) {
            assert!(!text.contains(char::is_control), "a control character in {text:?}");
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let level = LEVELS[*first as usize % LEVELS.len()];
    let text = String::from_utf8_lossy(rest);
    let (told, lines) = telling_line(&text);
    assert!(text.contains(told) && lines > 0);
    let mut joiner = TraceJoiner::default();
    for (i, line) in (0..).zip(text.split('\n')) {
        let place = joiner.place(line, level, Timestamp::from_millis(i));
        assert!(i > 0 || place == LinePlace::Head, "a first line is a head");
    }
    feed(&mut Miner::with_forms_max(64), &text, level);
    OLD.with_borrow_mut(|(miner, inputs)| {
        feed(miner, &text, level);
        *inputs += 1;
        if inputs.is_multiple_of(256) {
            assert!(miner.len() <= FORMS_MAX);
            let bytes = miner.state_bytes();
            assert!(bytes <= STATE_BYTES_MAX, "{bytes} bytes of state");
        }
    });
});
