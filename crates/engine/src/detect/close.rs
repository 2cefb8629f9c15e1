//! A window's end: every series and template in it is scored, then learned, and what is surprising is sent on.
//!
//! Order matters and is fixed: failure facts first (they decide whether anything may be learned), then series in order of
//! arrival, then templates of every entity by place, then sessions that are over, then one record per entity and one of progress.

use foreshock_domain::{
    Detector, EntityWindow, Fact, Learning, Millis, Signal, SignalRecord, Source, TemplateEntry, Timestamp, VectorEntry,
};
use foreshock_failure::Growth;
use foreshock_logs::{Miner, SessionModel, TemplateBank, TemplateCount, TemplateId, TemplateVerdict};
use foreshock_metrics::{ENTITY_SERIES_MAX, Point, SeriesModel};

use super::aggregate::Aggregate;
use super::evidence::{evidence, session_signal, template_signal};
use super::grave::GraveWindow;
use super::partition::{Context, DetectState, Scratch};
use super::values::Closing;
use super::window::{EntityTally, OpenWindow};
use crate::slots::place_u32;

/// After a window with a failure in it, learning stays paused this long: what follows a failure is not normal either.
const PAUSE_MS: Millis = 60_000;
/// Series and entities looked at for idleness when a window closes.
const SWEEP_STEP: usize = 64;
/// Windows after which a series' name travels again, and how much of it.
const NAMED_EVERY: i64 = 64;
const NAME_BYTES_MAX: usize = 200;
/// Templates of an entity that travel with one window.
const TEMPLATES_MAX: usize = 64;
/// What fits single precision.
const LARGEST: f64 = 1e30;

impl DetectState {
    /// Closes every window that ends at or before `until`, and says so.
    pub(super) fn close_until(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch, until: Timestamp) {
        let width = cx.config.windows.width_ms;
        let mut closed = Timestamp::MIN;
        while let Some(entry) = self.open.first_entry() {
            let start = *entry.key();
            if start + width > until {
                break;
            }
            let mut window = entry.remove();
            self.close(cx, &mut window, start, start + width);
            closed = start + width;
            window.clear();
            if scratch.spare.len() < 8 {
                scratch.spare.push(window);
            }
        }
        // At a restart of the clock `until` is the end of time: what was reached is the last window that held anything.
        self.closed_until = if until == Timestamp::LATEST { closed } else { until };
        if self.closed_until > Timestamp::MIN {
            self.send_progress(cx);
        }
    }

    fn close(&mut self, cx: &mut Context<'_>, window: &mut OpenWindow, start: Timestamp, end: Timestamp) {
        self.gather_facts(cx, window, start);
        self.pause_failing(window, end);
        for cell in 0..window.series.len() {
            let Some((place, aggregate)) = window.series.get(cell).copied() else {
                continue;
            };
            self.close_series(cx, window, place as usize, &aggregate, start, end);
        }
        self.close_templates(cx, window, start, end);
        self.close_sessions(cx, window, start, end);
        for cell in 0..window.entities.len() {
            if let Some(tally) = window.entities.get_mut(cell) {
                self.send_window(cx, tally, start, end);
            }
        }
        self.sweep(cx, end);
    }

    /// What the failure rules asked for, from the series that they watch.
    fn gather_facts(&mut self, cx: &Context<'_>, window: &mut OpenWindow, start: Timestamp) {
        let index = start.as_millis().div_euclid(cx.config.windows.width_ms);
        let watched_series = std::mem::take(&mut window.watched);
        for (place, watched) in &watched_series {
            let Some(slot) = self.series.get(*place as usize) else {
                continue;
            };
            let cell = window.series_cell(&self.series_cells, *place as usize, index);
            let Some((_, aggregate)) = cell.and_then(|c| window.series.get(c)) else {
                continue;
            };
            let growth = Growth {
                increase: aggregate.increase_since(slot.last).unwrap_or(0.0),
                step: slot.last.map_or(f64::NAN, |(_, before)| aggregate.last - before),
                last: if aggregate.count > 0 { aggregate.last } else { f64::NAN },
            };
            let cell = window.entity_cell(&self.entity_cells, slot.entity as usize, index);
            let Some(tally) = cell.and_then(|c| window.entities.get_mut(c)) else {
                continue;
            };
            for (watch, watched) in slot.watches.iter().zip(watched) {
                tally
                    .facts
                    .extend(cx.config.rules.fact(watch, &slot.name, watched, growth));
            }
        }
        for place in 0..window.entities.len() {
            // Most have no facts, and a block that is not written to need not be stored again.
            if window.entities.get(place).is_some_and(|tally| !tally.facts.is_empty())
                && let Some(tally) = window.entities.get_mut(place)
            {
                cx.config.rules.name_causes(&mut tally.facts);
            }
        }
    }

