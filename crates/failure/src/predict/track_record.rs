//! What became of oddness of each kind: how often a failure followed, and whether that is more than chance.
//!
//! A kind is a series or template, pooled over entities, the way in which it was odd, and how much evidence there was at least. An
//! entity shows it from when its evidence first reaches that; a failure within a horizon from then on was foretold by it. So evidence
//! that grows slowly is of one kind after the other, and each is judged by the lead that it leaves.
//!
//! Chance is the kind's share `s` of the time in which a failure could have come: had it nothing to do with failures, of `F` failures a
//! number binomial in `s` would fall into it, whatever their rate. The share `q` that does has the posterior
//! Beta(k + m·s, F − k + m·(1 − s)), shrunk towards chance by a prior of `m` failures; the lift is E(q)/s. Where `q ≤ s` has a probability
//! below 0.05, divided among the kinds that are shown, and two failures at least speak for it, the kind **precedes** failures. Where a
//! failure followed it more often than not, `m` times on which none did added, it **foretells** them. (Shrunken observed-to-expected
//! ratios: DuMouchel, Am. Stat. 53, 1999; Norén, Hopstadius, Bate, Stat. Methods Med. Res. 22, 2013. Conditioning on F: Przyborowski,
//! Wilenski, Biometrika 31, 1940.)
//!
//! What comes true within a horizon of what came true before counts once: entities that fail together have one cause.
//!
//! **Fails** where oddness and failures share an hour of the day without sharing a cause, and forgets nothing: a kind that was
//! mended stays on record until what came to nothing outweighs it. **Cost**: O(log kinds) a kind that is shown, and a scan of all where
//! a new one takes the place of an old one; at most 2,048 kinds of some 130 bytes.

use std::collections::BTreeMap;

use foreshock_domain::{KindRecord, Millis, Signal, Source, Timestamp};
use foreshock_stats::ln_incomplete_beta;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::features::pooled;

/// Kinds that are on record.
const KINDS_MAX: usize = 2_048;
/// Leads of which the median is told.
const LEADS_MAX: usize = 15;
/// Failures, or times without one, that the prior is worth.
const PRIOR: f64 = 3.0;
/// Share of its precursors that a failure followed.
const MAJORITY: f64 = 0.5;
/// How often kinds that have nothing to do with failures may look as if they had.
const WRONG: f64 = 0.05;
/// One failure may follow anything.
const RIGHT_LEAST: u32 = 2;

/// Evidence, in magnitudes, from which on oddness is of a kind of its own: the longer or stronger, the rarer.
const LEVELS: [f64; 5] = [1.0, 2.0, 4.0, 8.0, 16.0];

/// What oddness is an instance of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Kind(u64);

impl Kind {
    /// That of a signal of any entity, whatever the evidence.
    #[must_use]
    pub fn of(signal: &Signal) -> Self {
        let mut bytes = name_of(signal).as_bytes().to_vec();
        bytes.push(signal.source as u8);
        bytes.push(signal.direction() as u8);
        Self(xxh3_64(&bytes))
    }

    /// The kinds that it is of when its evidence is `log_e` magnitudes.
    pub fn up_to(self, log_e: f64) -> impl Iterator<Item = Self> {
        let levels = (1..).zip(LEVELS).take_while(move |(_, least)| log_e >= *least);
        levels.map(move |(level, _)| Self(self.0.wrapping_add(level)))
    }
}

fn name_of(signal: &Signal) -> Box<str> {
    match signal.source {
        Source::Metric => pooled(&signal.name),
        Source::Log => signal.id.clone(),
    }
}

