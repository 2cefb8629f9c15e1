//! Telegraf's `json` output: `{"fields": {…}, "name": "cpu", "tags": {…}, "timestamp": 1458229140}`, or a batch of these
//! under `metrics`.
//!
//! Each numeric field is a sample of the series `<measurement>_<field>`, as Telegraf's own Prometheus output names it; the
//! field `value` is the measurement itself. Booleans are 0 and 1; text and nested fields are counted as skipped. The unit of
//! `timestamp` is told by its size (see [`crate::time`]). Field names may hold any character.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use foreshock_domain::{Input, Sample, Timestamp};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use crate::decoder::Decoded;
use crate::error::DecodeError;
use crate::json::{Collect, Many, Scalar, Text, documents, recycle};
use crate::labels::{Label, LabelsInto, bounded, settle};
use crate::limits::{ITEMS_MAX, NAME_BYTES_MAX};
use crate::plain_json::sample_time;

/// The field whose series is named by the measurement alone.
const VALUE_FIELD: &str = "value";

#[derive(Debug)]
struct Metric<'a> {
    measurement: Cow<'a, str>,
    at: Option<Timestamp>,
    tags: Range<usize>,
    fields: Range<usize>,
}

/// The metrics of a record before they are handed on.
#[derive(Debug, Default)]
pub(crate) struct Metrics<'a> {
    metrics: Vec<Metric<'a>>,
    fields: Vec<(Cow<'a, str>, f64)>,
    tags: Vec<Label<'a>>,
    skipped: usize,
    /// Inside `metrics`, where no other batch may be.
    batch: bool,
    /// Where a series' name is put together.
    name: String,
}

