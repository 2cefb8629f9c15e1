use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Channel, Direction, Entity, Level, Score, Source, SourcePosition, Timestamp};

/// 128-bit hash that stays for the life of one incident; a replay gives the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IncidentId(pub u128);

/// 128-bit hash of one event of an incident; a replay gives the same, so a consumer can drop duplicates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EventId(pub u128);

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Which of the two topics an event goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// Unusual, may come before a failure: topic `anomalies`.
    Precursor,
    /// The service no longer does its job: topic `failures`.
    Failure,
}

/// What happens to the incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventAction {
    /// It begins.
    Open,
    /// Its grade or evidence changed.
    Update,
    /// It is over.
    Resolve,
}

/// How a pager should treat the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For the record.
    Info,
    /// Look at it in working hours.
    Warning,
    /// A failure.
    Error,
    /// A failure of an entity for which the user asked to be woken.
    Critical,
}

/// How much a precursor is worth; raised only by evidence from failure history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// Unusual, no known link to failures.
    Info,
    /// Its kind has preceded failures, or a bounded resource runs out within the horizon.
    Watch,
    /// Calibrated probability of failure above the threshold, early enough, inside the alarm budget.
    Warning,
}

/// Why a precursor was resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resolution {
    /// The entity failed: the precursor is confirmed.
    Confirmed,
    /// The failure had begun before the precursor was told: it was a symptom, not a warning.
    Symptom,
    /// Nothing unusual any more.
    Quiet,
    /// The entity fell silent and can't be judged.
    Silent,
    /// Planned work began: maintenance or a deploy.
    Mitigated,
}

/// What is known of the log lines behind a signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogEvidence {
    /// 16 hex digits.
    pub template_id: Box<str>,
    /// The template's text.
    pub template: Box<str>,
    /// Lines of the template in the window.
    pub count: u32,
    /// Lines of the template that the entity wrote before this window, as far as is remembered.
    #[serde(default)]
    pub seen: u64,
    /// When the entity first wrote one, this window included; `None` where that is not remembered.
    #[serde(default)]
    pub first_seen: Option<Timestamp>,
    /// How grave its writer thinks it is; `None` where lines do not say.
    #[serde(default)]
    pub level: Option<Level>,
    /// The first such line of the window as it was written, shortened; only where the source allows raw text to leave.
    #[serde(default)]
    pub example: Option<Box<str>>,
}

/// One signal's part in an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contributor {
    /// Metric or log.
    pub source: Source,
    /// Series or template id.
    pub id: Box<str>,
    /// For people.
    pub name: Box<str>,
    /// Kind of strangeness.
    pub channel: Channel,
    /// Which way.
    pub direction: Direction,
    /// Strongest surprise so far.
    pub score: Score,
    /// Observed, at the strongest.
    pub actual: f64,
    /// Expected, at the strongest.
    pub expected: f64,
    /// Lower end of the expected range.
    pub lower: f64,
    /// Upper end of the expected range.
    pub upper: f64,
    /// Since when this signal has been unusual.
    pub onset: Timestamp,
    /// For log signals.
    pub log: Option<LogEvidence>,
    /// For broken relations: the series' share in it, in 0 ..= 1.
    pub share: Option<f64>,
}

/// What only precursors have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrecursorDetail {
    /// How much it is worth.
    pub grade: Grade,
    /// Surprise at which it opened under the alarm budget.
    pub threshold: Score,
    /// Set when resolved.
    pub resolution: Option<Resolution>,
    /// Seconds between the precursor's first event and the failure's onset; set when confirmed.
    pub lead_s: Option<f64>,
    /// What the model learned from failures said when it was told last; `None` where no model is asked.
    pub prediction: Option<Prediction>,
    /// The bounded resource that runs out soonest, when it was told last.
    pub exhaustion: Option<Exhaustion>,
    /// The error budget that burns most, when it was told last.
    pub burn: Option<SlowBurn>,
    /// What became of earlier precursors of its kind; `None` where there are none whose fate is known.
    pub record: Option<KindRecord>,
}

