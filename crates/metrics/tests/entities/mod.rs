//! Generated entities with fixed seeds, shared by the tests of this crate.

#![allow(dead_code)] // each test uses its own part of this

#[path = "../streams/mod.rs"]
pub mod streams;

use streams::Noise;

/// Latent factors that wander, and series that each follow them with a rest of their own.
pub struct Factors {
    noise: Noise,
    factors: Vec<f64>,
    /// A second, independent set: what a series follows while its relation is broken.
    strangers: Vec<f64>,
    loadings: Vec<Vec<f64>>,
    rests: Vec<f64>,
    share: f64,
}

/// How fast factors wander: AR(1).
const PERSISTENCE: f64 = 0.8;
/// Rests wander as well, a little.
const REST_PERSISTENCE: f64 = 0.3;

impl Factors {
    /// `series` series of which `share` of the variance is explained by `factors` factors.
    pub fn new(seed: u64, series: usize, factors: usize, share: f64) -> Self {
        let mut noise = Noise::new(seed);
        let loadings = (0..series)
            .map(|_| {
                let raw: Vec<f64> = (0..factors).map(|_| noise.normal()).collect();
                let length = raw.iter().map(|w| w * w).sum::<f64>().sqrt();
                raw.iter().map(|w| w / length).collect()
            })
            .collect();
        Self {
            noise,
            factors: vec![0.0; factors],
            strangers: vec![0.0; factors],
            loadings,
            rests: vec![0.0; series],
            share,
        }
    }

    /// The next row, each series with mean 0 and variance 1. The series `broken` follows the strangers: with the same
    /// loadings and dynamics, so that by itself it looks as before.
    pub fn row(&mut self, broken: Option<usize>) -> Vec<f64> {
        let fresh = |x: &mut f64, persistence: f64, noise: &mut Noise| {
            *x = persistence * *x + (1.0 - persistence * persistence).sqrt() * noise.normal();
        };
        for x in self.factors.iter_mut().chain(&mut self.strangers) {
            fresh(x, PERSISTENCE, &mut self.noise);
        }
        for x in &mut self.rests {
            fresh(x, REST_PERSISTENCE, &mut self.noise);
        }
        let share = self.share;
        self.loadings
            .iter()
            .zip(&self.rests)
            .enumerate()
            .map(|(s, (loading, rest))| {
                let followed = if broken == Some(s) {
                    &self.strangers
                } else {
                    &self.factors
                };
                let common: f64 = loading.iter().zip(followed).map(|(w, f)| w * f).sum();
                share.sqrt() * common + (1.0 - share).sqrt() * rest
            })
            .collect()
    }
}

/// Average precision of scores against labels: the mean over true rows of the precision at their rank; ties share a rank.
pub fn average_precision(scores: &[f64], labels: &[bool]) -> f64 {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let (mut found, mut sum, mut at) = (0.0, 0.0, 0);
    while at < order.len() {
        let mut end = at;
        let mut here = 0.0;
        while end < order.len() && scores[order[end]] == scores[order[at]] {
            here += f64::from(u8::from(labels[order[end]]));
            end += 1;
        }
        found += here;
        sum += here * found / end as f64;
        at = end;
    }
    sum / found
}

/// An entity that works in a few regimes: each has its own level of most series, on which the factors ride.
pub struct Working {
    factors: Factors,
    noise: Noise,
    /// By regime and series, in spreads.
    levels: Vec<Vec<f64>>,
    pub regime: usize,
    left: u32,
    dwell: (u32, u32),
}

impl Working {
    /// `dwell` is the least and the most rows that a regime lasts.
    pub fn new(seed: u64, series: usize, regimes: usize, dwell: (u32, u32)) -> Self {
        let mut noise = Noise::new(seed ^ 0xBEEF);
        let levels = (0..regimes)
            .map(|_| {
                (0..series)
                    .map(|_| {
                        if noise.uniform() < 0.7 {
                            12.0 * noise.normal()
                        } else {
                            0.0
                        }
                    })
                    .collect()
            })
            .collect();
        Self {
            factors: Factors::new(seed, series, 2.min(series - 1), 0.8),
            noise,
            levels,
            regime: 0,
            left: dwell.1,
            dwell,
        }
    }

    /// The same entity with other noise.
    pub fn reseed(&mut self, seed: u64) {
        self.noise = Noise::new(seed ^ 0xFACE);
        self.factors.noise = Noise::new(seed ^ 0xD1CE);
    }

    /// From now on every series depends on the regime, none keeps its level.
    pub fn depend_throughout(&mut self) {
        let mut noise = Noise::new(7);
        for level in self.levels.iter_mut().flatten().filter(|l| **l == 0.0) {
            *level = 12.0 * noise.normal();
        }
    }

    /// The next row, and whether a change falls into it: then it is a mixture of both regimes.
    pub fn row(&mut self, broken: Option<usize>) -> (Vec<f64>, bool) {
        let base = self.factors.row(broken);
        let (mut from, mut share, mut changed) = (self.regime, 1.0, false);
        if self.left == 0 {
            changed = true;
            from = self.regime;
            let other = (self.noise.uniform() * (self.levels.len() - 1) as f64) as usize;
            self.regime = if other >= self.regime { other + 1 } else { other };
            let span = f64::from(self.dwell.1 - self.dwell.0 + 1);
            self.left = self.dwell.0 + (self.noise.uniform() * span) as u32;
            share = if self.dwell.0 > 1 { self.noise.uniform() } else { 1.0 };
        }
        self.left = self.left.saturating_sub(1);
        let row = base
            .iter()
            .enumerate()
            .map(|(s, z)| {
                let (a, b) = (self.levels[from][s], self.levels[self.regime][s]);
                200.0 + a + share * (b - a) + z
            })
            .collect();
        (row, changed)
    }
}
