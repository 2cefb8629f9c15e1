//! Failures of an entity: what its tracker says becomes events, with the precursors that came before and the symptoms of now.

use foreshock_domain::{
    Event, EventAction, EventKind, FailureDetail, Grade, Millis, PrecededBy, Resolution, Score, Signal, Timestamp,
};
use foreshock_failure::Transition;
use foreshock_stats::Episode;

use super::super::incident::{Incident, merge};
use super::super::ledger::Failed;
use super::super::sentence;
use super::{EntityState, Surroundings};
use crate::id;

/// A precursor that resolved this long before a failure still counts as one that came before it.
const REMEMBERED_MS: Millis = 3_600_000;
/// A failure's new symptoms are told at most this often.
const SYMPTOMS_EVERY_MS: Millis = 60_000;

impl EntityState {
    /// The entity is failing or has just failed: what is odd now is a symptom.
    pub(super) fn attach(&mut self, cx: &mut Surroundings<'_>, signals: &[Signal], end: Timestamp) {
        self.episode = Episode::default();
        self.forecaster.reset();
        self.resources.failed();
        self.exhausting = false;
        self.burning = false;
        self.watched_until = Timestamp::MIN;
        self.oddness.failed(cx.fleet, end - cx.config.ledger_horizon_ms());
        let Some(incident) = &mut self.failure else { return };
        let new = merge(&mut incident.contributors, signals, cx.config.limits.contributors);
        if new && end - incident.told_at >= SYMPTOMS_EVERY_MS {
            let event = incident.event(&self.name, EventAction::Update, end, None);
            cx.events.push(as_failure(event, incident, Vec::new()));
        }
    }

    pub(super) fn follow(&mut self, cx: &mut Surroundings<'_>, transitions: &[Transition], signals: &[Signal]) {
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
            let horizon_ms = cx.config.ledger_horizon_ms();
            self.shown.failed(t.onset, horizon_ms, cx.records);
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
        self.ledger.failed(failed, cx.ledger);
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
