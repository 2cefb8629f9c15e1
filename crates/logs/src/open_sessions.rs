//! Sessions under way: which lines each has had so far, until it falls silent.
//!
//! Fails where ids are used again within the idle time (two units become one), where the lines of a unit are spread over
//! partitions (each part is a session of its own), and where more units are under way than there is room for: the one
//! that was silent longest is then cut off, neither judged nor learned, and counted. Cost: one look-up a line and a search among
//! the session's kinds of lines; nothing is allocated once the table and its sessions have grown.

use foreshock_domain::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

use crate::recency::Recency;
use crate::{SessionCount, TemplateId};

/// Sessions under way in one partition, unless told otherwise.
pub const OPEN_SESSIONS_MAX: usize = 16_384;
/// Kinds of lines of one session; all others count as [`TemplateId::OVERFLOW`].
pub const SESSION_EVENTS_MAX: usize = 64;
/// A session that goes on for this many idle times is no unit of work and is cut off.
const LENGTH_MAX: Millis = 128;
/// Emptied lists kept for reuse.
const SPARE_MAX: usize = 256;

/// Lines of one template in an open session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCount {
    /// Template, as the miner gave it.
    pub id: TemplateId,
    /// Lines.
    pub count: u32,
    /// Who wrote the last of them: whatever number the caller gives its sources.
    pub source: u32,
}

/// A session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OpenSession {
    /// Hash of its id.
    pub id: u64,
    /// Event time of its earliest line.
    pub first_at: Timestamp,
    /// The partition's clock at its first line.
    opened: Timestamp,
    /// The partition's clock at its last line.
    touched: Timestamp,
    /// Who wrote its last line.
    pub last_source: u32,
    /// In order of first arrival.
    pub counts: Vec<OpenCount>,
}

impl OpenSession {
    fn add(&mut self, id: TemplateId, source: u32) {
        self.last_source = source;
        let known = self.counts.iter().position(|c| c.id == id);
        let at = known.or_else(|| {
            let room = self.counts.len() < SESSION_EVENTS_MAX;
            let id = if room { id } else { TemplateId::OVERFLOW };
            if !room && let Some(at) = self.counts.iter().position(|c| c.id == id) {
                return Some(at);
            }
            self.counts.push(OpenCount { id, count: 0, source });
            Some(self.counts.len() - 1)
        });
        if let Some(count) = at.and_then(|at| self.counts.get_mut(at)) {
            count.count = count.count.saturating_add(1);
            count.source = source;
        }
    }

    /// Who wrote the last line of a template, or of all where it has none.
    #[must_use]
    pub fn source_of(&self, id: TemplateId, canonical: impl Fn(TemplateId) -> TemplateId) -> u32 {
        let with = self.counts.iter().find(|c| canonical(c.id) == id);
        with.map_or(self.last_source, |c| c.source)
    }

    /// Writes the counts as a model takes them: ids as they are now, sorted.
    pub fn canonical_counts(&self, canonical: impl Fn(TemplateId) -> TemplateId, out: &mut Vec<SessionCount>) {
        out.clear();
        out.extend(self.counts.iter().map(|c| SessionCount {
            id: canonical(c.id),
            count: c.count,
        }));
        out.sort_unstable_by_key(|c| c.id);
        out.dedup_by(|next, kept| {
            let same = next.id == kept.id;
            if same {
                kept.count = kept.count.saturating_add(next.count);
            }
            same
        });
    }
}

/// The sessions under way in one partition: a function of its lines, in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenSessions {
    /// The clock never goes back, so the least recently touched is the first to be over.
    open: Recency<OpenSession>,
    /// Over by a line that says so.
    ended: Vec<OpenSession>,
    /// The clock at the first line of all; what began before is not known.
    began: Option<Timestamp>,
    clock: Timestamp,
    cut: u64,
    #[serde(skip)]
    spare: Vec<OpenSession>,
}

impl Default for OpenSessions {
    fn default() -> Self {
        Self::new(OPEN_SESSIONS_MAX)
    }
}

impl OpenSessions {
    /// Room for so many at once.
    #[must_use]
    pub fn new(sessions_max: usize) -> Self {
        Self {
            open: Recency::new(sessions_max),
            ended: Vec::new(),
            began: None,
            clock: Timestamp::MIN,
            cut: 0,
            spare: Vec::new(),
        }
    }

