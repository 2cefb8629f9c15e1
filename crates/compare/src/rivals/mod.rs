//! Ours and the rivals behind one trait: one score a row, made before the row is learned.
//!
//! Rivals run at their published defaults. What they can't take, a missing value, is the last value carried forward for them.

mod calibrated;
mod carry;
mod chance;
pub mod drain;
mod forests;
mod k_means;
mod lagged;
mod ours;
mod pca;
mod smoothing;
mod standardise;

use foreshock_domain::Timestamp;

use calibrated::Calibrated;
use carry::CarryForward;
use chance::Chance;
use forests::{IsolationForest, RcfScorer};
use k_means::KMeansConsensus;
pub use ours::{OneSeries, Ours};
use pca::Pca;
use smoothing::{Ewma, HoltWinters};

/// A random cut forest over standardised rows of so many values; `None` of none.
#[must_use]
pub fn random_cut_forest(metrics: usize) -> Option<impl Scorer> {
    RcfScorer::new(metrics)
}

/// A streaming detector of one entity.
pub trait Scorer: Send {
    /// Score of a row, higher is stranger, made before the row is learned; 0 while warming up. `values` are the entity's
    /// metrics, NaN where missing.
    fn score_learn(&mut self, at: Timestamp, values: &[f64]) -> f64;

    /// How new the last row is, in surprise, where a method tells that apart: its events open on this.
    fn novelty(&self) -> Option<f64> {
        None
    }
}

/// What a method may know of a series beforehand.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Metrics a row.
    pub metrics: usize,
    /// Rows of a period; `None` without rhythm. Told to Holt-Winters and PCA only.
    pub period: Option<usize>,
}

/// A detector by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Method {
    /// One model a series, surprises combined by their harmonic mean.
    Foreshock,
    /// Random cut forest, 50 trees of 256 rows, shingles of 8.
    Rcf3,
    /// Online isolation forest, 32 trees over 2,048 shingles of 8.
    IForest,
    /// Netdata's k-means, a consensus of 18 models.
    KMeans,
    /// Sub-PCA of a series, PCA across metrics.
    Pca,
    /// EWMA z-score.
    Ewma,
    /// Holt-Winters that is told the period.
    HoltWinters,
    /// Looks at nothing: what a measure gives away.
    Chance,
}

impl Method {
    /// All, in the order of the tables.
    pub const ALL: &[Self] = &[
        Self::Foreshock,
        Self::Rcf3,
        Self::IForest,
        Self::KMeans,
        Self::Pca,
        Self::Ewma,
        Self::HoltWinters,
        Self::Chance,
    ];

    /// Name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Foreshock => "foreshock",
            Self::Rcf3 => "random cut forest",
            Self::IForest => "isolation forest",
            Self::KMeans => "k-means",
            Self::Pca => "PCA",
            Self::Ewma => "EWMA z",
            Self::HoltWinters => "Holt-Winters",
            Self::Chance => "chance",
        }
    }

    /// Whether the score is a surprise, so that it needs no [`Calibrated`] beside it.
    #[must_use]
    pub fn is_surprise(self) -> bool {
        matches!(self, Self::Foreshock)
    }

    /// A new detector for a series of this shape, whose rows have at least one metric.
    #[must_use]
    pub fn scorer(self, shape: Shape) -> Box<dyn Scorer> {
        let Shape { metrics, period } = shape;
        match self {
            Self::Foreshock => Box::new(Ours::new(metrics)),
            Self::Rcf3 => carried(RcfScorer::new(metrics), metrics),
            Self::IForest => carried(IsolationForest::new(metrics), metrics),
            Self::KMeans => carried(Some(KMeansConsensus::new(metrics)), metrics),
            Self::Pca => carried(Some(Pca::new(metrics, period)), metrics),
            Self::Ewma => carried(Some(Ewma::new(metrics)), metrics),
            Self::HoltWinters => carried(Some(HoltWinters::new(metrics, period)), metrics),
            Self::Chance => Box::new(Chance::new()),
        }
    }
}

/// Scores as surprises: as they are where they are surprises already, else [`Calibrated`].
#[must_use]
pub fn surprises(method: Method, scores: &[f64]) -> Vec<f64> {
    if method.is_surprise() {
        return scores.to_vec();
    }
    let mut calibrated = Calibrated::new();
    scores.iter().map(|&score| calibrated.step(score)).collect()
}

/// With missing values filled in. A forest without metrics can't be built, and scores nothing.
fn carried(scorer: Option<impl Scorer + 'static>, metrics: usize) -> Box<dyn Scorer> {
    match scorer {
        Some(scorer) => Box::new(CarryForward::new(scorer, metrics)),
        None => Box::new(Ours::new(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::injected::Draws;

    const SHAPE: Shape = Shape {
        metrics: 1,
        period: None,
    };

    fn scores(method: Method, values: &[f64]) -> Vec<f64> {
        let mut scorer = method.scorer(SHAPE);
        let rows = values.iter().zip(0..);
        rows.map(|(&x, i)| scorer.score_learn(Timestamp::from_secs(1_700_000_000 + 10 * i), &[x]))
            .collect()
    }

    fn noise(n: usize) -> Vec<f64> {
        let mut draws = Draws::new(1, &["rivals"]);
        (0..n).map(|_| 100.0 + draws.normal()).collect()
    }

    #[test]
    fn every_method_but_chance_ranks_a_clear_outlier_first() {
        let mut values = noise(4_000);
        values[3_500..3_503].fill(140.0);
        for &method in Method::ALL {
            let scores = scores(method, &values);
            let loudest = (1_000..4_000).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
            // A lagged window holds the outlier for some rows more.
            let finds = (3_500..3_535).contains(&loudest);
            assert_eq!(
                finds,
                method != Method::Chance,
                "{}: loudest at {loudest}",
                method.name()
            );
        }
    }

    #[test]
    fn no_score_depends_on_later_rows() {
        let values = noise(3_000);
        let mut other = values.clone();
        other[2_000..].fill(7.0);
        for &method in Method::ALL {
            let (a, b) = (scores(method, &values), scores(method, &other));
            assert!(a[..2_000] == b[..2_000], "{}", method.name());
        }
    }

    #[test]
    fn a_missing_value_is_the_last_one_for_rivals() {
        let mut values = noise(1_500);
        values[1_200] = f64::NAN;
        let mut carried = values.clone();
        carried[1_200] = carried[1_199];
        for &method in Method::ALL.iter().filter(|m| !m.is_surprise()) {
            assert!(scores(method, &values) == scores(method, &carried), "{}", method.name());
        }
    }

    #[test]
    fn across_metrics_a_broken_relation_is_found() {
        let mut draws = Draws::new(2, &["rivals"]);
        let mut scorer = Method::Pca.scorer(Shape {
            metrics: 3,
            period: None,
        });
        let mut loudest = (0.0, 0);
        for i in 0..4_000 {
            let load = draws.normal();
            let third = if i == 3_000 { -load.signum() * 2.0 } else { load };
            let first = if i == 3_000 { load.signum() * 2.0 } else { load };
            let row = [
                first,
                10.0 + first + 0.05 * draws.normal(),
                5.0 * third + 0.05 * draws.normal(),
            ];
            let score = scorer.score_learn(Timestamp::from_secs(i), &row);
            if score > loudest.0 {
                loudest = (score, i);
            }
        }
        assert_eq!(loudest.1, 3_000);
    }
}
