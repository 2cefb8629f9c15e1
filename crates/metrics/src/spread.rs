//! Compares how much the series moves from point to point now with how much it usually does: noise that grew, and a
//! sensor that is stuck. The statistic is the logarithm of the ratio, so that both directions count alike.
//!
//! **Fails when** the point-to-point movement depends on the hour (rush hours are noisier): the calibration then learns
//! the wider range. **Cost:** one logarithm; 8 bytes.
//! **Paper:** the EWMA chart for dispersion of S. V. Crowder, M. D. Hamilton, *Journal of Quality Technology* 24(1),
//! 1992, equation 2 (log of the ratio of variances), with absolute differences in place of squares for robustness.

use serde::{Deserialize, Serialize};

/// Step of the short-run average.
const ALPHA_SHORT: f64 = 1.0 / 12.0;
/// Final step of the long-run average.
const ALPHA_LONG: f64 = 1.0 / 500.0;
/// One move counts as at most this many long-run moves in the long run.
const CLAMP: f64 = 5.0;
/// Natural-log units that count as one: makes the statistic of order one on steady noise.
const UNIT: f64 = 0.25;

/// Short-run and long-run mean of |x(t) − x(t−1)|.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    short: f64,
    long: f64,
    seen: u32,
}

impl Spread {
    /// The averages after one more move of absolute size `step` (unit of the series, finite).
    #[must_use]
    #[inline]
    pub fn after(&self, step: f64, floor: f64) -> Self {
        let seen = self.seen.saturating_add(1);
        let warm_up = 1.0 / f64::from(seen);
        let bounded = if seen <= 8 {
            step
        } else {
            step.min(CLAMP * self.long.max(floor))
        };
        Self {
            short: self.short + ALPHA_SHORT.max(warm_up) * (step.min(1e3 * self.long.max(floor)) - self.short),
            long: self.long + ALPHA_LONG.max(warm_up) * (bounded - self.long),
            seen,
        }
    }

    /// Log ratio of the short run to the long run in units of order one; positive when noise grew. `floor` (> 0) is the
    /// least movement that counts.
    #[must_use]
    #[inline]
    pub fn log_ratio(&self, floor: f64) -> f64 {
        let least = 0.05 * self.long + floor;
        ((self.short + least) / (self.long + least)).ln() / UNIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(steps: impl IntoIterator<Item = f64>) -> f64 {
        steps
            .into_iter()
            .fold(Spread::default(), |s, step| s.after(step, 0.01))
            .log_ratio(0.01)
    }

    #[test]
    fn ratios_by_case() {
        // (name, steps, lowest, highest)
        let cases: [(&str, Vec<f64>, f64, f64); 6] = [
            ("empty", vec![], 0.0, 0.0),
            ("all equal", vec![1.0; 200], -1e-6, 1e-6),
            ("flat", vec![0.0; 200], -1e-6, 1e-6),
            (
                "noise grew fivefold",
                [vec![1.0; 400], vec![5.0; 30]].concat(),
                3.0,
                8.0,
            ),
            ("stuck", [vec![1.0; 400], vec![0.0; 60]].concat(), -20.0, -5.0),
            (
                "one huge move is bounded",
                [vec![1.0; 400], vec![1e30]].concat(),
                0.0,
                40.0,
            ),
        ];
        for (name, steps, lowest, highest) in cases {
            let found = ratio(steps);
            assert!((lowest..=highest).contains(&found), "{name}: {found}");
        }
    }
}
