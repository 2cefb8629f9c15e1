//! k-means as Netdata uses it: two clusters over lagged, smoothed, differenced values, and a consensus of models that were
//! trained at different times.
//!
//! The score of a model is the mean distance to both centres, relative to the range of that over its training rows; the score
//! of a metric is the least of its models', since all have to agree; the score of a row is the mean over metrics, as Netdata's
//! node anomaly rate is. Netdata trains on hours of seconds; here the hours are [`TRAIN_ROWS`] rows.
//!
//! **Source:** Netdata, *Machine learning powered anomaly detection*: `num samples to diff 1, to smooth 3, to lag 5`, 18 models.

use std::collections::VecDeque;

use foreshock_domain::Timestamp;
use linfa::prelude::{Fit, ParamGuard};
use linfa::{Dataset, DatasetBase};
use linfa_clustering::KMeans;
use ndarray::Array2;

use super::Scorer;
use super::lagged::{Lags, TrainingRows};

const SMOOTH: usize = 3;
const LAGS: usize = 5;
/// Rows a model is trained on: six hours of 15 seconds.
const TRAIN_ROWS: usize = 1_440;
/// Rows between two models: half of a quarter of that, as 3 hours to 6 at the beginning of Netdata's life.
const TRAIN_EVERY: usize = 360;
/// Models that have to agree.
const MODELS: usize = 18;

/// One model a metric.
pub struct KMeansConsensus {
    metrics: Vec<Metric>,
}

impl KMeansConsensus {
    /// For rows of `metrics` values.
    #[must_use]
    pub fn new(metrics: usize) -> Self {
        Self {
            metrics: (0..metrics).map(|_| Metric::new()).collect(),
        }
    }
}

impl Scorer for KMeansConsensus {
    fn score_learn(&mut self, _at: Timestamp, values: &[f64]) -> f64 {
        let metrics = self.metrics.len() as f64;
        let scores = self.metrics.iter_mut().zip(values).map(|(m, &x)| m.step(x));
        scores.sum::<f64>() / metrics
    }
}

struct Metric {
    last: Option<f64>,
    differences: Lags,
    smoothed: Lags,
    training: TrainingRows,
    models: VecDeque<Model>,
}

struct Model {
    centres: Vec<Vec<f64>>,
    least: f64,
    most: f64,
}

impl Metric {
    fn new() -> Self {
        Self {
            last: None,
            differences: Lags::new(SMOOTH),
            smoothed: Lags::new(LAGS + 1),
            training: TrainingRows::new(TRAIN_ROWS, TRAIN_EVERY),
            models: VecDeque::with_capacity(MODELS + 1),
        }
    }

    fn step(&mut self, value: f64) -> f64 {
        let Some(last) = self.last.replace(value) else {
            return 0.0;
        };
        let smooth = self.differences.push(value - last);
        let Some(smooth) = smooth.map(|d| d.iter().sum::<f64>() / SMOOTH as f64) else {
            return 0.0;
        };
        let Some(features) = self.smoothed.push(smooth) else {
            return 0.0;
        };
        let score = self
            .models
            .iter()
            .map(|m| m.score(&features))
            .fold(f64::INFINITY, f64::min);
        if let Some(rows) = self.training.push(features)
            && let Some(model) = Model::train(rows)
        {
            self.models.push_back(model);
            if self.models.len() > MODELS {
                self.models.pop_front();
            }
        }
        if score.is_finite() { score } else { 0.0 }
    }
}

impl Model {
    /// `None` where the rows don't make two clusters.
    fn train(rows: &VecDeque<Vec<f64>>) -> Option<Self> {
        let flat: Vec<f64> = rows.iter().flatten().copied().collect();
        let records = Array2::from_shape_vec((rows.len(), LAGS + 1), flat).ok()?;
        let data: Dataset<f64, (), ndarray::Ix1> = DatasetBase::from(records);
        let params = KMeans::params(2).n_runs(1).max_n_iterations(50).check().ok()?;
        let fitted = params.fit(&data).ok()?;
        let centres = fitted.centroids().outer_iter().map(|c| c.to_vec()).collect();
        let mut model = Self {
            centres,
            least: 0.0,
            most: 1.0,
        };
        let distances = || rows.iter().map(|row| model.distance(row));
        let least = distances().fold(f64::INFINITY, f64::min);
        let most = distances().fold(0.0, f64::max);
        (model.least, model.most) = (least, most);
        Some(model)
    }

    /// Mean distance to the centres.
    fn distance(&self, features: &[f64]) -> f64 {
        let each = self.centres.iter().map(|centre| {
            let squares = centre.iter().zip(features).map(|(c, x)| (c - x).powi(2));
            squares.sum::<f64>().sqrt()
        });
        each.sum::<f64>() / self.centres.len() as f64
    }

    fn score(&self, features: &[f64]) -> f64 {
        let off = (self.distance(features) - self.least).abs();
        let range = self.most - self.least;
        // A series that never moved has no range; any distance at all is strange then.
        if range > 0.0 { off / range } else { off }
    }
}