/// What became of precursors of one kind, on any entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindRecord {
    /// Series or template that they have in common, without what names the entity.
    pub name: Box<str>,
    /// Those that a failure followed in time.
    pub right: u32,
    /// All whose fate is known.
    pub of: u32,
    /// Median time to the failure, in seconds; `None` where none came.
    pub lead_s: Option<f64>,
    /// How many times as many failures followed as chance has it, shrunk towards 1.
    pub lift: f64,
}

/// An error budget that burns too fast to last, and too slowly to be a failure yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlowBurn {
    /// Name of the rule.
    pub rule: Box<str>,
    /// How many times faster than the objective allows errors came over the window.
    pub rate: f64,
    /// From which rate on that is told.
    pub limit: f64,
    /// Length of the window in seconds.
    pub window_s: f64,
}

/// A bounded resource that runs out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exhaustion {
    /// `name{label=value}` of the series.
    pub name: Box<str>,
    /// Its value.
    pub value: f64,
    /// What it can't pass.
    pub limit: f64,
    /// Seconds until then, at the pace of now.
    pub in_s: f64,
}

/// How probable a failure is, by what was learned from failures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Calibrated probability of a failure within the horizon.
    pub probability: f64,
    /// How far ahead that looks, in seconds.
    pub horizon_s: f64,
    /// What speaks for it most, strongest first.
    pub grounds: Vec<PredictionGround>,
    /// What became of warnings like this one on the history that the model learned from; `None` below the threshold.
    pub record: Option<TrackRecord>,
}

/// One series or log template that speaks for a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictionGround {
    /// Its name without what names the entity.
    pub name: Box<str>,
    /// Its value in the window.
    pub value: f64,
    /// What is usual for this entity: mean less two spreads.
    pub lower: f64,
    /// Mean plus two spreads.
    pub upper: f64,
    /// What it adds to the log odds of a failure.
    pub odds: f64,
}

/// What became of warnings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackRecord {
    /// Those that a failure followed in time.
    pub right: u32,
    /// All of them.
    pub of: u32,
    /// Median time from warning to failure, in seconds.
    pub lead_s: f64,
}

/// A precursor that was open when an entity failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrecededBy {
    /// The precursor.
    pub incident_id: IncidentId,
    /// When it was first told.
    pub warned_at: Timestamp,
    /// Seconds from then to the failure's onset.
    pub lead_s: f64,
}

/// What only failures have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailureDetail {
    /// `heartbeat`, `probe`, `process`, `log`, `slo_burn`, `telemetry_lost` or the declarer's own word.
    pub class: Box<str>,
    /// Name of the rule that found it.
    pub rule: Box<str>,
    /// What the rule saw, for a person.
    pub evidence: Box<str>,
    /// Precursors that came before, strongest first.
    pub preceded_by: Vec<PrecededBy>,
}

/// What leaves the program: one step in the life of a precursor or a failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Precursor or failure.
    pub kind: EventKind,
    /// Open, update or resolve.
    pub action: EventAction,
    /// Of the incident.
    pub incident_id: IncidentId,
    /// Of this event.
    pub event_id: EventId,
    /// 0 for open, then 1, 2, …
    pub seq: u32,
    /// What is odd or failed.
    pub entity: Entity,
    /// Onset: since when.
    pub started_at: Timestamp,
    /// End of the window that made this event.
    pub observed_at: Timestamp,
    /// When it was over; set when resolved.
    pub ended_at: Option<Timestamp>,
    /// For pagers.
    pub severity: Severity,
    /// Surprise of the entity; 0 for failures without symptoms.
    pub score: Score,
    /// Precursors: why; failures: symptoms. Strongest first, capped.
    pub contributors: Vec<Contributor>,
    /// The input records that made this event.
    pub position: Option<SourcePosition>,
    /// One sentence for a person.
    pub why: String,
    /// Set for precursors.
    pub precursor: Option<PrecursorDetail>,
    /// Set for failures.
    pub failure: Option<FailureDetail>,
}
