//! A black-box probe fails when it says down and never up for k windows in a row, and has recovered when it says up and never
//! down for as many. The onset is the first sample of the run that said down; the end is the start of the first window of
//! the run that said up.
//!
//! Fails on a probe that is itself broken (it then reports its own failure), and on outages shorter than k windows, by design.
//!
//! Cost: O(1) and some 100 bytes a probe series; windows without a sample of the probe count neither way, late ones are ignored.

use std::fmt;

use foreshock_domain::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cause::{CauseKey, Change, Kind};

/// Which values of a probe mean down, such as `== 0` or `< 0.5`. NaN never does. Read from and written as its text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Down {
    op: Op,
    value: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Equal,
    NotEqual,
    Below,
    AtMost,
    Above,
    AtLeast,
}

impl Default for Down {
    fn default() -> Self {
        Self {
            op: Op::Equal,
            value: 0.0,
        }
    }
}

impl Down {
    /// Reads a comparison: `==`, `!=`, `<`, `<=`, `>` or `>=` and a finite number.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        const OPS: [(&str, Op); 6] = [
            ("==", Op::Equal),
            ("!=", Op::NotEqual),
            ("<=", Op::AtMost),
            (">=", Op::AtLeast),
            ("<", Op::Below),
            (">", Op::Above),
        ];
        let text = text.trim();
        let (rest, op) = OPS
            .iter()
            .find_map(|(sign, op)| Some((text.strip_prefix(sign)?, *op)))?;
        let value: f64 = rest.trim().parse().ok()?;
        value.is_finite().then_some(Self { op, value })
    }

    /// Whether this value means down.
    #[must_use]
    #[allow(clippy::float_cmp)] // probes say exactly 0 or 1
    pub fn holds(self, x: f64) -> bool {
        match self.op {
            Op::Equal => x == self.value,
            Op::NotEqual => x != self.value && !x.is_nan(),
            Op::Below => x < self.value,
            Op::AtMost => x <= self.value,
            Op::Above => x > self.value,
            Op::AtLeast => x >= self.value,
        }
    }
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.op {
            Op::Equal => "==",
            Op::NotEqual => "!=",
            Op::Below => "<",
            Op::AtMost => "<=",
            Op::Above => ">",
            Op::AtLeast => ">=",
        };
        write!(f, "{sign} {}", self.value)
    }
}

impl Serialize for Down {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Down {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("invalid comparison, expected such as \"== 0\" or \"< 0.5\""))
    }
}

/// What a probe said in one window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProbeWindow {
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) up: u32,
    pub(crate) down: u32,
    pub(crate) first_down: Option<Timestamp>,
}

/// One probe series of one entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProbeRun {
    pub(crate) rule: Box<str>,
    pub(crate) series: Box<str>,
    /// End of the last window that counted.
    seen: Timestamp,
    /// Windows in a row that say down and never up, and the other way round. One of the two is 0.
    down_windows: u32,
    up_windows: u32,
    /// Since when the current run lasts.
    since: Timestamp,
    pub(crate) failing: bool,
}

impl ProbeRun {
    pub(crate) fn new(rule: &str, series: &str) -> Self {
        Self {
            rule: rule.into(),
            series: series.into(),
            seen: Timestamp::MIN,
            down_windows: 0,
            up_windows: 0,
            since: Timestamp::MIN,
            failing: false,
        }
    }

    /// End of the last window that counted.
    pub(crate) const fn seen(&self) -> Timestamp {
        self.seen
    }

    pub(crate) fn key(&self) -> CauseKey {
        CauseKey::new(Kind::Probe, &self.rule, &self.series)
    }

