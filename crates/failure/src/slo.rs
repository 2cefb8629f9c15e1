//! An error budget burns when errors come faster than the objective allows; here it is a failure when they come 14.4 times
//! too fast over both 1 h and 5 min, or 6 times over both 6 h and 30 min. The long window says that it matters, the short
//! one that it still goes on. 3 times over 1 d and 2 h, or once over 3 d and 6 h, is no failure yet: the budget will not last,
//! and that is a precursor.
//!
//! Fails with little traffic (hence `min_events`), and where errors and totals reach different partitions of which one lags.
//!
//! Cost: 240 additions a window and entity, 3.9 KiB a rule and entity that has the counters. Beyer et al., *The Site Reliability
//! Workbook* (2018), chapter 5, "Multiwindow, Multi-Burn-Rate Alerts".
//!
//! Differs: a window is 60 buckets and ends with a bucket that is still filling, so the short window of 5 buckets covers 4
//! to 5 of them; a slow window says nothing before a quarter of it was seen. Buckets are in event time, so windows may come in any order within the long window.

use foreshock_domain::{SlowBurn, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cause::{CauseKey, Change, Kind};

/// Buckets of a long window.
const LONG_BUCKETS: usize = 60;
/// Buckets of a short window: a twelfth.
const SHORT_BUCKETS: usize = LONG_BUCKETS / 12;
/// Length of the long window in ms, and how many times too fast is a failure: 2 % of a 30-day budget in 1 h, 5 % in 6 h.
pub(crate) const PAIRS: [(i64, f64); 2] = [(HOUR_MS, 14.4), (6 * HOUR_MS, 6.0)];
/// The same for what is a precursor: 10 % of a 30-day budget in 1 d, and in 3 d.
pub(crate) const PRECURSORS: [(i64, f64); 2] = [(24 * HOUR_MS, 3.0), (72 * HOUR_MS, 1.0)];
/// Buckets of a slow window that must have been seen: what is no more than an hour of errors is for the pairs above.
const SEEN_BUCKETS: i64 = LONG_BUCKETS as i64 / 4;
const HOUR_MS: i64 = 3_600_000;

/// What is counted beside all events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Counts {
    Bad,
    Good,
}

/// The burn of one objective for one entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Burn {
    pub(crate) rule: Box<str>,
    pub(crate) counts: Counts,
    /// By pair: first those of a failure.
    rings: Vec<Ring>,
    pub(crate) burning: bool,
    /// The pair of a precursor that burns, if one does.
    slow: Option<SlowBurn>,
    /// First event counted, good ones where those are counted: before that nothing is known of what is bad.
    first_at: Option<Timestamp>,
    /// End of the last bucket that burned too fast.
    last_burn_end: Timestamp,
}

/// Counted and all events by bucket of event time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ring {
    width_ms: i64,
    counts: Counts,
    /// Number of the newest bucket since 1970; older ones stand before it, modulo the length.
    head: i64,
    buckets: Vec<(f64, f64)>,
}

/// Sums over the newest buckets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    errors: f64,
    total: f64,
}

impl Sums {
    /// Share of bad events, in 0–1: errors whose totals have not come yet can't make it more.
    fn ratio(self) -> f64 {
        if self.total > 0.0 {
            (self.errors / self.total).min(1.0)
        } else {
            0.0
        }
    }
}

impl Ring {
    fn new(width_ms: i64, counts: Counts) -> Self {
        Self {
            width_ms,
            counts,
            head: i64::MIN,
            buckets: vec![(0.0, 0.0); LONG_BUCKETS],
        }
    }

