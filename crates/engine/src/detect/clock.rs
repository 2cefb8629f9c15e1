//! Which event times an input partition believes, and how far its time has come.
//!
//! The watermark is the greatest believed event time less the allowed lateness. One source with a clock from 2099 must not
//! drag it there, since everything after would then be late for ever; and where the sources themselves were set back, or a dump
//! of last year follows one of today, the partition must not stay stuck either. So a jump of more than a day, either way, is
//! believed only when many records in a row agree with it.
//!
//! Fails when: more than [`AHEAD_RECORDS`] records in a row come from clocks ahead by over a day (one partition fed by one bad
//! host only): the clock then goes with them, and comes back after [`BEHIND_RECORDS`] records of the right time.
//! Cost: O(1) per record, 40 bytes.

use foreshock_domain::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// An event may be this much ahead of the log's own timestamp: clocks differ, but not by more.
const AHEAD_OF_LOG_MS: Millis = 3_600_000;
/// A jump beyond this needs corroboration.
const JUMP_MS: Millis = 24 * 3_600_000;
/// Records in a row that make a jump ahead believable.
const AHEAD_RECORDS: u32 = 16;
/// Records in a row that make a jump back believable; more, because stragglers of an old day do come in groups.
const BEHIND_RECORDS: u32 = 256;

/// What the clock says of one event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Believed.
    Taken,
    /// Believed, and everything before is over: the sources' clocks were set back.
    Restarted,
    /// Too far ahead.
    Future,
    /// Before 1970 or after 9999.
    Implausible,
    /// So far behind that its window closed long ago.
    Stale,
}

/// The event clock of one partition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct EventClock {
    latest: Option<Timestamp>,
    ahead: u32,
    behind: u32,
}

impl EventClock {
    /// Judges one event time and moves the clock by it.
    pub(crate) fn admit(&mut self, at: Timestamp, log_time: Option<Timestamp>) -> Admission {
        if !at.is_plausible() {
            return Admission::Implausible;
        }
        if log_time.is_some_and(|log| at - log > AHEAD_OF_LOG_MS) {
            return Admission::Future;
        }
        let Some(latest) = self.latest else {
            self.latest = Some(at);
            return Admission::Taken;
        };
        if at - latest > JUMP_MS {
            self.ahead += 1;
            if self.ahead < AHEAD_RECORDS {
                return Admission::Future;
            }
        } else if latest - at > JUMP_MS {
            self.behind += 1;
            if self.behind < BEHIND_RECORDS {
                return Admission::Stale;
            }
            *self = Self {
                latest: Some(at),
                ..Self::default()
            };
            return Admission::Restarted;
        }
        self.ahead = 0;
        self.behind = 0;
        self.latest = Some(latest.max(at));
        Admission::Taken
    }

    /// Event time up to which no more is expected; `None` before the first record.
    pub(crate) fn watermark(&self, lateness_ms: Millis) -> Option<Timestamp> {
        self.latest.map(|latest| latest - lateness_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Millis = 24 * 3_600_000;

    fn t(ms: Millis) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + ms)
    }

    #[test]
    fn one_clock_from_2099_does_not_move_the_watermark() {
        let mut clock = EventClock::default();
        assert_eq!(clock.admit(t(0), None), Admission::Taken);
        for i in 0..1_000 {
            assert_eq!(clock.admit(t(75 * 365 * DAY), None), Admission::Future);
            assert_eq!(clock.admit(t(i), None), Admission::Taken);
        }
        assert_eq!(clock.watermark(10), Some(t(989)));
    }

    #[test]
    fn an_event_far_ahead_of_the_log_is_refused_even_as_the_first() {
        let mut clock = EventClock::default();
        assert_eq!(clock.admit(t(2 * 3_600_000), Some(t(0))), Admission::Future);
        assert_eq!(clock.watermark(0), None);
        assert_eq!(clock.admit(t(60_000), Some(t(0))), Admission::Taken);
    }

    #[test]
    fn a_real_gap_is_believed_after_some_records() {
        let mut clock = EventClock::default();
        clock.admit(t(0), None);
        let refused = (0..100)
            .filter(|i| clock.admit(t(3 * DAY + i), None) == Admission::Future)
            .count();
        assert_eq!(refused, AHEAD_RECORDS as usize - 1);
        assert_eq!(clock.watermark(0), Some(t(3 * DAY + 99)));
    }

    #[test]
    fn sources_set_back_do_not_leave_the_partition_stuck() {
        let mut clock = EventClock::default();
        clock.admit(t(400 * DAY), None);
        let answers: Vec<_> = (0..300).map(|i| clock.admit(t(i), None)).collect();
        assert_eq!(answers.iter().filter(|a| **a == Admission::Restarted).count(), 1);
        assert_eq!(answers.last(), Some(&Admission::Taken));
        assert_eq!(clock.watermark(0), Some(t(299)));
    }

    #[test]
    fn nonsense_is_refused() {
        let mut clock = EventClock::default();
        for ms in [i64::MIN, -1, i64::MAX] {
            assert_eq!(clock.admit(Timestamp::from_millis(ms), None), Admission::Implausible);
        }
        assert_eq!(clock, EventClock::default());
    }
}
