//! Remembers where the series has been, as a few intervals, and measures how far a value lies from the nearest of them:
//! a value in territory never visited is odd however wide the spread, and, once visited, is odd no more.
//!
//! **Fails when** more islands exist than intervals (the two nearest are then joined, and the gap between them becomes
//! familiar) and on a steady drift, which enters new territory all the time: the calibration learns that rate.
//! **Cost:** a scan of at most 8 intervals; 68 bytes.
//! **Paper:** the one-dimensional case of the box memory of the RCE network, D. L. Reilly, L. N. Cooper, C. Elbaum, *A
//! neural model for category learning*, Biological Cybernetics 45, 1982; with intervals that grow and merge.

use serde::{Deserialize, Serialize};

/// Most intervals kept.
const INTERVALS: usize = 8;

/// Sorted disjoint intervals that cover the values seen. Values are held in single precision: give them relative to an
/// origin near them, below 1e38.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Territory {
    low: [f32; INTERVALS],
    high: [f32; INTERVALS],
    used: u8,
}

impl Default for Territory {
    fn default() -> Self {
        Self {
            low: [0.0; INTERVALS],
            high: [0.0; INTERVALS],
            used: 0,
        }
    }
}

impl Territory {
    /// Signed distance of a finite value to the nearest interval, in the unit of the series; positive above it, 0 inside
    /// one, and 0 while nothing has been seen.
    #[must_use]
    #[inline]
    pub fn distance(&self, value: f64) -> f64 {
        let value = value as f32;
        let used = self.used();
        if used == 0 {
            return 0.0;
        }
        let next = self.first_above(value);
        if next > 0 && value <= self.high[next - 1] {
            return 0.0;
        }
        let above = if next > 0 {
            value - self.high[next - 1]
        } else {
            f32::INFINITY
        };
        let below = if next < used {
            self.low[next] - value
        } else {
            f32::INFINITY
        };
        f64::from(if above <= below { above } else { -below })
    }

    /// Range of everything seen, in the unit of the series; `None` while nothing has been.
    #[must_use]
    pub fn range(&self) -> Option<(f64, f64)> {
        let last = self.used().checked_sub(1)?;
        Some((f64::from(self.low[0]), f64::from(self.high[last])))
    }

    /// Takes a finite value in. Gaps of at most `join` (≥ 0, unit of the series) between it and its neighbours close.
    pub fn learn(&mut self, value: f64, join: f64) {
        let (value, join) = (value as f32, join as f32);
        self.used = self.used.min(INTERVALS as u8);
        let next = self.first_above(value);
        if next > 0 && value <= self.high[next - 1] {
            return;
        }
        let used = self.used();
        let joins_below = next > 0 && value - self.high[next - 1] <= join;
        let joins_above = next < used && self.low[next] - value <= join;
        match (joins_below, joins_above) {
            (true, true) => {
                self.high[next - 1] = self.high[next];
                self.remove(next);
            }
            (true, false) => self.high[next - 1] = value,
            (false, true) => self.low[next] = value,
            (false, false) => self.insert(next, value),
        }
    }

    /// Intervals in use; a damaged snapshot may claim more than there are.
    #[inline]
    fn used(&self) -> usize {
        usize::from(self.used).min(INTERVALS)
    }

    /// Index of the first interval that starts above the value.
    #[inline]
    fn first_above(&self, value: f32) -> usize {
        // They are sorted: as many as start at or below it. All are looked at, which leaves no branch to guess.
        let used = self.used();
        let starts_by = |(i, &low): (usize, &f32)| usize::from((i < used) & (low <= value));
        self.low.iter().enumerate().map(starts_by).sum()
    }

    fn insert(&mut self, at: usize, value: f32) {
        let mut at = at;
        if self.used() == INTERVALS {
            at = self.make_room(at, value);
            if at > INTERVALS {
                return;
            }
        }
        let used = self.used();
        self.low.copy_within(at..used, at + 1);
        self.high.copy_within(at..used, at + 1);
        self.low[at] = value;
        self.high[at] = value;
        self.used = self.used.saturating_add(1);
    }

