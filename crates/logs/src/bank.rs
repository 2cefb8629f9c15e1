//! What is normal of the templates of one entity, window by window: which exist, how often each comes, how long it stays
//! away. Each window is judged before it is learned.
//!
//! Fails where an entity is young: all its templates are new, so none is told (the Good–Turing mass is large). Cost per
//! window: O(templates), some microseconds per template present and a few tens of nanoseconds per template absent; about 370
//! bytes per template, at most [`TEMPLATES_MAX`] of them. The parts: [`GoodTuring`] for novelty, `Occurrence` for the rest.

use std::cmp::Reverse;

use foreshock_domain::{Channel, Direction, Learning, Level, Millis, Score, Timestamp, Verdict};
use foreshock_stats::{GoodTuring, LifeTable, TailCalibrator};
use serde::{Deserialize, Serialize};

use crate::occurrence::{NATS, Occurrence, STRETCH_WINDOWS};
use crate::{Miner, TemplateId};

/// Templates kept per entity; lines of all others count as [`TemplateId::OVERFLOW`].
pub const TEMPLATES_MAX: usize = 512;
/// Verdicts below this surprise (p above 0.1) are not given out.
pub const GATE_SURPRISE: f64 = 1.0;
/// Templates that one window may bring; a flood of garbage must not push out what is known.
const NEW_MAX: usize = 64;
/// Windows after which the recent rate of new templates forgets.
const NOVELTY_MEMORY: f64 = 256.0;
/// A silence of the whole entity as rare as this among its own is a hole in the data and teaches nothing.
const HOLE_LN_P: f64 = -6.9;

/// Lines of one template in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateCount {
    /// Template, as [`Miner::canonical`] has it.
    pub id: TemplateId,
    /// Lines in the window, at least 1.
    pub count: u32,
    /// What the miner said of the first of them.
    pub first_seen: bool,
    /// Gravest level of its lines.
    pub level: Option<Level>,
    /// Event time of the earliest of them.
    pub first_at: Timestamp,
}

/// What the entity is remembered to have written of a template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TemplatePast {
    /// Lines before the window at hand.
    pub seen: u64,
    /// Event time of the first, the window at hand included; `None` where there is none.
    pub first_at: Option<Timestamp>,
    /// Level of its lines, where they say.
    pub level: Option<Level>,
}

/// What is odd about one template in one window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TemplateVerdict {
    /// Template.
    pub id: TemplateId,
    /// Lines in the window, 0 for silence; for a [`Channel::TemplateRate`] over a stretch of 16 windows, lines in it.
    pub count: u32,
    /// Since when: start of the window, of the stretch, or end of the last window with the template.
    pub onset: Timestamp,
    /// What the model says; counts are in lines.
    pub verdict: Verdict,
}

/// What is normal of the templates of one entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TemplateBank {
    /// Sorted by id.
    templates: Vec<(TemplateId, Occurrence)>,
    novelty: GoodTuring,
    /// Windows between two windows with any line, plus one.
    idle: LifeTable,
    /// Repairs the surprise of stretches, all templates together: they are few per template.
    stretch_tail: TailCalibrator,
    stretch_start: Timestamp,
    /// Learned windows so far, silent ones included, holes and failures not.
    clock: u64,
    /// End of the last window closed.
    end: Option<Timestamp>,
    /// [`Miner::merges`] at the last [`TemplateBank::reconcile`].
    merges: u64,
    /// Templates pushed out so far.
    evicted: u64,
}

impl Default for TemplateBank {
    fn default() -> Self {
        Self::new()
    }
}

