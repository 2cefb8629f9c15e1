//! Combines the p-values of many tests, which may depend on each other, into one.
//! The harmonic mean asks "how surprising is the strangest few, given how many were looked at" and needs no covariance;
//! the Cauchy combination asks nearly the same in closed form.
//!
//! **Fails when** weak evidence is spread thinly over many tests (Fisher's method would add it up, but only if they were
//! independent), and neither is exact for p above about 0.1 under strong dependence.
//! **Cost:** one exponential a listed test; no memory. Everything is computed in the log domain, so p = 1e-1000 is fine.
//! **Papers:** D. J. Wilson, *The harmonic mean p-value for combining dependent tests*, PNAS 116(4), 2019, equations 1
//! and 4; Y. Liu, J. Xie, *Cauchy combination test*, JASA 115(529), 2020, equation 1.

use std::f64::consts::{LN_10, PI};

/// Surprises are cut here before they are combined: far beyond any use, and sums of such stay finite.
const LARGEST_SURPRISE: f64 = 1e12;

/// Surprise (−log10 p) of `tested` tests together, of which only the surprising ones are listed; Wilson's harmonic mean
/// p-value with its correction for the number of tests, so that the result is itself calibrated.
///
/// The tests that are not listed count as p = 1, which errs on the quiet side. `tested` below the number listed counts
/// as the number listed. NaN and negative surprises count as 0, infinite ones as 1e12. Nothing listed gives 0.
///
/// `Differs:` the Landau tail of Wilson's equation 4 is replaced by its first-order form: with x = 1/p̊ and L tests,
/// p ≈ 1 / (x − (1 − 1/L)·ln(L·x)), the largest term having to outweigh the mean of the others. It agrees with Wilson's
/// table of adjusted thresholds to 6 % for p ≤ 0.05 and is exact for one test.
#[must_use]
pub fn harmonic_mean_surprise(surprises: impl Iterator<Item = f64>, tested: u32) -> f64 {
    let mut sum = ScaledSum::default();
    let mut listed = 0u32;
    for surprise in surprises {
        sum.add(sanitise(surprise), 1.0);
        listed = listed.saturating_add(1);
    }
    if listed == 0 {
        return 0.0;
    }
    let tests = tested.max(listed);
    sum.add(0.0, f64::from(tests - listed));
    // log10 of x = 1 / harmonic mean.
    let log_x = sum.log10() - f64::from(tests).log10();
    landau_surprise(log_x, f64::from(tests))
}

/// As [`harmonic_mean_surprise`] with weights of its own a test, relative to each other; all tests are listed as
/// `(surprise, weight)`. Returns log10 of the weighted mean of 1/p, without the correction for the number of tests: the
/// result is meant to be calibrated afterwards. Non-positive and NaN weights leave a test out; none left gives 0.
#[must_use]
pub fn weighted_harmonic_mean(surprises: impl Iterator<Item = (f64, f64)>) -> f64 {
    let mut sum = ScaledSum::default();
    let mut weights = 0.0;
    for (surprise, weight) in surprises {
        if weight > 0.0 {
            sum.add(sanitise(surprise), weight);
            weights += weight;
        }
    }
    if weights > 0.0 {
        (sum.log10() - weights.log10()).max(0.0)
    } else {
        0.0
    }
}

