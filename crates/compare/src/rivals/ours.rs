//! Ours: one [`SeriesModel`] a metric; their surprises combined as `foreshock score` combines them.

use foreshock_domain::{Detector, Learning, Timestamp};
use foreshock_metrics::{Point, SeriesModel};
use foreshock_stats::harmonic_mean_surprise;

use super::Scorer;

/// The score is a surprise, −log10 p.
pub struct Ours {
    models: Vec<SeriesModel>,
}

impl Ours {
    /// For an entity of `metrics` metrics.
    #[must_use]
    pub fn new(metrics: usize) -> Self {
        Self {
            models: (0..metrics).map(|_| SeriesModel::new(None)).collect(),
        }
    }
}

impl Scorer for Ours {
    fn score_learn(&mut self, at: Timestamp, values: &[f64]) -> f64 {
        let mut tested = 0;
        let mut surprises = Vec::with_capacity(values.len());
        for (model, &value) in self.models.iter_mut().zip(values) {
            let verdict = model.score_learn(&Point { at, value }, Learning::Normal);
            if let Some(verdict) = verdict {
                tested += 1;
                surprises.push(verdict.score.surprise());
            }
        }
        match surprises.as_slice() {
            [] => 0.0,
            [one] => *one,
            many => harmonic_mean_surprise(many.iter().copied().filter(|&s| s > 0.0), tested),
        }
    }
}
