//! Turns a distance that is zero nearly always into 1/p: how often it is not zero, times a Pareto tail for how far it
//! then reaches. Three numbers do what a histogram does for statistics that always say something.
//!
//! **Fails when** distances come from two worlds (tiny ones all the time, huge ones now and then): one mean stands for
//! both. **Cost:** one logarithm and one exponential where the distance is not zero, a comparison elsewhere; 12 bytes.
//! **Paper:** peaks over threshold at a threshold of zero, J. Pickands, *Annals of Statistics* 3(1), 1975, theorem 7.
//! `Differs:` the shape is given, and one observation counts as at most just beyond what was seen.

use std::f64::consts::LN_10;

use serde::{Deserialize, Serialize};

use crate::tail::REACH;

/// Observations that the prior is worth, and those of them that are not zero.
const PRIOR_SEEN: f64 = 24.0;
const PRIOR_ABOVE: f64 = 20.0;
/// Their mean.
const PRIOR_MEAN: f64 = 0.77;
/// Distances up to this are hardly any, and count in proportion.
const EDGE: f64 = 0.15;
/// Observations remembered.
const MEMORY: f32 = 4_000.0;

/// Decayed rate and mean of what exceeds zero, for distances of order one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExcessTail {
    seen: f32,
    above: f32,
    /// Mean of what is above zero, without the prior.
    mean: f32,
}

impl ExcessTail {
    fn fitted(&self) -> (f64, f64) {
        let above = f64::from(self.above);
        let p = (above + PRIOR_ABOVE) / (f64::from(self.seen) + PRIOR_SEEN);
        let mean = (above * f64::from(self.mean) + PRIOR_ABOVE * PRIOR_MEAN) / (above + PRIOR_ABOVE);
        (p.min(1.0), mean)
    }

    /// Surprise (−log10 p) of a distance ≥ 0 under a Pareto tail of shape `shape` in 0 .. 1; NaN counts as zero.
    #[must_use]
    #[inline]
    pub fn surprise(&self, distance: f64, shape: f64) -> f64 {
        if distance.is_nan() || distance <= 0.0 {
            return 0.0;
        }
        let (p, mean) = self.fitted();
        let begins = -p.log10();
        if distance <= EDGE {
            return begins * distance / EDGE;
        }
        let y = (distance.min(f64::MAX) - EDGE) / (mean * (1.0 - shape));
        let nats = (shape * y).min(f64::MAX).ln_1p() / shape;
        nats / LN_10 + begins
    }

    /// Takes a distance in, with bounded influence.
    #[inline]
    pub fn learn(&mut self, distance: f64, shape: f64) {
        self.seen += 1.0;
        if self.seen >= MEMORY {
            self.seen *= 0.5;
            self.above *= 0.5;
        }
        if distance > EDGE {
            let (p, mean) = self.fitted();
            // As far out as what was seen can honestly support.
            let nats = (f64::from(self.seen).log10() + REACH + p.log10()).max(0.3) * LN_10;
            let most = mean * (1.0 - shape) * (shape * nats).exp_m1() / shape;
            self.above += 1.0;
            self.mean += ((distance - EDGE).min(most) as f32 - self.mean) / self.above.max(1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tail that has seen `n` zeros and, every `every` of them, a distance of about one.
    fn learned(n: u32, every: u32) -> ExcessTail {
        let mut tail = ExcessTail::default();
        for i in 0..n {
            let distance = if every > 0 && i % every == 0 {
                0.5 + f64::from(i % 7) / 6.0
            } else {
                0.0
            };
            tail.learn(distance, 0.7);
        }
        tail
    }

    #[test]
    fn surprises_by_case() {
        // (name, points, one distance every so many, distance, lowest and highest surprise)
        let cases = [
            ("nothing odd", 4_000, 100, 0.0, 0.0, 0.0),
            ("NaN counts as zero", 4_000, 100, f64::NAN, 0.0, 0.0),
            ("usual once in a hundred", 3_900, 100, 1.0, 1.8, 2.8),
            ("usual once in ten", 3_900, 10, 1.0, 0.9, 1.9),
            ("never seen, after little", 40, 0, 1.0, 0.4, 1.6),
            ("never seen, after much", 3_900, 0, 1.0, 2.3, 3.5),
            ("hardly any distance", 3_900, 100, 0.01, 0.0, 0.3),
            ("far out", 3_900, 100, 50.0, 3.5, 6.0),
            ("infinite", 3_900, 100, f64::INFINITY, 100.0, 1e4),
        ];
        for (name, points, every, distance, lowest, highest) in cases {
            let surprise = learned(points, every).surprise(distance, 0.7);
            assert!((lowest..=highest).contains(&surprise), "{name}: {surprise}");
        }
    }

    #[test]
    fn one_huge_distance_does_not_deafen() {
        let mut tail = learned(1_000, 50);
        let before = tail.surprise(3.0, 0.7);
        tail.learn(f64::INFINITY, 0.7);
        assert!(
            before - tail.surprise(3.0, 0.7) < 0.5,
            "{} from {before}",
            tail.surprise(3.0, 0.7)
        );
    }

    #[test]
    fn what_was_common_long_ago_is_forgotten() {
        let mut tail = learned(1_000, 5);
        let then = tail.surprise(1.0, 0.7);
        (0..20_000).for_each(|_| tail.learn(0.0, 0.7));
        assert!(tail.surprise(1.0, 0.7) > then + 1.0);
    }
}