/// Surprise (−log10 p) of `tested` tests together by the Cauchy combination; the tests that are not listed count as
/// p = ½, their median, which adds nothing. NaN and negative surprises count as p = 1.
#[must_use]
pub fn cauchy_surprise(surprises: impl Iterator<Item = f64>, tested: u32) -> f64 {
    // p = 1 would be minus infinity and forbid every other test to speak.
    const LARGEST_P: f64 = 0.99;
    let mut positive = ScaledSum::default();
    let mut negative = 0.0;
    let mut listed = 0u32;
    for surprise in surprises {
        let surprise = sanitise(surprise);
        listed = listed.saturating_add(1);
        if surprise > 8.0 {
            // cot(πp) → 1/(πp): exact to the last digit here.
            positive.add(surprise, 1.0 / PI);
        } else {
            let cot = 1.0 / (PI * 10f64.powf(-surprise).min(LARGEST_P)).tan();
            if cot > 0.0 {
                positive.add(0.0, cot);
            } else {
                negative += cot;
            }
        }
    }
    if listed == 0 {
        return 0.0;
    }
    let log_tests = f64::from(tested.max(listed)).log10();
    let log_positive = positive.log10() - log_tests;
    if log_positive > 8.0 {
        return log_positive + PI.log10();
    }
    let t = 10f64.powf(log_positive) + negative / 10f64.powf(log_tests);
    let p = if t > 0.0 {
        (1.0 / t).atan() / PI
    } else {
        0.5 - t.atan() / PI
    };
    -p.log10()
}

fn sanitise(surprise: f64) -> f64 {
    // `max` turns NaN into 0.
    surprise.clamp(f64::NEG_INFINITY, LARGEST_SURPRISE).max(0.0)
}

/// −log10 p of the harmonic mean of `tests` p-values whose log10 of 1/p̊ is `log_x`.
fn landau_surprise(log_x: f64, tests: f64) -> f64 {
    // Beyond this the correction is below the last digit, and 10^log_x might overflow.
    if log_x > 15.0 {
        return log_x;
    }
    let x = 10f64.powf(log_x);
    let others = (1.0 - 1.0 / tests) * (log_x * LN_10 + tests.ln());
    (x - others).max(1.0).log10()
}

/// Σ w·10^u that neither overflows nor loses the small terms it can keep.
struct ScaledSum {
    exponent: f64,
    sum: f64,
}

impl Default for ScaledSum {
    fn default() -> Self {
        Self {
            exponent: 0.0,
            sum: 0.0,
        }
    }
}

impl ScaledSum {
    fn add(&mut self, exponent: f64, weight: f64) {
        if exponent > self.exponent {
            self.sum *= 10f64.powf(self.exponent - exponent);
            self.exponent = exponent;
            self.sum += weight;
        } else {
            self.sum += weight * 10f64.powf(exponent - self.exponent);
        }
    }

