//! How strange a session is, by which lines it has and how many of each. A session is a unit of work (all lines with one block,
//! request or trace id) or, where lines name none, what an entity wrote in one window.
//!
//! Three statistics, each a share of past sessions: the smallest tail of any single event's count (absence counts as none), the
//! mass of sets of events as rare as this one, and the mass of whole count vectors, in octaves, as rare as this one. The
//! smallest of the three is ranked among those of past sessions, and the rank is the p-value. What was never seen has the
//! mass of what was seen once (Good–Turing), so novelty says little where novelty is common.
//!
//! **Learned from what has failures in it.** A unit that lacks two lines which nearly all units have ([`CORE`]) is broken, and
//! what is no more frequent than twice the broken units may be of broken ones only: units with such a line are not trusted,
//! and told. Where no unit is broken this rejects next to nothing. What is trusted is decided anew as counts grow, over the
//! whole memory, so that mistakes of the first hours do not stay.
//!
//! Fails on failures that lack no line while the failures with missing lines are much rarer, which are then learned; and is too
//! strict with rare but normal lines while many units are broken. Cost: O(known events) a session, some microseconds;
//! memory is bounded by [`Limits`]. Count vectors: Landauer, Skopik, Wurzenberger, FSE 2024, which
//! finds them as good as deep models; the rest is ours.

use foreshock_domain::{Channel, Direction, Learning, Score, Verdict};
use serde::{Deserialize, Serialize};

use crate::session_ranks::PastStatistics;
use crate::session_table::{Event, Vectors, keys, level};
use crate::{Miner, SessionCount, SessionOddity, SessionVerdict, TemplateId};

/// Sessions before anything is judged.
pub const SESSIONS_MIN: u32 = 64;
/// A line is core when this share of sessions has it: 39 of 40.
const CORE: (u32, u32) = (39, 40);
/// Core lines whose absence makes a session broken. One line may be lost on the way.
const BROKEN_BY: u32 = 2;
/// For each broken session seen, there may be as many that do not show it.
const HIDDEN: u32 = 2;
/// A single event's tail below this names what is odd.
const TELLING: f64 = 0.025;

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Limits {
    /// Kinds of lines; while there is no room for more, further ones are counted and not judged.
    events: usize,
    vectors: usize,
    /// Events over all vectors.
    cells: usize,
}

/// What is normal of sessions; one for all units of an input partition, or one for the windows of an entity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionModel {
    /// Units of work, of which some may be broken; windows never are.
    are_units: bool,
    limits: Limits,
    /// Sorted by id.
    events: Vec<Event>,
    vectors: Vectors,
    /// Sessions learned from, rejected ones too.
    seen: u32,
    trusted: u32,
    broken: u32,
    past: PastStatistics,
    refit_at: u32,
    /// Decayed share of rejected sessions.
    rejected_late: f64,
    /// [`Miner::merges`] at the last [`SessionModel::reconcile`].
    merges: u64,
    /// Kinds of lines pushed out or refused.
    events_evicted: u64,
}

/// A session against what is known.
pub(crate) struct Reading {
    pub(crate) statistic: f64,
    pub(crate) is_broken: bool,
    pub(crate) is_rejected: bool,
    pub(crate) oddity: SessionOddity,
    pub(crate) id: TemplateId,
    vector: u64,
}

/// The strangest event of a session.
struct Strangest {
    tail: f64,
    id: TemplateId,
    oddity: SessionOddity,
}

impl Strangest {
    fn take(&mut self, tail: f64, id: TemplateId, oddity: SessionOddity) {
        if tail < self.tail {
            *self = Self { tail, id, oddity };
        }
    }
}

impl SessionModel {
    /// For units of work: sessions with an id.
    #[must_use]
    pub fn units() -> Self {
        Self::with(
            true,
            Limits {
                events: 2_048,
                vectors: 4_096,
                cells: 65_536,
            },
        )
    }

    /// For the windows of one entity: nothing is rejected, since hours and habits change what a window holds.
    #[must_use]
    pub fn windows() -> Self {
        Self::with(
            false,
            Limits {
                events: 512,
                vectors: 256,
                cells: 4_096,
            },
        )
    }

    fn with(are_units: bool, limits: Limits) -> Self {
        Self {
            are_units,
            limits,
            events: Vec::new(),
            vectors: Vectors::new(limits.vectors, limits.cells),
            seen: 0,
            trusted: 0,
            broken: 0,
            past: PastStatistics::default(),
            refit_at: SESSIONS_MIN,
            rejected_late: 0.0,
            merges: 0,
            events_evicted: 0,
        }
    }

    /// Count vectors, and kinds of lines, that were pushed out or refused for want of room.
    #[must_use]
    pub fn evicted(&self) -> (u64, u64) {
        (self.vectors.evicted, self.events_evicted)
    }

    /// Kinds of lines and count vectors known.
    #[must_use]
    pub fn known(&self) -> (usize, usize) {
        (self.events.len(), self.vectors.len())
    }

