//! Tells a path of telemetry that broke from services that are down: where most entities behind an input partition or topic fall
//! silent at once, it is one failure of the topic and not one of each entity, and their heartbeats wait until it is over.
//!
//! Entities are quiet when half of the shortest heartbeat's time has passed without a window of theirs, so that this is known
//! before the first heartbeat is missed. Hearing counts from arrival, also while a window waits for other inputs.
//!
//! Who finds a loss says so to all partitions of the signals topic, so that those with few entities know it too; the failure is that of the
//! partition whose entity the topic is.
//!
//! Fails where no partition of the signals topic has [`ENTITIES_MIN`] entities behind a path, and where a site really
//! goes down as a whole: seen from here the two are the same. Where entities fall silent one after the other, the first ones are
//! told by themselves.
//!
//! Cost: O(entities × sources) a tick; 24 bytes a source, at most [`SOURCES_MAX`] of an entity and [`PATHS_MAX`] in all.

use std::collections::{BTreeMap, BTreeSet};

use foreshock_domain::{Entity, Incident, Millis, Timestamp, Upstream};
use foreshock_failure::TELEMETRY_LOST;
use serde::{Deserialize, Serialize};

/// Fewer that fall silent together say nothing of the path.
const ENTITIES_MIN: u32 = 4;
/// What has been silent for this many times as long as makes it quiet does not count any more.
const ACTIVE: Millis = 4;
/// Input partitions that are told apart; what comes from further ones is not looked at.
const PATHS_MAX: usize = 4_096;
/// Input partitions of one entity.
const SOURCES_MAX: usize = 8;

/// When an entity was last heard from an input partition.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Heard {
    path: u16,
    /// Observed clock.
    heard_ms: Millis,
    /// End of the latest window.
    at: Timestamp,
}

/// The input partitions that an entity was heard from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sources(Vec<Heard>);

/// What is known of a path now.
#[derive(Clone, Copy, Debug)]
struct Counts {
    /// Entities that were heard from it until it broke, or lately.
    active: u32,
    /// Those of them that are quiet.
    quiet: u32,
    /// Last event time heard of a quiet one.
    quiet_at: Timestamp,
    /// Last event time heard of any.
    latest_at: Timestamp,
}

impl Counts {
    const NONE: Self = Self {
        active: 0,
        quiet: 0,
        quiet_at: Timestamp::MIN,
        latest_at: Timestamp::MIN,
    };

    fn add(&mut self, heard: &Heard, is_quiet: bool) {
        self.active += 1;
        self.latest_at = self.latest_at.max(heard.at);
        if is_quiet {
            self.quiet += 1;
            self.quiet_at = self.quiet_at.max(heard.at);
        }
    }

