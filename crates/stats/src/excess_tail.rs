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