    /// Bytes of state, about.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        size_of::<Self>() + self.events.capacity() * size_of::<Event>() + self.vectors.state_bytes()
    }

    /// Judges a session and then learns it. `session`: sorted by id, each once. `None` while fewer than [`SESSIONS_MIN`] were
    /// seen, and for a session without lines.
    pub fn score_learn(&mut self, session: &[SessionCount], learning: Learning) -> Option<SessionVerdict> {
        if session.is_empty() {
            return None;
        }
        let reading = self.read(session);
        let verdict = (self.seen >= SESSIONS_MIN).then(|| self.verdict(&reading, session));
        if learning == Learning::Normal {
            self.learn(session, &reading);
        }
        verdict
    }

    /// As [`SessionModel::score_learn`], without learning.
    #[must_use]
    pub fn score(&self, session: &[SessionCount]) -> Option<SessionVerdict> {
        (self.seen >= SESSIONS_MIN && !session.is_empty()).then(|| self.verdict(&self.read(session), session))
    }

    /// Follows templates that the miner has merged since the last call; costs nothing while nothing merges.
    pub fn reconcile(&mut self, miner: &Miner) {
        if self.merges == miner.merges() {
            return;
        }
        self.merges = miner.merges();
        if self.events.iter().all(|e| miner.canonical(e.id) == e.id) {
            return;
        }
        for event in &mut self.events {
            event.id = miner.canonical(event.id);
        }
        self.events.sort_by_key(|e| e.id);
        let seen = self.seen;
        self.events.dedup_by(|next, kept| {
            let same = next.id == kept.id;
            if same {
                kept.merge(next, seen);
            }
            same
        });
        self.vectors.rebuild(|mut vector| {
            let mut events: Vec<(TemplateId, u8)> = vector.events.to_vec();
            for (id, _) in &mut events {
                *id = miner.canonical(*id);
            }
            // The higher octave of two stays: their sum is in it or in the next.
            events.sort_unstable_by_key(|(id, octave)| (*id, std::cmp::Reverse(*octave)));
            events.dedup_by_key(|(id, _)| *id);
            vector.events = events.into();
            vector
        });
    }

    fn is_core(&self, all: u32) -> bool {
        let (part, whole) = CORE;
        self.are_units
            && self.seen >= SESSIONS_MIN
            && u64::from(all) * u64::from(whole) >= u64::from(self.seen) * u64::from(part)
    }

    /// Whether a line seen in so many sessions may be of broken ones only.
    fn is_foreign(&self, all: u32) -> bool {
        self.are_units && u64::from(all) <= u64::from(HIDDEN) * (u64::from(self.broken) + 1)
    }

    fn read(&self, session: &[SessionCount]) -> Reading {
        let trusted = f64::from(self.trusted) + 1.0;
        let none = || Strangest {
            tail: 1.0,
            id: TemplateId::OVERFLOW,
            oddity: SessionOddity::Combination,
        };
        let (mut strangest, mut rarest, mut surest) = (none(), none(), none());
        // Where the table is full nobody knows whether a line is new.
        let unknown = if self.events.len() < self.limits.events {
            0.0
        } else {
            1.0
        };
        let mut missing = 0;
        let mut rest = session;
        for event in &self.events {
            let before = rest.partition_point(|c| c.id < event.id);
            for count in rest.get(..before).unwrap_or_default() {
                rarest.take(unknown, count.id, SessionOddity::Rare);
            }
            rest = rest.get(before..).unwrap_or_default();
            let octave = rest.first().filter(|c| c.id == event.id).map_or(0, |c| level(c.count));
            let without = f64::from(self.trusted.saturating_sub(event.present()));
            if octave == 0 {
                let tail = (without + 1.0) / trusted;
                strangest.take(tail, event.id, SessionOddity::Missing);
                if self.is_core(event.all) {
                    missing += 1;
                    surest.take(tail, event.id, SessionOddity::Missing);
                }
                continue;
            }
            rest = rest.get(1..).unwrap_or_default();
            let above = f64::from(event.at_least(octave));
            // Twice the greatest count ever is half as likely.
            let tail = (above + 1.0) / trusted * (-f64::from(event.beyond(octave).saturating_sub(1))).exp2();
            let is_the_number = f64::from(event.present()) > 4.0 * (above + 1.0);
            let oddity = if is_the_number {
                SessionOddity::TooMany
            } else {
                SessionOddity::Rare
            };
            strangest.take(tail, event.id, oddity);
            let below = without + f64::from(event.present().saturating_sub(event.at_least(octave + 1)));
            strangest.take((below + 1.0) / trusted, event.id, SessionOddity::TooFew);
            if self.is_foreign(event.all) {
                rarest.take(f64::from(event.all) / trusted, event.id, SessionOddity::Rare);
            }
        }
        for count in rest {
            rarest.take(unknown, count.id, SessionOddity::Rare);
        }
        if rarest.tail <= 0.0 {
            strangest.take(1.0 / trusted, rarest.id, SessionOddity::Rare);
        }
        let (pattern, vector) = keys(session.iter().map(|c| (c.id, level(c.count))));
        let by_pattern = self.vectors.pattern_ranks.p(self.vectors.pattern(pattern));
        let by_vector = self.vectors.vector_ranks.p(self.vectors.vector(vector));
        let is_broken = missing >= BROKEN_BY;
        let is_rejected = is_broken || self.are_units && rarest.tail < 1.0;
        let mut statistic = strangest.tail.min(by_pattern).min(by_vector);
        if is_rejected {
            statistic = statistic.min(0.5 / trusted);
        }
        let named = if is_broken {
            surest
        } else if is_rejected {
            rarest
        } else if strangest.tail <= TELLING || strangest.tail <= statistic {
            strangest
        } else if by_pattern <= by_vector {
            self.misfit(pattern, session)
        } else {
            self.disproportion(vector, session)
        };
        Reading {
            statistic,
            is_broken,
            is_rejected,
            oddity: named.oddity,
            id: named.id,
            vector,
        }
    }

    /// The event without which, or with which, the pattern would be the most usual.
    fn misfit(&self, pattern: u64, session: &[SessionCount]) -> Strangest {
        use crate::session_table::share;
        let mut best = (0, session.first().map_or(TemplateId::OVERFLOW, |c| c.id));
        for event in &self.events {
            let share = share(event.id, 0);
            let has = session.binary_search_by_key(&event.id, |c| c.id).is_ok();
            let other = if has {
                pattern.wrapping_sub(share)
            } else {
                pattern.wrapping_add(share)
            };
            best = best.max((self.vectors.pattern(other), event.id));
        }
        Strangest {
            tail: 1.0,
            id: best.1,
            oddity: SessionOddity::Combination,
        }
    }

    /// The event in another octave of which the vector would be the most usual.
    fn disproportion(&self, vector: u64, session: &[SessionCount]) -> Strangest {
        use crate::session_table::{OCTAVES, share};
        let mut best = (0, session.first().map_or(TemplateId::OVERFLOW, |c| c.id));
        for count in session {
            let without = vector.wrapping_sub(share(count.id, level(count.count)));
            for octave in 1..=OCTAVES {
                let octave = u8::try_from(octave).unwrap_or(u8::MAX);
                if octave != level(count.count) {
                    let other = without.wrapping_add(share(count.id, octave));
                    best = best.max((self.vectors.vector(other), count.id));
                }
            }
        }
        Strangest {
            tail: 1.0,
            id: best.1,
            oddity: SessionOddity::Proportion,
        }
    }

    fn verdict(&self, reading: &Reading, session: &[SessionCount]) -> SessionVerdict {
        // What is rarer than its own estimate of the past says is no rarer than the past shows.
        let surprise = self.past.surprise(reading.statistic).min(-reading.statistic.log10());
        let at = self.events.binary_search_by_key(&reading.id, |e| e.id).ok();
        let event = at.and_then(|at| self.events.get(at));
        let (expected, lower, upper) = event.map_or((0.0, 0.0, 0.0), |e| e.usual(self.trusted));
        let count = session.iter().find(|c| c.id == reading.id).map_or(0, |c| c.count);
        let direction = match reading.oddity {
            SessionOddity::Missing => Direction::Absence,
            SessionOddity::TooMany => Direction::Up,
            SessionOddity::TooFew => Direction::Down,
            SessionOddity::Rare => Direction::Pattern,
            SessionOddity::Combination | SessionOddity::Proportion => Direction::Both,
        };
        SessionVerdict {
            oddity: reading.oddity,
            id: reading.id,
            rejected: reading.is_rejected,
            verdict: Verdict {
                score: Score::from_surprise(surprise),
                channel: Channel::Session,
                direction,
                actual: f64::from(count),
                expected,
                lower,
                upper,
            },
        }
    }

    fn learn(&mut self, session: &[SessionCount], reading: &Reading) {
        self.make_room(session);
        self.seen += 1;
        self.broken += u32::from(reading.is_broken);
        for count in session {
            if let Some(event) = self.event_mut(count.id) {
                event.all += 1;
            }
        }
        self.vectors.add(reading.vector, session, 1);
        if !reading.is_rejected {
            let trusted = self.vectors.vector(reading.vector);
            self.vectors.trust(reading.vector, trusted + 1);
            self.trusted += 1;
            for count in session {
                if let Some(event) = self.event_mut(count.id) {
                    event.trust(level(count.count), count.count, 0, 1);
                }
            }
            if self.seen > SESSIONS_MIN {
                self.past.learn(reading.statistic);
            }
        }
        self.settle(reading.is_rejected);
    }

    fn event_mut(&mut self, id: TemplateId) -> Option<&mut Event> {
        let at = self.events.binary_search_by_key(&id, |e| e.id).ok()?;
        self.events.get_mut(at)
    }

    /// Takes in the events that are new, while there is room.
    fn make_room(&mut self, session: &[SessionCount]) {
        for count in session {
            if let Err(at) = self.events.binary_search_by_key(&count.id, |e| e.id) {
                if self.events.len() < self.limits.events {
                    self.events.insert(at, Event::new(count.id));
                } else {
                    self.events_evicted += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
mod upkeep;
