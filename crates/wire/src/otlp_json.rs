//! OpenTelemetry logs as JSON: `{"resourceLogs": [{"resource": …, "scopeLogs": [{"logRecords": [{"body": …}]}]}]}`, as the
//! collector's Kafka exporter writes them.
//!
//! Attributes that name the source become labels, those of a record before those of its resource. Keys may be in camel or in
//! snake case.
//!
//! Fails on bodies that are lists: they are no message and are counted.
//!
//! Cost: the JSON parser's, and a small vector for each list; text borrows from the record.

use std::borrow::Cow;

use foreshock_domain::Level;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::DecodeError;
use crate::fields::{Found, Lines, Slot, TRACE, keep, place, place_dotted};
use crate::json::{Scalar, Text};
use crate::limits::ITEMS_MAX;
use crate::time;

/// Objects of any kind in one record; a megabyte of small lines has fewer.
const OBJECTS_MAX: usize = 1 << 16;

#[derive(Deserialize)]
#[serde(expecting = "an object with resourceLogs")]
struct Request<'a> {
    #[serde(borrow, rename = "resourceLogs", alias = "resource_logs")]
    resource_logs: Vec<ResourceLogs<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResourceLogs<'a> {
    #[serde(borrow)]
    resource: Option<Resource<'a>>,
    #[serde(borrow, rename = "scopeLogs", alias = "scope_logs")]
    scope_logs: Vec<ScopeLogs<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resource<'a> {
    #[serde(borrow)]
    attributes: Vec<KeyValue<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ScopeLogs<'a> {
    #[serde(borrow, rename = "logRecords", alias = "log_records")]
    log_records: Vec<LogRecord<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LogRecord<'a> {
    #[serde(borrow, rename = "timeUnixNano", alias = "time_unix_nano")]
    time: Option<Scalar<'a>>,
    #[serde(borrow, rename = "observedTimeUnixNano", alias = "observed_time_unix_nano")]
    observed: Option<Scalar<'a>>,
    #[serde(borrow, rename = "severityNumber", alias = "severity_number")]
    severity_number: Option<Scalar<'a>>,
    #[serde(borrow, rename = "severityText", alias = "severity_text")]
    severity_text: Option<Scalar<'a>>,
    #[serde(borrow)]
    body: Option<AnyValue<'a>>,
    #[serde(borrow)]
    attributes: Vec<KeyValue<'a>>,
    #[serde(borrow, rename = "traceId", alias = "trace_id")]
    trace_id: Option<Scalar<'a>>,
    #[serde(borrow, rename = "eventName", alias = "event_name")]
    event_name: Option<Scalar<'a>>,
}

#[derive(Deserialize)]
struct KeyValue<'a> {
    #[serde(borrow)]
    key: Text<'a>,
    #[serde(borrow, default)]
    value: Option<AnyValue<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AnyValue<'a> {
    #[serde(borrow, rename = "stringValue", alias = "string_value")]
    string: Option<Scalar<'a>>,
    #[serde(borrow, rename = "intValue", alias = "int_value")]
    int: Option<Scalar<'a>>,
    #[serde(rename = "boolValue", alias = "bool_value")]
    bool: Option<bool>,
    #[serde(borrow, rename = "doubleValue", alias = "double_value")]
    double: Option<Scalar<'a>>,
    #[serde(borrow, rename = "kvlistValue", alias = "kvlist_value")]
    map: Option<Map<'a>>,
    #[serde(rename = "arrayValue", alias = "array_value")]
    array: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Map<'a> {
    #[serde(borrow)]
    values: Vec<KeyValue<'a>>,
}

impl<'a> AnyValue<'a> {
    fn scalar(self) -> Scalar<'a> {
        let nested = (self.map.is_some() || self.array.is_some()).then_some(Scalar::Nested);
        let bool = self.bool.map(Scalar::Bool);
        (self.string.or(self.int).or(bool).or(self.double).or(nested)).unwrap_or(Scalar::Null)
    }
}

/// The level of OpenTelemetry's severity number: four to each, from 1.
pub(crate) const fn severity(number: u64) -> Option<Level> {
    Some(match number {
        1..=4 => Level::Trace,
        5..=8 => Level::Debug,
        9..=12 => Level::Info,
        13..=16 => Level::Warning,
        17..=20 => Level::Error,
        21..=24 => Level::Fatal,
        _ => return None,
    })
}

