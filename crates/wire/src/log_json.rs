//! JSON log lines: one object a line, as Filebeat, Fluent Bit, Vector, Docker and JSON loggers write them.
//!
//! Found under the names in use, nested or with dots (`{"log": {"level": …}}` is `log.level`); where several are there, the
//! first of the list counts:
//! - message: `message`, `msg`, `log`, `body`, `event`;
//! - time: `@timestamp`, `timestamp`, `time`, `ts` (see [`crate::time`]; a double is fine);
//! - level: `level`, `log.level`, `severity`, `levelname`, `severity_text`;
//! - labels: `container`, `host`, `namespace`, `node`, `pod`, `service`, from the names in `place`.
//!
//! A time or a label that can't be used is left out and counted, for a line without it is still worth having; an object
//! without a message is refused. All other keys are read over.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use foreshock_domain::{Input, Level, LogLine, Timestamp};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::decoder::Decoded;
use crate::error::DecodeError;
use crate::json::{Collect, Scalar, Text, documents, recycle};
use crate::labels::Label;
use crate::limits::{MESSAGE_BYTES_MAX, NAME_BYTES_MAX, prefix};
use crate::{level, time};

/// What the labels of a line are called, sorted.
const LABELS: [&str; 6] = ["container", "host", "namespace", "node", "pod", "service"];
const CONTAINER: Slot = Slot::Label(0);
const HOST: Slot = Slot::Label(1);
const NAMESPACE: Slot = Slot::Label(2);
const NODE: Slot = Slot::Label(3);
const POD: Slot = Slot::Label(4);
const SERVICE: Slot = Slot::Label(5);

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Message,
    Time,
    Level,
    /// Index into [`LABELS`].
    Label(usize),
}

/// What the key `leaf` inside the object `parent` is for (`""` is the line itself), and its rank: lower goes first.
fn place(parent: &str, leaf: &str) -> Option<(Slot, u8)> {
    Some(match (parent, leaf) {
        ("", "message") => (Slot::Message, 0),
        ("", "msg") => (Slot::Message, 1),
        ("", "log") => (Slot::Message, 2),
        ("", "body") => (Slot::Message, 3),
        ("", "event") => (Slot::Message, 4),
        ("", "@timestamp") => (Slot::Time, 0),
        ("", "timestamp") => (Slot::Time, 1),
        ("", "time") => (Slot::Time, 2),
        ("", "ts") => (Slot::Time, 3),
        ("", "level") => (Slot::Level, 0),
        ("log", "level") => (Slot::Level, 1),
        ("", "severity") => (Slot::Level, 2),
        ("", "levelname") => (Slot::Level, 3),
        ("", "severity_text") => (Slot::Level, 4),
        ("host", "name") => (HOST, 0),
        ("host", "hostname") => (HOST, 1),
        ("", "host") => (HOST, 2),
        ("", "hostname") => (HOST, 3),
        ("kubernetes.pod" | "k8s.pod", "name") => (POD, 0),
        ("kubernetes", "pod_name") => (POD, 1),
        ("", "pod") => (POD, 2),
        ("", "pod_name") => (POD, 3),
        ("service", "name") => (SERVICE, 0),
        ("", "service") => (SERVICE, 1),
        ("", "service_name") => (SERVICE, 2),
        ("", "app") => (SERVICE, 3),
        ("", "application") => (SERVICE, 4),
        ("kubernetes.container" | "k8s.container", "name") => (CONTAINER, 0),
        ("kubernetes", "container_name") => (CONTAINER, 1),
        ("container", "name") => (CONTAINER, 2),
        ("", "container") => (CONTAINER, 3),
        ("", "container_name") => (CONTAINER, 4),
        ("kubernetes", "namespace") | ("k8s.namespace", "name") => (NAMESPACE, 0),
        ("kubernetes", "namespace_name") => (NAMESPACE, 1),
        ("", "namespace") => (NAMESPACE, 2),
        ("kubernetes.node" | "k8s.node", "name") => (NODE, 0),
        ("kubernetes", "host") => (NODE, 1),
        ("", "node") => (NODE, 2),
        _ => return None,
    })
}

/// The full name of the object `leaf` inside `parent`, if anything of interest can be in it.
fn inside(parent: &str, leaf: &str) -> Option<&'static str> {
    Some(match (parent, leaf) {
        ("", "host") => "host",
        ("", "log") => "log",
        ("", "service") => "service",
        ("", "container") => "container",
        ("", "kubernetes") => "kubernetes",
        ("kubernetes", "pod") => "kubernetes.pod",
        ("kubernetes", "container") => "kubernetes.container",
        ("kubernetes", "node") => "kubernetes.node",
        ("", "k8s") => "k8s",
        ("k8s", "pod") => "k8s.pod",
        ("k8s", "container") => "k8s.container",
        ("k8s", "namespace") => "k8s.namespace",
        ("k8s", "node") => "k8s.node",
        _ => return None,
    })
}

