//! Adds up surprise over time: a service that is a little odd for many windows is as strange as one that is very odd once.
//! A cumulative sum of the surprises less an allowance, whose tail is bounded by an exponential, gives a surprise again.
//!
//! With calibrated p-values X = −ln p is at most exponential under normal operation. S ← max(0, S + X − k) is then a Lindley
//! recursion, and Kingman's inequality bounds its stationary tail: P(S ≥ s) ≤ exp(−θ·s), where θ > 0 solves
//! E[exp(θ·(X − k))] = exp(−θ·k) / (1 − θ) = 1. Windows next to each other are not independent; for sequences that are
//! independent only `dependence` windows apart Hölder's inequality leaves one part in `dependence` of the exponent.
//!
//! **Fails when** normal oddness lasts for much longer than `dependence` windows, as with a level that wanders for an hour:
//! then it claims too much. **Cost:** three operations a step; 8 bytes.
//! **Papers:** J. F. C. Kingman, *Proc. Cambridge Phil. Soc.* 60, 1964, "A martingale inequality in the theory of queues";
//! E. S. Page, *Biometrika* 41, 1954, for the cumulative sum.

use std::f64::consts::LN_10;

use serde::{Deserialize, Serialize};

/// Allowance per window, in nats: normal windows have 1 on average.
const ALLOWANCE: f64 = 2.0;
/// Solves exp(−2θ) = 1 − θ.
const THETA: f64 = 0.7968121300200202;

/// Surprise added up over windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// In nats, at least 0.
    sum: f64,
}

impl Evidence {
    /// Takes in one window's surprise (−log10 p) and gives back the surprise of the sum. Windows further apart than
    /// `dependence` count as independent. The sum is kept from passing `most` (a surprise), so that it is forgotten in bounded
    /// time when all is quiet again. NaN counts as no surprise.
    pub fn add(&mut self, surprise: f64, dependence: u32, most: f64) -> f64 {
        let scale = THETA / (LN_10 * f64::from(dependence.max(1)));
        let nats = if surprise > 0.0 { surprise * LN_10 } else { 0.0 };
        self.sum = (self.sum + nats - ALLOWANCE).clamp(0.0, (most.max(0.0) / scale).min(f64::MAX));
        self.sum * scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn theta_solves_its_equation() {
        assert!(((-THETA * ALLOWANCE).exp() - (1.0 - THETA)).abs() < 1e-12);
    }

    #[test]
    fn cases() {
        // (name, surprises, dependence, most, expected at the end)
        let slope = |u: f64, d: f64| (u * LN_10 - ALLOWANCE) * THETA / (LN_10 * d);
        let cases = [
            ("nothing odd", vec![0.0; 50], 1, 9.0, 0.0),
            ("once odd", vec![3.0], 1, 9.0, slope(3.0, 1.0)),
            ("odd for ten windows", vec![2.0; 10], 6, 9.0, 10.0 * slope(2.0, 6.0)),
            ("bounded", vec![5.0; 1_000], 1, 9.0, 9.0),
            ("forgotten", [vec![5.0; 100], vec![0.0; 200]].concat(), 6, 6.0, 0.0),
            ("NaN is nothing", vec![f64::NAN; 5], 1, 9.0, 0.0),
            ("endless surprise is bounded", vec![f64::INFINITY], 1, 9.0, 9.0),
        ];
        for (name, surprises, dependence, most, expected) in cases {
            let mut evidence = Evidence::default();
            let mut last = 0.0;
            for u in surprises {
                last = evidence.add(u, dependence, most);
            }
            assert!(
                (last - expected).abs() < 1e-9,
                "{name}: {last} where {expected} was expected"
            );
        }
    }

    /// The bound holds on independent uniform p-values: the share of windows beyond 1, 2 and 3 stays below nominal.
    #[test]
    fn the_tail_is_bounded_on_normal_windows() {
        let mut x = 7u64;
        let mut uniform = || {
            x = x
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((x >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        };
        let (mut evidence, mut beyond, n) = (Evidence::default(), [0u32; 3], 400_000);
        for _ in 0..n {
            let s = evidence.add(-uniform().log10(), 1, 50.0);
            for (i, count) in beyond.iter_mut().enumerate() {
                *count += u32::from(s >= (i + 1) as f64);
            }
        }
        for (i, count) in beyond.iter().enumerate() {
            let nominal = 10f64.powi(-(i as i32 + 1));
            let share = f64::from(*count) / f64::from(n);
            assert!(share <= nominal && share > nominal / 10.0, "beyond {}: {share}", i + 1);
        }
    }
}