    /// Moves on whether it is lost, and since when on the observed clock.
    fn step(&self, lost: &mut Option<Millis>, observed_ms: Millis) {
        let most_are_quiet = self.quiet >= ENTITIES_MIN && 4 * u64::from(self.quiet) >= 3 * u64::from(self.active);
        let half_are_heard = 2 * u64::from(self.quiet) < u64::from(self.active) || self.active == 0;
        if lost.is_none() && most_are_quiet {
            *lost = Some(observed_ms);
        } else if half_are_heard {
            *lost = None;
        }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Path {
    upstream: Upstream,
    /// Observed clock at which its loss was found.
    lost: Option<Millis>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Topic {
    /// As a whole.
    lost: Option<Millis>,
    /// Onset of the failure that was told and is not over.
    told: Option<Timestamp>,
    /// Partitions of the signals topic that found it lost and said so to all.
    said_by: BTreeSet<i32>,
}

/// The input partitions behind a partition of the signals topic.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Telemetry {
    paths: Vec<Path>,
    topics: BTreeMap<Box<str>, Topic>,
}

impl Telemetry {
    /// A window of an entity arrived; `at` is its end.
    pub(crate) fn heard(&mut self, sources: &mut Sources, upstream: &Upstream, observed_ms: Millis, at: Timestamp) {
        let known = self.paths.iter().position(|p| p.upstream == *upstream);
        let place = known.unwrap_or(self.paths.len());
        if place >= PATHS_MAX {
            return;
        }
        if known.is_none() {
            self.topics.entry(upstream.topic.clone()).or_default();
            self.paths.push(Path {
                upstream: upstream.clone(),
                lost: None,
            });
        }
        let Ok(path) = u16::try_from(place) else { return };
        if let Some(heard) = sources.0.iter_mut().find(|h| h.path == path) {
            heard.heard_ms = heard.heard_ms.max(observed_ms);
            heard.at = heard.at.max(at);
        } else if sources.0.len() < SOURCES_MAX {
            let heard_ms = observed_ms;
            sources.0.push(Heard { path, heard_ms, at });
        }
    }

    /// A partition of the signals topic, perhaps this one, says that a topic is lost or is back: who sees few entities of it can't tell by
    /// itself.
    pub(crate) fn note(&mut self, incident: &Incident, said_by: i32) {
        let Some(topic) = self.topics.get_mut(incident.entity.as_str()) else {
            return;
        };
        match incident.end {
            None => topic.said_by.insert(said_by),
            Some(_) => topic.said_by.remove(&said_by),
        };
    }

    /// Looks at all entities when the observed clock stands at `observed_ms`, and tells of topics whose telemetry was lost or
    /// came back. `quiet_ms`: silence after which an entity is quiet.
    pub(crate) fn tick<'a>(
        &mut self,
        entities: impl Iterator<Item = &'a Sources>,
        quiet_ms: Millis,
        observed_ms: Millis,
    ) -> Vec<Incident> {
        // What had been silent for long when the path broke has nothing to do with it.
        let active_ms = quiet_ms.saturating_mul(ACTIVE);
        let mut of_path = vec![Counts::NONE; self.paths.len()];
        let mut of_topic: BTreeMap<&str, Counts> = BTreeMap::new();
        for heard in entities.flat_map(|sources| &sources.0) {
            let Some(path) = self.paths.get(usize::from(heard.path)) else {
                continue;
            };
            let is_quiet = observed_ms - heard.heard_ms >= quiet_ms;
            let is_active = |lost: Option<Millis>| lost.unwrap_or(observed_ms) - heard.heard_ms < active_ms;
            if is_active(path.lost) {
                of_path[usize::from(heard.path)].add(heard, is_quiet);
            }
            let name = &*path.upstream.topic;
            if is_active(self.topics.get(name).and_then(|t| t.lost)) {
                of_topic.entry(name).or_insert(Counts::NONE).add(heard, is_quiet);
            }
        }
        let mut told = Vec::new();
        for (name, topic) in &mut self.topics {
            let whole = of_topic.get(&**name).copied().unwrap_or(Counts::NONE);
            whole.step(&mut topic.lost, observed_ms);
            told.push((name.clone(), topic.lost.is_some(), whole));
        }
        for (path, counts) in self.paths.iter_mut().zip(&of_path) {
            counts.step(&mut path.lost, observed_ms);
            if path.lost.is_some()
                && let Some(of) = told.iter_mut().find(|(name, ..)| *name == path.upstream.topic)
                && !of.1
            {
                (of.1, of.2) = (true, *counts);
            }
        }
        told.into_iter()
            .filter_map(|(name, is_lost, counts)| {
                let topic = self.topics.get_mut(&name)?;
                topic.tell(&name, is_lost, &counts)
            })
            .collect()
    }

    /// Whether an entity is quiet because the paths that it is heard from are lost: all of them. Where it stopped on another one
    /// as well, which works, it is down.
    pub(crate) fn explains(&self, sources: &Sources, quiet_ms: Millis, observed_ms: Millis) -> bool {
        let mut is_quiet_by_loss = false;
        for heard in &sources.0 {
            let Some(path) = self.paths.get(usize::from(heard.path)) else {
                continue;
            };
            let of_topic = self.topics.get(&path.upstream.topic);
            let is_lost = path.lost.is_some() || of_topic.is_some_and(|t| t.lost.is_some() || !t.said_by.is_empty());
            let silence_ms = observed_ms - heard.heard_ms;
            if is_lost {
                is_quiet_by_loss |= silence_ms >= quiet_ms;
            } else if silence_ms < quiet_ms.saturating_mul(ACTIVE) {
                return false;
            }
        }
        is_quiet_by_loss
    }
}

impl Topic {
    /// What is new, as an incident of the topic.
    fn tell(&mut self, name: &str, is_lost: bool, counts: &Counts) -> Option<Incident> {
        let (onset, end, summary) = match (self.told, is_lost) {
            (None, true) => {
                self.told = Some(counts.quiet_at);
                let Counts { active, quiet, .. } = counts;
                let summary = format!("{quiet} of {active} entities behind {name} fell silent at once");
                (counts.quiet_at, None, summary)
            }
            (Some(onset), false) => {
                self.told = None;
                let end = counts.latest_at.max(onset);
                (onset, Some(end), format!("entities behind {name} are heard again"))
            }
            _ => return None,
        };
        Some(Incident {
            entity: Entity::new(name),
            class: TELEMETRY_LOST.into(),
            onset,
            end,
            summary: Some(summary.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET_MS: Millis = 30_000;

    fn t(s: i64) -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + s)
    }

    /// Entities that are heard every ten seconds, each from the partition that `path` gives, while `is_heard` says so: what is told,
    /// by second, and how many entities are excused in the end.
    fn play(
        entities: usize,
        seconds: i64,
        path: impl Fn(usize) -> (&'static str, i32),
        is_heard: impl Fn(usize, i64) -> bool,
    ) -> (Vec<(i64, String, Option<i64>)>, usize) {
        let mut telemetry = Telemetry::default();
        let mut all = vec![Sources::default(); entities];
        let mut told = Vec::new();
        for s in (0..seconds).step_by(10) {
            for (i, sources) in all.iter_mut().enumerate().filter(|(i, _)| is_heard(*i, s)) {
                let (topic, partition) = path(i);
                let upstream = Upstream {
                    topic: topic.into(),
                    partition,
                };
                telemetry.heard(sources, &upstream, s * 1_000, t(s));
            }
            for incident in telemetry.tick(all.iter(), QUIET_MS, s * 1_000) {
                assert_eq!(&*incident.class, TELEMETRY_LOST);
                let since = |at: Timestamp| (at - t(0)) / 1_000;
                told.push((
                    since(incident.onset),
                    incident.entity.to_string(),
                    incident.end.map(since),
                ));
            }
        }
        let now_ms = seconds * 1_000;
        let excused = all.iter().filter(|s| telemetry.explains(s, QUIET_MS, now_ms)).count();
        (told, excused)
    }

    #[test]
    fn most_at_once_are_one_failure_of_the_topic() {
        let one = |_: usize| ("metrics", 0);
        let outage = |s: i64| (100..300).contains(&s);
        let lost = |onset: i64, end: Option<i64>| (onset, "metrics".to_owned(), end);

        let (told, excused) = play(10, 600, one, |_, s| !outage(s));
        assert_eq!(told, [lost(90, None), lost(90, Some(300))], "all, and back");
        assert_eq!(excused, 0);
        let (told, excused) = play(10, 600, one, |i, s| i == 0 || s < 100);
        assert_eq!((told, excused), (vec![lost(90, None)], 9), "all but one, for good");
        let (told, excused) = play(10, 600, one, |i, s| i < 4 || s < 100);
        assert_eq!((told, excused), (vec![], 0), "six of ten may be a rack");
        let (told, excused) = play(3, 600, one, |_, s| s < 100);
        assert_eq!((told, excused), (vec![], 0), "too few to tell");
        let (told, excused) = play(10, 600, one, |i, s| i as i64 * 200 > s || i >= 3);
        assert_eq!((told, excused), (vec![], 0), "one after the other");
        let (told, excused) = play(10, 600, one, |i, s| !outage(s) && (i < 9 || s < 100));
        assert_eq!(
            (told.len(), excused),
            (2, 0),
            "what stays silent after it is down by itself"
        );
    }

    #[test]
    fn what_stops_on_another_path_too_is_down() {
        let mut telemetry = Telemetry::default();
        let mut all = vec![Sources::default(); 8];
        let up = |topic: &str| Upstream {
            topic: topic.into(),
            partition: 0,
        };
        for s in (0..200).step_by(10) {
            for (i, sources) in all.iter_mut().enumerate() {
                if s < 100 {
                    telemetry.heard(sources, &up("metrics"), s * 1_000, t(s));
                }
                // Logs of two entities; one of them dies with the collector of metrics.
                if i == 0 && s < 100 || i == 1 {
                    telemetry.heard(sources, &up("logs"), s * 1_000, t(s));
                }
            }
            telemetry.tick(all.iter(), QUIET_MS, s * 1_000);
        }
        let explained: Vec<bool> = all.iter().map(|s| telemetry.explains(s, QUIET_MS, 190_000)).collect();
        assert_eq!(explained, [false, false, true, true, true, true, true, true]);
    }

    #[test]
    fn one_partition_of_a_topic_is_told_for_the_topic() {
        let four = |i: usize| ("metrics", i32::try_from(i % 4).unwrap_or_default());
        let (told, excused) = play(40, 600, four, |i, s| i % 4 != 1 || s < 100);
        assert_eq!((told, excused), (vec![(90, "metrics".to_owned(), None)], 10));
        let two = |i: usize| (if i.is_multiple_of(2) { "metrics" } else { "logs" }, 0);
        let (told, excused) = play(20, 600, two, |i, s| i.is_multiple_of(2) || s < 100);
        assert_eq!((told, excused), (vec![(90, "logs".to_owned(), None)], 10));
    }
}