    fn number(&self, at: Timestamp) -> i64 {
        // Never 0 as made here; a damaged snapshot must not divide by it.
        at.as_millis().div_euclid(self.width_ms.max(1))
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the remainder is in 0..60
    fn slot(number: i64) -> usize {
        number.rem_euclid(LONG_BUCKETS as i64) as usize
    }

    /// Moves on to the bucket of `at`, emptying those that fall out.
    fn advance(&mut self, at: Timestamp) {
        let number = self.number(at);
        if number <= self.head {
            return;
        }
        let first = number
            .saturating_sub(LONG_BUCKETS as i64 - 1)
            .max(self.head.saturating_add(1));
        for stale in first..=number {
            if let Some(bucket) = self.buckets.get_mut(Self::slot(stale)) {
                *bucket = (0.0, 0.0);
            }
        }
        self.head = number;
    }

    /// Adds to the bucket of `at`; what is older than the ring is too late to matter.
    fn add(&mut self, at: Timestamp, counted: f64, total: f64) {
        self.advance(at);
        let number = self.number(at);
        let in_ring = self.head.saturating_sub(number) < LONG_BUCKETS as i64;
        if let Some(bucket) = self.buckets.get_mut(Self::slot(number)).filter(|_| in_ring) {
            bucket.0 += counted;
            bucket.1 += total;
        }
    }

    /// Whether a window of it has been seen long enough since the first event, to say what is slow.
    fn seen_since(&self, first_at: Option<Timestamp>) -> bool {
        let first = first_at.map_or(i64::MAX, |at| self.number(at));
        self.head.saturating_sub(first) >= SEEN_BUCKETS
    }

    /// Start of the oldest bucket.
    fn oldest(&self) -> Timestamp {
        let number = self.head.saturating_sub(LONG_BUCKETS as i64 - 1);
        Timestamp::from_millis(number.saturating_mul(self.width_ms))
    }

    fn bucket(&self, number: i64) -> Sums {
        let sums = self.buckets.get(Self::slot(number)).copied().unwrap_or_default();
        self.counts.sums(sums)
    }

    /// Sums of the newest `count` buckets, oldest first, so that the same records give the same bits.
    fn sums(&self, count: usize) -> Sums {
        let newest = (0..count as i64).rev().map(|back| {
            let number = self.head.saturating_sub(back);
            self.buckets.get(Self::slot(number)).copied().unwrap_or_default()
        });
        // Differences are taken of the sums: what is good may be counted in the bucket after.
        self.counts.sums(newest.fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1)))
    }

    /// Start of the run of buckets at the end of the ring that burn at `limit` or more, and the end of its last one. Buckets
    /// without traffic neither belong to the run nor break it.
    fn run(&self, limit: f64) -> Option<(Timestamp, Timestamp)> {
        let (mut first, mut last) = (None, None);
        for back in 0..LONG_BUCKETS as i64 {
            let number = self.head.saturating_sub(back);
            let bucket = self.bucket(number);
            if bucket.total <= 0.0 {
                continue;
            }
            if bucket.ratio() >= limit {
                first = Some(number);
                last = last.or(Some(number));
            } else if first.is_some() {
                break;
            }
        }
        let at = |number: i64| Timestamp::from_millis(number.saturating_mul(self.width_ms));
        Some((at(first?), at(last?.saturating_add(1))))
    }
}

impl Counts {
    fn sums(self, (counted, total): (f64, f64)) -> Sums {
        let errors = match self {
            Self::Bad => counted,
            Self::Good => (total - counted).max(0.0),
        };
        Sums { errors, total }
    }
}

impl Burn {
    pub(crate) fn new(rule: &str, counts: Counts) -> Self {
        let pairs = PAIRS.iter().chain(&PRECURSORS);
        let rings = pairs
            .map(|(long_ms, _)| Ring::new(long_ms / LONG_BUCKETS as i64, counts))
            .collect();
        Self {
            rule: rule.into(),
            counts,
            rings,
            burning: false,
            slow: None,
            first_at: None,
            last_burn_end: Timestamp::MIN,
        }
    }

    pub(crate) fn key(&self) -> CauseKey {
        CauseKey::new(Kind::SloBurn, &self.rule, "")
    }

    /// Adds the increase of a counter over a window that starts at `start`. What is no number of events counts as none.
    pub(crate) fn add(&mut self, start: Timestamp, is_part: bool, increase: f64) {
        if !(increase > 0.0 && increase.is_finite()) {
            return;
        }
        if is_part || self.counts == Counts::Bad {
            self.first_at = Some(self.first_at.map_or(start, |first| first.min(start)));
        } else if self.first_at.is_none_or(|first| start < first) {
            // Where nothing good was ever counted, nobody knows whether anybody counts it.
            return;
        }
        let (part, all) = if is_part { (increase, 0.0) } else { (0.0, increase) };
        // What a failure burns is told by the failure, and must not foretell the next one for a day.
        let rings = if self.burning { PAIRS.len() } else { self.rings.len() };
        self.rings
            .iter_mut()
            .take(rings)
            .for_each(|ring| ring.add(start, part, all));
    }

