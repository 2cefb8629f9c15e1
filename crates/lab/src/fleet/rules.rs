//! What a failure is, seen from outside: three failed probes in a row, or a fifth of the customers' requests failed
//! over ten seconds. (That the process died is seen by `wait` and needs no rule.)

use std::collections::VecDeque;

use jiff::Timestamp;

/// Failed probes in a row.
const PROBES: u32 = 3;
/// Intervals that are looked at together: ten seconds at one sample in two.
const INTERVALS: usize = 5;
/// Fewer requests than this say nothing.
const REQUESTS_MIN: u64 = 20;

/// The requests of one interval.
#[derive(Clone, Copy, Debug)]
struct Interval {
    from: Timestamp,
    good: u64,
    failed: u64,
}

impl Interval {
    /// Whether a fifth or more failed.
    const fn is_bad(&self) -> bool {
        self.failed > 0 && self.failed * 5 >= self.good + self.failed
    }
}

/// Follows one instance.
#[derive(Debug, Default)]
pub struct Rules {
    failed_probes: u32,
    first_failed: Option<Timestamp>,
    intervals: VecDeque<Interval>,
}

impl Rules {
    /// Takes a probe; the onset of a failure where it makes one: the first of the failed probes.
    pub fn probe(&mut self, at: Timestamp, up: bool) -> Option<Timestamp> {
        if up {
            (self.failed_probes, self.first_failed) = (0, None);
            return None;
        }
        self.failed_probes += 1;
        let first = *self.first_failed.get_or_insert(at);
        (self.failed_probes >= PROBES).then_some(first)
    }

    /// Takes the requests of an interval; the onset of a failure where there is one: the begin of the first interval
    /// that was bad by itself. (The begin of the ten seconds would lie before the first failed request.)
    pub fn requests(&mut self, from: Timestamp, good: u64, failed: u64) -> Option<Timestamp> {
        self.intervals.push_back(Interval { from, good, failed });
        if self.intervals.len() > INTERVALS {
            self.intervals.pop_front();
        }
        let sum = |count: fn(&Interval) -> u64| self.intervals.iter().map(count).sum();
        let (good, failed) = (sum(|i| i.good), sum(|i| i.failed));
        let all = Interval { from, good, failed };
        if self.intervals.len() < INTERVALS || good + failed < REQUESTS_MIN || !all.is_bad() {
            return None;
        }
        self.intervals.iter().find(|i| i.is_bad()).map(|i| i.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(s).expect("a time")
    }

    #[test]
    fn three_failed_probes_in_a_row_are_a_failure_since_the_first() {
        let cases: [(&str, &str, Option<i64>); 5] = [
            ("good", "11111111", None),
            ("two", "11001001", None),
            ("three", "1100011", Some(2)),
            ("after a pause", "0011000", Some(4)),
            ("at once", "000", Some(0)),
        ];
        for (name, probes, expected) in cases {
            let mut rules = Rules::default();
            let onset = probes
                .chars()
                .zip(0..)
                .find_map(|(up, s)| rules.probe(at(s), up == '1'));
            assert_eq!(onset, expected.map(at), "{name}");
        }
    }

    #[test]
    fn a_fifth_of_failed_requests_is_a_failure_since_the_first_bad_interval() {
        type Case<'a> = (&'a str, &'a [(u64, u64)], Option<i64>);
        let cases: &[Case<'_>] = &[
            ("good", &[(20, 0); 9], None),
            ("some", &[(20, 3); 9], None),
            ("all at once", &[(20, 0), (20, 0), (20, 0), (20, 0), (0, 20)], Some(8)),
            ("a blip", &[(20, 0), (20, 0), (10, 10), (20, 0), (20, 0), (20, 0)], None),
            (
                "slowly",
                &[(20, 0), (20, 0), (16, 4), (15, 5), (10, 10), (9, 9)],
                Some(4),
            ),
            ("hardly any requests", &[(0, 3); 6], None),
            ("not ten seconds yet", &[(0, 20); 4], None),
            ("none", &[(0, 0); 9], None),
        ];
        for (name, intervals, expected) in cases {
            let mut rules = Rules::default();
            let onset =
                (intervals.iter().zip(0..)).find_map(|((good, failed), n)| rules.requests(at(2 * n), *good, *failed));
            assert_eq!(onset, expected.map(at), "{name}");
        }
    }
}
