//! Incidents that somebody else declares, each by its class and onset. One without an end lasts until the same class is
//! declared again with one.
//!
//! Fails where the declarer never ends what it opened; such a cause is given up after `forget_s`.
//!
//! Producers repeat themselves (Alertmanager resends until resolved), so the last incidents are remembered and a repeat says
//! nothing new. Cost: O(1), at most 32 remembered incidents an entity.

use std::collections::VecDeque;

use foreshock_domain::{Incident, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cause::{CauseKey, Change, Kind};
use crate::lines::prefix;

/// Name of the rule in events.
pub(crate) const DECLARED: &str = "declared";

/// Class and rule of a path of telemetry that broke.
pub const TELEMETRY_LOST: &str = "telemetry_lost";

/// Incidents that are remembered.
const REMEMBERED_MAX: usize = 32;
/// Bytes of a class that are kept.
const CLASS_BYTES_MAX: usize = 128;

/// The last incidents of an entity, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Declared {
    seen: VecDeque<Known>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    class: Box<str>,
    onset: Timestamp,
    ended: bool,
}

impl Declared {
    /// What an incident says that was not known.
    pub(crate) fn note(&mut self, incident: &Incident) -> Option<Change> {
        let class = match prefix(&incident.class, CLASS_BYTES_MAX) {
            "" => DECLARED,
            class => class,
        };
        // The second stage declares that one itself.
        let rule = if class == TELEMETRY_LOST {
            TELEMETRY_LOST
        } else {
            DECLARED
        };
        let key = CauseKey::new(Kind::Declared, rule, class);
        let summary = incident.summary.as_deref().filter(|s| !s.is_empty());
        let evidence = summary.map_or_else(|| format!("{class} was declared"), str::to_owned);
        // A source that has no memory of its own gives a new onset at the end: the open one of the class is meant.
        let open = self.seen.iter().position(|k| !k.ended && *k.class == *class);
        let same = self
            .seen
            .iter()
            .position(|k| *k.class == *class && k.onset == incident.onset);
        match (incident.end, same.filter(|i| self.seen[*i].ended), open) {
            (_, Some(_), _) | (None, None, Some(_)) => None,
            (Some(ended), None, Some(i)) if ended >= self.seen[i].onset => {
                self.seen[i].ended = true;
                Some(Change::Ended { key, ended, evidence })
            }
            (ended, None, _) => {
                if self.seen.len() == REMEMBERED_MAX {
                    // The oldest that is over; if none is, the oldest, which `forget_s` will give up.
                    let oldest = self.seen.iter().position(|k| k.ended).unwrap_or_default();
                    self.seen.remove(oldest);
                }
                self.seen.push_back(Known {
                    class: class.into(),
                    onset: incident.onset,
                    ended: ended.is_some(),
                });
                Some(Change::Began {
                    key,
                    onset: incident.onset,
                    ended,
                    evidence,
                })
            }
        }
    }

    /// The open incident of a class was given up.
    pub(crate) fn give_up(&mut self, class: &str) {
        self.seen
            .iter_mut()
            .filter(|k| *k.class == *class)
            .for_each(|k| k.ended = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foreshock_domain::Entity;

    fn incident(class: &str, onset: i64, end: Option<i64>) -> Incident {
        Incident {
            entity: Entity::new("db-1"),
            class: class.into(),
            onset: Timestamp::from_secs(onset),
            end: end.map(Timestamp::from_secs),
            summary: None,
        }
    }

    #[test]
    fn what_is_new() {
        let mut declared = Declared::default();
        let cases = [
            ("begins", incident("outage", 100, None), "began"),
            ("repeated", incident("outage", 100, None), "nothing"),
            ("the same class again", incident("outage", 120, None), "nothing"),
            ("another class", incident("disk", 110, None), "began"),
            ("ends", incident("outage", 100, Some(200)), "ended"),
            ("end repeated", incident("outage", 100, Some(200)), "nothing"),
            ("start repeated after the end", incident("outage", 100, None), "nothing"),
            ("whole at once", incident("outage", 300, Some(310)), "began and over"),
            ("end with its own onset", incident("disk", 150, Some(400)), "ended"),
            ("no class", incident("", 500, None), "began"),
        ];
        for (name, incident, expected) in cases {
            let got = match declared.note(&incident) {
                None => "nothing",
                Some(Change::Began { ended: None, .. }) => "began",
                Some(Change::Began { .. }) => "began and over",
                Some(Change::Ended { .. }) => "ended",
            };
            assert_eq!(got, expected, "{name}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut declared = Declared::default();
        for i in 0..1_000 {
            declared.note(&incident(&format!("c{i}"), i, None));
        }
        assert_eq!(declared.seen.len(), REMEMBERED_MAX);
    }
}