pub(crate) fn decode(
    scratch: &mut Metrics<'static>,
    payload: &[u8],
    sink: &mut dyn FnMut(Input<'_>),
) -> Result<Decoded, DecodeError> {
    let mut all: Metrics<'_> = std::mem::take(scratch);
    let read = documents(payload, &mut all);
    let decoded = Decoded {
        items: all.fields.len(),
        skipped: all.skipped,
        ..Decoded::default()
    };
    if read.is_ok() {
        for metric in &all.metrics {
            for (field, value) in &all.fields[metric.fields.clone()] {
                let labels = &all.tags[metric.tags.clone()];
                let name = series_name(&mut all.name, &metric.measurement, field);
                sink(Input::Sample(Sample {
                    name,
                    labels,
                    at: metric.at,
                    value: *value,
                    kind: None,
                }));
            }
        }
    }
    *scratch = Metrics {
        metrics: recycle(all.metrics),
        fields: recycle(all.fields),
        tags: recycle(all.tags),
        name: all.name,
        ..Metrics::default()
    };
    read.map(|()| decoded)
}

fn series_name<'n>(scratch: &'n mut String, measurement: &'n str, field: &str) -> &'n str {
    if field == VALUE_FIELD {
        return measurement;
    }
    scratch.clear();
    scratch.push_str(measurement);
    scratch.push('_');
    scratch.push_str(field);
    scratch
}

impl<'de> Collect<'de> for Metrics<'de> {
    fn object<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        let (first_field, first_tag) = (self.fields.len(), self.tags.len());
        let (mut name, mut at, mut was_batch) = (None, None, false);
        while let Some(Text(key)) = map.next_key()? {
            match key.as_ref() {
                "name" => name = Some(measurement::<A>(map.next_value()?)?),
                "timestamp" => at = sample_time::<A>(&map.next_value()?)?,
                "fields" => {
                    self.fields.truncate(first_field);
                    map.next_value_seed(FieldsInto(&mut *self))?;
                }
                "tags" => {
                    self.tags.truncate(first_tag);
                    map.next_value_seed(LabelsInto {
                        labels: &mut self.tags,
                        skipped: &mut self.skipped,
                    })?;
                }
                "metrics" if !self.batch && name.is_none() && first_field == self.fields.len() => {
                    (was_batch, self.batch) = (true, true);
                    map.next_value_seed(Many(&mut *self))?;
                    self.batch = false;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if was_batch {
            return Ok(());
        }
        let measurement = name.ok_or_else(|| A::Error::missing_field("name"))?;
        for (field, _) in &self.fields[first_field..] {
            if measurement.len() + 1 + field.len() > NAME_BYTES_MAX && field != VALUE_FIELD {
                return Err(A::Error::custom(format_args!(
                    "series name of {} bytes, expected at most {NAME_BYTES_MAX}",
                    measurement.len() + 1 + field.len()
                )));
            }
        }
        let tags = settle(&mut self.tags, first_tag);
        self.metrics.push(Metric {
            measurement,
            at,
            tags,
            fields: first_field..self.fields.len(),
        });
        Ok(())
    }

    fn items(&self) -> usize {
        // Metrics count as well, so that a record of metrics without fields is bounded too.
        self.fields.len().max(self.metrics.len())
    }
}

fn measurement<'de, A: MapAccess<'de>>(found: Scalar<'de>) -> Result<Cow<'de, str>, A::Error> {
    match found {
        Scalar::Text(name) if !name.is_empty() => {
            bounded::<A::Error>(&name, "measurement")?;
            Ok(name)
        }
        other => Err(other.unexpected("a measurement's name")),
    }
}

/// Reads the object of fields.
struct FieldsInto<'s, 'de>(&'s mut Metrics<'de>);

impl<'de> DeserializeSeed<'de> for FieldsInto<'_, 'de> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FieldsInto<'_, 'de> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of fields")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let start = self.0.fields.len();
        while let Some(Text(key)) = map.next_key()? {
            match map.next_value::<Scalar<'_>>()?.number() {
                Some(value) if !key.is_empty() => {
                    bounded::<A::Error>(&key, "field name")?;
                    self.0.fields.push((key, value));
                }
                _ => self.0.skipped += 1,
            }
            if self.0.fields.len() > ITEMS_MAX {
                return Err(A::Error::custom(format_args!(
                    "too many items, expected at most {ITEMS_MAX} a record"
                )));
            }
        }
        settle(&mut self.0.fields, start);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::decoder::decode_to_text;
    use crate::format::Format;

    #[test]
    fn records() {
        let cases: [(&str, &str, &[&str], usize); 10] = [
            (
                "one metric",
                r#"{"fields":{"usage_idle":97.1,"usage_user":2},"name":"cpu","tags":{"host":"a","cpu":"cpu0"},"timestamp":1458229140}"#,
                &[
                    "cpu_usage_idle{cpu=cpu0,host=a} 97.1 at 1458229140000",
                    "cpu_usage_user{cpu=cpu0,host=a} 2 at 1458229140000",
                ],
                0,
            ),
            (
                "batch",
                r#"{"metrics":[{"fields":{"a":1},"name":"m","tags":{"t":"1"},"timestamp":1},{"fields":{"b":2},"name":"n","tags":{},"timestamp":2}]}"#,
                &["m_a{t=1} 1 at 1000", "n_b{} 2 at 2000"],
                0,
            ),
            (
                "the field value",
                r#"{"fields":{"value":1},"name":"m","timestamp":1}"#,
                &["m{} 1 at 1000"],
                0,
            ),
            (
                "milliseconds",
                r#"{"fields":{"a":1},"name":"m","timestamp":1458229140123}"#,
                &["m_a{} 1 at 1458229140123"],
                0,
            ),
            (
                "microseconds",
                r#"{"fields":{"a":1},"name":"m","timestamp":1458229140123456}"#,
                &["m_a{} 1 at 1458229140123"],
                0,
            ),
            (
                "nanoseconds",
                r#"{"fields":{"a":1},"name":"m","timestamp":1458229140123456789}"#,
                &["m_a{} 1 at 1458229140123"],
                0,
            ),
            (
                "kinds of field",
                r#"{"fields":{"b":true,"c":false,"i":-9223372036854775808,"n":null,"o":{},"s":"x","u":18446744073709551615},"name":"m"}"#,
                &[
                    "m_b{} 1 at -",
                    "m_c{} 0 at -",
                    "m_i{} -9223372036854776000 at -",
                    "m_u{} 18446744073709552000 at -",
                ],
                3,
            ),
            (
                "last of equal fields",
                r#"{"fields":{"b":1,"a":2,"b":3},"name":"m"}"#,
                &["m_a{} 2 at -", "m_b{} 3 at -"],
                0,
            ),
            ("only text", r#"{"fields":{"s":"x"},"name":"m"}"#, &[], 1),
            ("no fields", r#"{"name":"m"}"#, &[], 0),
        ];
        for (name, payload, expected, skipped) in cases {
            let (decoded, items) =
                decode_to_text(Format::TelegrafJson, payload.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(items, expected, "{name}");
            assert_eq!(decoded.skipped, skipped, "{name}");
        }
    }

    #[test]
    fn refusals() {
        let half = "x".repeat(200);
        let fields: Vec<String> = (0..10_001).map(|i| format!("\"f{i}\":1")).collect();
        let cases = [
            ("no name", r#"{"fields":{"a":1}}"#.to_owned(), "missing field `name`"),
            (
                "number as name",
                r#"{"fields":{"a":1},"name":1}"#.to_owned(),
                "invalid value: integer `1`, expected a measurement",
            ),
            (
                "fields are no object",
                r#"{"fields":[1],"name":"m"}"#.to_owned(),
                "invalid type: sequence, expected an object of fields",
            ),
            (
                "bad time",
                r#"{"fields":{"a":1},"name":"m","timestamp":"x"}"#.to_owned(),
                "invalid value: string \"x\", expected an epoch",
            ),
            (
                "long series",
                format!(r#"{{"fields":{{"{half}":1}},"name":"{half}"}}"#),
                "series name of 401 bytes, expected at most 256",
            ),
            (
                "many fields",
                format!(r#"{{"fields":{{{}}},"name":"m"}}"#, fields.join(",")),
                "too many items, expected at most 10000",
            ),
            (
                "many empty metrics",
                format!(r#"{{"metrics":[{}]}}"#, vec![r#"{"name":"m"}"#; 10_001].join(",")),
                "too many items",
            ),
            (
                "batch in a batch",
                r#"{"metrics":[{"metrics":[{"name":"m"}]}]}"#.to_owned(),
                "missing field `name`",
            ),
        ];
        for (name, payload, expected) in cases {
            let error = decode_to_text(Format::TelegrafJson, payload.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(expected), "{name}: {error}");
        }
    }
}
