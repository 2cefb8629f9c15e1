//! From a model's probability to one that comes true as often as it says.
//!
//! Platt's sigmoid of the log odds (*Advances in Large Margin Classifiers*, 1999), with his smoothed targets. Two numbers: they
//! can be learned from few failures, and the order of predictions stays. **Fails** where the true curve is not a sigmoid.

use serde::{Deserialize, Serialize};

/// Sigmoid of log odds: `slope · x + intercept`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// 1 where probabilities are taken as they are; not below 0.
    pub slope: f64,
    /// 0 likewise.
    pub intercept: f64,
}

impl Calibration {
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

    /// Fits by Newton's method to probability, whether it happened, and weight; [`Self::NONE`] where nothing or everything
    /// happened.
    #[must_use]
    pub fn fit(rows: &[(f64, bool, f64)]) -> Self {
        let positives: f64 = rows.iter().filter(|r| r.1).map(|r| r.2).sum();
        let negatives: f64 = rows.iter().filter(|r| !r.1).map(|r| r.2).sum();
        if positives < 5.0 || negatives < 5.0 {
            return Self::NONE;
        }
        let (high, low) = ((positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0));
        let mut fitted = Self::NONE;
        for _ in 0..50 {
            let (mut g, mut h) = ([0.0; 2], [1e-6, 0.0, 1e-6]);
            for (p, happened, weight) in rows {
                let (x, q) = (log_odds(*p), fitted.apply(*p));
                let error = weight * (q - if *happened { high } else { low });
                let curve = weight * (q * (1.0 - q)).max(1e-9);
                g[0] += error * x;
                g[1] += error;
                h[0] += curve * x * x;
                h[1] += curve * x;
                h[2] += curve;
            }
            let det = h[0] * h[2] - h[1] * h[1];
            if det.abs() < 1e-12 {
                break;
            }
            let step = [(h[2] * g[0] - h[1] * g[1]) / det, (h[0] * g[1] - h[1] * g[0]) / det];
            // Bounded, so that a start far away does not shoot over.
            fitted.slope -= step[0].clamp(-1.0, 1.0);
            fitted.intercept -= step[1].clamp(-1.0, 1.0);
            if step[0].abs() + step[1].abs() < 1e-9 {
                break;
            }
        }
        if fitted.slope.is_finite() && fitted.intercept.is_finite() && fitted.slope > 0.0 {
            fitted
        } else {
            Self::NONE
        }
    }
}

/// Of a probability kept away from 0 and 1.
pub(super) fn log_odds(p: f64) -> f64 {
    let p = p.clamp(1e-9, 1.0 - 1e-9);
    (p / (1.0 - p)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_sure_probabilities_are_brought_back() {
        // Said 0.9 where 0.7 is true, 0.1 where 0.3 is.
        let mut rows = Vec::new();
        for i in 0..1_000 {
            rows.push((0.9, i % 10 < 7, 1.0));
            rows.push((0.1, i % 10 < 3, 1.0));
        }
        let fitted = Calibration::fit(&rows);
        assert!(
            (fitted.apply(0.9) - 0.7).abs() < 0.01 && (fitted.apply(0.1) - 0.3).abs() < 0.01,
            "{fitted:?}"
        );
        let (lower, higher) = (fitted.apply(0.4), fitted.apply(0.5));
        assert!(lower < higher);
    }

    #[test]
    fn weights_stand_for_rows() {
        let many: Vec<_> = (0..400)
            .map(|i| (0.2 + 0.001 * f64::from(i), i % 4 == 0, 1.0))
            .collect();
        let mut few: Vec<_> = many.iter().step_by(2).map(|r| (r.0, r.1, 1.0)).collect();
        few.iter_mut().for_each(|r| r.2 = 2.0);
        let (a, b) = (
            Calibration::fit(&few),
            Calibration::fit(
                &[few.clone().as_slice()]
                    .concat()
                    .iter()
                    .flat_map(|r| [(r.0, r.1, 1.0); 2])
                    .collect::<Vec<_>>(),
            ),
        );
        assert!(
            (a.slope - b.slope).abs() < 1e-6 && (a.intercept - b.intercept).abs() < 1e-6,
            "{a:?} {b:?}"
        );
    }

    #[test]
    fn without_failures_nothing_is_fitted() {
        let none: Vec<_> = (0..100).map(|i| (f64::from(i) / 100.0, false, 1.0)).collect();
        assert_eq!(Calibration::fit(&none), Calibration::NONE);
    }
}
