//! OpenTelemetry logs as JSON: `{"resourceLogs": [{"resource": …, "scopeLogs": [{"logRecords": [{"body": …}]}]}]}`, as the
//! collector's Kafka exporter writes them.
//!
//! Attributes that name the source become labels, those of a record before those of its resource. Keys may be in camel or in
//! snake case.
//!
//! Fails on bodies that are lists: they are no message and are counted.
//!
//! Cost: the JSON parser's, and a small vector for each list; text borrows from the record. Of attributes that name no source the
//! values are read over and not kept.

use std::borrow::Cow;
use std::fmt;

use foreshock_domain::Level;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::DecodeError;
use crate::fields::{Found, Lines, Slot, TRACE, keep, place, place_dotted};
use crate::json::{self, Scalar, Text};
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
    attributes: Attributes<'a>,
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
    attributes: Attributes<'a>,
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

/// The one scalar of a value, with its rank where a writer gave several, and its map.
#[derive(Default)]
struct AnyValue<'a> {
    scalar: Option<(u8, Scalar<'a>)>,
    map: Option<Map<'a>>,
}

#[derive(Deserialize)]
#[serde(field_identifier)]
enum AnyField {
    #[serde(rename = "stringValue", alias = "string_value")]
    String,
    #[serde(rename = "intValue", alias = "int_value")]
    Int,
    #[serde(rename = "boolValue", alias = "bool_value")]
    Bool,
    #[serde(rename = "doubleValue", alias = "double_value")]
    Double,
    #[serde(rename = "kvlistValue", alias = "kvlist_value")]
    Map,
    #[serde(rename = "arrayValue", alias = "array_value")]
    Array,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for AnyValue<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = AnyValue<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AnyValue<'de>, A::Error> {
                let mut value = AnyValue::default();
                while let Some(field) = map.next_key()? {
                    let (rank, scalar) = match field {
                        AnyField::String => (0, map.next_value::<Option<Scalar<'de>>>()?),
                        AnyField::Int => (1, map.next_value()?),
                        AnyField::Bool => (2, map.next_value::<Option<bool>>()?.map(Scalar::Bool)),
                        AnyField::Double => (3, map.next_value()?),
                        AnyField::Map => {
                            value.map = map.next_value()?;
                            (4, value.map.as_ref().map(|_| Scalar::Nested))
                        }
                        AnyField::Array => (4, map.next_value::<Option<IgnoredAny>>()?.map(|_| Scalar::Nested)),
                        AnyField::Other => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    if let Some(scalar) = scalar {
                        keep(&mut value.scalar, rank, scalar);
                    }
                }
                Ok(value)
            }
        }
        d.deserialize_map(Fields)
    }
}

/// Attributes that name the source, each as the label that it becomes.
#[derive(Default)]
struct Attributes<'a>(Vec<(Slot, u8, Scalar<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Attributes<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Attributes<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Attributes<'de>, A::Error> {
                let mut all = Vec::new();
                while let Some(kept) = seq.next_element_seed(Attribute)? {
                    all.extend(kept);
                }
                Ok(Attributes(all))
            }
        }
        d.deserialize_seq(List)
    }
}

/// One attribute; `None` where it names no source.
struct Attribute;

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum AttributeField {
    Key,
    Value,
    #[serde(other)]
    Other,
}

impl<'de> DeserializeSeed<'de> for Attribute {
    type Value = Option<(Slot, u8, Scalar<'de>)>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Attribute {
    type Value = Option<(Slot, u8, Scalar<'de>)>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an attribute")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        // The outer `None` while no key was read.
        let mut label: Option<Option<(Slot, u8)>> = None;
        let mut value = None;
        while let Some(field) = map.next_key()? {
            match field {
                AttributeField::Key => {
                    let key: Text<'de> = map.next_value()?;
                    label = Some(place_dotted(&key.0).filter(|(slot, _)| matches!(slot, Slot::Label(_))));
                }
                // A writer that puts the value before its key is read as well.
                AttributeField::Value if label != Some(None) => value = map.next_value::<Option<AnyValue<'de>>>()?,
                AttributeField::Value | AttributeField::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let label = label.ok_or_else(|| A::Error::missing_field("key"))?;
        Ok(label.and_then(|(slot, rank)| Some((slot, rank, value?.scalar()))))
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Map<'a> {
    #[serde(borrow)]
    values: Vec<KeyValue<'a>>,
}

impl<'a> AnyValue<'a> {
    fn scalar(self) -> Scalar<'a> {
        self.scalar.map_or(Scalar::Null, |(_, scalar)| scalar)
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
    // Once for the whole record: the parser would check each string alone, which costs more.
    let payload = std::str::from_utf8(payload).map_err(|error| {
        let (line, column) = json::place(payload, error.valid_up_to());
        DecodeError::at("invalid bytes, expected UTF-8", line, column)
    })?;
    for request in serde_json::Deserializer::from_str(payload).into_iter::<Request<'_>>() {
        let request = request.map_err(|error| DecodeError::json(&error, (1, 1)))?;
        for logs in request.resource_logs {
            let mut resource = Found::default();
            for (slot, rank, value) in logs.resource.into_iter().flat_map(|r| r.attributes.0) {
                resource.take(slot, rank, value);
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
    for (slot, rank, value) in record.attributes.0 {
        found.take(slot, rank, value);
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
                "values before keys, attributes that name nothing",
                r#""body":{"stringValue":"m"},"attributes":[{"value":{"stringValue":"cart"},"key":"service.name"},{"key":"x","value":7},{"key":"host.name","value":null}]"#,
                "- - {pod=p,service=cart} m",
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
        let keyless = record(r#""attributes":[{"value":{}}]"#);
        assert!(decode_to_text(Format::OtlpJson, keyless.as_bytes()).is_err());
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
