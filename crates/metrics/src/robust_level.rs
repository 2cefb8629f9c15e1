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
        let bounded = residual.clamp(-limit, limit);
        self.level += share * p.alpha_level.max(warm_up) * bounded;
        self.scale += share * p.alpha_scale.max(warm_up) * (MEAN_DEVIATION_TO_SIGMA * bounded.abs() - self.scale);
    }
}
