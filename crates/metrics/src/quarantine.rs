//! Holds back what has been odd for several points in a row: while it lasts it calibrates nothing, so that an outage does
//! not become normal. If it ends by itself it was part of this series' life and is learned then; if it lasts long it is
//! the new normal, and is learned from there on.
//!
//! **Fails when** an outage is a single point: that is learned, with bounded influence.
//! **Cost:** a dozen operations; 16 bytes.
//! **Method:** `Differs` from plain robust updating, which forgets a slow failure as fast as it grows: the surprise of a
//! ramp would fall while the ramp rises.

use serde::{Deserialize, Serialize};

/// Oddness (−log10 p) that begins a run.
const BEGINS: f64 = 2.0;
/// Oddness that keeps a run going.
const LASTS: f64 = 1.0;
/// Points in a row after which it is the new normal.
const HELD_TO: u16 = 100;
/// Held points are remembered by levels of this many magnitudes.
const LEVELS: usize = 8;
const LEVEL_WIDTH: f64 = 0.5;

/// A run of odd points, and what it withheld.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quarantine {
    /// Odd points in a row; halved by each that is not.
    run: u16,
    /// Points held back, by how unusual they were, and the sum of how new.
    held: [u8; LEVELS],
    new: f32,
}

/// What to do with the present point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum QuarantineStep {
    /// Learn it.
    Free,
    /// Calibrate nothing with it.
    Held,
    /// Learn it, and what was held back: points by how unusual, in the middle of each level, and the mean of how new.
    Released { unusual: [(f64, u16); LEVELS], new: f64 },
}

impl Quarantine {
    /// What levels may learn of a held point.
    pub const SHARE: f64 = 0.125;

    /// Whether what is odd has lasted for so long that it is the new normal.
    pub fn is_lasting(&self) -> bool {
        self.run >= HELD_TO
    }

    /// Takes a point's oddness (−log10 p) and the two scores that it would teach, how unusual and how new it is.
    ///
    /// From so many odd points in a row on they are held: a second odd point depends on the first.
    pub fn step(&mut self, held_from: u16, oddness: f64, [unusual, new]: [f64; 2]) -> QuarantineStep {
        let is_held = (held_from..HELD_TO).contains(&self.run);
        let is_odd = oddness >= if self.run > 0 { LASTS } else { BEGINS };
        self.run = if is_odd {
            self.run.saturating_add(1)
        } else {
            self.run / 2
        };
        if is_held {
            let level = ((unusual / LEVEL_WIDTH) as usize).min(LEVELS - 1);
            self.held[level] = self.held[level].saturating_add(1);
            self.new += new.min(1e6) as f32;
            return QuarantineStep::Held;
        }
        let (held, new) = (self.held, self.new);
        (self.held, self.new) = Default::default();
        let count: u16 = held.iter().map(|&c| u16::from(c)).sum();
        if count == 0 || self.run >= HELD_TO {
            return QuarantineStep::Free;
        }
        QuarantineStep::Released {
            unusual: std::array::from_fn(|level| ((level as f64 + 0.5) * LEVEL_WIDTH, u16::from(held[level]))),
            new: f64::from(new) / f64::from(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(oddness: &[f64]) -> usize {
        let mut quarantine = Quarantine::default();
        oddness
            .iter()
            .filter(|&&o| quarantine.step(1, o, [o, 0.0]) == QuarantineStep::Held)
            .count()
    }

    #[test]
    fn runs_by_case() {
        let cases: [(&str, Vec<f64>, usize); 6] = [
            ("nothing", vec![], 0),
            ("normal", vec![0.5; 50], 0),
            ("what follows an odd one is held", [5.0, 0.0].repeat(50), 50),
            ("the first odd one is learned", vec![5.0], 0),
            ("from the second on they are held", vec![5.0; 10], 9),
            ("what lasts becomes normal", vec![5.0; 300], 99),
        ];
        for (name, oddness, expected) in cases {
            assert_eq!(held(&oddness), expected, "{name}");
        }
    }

    #[test]
    fn what_ends_by_itself_is_released() {
        let mut quarantine = Quarantine::default();
        for _ in 0..7 {
            quarantine.step(1, 4.0, [2.0, 1.0]);
        }
        let released = (0..8)
            .map(|_| quarantine.step(1, 0.0, [0.0, 0.0]))
            .find(|s| !matches!(s, QuarantineStep::Held));
        let Some(QuarantineStep::Released { unusual, new }) = released else {
            unreachable!("held for four points at least");
        };
        let held: u16 = unusual.iter().map(|(_, count)| count).sum();
        assert!(held >= 4 && (new - 1.0).abs() < 1.0, "{held} of {new}");
        assert!(unusual.iter().all(|&(middle, count)| count == 0 || middle < 2.5));
    }

    #[test]
    fn infinite_oddness_does_not_poison() {
        let mut quarantine = Quarantine::default();
        for _ in 0..50 {
            quarantine.step(1, f64::INFINITY, [f64::INFINITY; 2]);
        }
        for _ in 0..20 {
            if let QuarantineStep::Released { new, .. } = quarantine.step(1, 0.0, [0.0; 2]) {
                assert!(new.is_finite());
            }
        }
    }
}
