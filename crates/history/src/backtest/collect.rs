//! What the engine wrote, gathered for the evaluation: episodes of precursors, failures it saw itself, and how surprised it was
//! before each labelled failure.

use std::collections::BTreeMap;

use foreshock_domain::{
    Channel, Entity, Event, EventAction, EventKind, Grade, IncidentId, Millis, SignalRecord, Source, Timestamp,
};
use foreshock_engine::{Destination, Moment, Output};
use foreshock_stats::harmonic_mean_surprise;
use foreshock_wire::{event, signals};

use crate::labels::Label;

/// Alerts kept of one episode: its opening and its first escalations.
const ALERTS_MAX: usize = 16;
/// Points kept of the time before one failure; more windows than that share points.
const POINTS_MAX: usize = 240;
/// Signals kept that were seen before one failure.
const SIGNALS_MAX: usize = 6;
/// Episodes kept; what comes after is counted only.
const EPISODES_MAX: usize = 200_000;
/// Predictions kept, for a reliability diagram.
const PREDICTIONS_MAX: usize = 5_000_000;
/// What is shown after a failure's onset, as a share of the horizon.
const AFTER: f64 = 0.1;

/// One time somebody would have been told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alert {
    /// When, in event time.
    pub at: Timestamp,
    /// How strange it was then: surprise, −log10 p; of warnings alone, how probable a failure was.
    pub score: f64,
    /// What it was worth.
    pub grade: Grade,
    /// Probability of a failure that it was told with.
    pub probability: Option<f64>,
}

/// What a precursor was told with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// Metric or template, without labels.
    pub name: String,
    /// What was odd about it.
    pub channel: String,
}

/// One precursor from its opening to its end.
#[derive(Clone, Debug)]
pub struct Episode {
    /// Whom it is about.
    pub entity: Entity,
    /// Its opening, then escalations; never empty.
    pub alerts: Vec<Alert>,
    /// When it was resolved, if it was.
    pub ended: Option<Timestamp>,
    /// The sentence it opened with.
    pub why: String,
    /// What contributed when it opened, most first.
    pub kinds: Vec<Kind>,
}

/// A failure that the engine saw by the configured rules.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Whom.
    pub entity: Entity,
    /// Class of the rule.
    pub class: String,
    /// Onset by the rule.
    pub onset: Timestamp,
    /// Its end, once resolved.
    pub end: Option<Timestamp>,
}

/// The time before one labelled failure.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// Time from the onset in milliseconds (negative before it), and the fused surprise of that window.
    pub points: Vec<(Millis, f64)>,
    /// Likewise, and the probability of a failure that was predicted then.
    pub probabilities: Vec<(Millis, f64)>,
    /// Strongest signals of that time: what, when first, at most how surprising; strongest first.
    pub signals: Vec<(Kind, Timestamp, f64)>,
}

/// Everything gathered.
#[derive(Debug, Default)]
pub struct Collected {
    /// Precursors in order of opening.
    pub episodes: Vec<Episode>,
    /// Failures by the engine's own rules.
    pub seen: Vec<Seen>,
    /// The time before each label, in their order.
    pub before: Vec<Before>,
    /// First and last window of each entity.
    pub spans: BTreeMap<Entity, (Timestamp, Timestamp)>,
    /// Episodes beyond what is kept.
    pub episodes_dropped: u64,
    /// What a model said of every window.
    pub predictions: Predictions,
}

/// Predictions of every window, as far as they are kept.
#[derive(Debug, Default)]
pub struct Predictions {
    /// Names by place.
    pub entities: Vec<Entity>,
    of: BTreeMap<Entity, u32>,
    /// Place of the entity, end of the window, probability.
    pub rows: Vec<(u32, Timestamp, f32)>,
    /// Rows beyond what is kept.
    pub dropped: u64,
}

impl Predictions {
    #[allow(clippy::cast_possible_truncation)] // a probability for a diagram
    fn take(&mut self, moment: Moment) {
        let Some(probability) = moment.probability else { return };
        if self.rows.len() >= PREDICTIONS_MAX {
            self.dropped += 1;
            return;
        }
        let next = u32::try_from(self.entities.len()).unwrap_or(u32::MAX);
        let place = *self.of.entry(moment.entity.clone()).or_insert(next);
        if place == next {
            self.entities.push(moment.entity);
        }
        self.rows.push((place, moment.at, probability as f32));
    }
}

