//! What a person would be told while reading a whole file: the surprise where an event opens or escalates, 0 elsewhere.
//!
//! **Fails when** the interval between rows is not known: the first row of a series has no refractory time.
//! **Cost:** one [`Episode`] step a row. **Method:** [`Episode`], with its times in typical intervals between rows.

use foreshock_domain::Timestamp;
use foreshock_stats::{Episode, EpisodeParams};

/// How scores become alerts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlertRule {
    /// Surprise at which an event opens. Low by default, because whoever reads a whole file ranks its alerts and sets the
    /// bar afterwards.
    pub open_at: f64,
    /// Typical intervals between rows for which a told event keeps others, that are not clearly stranger, from opening.
    pub refractory_intervals: f64,
    /// Typical intervals of quiet after which an event closes.
    pub close_after_intervals: f64,
    /// An event is told again when this many magnitudes stranger.
    pub escalate_by: f64,
}

impl Default for AlertRule {
    fn default() -> Self {
        Self {
            open_at: 2.0,
            refractory_intervals: 100.0,
            close_after_intervals: 6.0,
            escalate_by: 0.5,
        }
    }
}

impl AlertRule {
    /// The surprise where an event opens or escalates, and 0 elsewhere.
    ///
    /// `surprise` is −log10 p of this row, `None` where nothing was scored; `interval_ms` is the typical time between rows.
    pub fn alert(&self, episode: &mut Episode, at: Timestamp, surprise: Option<f64>, interval_ms: f64) -> f64 {
        let params = EpisodeParams {
            close_after_ms: (self.close_after_intervals * interval_ms) as i64,
            refractory_ms: (self.refractory_intervals * interval_ms) as i64,
            escalate_by: self.escalate_by,
            ..EpisodeParams::default()
        };
        let surprise = surprise.unwrap_or(f64::NAN);
        if episode.step(&params, at.as_millis(), surprise, self.open_at).is_told() {
            surprise
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_told_once_and_again_when_stranger() {
        // (surprise of each row a second apart, told)
        type Case<'a> = (&'a str, &'a [Option<f64>], &'a [f64]);
        let cases: [Case<'_>; 4] = [
            ("quiet", &[Some(0.0), Some(1.9), None], &[0.0, 0.0, 0.0]),
            ("lasting", &[Some(3.0), Some(3.2), Some(3.4)], &[3.0, 0.0, 0.0]),
            ("growing", &[Some(3.0), Some(3.2), Some(3.6)], &[3.0, 0.0, 3.6]),
            ("missing", &[None, Some(2.0), None], &[0.0, 2.0, 0.0]),
        ];
        for (name, surprises, told) in cases {
            let mut episode = Episode::default();
            for (i, (&surprise, &expected)) in surprises.iter().zip(told).enumerate() {
                let at = Timestamp::from_secs(i as i64);
                let alert = AlertRule::default().alert(&mut episode, at, surprise, 1_000.0);
                assert!((alert - expected).abs() < 1e-12, "{name}, row {i}: {alert}");
            }
        }
    }
}