/// Reads a record into `lines`.
pub(crate) fn read<'a>(payload: &'a [u8], lines: &mut Lines<'a>) -> Result<(), DecodeError> {
    let payload = payload.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(payload).trim_ascii();
    if payload.is_empty() {
        return Err(DecodeError::new("empty record, expected a JSON object"));
    }
    // Counted before, since an empty object of two bytes becomes a structure of hundreds.
    if payload.iter().filter(|b| **b == b'{').count() > OBJECTS_MAX {
        return Err(DecodeError::new(&format!(
            "too many objects, expected at most {OBJECTS_MAX} a record"
        )));
    }
    for request in serde_json::Deserializer::from_slice(payload).into_iter::<Request<'_>>() {
        let request = request.map_err(|error| DecodeError::json(&error, (1, 1)))?;
        for logs in request.resource_logs {
            let mut resource = Found::default();
            for attribute in logs.resource.into_iter().flat_map(|r| r.attributes) {
                take_attribute(attribute, &mut resource);
            }
            for record in logs.scope_logs.into_iter().flat_map(|s| s.log_records) {
                lines.push(found(record, &resource));
                if lines.len() > ITEMS_MAX {
                    return Err(DecodeError::new(&format!(
                        "too many items, expected at most {ITEMS_MAX} a record"
                    )));
                }
            }
        }
    }
    Ok(())
}

fn found<'a>(record: LogRecord<'a>, resource: &Found<'a>) -> Found<'a> {
    let mut found = resource.clone();
    found.skipped = 0;
    for (rank, time) in [(0, record.time), (1, record.observed)] {
        let ns = match time {
            None | Some(Scalar::Null) => continue,
            Some(Scalar::Unsigned(n)) => Some(n),
            Some(Scalar::Signed(n)) => u64::try_from(n).ok(),
            Some(Scalar::Text(text)) => text.parse().ok(),
            Some(_) => None,
        };
        match ns {
            Some(0) => {}
            ns => match ns.and_then(time::from_nanos) {
                Some(at) => keep(&mut found.at, rank, at),
                None => found.skipped += 1,
            },
        }
    }
    let number = match &record.severity_number {
        Some(Scalar::Unsigned(n)) => severity(*n),
        Some(Scalar::Signed(n)) => u64::try_from(*n).ok().and_then(severity),
        // The enum's name, as protobuf's own JSON has it: SEVERITY_NUMBER_INFO2.
        Some(Scalar::Text(name)) => match name.parse() {
            Ok(n) => severity(n),
            Err(_) => name
                .strip_prefix("SEVERITY_NUMBER_")
                .and_then(|name| crate::level::parse_level(name.trim_end_matches(|c: char| c.is_ascii_digit()))),
        },
        _ => None,
    };
    match number {
        Some(level) => keep(&mut found.level, 0, level),
        None => {
            if let Some(Scalar::Text(text)) = record.severity_text.filter(|t| *t != Scalar::Text(Cow::Borrowed(""))) {
                found.take(Slot::Level, 1, Scalar::Text(text));
            }
        }
    }
    if let Some(id @ Scalar::Text(_)) = record.trace_id {
        found.take(TRACE, 0, id);
    }
    for attribute in record.attributes {
        take_attribute(attribute, &mut found);
    }
    if let Some(mut body) = record.body {
        if let Some(map) = body.map.take() {
            for entry in map.values {
                if let (Some((slot, rank)), Some(value)) = (place("", &entry.key.0), entry.value) {
                    // The record's own time and level go first.
                    found.take(slot, rank.saturating_add(10), value.scalar());
                }
            }
        } else {
            match body.scalar() {
                Scalar::Null => {}
                Scalar::Signed(n) => found.take(Slot::Message, 0, Scalar::Text(Cow::Owned(n.to_string()))),
                Scalar::Unsigned(n) => found.take(Slot::Message, 0, Scalar::Text(Cow::Owned(n.to_string()))),
                value => found.take(Slot::Message, 0, value),
            }
        }
    }
    if let Some(name @ Scalar::Text(_)) = record.event_name {
        found.take(Slot::Message, 20, name);
    }
    // Without a body a record says nothing: it is as an empty line.
    found.is_blank = true;
    found
}

