//! How well a ranking of rows finds what is labelled.

pub mod events;
pub mod grouping;
pub mod nab;
pub mod vus_pr;

use serde::Serialize;

/// Mean and sample standard deviation.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MeanSd {
    /// Mean; NaN of nothing.
    pub mean: f64,
    /// Sample standard deviation; 0 of fewer than two.
    pub sd: f64,
}

impl MeanSd {
    /// Of all values.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
        let sd = if values.len() < 2 {
            0.0
        } else {
            (squares / (n - 1.0)).sqrt()
        };
        Self { mean, sd }
    }
}