#[derive(Debug)]
struct Line<'a> {
    at: Option<Timestamp>,
    level: Option<Level>,
    message: Cow<'a, str>,
    labels: Range<usize>,
}

/// The lines of a record before they are handed on.
#[derive(Debug, Default)]
pub(crate) struct Lines<'a> {
    lines: Vec<Line<'a>>,
    labels: Vec<Label<'a>>,
    skipped: usize,
}

pub(crate) fn decode(
    scratch: &mut Lines<'static>,
    payload: &[u8],
    sink: &mut dyn FnMut(Input<'_>),
) -> Result<Decoded, DecodeError> {
    let mut all: Lines<'_> = std::mem::take(scratch);
    let read = documents(payload, &mut all);
    let mut decoded = Decoded {
        items: all.lines.len(),
        skipped: all.skipped,
        ..Decoded::default()
    };
    if read.is_ok() {
        for line in &all.lines {
            let message = prefix(&line.message, MESSAGE_BYTES_MAX);
            decoded.cut += usize::from(message.len() < line.message.len());
            let labels = &all.labels[line.labels.clone()];
            sink(Input::Line(LogLine {
                at: line.at,
                message,
                level: line.level,
                labels,
            }));
        }
    }
    *scratch = Lines {
        lines: recycle(all.lines),
        labels: recycle(all.labels),
        skipped: 0,
    };
    read.map(|()| decoded)
}

impl<'de> Collect<'de> for Lines<'de> {
    fn object<A: MapAccess<'de>>(&mut self, map: A) -> Result<(), A::Error> {
        let mut found = Found::default();
        Walk {
            found: &mut found,
            parent: "",
        }
        .visit_map(map)?;
        let (_, message) = found
            .message
            .filter(|(_, text)| !text.is_empty())
            .ok_or_else(|| A::Error::custom("no message, expected a text under message, msg, log, body or event"))?;
        let start = self.labels.len();
        for (name, label) in LABELS.iter().zip(found.labels) {
            if let Some((_, value)) = label {
                self.labels.push((Cow::Borrowed(name), value));
            }
        }
        self.skipped += found.skipped;
        self.lines.push(Line {
            at: found.at.map(|(_, at)| at),
            level: found.level.map(|(_, level)| level),
            message,
            labels: start..self.labels.len(),
        });
        Ok(())
    }

    fn items(&self) -> usize {
        self.lines.len()
    }
}

/// What has been found of a line so far, each with the rank of the key it was found under.
#[derive(Debug, Default)]
struct Found<'a> {
    message: Option<(u8, Cow<'a, str>)>,
    at: Option<(u8, Timestamp)>,
    level: Option<(u8, Level)>,
    labels: [Option<(u8, Cow<'a, str>)>; LABELS.len()],
    skipped: usize,
}

/// Keeps the value of the better rank; of equal ones, the later.
fn keep<T>(kept: &mut Option<(u8, T)>, rank: u8, value: T) {
    if kept.as_ref().is_none_or(|(best, _)| rank <= *best) {
        *kept = Some((rank, value));
    }
}

impl<'a> Found<'a> {
    fn take(&mut self, slot: Slot, rank: u8, value: Scalar<'a>) {
        match (slot, value) {
            (_, Scalar::Null) => {}
            (Slot::Message, Scalar::Text(text)) => {
                // Docker and Kubernetes keep the line's own end.
                let text = match text {
                    Cow::Borrowed(text) => Cow::Borrowed(text.trim_ascii_end()),
                    Cow::Owned(mut text) => {
                        text.truncate(text.trim_ascii_end().len());
                        Cow::Owned(text)
                    }
                };
                keep(&mut self.message, rank, text);
            }
            (Slot::Time, value) => match time::from_scalar(&value) {
                Some(at) => keep(&mut self.at, rank, at),
                None => self.skipped += 1,
            },
            (Slot::Level, value) => match level::from_scalar(&value) {
                Some(level) => keep(&mut self.level, rank, level),
                None => self.skipped += 1,
            },
            (Slot::Label(i), Scalar::Text(text)) if !text.is_empty() && text.len() <= NAME_BYTES_MAX => {
                if let Some(label) = self.labels.get_mut(i) {
                    keep(label, rank, text);
                }
            }
            (Slot::Message | Slot::Label(_), _) => self.skipped += 1,
        }
    }
}

/// Reads the object `parent`.
struct Walk<'s, 'de> {
    found: &'s mut Found<'de>,
    parent: &'static str,
}

impl<'de> Visitor<'de> for Walk<'_, 'de> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key()? {
            let (parent, leaf) = match key.rsplit_once('.') {
                Some((parent, leaf)) if self.parent.is_empty() => (parent, leaf),
                _ => (self.parent, key.as_ref()),
            };
            let (place, inside) = (place(parent, leaf), inside(parent, leaf));
            if place.is_none() && inside.is_none() {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Value {
                    found: &mut *self.found,
                    place,
                    inside,
                })?;
            }
        }
        Ok(())
    }
}

