//! What a session model remembers: events, each with the octaves of its counts, and whole count vectors in octaves.
//!
//! Fails where nearly every session is a vector of its own: then only the events count. Both tables are bounded. Keys of
//! vectors are sums of their events' hashes, so that the key of a vector that differs in one event costs one subtraction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::recency::Recency;
use crate::session_ranks::{Ranks, octave};
use crate::{SessionCount, TemplateId};

/// Octaves of the count of an event: 1, 2–3, … ; the last takes all beyond.
pub(crate) const OCTAVES: usize = 16;

/// Octave of a count as a vector holds it: 1 ..= [`OCTAVES`], 0 for none.
#[allow(clippy::cast_possible_truncation)] // at most 16
pub(crate) fn level(count: u32) -> u8 {
    octave(count).min(OCTAVES) as u8
}

/// Greatest count of an octave.
fn end_of(octave: usize) -> u32 {
    if octave >= OCTAVES { u32::MAX } else { (1 << octave) - 1 }
}

/// Share of an event in the key of its pattern (which events there are), or of its vector (and in what octaves).
pub(crate) fn share(id: TemplateId, octave: u8) -> u64 {
    xxh3_64_with_seed(&id.0.to_le_bytes(), u64::from(octave))
}

/// Keys of a session's pattern and vector.
pub(crate) fn keys(session: impl Iterator<Item = (TemplateId, u8)>) -> (u64, u64) {
    session.fold((0, 0), |(pattern, vector): (u64, u64), (id, octave)| {
        (
            pattern.wrapping_add(share(id, 0)),
            vector.wrapping_add(share(id, octave)),
        )
    })
}

/// One kind of line, over all sessions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) id: TemplateId,
    /// Sessions with it, the rejected ones too.
    pub(crate) all: u32,
    /// Trusted sessions with it, by octave of its count.
    octaves: [u32; OCTAVES],
    /// Greatest count in a trusted session.
    most: u32,
}

impl Event {
    pub(crate) fn new(id: TemplateId) -> Self {
        Self {
            id,
            all: 0,
            octaves: [0; OCTAVES],
            most: 0,
        }
    }

    /// Trusted sessions with it.
    pub(crate) fn present(&self) -> u32 {
        self.octaves.iter().sum()
    }

    /// Trusted sessions with at least this octave of it.
    pub(crate) fn at_least(&self, octave: u8) -> u32 {
        self.octaves.iter().skip(usize::from(octave.max(1)) - 1).sum()
    }

    /// Octaves from the highest trusted one to this one, 0 where it is not above.
    pub(crate) fn beyond(&self, octave: u8) -> u8 {
        let highest = self.octaves.iter().rposition(|n| *n > 0).map_or(0, |i| i + 1);
        octave.saturating_sub(u8::try_from(highest).unwrap_or(u8::MAX))
    }

    pub(crate) fn trust(&mut self, octave: u8, count: u32, from: u32, to: u32) {
        if let Some(n) = self.octaves.get_mut(usize::from(octave.max(1)) - 1) {
            *n = n.saturating_add(to).saturating_sub(from);
        }
        self.most = self.most.max(count);
    }

    /// Usual count in a session, and the least and greatest among trusted sessions that have it.
    pub(crate) fn usual(&self, trusted: u32) -> (f64, f64, f64) {
        let present = self.present();
        if present == 0 {
            return (0.0, 0.0, 0.0);
        }
        let first = self.octaves.iter().position(|n| *n > 0).unwrap_or(0);
        let last = self.octaves.iter().rposition(|n| *n > 0).unwrap_or(0);
        let least = if trusted > present { 0 } else { 1_u32 << first };
        let mut below = trusted.saturating_sub(present);
        let mut median = 0.0;
        if below * 2 < trusted {
            for (i, n) in self.octaves.iter().enumerate() {
                below += n;
                if below * 2 >= trusted {
                    // Middle of the octave, but not above what was seen.
                    median = (1.5 * f64::from(1_u32 << i)).floor().min(f64::from(self.most));
                    break;
                }
            }
        }
        (
            median,
            f64::from(least),
            f64::from(self.most.min(end_of(last + 1)).max(1)),
        )
    }

    pub(crate) fn fade(&mut self) {
        self.all = self.all.div_ceil(2);
        for n in &mut self.octaves {
            *n = n.div_ceil(2);
        }
    }

    /// Two templates turned out to be one, seen in at most so many sessions.
    pub(crate) fn merge(&mut self, other: &Self, seen: u32) {
        self.all = self.all.saturating_add(other.all).min(seen);
        for (n, more) in self.octaves.iter_mut().zip(other.octaves) {
            *n = n.saturating_add(more).min(seen);
        }
        self.most = self.most.max(other.most);
    }
}

