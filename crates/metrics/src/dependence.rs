//! Measures how long a point's residual depends on the one before, and so how many independent points a history is worth:
//! a hundred points of one slow swing are one observation, and what they support must not be said with a hundred's
//! confidence.
//!
//! **Fails when** dependence is not that of a first-order autoregression (long memory): the history is then worth still
//! less. **Cost:** a dozen operations; 12 bytes.
//! **Paper:** G. V. Bayley, J. M. Hammersley, *The "effective" number of independent observations in an autocorrelated
//! time series*, Supplement to the JRSS 8(2), 1946, section 3: τ = (1 + ρ)/(1 − ρ).

use serde::{Deserialize, Serialize};

/// Final step of the moments.
const ALPHA: f64 = 1.0 / 500.0;
/// Residuals count as at most this many spreads.
const CLAMP: f64 = 4.0;
/// Correlation that still counts.
const LARGEST: f64 = 0.9999;

/// Lag-one autocorrelation of standardised residuals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Dependence {
    last: f32,
    product: f32,
    square: f32,
}

impl Dependence {
    /// Points that count as one independent one, at least 1.
    #[inline]
    pub fn points(&self) -> f64 {
        let correlation = f64::from(self.product) / (f64::from(self.square) + 1e-9);
        let bounded = correlation.clamp(0.0, LARGEST);
        (1.0 + bounded) / (1.0 - bounded)
    }

    /// Takes in the `n`-th standardised residual, counted from 1.
    #[inline]
    pub fn learn(&mut self, z: f64, n: u32) {
        let bounded = z.clamp(-CLAMP, CLAMP);
        let alpha = ALPHA.max(1.0 / f64::from(n.max(1)));
        self.product += (alpha * (bounded * f64::from(self.last) - f64::from(self.product))) as f32;
        self.square += (alpha * (bounded * bounded - f64::from(self.square))) as f32;
        self.last = bounded as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases() {
        let points = |z: &dyn Fn(usize) -> f64| {
            let mut dependence = Dependence::default();
            (0..2_000).for_each(|i| dependence.learn(z(i), i as u32 + 1));
            dependence.points()
        };
        // (name, residuals, lowest, highest)
        type Case<'a> = (&'a str, &'a dyn Fn(usize) -> f64, f64, f64);
        let cases: [Case<'_>; 4] = [
            ("flat", &|_| 0.0, 1.0, 1.0),
            ("alternating", &|i| [1.0, -1.0][i % 2], 1.0, 1.0),
            ("a slow swing", &|i| (i as f64 / 100.0).sin(), 1_000.0, 20_000.0),
            ("NaN never comes here, infinity may", &|_| f64::INFINITY, 1.0, 20_000.0),
        ];
        for (name, z, lowest, highest) in cases {
            let found = points(z);
            assert!((lowest..=highest).contains(&found), "{name}: {found}");
        }
    }
}
