//! How surprising a count is, given the counts before it: a Poisson count whose rate is itself Gamma distributed, which is a
//! negative binomial count. Mean and variance are decayed averages; the variance beyond Poisson's gives the Gamma's shape.
//!
//! Fails on counts with a tail heavier than the negative binomial's (see [`crate::TailCalibrator`], which repairs that) and
//! between two levels just after a shift. Cost: O(1) to learn, one incomplete beta function to score (about 1 µs), 32 bytes.
//! Gelman et al., Bayesian Data Analysis, 3rd ed., section 2.6 (Gamma–Poisson); decayed moments after West,
//! CACM 22(9), 1979. `Differs:` the shape is by moments, drawn towards a geometric count while there is little data.

use serde::{Deserialize, Serialize};

use crate::ln_incomplete_beta;

/// Observations' worth of belief in a geometric count (as much extra variance as mean squared) before there is data.
const PRIOR_WEIGHT: f64 = 2.0;
/// No stream of counts is steadier than one part in thirty: larger shapes would only raise alarms about rounding.
const SHAPE_MAX: f64 = 1_000.0;
/// A floor, so that the tails stay computable.
const SHAPE_MIN: f64 = 1e-3;
/// Larger counts are scored as this one.
const COUNT_MAX: f64 = 1e15;
/// Standard deviations beyond the mean that a single count may teach.
const LEARN_DEVIATIONS: f64 = 4.0;

/// Decayed mean and variance of counts, and the tails of what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GammaPoisson {
    /// Observations that still count, at most `memory`.
    weight: f64,
    /// Decayed mean.
    mean: f64,
    /// Decayed variance.
    variance: f64,
    /// Observations after which the past fades; the window of an equally weighted average of the same variance.
    memory: f64,
}

impl GammaPoisson {
    /// Knows nothing; forgets beyond `memory` observations (at least 2).
    #[must_use]
    pub fn new(memory: f64) -> Self {
        Self {
            weight: 0.0,
            mean: 0.0,
            variance: 0.0,
            memory: if memory >= 2.0 { memory } else { 2.0 },
        }
    }

    /// Observations that still count.
    #[must_use]
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// Mean count.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Takes a count into the average. One far beyond what is expected teaches only its direction, so that an outage's flood
    /// does not become normal at once; NaN, infinite and negative counts teach nothing.
    pub fn learn(&mut self, count: f64) {
        if !(count.is_finite() && count >= 0.0) {
            return;
        }
        let count = if self.weight < 2.0 {
            count
        } else {
            let (mean, shape) = self.predictive();
            count.min(mean + LEARN_DEVIATIONS * (mean + mean * mean / shape).sqrt() + 1.0)
        };
        self.weight = (self.weight + 1.0).min(self.memory);
        let share = 1.0 / self.weight;
        let away = count - self.mean;
        self.mean += share * away;
        self.variance = (1.0 - share) * (self.variance + share * away * away);
    }

    /// Adds up two streams that turned out to be one; counts of the same moment are not known to belong together, so the
    /// result is what one stream would hold that saw both after each other.
    pub fn merge(&mut self, other: &Self) {
        let total = self.weight + other.weight;
        if total <= 0.0 {
            return;
        }
        let share = other.weight / total;
        let apart = other.mean - self.mean;
        self.variance += share * (other.variance - self.variance) + share * (1.0 - share) * apart * apart;
        self.mean += share * apart;
        self.weight = total.min(self.memory);
    }

    /// ln P(count ≥ `count`) for the next one.
    #[must_use]
    pub fn ln_upper_tail(&self, count: f64) -> f64 {
        if count.is_nan() || count <= 0.0 {
            return 0.0;
        }
        let count = count.min(COUNT_MAX);
        let (mean, shape) = self.predictive();
        ln_incomplete_beta(mean / (mean + shape), count, shape).min(0.0)
    }

    /// ln P(count ≤ `count`) for the next one.
    #[must_use]
    pub fn ln_lower_tail(&self, count: f64) -> f64 {
        if count.is_nan() || count == f64::INFINITY {
            return 0.0;
        }
        if count < 0.0 {
            return f64::NEG_INFINITY;
        }
        let (mean, shape) = self.predictive();
        ln_incomplete_beta(shape / (mean + shape), shape, count + 1.0).min(0.0)
    }

    /// Range that holds all but `alpha` of the next counts, half of it on either side. About 40 tails' worth of time, so
    /// only to be asked for what is shown to people.
    #[must_use]
    pub fn range(&self, alpha: f64) -> (f64, f64) {
        let ln_half = (alpha.clamp(1e-12, 1.0) / 2.0).ln();
        let (mean, shape) = self.predictive();
        let mut far = (mean + 8.0 * (mean + mean * mean / shape).sqrt() + 8.0).ceil();
        while self.ln_upper_tail(far + 1.0) > ln_half && far < 1e15 {
            far *= 2.0;
        }
        // Smallest count with more than half of alpha at or below it, and smallest with less than that above it.
        let lower = smallest(far, |c| self.ln_lower_tail(c) > ln_half);
        let upper = smallest(far, |c| self.ln_upper_tail(c + 1.0) <= ln_half);
        (lower, upper.max(lower))
    }

