//! How long something recurrent stays away, and how surprising it is that it has not come back yet. A life table: of the
//! absences that lasted this long, how many ended before they were twice as long.
//!
//! Fails where absences depend on the hour (a nightly job): the longest usual one then hides shorter ones. What has
//! returned N times can't be missed with a p much below 1/N at first; it falls as the absence doubles. Cost: 16 multiplications
//! and a logarithm to score, 16 additions to learn at worst, 72 bytes. Kaplan and Meier, JASA 53, 1958, with gaps in octaves; the
//! chance per window (and not per absence) is the age of a renewal process, Feller, An Introduction to Probability II,
//! XI.4. `Differs:` past the longest absence seen, each doubling is assumed to end seven absences of ten.

use serde::{Deserialize, Serialize};

/// Octaves of gaps: 1, 2–3, 4–7, … the last is open.
const OCTAVES: usize = 16;
/// Believed share of absences that end within the next doubling, where nothing is known.
const RETURN_PRIOR: f64 = 0.7;
/// Absences' worth of that belief.
const PRIOR_WEIGHT: f64 = 1.0;

/// Gaps between returns, in windows: 1 is "in the very next window".
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LifeTable {
    /// Gaps that ended in each octave, decayed.
    ended: [f32; OCTAVES],
    /// Gaps that still count, at most `memory`.
    weight: f32,
    /// Gaps after which the past fades.
    memory: f32,
}

impl LifeTable {
    /// Knows nothing; forgets beyond `memory` gaps (at least 2).
    #[must_use]
    pub fn new(memory: f32) -> Self {
        Self {
            ended: [0.0; OCTAVES],
            weight: 0.0,
            memory: if memory >= 2.0 { memory } else { 2.0 },
        }
    }

    /// Gaps that still count.
    #[must_use]
    pub fn weight(&self) -> f32 {
        self.weight
    }

    /// Takes in a gap of so many windows; 0 counts as 1.
    pub fn learn(&mut self, gap: u64) {
        if self.weight + 1.0 > self.memory {
            let fade = (self.memory - 1.0) / self.weight;
            for ended in &mut self.ended {
                *ended *= fade;
            }
            self.weight *= fade;
        }
        self.ended[octave(gap)] += 1.0;
        self.weight += 1.0;
    }

    /// Adds up two tables.
    pub fn merge(&mut self, other: &Self) {
        for (a, b) in self.ended.iter_mut().zip(other.ended) {
            *a += b;
        }
        self.weight += other.weight;
    }

    /// Windows of the longest gap that still counts for at least a hundredth of a return, rounded up to its octave's end; 1
    /// where nothing is known.
    #[must_use]
    pub fn longest(&self) -> u64 {
        let octave = self.ended.iter().rposition(|&e| e > 0.01).unwrap_or(0);
        (2_u64 << octave) - 1
    }

    /// ln P(a gap is at least this long).
    #[must_use]
    pub fn ln_survival(&self, gap: u64) -> f64 {
        let last = octave(gap);
        let mut survival = 1.0;
        let mut at_risk = f64::from(self.weight);
        for (i, &ended) in self.ended.iter().enumerate().take(last + 1) {
            let hazard = hazard(f64::from(ended), at_risk);
            at_risk = (at_risk - f64::from(ended)).max(0.0);
            survival *= 1.0 - if i == last { hazard * fraction(gap, i) } else { hazard };
        }
        survival.ln()
    }

    /// ln P(at a window picked at random, the last return is at least `age` windows back), which is what a test made at
    /// each window needs: long gaps hold more windows than short ones. 0 at age 0, the window of a return.
    #[must_use]
    pub fn ln_age_tail(&self, age: u64) -> f64 {
        if age == 0 {
            return 0.0;
        }
        let start = age.saturating_add(1);
        let split = octave(start);
        let (mut survival, mut all, mut beyond) = (1.0, 0.0, 0.0);
        let mut at_risk = f64::from(self.weight);
        for (i, &ended) in self.ended.iter().enumerate() {
            // Gaps end evenly over an octave, so survival falls in a line through it: the sum over its windows is about
            // the integral.
            let hazard = hazard(f64::from(ended), at_risk);
            at_risk = (at_risk - f64::from(ended)).max(0.0);
            let part = |from: f64| width(i) * ((1.0 - from) - hazard * (1.0 - from * from) / 2.0);
            let whole = if i == 0 { 1.0 } else { part(0.0) };
            all += survival * whole;
            if i > split {
                beyond += survival * whole;
            } else if i == split {
                beyond += survival * if i == 0 { whole } else { part(fraction(start, i)) };
            }
            survival *= 1.0 - hazard;
        }
        // Beyond the table: each octave holds 2·(1 − prior) of the one before it.
        let rest = survival * width(OCTAVES) * (1.0 - RETURN_PRIOR / 2.0) / (2.0 * RETURN_PRIOR - 1.0);
        ((beyond + rest) / (all + rest)).ln().min(0.0)
    }
}

