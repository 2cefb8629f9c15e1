//! A detector that looks at nothing: what a measure gives away for free.

use foreshock_domain::Timestamp;

use super::Scorer;
use crate::corpus::injected::Draws;

/// Independent uniform scores.
pub struct Chance(Draws);

impl Chance {
    /// Always the same scores.
    #[must_use]
    pub fn new() -> Self {
        Self(Draws::new(0, &["chance"]))
    }
}

impl Scorer for Chance {
    fn score_learn(&mut self, _at: Timestamp, _values: &[f64]) -> f64 {
        self.0.unit()
    }
}
