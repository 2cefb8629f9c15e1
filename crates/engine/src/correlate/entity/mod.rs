//! What the second stage knows of one entity, and what it makes of each window: [`precursor`](self::precursor) while it does its job,
//! [`failure`](self::failure) while it does not.

mod failure;
mod precursor;
mod shown;

use foreshock_domain::{
    Channel, Entity, EntityWindow, Event, IncidentId, LedgerEntry, Millis, Resolution, Signal, SourcePosition,
    Timestamp,
};
use foreshock_failure::predict::{OperatingPoint, TrackRecords};
use foreshock_failure::{FailureTracker, Planned, Span, Standing};
use foreshock_stats::{AlarmBudget, Episode};
use serde::{Deserialize, Serialize};

use self::shown::Shown;
use super::forecast::{Forecaster, Moment};
use super::incident::Incident;
use super::joint::Joint;
use super::judgement::{Fleet, Oddness};
use super::ledger::Ledger;
use super::resources::Resources;
use super::telemetry::Sources;
use crate::config::EngineConfig;
use crate::slots::Keyed;

/// An entity that says nothing for this long of observed time can't be judged: its precursor is resolved as silent.
const SILENT_MS: Millis = 15 * 60_000;

/// What the second stage knows of one entity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EntityState {
    name: Entity,
    tracker: FailureTracker,
    episode: Episode,
    /// How its series move together.
    joint: Joint,
    oddness: Oddness,
    precursor: Option<Incident>,
    failure: Option<Incident>,
    /// When the last failure was resolved, in event time.
    recovered_at: Timestamp,
    /// Precursors that resolved not long ago: id, when told, when resolved.
    remembered: Vec<(IncidentId, Timestamp, Timestamp)>,
    /// End of the latest window.
    clock: Timestamp,
    /// Observed time of the last window.
    heard_ms: Millis,
    incidents: u64,
    /// What was learned from failures, asked of this entity.
    forecaster: Forecaster,
    /// What it can run out of.
    resources: Resources,
    /// Whether something is running out and was told.
    exhausting: bool,
    /// Whether an error budget burns slowly and was told.
    burning: bool,
    /// Precursors whose fate is not known yet.
    ledger: Ledger,
    /// What it showed of late.
    shown: Shown,
    /// How long what it showed, which came before failures more often than not, is watched.
    watched_until: Timestamp,
    /// Where it is heard from.
    sources: Sources,
}

/// What an entity needs of the partition while it takes a window.
pub(crate) struct Surroundings<'a> {
    pub(crate) config: &'a EngineConfig,
    pub(crate) observed_ms: Millis,
    /// This partition's share of the budget for what is merely unusual.
    pub(crate) share: AlarmBudget,
    /// Surprise at which a precursor opens.
    pub(crate) threshold: f64,
    /// Where the predictor's warnings begin; `None` where it has none to give.
    pub(crate) point: Option<&'a OperatingPoint>,
    /// How far the partition's inputs have come.
    pub(crate) now: Timestamp,
    /// Maintenance and deploys.
    pub(crate) planned: &'a Planned,
    /// What is usual in this partition.
    pub(crate) fleet: &'a mut Fleet,
    pub(crate) events: &'a mut Vec<Event>,
    pub(crate) ledger: &'a mut Vec<LedgerEntry>,
    /// What became of oddness in this partition.
    pub(crate) records: &'a mut TrackRecords,
    pub(crate) moments: &'a mut Vec<Moment>,
}

impl Keyed for EntityState {
    type Key = Entity;

    fn key(&self) -> Entity {
        self.name.clone()
    }
}

impl EntityState {
    pub(crate) fn new(name: Entity) -> Self {
        Self {
            name,
            tracker: FailureTracker::default(),
            episode: Episode::default(),
            joint: Joint::default(),
            oddness: Oddness::default(),
            precursor: None,
            failure: None,
            recovered_at: Timestamp::MIN,
            remembered: Vec::new(),
            clock: Timestamp::MIN,
            heard_ms: 0,
            incidents: 0,
            forecaster: Forecaster::default(),
            resources: Resources::default(),
            exhausting: false,
            burning: false,
            ledger: Ledger::default(),
            shown: Shown::default(),
            watched_until: Timestamp::MIN,
            sources: Sources::default(),
        }
    }

    /// Whether it may be forgotten: long silent and nothing open.
    pub(crate) fn is_idle(&self, observed_ms: Millis, idle_ms: Millis) -> bool {
        self.precursor.is_none() && self.failure.is_none() && observed_ms - self.heard_ms > idle_ms
    }

    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// A window of it arrived, to be decided later.
    pub(crate) fn arrived(&mut self, observed_ms: Millis) -> &mut Sources {
        self.tracker.arrived(observed_ms);
        &mut self.sources
    }

