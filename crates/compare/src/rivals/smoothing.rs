//! Exponential smoothing: a plain EWMA z-score, and Holt-Winters with an additive season.
//!
//! The score of a row is the greatest distance of a metric from its forecast, in spreads of past distances.
//!
//! **Papers:** S. W. Roberts, *Control chart tests based on geometric moving averages*, Technometrics 1(3), 1959;
//! P. R. Winters, *Forecasting sales by exponentially weighted moving averages*, Management Science 6(3), 1960.

use foreshock_domain::Timestamp;

use super::Scorer;

/// Weight of a row in the level of the plain EWMA and in spreads: a span of 100 rows.
const ALPHA: f64 = 2.0 / 101.0;
/// Holt-Winters: weight of a row in level, trend and season.
const LEVEL: f64 = 0.2;
const TREND: f64 = 0.01;
const SEASON: f64 = 0.1;
/// Rows before the first score.
const WARM_UP: usize = 30;
/// Least spread, over the size of the value: what is constant is not infinitely strange when it moves.
const LEAST: f64 = 1e-6;

/// Distance in spreads, whose square is an EWMA.
#[derive(Clone, Debug, Default)]
struct Spread {
    variance: f64,
    rows: usize,
}

impl Spread {
    fn step(&mut self, residual: f64, value: f64) -> f64 {
        let spread = self.variance.sqrt().max(LEAST * value.abs()).max(f64::MIN_POSITIVE);
        let score = if self.rows < WARM_UP {
            0.0
        } else {
            residual.abs() / spread
        };
        let alpha = ALPHA.max(1.0 / (self.rows + 1) as f64);
        self.variance += alpha * (residual * residual - self.variance);
        self.rows += 1;
        score
    }
}

/// z-score against an exponentially weighted mean and variance.
pub struct Ewma {
    metrics: Vec<(Option<f64>, Spread)>,
}

impl Ewma {
    /// For rows of `metrics` values.
    #[must_use]
    pub fn new(metrics: usize) -> Self {
        Self {
            metrics: vec![(None, Spread::default()); metrics],
        }
    }
}

impl Scorer for Ewma {
    fn score_learn(&mut self, _at: Timestamp, values: &[f64]) -> f64 {
        let each = self.metrics.iter_mut().zip(values).map(|((mean, spread), &value)| {
            let before = mean.unwrap_or(value);
            *mean = Some(before + ALPHA * (value - before));
            spread.step(value - before, value)
        });
        each.fold(0.0, f64::max)
    }
}

/// Holt-Winters with an additive season where a period is known, and Holt's linear trend where not.
pub struct HoltWinters {
    metrics: Vec<Smoothed>,
}

impl HoltWinters {
    /// For rows of `metrics` values with a season of `period` rows.
    #[must_use]
    pub fn new(metrics: usize, period: Option<usize>) -> Self {
        let smoothed = Smoothed {
            season: vec![0.0; period.unwrap_or(1)],
            ..Smoothed::default()
        };
        Self {
            metrics: vec![smoothed; metrics],
        }
    }
}

impl Scorer for HoltWinters {
    fn score_learn(&mut self, _at: Timestamp, values: &[f64]) -> f64 {
        let each = self.metrics.iter_mut().zip(values).map(|(m, &x)| m.step(x));
        each.fold(0.0, f64::max)
    }
}

#[derive(Clone, Debug, Default)]
struct Smoothed {
    rows: usize,
    level: f64,
    trend: f64,
    season: Vec<f64>,
    spread: Spread,
}

impl Smoothed {
    fn step(&mut self, value: f64) -> f64 {
        let period = self.season.len();
        let slot = self.rows % period;
        self.rows += 1;
        if self.rows <= period {
            // The first period: its mean is the level, and what is left the season.
            self.season[slot] = value;
            if self.rows == period {
                self.level = self.season.iter().sum::<f64>() / period as f64;
                for s in &mut self.season {
                    *s -= self.level;
                }
            }
            return 0.0;
        }
        let forecast = self.level + self.trend + self.season[slot];
        let before = self.level;
        self.level = LEVEL * (value - self.season[slot]) + (1.0 - LEVEL) * (self.level + self.trend);
        self.trend = TREND * (self.level - before) + (1.0 - TREND) * self.trend;
        if period > 1 {
            self.season[slot] = SEASON * (value - self.level) + (1.0 - SEASON) * self.season[slot];
        }
        self.spread.step(value - forecast, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(scorer: &mut dyn Scorer, values: impl Iterator<Item = f64>) -> Vec<f64> {
        values
            .map(|x| scorer.score_learn(Timestamp::from_secs(0), &[x]))
            .collect()
    }

    #[test]
    fn a_season_is_foreseen_and_its_absence_seen() {
        let wave = |i: usize| 10.0 * (std::f64::consts::TAU * i as f64 / 24.0).sin() + (i * 7 % 5) as f64 * 0.1;
        let values = || (0..1_000).map(|i| if i == 900 { wave(i) + 3.0 } else { wave(i) });
        let seasonal = scores(&mut HoltWinters::new(1, Some(24)), values());
        let plain = scores(&mut Ewma::new(1), values());
        let loudest = |s: &[f64]| (500..1_000).max_by(|&a, &b| s[a].total_cmp(&s[b]));
        assert_eq!(loudest(&seasonal), Some(900));
        assert_ne!(loudest(&plain), Some(900));
    }
}
