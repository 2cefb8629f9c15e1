use super::*;
use crate::{LineValue, Miner};

/// Repeatable numbers (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

fn tally(values: &[String]) -> ValueTally {
    let mut miner = Miner::new();
    let mut tally: Option<ValueTally> = None;
    for value in values {
        let line = format!("x y={value} z");
        miner.mine(&line, None);
        miner.each_value(&line, 1 << 1, |v: LineValue<'_>| {
            let tally = tally.get_or_insert_with(|| ValueTally::new(None, &v));
            tally.add_number(v.number);
            tally.add_value(crate::value_hash(v.text));
        });
    }
    tally.unwrap_or_default()
}

/// What a place is said to be whose values are these, `lines` a window, and after how many windows that is said.
fn tried(lines: u64, mut value: impl FnMut(&mut Random, u64) -> String) -> (Option<ValueKind>, u64) {
    let mut random = Random(7);
    let (mut trial, mut nth) = (ValueTrial::default(), 0);
    for window in 0..9_000 {
        let values: Vec<String> = (0..lines)
            .map(|_| {
                nth += 1;
                value(&mut random, nth)
            })
            .collect();
        if let Some(kind) = trial.learn(&tally(&values), Learning::Normal) {
            return (Some(kind), window + 1);
        }
    }
    (None, 9_000)
}

type Values = fn(&mut Random, u64) -> String;

#[test]
fn kinds_by_case() {
    let cases: [(&str, u64, Values, ValueKind); 22] = [
        (
            "durations",
            5,
            |r, _| format!("{:.0}ms", 20.0 * (0.5 * r.normal()).exp()),
            ValueKind::Amount,
        ),
        (
            "durations without unit",
            5,
            |r, _| format!("{:.0}", 200.0 * r.normal().exp()),
            ValueKind::Amount,
        ),
        (
            "one a window",
            1,
            |r, _| format!("{:.3}", 2.0 * r.normal().exp()),
            ValueKind::Amount,
        ),
        (
            "microseconds",
            5,
            |r, _| format!("{:.0}", 9e4 * (0.5 * r.normal()).exp()),
            ValueKind::Amount,
        ),
        (
            "two hits of three",
            2,
            |r, _| {
                let middle = if r.below(3) == 0 { 1e3 } else { 1e5 };
                format!("{:.0}", middle * (0.2 * r.normal()).exp())
            },
            ValueKind::Amount,
        ),
        (
            "hits and misses",
            5,
            |r, _| {
                let middle = if r.below(2) == 0 { 1e3 } else { 1e5 };
                format!("{:.0}", middle * (0.2 * r.normal()).exp())
            },
            ValueKind::Amount,
        ),
        ("sizes", 5, |r, _| format!("{}KB", 1 + r.below(40)), ValueKind::Amount),
        (
            "length of a queue",
            5,
            |r, _| r.below(12).to_string(),
            ValueKind::Amount,
        ),
        (
            "status",
            5,
            |r, _| ["200", "200", "200", "301", "404"][r.below(5) as usize].into(),
            ValueKind::Set,
        ),
        ("always the same", 5, |_, _| "200".into(), ValueKind::Set),
        ("retries", 5, |r, _| r.below(3).to_string(), ValueKind::Set),
        (
            "hosts",
            5,
            |r, _| format!("db-{}.example.org", r.below(6)),
            ValueKind::Set,
        ),
        (
            "random ids",
            5,
            |r, _| r.below(1_000_000_000).to_string(),
            ValueKind::Nothing,
        ),
        (
            "ephemeral ports",
            5,
            |r, _| (32_768 + r.below(28_232)).to_string(),
            ValueKind::Nothing,
        ),
        ("a counter", 5, |_, n| (1_000 + n).to_string(), ValueKind::Nothing),
        (
            "ids of two threads",
            5,
            |r, n| (1_000 + 3 * n + r.below(8)).to_string(),
            ValueKind::Nothing,
        ),
        (
            "seconds since 1970",
            1,
            |_, n| (1_700_000_000 + 10 * n).to_string(),
            ValueKind::Nothing,
        ),
        (
            "uptime",
            1,
            |r, n| format!("{:.1}s", 10.0 * n as f64 + r.uniform()),
            ValueKind::Nothing,
        ),
        (
            "a countdown",
            2,
            |_, n| (100_000_000 - n).to_string(),
            ValueKind::Nothing,
        ),
        (
            "hexadecimal",
            5,
            |r, _| format!("{:08x}", r.next() >> 32),
            ValueKind::Nothing,
        ),
        ("paths", 5, |r, _| format!("/a/{}", r.below(1_000)), ValueKind::Nothing),
        (
            "long ids",
            5,
            |r, _| format!("1{:016}", r.next() >> 14),
            ValueKind::Nothing,
        ),
    ];
    for (name, lines, value, want) in cases {
        let (kind, windows) = tried(lines, value);
        assert_eq!(kind, Some(want), "{name} after {windows} windows");
    }
}

#[test]
fn a_gauge_that_begins_by_rising_is_tried_again() {
    let fills = |_: &mut Random, n: u64| format!("{:.0}", 1e6 * (1.0 - (-(n as f64) / 60.0).exp()) + (n % 7) as f64);
    let (kind, windows) = tried(1, fills);
    assert_eq!(kind, Some(ValueKind::Amount));
    assert!(windows > 128 && windows < 3_000, "{windows}");
}

#[test]
fn a_failure_teaches_nothing() {
    let mut trial = ValueTrial::default();
    for _ in 0..1_000 {
        assert_eq!(trial.learn(&tally(&["200".into()]), Learning::Paused), None);
    }
    assert_eq!(trial, ValueTrial::default());
}

#[test]
fn values_that_go_on_to_come_are_no_set() {
    let (kind, windows) = tried(5, |r, n| format!("v{}", r.below(5) + n / 900));
    assert!(
        kind != Some(ValueKind::Set) || windows < 200,
        "{kind:?} after {windows}"
    );
}

#[test]
fn a_trial_goes_on_after_loading() {
    let mut trial = ValueTrial::default();
    trial.learn(&tally(&["1ms".into(), "2ms".into()]), Learning::Normal);
    let mut loaded: ValueTrial = postcard::from_bytes(&postcard::to_stdvec(&trial).unwrap()).unwrap();
    let more = tally(&["5ms".into()]);
    assert_eq!(
        trial.learn(&more, Learning::Normal),
        loaded.learn(&more, Learning::Normal)
    );
    assert_eq!(
        postcard::to_stdvec(&trial).unwrap(),
        postcard::to_stdvec(&loaded).unwrap()
    );
}