    /// Sessions under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.len() == 0
    }

    /// Sessions cut off so far: for want of room, because they never end, or because their beginning was not seen.
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// A line came, of whatever session or none, at this event time.
    pub fn tick(&mut self, at: Timestamp) {
        self.clock = self.clock.max(at);
        self.began.get_or_insert(at);
    }

    /// A line of a session. `session`: hash of its id; `source`: who wrote it; `ends`: the last of its session.
    pub fn add(&mut self, session: u64, template: TemplateId, at: Timestamp, source: u32, ends: bool) {
        self.tick(at);
        let clock = self.clock;
        if let Some(open) = self.open.touch(session) {
            open.touched = clock;
            open.first_at = open.first_at.min(at);
            open.add(template, source);
        } else {
            let mut open = self.spare.pop().unwrap_or_default();
            (open.id, open.first_at, open.opened, open.touched) = (session, at, clock, clock);
            open.add(template, source);
            if let Some((_, lost)) = self.open.insert(session, open) {
                self.cut += 1;
                self.recycle(lost);
            }
        }
        if ends
            && self.ended.len() < self.open.capacity()
            && let Some(over) = self.open.remove(session)
        {
            self.ended.push(over);
        }
    }

    /// The next session that was over by `now`, silent for `idle` or ended; give it back to [`OpenSessions::recycle`].
    pub fn next_over(&mut self, now: Timestamp, idle: Millis) -> Option<OpenSession> {
        loop {
            let over = match self.ended.pop() {
                Some(over) => over,
                None => {
                    let (key, oldest) = self.open.iter().next()?;
                    if now - oldest.touched < idle {
                        return None;
                    }
                    self.open.remove(key)?
                }
            };
            let is_whole = self.began.is_none_or(|began| over.opened - began >= idle);
            if is_whole && over.touched - over.opened < idle.saturating_mul(LENGTH_MAX) {
                return Some(over);
            }
            self.cut += 1;
            self.recycle(over);
        }
    }

    /// Takes back the memory of a session.
    pub fn recycle(&mut self, mut session: OpenSession) {
        if self.spare.len() < SPARE_MAX {
            session.counts.clear();
            self.spare.push(session);
        }
    }

    /// The sources' clocks were set back: what is under way is cut off.
    pub fn restart(&mut self) {
        let cut = self.open.len() as u64;
        *self = Self {
            cut: self.cut + cut,
            ..Self::new(self.open.capacity())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + seconds)
    }

    fn begun(max: usize) -> OpenSessions {
        let mut open = OpenSessions::new(max);
        open.tick(t(-1_000));
        open
    }

    fn over(open: &mut OpenSessions, now: i64) -> Vec<Vec<(u64, u32)>> {
        let mut out = Vec::new();
        while let Some(session) = open.next_over(t(now), 10_000) {
            out.push(session.counts.iter().map(|c| (c.id.0, c.count)).collect());
            open.recycle(session);
        }
        out
    }

    #[test]
    fn a_session_is_over_when_it_falls_silent() {
        let mut open = begun(8);
        for (s, session, template) in [(0, 1, 5), (1, 2, 5), (2, 1, 5), (3, 1, 6)] {
            open.add(session, TemplateId(template), t(s), 0, false);
        }
        assert!(over(&mut open, 10).is_empty());
        assert_eq!(over(&mut open, 11), [vec![(5, 1)]]);
        assert_eq!(over(&mut open, 13), [vec![(5, 2), (6, 1)]]);
        assert!(open.is_empty());
    }

    #[test]
    fn a_line_can_end_a_session() {
        let mut open = begun(8);
        open.add(1, TemplateId(5), t(0), 0, false);
        open.add(1, TemplateId(6), t(0), 3, true);
        assert_eq!(over(&mut open, 0), [vec![(5, 1), (6, 1)]]);
    }

    #[test]
    fn a_late_line_does_not_keep_others_from_ending() {
        let mut open = begun(8);
        open.add(1, TemplateId(5), t(20), 0, false);
        open.add(2, TemplateId(5), t(0), 0, false);
        let mut first = open.clone();
        assert_eq!(
            over(&mut open, 30).len(),
            2,
            "idle time runs by the clock, which stood at 20 for both"
        );
        assert!(over(&mut first, 29).is_empty());
    }

    #[test]
    fn what_began_before_the_first_line_is_cut_off() {
        let mut open = OpenSessions::new(8);
        open.add(1, TemplateId(5), t(0), 0, false);
        open.add(2, TemplateId(5), t(10), 0, false);
        assert_eq!(over(&mut open, 60).len(), 1);
        assert_eq!(open.cut(), 1);
    }

    #[test]
    fn what_never_ends_is_cut_off() {
        let mut open = begun(8);
        for s in 0..2_000 {
            open.add(1, TemplateId(5), t(s), 0, false);
        }
        assert!(over(&mut open, 3_000).is_empty());
        assert_eq!(open.cut(), 1);
    }

    #[test]
    fn a_million_ids_stay_within_the_room() {
        let mut open = begun(1_000);
        for i in 0..1_000_000_u64 {
            open.add(i, TemplateId(i % 7), t(0), 0, false);
        }
        assert_eq!((open.len(), open.cut()), (1_000, 999_000));
        let mut long = begun(8);
        for i in 0..100_000_u64 {
            long.add(1, TemplateId(i + 1), t(0), 0, false);
        }
        let session = long.next_over(t(60), 10_000).unwrap();
        assert_eq!(session.counts.len(), SESSION_EVENTS_MAX + 1);
        assert_eq!(session.counts.iter().map(|c| c.count).sum::<u32>(), 100_000);
    }

    #[test]
    fn a_saved_table_goes_on_alike() {
        let mut open = begun(50);
        let line = |open: &mut OpenSessions, i: u64| {
            open.add(
                i * 7 % 83,
                TemplateId(i % 5),
                t(i as i64 / 4),
                (i % 3) as u32,
                i.is_multiple_of(31),
            );
        };
        (0..500).for_each(|i| line(&mut open, i));
        let mut copy: OpenSessions = postcard::from_bytes(&postcard::to_stdvec(&open).unwrap()).unwrap();
        for i in 500..1_000 {
            line(&mut open, i);
            line(&mut copy, i);
            if i % 50 == 0 {
                assert_eq!(over(&mut open, i as i64 / 4), over(&mut copy, i as i64 / 4));
            }
        }
        assert_eq!(postcard::to_stdvec(&open).unwrap(), postcard::to_stdvec(&copy).unwrap());
    }
}
