//! Adds up surprise over time: a series that is a little odd for many windows is as strange as one that is very odd once.
//! Each window is a bet against "nothing is wrong" whose fair value is 1, and the product of the bets since the last time
//! that they came to nothing is the evidence. A fair bet can't be won often: whenever one stops, the product reaches `c` in
//! at most one window of `c` on average, if p-values are valid given the past.
//!
//! The bet on a p-value: the first stage keeps those above its gate g to itself, and such a window keeps [`QUIET`] of the
//! stake; one below the gate pays b·κ·(p/g)^(κ−1), which has the mean b given that it is below. Fair means
//! (1 − g)·QUIET + g·b = 1. M ← max(M, 1)·e is the e-CUSUM, whose mean time to M ≥ c is at least c (Shin et al., theorem 2.4).
//!
//! **Fails when** normal oddness comes in spells, so that p-values are not valid given the past: then it claims too much, and
//! [`crate::ExcursionRate`] must say what such spells are worth here. **Cost:** three operations a step; 8 bytes.
//! **Papers:** J. Shin, A. Ramdas, A. Rinaldo, *E-detectors: a nonparametric framework for sequential change detection*,
//! New England Journal of Statistics in Data Science 2(2), 2024, section 2; V. Vovk, R. Wang, *E-values: calibration,
//! combination and applications*, Annals of Statistics 49(3), 2021, section 2 (the calibrator) and 3 (the mean is the only
//! symmetric merging under any dependence that can't be improved).

use std::iter::once;

use serde::{Deserialize, Serialize};

use crate::weighted_harmonic_mean;

/// What a window without surprise leaves of the stake by the bet itself.
const QUIET: f64 = 0.5;
/// What it leaves of the evidence's magnitudes besides: a stake may be withdrawn at any time, and what lasted for hours is
/// forgotten in less than one.
const KEPT: f64 = 0.99;
/// κ of the calibrator κ·p^(κ−1): small bets on the not so small p-values.
const KAPPA: f64 = 0.2;
/// Magnitudes beyond the gate that count: one freak window is not a lasting oddness.
const BEYOND_GATE: f64 = 6.0;

/// Evidence of one series or template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// log10 of the product, at least 0.
    log_e: f64,
}

impl Evidence {
    /// Takes in one window's surprise (−log10 p; NaN and anything below `gate` is none) and gives back log10 of the evidence. It is
    /// kept from passing `most`, so that it is forgotten in bounded time when all is quiet again.
    pub fn add(&mut self, surprise: f64, gate: f64, most: f64) -> f64 {
        let is_odd = surprise >= gate;
        let bet = if is_odd {
            let p_gate = 10f64.powf(-gate.max(0.0));
            let payoff = (1.0 - (1.0 - p_gate) * QUIET) / p_gate;
            (payoff * KAPPA).log10() + (1.0 - KAPPA) * (surprise - gate).min(BEYOND_GATE)
        } else {
            QUIET.log10()
        };
        let stake = if is_odd { self.log_e } else { self.log_e * KEPT };
        // `max` turns NaN into 0.
        self.log_e = (stake + bet).max(0.0).min(most.max(0.0));
        self.log_e
    }

    /// log10 of the product.
    #[must_use]
    pub fn log10(&self) -> f64 {
        self.log_e
    }

    /// Whether nothing is left of it.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.log_e <= 0.0
    }
}

/// log10 of the evidence of `tested` series together, of which only those with some are listed: the mean, which is a fair bet
/// however they depend on each other. `tested` below the number listed counts as that; nothing listed gives 0.
#[must_use]
pub fn merge_evidence(listed: &[f64], tested: u32) -> f64 {
    let rest = f64::from(tested) - listed.len() as f64;
    weighted_harmonic_mean(listed.iter().map(|&e| (e, 1.0)).chain(once((0.0, rest))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATE: f64 = 2.0;

    #[test]
    fn cases() {
        let gain = |u: f64| (50.5 * KAPPA).log10() + 0.8 * (u - GATE);
        // (name, surprises, most, expected at the end)
        let cases = [
            ("nothing odd", vec![0.0; 50], 9.0, 0.0),
            ("below the gate", vec![1.9; 50], 9.0, 0.0),
            ("once odd", vec![3.0], 9.0, gain(3.0)),
            ("odd for five windows", vec![2.0; 5], 90.0, 5.0 * gain(2.0)),
            (
                "odd every other window",
                [2.5, 0.0].repeat(4),
                90.0,
                (0..4).fold(0.0, |e, _| (e + gain(2.5)) * KEPT - 2f64.log10()),
            ),
            ("a freak counts as one of 8", vec![400.0], 9.0, gain(8.0)),
            ("bounded", vec![5.0; 1_000], 9.0, 9.0),
            ("forgotten", [vec![5.0; 100], vec![0.0; 30]].concat(), 9.0, 0.0),
            (
                "also what was great",
                [vec![5.0; 999], vec![0.0; 270]].concat(),
                400.0,
                0.0,
            ),
            ("NaN is nothing", vec![f64::NAN; 5], 9.0, 0.0),
            ("endless surprise", vec![f64::INFINITY], 9.0, gain(8.0)),
            ("endless surprise is bounded", vec![f64::INFINITY; 9], 9.0, 9.0),
            ("no room", vec![5.0; 9], f64::NAN, 0.0),
        ];
        for (name, surprises, most, expected) in cases {
            let mut evidence = Evidence::default();
            let mut last = 0.0;
            for u in surprises {
                last = evidence.add(u, GATE, most);
            }
            assert!(
                (last - expected).abs() < 1e-9,
                "{name}: {last} where {expected} was expected"
            );
            assert_eq!(evidence.is_none(), last == 0.0, "{name}");
        }
    }

    #[test]
    fn merging_by_case() {
        // (name, listed, tested, expected)
        let cases: [(&str, &[f64], u32, f64); 5] = [
            ("nothing", &[], 0, 0.0),
            ("nothing listed", &[], 10, 0.0),
            ("one of one", &[5.0], 1, 5.0),
            ("one of ten pays for the ten", &[9.0], 10, 8.0),
            ("more listed than tested", &[4.0, 4.0], 1, 4.0),
        ];
        for (name, listed, tested, expected) in cases {
            let merged = merge_evidence(listed, tested);
            assert!((merged - expected).abs() < 1e-6, "{name}: {merged}");
        }
    }

    fn uniform(x: &mut u64) -> f64 {
        *x = x
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((*x >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// The bound holds on independent uniform p-values: begun anew whenever it got there, evidence reaches c in less than one
    /// window of c; and the bet is not so poor that it never would.
    #[test]
    fn reaches_c_in_less_than_one_window_of_c() {
        let mut x = 7;
        for c in [1.0, 2.0, 3.0] {
            let (mut evidence, mut reached, n) = (Evidence::default(), 0u32, 2_000_000);
            for _ in 0..n {
                if evidence.add(-uniform(&mut x).log10(), GATE, 50.0) >= c {
                    reached += 1;
                    evidence = Evidence::default();
                }
            }
            let (share, bound) = (f64::from(reached) / f64::from(n), 10f64.powf(-c));
            assert!(share <= bound && share > bound / 30.0, "beyond {c}: {share}");
        }
    }
}