    /// Takes the next window; `windows` in a row make a failure or end it.
    pub(crate) fn step(&mut self, w: &ProbeWindow, windows: u32) -> Option<Change> {
        if w.end <= self.seen || (w.up == 0 && w.down == 0) {
            return None;
        }
        self.seen = w.end;
        match (w.up, w.down) {
            (0, _) => {
                if self.down_windows == 0 {
                    self.since = w.first_down.unwrap_or(w.start);
                }
                (self.down_windows, self.up_windows) = (self.down_windows.saturating_add(1), 0);
            }
            (_, 0) => {
                if self.up_windows == 0 {
                    self.since = w.start;
                }
                (self.up_windows, self.down_windows) = (self.up_windows.saturating_add(1), 0);
            }
            // Both in one window is flapping: it neither fails nor recovers.
            _ => (self.down_windows, self.up_windows) = (0, 0),
        }
        if !self.failing && self.down_windows >= windows {
            self.failing = true;
            let evidence = format!("{} says down for {} windows", self.series, self.down_windows);
            return Some(Change::Began {
                key: self.key(),
                onset: self.since,
                ended: None,
                evidence,
            });
        }
        if self.failing && self.up_windows >= windows {
            self.failing = false;
            let evidence = format!("{} says up for {} windows", self.series, self.up_windows);
            return Some(Change::Ended {
                key: self.key(),
                ended: self.since,
                evidence,
            });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten-second windows: `u` up, `d` down, `m` both, `.` no sample.
    fn run(windows: &str, k: u32) -> Vec<(usize, bool, i64)> {
        let mut probe = ProbeRun::new("p", "up");
        let mut out = Vec::new();
        for (i, c) in (0..).zip(windows.chars()) {
            let start = Timestamp::from_secs(i * 10);
            let (up, down) = match c {
                'u' => (1, 0),
                'd' => (0, 1),
                'm' => (1, 1),
                _ => (0, 0),
            };
            let first_down = (down > 0).then(|| start + 4_000);
            let w = ProbeWindow {
                start,
                end: start + 10_000,
                up,
                down,
                first_down,
            };
            match probe.step(&w, k) {
                Some(Change::Began { onset, .. }) => out.push((out.len(), true, onset.as_millis() / 1_000)),
                Some(Change::Ended { ended, .. }) => out.push((out.len(), false, ended.as_millis() / 1_000)),
                None => {}
            }
        }
        out
    }

    #[test]
    fn runs_of_windows() {
        /// Name, windows, k, and what is told.
        type Case<'a> = (&'a str, &'a str, u32, &'a [(usize, bool, i64)]);
        let cases: [Case<'_>; 11] = [
            ("nothing", "", 3, &[]),
            ("always up", "uuuuuu", 3, &[]),
            ("one short of k", "uddu", 3, &[]),
            ("exactly k", "uddd", 3, &[(0, true, 14)]),
            ("and back", "udddduuu", 3, &[(0, true, 14), (1, false, 50)]),
            ("back too short", "ddduudddduu", 3, &[(0, true, 4)]),
            ("both says neither", "ddmdd", 3, &[]),
            ("gaps do not count", "d.d..d", 3, &[(0, true, 4)]),
            ("k of one", "du", 1, &[(0, true, 4), (1, false, 10)]),
            ("down from the start", "ddd", 3, &[(0, true, 4)]),
            ("twice", "ddduuudddu", 3, &[(0, true, 4), (1, false, 30), (2, true, 64)]),
        ];
        for (name, windows, k, expected) in cases {
            assert_eq!(run(windows, k), expected, "{name}");
        }
    }

    #[test]
    fn late_and_repeated_windows_count_once() {
        let mut probe = ProbeRun::new("p", "up");
        let start = Timestamp::from_secs(100);
        let w = ProbeWindow {
            start,
            end: start + 10_000,
            up: 0,
            down: 1,
            first_down: Some(start),
        };
        for _ in 0..5 {
            assert_eq!(probe.step(&w, 2), None);
        }
        let early = ProbeWindow {
            start: start - 50_000,
            end: start - 40_000,
            ..w
        };
        assert_eq!(probe.step(&early, 2), None);
    }

    #[test]
    fn comparisons() {
        let cases = [
            ("== 0", 0.0, Some(true)),
            ("== 0", 1.0, Some(false)),
            ("==0", -0.0, Some(true)),
            ("!= 1", 0.0, Some(true)),
            ("!= 1", f64::NAN, Some(false)),
            ("< 0.5", 0.4, Some(true)),
            ("<= 0.5", 0.5, Some(true)),
            ("> 2e3", f64::INFINITY, Some(true)),
            (">= 1", f64::NAN, Some(false)),
            ("= 0", 0.0, None),
            ("== NaN", 0.0, None),
            ("", 0.0, None),
        ];
        for (text, x, expected) in cases {
            assert_eq!(Down::parse(text).map(|down| down.holds(x)), expected, "{text} of {x}");
        }
        assert_eq!(Down::parse(">=0.25").unwrap().to_string(), ">= 0.25");
    }
}