impl Collected {
    /// The same of alerts of that grade or a higher one; warnings are ranked by the probability that they were told with.
    #[must_use]
    pub fn at_least(&self, grade: Grade) -> Self {
        let of = |e: &Episode| {
            let mut alerts: Vec<Alert> = e.alerts.iter().filter(|a| a.grade >= grade).copied().collect();
            if grade == Grade::Warning {
                for alert in &mut alerts {
                    alert.score = alert.probability.unwrap_or(0.0);
                }
            }
            (!alerts.is_empty()).then(|| Episode { alerts, ..e.clone() })
        };
        Self {
            episodes: self.episodes.iter().filter_map(of).collect(),
            seen: self.seen.clone(),
            before: self.before.clone(),
            spans: self.spans.clone(),
            episodes_dropped: self.episodes_dropped,
            predictions: Predictions::default(),
        }
    }
}

/// Gathers from outputs as they are committed.
pub struct Collector<'a> {
    labels: &'a [Label],
    /// Labels of each entity, by place.
    of_entity: BTreeMap<&'a str, Vec<usize>>,
    horizon_ms: Millis,
    open: BTreeMap<IncidentId, usize>,
    failing: BTreeMap<IncidentId, usize>,
    out: Collected,
}

impl<'a> Collector<'a> {
    /// For these failures, looking back as far as the horizon.
    #[must_use]
    pub fn new(labels: &'a [Label], horizon_ms: Millis) -> Self {
        let mut of_entity: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, label) in labels.iter().enumerate() {
            of_entity.entry(label.entity.as_str()).or_default().push(place);
        }
        Self {
            labels,
            of_entity,
            horizon_ms,
            open: BTreeMap::new(),
            failing: BTreeMap::new(),
            out: Collected {
                before: vec![Before::default(); labels.len()],
                ..Collected::default()
            },
        }
    }

    /// What was gathered.
    #[must_use]
    pub fn finish(self) -> Collected {
        self.out
    }

    /// Takes one output.
    pub fn take(&mut self, output: &Output) {
        match output.to {
            Destination::Anomalies | Destination::Failures => {
                // The engine's own bytes; the test of the schema holds that they can be read.
                if let Ok(event) = event::decode(&output.value) {
                    self.take_event(&event);
                }
            }
            Destination::Signals(_) => {
                if let Ok(SignalRecord::Window(window)) = signals::decode(&output.value) {
                    self.take_window(&window);
                }
            }
            Destination::Moments => {
                if let Ok(moment) = Moment::decode(&output.value) {
                    self.take_moment(moment);
                }
            }
            // The backtest judges alarms by the labels, and not by what was known live.
            Destination::Ledger | Destination::DeadLetters => {}
        }
    }

    fn take_moment(&mut self, moment: Moment) {
        if let Some(probability) = moment.probability {
            let apart_ms = self.span_ms() / POINTS_MAX as Millis;
            for place in self.of_entity.get(moment.entity.as_str()).into_iter().flatten() {
                let from_onset = moment.at - self.labels[*place].onset;
                if from_onset >= -self.horizon_ms && from_onset <= self.after_ms() {
                    add_point(
                        &mut self.out.before[*place].probabilities,
                        from_onset,
                        probability,
                        apart_ms,
                    );
                }
            }
        }
        self.out.predictions.take(moment);
    }

    /// What is shown after an onset.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // a few percent of a horizon
    fn after_ms(&self) -> Millis {
        (self.horizon_ms as f64 * AFTER) as Millis
    }

    fn span_ms(&self) -> Millis {
        self.horizon_ms + self.after_ms()
    }

    fn take_event(&mut self, event: &Event) {
        match (event.kind, event.action) {
            (EventKind::Precursor, EventAction::Open) => self.open_episode(event),
            (EventKind::Precursor, EventAction::Update) => {
                if let Some(episode) = self.open.get(&event.incident_id).map(|i| &mut self.out.episodes[*i])
                    && episode.alerts.len() < ALERTS_MAX
                {
                    episode.alerts.push(alert(event));
                }
            }
            (EventKind::Precursor, EventAction::Resolve) => {
                if let Some(place) = self.open.remove(&event.incident_id) {
                    self.out.episodes[place].ended = event.ended_at.or(Some(event.observed_at));
                }
            }
            (EventKind::Failure, EventAction::Open) => {
                self.failing.insert(event.incident_id, self.out.seen.len());
                let class = event.failure.as_ref().map_or("failure", |f| &*f.class);
                self.out.seen.push(Seen {
                    entity: event.entity.clone(),
                    class: class.to_owned(),
                    onset: event.started_at,
                    end: None,
                });
            }
            (EventKind::Failure, EventAction::Update) => {}
            (EventKind::Failure, EventAction::Resolve) => {
                if let Some(place) = self.failing.remove(&event.incident_id) {
                    self.out.seen[place].end = event.ended_at;
                }
            }
        }
    }

    fn open_episode(&mut self, event: &Event) {
        if self.out.episodes.len() >= EPISODES_MAX {
            self.out.episodes_dropped += 1;
            return;
        }
        self.open.insert(event.incident_id, self.out.episodes.len());
        let kinds = event.contributors.iter().map(|c| kind(c.source, &c.name, c.channel));
        let foreseen = event
            .precursor
            .iter()
            .flat_map(|p| &p.prediction)
            .flat_map(|p| &p.grounds);
        let foreseen = foreseen.map(|g| Kind {
            name: g.name.to_string(),
            channel: "prediction".into(),
        });
        self.out.episodes.push(Episode {
            entity: event.entity.clone(),
            alerts: vec![alert(event)],
            ended: None,
            why: event.why.clone(),
            kinds: kinds.chain(foreseen).collect(),
        });
    }

    fn take_window(&mut self, window: &foreshock_domain::EntityWindow) {
        let span = self.out.spans.entry(window.entity.clone());
        let span = span.or_insert((window.start, window.end));
        *span = (span.0.min(window.start), span.1.max(window.end));
        let Some(places) = self.of_entity.get(window.entity.as_str()) else {
            return;
        };
        let (after_ms, apart_ms) = (self.after_ms(), self.span_ms() / POINTS_MAX as Millis);
        for place in places {
            let from_onset = window.end - self.labels[*place].onset;
            if from_onset < -self.horizon_ms || from_onset > after_ms {
                continue;
            }
            let before = &mut self.out.before[*place];
            let surprises = window.signals.iter().map(|s| s.score().surprise());
            let surprise = harmonic_mean_surprise(surprises, window.tested);
            add_point(&mut before.points, from_onset, surprise, apart_ms);
            if from_onset <= 0 {
                for signal in &window.signals {
                    before.add_signal(
                        kind(signal.source, &signal.name, signal.channel()),
                        window.end,
                        signal.score().surprise(),
                    );
                }
            }
        }
    }
}

