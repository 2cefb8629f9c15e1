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

#[cfg(test)]
mod tests {
    use crate::decoder::decode_to_text;
    use crate::format::Format;

    #[test]
    fn records() {
        let cases: [(&str, &str, &[&str]); 17] = [
            (
                "prometheus-kafka-adapter",
                r#"{"timestamp":"1970-01-01T19:29:39.333Z","value":"9876543210","name":"up","labels":{"__name__":"up","label1":"value1","job":"x"}}"#,
                &["up{job=x,label1=value1} 9876543210 at 70179333"],
            ),
            (
                "numbers",
                r#"{"timestamp":1458229140,"name":"a","value":-1.5e3}"#,
                &["a{} -1500 at 1458229140000"],
            ),
            ("no time", r#"{"name":"a","value":1}"#, &["a{} 1 at -"]),
            (
                "null time",
                r#"{"name":"a","value":1,"timestamp":null}"#,
                &["a{} 1 at -"],
            ),
            ("NaN", r#"{"name":"a","value":"NaN"}"#, &["a{} NaN at -"]),
            ("+Inf", r#"{"name":"a","value":"+Inf"}"#, &["a{} inf at -"]),
            ("-Inf", r#"{"name":"a","value":"-Inf"}"#, &["a{} -inf at -"]),
            ("null is missing", r#"{"name":"a","value":null}"#, &["a{} NaN at -"]),
            ("boolean", r#"{"name":"a","value":true}"#, &["a{} 1 at -"]),
            (
                "array",
                r#"[{"name":"a","value":1},{"name":"b","value":2}]"#,
                &["a{} 1 at -", "b{} 2 at -"],
            ),
            ("empty array", "[]", &[]),
            (
                "lines",
                "{\"name\":\"a\",\"value\":1}\r\n\r\n{\"name\":\"b\",\"value\":2}\n",
                &["a{} 1 at -", "b{} 2 at -"],
            ),
            (
                "byte order mark",
                "\u{feff}{\"name\":\"a\",\"value\":1}",
                &["a{} 1 at -"],
            ),
            (
                "last of equal keys",
                r#"{"name":"a","name":"b","value":1,"value":2,"labels":{"x":"1"},"labels":{"y":"1","y":"2"}}"#,
                &["b{y=2} 2 at -"],
            ),
            (
                "labels of any kind",
                r#"{"name":"a","value":1,"labels":{"n":1,"f":0.5,"b":false,"z":null,"e":"","o":{"p":[]}}}"#,
                &["a{b=false,f=0.5,n=1} 1 at -"],
            ),
            (
                "escapes",
                r#"{"n\u0061me":"\u00e9","value":1,"labels":{"a":"x\ny"}}"#,
                &["é{a=x\ny} 1 at -"],
            ),
            (
                "unknown keys and kind",
                r#"{"name":"a","x":{"y":[1,{}]},"value":1,"type":"COUNTER"}"#,
                &["a{} 1 at - Counter"],
            ),
        ];
        for (name, payload, expected) in cases {
            let (_, items) =
                decode_to_text(Format::PlainJson, payload.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(items, expected, "{name}");
        }
    }

    #[test]
    fn mistakes_are_found_where_they_are() {
        let good = r#"{"name":"a","value":1}"#;
        let cases = [
            ("first", "{\"value\":1}".to_owned(), (1, 11)),
            ("same line", format!("{good} {{\"value\":1}}"), (1, 34)),
            ("next line", format!("{good}\n{{\"value\":1}}"), (2, 11)),
            (
                "inside a later document",
                format!("\n{good}\n{{\n\"value\":1}}\n"),
                (4, 10),
            ),
            ("not UTF-8", String::new(), (2, 3)),
        ];
        for (name, payload, expected) in cases {
            let payload = if payload.is_empty() {
                b"{}\n{\"\xFF\":1}".to_vec()
            } else {
                payload.into_bytes()
            };
            let error = decode_to_text(Format::PlainJson, &payload).unwrap_err();
            assert_eq!(error.place(), Some(expected), "{name}: {error}");
        }
    }

    #[test]
    fn refusals() {
        let long = "x".repeat(257);
        let many: Vec<String> = (0..65).map(|i| format!("\"l{i}\":\"v\"")).collect();
        let cases = [
            (
                "no name",
                r#"{"value":1}"#.to_owned(),
                "missing field `name` at line 1 byte 11",
            ),
            (
                "no value",
                r#"{"name":"a"}"#.to_owned(),
                "missing field `value` at line 1 byte 12",
            ),
            (
                "empty name",
                r#"{"name":"","value":1}"#.to_owned(),
                "invalid value: string \"\", expected a metric name",
            ),
            (
                "text",
                r#"{"name":"a","value":"high"}"#.to_owned(),
                "invalid value: string \"high\", expected a number",
            ),
            (
                "empty text",
                r#"{"name":"a","value":""}"#.to_owned(),
                "invalid value: string \"\", expected a number",
            ),
            (
                "overflow in text",
                r#"{"name":"a","value":"1e999"}"#.to_owned(),
                "invalid value: string \"1e999\", expected a number",
            ),
            (
                "overflow",
                r#"{"name":"a","value":1e999}"#.to_owned(),
                "number out of range",
            ),
            (
                "object",
                r#"{"name":"a","value":{}}"#.to_owned(),
                "invalid value: an array or object, expected a number",
            ),
            (
                "bad time",
                r#"{"name":"a","value":1,"timestamp":"soon"}"#.to_owned(),
                "invalid value: string \"soon\", expected an epoch time",
            ),
            (
                "time before 1970",
                r#"{"name":"a","value":1,"timestamp":-1}"#.to_owned(),
                "invalid value: integer `-1`, expected an epoch time",
            ),
            (
                "labels are no object",
                r#"{"name":"a","value":1,"labels":"x"}"#.to_owned(),
                "invalid type: string \"x\", expected an object of labels",
            ),
            (
                "long name",
                format!(r#"{{"name":"{long}","value":1}}"#),
                "metric name of 257 bytes, expected at most 256",
            ),
            (
                "long label",
                format!(r#"{{"name":"a","value":1,"labels":{{"a":"{long}"}}}}"#),
                "label value of 257 bytes, expected at most 256",
            ),
            (
                "many labels",
                format!(r#"{{"name":"a","value":1,"labels":{{{}}}}}"#, many.join(",")),
                "too many labels, expected at most 64",
            ),
            (
                "many items",
                format!("[{}]", vec![r#"{"name":"a","value":1}"#; 10_001].join(",")),
                "too many items, expected at most 10000",
            ),
            (
                "many documents",
                r#"{"name":"a","value":1}"#.repeat(10_001),
                "too many items, expected at most 10000",
            ),
            (
                "trailing garbage",
                r#"{"name":"a","value":1} x"#.to_owned(),
                "expected value at line 1",
            ),
        ];
        for (name, payload, expected) in cases {
            let error = decode_to_text(Format::PlainJson, payload.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(expected), "{name}: {error}");
        }
    }
}
