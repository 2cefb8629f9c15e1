//! Precursors of an entity: what opens one, tells it again and resolves it.

use foreshock_domain::{
    EntityWindow, Event, EventAction, EventKind, Exhaustion, Grade, KindRecord, Millis, PrecursorDetail, Prediction,
    Resolution, Score, Signal, SlowBurn, SourcePosition, Timestamp,
};
use foreshock_failure::predict::{Kind, Worth};
use foreshock_stats::{Episode, EpisodeStep, harmonic_mean_surprise};

use super::super::incident::{Incident, merge};
use super::super::sentence;
use super::{EntityState, Surroundings};
use crate::id;

/// Resolved precursors remembered per entity.
const REMEMBERED_MAX: usize = 4;
/// Of the horizon, for which what foretells failures is watched after it was seen.
const WATCHED_PART: Millis = 4;

/// For how long a grave line of a kind never seen is news.
const NEWS_MS: Millis = 600_000;

/// What there is to tell of the window at hand.
struct Now<'a> {
    told: &'a [Signal],
    score: Score,
    end: Timestamp,
    position: Option<SourcePosition>,
    prediction: Option<Prediction>,
    exhaustion: Option<Exhaustion>,
    burn: Option<SlowBurn>,
    record: Option<(KindRecord, Worth)>,
}

impl EntityState {
    /// The entity does its job: is it odd, and is a failure probable?
    pub(super) fn judge(
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
        let mut shows: Vec<(Kind, &Signal)> = self.oddness.kinds().collect();
        self.shown.see(shows.iter().map(|(kind, _)| *kind), end);
        shows.retain(|(kind, _)| self.shown.is_fresh(*kind));
        let record = cx.records.of(&shows);
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
        // Where a model was learned from failures, it knows better.
        let foretells = cx.config.predictor.is_none() && matches!(record, Some((_, Worth::Foretells)));
        let begins = foretells && end >= self.watched_until;
        if foretells {
            // Which kinds are there changes from window to window.
            self.watched_until = end + cx.config.ledger_horizon_ms() / WATCHED_PART;
        }
        let is_watched = end < self.watched_until;
        let grade = if warned.is_told() {
            Some(Grade::Warning)
        } else if runs_out || burns || begins {
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
            record,
        };
        if !is_watched && !self.episode.is_open() && !self.forecaster.warns() && !self.exhausting && !self.burning {
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

    /// A grave line of a kind never seen: told where the budget has something left.
    pub(super) fn tell_news(&mut self, cx: &mut Surroundings<'_>, window: &EntityWindow) {
        // An open precursor gets it with its window, and is not told again for it.
        if !cx.fleet.news.take(window.end, cx.share) || self.precursor.is_some() {
            return;
        }
        let Some(signal) = window.signals.first() else { return };
        let now = Now {
            told: &window.signals,
            score: signal.score(),
            end: window.end,
            position: Some(window.position.clone()),
            prediction: None,
            exhaustion: None,
            burn: None,
            record: None,
        };
        self.watched_until = self.watched_until.max(window.end + NEWS_MS);
        self.open_precursor(cx, now, Grade::Info);
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
        incident.remember(now.record);
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
        incident.remember(now.record);
        let event = incident.event(&self.name, EventAction::Open, end, now.position);
        cx.events.push(as_precursor(event, &incident, None, None));
        cx.fleet.news.told();
        self.precursor = Some(incident);
    }

    pub(super) fn resolve_precursor(
        &mut self,
        cx: &mut Surroundings<'_>,
        why: Resolution,
        at: Timestamp,
        lead_s: Option<f64>,
    ) {
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
        self.ledger.resolved(&self.name, &incident, at, horizon_ms, cx.ledger);
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