    /// An outage must not become the new normal. The second stage decides what a failure is; what this partition sees of it
    /// with its own eyes, a probe that is down or a fatal line, is enough to stop learning here.
    fn pause_failing(&mut self, window: &OpenWindow, end: Timestamp) {
        for tally in window.entities.iter() {
            let failing = tally.facts.iter().any(|fact| match fact {
                Fact::Probe { down, .. } => *down > 0,
                Fact::Lines { .. } | Fact::Process { .. } => true,
                Fact::Counter { .. } | Fact::Heartbeat { .. } => false,
            });
            if failing && let Some(entity) = self.entities.get_mut(tally.entity as usize) {
                entity.paused_until = entity.paused_until.max(end + PAUSE_MS);
            }
        }
    }

    pub(super) fn learning(&self, entity: u32, start: Timestamp) -> Learning {
        match self.entities.get(entity as usize) {
            Some(slot) if start < slot.paused_until => Learning::Paused,
            _ => Learning::Normal,
        }
    }

    fn close_series(
        &mut self,
        cx: &mut Context<'_>,
        window: &mut OpenWindow,
        place: usize,
        aggregate: &Aggregate,
        start: Timestamp,
        end: Timestamp,
    ) {
        let Some(entity) = self.series.get(place).map(|s| s.entity) else {
            return;
        };
        let learning = self.learning(entity, start);
        let index = start.as_millis().div_euclid(cx.config.windows.width_ms);
        let cell = window.entity_cell(&self.entity_cells, entity as usize, index);
        let Some(slot) = self.series.get_mut(place) else { return };
        slot.heard = end;
        if learning == Learning::Normal && slot.kind.learn(slot.last, aggregate) {
            // Levels turned into rates or back: nothing learned so far applies.
            slot.model = SeriesModel::new(None);
        }
        let value = if slot.kind.is_counter() {
            aggregate.rate_since(slot.last)
        } else {
            aggregate.mean()
        };
        if aggregate.count > 0 {
            slot.last = Some((aggregate.last_at, aggregate.last));
        }
        let verdict = slot.model.score_learn(&Point { at: start, value }, learning);
        let Some(tally) = cell.and_then(|c| window.entities.get_mut(c)) else {
            return;
        };
        if value.is_finite() {
            let place = place_u32(place);
            // Long, and wanted only when a relation breaks: a new series says its name, and then one window in 64.
            let is_named = slot.model.observations() <= 1 || (index + i64::from(place)).rem_euclid(NAMED_EVERY) == 0;
            let entry = VectorEntry {
                series: slot.id,
                value: value.clamp(-LARGEST, LARGEST) as f32,
                name: is_named.then(|| super::window::shorten(&slot.name, NAME_BYTES_MAX).into()),
            };
            tally.vector.push((place, entry));
        }
        let Some(verdict) = verdict else { return };
        tally.tested += 1;
        cx.counters.series_scored += 1;
        if verdict.score.surprise() >= cx.config.alarms.gate {
            tally.signals.push(Signal {
                source: Source::Metric,
                id: slot.id.to_string().into(),
                name: slot.name.clone(),
                unit: None,
                onset: slot.model.onset().unwrap_or(start).min(start),
                verdict,
                log: None,
                share: None,
            });
        }
    }

