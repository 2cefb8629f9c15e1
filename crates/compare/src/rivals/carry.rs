//! The last value carried forward where one is missing, for detectors that can't take a gap.

use foreshock_domain::Timestamp;

use super::Scorer;

/// Fills in for `inner`, which scores a missing value as it scores the last one.
pub struct CarryForward<S> {
    inner: S,
    last: Vec<f64>,
}

impl<S> CarryForward<S> {
    /// For rows of `metrics` values; before the first, a missing value is 0.
    pub fn new(inner: S, metrics: usize) -> Self {
        Self {
            inner,
            last: vec![0.0; metrics],
        }
    }
}

impl<S: Scorer> Scorer for CarryForward<S> {
    fn score_learn(&mut self, at: Timestamp, values: &[f64]) -> f64 {
        for (last, &value) in self.last.iter_mut().zip(values) {
            if value.is_finite() {
                *last = value;
            }
        }
        self.inner.score_learn(at, &self.last)
    }
}
