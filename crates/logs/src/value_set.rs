//! The few values that a place has, and how surprising another one is: Good–Turing over windows, as for new templates.
//!
//! A value that comes in long runs (the id of a leader, a version) is seen in many windows and is a draw each time it changes; so the
//! chance of a new one is also no less than how often one has come since the set was first full of what it has. Fails on a set that
//! grows slowly for ever: each new value is told until the 17th, and then the place is no set. Cost: a scan of at most 17
//! hashes a line; 300 bytes. Values are kept as hashes.

use foreshock_domain::{Channel, Direction, Learning, Score, Verdict};
use foreshock_stats::GoodTuring;
use serde::{Deserialize, Serialize};

/// Values beyond which a place is no set.
pub const SET_VALUES_MAX: usize = 16;
/// Windows after which the recent rate of new values forgets.
const NOVELTY_MEMORY: f64 = 256.0;

/// The values of one place of one template at one entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValueSet {
    /// Hash, and windows that it was in.
    values: Vec<(u64, u32)>,
    novelty: GoodTuring,
    /// Windows and new values since the place was taken for a set.
    windows: u32,
    discoveries: u32,
}

impl Default for ValueSet {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            novelty: GoodTuring::new(NOVELTY_MEMORY),
            windows: 0,
            discoveries: 0,
        }
    }
}

impl ValueSet {
    /// Values known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether a value is known.
    #[must_use]
    pub fn contains(&self, value: u64) -> bool {
        self.values.iter().any(|(known, _)| *known == value)
    }

    /// Expected new values in the next window.
    #[must_use]
    pub fn expected(&self) -> f64 {
        let since = f64::from(self.discoveries.saturating_add(1)) / f64::from(self.windows.saturating_add(1));
        let ever = self.novelty.expected();
        // Before it was taken for a set there is no telling what "since" is.
        if self.windows == 0 {
            ever
        } else {
            ever.max(since.min(1.0))
        }
    }

    /// From now on new values are news.
    pub fn settle(&mut self) {
        (self.windows, self.discoveries) = (0, 0);
    }

    /// What is surprising about the values of one window, each with its lines; `None` where all are known.
    #[must_use]
    pub fn judge(&self, values: &[(u64, u32)]) -> Option<Verdict> {
        let new = values.iter().filter(|(value, _)| !self.contains(*value));
        let (kinds, lines) = new.fold((0_u32, 0_u32), |(kinds, lines), (_, count)| {
            (kinds + 1, lines.saturating_add(*count))
        });
        // As [`GoodTuring::p`]: several at once are hardly more than one.
        let p = -(-self.expected()).exp_m1() / f64::from(kinds);
        (kinds > 0).then(|| Verdict {
            score: Score::from_p(p),
            channel: Channel::Novelty,
            direction: Direction::Pattern,
            actual: f64::from(lines),
            expected: 0.0,
            lower: 0.0,
            upper: 0.0,
        })
    }

    /// Takes in the values of one window. False where they are too many for a set.
    pub fn learn(&mut self, values: &[(u64, u32)], learning: Learning) -> bool {
        if learning == Learning::Paused || values.is_empty() {
            return true;
        }
        let (mut new, mut second) = (0, 0);
        for (value, _) in values {
            let is_full = self.values.len() >= SET_VALUES_MAX;
            match self.values.iter_mut().find(|(known, _)| known == value) {
                Some((_, windows)) => {
                    second += u32::from(*windows == 1);
                    *windows = windows.saturating_add(1);
                }
                None if is_full => return false,
                None => {
                    new += 1;
                    self.values.push((*value, 1));
                }
            }
        }
        self.novelty.learn(new, second);
        self.windows = self.windows.saturating_add(1);
        self.discoveries = self.discoveries.saturating_add(new);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surprise(set: &ValueSet, value: u64) -> f64 {
        set.judge(&[(value, 1)]).map_or(0.0, |v| v.score.surprise())
    }

    #[test]
    fn the_longer_nothing_new_came_the_more_it_surprises() {
        let mut set = ValueSet::default();
        for _ in 0..100 {
            set.learn(&[(200, 9), (404, 1)], Learning::Normal);
        }
        set.settle();
        for (windows, least, most) in [(100, 1.9, 2.4), (1_000, 2.9, 3.2), (10_000, 3.9, 4.2)] {
            let mut later = set.clone();
            for _ in 0..windows {
                later.learn(&[(200, 9)], Learning::Normal);
            }
            let found = surprise(&later, 503);
            assert!((least..most).contains(&found), "{windows}: {found}");
            assert_eq!(later.judge(&[(200, 1), (404, 2)]), None);
        }
    }

    #[test]
    fn what_changes_once_a_day_is_expected_to() {
        let mut set = ValueSet::default();
        set.learn(&[(0, 1)], Learning::Normal);
        set.settle();
        let mut told = Vec::new();
        for window in 1..80_000_u64 {
            let value = window / 8_000;
            if let Some(verdict) = set.judge(&[(value, 1)]) {
                told.push(verdict.score.surprise());
            }
            set.learn(&[(value, 1)], Learning::Normal);
        }
        assert!(told.len() == 9 && told.iter().all(|s| *s < 4.1), "{told:?}");
    }

    #[test]
    fn nothing_is_learned_of_a_failure_and_too_many_values_are_no_set() {
        let mut set = ValueSet::default();
        assert!(set.learn(&[(1, 1)], Learning::Paused) && set.is_empty());
        for value in 0..16 {
            assert!(set.learn(&[(value, 1)], Learning::Normal));
        }
        assert!(!set.learn(&[(16, 1)], Learning::Normal));
        assert_eq!(set.len(), SET_VALUES_MAX);
    }
}