    /// What burns too fast to last and too slowly to be a failure.
    pub(crate) fn slow(&self) -> Option<SlowBurn> {
        self.slow.clone().filter(|_| !self.burning)
    }

    /// Moves on to `now` and says whether the burn began or ended. `objective` in (0, 1).
    pub(crate) fn evaluate(&mut self, now: Timestamp, objective: f64, min_events: f64) -> Option<Change> {
        // The last instant before `now`: at the end of a bucket the next one has not begun.
        self.rings.iter_mut().for_each(|ring| ring.advance(now - 1));
        let budget = 1.0 - objective;
        let burns = |ring: &Ring, factor: f64| {
            let (long, short) = (ring.sums(LONG_BUCKETS), ring.sums(SHORT_BUCKETS));
            // A burn rate can't pass 1 / budget; a looser objective needs every event bad.
            let limit = (factor * budget).min(1.0);
            let burns = long.total >= min_events && long.ratio() >= limit && short.ratio() >= limit;
            burns.then_some((limit, long, short))
        };
        let fast = self.rings.iter().zip(PAIRS).find_map(|(ring, (long_ms, factor))| {
            let (limit, long, short) = burns(ring, factor)?;
            Some((limit, told(long, short, long_ms / HOUR_MS, budget, factor)))
        });
        let slow = self.rings.iter().skip(PAIRS.len()).zip(PRECURSORS);
        self.slow = slow
            .filter(|(ring, _)| ring.seen_since(self.first_at))
            .find_map(|(ring, (long_ms, factor))| {
                let (_, long, _) = burns(ring, factor)?;
                Some(SlowBurn {
                    rule: self.rule.clone(),
                    rate: long.ratio() / budget,
                    limit: factor,
                    window_s: (long_ms / 1_000) as f64,
                })
            });
        match (self.burning, fast) {
            (was_burning, Some((limit, evidence))) => {
                self.burning = true;
                let (onset, end) = self.span(limit).unwrap_or((now, now));
                self.last_burn_end = end.min(now);
                (!was_burning).then(|| Change::Began {
                    key: self.key(),
                    onset,
                    ended: None,
                    evidence,
                })
            }
            (true, None) => {
                self.burning = false;
                let evidence = format!("burn of {} is under its limits", self.rule);
                Some(Change::Ended {
                    key: self.key(),
                    ended: self.last_burn_end,
                    evidence,
                })
            }
            (false, None) => None,
        }
    }

    /// Since when and until when events have been bad at `limit` or more: to the minute from the finer ring, and where that one
    /// burns from its oldest bucket on, the start from the coarser.
    fn span(&self, limit: f64) -> Option<(Timestamp, Timestamp)> {
        let mut runs = self
            .rings
            .iter()
            .take(PAIRS.len())
            .filter_map(|ring| Some((ring.run(limit)?, ring.oldest())));
        let ((onset, end), oldest) = runs.next()?;
        let longer = runs.next().map_or(onset, |((earlier, _), _)| earlier.min(onset));
        Some((if onset > oldest { onset } else { longer }, end))
    }
}

