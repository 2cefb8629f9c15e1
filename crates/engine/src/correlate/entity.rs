use foreshock_domain::{
    Channel, Entity, EntityWindow, Event, EventAction, EventKind, Exhaustion, FailureDetail, Grade, IncidentId,
    LedgerEntry, Millis, PrecededBy, PrecursorDetail, Prediction, Resolution, Score, Signal, SlowBurn, SourcePosition,
    Timestamp,
};
use foreshock_failure::predict::{OperatingPoint, TrackRecords};
use foreshock_failure::{FailureTracker, Planned, Span, Standing, Transition};
use foreshock_stats::{Episode, EpisodeStep, harmonic_mean_surprise};
use serde::{Deserialize, Serialize};

use super::forecast::{Forecaster, Moment};
use super::incident::{Incident, merge};
use super::joint::Joint;
use super::judgement::{Fleet, Oddness};
use super::ledger::{Failed, Fates, Ledger};
use super::resources::Resources;
use super::sentence;
use super::telemetry::Sources;
use crate::config::EngineConfig;
use crate::id;
use crate::slots::Keyed;

/// A precursor that resolved this long before a failure still counts as one that came before it.
const REMEMBERED_MS: Millis = 3_600_000;
/// Resolved precursors remembered per entity.
const REMEMBERED_MAX: usize = 4;
/// A failure's new symptoms are told at most this often.
const SYMPTOMS_EVERY_MS: Millis = 60_000;
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
    /// Where it is heard from.
    sources: Sources,
}

/// What an entity needs of the partition while it takes a window.
pub(crate) struct Surroundings<'a> {
    pub(crate) config: &'a EngineConfig,
    pub(crate) observed_ms: Millis,
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
    /// What became of precursors in this partition.
    pub(crate) records: &'a mut TrackRecords,
    pub(crate) moments: &'a mut Vec<Moment>,
}

impl Surroundings<'_> {
    fn fates(&mut self) -> Fates<'_> {
        Fates {
            out: self.ledger,
            records: self.records,
        }
    }
}

