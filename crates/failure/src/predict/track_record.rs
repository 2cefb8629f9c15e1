//! What became of precursors of each kind: how many a failure followed, and whether that is more than chance.
//!
//! A kind is a series or template, pooled over entities, and the way in which it was odd. Chance is the kind's share `s` of the time in
//! which a failure could have come: had its precursors nothing to do with failures, of `F` failures a number binomial in `s` would
//! fall into it, whatever the rate of failures. The share `q` that does has the posterior Beta(k + m·s, F − k + m·(1 − s)), shrunk
//! towards chance by a prior of `m` failures; the lift is E(q)/s. A kind precedes failures where `q ≤ s` has a probability below 0.05,
//! divided among the kinds that one precursor has, and two failures at least speak for it. (Shrunken observed-to-expected ratios:
//! DuMouchel, Am. Stat. 53, 1999; Norén, Hopstadius, Bate, Stat. Methods Med. Res. 22, 2013. Conditioning on F: Przyborowski,
//! Wilenski, Biometrika 31, 1940.)
//!
//! What comes true within a horizon of what came true before counts once: entities that fail together have one cause.
//!
//! **Fails** where oddness and failures share an hour of the day without sharing a cause, and forgets nothing: a kind that was
//! mended stays on record until what expires outweighs it. **Cost**: O(log kinds) a precursor; at most 512 kinds of some 150 bytes.

use std::collections::BTreeMap;

use foreshock_domain::{Contributor, KindRecord, Millis, Source, Timestamp};
use foreshock_stats::ln_incomplete_beta;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::features::pooled;

/// Kinds of precursors that are on record.
const KINDS_MAX: usize = 512;
/// Leads of which the median is told.
const LEADS_MAX: usize = 15;
/// Failures that the prior is worth.
const PRIOR: f64 = 1.0;
/// How often kinds that have nothing to do with failures may look as if they had.
const WRONG: f64 = 0.05;
/// One failure may follow anything.
const RIGHT_LEAST: u32 = 2;

/// What a precursor is an instance of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Kind(u64);

impl Kind {
    /// That of a signal of any entity.
    #[must_use]
    pub fn of(contributor: &Contributor) -> Self {
        let name = match contributor.source {
            Source::Metric => pooled(&contributor.name),
            Source::Log => contributor.id.clone(),
        };
        let mut bytes = name.as_bytes().to_vec();
        bytes.push(contributor.source as u8);
        bytes.push(contributor.direction as u8);
        Self(xxh3_64(&bytes))
    }
}

/// Precursors of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Past {
    right: u32,
    of: u32,
    /// Time in which a failure would have been taken for theirs.
    exposed_ms: f64,
    /// From precursor to failure, the latest ones, in seconds.
    leads_s: Vec<f32>,
    /// When the last fate was known.
    last: Timestamp,
    /// When the last one came true.
    right_at: Option<Timestamp>,
}

/// Of all kinds that the entities of a partition have shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrackRecords {
    kinds: BTreeMap<Kind, Past>,
    failures: u32,
    /// Entity time in which a failure could have come.
    healthy_ms: f64,
}

/// How a precursor ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ending {
    /// A failure came after it.
    Failed(Timestamp),
    /// None did until then.
    Held(Timestamp),
}

#[allow(clippy::cast_precision_loss)] // spans of time far below 2^53 ms
fn ms(span: Millis) -> f64 {
    span.max(0) as f64
}

impl TrackRecords {
    /// An entity did its job for so long.
    pub fn healthy(&mut self, span: Millis) {
        self.healthy_ms += ms(span);
    }

    /// An entity that did its job failed.
    pub fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// The fate of a precursor is known; `shown`: of which kinds it was, each from when on.
    pub fn settled(&mut self, shown: &[(Kind, Timestamp)], ending: Ending, horizon_ms: Millis) {
        for (kind, from) in shown {
            self.make_room(*kind);
            let past = self.kinds.entry(*kind).or_default();
            match ending {
                Ending::Held(until) => {
                    past.of = past.of.saturating_add(1);
                    past.exposed_ms += ms(until - *from);
                    past.last = past.last.max(until);
                }
                Ending::Failed(onset) if onset > *from => {
                    past.exposed_ms += ms(onset - *from);
                    past.last = past.last.max(onset);
                    if past.right_at.is_some_and(|at| (onset - at).abs() < horizon_ms) {
                        continue;
                    }
                    past.right_at = past.right_at.max(Some(onset));
                    past.right = past.right.saturating_add(1);
                    past.of = past.of.saturating_add(1);
                    if past.leads_s.len() == LEADS_MAX {
                        past.leads_s.remove(0);
                    }
                    #[allow(clippy::cast_possible_truncation)] // for people
                    past.leads_s.push((ms(onset - *from) / 1e3) as f32);
                }
                // Oddness that began with the failure foretold nothing.
                Ending::Failed(_) => {}
            }
        }
    }

