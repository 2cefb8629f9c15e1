//! What a backtest comes to: the terms, and the figures as they stand in the JSON.

use std::collections::BTreeMap;

use foreshock_domain::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// Two-sided 95 % of a normal distribution.
const Z95: f64 = 1.959_964;

/// What counts.
#[derive(Clone, Debug)]
pub struct Terms {
    /// A warning is worth nothing closer to the failure than this, unless the label says better.
    pub lead_ms: Millis,
    /// A warning foretells failures up to this far ahead.
    pub horizon_ms: Millis,
    /// Alerts and failures before this are not scored: the models were learning.
    pub from: Timestamp,
    /// Classes that nobody can foretell: in the table of classes, and in no total.
    pub apart: Vec<String>,
    /// Asked: false alarms a day.
    pub budget_per_day: f64,
}

/// A share with its 95 % interval (Wilson, JASA 22, 1927).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// How many.
    pub hits: usize,
    /// Of how many.
    pub of: usize,
    /// `hits / of`; `None` of none.
    pub share: Option<f64>,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Share {
    /// Of counts.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts far below 2^53
    pub fn new(hits: usize, of: usize) -> Self {
        if of == 0 {
            return Self {
                high: 1.0,
                ..Self::default()
            };
        }
        let (n, p) = (of as f64, hits as f64 / of as f64);
        let z2 = Z95 * Z95;
        let middle = p + z2 / (2.0 * n);
        let half = Z95 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
        Self {
            hits,
            of,
            share: Some(p),
            low: ((middle - half) / (1.0 + z2 / n)).max(0.0),
            high: ((middle + half) / (1.0 + z2 / n)).min(1.0),
        }
    }
}

/// What became of an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A failure followed in time.
    True,
    /// A failure followed sooner than the minimum lead.
    Late,
    /// It opened inside a failure.
    Symptom,
    /// The data ends before its horizon does.
    Unknown,
    /// No failure followed.
    False,
}

/// One failure and how it was foretold.
#[derive(Clone, Debug, Serialize)]
pub struct FailureRow {
    /// Whom.
    pub entity: String,
    /// Class as labelled.
    pub class: String,
    /// Onset in RFC 3339.
    pub onset: String,
    /// Place among the labels.
    #[serde(skip)]
    pub label: usize,
    /// Seconds from the first hit to the onset; `None` where it was missed.
    pub lead_s: Option<f64>,
    /// It was warned of, but later than the minimum lead.
    pub late: bool,
    /// The engine's own rules saw it.
    pub seen: bool,
    /// Strangest window within the horizon before it, surprise.
    pub peak: f64,
    /// The sentence of the warning, where there was one.
    pub why: Option<String>,
}

/// The failures of one class.
#[derive(Clone, Debug, Serialize)]
pub struct ClassRow {
    /// Its name.
    pub class: String,
    /// In no total.
    pub apart: bool,
    /// Failures foretold in time.
    pub recall: Share,
    /// Median lead of those, in seconds.
    pub lead_s_median: Option<f64>,
    /// Failures that the engine's own rules saw.
    pub seen: Share,
}

/// One kind of signal and what followed it.
#[derive(Clone, Debug, Serialize)]
pub struct KindRow {
    /// Metric or template.
    pub name: String,
    /// What was odd.
    pub channel: String,
    /// Episodes with it that a failure followed.
    pub before_failure: usize,
    /// Episodes with it that none followed.
    pub before_nothing: usize,
}

/// The same alerts, those below a surprise left out.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CurvePoint {
    /// Surprise from which an alert counts.
    pub threshold: f64,
    /// Share of failures foretold.
    pub recall: f64,
    /// Share of episodes that are true.
    pub precision: f64,
    /// False episodes a day.
    pub false_per_day: f64,
}

/// What an evaluation says.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// First and last time of the scored part in RFC 3339.
    pub scored: (String, String),
    /// Its length in days.
    pub days: f64,
    /// Entities seen.
    pub entities: usize,
    /// Minimum lead in seconds.
    pub lead_s_min: f64,
    /// Horizon in seconds.
    pub horizon_s: f64,
    /// Failures foretold in time.
    pub recall: Share,
    /// Episodes that a failure followed.
    pub precision: Share,
    /// False episodes a day in the whole deployment.
    pub false_per_day: f64,
    /// False episodes a day and entity, of the time in which no failure was near.
    pub false_per_entity_day: f64,
    /// What was asked for.
    pub budget_per_day: f64,
    /// Leads of the failures foretold in seconds: 10 %, 50 %, 90 %.
    pub lead_s: Option<(f64, f64, f64)>,
    /// All leads, ascending, in seconds.
    pub leads_s: Vec<f64>,
    /// Recall that the same alerts reach by chance.
    pub chance_recall: f64,
    /// Share of the shifted records that reach the recall or more: the p-value of its being chance.
    pub chance_p: f64,
    /// Episodes by what became of them.
    pub outcomes: BTreeMap<&'static str, usize>,
    /// By class of failure, totals first.
    pub classes: Vec<ClassRow>,
    /// By failure, in order of onset.
    pub failures: Vec<FailureRow>,
    /// What alerts are ranked by: `surprise` or `probability`.
    pub ranked_by: &'static str,
    /// By threshold, ascending.
    pub curve: Vec<CurvePoint>,
    /// By kind of signal, those before failures first.
    pub kinds: Vec<KindRow>,
    /// Labels left out: before the scored part or the data, or of an entity that the data does not have.
    pub left_out: LeftOut,
}

/// Labels that could not be scored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Rows that were part of another failure.
    pub merged: usize,
    /// Began before the scored part, or before the entity was first seen.
    pub before: usize,
    /// Began after the data.
    pub after: usize,
    /// Of entities that the data does not have, by name; at most ten.
    pub unknown: Vec<String>,
    /// How many those are.
    pub unknown_count: usize,
}
