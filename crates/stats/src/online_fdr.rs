//! Spends the alarm budget over time: a steady rate of false alarms, and for each discovery a little more for the hour after it.
//! When many alarms are true, as during an incident that spreads, thresholds relax; when none is, they do not.
//!
//! LORD with decaying memory tests hypothesis t at α_t = α·η·γ̃ + α·Σ_j δ^(t−τ_j)·γ_(t−τ_j), τ_j being the discoveries. Here time
//! is continuous, the first term is the rate (1 − r)·budget, and a discovery earns r expected false alarms, spent at the rate
//! e^(−s/m)/m. `Differs:` the budget is on false alarms a day and not on their share. Were all discoveries false, their rate x
//! would obey x = (1 − r)·budget + r·x, so x = budget: on failure-free data the budget is kept; and of the alarms beyond the
//! budget at most a share r is expected to be false, which is the decaying-memory FDR.
//!
//! **Fails when** p-values are not valid given the past, as where one cause shakes a whole fleet: false alarms then come in
//! flocks, which [`EARNED_MAX`] bounds. **Cost:** one exponential a step; 24 bytes.
//! **Papers:** Q. Rebjock, B. Kurt, T. Januschowski, L. Callot, *Online false discovery rate control for anomaly detection in time
//! series*, NeurIPS 2021 (arXiv 2112.03196), sections 3 and 4; A. Ramdas, F. Yang, M. Wainwright, M. Jordan, *Online control of
//! the false discovery rate with decaying memory*, NeurIPS 2017, equation 8.

use serde::{Deserialize, Serialize};

use crate::AlarmBudget;

/// False alarms that a discovery earns: r.
const EARNED: f64 = 0.2;
/// Earned and not yet spent: at most this many false alarms.
pub const EARNED_MAX: f64 = 0.6;
/// What was earned is spent with this time constant: m.
const MEMORY_MS: f64 = 3_600_000.0;
const DAY_MS: f64 = 86_400_000.0;

/// The budget's account over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OnlineFdr {
    /// False alarms earned and not yet spent.
    earned: f64,
    at_ms: Option<i64>,
}

impl OnlineFdr {
    /// Time passes, in ms of event time. A clock that goes back starts its account anew.
    pub fn advance(&mut self, at_ms: i64) {
        let since = self.at_ms.map_or(0, |at| at_ms.saturating_sub(at));
        self.earned *= if since < 0 {
            0.0
        } else {
            (-since as f64 / MEMORY_MS).exp()
        };
        self.at_ms = Some(at_ms);
    }

    /// An alarm was told.
    pub fn discovered(&mut self) {
        self.earned = (self.earned + EARNED).min(EARNED_MAX);
    }

    /// False alarms a day that may be expected now, under `budget`, which is this account's share of the whole.
    #[must_use]
    pub fn spending(&self, budget: AlarmBudget) -> AlarmBudget {
        // What is earned must not wake an account that is closed.
        if budget.false_alarms_per_day.is_nan() || budget.false_alarms_per_day <= 0.0 {
            return budget;
        }
        AlarmBudget {
            false_alarms_per_day: (1.0 - EARNED) * budget.false_alarms_per_day + self.earned * DAY_MS / MEMORY_MS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn budget(false_alarms_per_day: f64) -> AlarmBudget {
        AlarmBudget { false_alarms_per_day }
    }

    #[test]
    fn cases() {
        let e = 1f64.exp();
        // (name, times of discoveries, now, budget, spending a day)
        let cases: [(&str, &[i64], i64, f64, f64); 8] = [
            ("steady", &[], 5 * HOUR, 1.0, 0.8),
            ("one just now", &[0], 0, 1.0, 0.8 + 24.0 * EARNED),
            ("one an hour ago", &[0], HOUR, 1.0, 0.8 + 24.0 * EARNED / e),
            ("two", &[0, HOUR], HOUR, 10.0, 8.0 + 24.0 * EARNED * (1.0 + 1.0 / e)),
            ("a flock is bounded", &[0; 50], 0, 1.0, 0.8 + 24.0 * EARNED_MAX),
            ("forgotten", &[0; 50], 100 * HOUR, 1.0, 0.8),
            ("the clock went back", &[9 * HOUR], 0, 1.0, 0.8),
            ("nothing is wanted", &[0], 0, 0.0, 0.0),
        ];
        for (name, discoveries, now, of, expected) in cases {
            let mut account = OnlineFdr::default();
            for &at in discoveries {
                account.advance(at);
                account.discovered();
            }
            account.advance(now);
            let got = account.spending(budget(of)).false_alarms_per_day;
            assert!((got - expected).abs() < 1e-9, "{name}: {got}");
        }
        assert!(
            OnlineFdr::default()
                .spending(budget(f64::NAN))
                .false_alarms_per_day
                .is_nan()
        );
    }

    /// On data without failures every discovery is false, and the rewards for them are within the budget.
    #[test]
    fn false_alarms_stay_within_the_budget() {
        let mut x = 11u64;
        let mut uniform = || {
            x = x
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((x >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        };
        for of in [0.1, 1.0, 10.0] {
            let (mut account, mut told, step, days) = (OnlineFdr::default(), 0u32, 60_000, 3_000);
            for i in 0..i64::from(days) * 1_440 {
                account.advance(i * step);
                let p = account.spending(budget(of)).false_alarms_per_day * step as f64 / DAY_MS;
                if uniform() < p {
                    account.discovered();
                    told += 1;
                }
            }
            let expected = of * f64::from(days);
            assert!(
                (f64::from(told) - expected).abs() < 4.0 * (expected / 0.64).sqrt(),
                "{told} false alarms where {expected} were borne"
            );
        }
    }
}