/// What there is to tell of the window at hand.
struct Now<'a> {
    told: &'a [Signal],
    score: Score,
    end: Timestamp,
    position: Option<SourcePosition>,
    prediction: Option<Prediction>,
    exhaustion: Option<Exhaustion>,
    burn: Option<SlowBurn>,
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
        self.ledger.heard(self.clock, &mut cx.fates());
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
                    self.ledger.planned(from, end, &mut cx.fates());
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
            self.ledger.planned(from, now, &mut cx.fates());
        }
        if cx.observed_ms - self.heard_ms > SILENT_MS {
            self.resolve_precursor(cx, Resolution::Silent, self.clock, None);
        }
    }

    /// The entity does its job: is it odd, and is a failure probable?
    fn judge(
        &mut self,
        cx: &mut Surroundings<'_>,
        windows: &[EntityWindow],
        signals: &[Signal],
        end: Timestamp,
        (probability, exhaustion): (Option<f64>, Option<Exhaustion>),
    ) {
        cx.records.healthy(cx.config.windows.width_ms);
        let judged = self.joint.judge(windows, signals, cx.config.alarms.gate);
        let tested = windows
            .iter()
            .map(|w| w.tested)
            .fold(judged.tested, u32::saturating_add);
        let signals = &judged.signals[..];
        let now = harmonic_mean_surprise(signals.iter().map(|s| s.score().surprise()), tested);
        let gate = cx.config.alarms.gate;
        let surprise = self
            .oddness
            .judge(cx.fleet, signals, now, tested, gate, cx.threshold, end);
        let told = [signals, &judged.culprits].concat();
        let odd = self
            .episode
            .step(&cx.config.alarms.episode, end.as_millis(), surprise, cx.threshold);
        let (warned, prediction) = self.foresee(cx, probability, end);
        let runs_out = exhaustion.is_some() && !self.exhausting;
        self.exhausting = exhaustion.is_some();
        let burn = self.tracker.slow_burn();
        let burns = burn.is_some() && !self.burning;
        self.burning = burn.is_some();
        let grade = if warned.is_told() {
            Some(Grade::Warning)
        } else if runs_out || burns {
            Some(Grade::Watch)
        } else {
            odd.is_told().then_some(Grade::Info)
        };
        let now = Now {
            told: &told,
            score: Score::from_surprise(surprise),
            end,
            position: strongest(windows).map(|w| w.position.clone()),
            prediction,
            exhaustion,
            burn,
        };
        if !self.episode.is_open() && !self.forecaster.warns() && !self.exhausting && !self.burning {
            self.resolve_precursor(cx, Resolution::Quiet, end, None);
        } else if self.precursor.is_none() {
            // One that was resolved for another reason while the oddness lasts is not told twice.
            if let Some(grade) = grade {
                self.open_precursor(cx, now, grade);
            }
        } else {
            self.go_on(cx, now, grade);
        }
    }

    /// What the predictor says: whether to warn, and why.
    fn foresee(
        &mut self,
        cx: &Surroundings<'_>,
        probability: Option<f64>,
        end: Timestamp,
    ) -> (EpisodeStep, Option<Prediction>) {
        let (Some(model), Some(probability)) = (&cx.config.predictor, probability) else {
            return (EpisodeStep::Quiet, None);
        };
        let step = self.forecaster.warn(model, cx.point, probability, end);
        (step, Some(self.forecaster.prediction(model, cx.point, probability)))
    }

    /// An open precursor gets what is new; where there is a grade, a person hears of it again.
    fn go_on(&mut self, cx: &mut Surroundings<'_>, now: Now<'_>, grade: Option<Grade>) {
        let Some(incident) = &mut self.precursor else { return };
        merge(&mut incident.contributors, now.told, cx.config.limits.contributors);
        incident.score = if now.score > incident.score {
            now.score
        } else {
            incident.score
        };
        let before = incident.grade;
        incident.grade = grade.map_or(before, |g| g.max(before));
        incident.remember(cx.records);
        if now.exhaustion.is_some() {
            incident.exhaustion = now.exhaustion;
        }
        if now.burn.is_some() {
            incident.burn = now.burn;
        }
        if now.prediction.is_some() {
            incident.prediction = now.prediction;
        }
        if grade.is_some() || incident.grade > before {
            let event = incident.event(&self.name, EventAction::Update, now.end, now.position);
            cx.events.push(as_precursor(event, incident, None, None));
        }
    }

    fn open_precursor(&mut self, cx: &mut Surroundings<'_>, now: Now<'_>, grade: Grade) {
        let Now { score, end, .. } = now;
        let mut contributors = Vec::new();
        merge(&mut contributors, now.told, cx.config.limits.contributors);
        merge(
            &mut contributors,
            &self.oddness.grounds(),
            cx.config.limits.contributors,
        );
        let started_at = contributors.first().map_or(end, |c| c.onset);
        self.incidents += 1;
        let id = id::incident(
            EventKind::Precursor,
            self.name.as_str(),
            started_at,
            now.position.as_ref(),
            self.incidents,
        );
        let mut incident = Incident {
            kind: EventKind::Precursor,
            id,
            seq: 0,
            started_at,
            opened_at: end,
            told_at: end,
            score,
            threshold: Score::from_surprise(cx.threshold),
            contributors,
            class: "".into(),
            rule: "".into(),
            evidence: "".into(),
            grade,
            prediction: now.prediction,
            exhaustion: now.exhaustion,
            burn: now.burn,
            record: None,
        };
        incident.remember(cx.records);
        let event = incident.event(&self.name, EventAction::Open, end, now.position);
        cx.events.push(as_precursor(event, &incident, None, None));
        self.precursor = Some(incident);
    }

    fn resolve_precursor(&mut self, cx: &mut Surroundings<'_>, why: Resolution, at: Timestamp, lead_s: Option<f64>) {
        let Some(mut incident) = self.precursor.take() else {
            return;
        };
        if why == Resolution::Confirmed {
            cx.fleet.discovered();
        }
        let mut event = incident.event(&self.name, EventAction::Resolve, at, None);
        event.ended_at = Some(at);
        cx.events.push(as_precursor(event, &incident, Some(why), lead_s));
        let horizon_ms = cx.config.ledger_horizon_ms();
        self.ledger
            .resolved(&self.name, &incident, at, horizon_ms, &mut cx.fates());
        if why != Resolution::Mitigated {
            self.remembered.push((incident.id, incident.opened_at, at));
        }
        if self.remembered.len() > REMEMBERED_MAX {
            self.remembered.remove(0);
        }
        if why != Resolution::Quiet {
            self.episode = Episode::default();
            self.forecaster.reset();
        }
    }

    /// The entity is failing or has just failed: what is odd now is a symptom.
    fn attach(&mut self, cx: &mut Surroundings<'_>, signals: &[Signal], end: Timestamp) {
        self.episode = Episode::default();
        self.forecaster.reset();
        self.resources.failed();
        self.exhausting = false;
        self.burning = false;
        self.oddness.failed(cx.fleet);
        let Some(incident) = &mut self.failure else { return };
        let new = merge(&mut incident.contributors, signals, cx.config.limits.contributors);
        if new && end - incident.told_at >= SYMPTOMS_EVERY_MS {
            let event = incident.event(&self.name, EventAction::Update, end, None);
            cx.events.push(as_failure(event, incident, Vec::new()));
        }
    }

    fn follow(&mut self, cx: &mut Surroundings<'_>, transitions: &[Transition], signals: &[Signal]) {
        for t in transitions {
            match t.action {
                EventAction::Open => self.open_failure(cx, t, signals),
                EventAction::Update => {
                    let Some(incident) = &mut self.failure else { continue };
                    incident.evidence = t.evidence.as_str().into();
                    let event = incident.event(&self.name, EventAction::Update, t.observed_at, t.position.clone());
                    cx.events.push(as_failure(event, incident, Vec::new()));
                }
                EventAction::Resolve => {
                    self.recovered_at = self.recovered_at.max(t.observed_at);
                    let Some(mut incident) = self.failure.take() else {
                        continue;
                    };
                    let mut event = incident.event(&self.name, EventAction::Resolve, t.observed_at, t.position.clone());
                    event.ended_at = Some(t.ended_at.unwrap_or(t.observed_at));
                    cx.events.push(as_failure(event, &incident, Vec::new()));
                }
            }
        }
    }

    fn open_failure(&mut self, cx: &mut Surroundings<'_>, t: &Transition, signals: &[Signal]) {
        // One that was never heard to do its job is not among those whose time is counted.
        if self.clock > Timestamp::MIN {
            cx.records.failed();
        }
        let mut contributors = self
            .precursor
            .as_ref()
            .map(|p| p.contributors.clone())
            .unwrap_or_default();
        merge(&mut contributors, signals, cx.config.limits.contributors);
        let score = contributors
            .iter()
            .map(|c| c.score)
            .fold(Score::ZERO, |a, b| if b > a { b } else { a });
        let preceded_by = self.preceded_by(t.onset);
        let id = id::incident(
            EventKind::Failure,
            self.name.as_str(),
            t.onset,
            t.position.as_ref(),
            t.ordinal,
        );
        let mut incident = Incident {
            kind: EventKind::Failure,
            id,
            seq: 0,
            started_at: t.onset,
            opened_at: t.observed_at,
            told_at: t.observed_at,
            score,
            threshold: Score::ZERO,
            contributors,
            class: t.class.clone(),
            rule: t.rule.clone(),
            evidence: t.evidence.as_str().into(),
            grade: Grade::Info,
            prediction: None,
            exhaustion: None,
            burn: None,
            record: None,
        };
        let event = incident.event(&self.name, EventAction::Open, t.observed_at, t.position.clone());
        cx.events.push(as_failure(event, &incident, preceded_by));
        self.failure = Some(incident);
        if let Some(precursor) = &self.precursor {
            let lead_s = (t.onset - precursor.opened_at) as f64 / 1_000.0;
            let why = if lead_s > 0.0 {
                Resolution::Confirmed
            } else {
                Resolution::Symptom
            };
            self.resolve_precursor(cx, why, t.observed_at, (lead_s > 0.0).then_some(lead_s));
        }
        self.remembered.clear();
        let failed = Failed {
            id,
            class: &t.class,
            onset: t.onset,
            told_at: t.observed_at,
        };
        self.ledger.failed(failed, &mut cx.fates());
    }

    /// It is forgotten.
    pub(crate) fn leave(&mut self, fates: &mut Fates<'_>, now: Timestamp) {
        self.ledger.forgotten(now, fates);
    }

    /// The precursors that were told before `onset` and were open then, or not long before; the earliest first.
    fn preceded_by(&self, onset: Timestamp) -> Vec<PrecededBy> {
        let past = self
            .remembered
            .iter()
            .filter(|(_, _, resolved)| onset - *resolved <= REMEMBERED_MS);
        let open = self.precursor.iter().map(|p| (p.id, p.opened_at));
        past.map(|(id, told, _)| (*id, *told))
            .chain(open)
            .filter(|(_, told)| *told < onset)
            .map(|(incident_id, warned_at)| PrecededBy {
                incident_id,
                warned_at,
                lead_s: (onset - warned_at) as f64 / 1_000.0,
            })
            .collect()
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

/// The window with the strongest signal, or the first.
fn strongest(windows: &[EntityWindow]) -> Option<&EntityWindow> {
    let surprise = |w: &EntityWindow| w.signals.first().map_or(0.0, |s| s.score().surprise());
    // `max_by` takes the last of equals; windows stand in a fixed order, so that is one answer.
    windows.iter().max_by(|a, b| surprise(a).total_cmp(&surprise(b)))
}

fn as_precursor(mut event: Event, incident: &Incident, resolution: Option<Resolution>, lead_s: Option<f64>) -> Event {
    event.why = sentence::precursor(incident, event.observed_at);
    event.precursor = Some(PrecursorDetail {
        grade: incident.grade,
        threshold: incident.threshold,
        resolution,
        lead_s,
        prediction: incident.prediction.clone(),
        exhaustion: incident.exhaustion.clone(),
        burn: incident.burn.clone(),
        record: incident.record.clone(),
    });
    event
}

fn as_failure(mut event: Event, incident: &Incident, preceded_by: Vec<PrecededBy>) -> Event {
    event.why = sentence::failure(&incident.evidence, &incident.contributors, event.observed_at);
    event.failure = Some(FailureDetail {
        class: incident.class.clone(),
        rule: incident.rule.clone(),
        evidence: incident.evidence.clone(),
        preceded_by,
    });
    event
}
