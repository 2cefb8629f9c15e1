//! Says a lasting oddness once: opens when the surprise passes a threshold, escalates when it grows clearly stranger, and
//! closes after a quiet time below a lower threshold. A refractory time keeps a flickering signal from opening twice.
//!
//! **Fails when** a second, unrelated oddness of no greater surprise begins inside the refractory time of the first: it
//! is told only if it outlasts it. **Cost:** a dozen comparisons; 56 bytes.
//! **Method:** hysteresis (Schmitt trigger) with a dead time, in event time, so that it does not depend on how often
//! somebody looks.

use serde::{Deserialize, Serialize};

/// How patient an [`Episode`] is. Times are in milliseconds of event time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpisodeParams {
    /// Oddness lasts while the surprise is at least this share of the opening threshold; in 0 ..= 1.
    pub stay_share: f64,
    /// Closed when no surprise reached the staying level for this long.
    pub close_after_ms: i64,
    /// After an episode was told, no other opens for this long unless clearly stranger than that one's peak.
    pub refractory_ms: i64,
    /// Clearly stranger: the surprise exceeds the greatest told so far by this many magnitudes.
    pub escalate_by: f64,
}

impl Default for EpisodeParams {
    fn default() -> Self {
        Self {
            stay_share: 0.6,
            close_after_ms: 60_000,
            refractory_ms: 300_000,
            escalate_by: 1.0,
        }
    }
}

/// What a step did to an [`Episode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EpisodeStep {
    /// Nothing is odd, or nothing that would be told.
    Quiet,
    /// Something odd began: tell it.
    Opened,
    /// It became clearly stranger than what was told: tell it again.
    Escalated,
    /// It lasts.
    Ongoing,
    /// It ended with this step.
    Closed,
}

impl EpisodeStep {
    /// Whether a person would be told: [`Self::Opened`] or [`Self::Escalated`].
    #[must_use]
    pub fn is_told(self) -> bool {
        matches!(self, Self::Opened | Self::Escalated)
    }
}

/// The life of one oddness, from surprise to surprise. Fixed size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    open: bool,
    /// When the surprise last rose to the staying level, open or not.
    hot_since_ms: Option<i64>,
    /// When the surprise was last at the staying level.
    hot_last_ms: i64,
    /// Onset of the open episode.
    onset_ms: i64,
    /// When something was last told.
    told_ms: Option<i64>,
    /// Greatest surprise of the open episode.
    peak: f64,
    /// Greatest surprise told, of the open episode or of the last one inside its refractory time.
    told: f64,
}

impl Episode {
    /// Takes the surprise (−log10 p) seen at `at_ms`, with `open_at` the surprise at which an episode may open now.
    ///
    /// A NaN surprise is a missing one: only time passes. Time may stand still or jump; a jump backwards beyond the
    /// refractory time starts the timers again, so that one record from the far future cannot silence a series.
    pub fn step(&mut self, p: &EpisodeParams, at_ms: i64, surprise: f64, open_at: f64) -> EpisodeStep {
        self.forget_the_future(p, at_ms);
        if surprise.is_nan() {
            return self.wait(p, at_ms);
        }
        if surprise < open_at * p.stay_share {
            if !self.open {
                self.hot_since_ms = None;
            }
            return self.wait(p, at_ms);
        }
        let hot_since = *self.hot_since_ms.get_or_insert(at_ms);
        self.hot_last_ms = at_ms;
        if self.open {
            self.peak = self.peak.max(surprise);
            if surprise >= open_at && surprise >= self.told + p.escalate_by {
                self.tell(at_ms, surprise);
                return EpisodeStep::Escalated;
            }
            return EpisodeStep::Ongoing;
        }
        let rested = self
            .told_ms
            .is_none_or(|told| at_ms.saturating_sub(told) >= p.refractory_ms);
        if surprise < open_at || !(rested || surprise >= self.told + p.escalate_by) {
            return EpisodeStep::Quiet;
        }
        self.open = true;
        self.onset_ms = hot_since;
        self.peak = surprise;
        self.tell(at_ms, surprise);
        EpisodeStep::Opened
    }

    /// Whether something odd is going on.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Since when, in ms: when the surprise rose to the staying level, which is before it opened. `None` when not open.
    #[must_use]
    pub fn onset_ms(&self) -> Option<i64> {
        self.open.then_some(self.onset_ms)
    }

    /// Greatest surprise of the open episode; 0 when not open.
    #[must_use]
    pub fn peak(&self) -> f64 {
        if self.open { self.peak } else { 0.0 }
    }

    /// When something was last told, in ms.
    #[must_use]
    pub fn told_ms(&self) -> Option<i64> {
        self.told_ms
    }

    fn tell(&mut self, at_ms: i64, surprise: f64) {
        self.told_ms = Some(at_ms);
        self.told = surprise;
    }

    fn wait(&mut self, p: &EpisodeParams, at_ms: i64) -> EpisodeStep {
        if !self.open {
            return EpisodeStep::Quiet;
        }
        if at_ms.saturating_sub(self.hot_last_ms) < p.close_after_ms {
            return EpisodeStep::Ongoing;
        }
        self.open = false;
        self.hot_since_ms = None;
        EpisodeStep::Closed
    }

