//! Discrete-time hazard: the probability of a failure in each bin of time ahead, given that none came before.
//!
//! p(H) = 1 − Π (1 − h_k) over the bins up to H, so it never falls with H (Singer, Willett, Journal of Educational Statistics 18(2),
//! 1993, equation 3). Each h_k is a logistic function of standardised features; p(H) of the whole horizon is calibrated by Platt's
//! sigmoid. Cost: one multiplication per feature and bin.

use serde::{Deserialize, Serialize};

use super::features::{PER_SERIES, Sparse};

/// Which feature stands where, and how it is standardised.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schema {
    /// Series in order; each has [`PER_SERIES`] places.
    pub series: Vec<Box<str>>,
    /// Mean of each place over the training rows.
    pub mean: Vec<f64>,
    /// Spread of each place; above zero.
    pub spread: Vec<f64>,
}

/// One bin of time ahead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Its end in seconds from now; it begins where the one before ends.
    pub until_s: f64,
    /// Log odds where all features are at their means.
    pub intercept: f64,
    /// Weight of each place.
    pub weights: Vec<f64>,
}

/// Sigmoid of log odds: `slope · x + intercept` (Platt, 1999).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Platt {
    /// 1 where the probabilities are taken as they are.
    pub slope: f64,
    /// 0 likewise.
    pub intercept: f64,
}

/// What is learned from failures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HazardModel {
    /// Its features.
    pub schema: Schema,
    /// Bins in order of time.
    pub bins: Vec<Bin>,
    /// Of the whole horizon.
    pub calibration: Platt,
    /// Probability within the horizon from which on it is a warning.
    pub threshold: f64,
}

/// What the model says of one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hazard {
    /// Probability of a failure within the horizon.
    pub within_horizon: f64,
}

impl Schema {
    /// Features in their places, standardised; what is missing is at its mean.
    #[must_use]
    pub fn dense(&self, features: &Sparse) -> Vec<f64> {
        let mut out = vec![0.0; self.series.len() * PER_SERIES];
        for (i, name) in self.series.iter().enumerate() {
            let Some(values) = features.get(name) else { continue };
            for (k, value) in values.iter().enumerate() {
                let place = i * PER_SERIES + k;
                out[place] = (f64::from(*value) - self.mean[place]) / self.spread[place];
            }
        }
        out
    }
}

impl HazardModel {
    /// Probability of a failure within the horizon, before calibration.
    #[must_use]
    pub fn raw(&self, dense: &[f64]) -> f64 {
        let survives = self.bins.iter().map(|bin| {
            let odds = bin.intercept + bin.weights.iter().zip(dense).map(|(w, x)| w * x).sum::<f64>();
            1.0 / (1.0 + odds.exp())
        });
        1.0 - survives.product::<f64>()
    }

    /// What it says of these features.
    #[must_use]
    pub fn predict_one(&self, features: &Sparse) -> Hazard {
        Hazard {
            within_horizon: self.calibration.apply(self.raw(&self.schema.dense(features))),
        }
    }
}

impl Platt {
    /// Leaves probabilities as they are.
    pub const NONE: Self = Self {
        slope: 1.0,
        intercept: 0.0,
    };

    /// The calibrated probability.
    #[must_use]
    pub fn apply(&self, p: f64) -> f64 {
        1.0 / (1.0 + (-(self.slope * log_odds(p) + self.intercept)).exp())
    }

    /// Fits by Newton's method to probabilities and what happened, with Platt's smoothed targets; [`Self::NONE`] where nothing or
    /// everything happened.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts
    pub fn fit(rows: &[(f64, bool)]) -> Self {
        let positives = rows.iter().filter(|r| r.1).count() as f64;
        let negatives = rows.len() as f64 - positives;
        if positives < 5.0 || negatives < 5.0 {
            return Self::NONE;
        }
        let (high, low) = ((positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0));
        let mut fitted = Self::NONE;
        for _ in 0..50 {
            let (mut g, mut h) = ([0.0; 2], [1e-6, 0.0, 1e-6]);
            for (p, happened) in rows {
                let (x, q) = (log_odds(*p), fitted.apply(*p));
                let error = q - if *happened { high } else { low };
                let weight = (q * (1.0 - q)).max(1e-9);
                g[0] += error * x;
                g[1] += error;
                h[0] += weight * x * x;
                h[1] += weight * x;
                h[2] += weight;
            }
            let det = h[0] * h[2] - h[1] * h[1];
            if det.abs() < 1e-12 {
                break;
            }
            let step = [(h[2] * g[0] - h[1] * g[1]) / det, (h[0] * g[1] - h[1] * g[0]) / det];
            fitted.slope -= step[0].clamp(-1.0, 1.0);
            fitted.intercept -= step[1].clamp(-2.0, 2.0);
            if step[0].abs() + step[1].abs() < 1e-9 {
                break;
            }
        }
        // A calibration that turns the ranking round is none.
        if fitted.slope > 0.0 { fitted } else { Self::NONE }
    }
}

fn log_odds(p: f64) -> f64 {
    let p = p.clamp(1e-9, 1.0 - 1e-9);
    (p / (1.0 - p)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> HazardModel {
        HazardModel {
            schema: Schema {
                series: vec!["cpu".into()],
                mean: vec![0.0; PER_SERIES],
                spread: vec![1.0; PER_SERIES],
            },
            bins: [60.0, 120.0]
                .map(|until_s| Bin {
                    until_s,
                    intercept: -2.0,
                    weights: vec![1.0; PER_SERIES],
                })
                .into(),
            calibration: Platt::NONE,
            threshold: 0.5,
        }
    }

    #[test]
    fn the_probability_is_that_of_either_bin() {
        let h = 1.0 / (1.0 + 2.0_f64.exp());
        let quiet = model().predict_one(&Sparse::new()).within_horizon;
        assert!((quiet - (1.0 - (1.0 - h).powi(2))).abs() < 1e-12);
        let odd: Sparse = [("cpu".into(), [5.0; PER_SERIES]), ("unknown".into(), [9.0; PER_SERIES])].into();
        assert!(model().predict_one(&odd).within_horizon > 0.99);
    }

    #[test]
    fn platt_finds_the_odds_that_made_the_rows() {
        // Says p, happens with p/2: the log odds are shifted and stretched.
        let rows: Vec<(f64, bool)> = (0..20_000_u32)
            .map(|i| {
                let p = f64::from(i % 100) / 100.0 + 0.005;
                (
                    p,
                    f64::from(i.wrapping_mul(2_654_435_761) >> 8 & 0xffff) / 65_536.0 < p / 2.0,
                )
            })
            .collect();
        let fitted = Platt::fit(&rows);
        for p in [0.2, 0.5, 0.8] {
            assert!((fitted.apply(p) - p / 2.0).abs() < 0.06, "{p}: {}", fitted.apply(p));
        }
        assert_eq!(Platt::fit(&rows[..3]), Platt::NONE);
    }
}
