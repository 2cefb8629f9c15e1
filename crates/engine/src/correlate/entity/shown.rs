//! Which kinds of oddness an entity showed of late, and whether a failure followed.
//!
//! A kind is shown from when its evidence first reaches its level. Where the entity fails within the horizon from then on, a failure
//! followed; where it was heard for that long, none did. It counts anew when it was not seen for a horizon, so what flickers is one.
//!
//! Fails where more than 64 kinds are shown at a time: further ones are not remembered. Cost: O(shown) a window of an entity that
//! shows any, 32 bytes each.

use foreshock_domain::{Millis, Timestamp};
use foreshock_failure::predict::{Ending, Kind, TrackRecords};
use serde::{Deserialize, Serialize};

/// Kinds remembered of an entity.
const SHOWN_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Show {
    kind: Kind,
    from: Timestamp,
    last: Timestamp,
    /// Whether the horizon has passed without a failure.
    has_held: bool,
}

/// What one entity shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Shown {
    shows: Vec<Show>,
}

impl Shown {
    /// These are there in the window that ends at `at`.
    pub(super) fn see(&mut self, kinds: impl Iterator<Item = Kind>, at: Timestamp) {
        for kind in kinds {
            if let Some(show) = self.shows.iter_mut().find(|show| show.kind == kind) {
                show.last = show.last.max(at);
            } else if self.shows.len() < SHOWN_MAX {
                self.shows.push(Show {
                    kind,
                    from: at,
                    last: at,
                    has_held: false,
                });
            }
        }
    }

    /// The entity was heard up to `clock`.
    pub(super) fn heard(&mut self, clock: Timestamp, horizon_ms: Millis, records: &mut TrackRecords) {
        self.shows.retain_mut(|show| {
            let until = show.from + horizon_ms;
            if !show.has_held && clock >= until {
                show.has_held = true;
                records.settled(show.kind, show.from, Ending::Held(until), horizon_ms);
            }
            clock < show.last + horizon_ms
        });
    }

    /// Whether the failure that it may foretell would still be within the horizon.
    pub(super) fn is_fresh(&self, kind: Kind) -> bool {
        self.shows.iter().all(|show| show.kind != kind || !show.has_held)
    }

    /// The entity failed: nothing waits any longer.
    pub(super) fn failed(&mut self, onset: Timestamp, horizon_ms: Millis, records: &mut TrackRecords) {
        for show in self.shows.drain(..).filter(|show| !show.has_held) {
            let until = show.from + horizon_ms;
            let ending = if onset <= until {
                Ending::Failed(onset)
            } else {
                Ending::Held(until)
            };
            records.settled(show.kind, show.from, ending, horizon_ms);
        }
    }

    /// What would have become of it will not be known.
    pub(super) fn clear(&mut self) {
        self.shows.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::signal;
    use super::*;

    const HORIZON: Millis = 60_000;

    fn t(s: i64) -> Timestamp {
        Timestamp::from_secs(s)
    }

    /// What is on record of a kind that was seen at these times, once `then` happened.
    fn on_record(seen: &[i64], then: impl FnOnce(&mut Shown, &mut TrackRecords)) -> Option<(u32, u32)> {
        let signal = signal("memory", 5.0, t(0));
        let kind = Kind::of(&signal);
        let (mut shown, mut records) = (Shown::default(), TrackRecords::default());
        for at in seen {
            shown.heard(t(*at), HORIZON, &mut records);
            shown.see([kind].into_iter(), t(*at));
        }
        then(&mut shown, &mut records);
        records
            .of(&[(kind, &signal)])
            .map(|(record, _)| (record.right, record.of))
    }

    #[test]
    fn what_is_shown_is_judged_once_a_horizon() {
        let failed =
            |at: i64| move |shown: &mut Shown, records: &mut TrackRecords| shown.failed(t(at), HORIZON, records);
        let heard = |at: i64| move |shown: &mut Shown, records: &mut TrackRecords| shown.heard(t(at), HORIZON, records);
        let every_10 = [100, 110, 120, 130, 140, 150, 160, 170];
        assert_eq!(on_record(&[100], heard(159)), None, "not known yet");
        assert_eq!(on_record(&[100], heard(160)), Some((0, 1)));
        assert_eq!(on_record(&[100], failed(160)), Some((1, 1)));
        assert_eq!(on_record(&[100], failed(161)), Some((0, 1)), "too late");
        assert_eq!(on_record(&[100], failed(100)), None, "began with it");
        assert_eq!(on_record(&every_10, failed(180)), Some((0, 1)), "shown for too long");
        assert_eq!(on_record(&every_10, heard(900)), Some((0, 1)), "what lasts is one");
        assert_eq!(on_record(&[100, 200, 300], failed(310)), Some((1, 3)), "each anew");
        assert_eq!(on_record(&[100], |shown, _| shown.clear()), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut shown = Shown::default();
        let kinds: Vec<Kind> = (0..100).map(|i| Kind::of(&signal(&i.to_string(), 5.0, t(0)))).collect();
        shown.see(kinds.iter().copied(), t(0));
        assert_eq!(shown.shows.len(), SHOWN_MAX);
        assert!(shown.is_fresh(kinds[99]), "what is not remembered is taken to be new");
    }
}
