//! Keeps the least and the greatest of a statistic, and says by how much a new one goes beyond: a record is news once.
//!
//! **Fails when** one outlier sets a mark that nothing reaches again. **Cost:** two comparisons; 8 bytes.
//! **Method:** record values; see B. C. Arnold, N. Balakrishnan, H. N. Nagaraja, *Records*, Wiley 1998, section 2.

use serde::{Deserialize, Serialize};

/// Range of everything seen, from zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Extremes {
    least: f32,
    greatest: f32,
}

impl Extremes {
    /// Signed distance beyond the range; 0 inside it.
    #[inline]
    pub fn beyond(&self, x: f64) -> f64 {
        (x - f64::from(self.greatest)).max(0.0) + (x - f64::from(self.least)).min(0.0)
    }

    /// Whether `x`, taken in before, set the mark on its side: what goes further next is the same excursion.
    #[inline]
    pub fn is_mark(&self, x: f64) -> bool {
        let x = x as f32;
        x != 0.0 && (x == self.greatest || x == self.least)
    }

    /// Takes a finite value in.
    #[inline]
    pub fn learn(&mut self, x: f64) {
        self.least = self.least.min(x as f32);
        self.greatest = self.greatest.max(x as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_news_once() {
        let mut extremes = Extremes::default();
        // (value, beyond)
        for (x, beyond) in [
            (0.0, 0.0),
            (2.0, 2.0),
            (1.0, 0.0),
            (-3.0, -3.0),
            (2.5, 0.5),
            (-3.0, 0.0),
        ] {
            assert!((extremes.beyond(x) - beyond).abs() < 1e-6, "{x}");
            extremes.learn(x);
        }
    }

    #[test]
    fn a_mark_is_what_set_the_range_last() {
        let mut extremes = Extremes::default();
        // (value, whether it is then the mark)
        for (x, is_mark) in [
            (0.0, false),
            (2.1, true),
            (1.0, false),
            (2.3, true),
            (-0.7, true),
            (2.1, false),
        ] {
            extremes.learn(x);
            assert_eq!(extremes.is_mark(x), is_mark, "{x}");
        }
    }
}
