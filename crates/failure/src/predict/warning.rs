//! When a probability becomes a warning, and when the warning is over. One code for live and for choosing the threshold.

use foreshock_domain::Millis;
use foreshock_stats::{Episode, EpisodeParams, EpisodeStep};
use serde::{Deserialize, Serialize};

/// Shortest time after which a warning is over when the probability stays low.
const CALM_MIN_MS: Millis = 10_000;

/// Hysteresis of warnings over a horizon: open until a quarter of it passed below half the threshold, told again where the
/// probability grew by a fifth, and not opened twice within half a horizon unless as much stronger.
#[must_use]
pub fn episode_params(horizon_ms: Millis) -> EpisodeParams {
    EpisodeParams {
        stay_share: 0.5,
        close_after_ms: (horizon_ms / 4).max(CALM_MIN_MS),
        refractory_ms: horizon_ms / 2,
        escalate_by: 0.2,
    }
}

/// The life of one entity's warnings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Warning {
    episode: Episode,
}

impl Warning {
    /// Takes the probability at a time, with the threshold that holds.
    pub fn step(&mut self, params: &EpisodeParams, at_ms: Millis, probability: f64, threshold: f64) -> EpisodeStep {
        self.episode.step(params, at_ms, probability, threshold)
    }

    /// Whether one is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.episode.is_open()
    }

    /// What was warned of happened, or was made impossible.
    pub fn reset(&mut self) {
        self.episode = Episode::default();
    }
}