/// A count vector and in how many sessions it was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Vector {
    /// Sorted by id.
    pub(crate) events: Box<[(TemplateId, u8)]>,
    pub(crate) all: u32,
    /// Of these, taken as normal.
    pub(crate) trusted: u32,
}

/// The count vectors, at most so many, the least recently seen go first; and the patterns they make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Vectors {
    held: Recency<Vector>,
    /// Events over all vectors held.
    cells: usize,
    cells_max: usize,
    /// Trusted sessions by pattern; only of vectors held.
    patterns: BTreeMap<u64, u32>,
    pub(crate) pattern_ranks: Ranks,
    pub(crate) vector_ranks: Ranks,
    pub(crate) evicted: u64,
}

impl Vectors {
    pub(crate) fn new(vectors_max: usize, cells_max: usize) -> Self {
        Self {
            held: Recency::new(vectors_max),
            cells: 0,
            cells_max,
            patterns: BTreeMap::new(),
            pattern_ranks: Ranks::default(),
            vector_ranks: Ranks::default(),
            evicted: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn get(&self, key: u64) -> Option<&Vector> {
        self.held.peek(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Vector)> {
        self.held.iter()
    }

    /// Trusted sessions of a pattern.
    pub(crate) fn pattern(&self, key: u64) -> u32 {
        self.patterns.get(&key).copied().unwrap_or(0)
    }

    /// Trusted sessions of a vector.
    pub(crate) fn vector(&self, key: u64) -> u32 {
        self.held.peek(key).map_or(0, |v| v.trusted)
    }

    /// Counts a session of a vector, which may be new.
    pub(crate) fn add(&mut self, key: u64, session: &[SessionCount], n: u32) {
        if let Some(vector) = self.held.touch(key) {
            vector.all = vector.all.saturating_add(n);
            return;
        }
        while self.cells + session.len() > self.cells_max && self.evict_oldest() {}
        self.cells += session.len();
        let vector = Vector {
            events: session.iter().map(|c| (c.id, level(c.count))).collect(),
            all: n,
            trusted: 0,
        };
        if let Some((_, gone)) = self.held.insert(key, vector) {
            self.forget(&gone);
        }
    }

    fn evict_oldest(&mut self) -> bool {
        let oldest = self.held.iter().next().map(|(key, _)| key);
        let gone = oldest.and_then(|key| self.held.remove(key));
        if let Some(gone) = &gone {
            self.forget(gone);
        }
        gone.is_some()
    }

    /// What is pushed out leaves its mass in the ranks: the sessions were.
    fn forget(&mut self, gone: &Vector) {
        self.cells = self.cells.saturating_sub(gone.events.len());
        self.evicted = self.evicted.saturating_add(1);
        let (pattern, _) = keys(gone.events.iter().copied());
        let known = self.pattern(pattern);
        self.pattern_ranks.forget(known, gone.trusted.min(known));
        if known <= gone.trusted {
            self.patterns.remove(&pattern);
        } else {
            self.patterns.insert(pattern, known - gone.trusted);
        }
    }

    /// So many of a vector's sessions are now trusted.
    pub(crate) fn trust(&mut self, key: u64, trusted: u32) {
        let Some(vector) = self.held.peek_mut(key) else { return };
        let from = std::mem::replace(&mut vector.trusted, trusted);
        let (pattern, _) = keys(vector.events.iter().copied());
        self.vector_ranks.count(from, trusted);
        let known = self.patterns.get(&pattern).copied().unwrap_or(0);
        let now = known.saturating_sub(from).saturating_add(trusted);
        self.pattern_ranks.count(known, now);
        if now == 0 {
            self.patterns.remove(&pattern);
        } else {
            self.patterns.insert(pattern, now);
        }
    }

    /// The same vectors with other ids or counts: adds up those that became one, drops those that became none.
    pub(crate) fn rebuild(&mut self, mut change: impl FnMut(Vector) -> Vector) {
        let mut fresh = Self::new(self.held.capacity(), self.cells_max);
        for (_, vector) in self.held.iter() {
            let vector = change(vector.clone());
            if vector.all == 0 {
                continue;
            }
            let (_, key) = keys(vector.events.iter().copied());
            let session: Vec<SessionCount> = (vector.events.iter())
                .map(|(id, octave)| SessionCount {
                    id: *id,
                    count: 1 << (octave.max(&1) - 1),
                })
                .collect();
            fresh.add(key, &session, vector.all);
            let trusted = fresh.vector(key).saturating_add(vector.trusted);
            fresh.trust(key, trusted);
        }
        fresh.evicted = self.evicted;
        *self = fresh;
    }

    pub(crate) fn state_bytes(&self) -> usize {
        const LINKS: usize = 40;
        self.held.len() * (size_of::<Vector>() + LINKS)
            + self.cells * size_of::<(TemplateId, u8)>()
            + self.patterns.len() * 24
    }
}
