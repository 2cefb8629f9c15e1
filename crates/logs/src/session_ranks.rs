//! How rare kinds are that were seen so and so often, and how rare a statistic is among those before it.
//!
//! Fails where kinds come in bursts: what is rare now was then common. Cost: O(1) to learn, O(octaves) to ask; some hundred
//! bytes. Unseen kinds have the mass of those seen once: Good, Biometrika 40, 1953. Ranks of past statistics as p-values:
//! Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005, section 2.2. `Differs:` counts are kept in octaves.

use serde::{Deserialize, Serialize};

/// Octaves of counts.
const OCTAVES: usize = 20;
/// Bins of a statistic, a quarter of an octave each.
const BINS: usize = 160;
const BINS_PER_OCTAVE: f64 = 4.0;
/// Beyond the strangest statistic of the past p falls with this power of the statistic: enough to tell ranks apart.
const BEYOND: f64 = 0.25;

/// Octave of a count: 0 for none, then 1, 2–3, 4–7, …
pub(crate) fn octave(count: u32) -> usize {
    (u32::BITS - count.leading_zeros()) as usize
}

/// In how many sessions kinds were seen, by how often each was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ranks {
    /// Sessions of the kinds that were seen so often, by octave.
    mass: [u32; OCTAVES],
    total: u32,
}

impl Ranks {
    /// P(a session is of a kind seen at most that often), kinds never seen included.
    pub(crate) fn p(&self, count: u32) -> f64 {
        let upto = octave(count).clamp(1, OCTAVES - 1);
        let rarer: u32 = self.mass.iter().take(upto + 1).sum();
        ((f64::from(rarer) + 1.0) / (f64::from(self.total) + 1.0)).min(1.0)
    }

    /// A kind seen `from` times has now been seen `to` times.
    pub(crate) fn count(&mut self, from: u32, to: u32) {
        self.at(from, |mass| mass.saturating_sub(from));
        self.at(to, |mass| mass.saturating_add(to));
        self.total = self.total.saturating_add(to).saturating_sub(from);
    }

    /// Of a kind that was seen `count` times the table forgets `part`: the rest is now rarer, and the sessions were.
    pub(crate) fn forget(&mut self, count: u32, part: u32) {
        self.at(count, |mass| mass.saturating_sub(count));
        let rest = count.saturating_sub(part);
        self.at(rest, |mass| mass.saturating_add(rest));
        self.at(part, |mass| mass.saturating_add(part));
    }

    fn at(&mut self, count: u32, change: impl Fn(u32) -> u32) {
        if count > 0
            && let Some(mass) = self.mass.get_mut(octave(count).min(OCTAVES - 1))
        {
            *mass = change(*mass);
        }
    }
}

/// Past values of a statistic in 0..1, of which small ones are strange.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PastStatistics {
    bins: Vec<u32>,
    total: u32,
}

impl Default for PastStatistics {
    fn default() -> Self {
        Self {
            bins: vec![0; BINS],
            total: 0,
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped
fn bin(statistic: f64) -> usize {
    (-BINS_PER_OCTAVE * statistic.log2()).clamp(0.0, BINS as f64 - 1.0) as usize
}

impl PastStatistics {
    /// Surprise of a value: −log10 of the share of past ones at least as strange, the present one counted among them.
    pub(crate) fn surprise(&self, statistic: f64) -> f64 {
        let statistic = statistic.max(f64::MIN_POSITIVE);
        let stranger: u32 = self.bins.iter().skip(bin(statistic)).sum();
        let all = f64::from(self.total) + 1.0;
        let ranked = -((f64::from(stranger) + 1.0) / all).log10();
        let beyond = if stranger == 0 {
            BEYOND * (-statistic.log10() - all.log10()).max(0.0)
        } else {
            0.0
        };
        ranked + beyond
    }

    pub(crate) fn learn(&mut self, statistic: f64) {
        if let Some(bin) = self.bins.get_mut(bin(statistic.max(f64::MIN_POSITIVE))) {
            *bin = bin.saturating_add(1);
            self.total = self.total.saturating_add(1);
        }
    }

    /// Halves what the past weighs.
    pub(crate) fn fade(&mut self) {
        for bin in &mut self.bins {
            *bin = bin.div_ceil(2);
        }
        self.total = self.bins.iter().sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unseen_kinds_have_the_mass_of_singletons() {
        let mut ranks = Ranks::default();
        assert!((ranks.p(0) - 1.0).abs() < 1e-12);
        for kind in 0..9 {
            ranks.count(0, 1 + kind % 2 * 100);
        }
        // Five seen once, four seen 101 times.
        assert!((ranks.p(0) - 6.0 / 410.0).abs() < 1e-12);
        assert!((ranks.p(1) - ranks.p(0)).abs() < 1e-12);
        assert!((ranks.p(101) - 1.0).abs() < 1e-12);
        ranks.count(1, 2);
        assert!((ranks.p(0) - 5.0 / 411.0).abs() < 1e-12);
    }

    #[test]
    fn what_is_forgotten_was_there_all_the_same() {
        let mut ranks = Ranks::default();
        ranks.count(0, 100);
        ranks.count(0, 1);
        ranks.forget(1, 1);
        assert!((ranks.p(0) - 2.0 / 102.0).abs() < 1e-12);
    }

    #[test]
    fn a_rank_is_a_p_value() {
        let mut past = PastStatistics::default();
        assert!(past.surprise(1e-9) < 3.0);
        for i in 1..=999_u32 {
            past.learn(f64::from(i) / 1_000.0);
        }
        assert!(past.surprise(0.9) < 0.2, "{}", past.surprise(0.9));
        let strangest = past.surprise(5e-4);
        assert!((2.9..3.1).contains(&strangest), "{strangest}");
        assert!(past.surprise(1e-12) > past.surprise(1e-6), "never saturates");
        assert!(past.surprise(1e-300) < 80.0);
        past.fade();
        assert!(past.surprise(5e-4) < strangest);
    }
}