    /// Forgets the kind that says least, the longest ago.
    fn make_room(&mut self, kind: Kind) {
        if self.kinds.len() >= KINDS_MAX && !self.kinds.contains_key(&kind) {
            let least = self.kinds.iter().min_by_key(|(_, past)| (past.right, past.last));
            if let Some(least) = least.map(|(kind, _)| *kind) {
                self.kinds.remove(&least);
            }
        }
    }

    /// What is on record for a precursor with these signals, strongest first, and whether its kind precedes failures. Where none
    /// does, that of the strongest signal is given.
    #[must_use]
    pub fn of(&self, contributors: &[Contributor]) -> Option<(KindRecord, bool)> {
        #[allow(clippy::cast_precision_loss)] // a handful
        let wrong = WRONG / contributors.len().max(1) as f64;
        let known = |c: &Contributor| Some((self.record(c)?, self.kinds.get(&Kind::of(c))?));
        let precedes = |past: &Past| past.right >= RIGHT_LEAST && self.ln_chance(past) <= wrong.ln();
        let best = contributors
            .iter()
            .filter_map(known)
            .filter(|(_, past)| precedes(past))
            .max_by(|(a, _), (b, _)| a.lift.total_cmp(&b.lift));
        match best {
            Some((record, _)) => Some((record, true)),
            None => Some((self.record(contributors.first()?)?, false)),
        }
    }

    fn record(&self, contributor: &Contributor) -> Option<KindRecord> {
        let past = self.kinds.get(&Kind::of(contributor)).filter(|past| past.of > 0)?;
        let share = self.share(past);
        let (right, failures) = (f64::from(past.right), f64::from(self.failures));
        let mut leads = past.leads_s.clone();
        leads.sort_by(f32::total_cmp);
        Some(KindRecord {
            name: match contributor.source {
                Source::Metric => pooled(&contributor.name),
                Source::Log => contributor.name.clone(),
            },
            right: past.right,
            of: past.of,
            lead_s: leads.get(leads.len() / 2).map(|lead| f64::from(*lead)),
            lift: (right + PRIOR * share) / (failures.max(right) + PRIOR) / share,
        })
    }

    /// Of the time in which a failure could have come, that after precursors of one kind.
    fn share(&self, past: &Past) -> f64 {
        let all = self.healthy_ms.max(past.exposed_ms).max(1.0);
        (past.exposed_ms / all).clamp(1e-9, 1.0 - 1e-9)
    }

    /// Log of the probability that no more failures fall to the kind than chance has it.
    fn ln_chance(&self, past: &Past) -> f64 {
        let share = self.share(past);
        let (right, failures) = (f64::from(past.right), f64::from(self.failures.max(past.right)));
        ln_incomplete_beta(share, right + PRIOR * share, failures - right + PRIOR * (1.0 - share))
    }
}

#[cfg(test)]
mod tests {
    use foreshock_domain::{Channel, Direction, Score};

    use super::*;

    const HORIZON: Millis = 3_600_000;
    const HOUR: i64 = 3_600;

    fn signal(name: &str, direction: Direction) -> Contributor {
        Contributor {
            source: Source::Metric,
            id: name.into(),
            name: name.into(),
            channel: Channel::Level,
            direction,
            score: Score::from_surprise(5.0),
            actual: 1.0,
            expected: 0.0,
            lower: 0.0,
            upper: 0.0,
            onset: Timestamp::from_secs(0),
            log: None,
            share: None,
        }
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_secs(hours * HOUR)
    }

    /// Ten entities for thirty days, after which precursors of `memory` were settled as `endings` says.
    fn after(endings: &[(i64, Ending)]) -> TrackRecords {
        let mut records = TrackRecords::default();
        records.healthy(10 * 30 * 24 * HORIZON);
        let kind = Kind::of(&signal("memory{host=a}", Direction::Up));
        for (told, ending) in endings {
            if matches!(ending, Ending::Failed(_)) {
                records.failed();
            }
            records.settled(&[(kind, at(*told))], *ending, HORIZON);
        }
        records
    }

