//! How many windows one oddness lasts on average. Exceedances of dependent sequences come in clusters; alarms are counted
//! by the cluster, so that many windows make one test, not as many.
//!
//! The reciprocal is the extremal index θ: n dependent windows have as many separate exceedances as θ·n independent ones.
//! This is the runs estimator: a cluster ends with the first window below the level.
//!
//! **Fails when** clusters at high levels are shorter than at the level counted here, as for noise without memory that
//! has rare long spells: the size is then overstated, at most to [`SIZE_MAX`]. **Cost:** two additions; 12 bytes.
//! **Papers:** M. R. Leadbetter, *Z. Wahrscheinlichkeitstheorie* 65, 1983, "Extremes and local dependence"; R. L. Smith,
//! I. Weissman, *J. Royal Stat. Soc. B* 56(3), 1994, "Estimating the extremal index", section 2.

use serde::{Deserialize, Serialize};

/// Surprise from which on a window counts as odd: one in ten.
const LEVEL: f64 = 1.0;
/// A cluster counts as at most this long, so that one long outage does not make every alarm cheap.
pub const SIZE_MAX: u32 = 12;
/// Clusters of one window that are assumed to have been seen.
const PRIOR: f64 = 8.0;

/// One sequence's place in a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run(u32);

/// Mean size of clusters over any number of sequences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterSize {
    windows: f64,
    clusters: f64,
}

impl ClusterSize {
    /// Takes in the next window of a sequence.
    pub fn learn(&mut self, run: &mut Run, surprise: f64) {
        if surprise < LEVEL || surprise.is_nan() {
            *run = Run(0);
            return;
        }
        run.0 = run.0.saturating_add(1);
        if run.0 <= SIZE_MAX {
            self.windows += 1.0;
        }
        if run.0 == 1 {
            self.clusters += 1.0;
        }
    }

    /// Windows in a mean cluster, from 1 to [`SIZE_MAX`]; 1 before anything was seen.
    #[must_use]
    pub fn mean(&self) -> f64 {
        (self.windows + PRIOR) / (self.clusters + PRIOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases() {
        // (name, surprises, mean before the prior's weight)
        let cases = [
            ("nothing", vec![], 1.0),
            ("never odd", vec![0.0, 0.9, f64::NAN], 1.0),
            ("single windows", [2.0, 0.0].repeat(1_000), 1.0),
            ("threes", [2.0, 1.0, 5.0, 0.0].repeat(10_000), 3.0),
            ("one that never ends", vec![9.0; 100_000], 1.0 + 11.0 / 9.0),
            (
                "long ones count as bounded",
                [vec![2.0; 100], vec![0.0]].concat().repeat(10_000),
                12.0,
            ),
        ];
        for (name, surprises, expected) in cases {
            let (mut size, mut run) = (ClusterSize::default(), Run::default());
            for u in surprises {
                size.learn(&mut run, u);
            }
            assert!((size.mean() - expected).abs() < 0.02, "{name}: {}", size.mean());
        }
    }
}
