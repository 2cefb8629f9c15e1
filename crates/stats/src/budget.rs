//! Turns "so many false alarms a day are bearable" into the surprise at which an alarm may open.
//! With `n` independent tests a day of which each is false with probability `p`, `n·p` are false; the rest is algebra.
//!
//! **Fails when** the surprises are not calibrated, or when tests are so dependent that false alarms come in flocks: then
//! the mean is kept and the days are unequal. **Cost:** one logarithm; 8 bytes.
//! **Paper:** the Bonferroni bound on the expected number of false discoveries (per-family error rate), e.g. Gordon,
//! Glazko, Qiu, Yakovlev, *Annals of Applied Statistics* 1(1), 2007, section 2.

use serde::{Deserialize, Serialize};

/// How many false alarms a day somebody is ready to hear.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlarmBudget {
    /// Expected false alarms in 24 hours of normal operation; positive.
    pub false_alarms_per_day: f64,
}

impl Default for AlarmBudget {
    /// One a day.
    fn default() -> Self {
        Self {
            false_alarms_per_day: 1.0,
        }
    }
}

impl AlarmBudget {
    /// No alarm opens below this surprise however generous the budget: one in ten is not unusual.
    pub const LOWEST_THRESHOLD: f64 = 1.0;

    /// Surprise (−log10 p) at which an alarm may open when `tests_per_day` tests are made a day.
    ///
    /// A budget of zero, negative or NaN gives infinity: no alarm at all. Fewer than one test a day, or NaN, count as one.
    #[must_use]
    pub fn threshold(&self, tests_per_day: f64) -> f64 {
        if self.false_alarms_per_day.is_nan() || self.false_alarms_per_day <= 0.0 {
            return f64::INFINITY;
        }
        // `max` also turns NaN into 1.
        let tests = tests_per_day.max(1.0);
        (tests.log10() - self.false_alarms_per_day.log10()).max(Self::LOWEST_THRESHOLD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_by_case() {
        let inf = f64::INFINITY;
        // (name, budget, tests per day, expected)
        let cases = [
            ("one a day of ten thousand tests", 1.0, 10_000.0, 4.0),
            ("ten a day of ten thousand tests", 10.0, 10_000.0, 3.0),
            ("more alarms than tests", 100.0, 10.0, 1.0),
            ("no tests", 1.0, 0.0, 1.0),
            ("NaN tests", 0.01, f64::NAN, 2.0),
            ("no alarms wanted", 0.0, 10_000.0, inf),
            ("negative budget", -1.0, 10_000.0, inf),
            ("NaN budget", f64::NAN, 10_000.0, inf),
            ("endless tests", 1.0, inf, inf),
            ("endless budget", inf, 10_000.0, 1.0),
        ];
        for (name, false_alarms_per_day, tests, expected) in cases {
            let threshold = AlarmBudget { false_alarms_per_day }.threshold(tests);
            assert!(
                threshold == expected || (threshold - expected).abs() < 1e-12,
                "{name}: {threshold}"
            );
        }
    }
}