    /// Mean and Gamma shape of the next count: the spread of the stream and the doubt about its mean together.
    fn predictive(&self) -> (f64, f64) {
        let mean = self.mean.max(1e-9);
        let extra = ((self.variance - mean) / (mean * mean)).max(0.0);
        let extra = (PRIOR_WEIGHT + self.weight * extra) / (PRIOR_WEIGHT + self.weight);
        let doubt = self.variance.max(mean) / (self.weight.max(1.0) * mean * mean);
        (mean, (1.0 / (extra + doubt)).clamp(SHAPE_MIN, SHAPE_MAX))
    }
}

/// Smallest whole number in 0..=`far` for which a monotone predicate holds, or `far`.
fn smallest(far: f64, holds: impl Fn(f64) -> bool) -> f64 {
    let (mut below, mut above) = (-1.0, far);
    while above - below > 1.0 {
        let middle = ((below + above) / 2.0_f64).floor();
        if holds(middle) {
            above = middle;
        } else {
            below = middle;
        }
    }
    above
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ln_gamma;

    fn taught(counts: &[f64]) -> GammaPoisson {
        let mut model = GammaPoisson::new(1_000.0);
        for &c in counts {
            model.learn(c);
        }
        model
    }

    #[test]
    fn odd_inputs_change_nothing() {
        for (name, count) in [
            ("nan", f64::NAN),
            ("inf", f64::INFINITY),
            ("-inf", f64::NEG_INFINITY),
            ("negative", -1.0),
        ] {
            let mut model = taught(&[3.0, 4.0]);
            let before = model;
            model.learn(count);
            assert_eq!(model, before, "{name}");
            assert!(model.ln_upper_tail(count) <= 0.0, "{name}");
            assert!(model.ln_lower_tail(count) <= 0.0, "{name}");
        }
    }

    #[test]
    fn tails_by_case() {
        let empty = GammaPoisson::new(100.0);
        assert!(empty.ln_upper_tail(0.0) == 0.0 && empty.ln_upper_tail(1.0).is_finite());
        let equal = taught(&[5.0; 200]);
        assert!(equal.ln_upper_tail(6.0).exp() > 0.1, "one more than always is no news");
        assert!(equal.ln_upper_tail(40.0) < -15.0);
        assert!(equal.ln_lower_tail(0.0) < -3.0);
        let zeros = taught(&[0.0; 200]);
        assert!(zeros.ln_lower_tail(0.0).abs() < 1e-6);
        assert!(zeros.ln_upper_tail(10.0) < -5.0);
    }

    #[test]
    fn one_flood_does_not_become_normal() {
        let mut model = taught(&[10.0; 100]);
        model.learn(1e9);
        assert!(model.mean() < 12.0, "{}", model.mean());
    }

    #[test]
    fn range_brackets_what_was_seen() {
        let model = taught(&[9.0, 10.0, 11.0, 10.0, 12.0, 8.0, 10.0, 10.0, 9.0, 11.0].repeat(20));
        let (lower, upper) = model.range(0.01);
        assert!(lower <= 8.0 && (12.0..40.0).contains(&upper), "{lower} {upper}");
    }

    #[test]
    fn merging_is_seeing_both() {
        let mut a = taught(&[1.0, 2.0, 3.0]);
        a.merge(&taught(&[7.0, 9.0]));
        assert!((a.mean() - 4.4).abs() < 1e-9, "{}", a.mean());
        let before = a;
        a.merge(&GammaPoisson::new(10.0));
        assert_eq!(a, before);
    }

    proptest::proptest! {
        #[test]
        fn tails_are_sums_of_the_negative_binomial(counts in proptest::collection::vec(0_u32..30, 5..60), at in 1_u32..60) {
            let counts: Vec<f64> = counts.into_iter().map(f64::from).collect();
            let model = taught(&counts);
            let (mean, shape) = model.predictive();
            let below: f64 = (0..at)
                .map(|x| {
                    let x = f64::from(x);
                    (ln_gamma(x + shape) - ln_gamma(shape) - ln_gamma(x + 1.0)
                        + shape * (shape / (shape + mean)).ln()
                        + x * (mean / (shape + mean)).ln())
                    .exp()
                })
                .sum();
            let upper = model.ln_upper_tail(f64::from(at)).exp();
            let lower = model.ln_lower_tail(f64::from(at) - 1.0).exp();
            proptest::prop_assert!((lower - below).abs() < 1e-8, "{} {}", lower, below);
            proptest::prop_assert!((upper - (1.0 - below)).abs() < 1e-8, "{} {}", upper, below);
        }
    }
}