    fn log10(&self) -> f64 {
        self.exponent + self.sum.log10()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn harmonic_mean_by_case() {
        let inf = f64::INFINITY;
        // (name, surprises, tested, expected, tolerance)
        let cases: [(&str, &[f64], u32, f64, f64); 11] = [
            ("nothing listed", &[], 100, 0.0, 0.0),
            ("one test is itself", &[3.0], 1, 3.0, 1e-12),
            ("one of ten pays for the ten", &[4.0], 10, 3.0, 0.01),
            ("one of a thousand pays for the thousand", &[8.0], 1000, 5.0, 0.01),
            ("two alike of two are hardly more than one", &[5.0, 5.0], 2, 5.0, 1e-3),
            ("beyond the smallest float", &[1000.0], 10, 999.0, 1e-9),
            ("infinite counts as 1e12", &[inf], 1, 1e12, 1.0),
            ("NaN counts as none", &[f64::NAN], 1, 0.0, 1e-12),
            ("negative counts as none", &[-3.0, -inf], 2, 0.0, 1e-12),
            ("all at p = 1", &[0.0; 7], 7, 0.0, 1e-12),
            ("more listed than tested", &[2.0, 2.0, 2.0], 1, 2.0, 0.03),
        ];
        for (name, surprises, tested, expected, tolerance) in cases {
            let combined = harmonic_mean_surprise(surprises.iter().copied(), tested);
            assert!((combined - expected).abs() <= tolerance, "{name}: {combined}");
        }
    }

    #[test]
    fn agrees_with_the_published_adjusted_thresholds() {
        // Wilson 2019, table 1: the harmonic mean that is significant at alpha for L tests.
        for (tests, alpha, harmonic_mean) in [(10.0, 0.05, 0.040), (100.0, 0.05, 0.036), (1000.0, 0.05, 0.034)] {
            let p = 10f64.powf(-landau_surprise(-f64::log10(harmonic_mean), tests));
            assert!((p / alpha - 1.0).abs() < 0.08, "{tests} tests: {p}");
        }
    }

    #[test]
    fn cauchy_by_case() {
        let cases: [(&str, &[f64], u32, f64, f64); 7] = [
            ("nothing listed", &[], 9, 0.0, 0.0),
            ("one test is itself", &[3.0], 1, 3.0, 1e-9),
            ("far out", &[400.0], 1, 400.0, 1e-9),
            ("one of ten pays for the ten", &[9.0], 10, 8.0, 1e-6),
            ("NaN is p = 1", &[f64::NAN], 1, -(0.99f64.log10()), 1e-9),
            ("continuous where the formula changes", &[8.0 + 1e-9], 1, 8.0, 1e-8),
            ("one at p = 1 does not silence", &[6.0, 0.0], 2, 5.7, 0.01),
        ];
        for (name, surprises, tested, expected, tolerance) in cases {
            let combined = cauchy_surprise(surprises.iter().copied(), tested);
            assert!((combined - expected).abs() <= tolerance, "{name}: {combined}");
        }
    }

    #[test]
    fn weights_by_case() {
        type Case<'a> = (&'a str, &'a [(f64, f64)], f64);
        let cases: [Case<'_>; 5] = [
            ("nothing", &[], 0.0),
            ("weightless", &[(9.0, 0.0), (9.0, f64::NAN), (9.0, -1.0)], 0.0),
            ("equal", &[(3.0, 2.0), (3.0, 1.0)], 3.0),
            (
                "a tenth of the weight costs a magnitude",
                &[(6.0, 1.0), (0.0, 9.0)],
                5.0,
            ),
            ("far out", &[(1e6, 1.0)], 1e6),
        ];
        for (name, terms, expected) in cases {
            let combined = weighted_harmonic_mean(terms.iter().copied());
            assert!((combined - expected).abs() < 1e-4, "{name}: {combined}");
        }
    }

    proptest! {
        /// Against the naive harmonic mean in plain p-values.
        #[test]
        fn harmonic_mean_is_the_naive_formula(ps in proptest::collection::vec(1e-12f64..1.0, 1..40)) {
            let l = ps.len() as f64;
            let naive = l / ps.iter().map(|p| 1.0 / p).sum::<f64>();
            let x = 1.0 / naive;
            let p = 1.0 / (x - (1.0 - 1.0 / l) * (l * x).ln()).max(1.0);
            let got = harmonic_mean_surprise(ps.iter().map(|p| -p.log10()), ps.len() as u32);
            prop_assert!((got + p.log10()).abs() < 1e-6);
        }

        #[test]
        fn any_bits_give_a_surprise(bits in proptest::collection::vec(any::<u64>(), 0..20), tested in any::<u32>()) {
            let surprises = || bits.iter().map(|&b| f64::from_bits(b));
            prop_assert!(harmonic_mean_surprise(surprises(), tested) >= 0.0);
            prop_assert!(cauchy_surprise(surprises(), tested) >= 0.0);
            prop_assert!(weighted_harmonic_mean(surprises().map(|s| (s, 1.0))) >= 0.0);
        }

        /// More surprise never makes the whole less surprising.
        #[test]
        fn harmonic_mean_grows_with_its_terms(s in proptest::collection::vec(0f64..30.0, 1..20), more in 0f64..5.0) {
            let before = harmonic_mean_surprise(s.iter().copied(), 50);
            let after = harmonic_mean_surprise(s.iter().map(|u| u + more), 50);
            prop_assert!(after >= before - 1e-9);
        }
    }
}
