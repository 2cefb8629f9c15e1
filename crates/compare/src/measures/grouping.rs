//! How far mined groups of lines are the true ones: grouping accuracy (GA: share of lines whose group is exactly a true one)
//! and the F1 of it over groups (FGA), after Zhu et al., ICSE-SEIP 2019, and Jiang et al., ISSTA 2024.

use std::collections::HashMap;
use std::hash::Hash;

use serde::Serialize;

/// Both measures, in 0 ..= 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Grouping {
    /// Share of lines in groups that are exactly a true one.
    pub ga: f64,
    /// Harmonic mean of the share of mined groups that are true and of true groups that were mined.
    pub fga: f64,
}

impl Grouping {
    /// Of one label a line, mined and true.
    #[must_use]
    pub fn of<M: Eq + Hash + Copy>(mined: &[M], truth: &[usize]) -> Self {
        // Lines of each pair of groups: a group is exactly a true one if all its lines are in one pair, and so are the other's.
        let mut pairs: HashMap<(M, usize), usize> = HashMap::new();
        let (mut of_mined, mut of_true): (HashMap<M, usize>, HashMap<usize, usize>) = Default::default();
        for (&m, &t) in mined.iter().zip(truth) {
            *pairs.entry((m, t)).or_default() += 1;
            *of_mined.entry(m).or_default() += 1;
            *of_true.entry(t).or_default() += 1;
        }
        let exact = || {
            pairs
                .iter()
                .filter(|((m, t), n)| of_mined[m] == **n && of_true[t] == **n)
        };
        let (groups, lines) = (exact().count() as f64, exact().map(|(_, n)| n).sum::<usize>() as f64);
        if groups == 0.0 {
            return Self::default();
        }
        let (precision, recall) = (groups / of_mined.len() as f64, groups / of_true.len() as f64);
        Self {
            ga: lines / truth.len() as f64,
            fga: 2.0 * precision * recall / (precision + recall),
        }
    }

    /// Mean of many.
    #[must_use]
    pub fn mean(all: &[Self]) -> Self {
        let n = all.len() as f64;
        Self {
            ga: all.iter().map(|g| g.ga).sum::<f64>() / n,
            fga: all.iter().map(|g| g.fga).sum::<f64>() / n,
        }
    }

    /// What a choice is made by.
    #[must_use]
    pub fn both(self) -> f64 {
        self.ga + self.fga
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groupings_by_case() {
        let truth = [0, 0, 1, 1, 2];
        for (name, mined, ga, fga) in [
            ("exact", [7, 7, 8, 8, 9], 1.0, 1.0),
            ("all apart", [1, 2, 3, 4, 5], 0.2, 0.25),
            ("all one", [1; 5], 0.0, 0.0),
            ("one split", [7, 7, 8, 6, 9], 0.6, 4.0 / 7.0),
        ] {
            let got = Grouping::of(&mined, &truth);
            assert!(
                (got.ga - ga).abs() < 1e-9 && (got.fga - fga).abs() < 1e-9,
                "{name}: {got:?}"
            );
        }
    }
}
