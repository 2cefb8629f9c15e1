use serde::{Deserialize, Serialize};

use crate::{
    Channel, Direction, Entity, Level, LogEvidence, Progress, Score, SeriesId, Tick, Timestamp, Upstream, Verdict,
};

/// Where a signal came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A metric series.
    Metric,
    /// A log template.
    Log,
}

/// The records of one input partition that something rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePosition {
    /// Input partition.
    pub upstream: Upstream,
    /// Offset of the first record.
    pub offset_first: i64,
    /// Offset of the last record.
    pub offset_last: i64,
}

/// One series' or template's surprise in one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// Metric or log.
    pub source: Source,
    /// Stable id: the series' id, the template's, or that of a place inside its lines, as 16 hex digits.
    pub id: Box<str>,
    /// For people: `name{label=value}` of the series, the template's text, or key and unit of what stands inside its lines.
    pub name: Box<str>,
    /// Unit, where the format says.
    pub unit: Option<Box<str>>,
    /// What the model says.
    pub verdict: Verdict,
    /// Since when the channel has been unusual: onset, not detection.
    pub onset: Timestamp,
    /// For log signals.
    pub log: Option<LogEvidence>,
    /// For broken relations: the series' share in it, in 0 ..= 1.
    pub share: Option<f64>,
}

/// What one series was in one window: all series of an entity together make the vector that relations are between.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VectorEntry {
    /// Which series.
    pub series: SeriesId,
    /// Mean of a gauge or rate of a counter, in the unit of the series. Single precision: relations are no finer.
    pub value: f32,
    /// `name{label=value}`; only at first and then from time to time, since it is longer than all else.
    pub name: Option<Box<str>>,
}

/// How often an entity wrote one log template in one window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateEntry {
    /// The template's id.
    pub id: u64,
    /// Lines.
    pub count: u32,
    /// Highest level of them.
    pub level: Option<Level>,
    /// Its text as far as that may be shown; only where the entity writes it for the first time.
    pub name: Option<Box<str>>,
}

impl Signal {
    /// Surprise of the signal.
    #[must_use]
    pub fn score(&self) -> Score {
        self.verdict.score
    }

    /// Kind of strangeness.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.verdict.channel
    }

    /// Which way.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.verdict.direction
    }
}

/// Something a declared failure rule asked the first stage to look out for, found in one window. `rule` is the rule's name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// Samples of a probe series in the window: how many said up and how many said down.
    Probe {
        /// Name of the rule.
        rule: Box<str>,
        /// The probe series, `name{label=value}`.
        series: Box<str>,
        /// Samples that said up.
        up: u32,
        /// Samples that said down.
        down: u32,
        /// Event time of the first sample that said down.
        first_down: Option<Timestamp>,
        /// Event time of the last sample that said up.
        last_up: Option<Timestamp>,
    },
    /// Increase of a counter over the window; resets are accounted for.
    Counter {
        /// Name of the rule.
        rule: Box<str>,
        /// Whether this counts errors (or what is good, where the rule counts that) or everything.
        errors: bool,
        /// Events in the window.
        increase: f64,
    },
    /// Log lines that matched a failure pattern or were fatal.
    Lines {
        /// Name of the rule.
        rule: Box<str>,
        /// How many.
        count: u32,
        /// Event time of the first.
        first_at: Timestamp,
        /// The first line, shortened to at most 512 bytes.
        sample: Box<str>,
    },
    /// A process ended where nobody asked for it.
    Process {
        /// Name of the rule.
        rule: Box<str>,
        /// The series that says so, `name{label=value}`.
        series: Box<str>,
        /// How many times in the window.
        count: u32,
        /// Event time of the sample that says so.
        at: Timestamp,
        /// Why, where the same window says; may be empty.
        cause: Box<str>,
    },
    /// A series with a heartbeat rule was heard.
    Heartbeat {
        /// Name of the rule.
        rule: Box<str>,
        /// The series, `name{label=value}`.
        series: Box<str>,
        /// Event time of its last sample.
        last_at: Timestamp,
    },
}

impl Fact {
    /// Name of the rule that asked for it.
    #[must_use]
    pub fn rule(&self) -> &str {
        match self {
            Self::Probe { rule, .. }
            | Self::Counter { rule, .. }
            | Self::Lines { rule, .. }
            | Self::Process { rule, .. }
            | Self::Heartbeat { rule, .. } => rule,
        }
    }
}

/// All that one input partition has to say of one entity in one window. Sent only where the entity was heard or is odd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EntityWindow {
    /// Which entity.
    pub entity: Entity,
    /// Start of the window, inclusive.
    pub start: Timestamp,
    /// End of the window, exclusive.
    pub end: Timestamp,
    /// The input records behind it.
    pub position: SourcePosition,
    /// Metric samples of the entity in the window.
    pub samples: u32,
    /// Log lines of the entity in the window.
    pub lines: u32,
    /// Series and templates that were scored: the number of tests among which `signals` are the surprising ones.
    pub tested: u32,
    /// Surprising ones, p below the gate, strangest first, capped.
    pub signals: Vec<Signal>,
    /// What the failure rules asked for.
    pub facts: Vec<Fact>,
    /// The entity's series in this partition, at most 64; empty where it has fewer than two.
    pub vector: Vec<VectorEntry>,
    /// Its log templates in this partition, at most 64, gravest first; empty unless a predictor is learned or asked.
    pub templates: Vec<TemplateEntry>,
}

/// A failure that somebody else declared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// What failed.
    pub entity: Entity,
    /// Free word of the declarer, such as `outage` or an alert's name.
    pub class: Box<str>,
    /// When it began.
    pub onset: Timestamp,
    /// When it ended; `None` while it lasts.
    pub end: Option<Timestamp>,
    /// What the declarer said of it.
    pub summary: Option<Box<str>>,
}

/// One record of the internal topic between the stages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalRecord {
    /// An entity's window; keyed by entity.
    Window(EntityWindow),
    /// A declared incident; keyed by entity.
    Incident {
        /// The incident.
        incident: Incident,
        /// Where it was read.
        position: SourcePosition,
    },
    /// An input partition's progress; sent to every signals partition.
    Progress(Progress),
    /// The clock; written by the owner of the signals partition.
    Tick(Tick),
    /// What can't wait for its window to close: the entity's window so far, with the one signal that is urgent, which comes
    /// again with the whole window; keyed by entity.
    Urgent(EntityWindow),
}
