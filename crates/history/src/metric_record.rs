//! A row of a table of metrics as a record of plain JSON: an array with a point for each metric.

use std::borrow::Cow;
use std::collections::BTreeMap;

use foreshock_domain::{ENTITY_LABEL, Timestamp};

use crate::dump::{TimedRecord, joined_key};

/// One row: its time, its labels that are not empty, and its metrics with NaN for what is missing.
pub struct MetricRecord<'a> {
    /// Event time.
    pub at: Timestamp,
    /// By name.
    pub labels: BTreeMap<&'a str, Cow<'a, str>>,
    /// Names and values.
    pub points: Vec<(Cow<'a, str>, f64)>,
}

impl MetricRecord<'_> {
    /// The record, its key the first of `key_labels` that it has, or the label `entity`.
    #[must_use]
    pub fn to_record(&self, key_labels: &[String]) -> TimedRecord {
        let labels = &self.labels;
        let key = joined_key(key_labels, &|name| labels.get(name).map(AsRef::as_ref));
        let key = key.or_else(|| labels.get(ENTITY_LABEL).map(|l| l.clone().into_owned()));
        // As text, since a number's unit is told by its size, which is wrong near 1970.
        let at = foreshock_wire::time::format_rfc3339(self.at);
        let point = |(name, value): &(Cow<'_, str>, f64)| {
            // What is missing is null in JSON, and NaN has no other form there.
            serde_json::json!({"timestamp": at, "name": name, "value": value, "labels": labels})
        };
        let points = self.points.iter().map(point).collect();
        TimedRecord {
            at: self.at,
            key: key.unwrap_or_default(),
            payload: serde_json::Value::Array(points).to_string().into_bytes(),
        }
    }
}
