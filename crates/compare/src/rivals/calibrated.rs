//! Scores of a rival as surprises, so that one alert rule and one threshold serve all: standardised by their running mean and
//! spread, and calibrated by our own tail. Kinder than what any rival brings along.

use foreshock_stats::{TailCalibrator, TailPrior};

/// Rows before the first surprise.
const SILENT: u32 = 100;

/// Streaming map from any score to −log10 p.
pub struct Calibrated {
    rows: f64,
    mean: f64,
    squares: f64,
    tail: TailCalibrator,
}

impl Calibrated {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            rows: 0.0,
            mean: 0.0,
            squares: 0.0,
            tail: TailCalibrator::new(&TailPrior {
                shape: 0.3,
                ..TailPrior::default()
            }),
        }
    }

    /// Surprise of a score, which is then learned. A score of exactly 0 is one of a detector that is still warming up.
    pub fn step(&mut self, score: f64) -> f64 {
        if score == 0.0 {
            return 0.0;
        }
        let spread = (self.squares / self.rows.max(1.0)).sqrt();
        let z = if spread > 0.0 {
            ((score - self.mean) / spread).max(0.0)
        } else {
            0.0
        };
        let surprise = if self.tail.seen() < SILENT {
            0.0
        } else {
            self.tail.surprise(z)
        };
        if self.rows >= f64::from(SILENT) {
            self.tail.learn(z, 8);
        }
        self.rows += 1.0;
        let off = score - self.mean;
        self.mean += off / self.rows;
        self.squares += off * (score - self.mean);
        surprise
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::injected::Draws;

    #[test]
    fn surprises_of_any_scale_are_near_nominal() {
        for (scale, offset) in [(1.0, 0.0), (1e-3, 0.5), (1e4, -7.0)] {
            let mut draws = Draws::new(1, &["calibrated"]);
            let mut calibrated = Calibrated::new();
            let n = 40_000;
            let passed = (0..n)
                .filter(|_| calibrated.step(offset + scale * draws.exponential()) >= 3.0)
                .count();
            let ratio = passed as f64 / (f64::from(n) * 1e-3);
            assert!((0.4..2.0).contains(&ratio), "scale {scale}: {ratio} times nominal");
        }
    }
}
