//! Random cut forest and online isolation forest, both of the crate `rcf3`.
//!
//! **Papers:** S. Guha et al., *Robust random cut forest based anomaly detection on streams*, ICML 2016; F. Leveni et al.,
//! *Online isolation forest*, ICML 2024.

use foreshock_domain::Timestamp;
use rcf3::{Forest, OnlineIForest};

use super::Scorer;
use super::standardise::Standardise;

/// Rows that are looked at together.
const SHINGLE: usize = 8;
const SEED: u64 = 42;

/// 50 trees of 256 rows, shingles of 8 rows.
pub struct RandomCutForest(Forest);

impl RandomCutForest {
    /// For rows of `metrics` values; `None` when there is none.
    #[must_use]
    pub fn new(metrics: usize) -> Option<Self> {
        let builder = Forest::builder(metrics)
            .shingle_size(SHINGLE)
            .num_trees(50)
            .capacity(256)
            .seed(SEED);
        builder.build().ok().map(Self)
    }

    /// Score of a row, then the row is learned; 0 where it can't be scored.
    pub fn step(&mut self, row: &[f32]) -> f64 {
        self.0.update_and_score(row).unwrap_or(0.0)
    }
}

/// A random cut forest on standardised rows.
pub struct RcfScorer {
    forest: RandomCutForest,
    standardise: Standardise,
}

impl RcfScorer {
    /// For rows of `metrics` values; `None` when there is none.
    #[must_use]
    pub fn new(metrics: usize) -> Option<Self> {
        Some(Self {
            forest: RandomCutForest::new(metrics)?,
            standardise: Standardise::new(metrics),
        })
    }
}

impl Scorer for RcfScorer {
    fn score_learn(&mut self, _at: Timestamp, values: &[f64]) -> f64 {
        let row: Vec<f32> = self.standardise.step(values).iter().map(|&x| x as f32).collect();
        self.forest.step(&row)
    }
}

/// 32 trees over the last 2,048 shingles of 8 rows; scored before it is learned, unlike the paper's order.
pub struct IsolationForest {
    forest: OnlineIForest,
    standardise: Standardise,
    shingle: Vec<f32>,
}

impl IsolationForest {
    /// For rows of `metrics` values; `None` when there is none.
    #[must_use]
    pub fn new(metrics: usize) -> Option<Self> {
        let builder = OnlineIForest::builder(metrics * SHINGLE).seed(SEED);
        Some(Self {
            forest: builder.build().ok()?,
            standardise: Standardise::new(metrics),
            shingle: Vec::new(),
        })
    }
}

impl Scorer for IsolationForest {
    fn score_learn(&mut self, _at: Timestamp, values: &[f64]) -> f64 {
        let row = self.standardise.step(values);
        let full = SHINGLE * row.len();
        self.shingle.extend(row.iter().map(|&x| x as f32));
        let surplus = self.shingle.len().saturating_sub(full);
        self.shingle.drain(..surplus);
        if self.shingle.len() < full {
            return 0.0;
        }
        let score = if self.forest.is_ready() {
            self.forest.score(&self.shingle).unwrap_or(0.0)
        } else {
            0.0
        };
        // It fails only where a row is not finite, which carrying forward prevents.
        let _ = self.forest.update(&self.shingle);
        score
    }
}