/// What burns, for a person.
fn told(long: Sums, short: Sums, hours: i64, budget: f64, factor: f64) -> String {
    format!(
        "{:.2} % of events bad over {hours} h and {:.2} % over {} min, {:.1} and {:.1} times the budget, limit {factor}",
        long.ratio() * 100.0,
        short.ratio() * 100.0,
        hours * 5,
        long.ratio() / budget,
        short.ratio() / budget,
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000;
    const OBJECTIVE: f64 = 0.999;
    const START: Timestamp = Timestamp::from_secs(1_800_000_000);

    /// Feeds minutes of (errors, total) and says at which minute a burn began or ended, and its onset or end as a minute.
    fn run(minutes: &[(f64, f64)], min_events: f64) -> Vec<(usize, &'static str, i64)> {
        let mut burn = Burn::new("slo", Counts::Bad);
        let mut out = Vec::new();
        for (i, (errors, total)) in minutes.iter().enumerate() {
            let start = START + i as i64 * MINUTE;
            burn.add(start, true, *errors);
            burn.add(start, false, *total);
            let minute = |at: Timestamp| (at - START).div_euclid(MINUTE);
            match burn.evaluate(start + MINUTE, OBJECTIVE, min_events) {
                Some(Change::Began { onset, .. }) => out.push((i, "began", minute(onset))),
                Some(Change::Ended { ended, .. }) => out.push((i, "ended", minute(ended))),
                None => {}
            }
        }
        out
    }

    fn minutes(parts: &[(usize, f64, f64)]) -> Vec<(f64, f64)> {
        parts
            .iter()
            .flat_map(|(count, errors, total)| std::iter::repeat_n((*errors, *total), *count))
            .collect()
    }

    #[test]
    fn burns() {
        // 1,000 events a minute; the budget is one in a thousand, the fast limit 14.4 in a thousand.
        let cases = [
            ("no traffic", minutes(&[(120, 0.0, 0.0)]), 100.0, vec![]),
            ("no errors", minutes(&[(120, 0.0, 1_000.0)]), 100.0, vec![]),
            ("within the budget", minutes(&[(600, 1.0, 1_000.0)]), 100.0, vec![]),
            ("just under both limits", minutes(&[(400, 5.9, 1_000.0)]), 100.0, vec![]),
            (
                "at the fast limit from the start",
                minutes(&[(1, 14.4, 1_000.0)]),
                100.0,
                vec![(0, "began", 0)],
            ),
            // 60 bad minutes at 10 in a thousand are 1.67 over 6 h at first; they reach 6 when 216 of 360 are bad.
            (
                "slow burn",
                minutes(&[(360, 0.0, 1_000.0), (300, 10.0, 1_000.0)]),
                100.0,
                vec![(576, "began", 360)],
            ),
            // 100 % bad: the hour passes 14.4 in a thousand within its first bad minute, the 5 minutes too.
            (
                "outage",
                minutes(&[(60, 0.0, 1_000.0), (10, 1_000.0, 1_000.0)]),
                100.0,
                vec![(60, "began", 60)],
            ),
            ("little traffic", minutes(&[(10, 9.0, 9.0)]), 100.0, vec![]),
            (
                "enough traffic at last",
                minutes(&[(12, 9.0, 9.0)]),
                100.0,
                vec![(11, "began", 0)],
            ),
            ("errors without totals", minutes(&[(10, 100.0, 0.0)]), 1.0, vec![]),
            (
                "a blip is not sustained",
                minutes(&[(360, 0.0, 1_000.0), (1, 200.0, 1_000.0), (60, 0.0, 1_000.0)]),
                100.0,
                vec![],
            ),
        ];
        for (name, minutes, min_events, expected) in cases {
            assert_eq!(run(&minutes, min_events), expected, "{name}");
        }
    }

    #[test]
    fn an_outage_ends_when_the_short_windows_are_clean() {
        let minutes = minutes(&[(360, 0.0, 1_000.0), (30, 500.0, 1_000.0), (60, 0.0, 1_000.0)]);
        let got = run(&minutes, 100.0);
        assert_eq!(got.len(), 2, "{got:?}");
        assert_eq!((got[0].1, got[0].2), ("began", 360));
        // The 6 h pair's short window holds the last bad minute for up to 30 minutes more.
        assert_eq!(got[1].1, "ended");
        assert!((390..=396).contains(&got[1].2), "to the bucket: {got:?}");
        assert!((390..=425).contains(&got[1].0), "{got:?}");
    }

    /// At which minute the first precursor stands, and its rate.
    fn slow(counts: Counts, parts: &[(usize, f64, f64)], min_events: f64) -> Option<(usize, f64, f64)> {
        let mut burn = Burn::new("slo", counts);
        minutes(parts).into_iter().enumerate().find_map(|(i, (part, total))| {
            let start = START + i as i64 * MINUTE;
            burn.add(start, true, part);
            burn.add(start, false, total);
            assert_eq!(
                burn.evaluate(start + MINUTE, OBJECTIVE, min_events),
                None,
                "no failure at minute {i}"
            );
            burn.slow()
                .map(|s| (i, (s.rate * 100.0).round() / 100.0, s.window_s / 3_600.0))
        })
    }

    #[test]
    fn slow_burns_are_no_failures() {
        const DAY: usize = 1_440;
        let cases = [
            ("within the budget", Counts::Bad, vec![(4 * DAY, 0.99, 1_000.0)], None),
            // 15 buckets of 24 minutes must have been seen.
            (
                "3.5 times, from the start",
                Counts::Bad,
                vec![(DAY, 3.5, 1_000.0)],
                Some((360, 3.5, 24.0)),
            ),
            // 15 buckets of 72 minutes, of which the first had begun before.
            (
                "1.5 times, from the start",
                Counts::Bad,
                vec![(3 * DAY, 1.5, 1_000.0)],
                Some((1_032, 1.5, 72.0)),
            ),
            (
                "1.5 times and then clean",
                Counts::Bad,
                vec![(900, 1.5, 1_000.0), (3 * DAY, 0.0, 1_000.0)],
                None,
            ),
            ("little traffic", Counts::Bad, vec![(3 * DAY, 0.000_05, 0.01)], None),
            (
                "good events",
                Counts::Good,
                vec![(DAY, 996.5, 1_000.0)],
                Some((360, 3.5, 24.0)),
            ),
            ("all are good", Counts::Good, vec![(2 * DAY, 1_000.0, 1_000.0)], None),
            (
                "more good than all",
                Counts::Good,
                vec![(2 * DAY, 1_001.0, 1_000.0)],
                None,
            ),
            (
                "nobody counts the good",
                Counts::Good,
                vec![(2 * DAY, 0.0, 1_000.0)],
                None,
            ),
        ];
        for (name, counts, parts, expected) in cases {
            assert_eq!(slow(counts, &parts, 100.0), expected, "{name}");
        }
    }

    #[test]
    fn what_is_not_good_is_bad() {
        let mut burn = Burn::new("slo", Counts::Good);
        let began = minutes(&[(60, 1_000.0, 1_000.0), (3, 500.0, 1_000.0)])
            .iter()
            .enumerate()
            .find_map(|(i, (good, total))| {
                let start = START + i as i64 * MINUTE;
                burn.add(start, true, *good);
                burn.add(start, false, *total);
                burn.evaluate(start + MINUTE, OBJECTIVE, 100.0)
                    .map(|change| (i, change))
            });
        let Some((60, Change::Began { onset, .. })) = began else {
            panic!("{began:?}")
        };
        assert_eq!(onset, START + 60 * MINUTE);
    }

    #[test]
    fn what_is_no_count_counts_nothing() {
        let mut burn = Burn::new("slo", Counts::Bad);
        for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -5.0, 0.0] {
            burn.add(START, true, x);
            burn.add(START, false, x);
        }
        assert_eq!(burn, Burn::new("slo", Counts::Bad));
        burn.add(Timestamp::MIN, true, 1.0);
        burn.add(Timestamp::from_millis(i64::MAX), true, 1.0);
        assert_eq!(burn.evaluate(Timestamp::from_millis(i64::MAX), OBJECTIVE, 0.0), None);
    }

    proptest! {
        #[test]
        fn the_order_within_the_long_window_does_not_matter(
            mut events in proptest::collection::vec((0i64..60, any::<bool>(), 1u8..100), 1..50)
        ) {
            let feed = |events: &[(i64, bool, u8)]| {
                let mut burn = Burn::new("slo", Counts::Bad);
                events.iter().for_each(|(m, errors, n)| burn.add(START + m * MINUTE, *errors, f64::from(*n)));
                burn.rings.iter_mut().for_each(|r| r.advance(START + 60 * MINUTE - 1));
                burn
            };
            let forward = feed(&events);
            events.reverse();
            prop_assert_eq!(feed(&events), forward);
        }

        #[test]
        fn sums_are_those_of_the_naive_formula(events in proptest::collection::vec((0i64..200, 1u8..100), 1..80)) {
            let mut ring = Ring::new(MINUTE, Counts::Bad);
            events.iter().for_each(|(m, n)| ring.add(START + m * MINUTE, f64::from(*n), 0.0));
            let newest = events.iter().map(|(m, _)| *m).max().unwrap();
            for (count, buckets) in [(LONG_BUCKETS, 60), (SHORT_BUCKETS, 5)] {
                // An event that came when the ring had moved past it is lost, and would be outside the sum in any case.
                let naive: f64 = events.iter().filter(|(m, _)| newest - m < buckets).map(|(_, n)| f64::from(*n)).sum();
                prop_assert_eq!(ring.sums(count).errors, naive);
            }
        }
    }
}