/// Share of absences at risk that end in an octave.
fn hazard(ended: f64, at_risk: f64) -> f64 {
    (ended + PRIOR_WEIGHT * RETURN_PRIOR) / (at_risk.max(ended) + PRIOR_WEIGHT)
}

fn octave(gap: u64) -> usize {
    (gap.max(1).ilog2() as usize).min(OCTAVES - 1)
}

fn width(octave: usize) -> f64 {
    2.0_f64.powi(i32::try_from(octave).unwrap_or(0))
}

/// How far into its octave a gap is: 0 at the start, 1 at the end.
#[allow(clippy::cast_precision_loss)] // gaps beyond 2^53 windows don't occur and would lose nothing that matters
fn fraction(gap: u64, octave: usize) -> f64 {
    ((gap.max(1) as f64 - width(octave)) / width(octave)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taught(gaps: impl IntoIterator<Item = u64>) -> LifeTable {
        let mut table = LifeTable::new(2_000.0);
        for gap in gaps {
            table.learn(gap);
        }
        table
    }

    #[test]
    fn survival_by_case() {
        let empty = LifeTable::new(100.0);
        assert!(empty.ln_survival(1) == 0.0 && empty.ln_survival(2) < 0.0);
        let regular = taught([1; 1_000]);
        assert!(
            (regular.ln_survival(2).exp() - 0.000_3).abs() < 1e-4,
            "{}",
            regular.ln_survival(2).exp()
        );
        assert!(regular.ln_survival(8) < regular.ln_survival(4));
        let hourly = taught([360; 100]);
        assert!(hourly.ln_survival(256).exp() > 0.9);
        assert!(hourly.ln_survival(1_024).exp() < 0.01);
        let irregular = taught((0..1_000).map(|i| 1 + (i * 7_919) % 500));
        assert!(irregular.ln_survival(300).exp() > 0.2);
        assert!(regular.ln_survival(u64::MAX).is_finite() && regular.ln_age_tail(u64::MAX) <= 0.0);
    }

    #[test]
    fn age_counts_windows_and_not_gaps() {
        // Half the gaps are 1, half are 15: of 16 windows, 7 to 8 of 10 are at least 2 past the last return.
        let table = taught([1, 15].repeat(500));
        let p = table.ln_age_tail(2).exp();
        assert!((0.6..0.95).contains(&p), "{p}");
        let regular = taught([1; 1_000]);
        let first = regular.ln_age_tail(1).exp();
        assert!(first < 2e-3 && first > 1e-5, "{first}");
    }

    #[test]
    fn old_habits_fade() {
        let mut table = taught([100; 50]);
        assert_eq!(table.longest(), 127);
        for _ in 0..30_000 {
            table.learn(1);
        }
        assert_eq!(table.longest(), 1);
        assert!(table.weight() <= 2_000.0);
    }

    proptest::proptest! {
        #[test]
        fn tails_fall_and_stay_in_range(gaps in proptest::collection::vec(1_u64..5_000, 0..200), age in 1_u64..100_000) {
            let table = taught(gaps);
            for tail in [LifeTable::ln_survival, LifeTable::ln_age_tail] {
                let (a, b) = (tail(&table, age), tail(&table, age + 1));
                proptest::prop_assert!(a <= 0.0 && b <= a + 1e-9 && b.is_finite(), "{} {}", a, b);
            }
        }

        /// Where there are many gaps, the table agrees with counting.
        #[test]
        fn agrees_with_counting_at_the_octaves(gaps in proptest::collection::vec(1_u64..300, 400..600)) {
            let table = taught(gaps.iter().copied());
            for edge in [2, 4, 8, 16, 32, 64, 128] {
                let counted = gaps.iter().filter(|&&g| g >= edge).count() as f64 / gaps.len() as f64;
                proptest::prop_assert!((table.ln_survival(edge).exp() - counted).abs() < 0.03);
            }
        }
    }
}