    /// Joins the two nearest neighbours, the new value counted; returns where the value goes now, or more than
    /// `INTERVALS` when it was itself joined to a neighbour.
    fn make_room(&mut self, at: usize, value: f32) -> usize {
        let (mut nearest, mut gap) = (0, f32::INFINITY);
        for i in 0..INTERVALS - 1 {
            // The gap that the value falls into is not one to close over it.
            let width = self.low[i + 1] - self.high[i];
            if i + 1 != at && width < gap {
                (nearest, gap) = (i, width);
            }
        }
        let below = if at > 0 {
            value - self.high[at - 1]
        } else {
            f32::INFINITY
        };
        let above = if at < INTERVALS {
            self.low[at] - value
        } else {
            f32::INFINITY
        };
        if below.min(above) <= gap {
            if below <= above {
                self.high[at - 1] = value;
            } else {
                self.low[at] = value;
            }
            return usize::MAX;
        }
        self.high[nearest] = self.high[nearest + 1];
        self.remove(nearest + 1);
        if at > nearest { at - 1 } else { at }
    }

    fn remove(&mut self, at: usize) {
        let used = self.used();
        self.low.copy_within(at + 1..used, at);
        self.high.copy_within(at + 1..used, at);
        self.used = self.used.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn visited(values: &[f64], join: f64) -> Territory {
        let mut territory = Territory::default();
        values.iter().for_each(|&x| territory.learn(x, join));
        territory
    }

    #[test]
    fn distances_by_case() {
        // (name, visited, join, value, distance)
        let cases: [(&str, &[f64], f64, f64, f64); 8] = [
            ("nothing seen", &[], 1.0, 5.0, 0.0),
            ("seen", &[5.0], 0.0, 5.0, 0.0),
            ("above", &[5.0], 0.0, 8.0, 3.0),
            ("below", &[5.0], 0.0, 1.0, -4.0),
            ("between two islands, nearer the lower", &[0.0, 10.0], 1.0, 4.0, 4.0),
            ("between two islands, nearer the upper", &[0.0, 10.0], 1.0, 7.0, -3.0),
            ("inside a joined interval", &[0.0, 1.0, 2.0], 1.0, 1.5, 0.0),
            ("a value that bridges two intervals", &[0.0, 2.0, 1.0], 1.0, 0.5, 0.0),
        ];
        for (name, values, join, value, distance) in cases {
            assert!(
                (visited(values, join).distance(value) - distance).abs() < 1e-6,
                "{name}"
            );
        }
    }

    #[test]
    fn range_by_case() {
        assert_eq!(visited(&[], 1.0).range(), None);
        assert_eq!(visited(&[3.0, -1.0, 2.0], 0.0).range(), Some((-1.0, 3.0)));
    }

    proptest! {
        /// What was visited is known, however many islands there are; and intervals stay sorted and apart.
        #[test]
        fn visited_values_are_known(values in proptest::collection::vec(-1e6f32..1e6, 0..200), join in 0f64..1e4) {
            let mut territory = Territory::default();
            for &value in &values {
                territory.learn(f64::from(value), join);
                let used = usize::from(territory.used);
                prop_assert!(used <= INTERVALS);
                for i in 0..used {
                    prop_assert!(territory.low[i] <= territory.high[i]);
                    prop_assert!(i == 0 || territory.high[i - 1] < territory.low[i]);
                }
            }
            for value in values {
                prop_assert_eq!(territory.distance(f64::from(value)), 0.0);
            }
        }

        /// While there is room, the distance is that to the nearest value.
        #[test]
        fn few_values_are_kept_exactly(
            values in proptest::collection::vec(-1e3f32..1e3, 1..INTERVALS),
            probe in -2e3f32..2e3,
        ) {
            let exact: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
            let naive = exact.iter().map(|v| (f64::from(probe) - v).abs()).fold(f64::INFINITY, f64::min);
            let found = visited(&exact, 0.0).distance(f64::from(probe)).abs();
            prop_assert!((found - naive).abs() < 1e-2, "{} against {}", found, naive);
        }
    }
}
