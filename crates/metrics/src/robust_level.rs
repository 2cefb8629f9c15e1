//! Follows the level and the spread of a series with bounded influence: no single value moves them by more than a few
//! spreads' worth of a step. Starts as the plain running mean and ends as an exponential average.
//!
//! **Fails when** values are bimodal (the level then lies between the modes, where no value is) and lags a trend by one
//! over the step. **Cost:** a dozen floating-point operations; 24 bytes.
//! **Paper:** P. J. Huber, *Robust estimation of a location parameter*, Annals of Mathematical Statistics 35(1), 1964,
//! section 4 (ψ), in the recursive form of H. Robbins, S. Monro, 1951, equation 6.

use serde::{Deserialize, Serialize};

/// Mean of |x| of a Gaussian times this is its standard deviation.
const MEAN_DEVIATION_TO_SIGMA: f64 = 1.2533;
/// Steps in which the spread is being found and nothing is cut.
const FREE_STEPS: u32 = 8;

/// How a [`RobustLevel`] follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RobustLevelParams {
    /// Final step of the level; 1/α observations are remembered.
    pub alpha_level: f64,
    /// Final step of the spread.
    pub alpha_scale: f64,
    /// Residuals count as at most this many spreads.
    pub clamp: f64,
}

/// Running level and spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RobustLevel {
    level: f64,
    scale: f64,
    seen: u32,
}

impl RobustLevel {
    /// The level, in the unit of the series; 0 before the first value.
    #[must_use]
    pub fn level(&self) -> f64 {
        self.level
    }

    /// The spread as a standard deviation, in the unit of the series; 0 for a flat series.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Values learned.
    #[must_use]
    pub fn seen(&self) -> u32 {
        self.seen
    }

    /// Learns a finite value; `floor` (> 0) is the least spread that counts, in the unit of the series; `share` in
    /// 0 ..= 1 slows learning down, for values that are not trusted.
    #[inline]
    pub fn learn(&mut self, p: &RobustLevelParams, value: f64, floor: f64, share: f64) {
        self.seen = self.seen.saturating_add(1);
        if self.seen == 1 {
            self.level = value;
            return;
        }
        let warm_up = 1.0 / f64::from(self.seen);
        let residual = value - self.level;
        let limit = if self.seen <= FREE_STEPS {
            f64::INFINITY
        } else {
            p.clamp * self.scale.max(floor)
        };
        let bounded = residual.max(-limit).min(limit);
        self.level += share * p.alpha_level.max(warm_up) * bounded;
        self.scale += share * p.alpha_scale.max(warm_up) * (MEAN_DEVIATION_TO_SIGMA * bounded.abs() - self.scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PARAMS: RobustLevelParams = RobustLevelParams {
        alpha_level: 0.01,
        alpha_scale: 0.01,
        clamp: 4.0,
    };

    fn learned(values: impl IntoIterator<Item = f64>) -> RobustLevel {
        let mut level = RobustLevel::default();
        values.into_iter().for_each(|x| level.learn(&PARAMS, x, 1e-9, 1.0));
        level
    }

    #[test]
    fn levels_by_case() {
        // (name, values, level, scale)
        let cases: [(&str, Vec<f64>, f64, f64); 4] = [
            ("empty", vec![], 0.0, 0.0),
            ("one", vec![7.0], 7.0, 0.0),
            ("all equal", vec![7.0; 500], 7.0, 0.0),
            ("two values in turn", [1.0, 3.0].repeat(2_000), 2.0, 1.25),
        ];
        for (name, values, level, scale) in cases {
            let found = learned(values);
            assert!((found.level() - level).abs() < 0.02, "{name}: {found:?}");
            assert!((found.scale() - scale).abs() < 0.02, "{name}: {found:?}");
        }
    }

    #[test]
    fn one_outlier_moves_the_level_by_a_bounded_amount() {
        let mut level = learned([1.0, 3.0].repeat(500));
        let before = level;
        level.learn(&PARAMS, 1e12, 1e-9, 1.0);
        assert!(level.level() - before.level() <= 0.01 * 4.0 * before.scale() + 1e-9);
        let mut untrusted = before;
        untrusted.learn(&PARAMS, 1e12, 1e-9, 0.0);
        assert_eq!((untrusted.level(), untrusted.scale()), (before.level(), before.scale()));
    }

    proptest! {
        /// While nothing is cut, the level is the plain mean.
        #[test]
        fn the_first_values_give_their_mean(values in proptest::collection::vec(-1e3f64..1e3, 1..8)) {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            prop_assert!((learned(values).level() - mean).abs() < 1e-9 * 1e3);
        }
    }
}
