//! A dead man's switch: something that was heard before has not been heard for `after_s` seconds. The onset is the event time
//! at which it was last heard, the end the start of the window in which it is heard again.
//!
//! Silence is measured on the observed clock, from one arrival to the next: a backlog arrives late but arrives, and does not
//! look like silence. Fails where the path of the telemetry breaks and not the entity, as far as whoever sees all entities does
//! not excuse the silence.
//!
//! Cost: O(1) and some 100 bytes for each thing that is listened for.

use foreshock_domain::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cause::{CauseKey, Change, Kind};

/// What is listened for: an entity (empty `series`) or a series of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Beat {
    pub(crate) rule: Box<str>,
    pub(crate) series: Box<str>,
    /// Event time at which it was last heard.
    last_at: Timestamp,
    /// Observed clock at which that arrived.
    heard_ms: i64,
    pub(crate) silent: bool,
    /// Observed clock at which something from before the silence began to arrive.
    stale_ms: Option<i64>,
}

/// What was on its way when the silence began arrives within so long, once the path is open again. What comes later and is still old is
/// heard from a clock that was set back.
const ON_ITS_WAY_MS: i64 = 60_000;

impl Beat {
    pub(crate) fn new(rule: &str, series: &str, last_at: Timestamp, observed_ms: i64) -> Self {
        Self {
            rule: rule.into(),
            series: series.into(),
            last_at,
            heard_ms: observed_ms,
            silent: false,
            stale_ms: None,
        }
    }

    /// Event time at which it was last heard.
    pub(crate) const fn last_at(&self) -> Timestamp {
        self.last_at
    }

    pub(crate) fn key(&self) -> CauseKey {
        CauseKey::new(Kind::Heartbeat, &self.rule, &self.series)
    }

    /// It was heard at event time `last_at`, in a window that starts at `start`. What is from before the silence does not end it.
    pub(crate) fn heard(&mut self, start: Timestamp, last_at: Timestamp, observed_ms: i64) -> Option<Change> {
        if self.silent && last_at <= self.last_at {
            let since_ms = *self.stale_ms.get_or_insert(observed_ms);
            if observed_ms.saturating_sub(since_ms) < ON_ITS_WAY_MS {
                return None;
            }
        }
        self.stale_ms = None;
        self.last_at = self.last_at.max(last_at);
        self.heard_ms = self.heard_ms.max(observed_ms);
        if !self.silent {
            return None;
        }
        self.silent = false;
        let evidence = format!("{} is heard again", self.what());
        Some(Change::Ended {
            key: self.key(),
            ended: start,
            evidence,
        })
    }

    /// Something of it arrived that will be heard later.
    pub(crate) fn arrived(&mut self, observed_ms: i64) {
        if !self.silent {
            self.heard_ms = self.heard_ms.max(observed_ms);
        }
    }

    /// Its path broke, so silence up to event time `now` says nothing: what has not been told yet counts from here.
    pub(crate) fn excuse(&mut self, now: Timestamp, observed_ms: i64) {
        if !self.silent {
            self.last_at = self.last_at.max(now);
            self.heard_ms = self.heard_ms.max(observed_ms);
        }
    }

    /// The observed clock moved on.
    pub(crate) fn tick(&mut self, observed_ms: i64, after_ms: i64) -> Option<Change> {
        let silence_ms = observed_ms.saturating_sub(self.heard_ms);
        if self.silent || silence_ms < after_ms {
            return None;
        }
        self.silent = true;
        let evidence = format!("{} not heard for {} s", self.what(), silence_ms / 1_000);
        Some(Change::Began {
            key: self.key(),
            onset: self.last_at,
            ended: None,
            evidence,
        })
    }

    fn what(&self) -> &str {
        if self.series.is_empty() { "entity" } else { &self.series }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_secs(1_000);

    #[test]
    fn silence_begins_at_the_boundary_and_is_told_once() {
        let mut beat = Beat::new("alive", "", AT, 5_000);
        let cases = [
            ("just before", 64_999, false),
            ("at the boundary", 65_000, true),
            ("told once", 65_001, false),
            ("clock jumps back", 0, false),
            ("clock at its end", i64::MAX, false),
        ];
        for (name, observed_ms, began) in cases {
            assert_eq!(beat.tick(observed_ms, 60_000).is_some(), began, "{name}");
        }
    }

    #[test]
    fn being_heard_again_ends_it() {
        let mut beat = Beat::new("alive", "up", AT, 0);
        assert!(matches!(beat.tick(60_000, 60_000), Some(Change::Began { onset, ended: None, .. }) if onset == AT));
        let back = AT + 90_000;
        assert!(matches!(beat.heard(back, back + 500, 61_000), Some(Change::Ended { ended, .. }) if ended == back));
        assert_eq!(beat.heard(back, back, 62_000), None);
        assert_eq!(beat.tick(121_999, 60_000), None, "silence counts from the last arrival");
        assert!(beat.tick(122_000, 60_000).is_some());
    }

    #[test]
    fn what_was_on_its_way_does_not_end_it_and_a_clock_set_back_does() {
        let mut beat = Beat::new("alive", "", AT, 0);
        assert!(beat.tick(60_000, 60_000).is_some());
        assert_eq!(beat.heard(AT - 10_000, AT, 100_000), None);
        assert_eq!(beat.heard(AT - 10_000, AT, 159_999), None);
        assert!(beat.heard(AT - 10_000, AT, 160_000).is_some(), "it goes on coming");
        assert!(beat.tick(220_000, 60_000).is_some());
        assert!(beat.heard(AT + 10_000, AT + 20_000, 230_000).is_some(), "it is new");
    }

    #[test]
    fn what_is_excused_counts_anew_and_what_was_told_stays() {
        let mut beat = Beat::new("alive", "", AT, 0);
        beat.excuse(AT + 50_000, 50_000);
        assert_eq!(beat.tick(109_999, 60_000), None);
        let began = beat.tick(110_000, 60_000);
        assert!(
            matches!(began, Some(Change::Began { onset, .. }) if onset == AT + 50_000),
            "{began:?}"
        );
        beat.excuse(AT + 120_000, 120_000);
        beat.arrived(130_000);
        assert!(beat.silent && beat.heard(AT + 140_000, AT + 140_000, 140_000).is_some());
        beat.arrived(150_000);
        assert_eq!(beat.tick(209_999, 60_000), None);
    }

    #[test]
    fn a_backlog_is_no_silence() {
        // Event time stands hours behind; what counts is that something arrives.
        let mut beat = Beat::new("alive", "", Timestamp::EARLIEST, 0);
        for minute in 1..600 {
            assert_eq!(
                beat.heard(Timestamp::EARLIEST, Timestamp::EARLIEST, minute * 50_000),
                None
            );
            assert_eq!(beat.tick(minute * 50_000 + 49_999, 60_000), None);
        }
    }
}