impl TemplateBank {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            templates: Vec::new(),
            novelty: GoodTuring::new(NOVELTY_MEMORY),
            idle: LifeTable::new(1_000.0),
            stretch_tail: TailCalibrator::new(&NATS),
            stretch_start: Timestamp::MIN,
            clock: 0,
            end: None,
            merges: 0,
            evicted: 0,
        }
    }

    /// Templates known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.templates.len()
    }

    /// Whether no template is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.templates.is_empty()
    }

    /// Windows that it has learned from, silent ones included.
    #[must_use]
    pub fn windows(&self) -> u64 {
        self.clock
    }

    /// Templates pushed out for want of room so far.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// What is remembered of a template. `counts`: the window at hand as it was given to [`TemplateBank::close_window`], whose
    /// lines are not of the past.
    #[must_use]
    pub fn past(&self, id: TemplateId, counts: &[TemplateCount]) -> TemplatePast {
        let now = counts.binary_search_by_key(&id, |c| c.id).ok();
        let now = now.and_then(|at| counts.get(at));
        let known = self.templates.binary_search_by_key(&id, |(id, _)| *id).ok();
        let known = known.and_then(|at| self.templates.get(at)).map(|(_, o)| o);
        let seen = known.map_or(0, |o| o.lines);
        TemplatePast {
            seen: seen.saturating_sub(now.map_or(0, |c| u64::from(c.count))),
            first_at: known.map(|o| o.first_at).or(now.map(|c| c.first_at)),
            level: known.and_then(|o| o.level).max(now.and_then(|c| c.level)),
        }
    }

    /// Bytes of state, about.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        size_of::<Self>() + self.templates.capacity() * size_of::<(TemplateId, Occurrence)>()
    }

    /// Adds up the statistics of templates that the miner has merged since the last call. To be called before
    /// [`TemplateBank::close_window`]; costs nothing while nothing merges.
    pub fn reconcile(&mut self, miner: &Miner) {
        if self.merges == miner.merges() {
            return;
        }
        self.merges = miner.merges();
        for (id, _) in &mut self.templates {
            *id = miner.canonical(*id);
        }
        self.templates.sort_by_key(|(id, _)| *id);
        let novelty = &mut self.novelty;
        self.templates.dedup_by(|(next, merged), (kept, into)| {
            let same = next == kept;
            if same {
                novelty.forget_singletons(u32::from(merged.windows == 1) + u32::from(into.windows == 1));
                into.merge(merged);
            }
            same
        });
    }

    /// One event-time window of the entity, judged and then learned. `counts`: sorted by id, each once, see
    /// [`Miner::canonicalise`]. Windows without any line since the last call are implied by the timestamps. Appends what
    /// passes [`GATE_SURPRISE`] to `out`: stretches, then silence and counts by id, then new templates, gravest first.
    /// Gives back how many tests were made.
    pub fn close_window(
        &mut self,
        start: Timestamp,
        end: Timestamp,
        counts: &[TemplateCount],
        learning: Learning,
        out: &mut Vec<TemplateVerdict>,
    ) -> u32 {
        let learns = learning == Learning::Normal;
        let now = self.advance(start, end, learns);
        let mut tested = 0;
        if learns && now / STRETCH_WINDOWS > self.clock / STRETCH_WINDOWS {
            tested += self.close_stretches(out);
            self.stretch_start = start;
        }
        let known = |id| self.templates.binary_search_by_key(&id, |(id, _)| *id).is_ok();
        let new: Vec<TemplateCount> = counts
            .iter()
            .filter(|c| c.id != TemplateId::OVERFLOW && !known(c.id))
            .copied()
            .collect();
        // Seen before, and pushed out: not news.
        let novel: Vec<TemplateCount> = new
            .iter()
            .filter(|c| c.first_seen || self.evicted == 0)
            .copied()
            .collect();
        let room = self.make_room(new.len().min(NEW_MAX), counts);
        let lost = new
            .get(room..)
            .unwrap_or_default()
            .iter()
            .fold(0, |sum: u32, c| sum.saturating_add(c.count));
        let window = Window {
            start,
            end,
            now,
            learns,
            overflow: lost,
        };
        let (judged, second) = self.judge_known(&window, counts, out);
        tested += judged + self.judge_new(novel.clone(), start, out);
        for count in new.iter().take(room) {
            self.insert(count, &window);
        }
        if lost > 0 && !known_overflow(&self.templates) {
            let overflow = TemplateCount {
                id: TemplateId::OVERFLOW,
                count: lost,
                first_seen: false,
                level: None,
                first_at: start,
            };
            self.insert(&overflow, &window);
        }
        if learns {
            self.novelty
                .learn(u32::try_from(novel.len()).unwrap_or(u32::MAX), second);
            self.clock = now;
        }
        self.end = self.end.max(Some(end));
        tested
    }

    /// The clock at this window. Windows skipped since the last one count, unless that many at once were never usual: then
    /// it was the pipeline that was silent, and all templates with it.
    fn advance(&mut self, start: Timestamp, end: Timestamp, learns: bool) -> u64 {
        let width: Millis = end - start;
        let gap = match self.end {
            Some(last) if width > 0 && start > last => u64::try_from((start - last) / width).unwrap_or(0),
            _ => 0,
        };
        let gap = gap.saturating_add(1);
        let hole = self.idle.ln_survival(gap) < HOLE_LN_P;
        if learns && self.end.is_some() {
            self.idle.learn(gap);
        }
        self.clock.saturating_add(if hole || !learns { 1 } else { gap })
    }

    fn close_stretches(&mut self, out: &mut Vec<TemplateVerdict>) -> u32 {
        let mut tested = 0;
        for (id, occurrence) in &mut self.templates {
            let Some((count, verdict)) = occurrence.close_stretch(&mut self.stretch_tail) else {
                continue;
            };
            tested += 1;
            if verdict.score.surprise() >= GATE_SURPRISE {
                out.push(TemplateVerdict {
                    id: *id,
                    count,
                    onset: self.stretch_start,
                    verdict,
                });
            }
        }
        tested
    }

    /// Judges and learns what is known, present or not. Gives back how many were tested, and how many were seen for the
    /// second time.
    fn judge_known(
        &mut self,
        window: &Window,
        mut counts: &[TemplateCount],
        out: &mut Vec<TemplateVerdict>,
    ) -> (u32, u32) {
        let (mut tested, mut second) = (0, 0);
        for (id, occurrence) in &mut self.templates {
            let skip = counts.partition_point(|c| c.id < *id);
            counts = counts.get(skip..).unwrap_or_default();
            let mut count = counts.first().filter(|c| c.id == *id).map_or(0, |c| c.count);
            if *id == TemplateId::OVERFLOW {
                count = count.saturating_add(window.overflow);
            }
            let (verdict, onset) = if count > 0 {
                (occurrence.score_count(count), occurrence.onset(window.start))
            } else {
                (occurrence.score_absence(window.now), occurrence.last_end)
            };
            tested += u32::from(verdict.is_some());
            let surprise = verdict.map_or(0.0, |v| v.score.surprise());
            if let Some(verdict) = verdict.filter(|_| surprise >= GATE_SURPRISE) {
                out.push(TemplateVerdict {
                    id: *id,
                    count,
                    onset,
                    verdict,
                });
            }
            if count > 0 {
                occurrence.lines = occurrence.lines.saturating_add(u64::from(count));
                occurrence.note(surprise, window.start);
                if window.learns {
                    second += u32::from(occurrence.windows == 1);
                    occurrence.learn(count, window.now, window.end);
                }
            }
        }
        (tested, second)
    }

    /// Templates never seen at this entity. How grave a line is decides which are told first, not how surprising it is.
    fn judge_new(&self, mut novel: Vec<TemplateCount>, start: Timestamp, out: &mut Vec<TemplateVerdict>) -> u32 {
        let new = u32::try_from(novel.len()).unwrap_or(u32::MAX);
        let score = Score::from_p(self.novelty.p(new));
        if new > 0 && score.surprise() >= GATE_SURPRISE {
            novel.sort_unstable_by_key(|c| (Reverse(c.level), Reverse(c.count), c.id));
            out.extend(novel.iter().take(NEW_MAX).map(|c| {
                let verdict = Verdict {
                    score,
                    channel: Channel::NewTemplate,
                    direction: Direction::Pattern,
                    actual: f64::from(c.count),
                    expected: 0.0,
                    lower: 0.0,
                    upper: 0.0,
                };
                TemplateVerdict {
                    id: c.id,
                    count: c.count,
                    onset: start,
                    verdict,
                }
            }));
        }
        new.max(1)
    }

    /// Pushes out as many templates as `wanted` new ones need, first those seen in one window only, first the longest
    /// away, and none that is in `counts`. Gives back for how many there is room now.
    fn make_room(&mut self, wanted: usize, counts: &[TemplateCount]) -> usize {
        let short = (self.templates.len() + wanted).saturating_sub(TEMPLATES_MAX);
        if short == 0 {
            return wanted;
        }
        let present = |id: TemplateId| counts.binary_search_by_key(&id, |c| c.id).is_ok();
        let mut away: Vec<(bool, u64, TemplateId)> = (self.templates.iter())
            .filter(|(id, _)| *id != TemplateId::OVERFLOW && !present(*id))
            .map(|(id, o)| (o.windows > 1, o.last_seen, *id))
            .collect();
        away.sort_unstable();
        away.truncate(short);
        let mut out: Vec<TemplateId> = away.iter().map(|(_, _, id)| *id).collect();
        out.sort_unstable();
        self.templates.retain(|(id, _)| out.binary_search(id).is_err());
        self.evicted = self.evicted.saturating_add(out.len() as u64);
        wanted.saturating_sub(short - out.len())
    }

    fn insert(&mut self, count: &TemplateCount, window: &Window) {
        if let Err(at) = self.templates.binary_search_by_key(&count.id, |(id, _)| *id) {
            let mut occurrence = Occurrence::new(count, window.now, window.end);
            if window.learns {
                occurrence.learn(count.count, window.now, window.end);
            }
            self.templates.insert(at, (count.id, occurrence));
        }
    }
}

/// The window being closed.
struct Window {
    start: Timestamp,
    end: Timestamp,
    /// The clock at it.
    now: u64,
    learns: bool,
    /// Lines of templates for which there is no room.
    overflow: u32,
}

fn known_overflow(templates: &[(TemplateId, Occurrence)]) -> bool {
    templates.first().is_some_and(|(id, _)| *id == TemplateId::OVERFLOW)
}

#[cfg(test)]
mod tests;