    /// Every entity that ever wrote a line, since silence is a sign too.
    fn close_templates(&mut self, cx: &mut Context<'_>, window: &mut OpenWindow, start: Timestamp, end: Timestamp) {
        let Some(miner) = &self.miner else { return };
        let index = start.as_millis().div_euclid(cx.config.windows.width_ms);
        let (mut counts, mut verdicts, mut session) = (Vec::new(), Vec::new(), Vec::new());
        let windows_are_sessions = cx.source.sessions.is_none();
        let mut held = self
            .entities
            .iter()
            .filter_map(|e| Some(e.values.as_ref()?.held()))
            .sum();
        for place in 0..self.entities.places() {
            let learning = self.learning(place_u32(place), start);
            let Some(slot) = self.entities.get(place) else {
                continue;
            };
            let cell = window.entity_cell(&self.entity_cells, place, index);
            counts.clear();
            if let Some(tally) = cell.and_then(|c| window.entities.get(c)) {
                counts.extend(counts_of(tally));
            }
            if slot.templates.is_none() && counts.is_empty() {
                continue;
            }
            let Some(slot) = self.entities.get_mut(place) else {
                continue;
            };
            miner.canonicalise(&mut counts);
            let bank = slot.templates.get_or_insert_default();
            bank.reconcile(miner);
            verdicts.clear();
            let mut tested = bank.close_window(start, end, &counts, learning, &mut verdicts);
            let grave = GraveWindow {
                miner,
                bank,
                tally: cell.and_then(|c| window.entities.get(c)),
                counts: &counts,
                start,
                learning,
            };
            tested += grave.close(&mut self.unseen, &mut verdicts);
            verdicts.retain(|v: &TemplateVerdict| v.verdict.score.surprise() >= cx.config.alarms.gate);
            let mut as_session = None;
            if windows_are_sessions && !counts.is_empty() {
                let model = slot.windows.get_or_insert_with(|| Box::new(SessionModel::windows()));
                model.reconcile(miner);
                as_session = Self::close_window_session(model, &counts, learning, &mut session);
                tested += u32::from(as_session.is_some());
            }
            let closing = Closing {
                miner,
                bank,
                counts: &counts,
                learning,
                start,
                end,
                gate: cx.config.alarms.gate,
            };
            let tally = cell.and_then(|c| window.entities.get_mut(c));
            let mut values = closing.close(&mut slot.values, &mut held, tally);
            tested += values.tested;
            cx.counters.values_refused += values.refused;
            if cell.is_none() && verdicts.is_empty() {
                continue;
            }
            let cell = cell.unwrap_or_else(|| push_tally(window, place, self.last_offset));
            let Some(tally) = window.entities.get_mut(cell) else {
                continue;
            };
            tally.tested += tested;
            tally.signals.append(&mut values.signals);
            if cx.config.predicts() {
                tally.counted = counted(miner, bank, &counts);
            }
            for v in &verdicts {
                let log = evidence(miner, v.id, v.count, bank.past(v.id, &counts), Some(tally));
                tally.signals.push(template_signal(v, log, start));
            }
            if let Some(v) = as_session.filter(|v| v.score().surprise() >= cx.config.alarms.gate) {
                let log = evidence(miner, v.id, 1, bank.past(v.id, &counts), Some(tally));
                tally.signals.push(session_signal(&v, log, start));
            }
        }
    }

    fn send_window(&mut self, cx: &mut Context<'_>, tally: &mut EntityTally, start: Timestamp, end: Timestamp) {
        let Some(slot) = self.entities.get_mut(tally.entity as usize) else {
            return;
        };
        if tally.samples + tally.lines > 0 {
            slot.heard = end;
        }
        let entity = slot.name.clone();
        let mut signals = std::mem::take(&mut tally.signals);
        signals.sort_by(|a, b| {
            b.score()
                .surprise()
                .total_cmp(&a.score().surprise())
                .then_with(|| a.id.cmp(&b.id))
        });
        let cap = cx.config.limits.signals_per_window;
        cx.counters.signals_dropped += signals.len().saturating_sub(cap) as u64;
        signals.truncate(cap);
        cx.counters.signals_sent += signals.len() as u64;
        cx.counters.windows_sent += 1;
        let record = SignalRecord::Window(EntityWindow {
            entity,
            start,
            end,
            position: self.position(tally.offset_first, tally.offset_last),
            samples: tally.samples,
            lines: tally.lines,
            tested: tally.tested,
            signals,
            facts: std::mem::take(&mut tally.facts),
            vector: vector_of(&mut tally.vector),
            templates: std::mem::take(&mut tally.counted),
        });
        let SignalRecord::Window(window) = &record else { return };
        let key = window.entity.as_str().to_owned();
        self.send(cx, &key, &record);
    }

