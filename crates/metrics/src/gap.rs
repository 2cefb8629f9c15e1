//! Judges missing values: how often gaps begin and how long they last, and so how surprising it is that this one began and
//! lasts. A gap is a signal of its own, in intervals.
//!
//! **Fails when** gaps come by the clock (an hour of maintenance each night): each is as surprising as their rate says.
//! **Cost:** two logarithms a missing point, none otherwise; 16 bytes.
//! **Paper:** rate by Laplace's rule of succession; lengths by the Lomax tail P(L ≥ m) = (μ/(μ + m − 1))² around their mean
//! μ, K. S. Lomax, *Business failures*, Journal of the American Statistical Association 49(268), 1954, since outages of
//! collectors are heavy-tailed: a geometric tail called every longer one impossible. Where missing points are common, what
//! counts is how often a point is that far into a gap, the integral of that tail; where they are rare, each gap is one event.

use serde::{Deserialize, Serialize};

/// Points that the belief "gaps are rare" is worth before any was seen.
const PRIOR_POINTS: f64 = 50.0;
/// Share of missing points from which on they are common.
const COMMON: f64 = 0.05;
/// Longer gaps are jumps of the clock, not missing values; in intervals.
pub(crate) const LONGEST: u32 = 10_000;
/// Counts are halved here, so that old habits fade.
const MEMORY: u32 = 1 << 16;

/// What is known of a series' gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    present: u32,
    began: u32,
    missing: u32,
    run: u32,
}

impl Gap {
    /// Missing points in a row so far.
    #[must_use]
    pub fn run(&self) -> u32 {
        self.run
    }

    /// Points that a gap of this series lasts at most, 99 times in a hundred.
    #[must_use]
    pub fn usual(&self) -> f64 {
        1.0 + self.mean() * 9.0
    }

    /// Surprise (−log10 p) of a gap that has lasted `run` points; 0 for no gap.
    #[must_use]
    pub fn surprise(&self, run: u32) -> f64 {
        if run == 0 {
            return 0.0;
        }
        let points = f64::from(self.present) + f64::from(self.missing) + PRIOR_POINTS;
        let begins = ((f64::from(self.began) + 1.0) / points).min(1.0);
        let mean = self.mean();
        let lasts = mean / (mean + f64::from(run.min(LONGEST) - 1));
        let gap = -begins.log10() - 2.0 * lasts.log10();
        let point = -(begins * mean).min(1.0).log10() - lasts.log10();
        let common = (begins * mean / COMMON).powi(2).min(1.0);
        gap + common * (point - gap)
    }

    /// Takes in one present point.
    #[inline]
    pub fn learn_present(&mut self) {
        self.run = 0;
        self.present += 1;
        if self.present >= MEMORY {
            self.present /= 2;
            self.began /= 2;
            self.missing /= 2;
        }
    }

    /// Takes in `points` missing ones in a row.
    pub fn learn_missing(&mut self, points: u32) {
        if points == 0 || self.run >= LONGEST {
            return;
        }
        let points = points.min(LONGEST);
        self.began = self.began.saturating_add(u32::from(self.run == 0));
        self.missing = self.missing.saturating_add(points);
        self.run += points;
    }

    /// Mean length of a gap, in points; 1 before any was seen.
    fn mean(&self) -> f64 {
        (f64::from(self.missing) + 1.0) / (f64::from(self.began) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surprises_by_case() {
        let learned = |every: u32, lasting: u32| {
            let mut gap = Gap::default();
            for i in 0..5_000 {
                if every > 0 && i % every == 0 {
                    gap.learn_missing(lasting);
                }
                gap.learn_present();
            }
            gap
        };
        // (name, gaps every so many points, their length, run judged, lowest and highest surprise)
        let cases = [
            ("no gap", 0, 0, 0, 0.0, 0.0),
            ("the first ever", 0, 0, 1, 3.0, 4.0),
            ("it lasts", 0, 0, 10, 5.0, 7.0),
            ("they come all the time", 5, 1, 1, 0.0, 1.0),
            ("and never last", 5, 1, 12, 1.5, 3.0),
            ("they always last", 50, 20, 20, 0.3, 2.0),
            ("no run overflows", 0, 0, u32::MAX, 10.0, 20.0),
        ];
        for (name, every, lasting, run, lowest, highest) in cases {
            let surprise = learned(every, lasting).surprise(run);
            assert!((lowest..=highest).contains(&surprise), "{name}: {surprise}");
        }
    }

    #[test]
    fn counts_stay_bounded() {
        let mut gap = Gap::default();
        for _ in 0..200_000 {
            gap.learn_present();
            gap.learn_missing(u32::MAX);
        }
        assert!(gap.present <= MEMORY && gap.run <= LONGEST);
        assert!(gap.surprise(3).is_finite() && gap.usual() >= 1.0);
    }
}