    /// Takes all windows of this entity that end at the same time.
    pub(crate) fn take(&mut self, cx: &mut Surroundings<'_>, windows: &[EntityWindow]) {
        let Some(end) = windows.first().map(|w| w.end) else {
            return;
        };
        self.clock = self.clock.max(end);
        self.heard_ms = cx.observed_ms;
        let mut signals: Vec<Signal> = windows.iter().flat_map(|w| w.signals.iter().cloned()).collect();
        for signal in &mut signals {
            signal.onset = self.oddness.bounded_onset(&signal.id, signal.onset, end);
        }
        let planned = cx.planned.spans(self.name.as_str());
        let start = windows.iter().map(|w| w.start).min().unwrap_or(end);
        let is_planned = is_at_work(&planned, start, end, cx.config.rules.cooldown_ms());
        let work_since = planned.iter().map(|(from, _)| *from).filter(|from| *from < end).max();
        self.tracker.plan(planned);
        let mut transitions = Vec::new();
        for window in windows {
            self.tracker
                .on_window(&cx.config.rules, window, cx.observed_ms, &mut transitions);
        }
        self.follow(cx, &transitions, &signals);
        self.ledger.heard(self.clock, cx.ledger);
        let horizon_ms = cx.config.ledger_horizon_ms();
        self.shown.heard(self.clock, horizon_ms, cx.records);
        let standing = self.tracker.standing(end);
        let failing = standing == Standing::Failing || is_planned;
        let exhaustion = match standing {
            Standing::Healthy if !is_planned => self.resources.take(cx.config, windows),
            _ => None,
        };
        let runs_out_s = exhaustion.as_ref().map(|e| e.in_s);
        let foreseen = self
            .forecaster
            .take(cx.config, &self.name, windows, end, runs_out_s, failing);
        cx.moments.extend(foreseen.moment);
        match standing {
            Standing::Healthy if is_planned => {
                // What is missing is known to be so when it is there again.
                self.recovered_at = self.recovered_at.max(end);
                self.resolve_precursor(cx, Resolution::Mitigated, end, None);
                if let Some(from) = work_since {
                    self.ledger.planned(from, end, cx.ledger);
                    self.shown.clear();
                }
                self.attach(cx, &signals, end);
            }
            Standing::Healthy => {
                let (recovered_at, width_ms) = (self.recovered_at, cx.config.windows.width_ms);
                signals.retain(|s| !is_of_an_outage(s, end, recovered_at, width_ms));
                self.judge(cx, windows, &signals, end, (foreseen.probability, exhaustion));
            }
            Standing::Failing | Standing::Cooldown => self.attach(cx, &signals, end),
        }
    }

    pub(crate) fn declared(
        &mut self,
        cx: &mut Surroundings<'_>,
        incident: &foreshock_domain::Incident,
        position: &SourcePosition,
    ) {
        let mut transitions = Vec::new();
        self.heard_ms = cx.observed_ms;
        self.tracker.plan(cx.planned.spans(self.name.as_str()));
        self.tracker
            .on_incident(&cx.config.rules, incident, position, &mut transitions);
        self.follow(cx, &transitions, &[]);
    }

    /// Time passed and nothing came; `is_unheard`: because the path of its telemetry is lost.
    pub(crate) fn tick(&mut self, cx: &mut Surroundings<'_>, is_unheard: bool) {
        if is_unheard {
            self.tracker.excuse_silence(cx.observed_ms);
        }
        let mut transitions = Vec::new();
        let planned = cx.planned.spans(self.name.as_str());
        let at_work = |(from, to): &&Span| *from <= cx.now && cx.now < *to;
        let work_since = planned.iter().filter(at_work).map(|(from, _)| *from).max();
        self.tracker.plan(planned);
        self.tracker
            .on_clock(&cx.config.rules, cx.observed_ms, &mut transitions);
        self.follow(cx, &transitions, &[]);
        if let Some(from) = work_since {
            let now = self.clock.max(cx.now);
            self.resolve_precursor(cx, Resolution::Mitigated, now, None);
            self.ledger.planned(from, now, cx.ledger);
            self.shown.clear();
        }
        if cx.observed_ms - self.heard_ms > SILENT_MS {
            self.resolve_precursor(cx, Resolution::Silent, self.clock, None);
        }
    }

    /// A grave line of a kind never seen has just come, in a window that is still open.
    pub(crate) fn take_news(&mut self, cx: &mut Surroundings<'_>, window: &EntityWindow) {
        let planned = cx.planned.spans(self.name.as_str());
        let is_planned = is_at_work(&planned, window.start, window.end, cx.config.rules.cooldown_ms());
        if !is_planned && self.tracker.standing(window.end) == Standing::Healthy {
            self.tell_news(cx, window);
        }
    }

    /// It is forgotten.
    pub(crate) fn leave(&mut self, out: &mut Vec<LedgerEntry>, now: Timestamp) {
        self.ledger.forgotten(now, out);
    }
}

/// Whether work is planned in a window from `start` to `end`, or was until less than `cooldown_ms` ago: what is odd then comes
/// of the work.
fn is_at_work(planned: &[Span], start: Timestamp, end: Timestamp, cooldown_ms: Millis) -> bool {
    planned
        .iter()
        .any(|(from, to)| *from < end && start < *to + cooldown_ms)
}

/// Values that were missing while the entity failed are missing because it failed, and the gap is known only when it is over.
#[allow(clippy::cast_possible_truncation)] // saturates
fn is_of_an_outage(signal: &Signal, end: Timestamp, recovered_at: Timestamp, width_ms: Millis) -> bool {
    let intervals = signal.verdict.actual.max(0.0) as i64;
    signal.channel() == Channel::Missing && end - intervals.saturating_add(1).saturating_mul(width_ms) <= recovered_at
}
