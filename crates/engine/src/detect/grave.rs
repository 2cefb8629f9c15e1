//! Grave lines of a kind never seen: errors, and lines of any level that carry a stack trace.
//!
//! How rare such a line is can't be told from one entity's past, which is short and mostly without errors. So the windows of all
//! entities of the partition are counted together, by Good and Turing: a window with a grave line that no entity has ever
//! written, of all windows. It is told the moment it comes, once an entity and window; the window's close judges it again, among
//! everything else.
//!
//! Fails where errors are free text, so that nearly all are new: they are then expected, and told by their rate alone. Cost: nothing
//! on lines of known kinds; one record to the second stage for each window with such a line.

use std::collections::BTreeSet;

use foreshock_domain::{
    Channel, Direction, EntityWindow, Learning, Level, LogLine, Score, SignalRecord, Timestamp, Verdict,
};
use foreshock_logs::{Miner, TemplateBank, TemplateCount, TemplateId, TemplateVerdict};
use foreshock_stats::GoodTuring;

use super::evidence::{evidence, template_signal};
use super::partition::{Arrival, Context, DetectState};
use super::window::{EntityTally, TemplateTally};

/// Windows of entities after which the recent rate forgets: a week of 20 entities at the usual width.
const MEMORY: f64 = 1_209_600.0;
/// Windows that an entity must have been known for: what is new of a new entity is no news.
const WINDOWS_MIN: u64 = 128;

/// How often a window holds a grave line of a kind never seen.
pub(crate) fn unseen() -> GoodTuring {
    GoodTuring::new(MEMORY)
}

/// Whether a line says by itself that something failed.
pub(super) fn is_grave(line: &LogLine<'_>, carries_trace: bool) -> bool {
    carries_trace || line.level >= Some(Level::Error)
}

/// Whether this is a grave line of a kind that nobody in the partition had written before the window.
fn is_news(template: &TemplateTally) -> bool {
    template.grave && template.first_seen
}

impl EntityTally {
    /// Whether a grave line of a new kind came in this window.
    pub(super) fn has_news(&self) -> bool {
        self.templates.values().any(is_news)
    }
}

fn verdict(score: Score, lines: u32) -> Verdict {
    Verdict {
        score,
        channel: Channel::NewTemplate,
        direction: Direction::Pattern,
        actual: f64::from(lines),
        expected: 0.0,
        lower: 0.0,
        upper: 0.0,
    }
}

impl DetectState {
    /// A line of this template, which was counted in the entity's window, says that something failed.
    pub(super) fn note_grave(&mut self, cx: &mut Context<'_>, arrival: &Arrival<'_>, entity: usize, template: u64) {
        let cell = self
            .open
            .get(&arrival.start)
            .and_then(|window| window.entity_cell(&self.entity_cells, entity, arrival.window));
        let window = self.open.get_mut(&arrival.start);
        let Some(tally) = cell
            .zip(window)
            .and_then(|(cell, window)| window.entities.get_mut(cell))
        else {
            return;
        };
        let was_told = tally.has_news();
        // Not in this window, if a trace goes on into the next.
        let Some(tallied) = tally.templates.get_mut(&template) else {
            return;
        };
        tallied.grave = true;
        if !was_told && is_news(tallied) {
            let tally = tally.clone();
            self.send_urgent(cx, &tally, template, (arrival.start, arrival.at));
        }
    }

    /// Tells the second stage of a grave line of a new kind, the first of this entity in this window.
    pub(super) fn send_urgent(
        &self,
        cx: &mut Context<'_>,
        tally: &EntityTally,
        template: u64,
        (start, at): (Timestamp, Timestamp),
    ) {
        let (Some(miner), Some(slot)) = (&self.miner, self.entities.get(tally.entity as usize)) else {
            return;
        };
        let known_for = slot.templates.as_ref().map_or(0, |bank| bank.windows());
        let score = Score::from_p(self.unseen.p(1));
        let is_common = score.surprise() < cx.config.alarms.gate;
        if is_common || known_for < WINDOWS_MIN || self.learning(tally.entity, start) == Learning::Paused {
            return;
        }
        let Some(tallied) = tally.templates.get(&template) else {
            return;
        };
        let id = miner.canonical(TemplateId(template));
        let counts = [TemplateCount {
            id,
            count: tallied.count,
            first_seen: tallied.first_seen,
            level: tallied.level,
            first_at: tallied.first_at,
        }];
        let past = slot.templates.as_ref().map(|bank| bank.past(id, &counts));
        let log = evidence(miner, id, tallied.count, past.unwrap_or_default(), Some(tally));
        let told = TemplateVerdict {
            id,
            count: tallied.count,
            onset: at,
            verdict: verdict(score, tallied.count),
        };
        let record = SignalRecord::Urgent(EntityWindow {
            entity: slot.name.clone(),
            start,
            end: at + 1,
            position: self.position(tally.offset_first, tally.offset_last),
            samples: tally.samples,
            lines: tally.lines,
            tested: 1,
            signals: vec![template_signal(&told, log, at)],
            facts: Vec::new(),
            vector: Vec::new(),
            templates: Vec::new(),
        });
        cx.counters.signals_sent += 1;
        self.send(cx, slot.name.as_str(), &record);
    }
}

/// An entity's window, of which what is grave and new is judged.
pub(super) struct GraveWindow<'a> {
    pub(super) miner: &'a Miner,
    pub(super) bank: &'a TemplateBank,
    pub(super) tally: Option<&'a EntityTally>,
    /// Lines of each template, sorted by id.
    pub(super) counts: &'a [TemplateCount],
    pub(super) start: Timestamp,
    pub(super) learning: Learning,
}

impl GraveWindow<'_> {
    /// Judges, then learns whether there was any; gives back how many tests that was. What is found takes the place of what the
    /// entity's own past says of the same template, where it is stranger.
    pub(super) fn close(&self, unseen: &mut GoodTuring, verdicts: &mut Vec<TemplateVerdict>) -> u32 {
        if self.bank.windows() < WINDOWS_MIN {
            return 0;
        }
        let news = self.tally.filter(|tally| tally.has_news());
        if let Some(tally) = news {
            self.judge(Score::from_p(unseen.p(1)), tally, verdicts);
        }
        if self.learning == Learning::Normal {
            unseen.learn(u32::from(news.is_some()), 0);
        }
        1
    }

    fn judge(&self, score: Score, tally: &EntityTally, verdicts: &mut Vec<TemplateVerdict>) {
        let news = tally.templates.iter().filter(|(_, template)| is_news(template));
        let ids: BTreeSet<TemplateId> = news.map(|(id, _)| self.miner.canonical(TemplateId(*id))).collect();
        for id in ids {
            let told = |v: &&mut TemplateVerdict| v.id == id && v.verdict.channel == Channel::NewTemplate;
            if let Some(told) = verdicts.iter_mut().find(told) {
                if score > told.verdict.score {
                    told.verdict.score = score;
                }
            } else if let Some(count) = self.counts.iter().find(|c| c.id == id) {
                verdicts.push(TemplateVerdict {
                    id,
                    count: count.count,
                    onset: self.start,
                    verdict: verdict(score, count.count),
                });
            }
        }
    }
}