/// Windows closer together than `apart_ms`, also those of several inputs, share the point of the strangest.
fn add_point(points: &mut Vec<(Millis, f64)>, at: Millis, y: f64, apart_ms: Millis) {
    match points.last_mut() {
        Some(last) if (at - last.0).abs() < apart_ms.max(1) => last.1 = last.1.max(y),
        _ => points.push((at, y)),
    }
}

impl Before {
    fn add_signal(&mut self, kind: Kind, at: Timestamp, surprise: f64) {
        match self.signals.iter_mut().find(|s| s.0 == kind) {
            Some(known) => known.2 = known.2.max(surprise),
            None => self.signals.push((kind, at, surprise)),
        }
        self.signals.sort_by(|a, b| b.2.total_cmp(&a.2));
        self.signals.truncate(SIGNALS_MAX);
    }
}

fn alert(event: &Event) -> Alert {
    Alert {
        at: event.observed_at,
        score: event.score.surprise(),
        grade: event.precursor.as_ref().map_or(Grade::Info, |p| p.grade),
        probability: event
            .precursor
            .as_ref()
            .and_then(|p| Some(p.prediction.as_ref()?.probability)),
    }
}

/// `cpu{host=a}` of every host is the same kind of signal.
fn kind(source: Source, name: &str, channel: Channel) -> Kind {
    let name = match source {
        Source::Metric => name.split('{').next().unwrap_or(name),
        Source::Log => name,
    };
    let channel = serde_json::to_value(channel).ok();
    Kind {
        name: name.to_owned(),
        channel: channel.as_ref().and_then(|c| c.as_str()).unwrap_or_default().to_owned(),
    }
}
