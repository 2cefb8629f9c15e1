//! Plain JSON: `{"timestamp": …, "name": "…", "value": …, "labels": {…}}`.
//!
//! One object, an array of them, or several after each other in a record. `value` is a number, a boolean (0, 1), `null` (missing)
//! or text, which is how prometheus-kafka-adapter writes it, with `NaN`, `+Inf` and `-Inf`. `timestamp` is an epoch number or
//! text (see [`crate::time`]); without it the log's own timestamp counts. `type` may say `counter` or `gauge`. Other keys
//! are read over.

use std::borrow::Cow;
use std::ops::Range;

use foreshock_domain::{Input, MetricKind, Sample, Timestamp};
use serde::de::{Error, IgnoredAny, MapAccess};

use crate::decoder::Decoded;
use crate::error::DecodeError;
use crate::json::{Collect, Scalar, Text, documents, recycle};
use crate::labels::{Label, LabelsInto, bounded, settle};
use crate::time;

#[derive(Debug)]
struct Point<'a> {
    name: Cow<'a, str>,
    labels: Range<usize>,
    at: Option<Timestamp>,
    value: f64,
    kind: Option<MetricKind>,
}

/// The points of a record before they are handed on.
#[derive(Debug, Default)]
pub(crate) struct Points<'a> {
    points: Vec<Point<'a>>,
    labels: Vec<Label<'a>>,
    skipped: usize,
}

pub(crate) fn decode(
    scratch: &mut Points<'static>,
    payload: &[u8],
    sink: &mut dyn FnMut(Input<'_>),
) -> Result<Decoded, DecodeError> {
    let mut points: Points<'_> = std::mem::take(scratch);
    let read = documents(payload, &mut points);
    if read.is_ok() {
        for p in &points.points {
            sink(Input::Sample(Sample {
                name: &p.name,
                labels: &points.labels[p.labels.clone()],
                at: p.at,
                value: p.value,
                kind: p.kind,
            }));
        }
    }
    let decoded = Decoded {
        items: points.points.len(),
        skipped: points.skipped,
        ..Decoded::default()
    };
    *scratch = Points {
        points: recycle(points.points),
        labels: recycle(points.labels),
        skipped: 0,
    };
    read.map(|()| decoded)
}

impl<'de> Collect<'de> for Points<'de> {
    fn object<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        let start = self.labels.len();
        let (mut name, mut value, mut at, mut kind) = (None, None, None, None);
        while let Some(Text(key)) = map.next_key()? {
            match key.as_ref() {
                "name" => name = Some(metric_name::<A>(map.next_value()?)?),
                "value" => value = Some(sample_value::<A>(&map.next_value()?)?),
                "timestamp" => at = sample_time::<A>(&map.next_value()?)?,
                "type" => kind = metric_kind(&map.next_value()?),
                "labels" => {
                    self.labels.truncate(start);
                    map.next_value_seed(LabelsInto {
                        labels: &mut self.labels,
                        skipped: &mut self.skipped,
                    })?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let name = name.ok_or_else(|| A::Error::missing_field("name"))?;
        let value = value.ok_or_else(|| A::Error::missing_field("value"))?;
        let labels = settle(&mut self.labels, start);
        self.points.push(Point {
            name,
            labels,
            at,
            value,
            kind,
        });
        Ok(())
    }

    fn items(&self) -> usize {
        self.points.len()
    }
}

fn metric_name<'de, A: MapAccess<'de>>(found: Scalar<'de>) -> Result<Cow<'de, str>, A::Error> {
    match found {
        Scalar::Text(name) if !name.is_empty() => {
            bounded::<A::Error>(&name, "metric name")?;
            Ok(name)
        }
        other => Err(other.unexpected("a metric name")),
    }
}

fn sample_value<'de, A: MapAccess<'de>>(found: &Scalar<'de>) -> Result<f64, A::Error> {
    let value = match found {
        Scalar::Null => Some(f64::NAN),
        Scalar::Text(text) => parse_value(text),
        other => other.number(),
    };
    value.ok_or_else(|| found.unexpected("a number"))
}

/// A number in text, as Go and Prometheus write it. Digits that overflow are refused, as they are in a JSON number.
fn parse_value(text: &str) -> Option<f64> {
    let value: f64 = text.trim_ascii().parse().ok()?;
    (value.is_finite() || !text.bytes().any(|b| b.is_ascii_digit())).then_some(value)
}

/// A metric's time: `null` is none, what can't be read is refused, for a sample at a wrong time is worse than none.
pub(crate) fn sample_time<'de, A: MapAccess<'de>>(found: &Scalar<'de>) -> Result<Option<Timestamp>, A::Error> {
    match found {
        Scalar::Null => Ok(None),
        other => match time::from_scalar(other) {
            Some(at) => Ok(Some(at)),
            None => Err(other.unexpected("an epoch time or RFC 3339 from 1970 to 9999")),
        },
    }
}

fn metric_kind(found: &Scalar<'_>) -> Option<MetricKind> {
    match found {
        Scalar::Text(text) if text.eq_ignore_ascii_case("counter") => Some(MetricKind::Counter),
        Scalar::Text(text) if text.eq_ignore_ascii_case("gauge") => Some(MetricKind::Gauge),
        _ => None,
    }
}
