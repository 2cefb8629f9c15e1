//! An error budget burns when errors come faster than the objective allows; here it is a failure when they come 14.4 times
//! too fast over both 1 h and 5 min, or 6 times over both 6 h and 30 min. The long window says that it matters, the short
//! one that it still goes on.
//!
//! Fails with little traffic (hence `min_events`), and where errors and totals reach different partitions of which one lags.
//!
//! Cost: 120 additions a window and entity, 1.9 KiB a rule and entity that has the counters. Beyer et al., *The Site Reliability
//! Workbook* (2018), chapter 5, "Multiwindow, Multi-Burn-Rate Alerts".
//!
//! Differs: a window is 60 buckets and ends with a bucket that is still filling, so the short window of 5 buckets covers 4
//! to 5 of them. Buckets are in event time, so windows may come in any order within the long window.

use foreshock_domain::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cause::{CauseKey, Change, Kind};

/// Buckets of a long window.
const LONG_BUCKETS: usize = 60;
/// Buckets of a short window: a twelfth.
const SHORT_BUCKETS: usize = LONG_BUCKETS / 12;
/// Length of the long window in ms, and how many times too fast is a failure: 2 % of a 30-day budget in 1 h, 5 % in 6 h.
const PAIRS: [(i64, f64); 2] = [(3_600_000, 14.4), (21_600_000, 6.0)];

/// The burn of one objective for one entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Burn {
    pub(crate) rule: Box<str>,
    rings: Vec<Ring>,
    pub(crate) burning: bool,
    /// End of the last bucket that burned too fast.
    last_burn_end: Timestamp,
}

/// Bad and all events by bucket of event time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ring {
    width_ms: i64,
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
    fn new(width_ms: i64) -> Self {
        Self {
            width_ms,
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
    fn add(&mut self, at: Timestamp, errors: f64, total: f64) {
        self.advance(at);
        let number = self.number(at);
        let in_ring = self.head.saturating_sub(number) < LONG_BUCKETS as i64;
        if let Some(bucket) = self.buckets.get_mut(Self::slot(number)).filter(|_| in_ring) {
            bucket.0 += errors;
            bucket.1 += total;
        }
    }

    fn bucket(&self, number: i64) -> Sums {
        let (errors, total) = self.buckets.get(Self::slot(number)).copied().unwrap_or_default();
        Sums { errors, total }
    }

    /// Sums of the newest `count` buckets, oldest first, so that the same records give the same bits.
    fn sums(&self, count: usize) -> Sums {
        (0..count as i64)
            .rev()
            .map(|back| self.bucket(self.head.saturating_sub(back)))
            .fold(Sums::default(), |a, b| Sums {
                errors: a.errors + b.errors,
                total: a.total + b.total,
            })
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

impl Burn {
    pub(crate) fn new(rule: &str) -> Self {
        let rings = PAIRS
            .iter()
            .map(|(long_ms, _)| Ring::new(long_ms / LONG_BUCKETS as i64))
            .collect();
        Self {
            rule: rule.into(),
            rings,
            burning: false,
            last_burn_end: Timestamp::MIN,
        }
    }

    pub(crate) fn key(&self) -> CauseKey {
        CauseKey::new(Kind::SloBurn, &self.rule, "")
    }

    /// Adds the increase of a counter over a window that starts at `start`. What is no number of events counts as none.
    pub(crate) fn add(&mut self, start: Timestamp, errors: bool, increase: f64) {
        if !(increase > 0.0 && increase.is_finite()) {
            return;
        }
        let (bad, all) = if errors { (increase, 0.0) } else { (0.0, increase) };
        self.rings.iter_mut().for_each(|ring| ring.add(start, bad, all));
    }

    /// Moves on to `now` and says whether the burn began or ended. `objective` in (0, 1).
    pub(crate) fn evaluate(&mut self, now: Timestamp, objective: f64, min_events: f64) -> Option<Change> {
        let budget = 1.0 - objective;
        let mut fast: Option<(Timestamp, String)> = None;
        for (ring, (long_ms, factor)) in self.rings.iter_mut().zip(PAIRS) {
            // The last instant before `now`: at the end of a bucket the next one has not begun.
            ring.advance(now - 1);
            let (long, short) = (ring.sums(LONG_BUCKETS), ring.sums(SHORT_BUCKETS));
            // A burn rate can't pass 1 / budget; a looser objective needs every event bad.
            let limit = (factor * budget).min(1.0);
            if long.total < min_events || long.ratio() < limit || short.ratio() < limit {
                continue;
            }
            let (onset, end) = ring.run(limit).unwrap_or((now - long_ms / 12, now));
            self.last_burn_end = end.min(now);
            if fast.as_ref().is_none_or(|(earliest, _)| onset < *earliest) {
                let hours = long_ms / 3_600_000;
                let evidence = format!(
                    "{:.2} % of events bad over {hours} h and {:.2} % over {} min: {:.1} and {:.1} times what the objective {objective} allows, limit {factor}",
                    long.ratio() * 100.0,
                    short.ratio() * 100.0,
                    hours * 5,
                    long.ratio() / budget,
                    short.ratio() / budget,
                );
                fast = Some((onset, evidence));
            }
        }
        match (self.burning, fast) {
            (false, Some((onset, evidence))) => {
                self.burning = true;
                Some(Change::Began {
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
            _ => None,
        }
    }
}
