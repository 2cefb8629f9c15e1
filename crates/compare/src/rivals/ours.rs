//! Ours: what `foreshock score` runs on a file of this many metrics.

use foreshock_domain::Timestamp;
use foreshock_history::alert_rule::{AlertRule, Alerts};
use foreshock_history::entity_bank::EntityBank;

use super::Scorer;

/// The score is a surprise, −log10 p.
pub struct Ours {
    bank: EntityBank,
    alerts: Alerts,
    novelty: f64,
}

impl Ours {
    /// For an entity of `metrics` metrics.
    #[must_use]
    pub fn new(metrics: usize) -> Self {
        Self {
            bank: EntityBank::new(metrics),
            alerts: Alerts::default(),
            novelty: 0.0,
        }
    }
}

impl Scorer for Ours {
    fn score_learn(&mut self, at: Timestamp, values: &[f64]) -> f64 {
        let scored = self.bank.step(at, values);
        self.novelty = scored.map_or(0.0, |s| s.novelty);
        self.alerts.score(&AlertRule::default(), scored).score
    }

    fn novelty(&self) -> Option<f64> {
        Some(self.novelty)
    }
}