/// Reads a value that is of interest itself, as an object, or both.
struct Value<'s, 'de> {
    found: &'s mut Found<'de>,
    place: Option<(Slot, u8)>,
    inside: Option<&'static str>,
}

impl<'de> Value<'_, 'de> {
    fn scalar(self, value: Scalar<'de>) {
        if let Some((slot, rank)) = self.place {
            self.found.take(slot, rank, value);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, 'de> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, 'de> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, b: bool) -> Result<(), E> {
        self.scalar(Scalar::Bool(b));
        Ok(())
    }
    fn visit_i64<E>(self, n: i64) -> Result<(), E> {
        self.scalar(Scalar::Signed(n));
        Ok(())
    }
    fn visit_u64<E>(self, n: u64) -> Result<(), E> {
        self.scalar(Scalar::Unsigned(n));
        Ok(())
    }
    fn visit_f64<E>(self, x: f64) -> Result<(), E> {
        self.scalar(Scalar::Float(x));
        Ok(())
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<(), E> {
        self.scalar(Scalar::Text(Cow::Borrowed(text)));
        Ok(())
    }
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.scalar(Scalar::Text(Cow::Owned(text.to_owned())));
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.scalar(Scalar::Nested);
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        match self.inside {
            Some(parent) => Walk {
                found: self.found,
                parent,
            }
            .visit_map(map),
            None => {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                self.scalar(Scalar::Nested);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::decoder::decode_to_text;
    use crate::format::Format;

    #[test]
    fn lines() {
        let cases = [
            (
                "filebeat",
                r#"{"@timestamp":"2026-01-31T12:00:00.123Z","log":{"level":"error"},"message":"refused","host":{"name":"web-17","ip":["10.0.0.17"]},"service":{"name":"checkout"}}"#,
                "1769860800123 Error {host=web-17,service=checkout} refused",
                0,
            ),
            (
                "fluent bit",
                r#"{"@timestamp":1769860800.123,"log":"line\n","stream":"stderr","kubernetes":{"pod_name":"p-1","namespace_name":"shop","container_name":"c","host":"node-1","labels":{"app":"x"}}}"#,
                "1769860800123 - {container=c,namespace=shop,node=node-1,pod=p-1} line",
                0,
            ),
            (
                "dotted",
                r#"{"ts":1769860800,"msg":"m","log.level":"WARN","host.name":"h","kubernetes.pod.name":"p"}"#,
                "1769860800000 Warning {host=h,pod=p} m",
                0,
            ),
            (
                "pino",
                r#"{"level":50,"time":1769860800123,"hostname":"h","msg":"m"}"#,
                "1769860800123 Error {host=h} m",
                0,
            ),
            (
                "gelf",
                r#"{"host":"h","level":2,"message":"m"}"#,
                "- Fatal {host=h} m",
                0,
            ),
            (
                "rank before order",
                r#"{"hostname":"b","host":"a","time":2,"timestamp":1,"msg":"y","message":"x","severity":"info","level":"error"}"#,
                "1000 Error {host=a} x",
                0,
            ),
            ("last of equal keys", r#"{"message":"a","message":"b"}"#, "- - {} b", 0),
            (
                "bad time and level",
                r#"{"message":"a","time":"31/Jan/2026","level":"loud"}"#,
                "- - {} a",
                2,
            ),
            (
                "null",
                r#"{"message":"a","time":null,"host":null,"level":null}"#,
                "- - {} a",
                0,
            ),
            (
                "label of the wrong kind",
                r#"{"message":"a","host":["x"],"pod":7}"#,
                "- - {} a",
                2,
            ),
            (
                "long label",
                &format!(r#"{{"message":"a","pod":"{}"}}"#, "x".repeat(257)),
                "- - {} a",
                1,
            ),
            (
                "message of the wrong kind, next",
                r#"{"message":{"x":1},"msg":"b"}"#,
                "- - {} b",
                1,
            ),
        ];
        for (name, payload, expected, skipped) in cases {
            let (decoded, items) =
                decode_to_text(Format::LogJson, payload.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(items, [expected], "{name}");
            assert_eq!(decoded.skipped, skipped, "{name}");
        }
    }

    #[test]
    fn records() {
        let lines = "{\"msg\":\"a\"}\n{\"msg\":\"b\",\"host\":\"h\"}\n";
        assert_eq!(
            decode_to_text(Format::LogJson, lines.as_bytes()).unwrap().1,
            ["- - {} a", "- - {host=h} b"]
        );
        for none in [
            "{}",
            r#"{"level":"info"}"#,
            r#"{"message":""}"#,
            r#"{"message":null}"#,
            r#"{"message":7}"#,
        ] {
            let error = decode_to_text(Format::LogJson, none.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("no message, expected a text under message, msg, log, body or event"),
                "{none}: {error}"
            );
        }
    }
}