/// What a kind's record says of a precursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// Nothing that chance could not.
    Nothing,
    /// More failures followed than chance has it.
    Precedes,
    /// And one followed more often than not.
    Foretells,
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

    /// The fate of oddness of a kind that was shown since `from` is known.
    pub fn settled(&mut self, kind: Kind, from: Timestamp, ending: Ending, horizon_ms: Millis) {
        self.make_room(kind);
        let past = self.kinds.entry(kind).or_default();
        match ending {
            Ending::Held(until) => {
                past.of = past.of.saturating_add(1);
                past.exposed_ms += ms(until - from);
                past.last = past.last.max(until);
            }
            Ending::Failed(onset) if onset > from => {
                past.exposed_ms += ms(onset - from);
                past.last = past.last.max(onset);
                if past.right_at.is_some_and(|at| (onset - at).abs() < horizon_ms) {
                    return;
                }
                past.right_at = past.right_at.max(Some(onset));
                past.right = past.right.saturating_add(1);
                past.of = past.of.saturating_add(1);
                if past.leads_s.len() == LEADS_MAX {
                    past.leads_s.remove(0);
                }
                #[allow(clippy::cast_possible_truncation)] // for people
                past.leads_s.push((ms(onset - from) / 1e3) as f32);
            }
            // Oddness that began with the failure foretold nothing.
            Ending::Failed(_) => {}
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

    /// What is on record for an entity that shows these kinds, each with the signal that it rests on, and what that is worth: that of
    /// the kind with the greatest lift among those worth most.
    #[must_use]
    pub fn of(&self, shows: &[(Kind, &Signal)]) -> Option<(KindRecord, Worth)> {
        #[allow(clippy::cast_precision_loss)] // a handful
        let kinds = shows.len().max(1) as f64;
        let known = shows.iter().filter_map(|(kind, signal)| {
            let past = self.kinds.get(kind).filter(|past| past.of > 0)?;
            let (ln_chance, right) = (self.ln_chance(past), f64::from(past.right));
            let worth = if ln_chance <= WRONG.ln() && right >= MAJORITY * (f64::from(past.of) + PRIOR) {
                Worth::Foretells
            } else if ln_chance <= (WRONG / kinds).ln() && past.right >= RIGHT_LEAST {
                Worth::Precedes
            } else {
                Worth::Nothing
            };
            Some((worth, self.lift(past), past, *signal))
        });
        let best = known.max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let (worth, lift, past, signal) = best?;
        let mut leads = past.leads_s.clone();
        leads.sort_by(f32::total_cmp);
        let record = KindRecord {
            name: match signal.source {
                Source::Metric => pooled(&signal.name),
                Source::Log => signal.name.clone(),
            },
            right: past.right,
            of: past.of,
            lead_s: leads.get(leads.len() / 2).map(|lead| f64::from(*lead)),
            lift,
        };
        Some((record, worth))
    }

    fn lift(&self, past: &Past) -> f64 {
        let share = self.share(past);
        let (right, failures) = (f64::from(past.right), f64::from(self.failures.max(past.right)));
        (right + PRIOR * share) / (failures + PRIOR) / share
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
    use foreshock_domain::{Channel, Direction, Score, Verdict};

    use super::*;

    const HORIZON: Millis = 3_600_000;
    const HOUR: i64 = 3_600;

    /// Hours from when on it was shown, and how that ended.
    type Told = (i64, Ending);

    fn signal(name: &str, direction: Direction) -> Signal {
        Signal {
            source: Source::Metric,
            id: name.into(),
            name: name.into(),
            unit: None,
            verdict: Verdict {
                score: Score::from_surprise(5.0),
                channel: Channel::Level,
                direction,
                actual: 1.0,
                expected: 0.0,
                lower: 0.0,
                upper: 0.0,
            },
            onset: Timestamp::from_secs(0),
            log: None,
            share: None,
        }
    }

    fn up(name: &str) -> Signal {
        signal(name, Direction::Up)
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_secs(hours * HOUR)
    }

    fn told(records: &TrackRecords, signal: &Signal) -> Option<(KindRecord, Worth)> {
        records.of(&[(Kind::of(signal), signal)])
    }

    /// Ten entities for thirty days, of which `memory` was too high at times, with these ends.
    fn after(endings: &[Told]) -> TrackRecords {
        let mut records = TrackRecords::default();
        records.healthy(10 * 30 * 24 * HORIZON);
        let kind = Kind::of(&up("memory{host=a}"));
        for (from, ending) in endings {
            if matches!(ending, Ending::Failed(_)) {
                records.failed();
            }
            records.settled(kind, at(*from), *ending, HORIZON);
        }
        records
    }

    fn failed(from: i64) -> Told {
        (from, Ending::Failed(at(from) + HORIZON / 2))
    }

    fn held(from: i64) -> Told {
        (from, Ending::Held(at(from + 1)))
    }

    #[test]
    fn a_kind_precedes_failures_from_the_second_on_and_foretells_them_from_the_third() {
        // (endings, right, of, worth)
        let cases: [(&[Told], u32, u32, Worth); 6] = [
            (&[failed(10)], 1, 1, Worth::Nothing),
            (&[failed(10), failed(50)], 2, 2, Worth::Precedes),
            (&[failed(10), held(50), failed(100)], 2, 3, Worth::Precedes),
            (&[failed(10), failed(50), failed(100)], 3, 3, Worth::Foretells),
            (&[failed(10), held(50), failed(100), failed(150)], 3, 4, Worth::Precedes),
            (&[held(10), held(50), held(100)], 0, 3, Worth::Nothing),
        ];
        for (endings, right, of, expected) in cases {
            let (record, worth) = told(&after(endings), &up("memory{host=b}")).unwrap();
            assert_eq!((record.right, record.of, worth), (right, of, expected), "{endings:?}");
            assert_eq!(&*record.name, "memory");
            assert_eq!(record.lead_s, (right > 0).then_some(1_800.0));
            assert_eq!(record.lift > 1.0, right > 0, "{record:?}");
        }
        let two = after(&[failed(10), failed(50)]);
        assert_eq!(told(&two, &signal("memory", Direction::Down)), None, "another way");
        assert_eq!(told(&two, &up("cpu")), None, "another series");
        let stronger = Kind::of(&up("memory")).up_to(5.0);
        assert_eq!(stronger.filter(|kind| two.kinds.contains_key(kind)).count(), 0);
    }

    #[test]
    fn evidence_is_of_all_kinds_up_to_its_own() {
        let kind = Kind::of(&up("memory"));
        let count = |log_e| kind.up_to(log_e).count();
        assert_eq!([0.5, 1.0, 3.9, 4.0, 400.0].map(count), [0, 1, 2, 3, 5]);
        assert_eq!(count(f64::NAN), 0);
    }

    #[test]
    fn what_is_nearly_always_odd_precedes_nothing() {
        // Odd for two thirds of all time: both failures fell into it by chance.
        let mut records = after(&[failed(10), failed(100)]);
        records.settled(Kind::of(&up("memory")), at(0), Ending::Held(at(4_800)), HORIZON);
        let (record, worth) = told(&records, &up("memory")).unwrap();
        assert!(worth == Worth::Nothing && record.lift < 2.0, "{record:?}");
    }

    #[test]
    fn what_fails_together_counts_once_and_what_began_with_the_failure_not_at_all() {
        let together = after(&[failed(10), failed(10), failed(10)]);
        let (record, worth) = told(&together, &up("memory")).unwrap();
        assert_eq!((record.right, record.of, worth), (1, 1, Worth::Nothing));
        let late = after(&[(10, Ending::Failed(at(10))), (50, Ending::Failed(at(49)))]);
        assert_eq!(told(&late, &up("memory")), None);
    }

    /// Failures that have nothing to do with oddness: the share of oddness that is said to precede failures.
    #[test]
    fn chance_is_rarely_taken_for_a_kind_that_precedes_failures() {
        let mut seed = 7_u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed >> 11
        };
        let (mut all, mut precede, mut foretell) = (0, 0, 0);
        for _ in 0..200 {
            let mut records = TrackRecords::default();
            for step in 0..400 {
                // An hour of ten entities; a failure each ten hours, an odd hour of one entity each eight, of one of five kinds.
                records.healthy(10 * HORIZON);
                let fails = random() % 10 == 0;
                if fails {
                    records.failed();
                }
                if random() % 8 != 0 {
                    continue;
                }
                let odd = up(["a", "b", "c", "d", "e"][(random() % 5) as usize]);
                all += 1;
                let worth = told(&records, &odd).map(|(_, worth)| worth);
                precede += u32::from(worth == Some(Worth::Precedes));
                foretell += u32::from(worth == Some(Worth::Foretells));
                let from = at(10 * step);
                let ending = if fails && random() % 10 == 0 {
                    Ending::Failed(from + HORIZON / 2)
                } else {
                    Ending::Held(from + HORIZON)
                };
                records.settled(Kind::of(&odd), from, ending, HORIZON);
            }
        }
        assert!(all > 9_000, "{all}");
        assert!(f64::from(precede) < WRONG * f64::from(all), "{precede} of {all}");
        assert_eq!(foretell, 0);
    }

    #[test]
    fn kinds_are_bounded_and_those_that_say_something_stay() {
        let mut records = after(&[failed(10), failed(100), failed(150)]);
        for i in 0..5_000 {
            let kind = Kind::of(&up(&format!("m{i}")));
            records.settled(kind, at(200 + i), Ending::Held(at(201 + i)), HORIZON);
        }
        assert_eq!(records.kinds.len(), KINDS_MAX);
        assert_eq!(told(&records, &up("memory")).unwrap().1, Worth::Foretells);
    }
}
