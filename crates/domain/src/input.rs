use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{Entity, Timestamp};

/// Labels as a decoder hands them over: borrowed from the record where it can, sorted by key, each key once.
pub type LabelPairs<'a> = [(Cow<'a, str>, Cow<'a, str>)];

/// What the format says about a metric; learned from the values where it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetricKind {
    /// A value that goes up and down.
    Gauge,
    /// A value that only goes up, but for resets to (near) zero.
    Counter,
}

/// One metric point, borrowed from the record that carried it.
#[derive(Clone, Debug)]
pub struct Sample<'a> {
    /// Metric name.
    pub name: &'a str,
    /// Sorted by key, each key once.
    pub labels: &'a LabelPairs<'a>,
    /// Event time; `None` where the record has none, and then the log's own timestamp counts.
    pub at: Option<Timestamp>,
    /// May be NaN or ±Inf: the source said so.
    pub value: f64,
    /// Where the format says.
    pub kind: Option<MetricKind>,
}

/// How grave the writer of a log line thought it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Finer than debug.
    Trace,
    /// For developers.
    Debug,
    /// Normal operation; also `notice`.
    Info,
    /// Unusual; also `warn`.
    Warning,
    /// Something failed.
    Error,
    /// The writer can't go on: FATAL, CRITICAL, ALERT, EMERGENCY, PANIC.
    Fatal,
}

/// One log line (or a joined trace), borrowed from the record that carried it.
#[derive(Clone, Debug)]
pub struct LogLine<'a> {
    /// Event time; `None` where the line has none, and then the log's own timestamp counts.
    pub at: Option<Timestamp>,
    /// The message without the envelope.
    pub message: &'a str,
    /// Where the line says.
    pub level: Option<Level>,
    /// Envelope fields that name the source (`host`, `pod`, `service`), sorted by key.
    pub labels: &'a LabelPairs<'a>,
}

/// What a decoder finds in a record; a record may hold many.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A metric point.
    Sample(Sample<'a>),
    /// A log line.
    Line(LogLine<'a>),
    /// A failure declared by somebody else: an alert manager, a pager, a person.
    Incident(crate::Incident),
}

impl Input<'_> {
    /// The value of a label, if this input carries labels and has it.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        let labels: &LabelPairs<'_> = match self {
            Self::Sample(s) => s.labels,
            Self::Line(l) => l.labels,
            Self::Incident(_) => return None,
        };
        labels.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_ref())
    }

    /// The entity this input names outright, which only incidents do.
    #[must_use]
    pub fn entity(&self) -> Option<&Entity> {
        match self {
            Self::Incident(i) => Some(&i.entity),
            _ => None,
        }
    }
}