/// An attribute that names the source becomes a label.
fn take_attribute<'a>(attribute: KeyValue<'a>, found: &mut Found<'a>) {
    if let (Some((slot @ Slot::Label(_), rank)), Some(value)) = (place_dotted(&attribute.key.0), attribute.value) {
        found.take(slot, rank, value.scalar());
    }
}

#[cfg(test)]
mod tests {
    use super::OBJECTS_MAX;
    use crate::decoder::decode_to_text;
    use crate::format::Format;

    /// One record of logs with these fields in its only log record.
    fn record(fields: &str) -> String {
        format!(
            r#"{{"resourceLogs":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"shop"}}}},{{"key":"k8s.pod.name","value":{{"stringValue":"p"}}}},{{"key":"process.pid","value":{{"intValue":"7"}}}}]}},"scopeLogs":[{{"scope":{{"name":"x"}},"logRecords":[{{{fields}}}]}}],"schemaUrl":"u"}}]}}"#
        )
    }

    #[test]
    fn records() {
        let cases = [
            (
                "usual",
                r#""timeUnixNano":"1769860800123456789","observedTimeUnixNano":"1769860800200000000","severityNumber":17,"severityText":"ERROR","body":{"stringValue":"it broke"},"attributes":[{"key":"http.status","value":{"intValue":500}}],"flags":1,"traceId":"5b8e","spanId":"eee1""#,
                "1769860800123 Error {pod=p,service=shop,trace_id=5b8e} it broke",
                0,
            ),
            (
                "only observed, numbers as numbers",
                r#""timeUnixNano":0,"observedTimeUnixNano":1769860800123456789,"severityNumber":"SEVERITY_NUMBER_WARN2","body":{"stringValue":"m"}"#,
                "1769860800123 Warning {pod=p,service=shop} m",
                0,
            ),
            (
                "text of the severity",
                r#""severityText":"Information","body":{"stringValue":"m"}"#,
                "- Info {pod=p,service=shop} m",
                0,
            ),
            (
                "map",
                r#""body":{"kvlistValue":{"values":[{"key":"msg","value":{"stringValue":"m"}},{"key":"level","value":{"stringValue":"warn"}}]}}"#,
                "- Warning {pod=p,service=shop} m",
                0,
            ),
            (
                "attribute before resource",
                r#""body":{"stringValue":"m"},"attributes":[{"key":"service.name","value":{"stringValue":"cart"}}]"#,
                "- - {pod=p,service=cart} m",
                0,
            ),
            ("number", r#""body":{"intValue":"7"}"#, "- - {pod=p,service=shop} 7", 0),
            (
                "event",
                r#""eventName":"device.started""#,
                "- - {pod=p,service=shop} device.started",
                0,
            ),
            (
                "broken time",
                r#""timeUnixNano":"soon","severityNumber":99,"body":{"stringValue":"m"}"#,
                "- - {pod=p,service=shop} m",
                1,
            ),
        ];
        for (name, fields, expected, skipped) in cases {
            let (decoded, items) =
                decode_to_text(Format::OtlpJson, record(fields).as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(items, [expected], "{name}");
            assert_eq!(decoded.skipped, skipped, "{name}");
        }
    }

    #[test]
    fn nothing_in_it() {
        for empty in [r#"{"resourceLogs":[]}"#, r#"{"resourceLogs":[{"scopeLogs":[]}]}"#] {
            assert_eq!(
                decode_to_text(Format::OtlpJson, empty.as_bytes()).unwrap().0.items,
                0,
                "{empty}"
            );
        }
        for blank in [r#""body":null"#, r#""body":{"arrayValue":{"values":[]}}"#, ""] {
            let decoded = decode_to_text(Format::OtlpJson, record(blank).as_bytes()).unwrap().0;
            assert_eq!((decoded.items, decoded.empty), (0, 1), "{blank}");
        }
        let flood = format!(
            r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{}{{}}]}}]}}]}}"#,
            "{},".repeat(OBJECTS_MAX)
        );
        let error = decode_to_text(Format::OtlpJson, flood.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "too many objects, expected at most 65536 a record");
        let cases = [
            ("{}", "missing field `resourceLogs` at line 1 byte 2"),
            ("", "empty record, expected a JSON object"),
            (
                "7",
                "invalid type: integer `7`, expected an object with resourceLogs at line 1 byte 1",
            ),
        ];
        for (payload, expected) in cases {
            let error = decode_to_text(Format::OtlpJson, payload.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), expected, "{payload}");
        }
    }
}
