//! Principal components, fitted anew every few hundred rows on what came before: over lagged windows of one series (Sub-PCA),
//! or across the metrics of a row.
//!
//! The score is the sum over all components of the squared projection of the standardised features over the component's
//! variance (T² and Q in one); components of next to no variance are bounded below by a hundredth of the mean variance.
//!
//! **Papers:** C. C. Aggarwal, *Outlier analysis*, 2017, section 3.3; as Sub-PCA in TSB-AD, Q. Liu and J. Paparrizos, NeurIPS 2024.

use std::collections::VecDeque;

use foreshock_domain::Timestamp;
use linfa_linalg::eigh::EighInto;
use ndarray::Array2;

use super::Scorer;
use super::lagged::{Lags, TrainingRows};

/// Rows that are fitted.
const TRAIN_ROWS: usize = 2_000;
/// Rows between two fits.
const TRAIN_EVERY: usize = 500;
/// Window where the period is not known.
const WINDOW: usize = 32;
/// Longest window, as in TSB-AD.
const WINDOW_MAX: usize = 100;
/// Least variance that counts, over the mean variance.
const RIDGE: f64 = 0.01;

/// Sub-PCA of one series, or PCA across metrics.
pub struct Pca {
    lags: Option<Lags>,
    training: TrainingRows,
    model: Option<Fitted>,
}

impl Pca {
    /// For rows of `metrics` values. A period is taken as the window, if it is not too long.
    #[must_use]
    pub fn new(metrics: usize, period: Option<usize>) -> Self {
        let window = period.filter(|&p| p <= WINDOW_MAX).unwrap_or(WINDOW);
        Self {
            lags: (metrics == 1).then(|| Lags::new(window)),
            training: TrainingRows::new(TRAIN_ROWS, TRAIN_EVERY),
            model: None,
        }
    }
}

impl Scorer for Pca {
    fn score_learn(&mut self, _at: Timestamp, values: &[f64]) -> f64 {
        let features = match &mut self.lags {
            Some(lags) => lags.push(values.first().copied().unwrap_or(0.0)),
            None => Some(values.to_vec()),
        };
        let Some(features) = features else {
            return 0.0;
        };
        let score = self.model.as_ref().map_or(0.0, |m| m.score(&features));
        if let Some(rows) = self.training.push(features) {
            self.model = Fitted::train(rows).or(self.model.take());
        }
        score
    }
}

struct Fitted {
    means: Vec<f64>,
    spreads: Vec<f64>,
    /// Columns are components.
    components: Array2<f64>,
    variances: Vec<f64>,
}

impl Fitted {
    /// `None` where the decomposition does not converge.
    fn train(rows: &VecDeque<Vec<f64>>) -> Option<Self> {
        let (n, width) = (rows.len() as f64, rows.front()?.len());
        let means: Vec<f64> = (0..width).map(|i| rows.iter().map(|r| r[i]).sum::<f64>() / n).collect();
        let spread = |i: usize| (rows.iter().map(|r| (r[i] - means[i]).powi(2)).sum::<f64>() / n).sqrt();
        let spreads: Vec<f64> = (0..width).map(spread).map(|s| if s > 0.0 { s } else { 1.0 }).collect();
        let standardised = Array2::from_shape_fn((rows.len(), width), |(r, i)| (rows[r][i] - means[i]) / spreads[i]);
        let covariance = standardised.t().dot(&standardised) / n;
        let (variances, components) = covariance.eigh_into().ok()?;
        let least = RIDGE * variances.mean()?.max(f64::MIN_POSITIVE);
        Some(Self {
            means,
            spreads,
            components,
            variances: variances.iter().map(|v| v.max(least)).collect(),
        })
    }

    fn score(&self, features: &[f64]) -> f64 {
        let z: Vec<f64> = (0..features.len())
            .map(|i| (features[i] - self.means[i]) / self.spreads[i])
            .collect();
        let components = self.components.columns().into_iter().zip(&self.variances);
        components
            .map(|(component, variance)| {
                let projection: f64 = component.iter().zip(&z).map(|(c, x)| c * x).sum();
                projection * projection / variance
            })
            .sum()
    }
}
