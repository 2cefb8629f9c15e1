//! Forecasts the next point from the last few: an adaptive lattice filter whitens the series, so that what is left is
//! only what the past did not say. Smooth rhythms and autocorrelated noise are expected, and a spike within the usual
//! range, or a wave that breaks off, is not.
//!
//! **Fails when** what comes next depends on more than the last [`ORDER`] points (long rhythms are for the profiles), or
//! when the dynamics change faster than a few hundred points. **Cost:** about sixty dependent multiplications;
//! 80 bytes.
//! **Papers:** L. J. Griffiths, *A continuously adaptive filter implemented as a lattice structure*, ICASSP 1977,
//! equations 3–6 (gradient adaptive lattice); normalised steps as in B. Friedlander, *Lattice filters for adaptive
//! processing*, Proceedings of the IEEE 70(8), 1982, section V. `Differs:` inputs are bounded before they are learned, so
//! that one outlier moves the coefficients by a bounded amount.

use serde::{Deserialize, Serialize};

/// Points that a forecast looks back.
pub const ORDER: usize = 6;
/// What the energies forget a point: the coefficients follow the last few hundred points.
const FORGET: f64 = 0.995;
/// Inputs count as at most this many spreads when they are learned.
const BOUND: f64 = 8.0;
/// Energy that a stage starts with, in squared spreads.
const ENERGY: f64 = 1e-6;
/// Reflection coefficients stay inside the unit circle by this much, which keeps the filter stable.
const LARGEST: f64 = 0.999;
/// Final step of the error's spread.
const ALPHA_ERROR: f64 = 1.0 / 250.0;
/// Mean of |x| of a Gaussian times this is its standard deviation.
const MEAN_DEVIATION_TO_SIGMA: f64 = 1.2533;
/// Errors count as at most this many of their spreads when the spread is learned.
const CLAMP: f64 = 4.0;
/// Errors by which the first spread is found, without a bound.
const FREE_STEPS: u32 = 8;

/// One-step forecaster of a standardised series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lattice {
    /// Reflection coefficients, in −1 .. 1.
    reflection: [f32; ORDER],
    /// Decayed energy of each stage's inputs, in squared spreads.
    energy: [f32; ORDER],
    /// Each stage's backward error at the last point, in spreads.
    backward: [f32; ORDER],
    /// Standard deviation of the forecast's error, in spreads.
    scale: f32,
    seen: u32,
}

impl Lattice {
    /// Forecast of the next point, in the unit of the points given to [`Self::learn`]. Cost: [`ORDER`] multiplications.
    #[must_use]
    #[inline]
    pub fn forecast(&self) -> f64 {
        self.reflection
            .iter()
            .zip(&self.backward)
            .map(|(&k, &b)| f64::from(k) * f64::from(b))
            .sum()
    }

    /// Spread of the forecast's error as a standard deviation, in the unit of the points; 0 before the second.
    #[must_use]
    pub fn scale(&self) -> f64 {
        f64::from(self.scale)
    }

    /// Takes a finite standardised point `z` in; `share` in 0 ..= 1 slows the spread's learning down, for points that
    /// are not trusted.
    #[inline]
    pub fn learn(&mut self, z: f64, share: f64) {
        self.learn_error(z - self.forecast(), share);
        let bounded = z.clamp(-BOUND, BOUND);
        let forget = FORGET.min(1.0 - 1.0 / (f64::from(self.seen) + 2.0));
        let (mut forward, mut backward) = (bounded, bounded);
        for stage in 0..ORDER {
            let delayed = f64::from(self.backward[stage]);
            let k = f64::from(self.reflection[stage]);
            let (next_forward, next_backward) = (forward - k * delayed, delayed - k * forward);
            let energy = forget * f64::from(self.energy[stage]) + forward * forward + delayed * delayed + ENERGY;
            let step = (next_forward * delayed + next_backward * forward) / energy;
            self.reflection[stage] = (k + step).clamp(-LARGEST, LARGEST) as f32;
            self.energy[stage] = energy as f32;
            self.backward[stage] = backward as f32;
            (forward, backward) = (next_forward, next_backward);
        }
        self.seen = self.seen.saturating_add(1);
    }

    fn learn_error(&mut self, error: f64, share: f64) {
        let seen = self.seen.saturating_add(1);
        let scale = f64::from(self.scale);
        let bounded = if seen <= FREE_STEPS {
            error.abs().min(BOUND)
        } else {
            error.abs().min(CLAMP * scale.max(1e-3))
        };
        let alpha = share * ALPHA_ERROR.max(1.0 / f64::from(seen));
        self.scale = (scale + alpha * (MEAN_DEVIATION_TO_SIGMA * bounded - scale)) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean |error| over the last thousand points over that of the points themselves.
    fn error_share(points: impl Iterator<Item = f64>) -> f64 {
        let mut lattice = Lattice::default();
        let (mut error, mut size) = (0.0, 0.0);
        for (i, z) in points.enumerate() {
            if i >= 1_000 {
                error += (z - lattice.forecast()).abs();
                size += z.abs();
            }
            lattice.learn(z, 1.0);
        }
        error / size
    }

    fn noise(i: usize) -> f64 {
        // The sum of uniforms: near enough to a Gaussian.
        let mut state = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut sum = -6.0;
        for _ in 0..12 {
            state ^= state >> 33;
            state = state.wrapping_mul(0xFF51_AFD7_ED55_8CCD);
            sum += (state >> 11) as f64 / (1u64 << 53) as f64;
        }
        sum
    }

    #[test]
    fn forecasts_by_case() {
        let mut state = 0.0;
        let autoregression: Vec<f64> = (0..2_000)
            .map(|i| {
                state = 0.95 * state + 0.31 * noise(i);
                state
            })
            .collect();
        // (name, points, lowest and highest share of the error)
        let cases: [(&str, Vec<f64>, f64, f64); 5] = [
            ("noise can't be forecast", (0..2_000).map(noise).collect(), 0.95, 1.1),
            (
                "a wave can",
                (0..2_000).map(|i| (i as f64 / 4.0).sin()).collect(),
                0.0,
                0.02,
            ),
            (
                "two waves can",
                (0..2_000)
                    .map(|i| (i as f64 / 3.0).sin() + (i as f64 / 1.7).cos())
                    .collect(),
                0.0,
                0.1,
            ),
            ("a level is the last value", autoregression, 0.25, 0.4),
            (
                "alternating",
                (0..2_000).map(|i| f64::from(i % 2) - 0.5).collect(),
                0.0,
                0.01,
            ),
        ];
        for (name, points, lowest, highest) in cases {
            let share = error_share(points.into_iter());
            assert!((lowest..=highest).contains(&share), "{name}: {share}");
        }
    }

    #[test]
    fn one_outlier_does_not_derail() {
        let mut lattice = Lattice::default();
        (0..1_000).for_each(|i| lattice.learn((f64::from(i) / 4.0).sin(), 1.0));
        lattice.learn(1e300, 1.0);
        (1_001..1_100).for_each(|i| lattice.learn((f64::from(i) / 4.0).sin(), 1.0));
        let error = ((1_100f64 / 4.0).sin() - lattice.forecast()).abs();
        assert!(error < 0.5, "{error}");
        assert!(lattice.scale() < 0.5, "{}", lattice.scale());
    }
}