    /// Forgets a few of the series and entities that have been idle for long. A whole round takes as many windows as the
    /// larger table has groups of [`SWEEP_STEP`] places.
    fn sweep(&mut self, cx: &mut Context<'_>, now: Timestamp) {
        let idle = cx.config.limits.idle_ms;
        let places = self.series.places().max(self.entities.places());
        for _ in 0..SWEEP_STEP.min(places) {
            self.sweep = if self.sweep + 1 >= places { 0 } else { self.sweep + 1 };
            let place = self.sweep;
            // What an open window tells of has just been heard, and its place must stay its own.
            if self
                .series
                .get(place)
                .is_some_and(|s| s.heard != Timestamp::MIN && now - s.heard > idle)
                && !self.is_open(cx, |window, index| {
                    window.series_cell(&self.series_cells, place, index).is_some()
                })
            {
                self.series.remove(place);
                cx.counters.evicted += 1;
            }
            // Later than its series, which hold its place.
            let entity_idle = idle.saturating_mul(2);
            if self
                .entities
                .get(place)
                .is_some_and(|e| e.heard != Timestamp::MIN && now - e.heard > entity_idle)
                && !self.is_open(cx, |window, index| {
                    window.entity_cell(&self.entity_cells, place, index).is_some()
                })
            {
                self.entities.remove(place);
                cx.counters.evicted += 1;
            }
        }
    }
}

impl DetectState {
    /// Whether any open window, given with its index, satisfies this.
    fn is_open(&self, cx: &Context<'_>, holds: impl Fn(&OpenWindow, i64) -> bool) -> bool {
        let index = |start: &Timestamp| start.as_millis().div_euclid(cx.config.windows.width_ms);
        self.open.iter().any(|(start, window)| holds(window, index(start)))
    }
}

/// The series of the lowest slots, which mostly are those that came first; so it is the same ones in every window. One
/// series has no relations.
fn vector_of(vector: &mut Vec<(u32, VectorEntry)>) -> Vec<VectorEntry> {
    if vector.len() < 2 {
        vector.clear();
    }
    vector.sort_by_key(|(place, _)| *place);
    vector.truncate(ENTITY_SERIES_MAX);
    vector.drain(..).map(|(_, entry)| entry).collect()
}

/// Templates of a window as they go to the second stage, gravest first; what is new to the entity says its text.
fn counted(miner: &Miner, bank: &TemplateBank, counts: &[TemplateCount]) -> Vec<TemplateEntry> {
    let mut entries: Vec<TemplateEntry> = counts
        .iter()
        .map(|c| TemplateEntry {
            id: c.id.0,
            count: c.count,
            level: c.level,
            name: (bank.past(c.id, counts).seen == 0)
                .then(|| super::window::shorten(&miner.template(c.id).unwrap_or_default(), NAME_BYTES_MAX).into()),
        })
        .collect();
    entries.sort_by_key(|e| (std::cmp::Reverse(e.level), e.id));
    entries.truncate(TEMPLATES_MAX);
    entries
}

/// Lines of each template in a tally, under the ids that they had when they came.
pub(super) fn counts_of(tally: &EntityTally) -> impl Iterator<Item = TemplateCount> {
    tally.templates.iter().map(|(id, t)| TemplateCount {
        id: TemplateId(*id),
        count: t.count,
        first_seen: t.first_seen,
        level: t.level,
        first_at: t.first_at,
    })
}

/// A tally for an entity that wrote nothing in the window and is odd all the same.
pub(super) fn push_tally(window: &mut OpenWindow, entity: usize, offset: i64) -> usize {
    window.entities.push(EntityTally {
        entity: place_u32(entity),
        offset_first: offset,
        offset_last: offset,
        ..Default::default()
    });
    window.entities.len() - 1
}