    fn failed(told: i64) -> (i64, Ending) {
        (told, Ending::Failed(at(told + 2)))
    }

    fn held(told: i64) -> (i64, Ending) {
        (told, Ending::Held(at(told + 3)))
    }

    #[test]
    fn a_kind_precedes_failures_after_the_second_and_on_any_entity() {
        let other = [signal("memory{host=b}", Direction::Up)];
        let told = |endings: &[(i64, Ending)]| after(endings).of(&other);
        assert_eq!(told(&[]), None, "nothing is on record");
        assert!(!told(&[failed(10)]).unwrap().1, "one may be chance");
        let (record, precedes) = told(&[failed(10), held(50), failed(100)]).unwrap();
        assert!(precedes);
        assert_eq!((&*record.name, record.right, record.of), ("memory", 2, 3));
        assert_eq!(record.lead_s, Some(7_200.0));
        assert!((100.0..1_000.0).contains(&record.lift), "{record:?}");
        let down = [signal("memory{host=b}", Direction::Down)];
        assert_eq!(after(&[failed(10), failed(50)]).of(&down), None, "another way");
    }

    #[test]
    fn what_is_nearly_always_odd_precedes_nothing() {
        // Odd for two thirds of all time: both failures fell into it by chance.
        let mut records = after(&[failed(10), failed(100)]);
        let kind = Kind::of(&signal("memory", Direction::Up));
        records.settled(&[(kind, at(0))], Ending::Held(at(4_800)), HORIZON);
        let (record, precedes) = records.of(&[signal("memory", Direction::Up)]).unwrap();
        assert!(!precedes && record.lift < 2.0, "{record:?}");
    }

    #[test]
    fn what_fails_together_counts_once_and_what_began_with_the_failure_not_at_all() {
        let (told, _) = failed(10);
        let together = after(&[failed(told), failed(told), failed(told)]);
        let (record, precedes) = together.of(&[signal("memory", Direction::Up)]).unwrap();
        assert_eq!((record.right, record.of, precedes), (1, 1, false));
        let late = after(&[(10, Ending::Failed(at(10))), (50, Ending::Failed(at(49)))]);
        assert_eq!(late.of(&[signal("memory", Direction::Up)]), None);
    }

    /// Failures that have nothing to do with oddness: the share of precursors whose kind is said to precede failures.
    #[test]
    fn chance_is_rarely_taken_for_a_kind_that_precedes_failures() {
        let mut seed = 7_u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed >> 11
        };
        let (mut told, mut wrong) = (0, 0);
        for _ in 0..200 {
            let mut records = TrackRecords::default();
            for step in 0..400 {
                // An hour of ten entities; a failure once a hundred hours, an odd hour once in eight, of one of five kinds.
                records.healthy(10 * HORIZON);
                let fails = random() % 10 == 0;
                if fails {
                    records.failed();
                }
                if random() % 8 != 0 {
                    continue;
                }
                let name = ["a", "b", "c", "d", "e"][(random() % 5) as usize];
                let odd = [signal(name, Direction::Up)];
                told += 1;
                wrong += u32::from(records.of(&odd).is_some_and(|(_, precedes)| precedes));
                // One entity of ten is odd, and one of ten fails.
                let from = at(10 * step);
                let ending = if fails && random() % 10 == 0 {
                    Ending::Failed(from + HORIZON / 2)
                } else {
                    Ending::Held(from + HORIZON)
                };
                records.settled(&[(Kind::of(&odd[0]), from)], ending, HORIZON);
            }
        }
        assert!(told > 9_000, "{told}");
        let share = f64::from(wrong) / f64::from(told);
        assert!(share < WRONG, "{share}");
    }

    #[test]
    fn kinds_are_bounded_and_those_that_say_something_stay() {
        let mut records = after(&[failed(10), failed(100)]);
        for i in 0..2_000 {
            let kind = Kind::of(&signal(&format!("m{i}"), Direction::Up));
            records.settled(&[(kind, at(200 + i))], Ending::Held(at(201 + i)), HORIZON);
        }
        assert_eq!(records.kinds.len(), KINDS_MAX);
        assert!(records.of(&[signal("memory", Direction::Up)]).unwrap().1);
    }
}