    fn forget_the_future(&mut self, p: &EpisodeParams, at_ms: i64) {
        let tolerated = p.refractory_ms.max(p.close_after_ms);
        let is_ahead = |t: i64| t.saturating_sub(at_ms) > tolerated;
        if self.told_ms.is_some_and(is_ahead) {
            self.told_ms = Some(at_ms);
        }
        if self.open && is_ahead(self.hot_last_ms) {
            self.hot_last_ms = at_ms;
            self.onset_ms = self.onset_ms.min(at_ms);
        }
        if self.hot_since_ms.is_some_and(is_ahead) {
            self.hot_since_ms = Some(at_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EpisodeStep::{Closed, Escalated, Ongoing, Opened, Quiet};
    use proptest::prelude::*;

    const PARAMS: EpisodeParams = EpisodeParams {
        stay_share: 0.5,
        close_after_ms: 20,
        refractory_ms: 100,
        escalate_by: 1.0,
    };

    #[test]
    fn episodes_by_case() {
        let nan = f64::NAN;
        // (name, [(at, surprise, expected)]), threshold 4
        type Case<'a> = (&'a str, &'a [(i64, f64, EpisodeStep)]);
        let cases: [Case<'_>; 9] = [
            (
                "quiet stays quiet",
                &[(0, 0.0, Quiet), (10, 3.9, Quiet), (20, nan, Quiet)],
            ),
            (
                "opens once",
                &[(0, 5.0, Opened), (10, 5.5, Ongoing), (20, 5.0, Ongoing)],
            ),
            (
                "escalates when clearly stranger",
                &[(0, 5.0, Opened), (10, 6.0, Escalated), (20, 6.9, Ongoing)],
            ),
            (
                "hysteresis holds it open",
                &[(0, 5.0, Opened), (10, 2.0, Ongoing), (35, 2.0, Ongoing)],
            ),
            (
                "closes after the quiet time",
                &[
                    (0, 5.0, Opened),
                    (10, 1.0, Ongoing),
                    (20, 1.0, Closed),
                    (30, 1.0, Quiet),
                ],
            ),
            (
                "refractory time holds back a second one that is no stranger",
                &[
                    (0, 5.0, Opened),
                    (20, 0.0, Closed),
                    (50, 5.0, Quiet),
                    (100, 5.0, Opened),
                ],
            ),
            (
                "a second one that is clearly stranger is told at once",
                &[(0, 5.0, Opened), (20, 0.0, Closed), (50, 6.5, Opened)],
            ),
            (
                "missing values let time pass",
                &[(0, 5.0, Opened), (10, nan, Ongoing), (30, nan, Closed)],
            ),
            (
                "one record from the far future does not silence",
                &[
                    (9_999_999, 5.0, Opened),
                    (0, 0.0, Ongoing),
                    (20, 0.0, Closed),
                    (100, 5.0, Opened),
                ],
            ),
        ];
        for (name, steps) in cases {
            let mut episode = Episode::default();
            for (i, &(at, surprise, expected)) in steps.iter().enumerate() {
                assert_eq!(episode.step(&PARAMS, at, surprise, 4.0), expected, "{name}: step {i}");
            }
        }
    }

    #[test]
    fn onset_is_before_the_opening_and_peak_is_the_greatest() {
        let mut episode = Episode::default();
        for (at, surprise) in [
            (0, 2.5),
            (5, 0.0),
            (10, 2.5),
            (20, 3.0),
            (30, 4.5),
            (40, 4.9),
            (50, 3.0),
        ] {
            episode.step(&PARAMS, at, surprise, 4.0);
        }
        assert_eq!(episode.onset_ms(), Some(10));
        assert!((episode.peak() - 4.9).abs() < 1e-12);
        episode.step(&PARAMS, 100, 0.0, 4.0);
        assert_eq!((episode.onset_ms(), episode.peak()), (None, 0.0));
    }

    #[test]
    fn saving_and_loading_changes_nothing() {
        let mut episode = Episode::default();
        episode.step(&PARAMS, 5, 6.0, 4.0);
        let bytes = postcard::to_stdvec(&episode).expect("encodes");
        assert_eq!(postcard::from_bytes::<Episode>(&bytes).expect("decodes"), episode);
    }

    proptest! {
        #[test]
        fn any_bits_never_panic(steps in proptest::collection::vec((any::<i64>(), any::<u64>(), any::<u64>()), 0..50)) {
            let mut episode = Episode::default();
            for (at, surprise, open_at) in steps {
                episode.step(&PARAMS, at, f64::from_bits(surprise), f64::from_bits(open_at));
            }
        }

        /// What is opened is open, and nothing closes or escalates that was not.
        #[test]
        fn steps_follow_the_life_cycle(surprises in proptest::collection::vec(0f64..10.0, 0..200)) {
            let mut episode = Episode::default();
            for (i, surprise) in surprises.into_iter().enumerate() {
                let was_open = episode.is_open();
                let step = episode.step(&PARAMS, 7 * i as i64, surprise, 4.0);
                match step {
                    Opened => prop_assert!(!was_open && episode.is_open()),
                    Escalated | Ongoing => prop_assert!(was_open && episode.is_open()),
                    Closed => prop_assert!(was_open && !episode.is_open()),
                    Quiet => prop_assert!(!was_open && !episode.is_open()),
                }
            }
        }
    }
}
