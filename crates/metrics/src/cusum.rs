//! Adds up what exceeds a tolerance, upwards and downwards apart, and so finds a level that has moved or keeps moving
//! although no single value is odd. The sum's last zero says when the change began.
//!
//! **Fails when** values are strongly autocorrelated: the sums then wander by themselves, which the calibration learns
//! and which costs sensitivity. **Cost:** six floating-point operations; 24 bytes.
//! **Paper:** E. S. Page, *Continuous inspection schemes*, Biometrika 41, 1954, section 2.2.

use foreshock_domain::Timestamp;
use serde::{Deserialize, Serialize};

/// Two-sided cumulative sum of standardised residuals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cusum {
    up: f32,
    down: f32,
    since: Timestamp,
}

impl Cusum {
    /// Residuals within this many spreads are tolerated: half the shift that is to be found fastest.
    pub const TOLERANCE: f64 = 0.5;
    /// The sums stop here, so that a long shift is unlearned in bounded time.
    pub const LARGEST: f64 = 24.0;

    /// The sums after one more standardised residual `z` at `at`.
    #[must_use]
    #[inline]
    pub fn after(&self, z: f64, at: Timestamp) -> Self {
        let up = (f64::from(self.up) + z - Self::TOLERANCE).clamp(0.0, Self::LARGEST) as f32;
        let down = (f64::from(self.down) - z - Self::TOLERANCE).clamp(0.0, Self::LARGEST) as f32;
        // The onset belongs to the sum that leads; both are rarely above zero together.
        let began = self.up.max(self.down) <= 0.0;
        Self {
            up,
            down,
            since: if began { at } else { self.since },
        }
    }

    /// The larger sum, in spreads.
    #[must_use]
    #[inline]
    pub fn magnitude(&self) -> f64 {
        f64::from(self.up.max(self.down))
    }

    /// Whether the upward sum leads.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up >= self.down
    }

    /// Since when the sums have not been zero; `None` while they are.
    #[must_use]
    pub fn since(&self) -> Option<Timestamp> {
        (self.magnitude() > 0.0).then_some(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(residuals: &[f64]) -> Cusum {
        residuals.iter().enumerate().fold(Cusum::default(), |c, (i, &z)| {
            c.after(z, Timestamp::from_secs(i as i64))
        })
    }

    #[test]
    fn sums_by_case() {
        // (name, residuals, magnitude, since)
        let cases: [(&str, &[f64], f64, Option<i64>); 6] = [
            ("empty", &[], 0.0, None),
            ("within tolerance", &[0.4, -0.4, 0.5], 0.0, None),
            ("a shift up", &[0.0, 0.0, 1.5, 1.5], 2.0, Some(2)),
            ("a shift down", &[0.0, -1.5, -1.5], 2.0, Some(1)),
            ("over again", &[1.5, -1.5, -1.5, 0.0, 0.0, 0.0, 0.0], 0.0, None),
            ("bounded", &[4.0; 100], Cusum::LARGEST, Some(0)),
        ];
        for (name, residuals, magnitude, since) in cases {
            let cusum = after(residuals);
            assert!((cusum.magnitude() - magnitude).abs() < 1e-5, "{name}: {cusum:?}");
            assert_eq!(cusum.since(), since.map(Timestamp::from_secs), "{name}");
        }
        assert!(after(&[2.0]).is_up() && !after(&[-2.0]).is_up());
    }

    proptest! {
        /// Page's form against the textbook's: the sum less its minimum so far.
        #[test]
        fn the_sum_is_the_rise_above_its_minimum(residuals in proptest::collection::vec(-0.9f64..1.0, 1..60)) {
            let (mut sum, mut lowest) = (0.0f64, 0.0f64);
            for z in &residuals {
                sum += z - Cusum::TOLERANCE;
                lowest = lowest.min(sum);
            }
            let cusum = after(&residuals);
            prop_assert!((f64::from(cusum.up) - (sum - lowest)).abs() < 1e-3);
        }
    }
}
