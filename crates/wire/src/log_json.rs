//! JSON log lines: one object a line, as Filebeat, Fluent Bit, Vector, Docker, journald and JSON loggers write them.
//!
//! Found under the names in use, nested or with dots (`{"log": {"level": …}}` is `log.level`), see [`crate::fields`]. A message
//! that is JSON or logfmt itself is opened, since collectors wrap what programs wrote.
//!
//! A time or a label that can't be used is left out and counted, for a line without it is still worth having; an object
//! without a message is refused, one with an empty message is an empty line. All other keys are read over.
//!
//! Cost: the JSON parser's, about 2 ns a byte; only text with escapes is copied.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::DecodeError;
use crate::fields::{Found, Lines, Slot, inside, place};
use crate::json::{Collect, Scalar, Text, documents};

/// Reads a record into `lines`.
pub(crate) fn read<'a>(payload: &'a [u8], lines: &mut Lines<'a>) -> Result<(), DecodeError> {
    documents(payload, lines)
}

/// What a message that is a JSON object itself holds; `None` where it is none, or has no message.
pub(crate) fn nested(message: &str) -> Option<Found<'_>> {
    if !message.ends_with('}') {
        return None;
    }
    let mut found = Found::default();
    let mut document = serde_json::Deserializer::from_str(message);
    let walk = Value {
        found: &mut found,
        place: None,
        inside: Some(""),
    };
    walk.deserialize(&mut document).ok()?;
    document.end().ok()?;
    found.message.is_some().then_some(found)
}

impl<'de> Collect<'de> for Lines<'de> {
    fn object<A: MapAccess<'de>>(&mut self, map: A) -> Result<(), A::Error> {
        let mut found = Found::default();
        Walk {
            found: &mut found,
            parent: "",
        }
        .visit_map(map)?;
        if self.push(found) {
            Ok(())
        } else {
            Err(A::Error::custom(
                "no message, expected a text under message, msg, log, body or event",
            ))
        }
    }

    fn items(&self) -> usize {
        self.len()
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
                "1769860800123 - {container=c,namespace=shop,node=node-1,pod=p-1,service=x} line",
                0,
            ),
            (
                "filebeat in kubernetes",
                r#"{"@timestamp":"2026-01-31T12:00:00.123Z","@metadata":{"beat":"filebeat","type":"_doc","version":"8.12.0"},"ecs":{"version":"8.0.0"},"stream":"stderr","message":"refused","input":{"type":"container"},"log":{"offset":1234,"file":{"path":"/var/log/containers/cart-0_shop_cart-0123.log"}},"event":{"dataset":"kubernetes.container_logs"},"container":{"id":"0123","runtime":"containerd","image":{"name":"cart:1"}},"kubernetes":{"container":{"name":"cart"},"namespace":"shop","node":{"name":"node-1"},"labels":{"app_kubernetes_io/name":"cart"},"pod":{"name":"cart-0","uid":"u","ip":"10.0.0.1"}},"host":{"name":"node-1"},"agent":{"name":"node-1","type":"filebeat"}}"#,
                "1769860800123 - {container=cart,host=node-1,namespace=shop,node=node-1,pod=cart-0,service=cart} refused",
                0,
            ),
            (
                "ecs logger",
                r#"{"@timestamp":"2026-01-31T12:00:00.123Z","log.level":"ERROR","message":"refused","ecs.version":"1.2.0","service.name":"checkout","event.dataset":"checkout","process.thread.name":"main","log.logger":"c.e.Pay","trace.id":"4bf92f3577b34da6","transaction.id":"00f0","error.type":"java.io.IOException"}"#,
                "1769860800123 Error {service=checkout,trace_id=4bf92f3577b34da6} refused",
                0,
            ),
            (
                "docker json-file",
                "{\"log\":\"2026-01-31 12:00:00 WARN disk slow\\n\",\"stream\":\"stdout\",\"attrs\":{\"tag\":\"x\"},\"time\":\"2026-01-31T12:00:00.123456789Z\"}",
                "1769860800123 Warning {} disk slow",
                0,
            ),
            (
                "docker with json inside",
                r#"{"log":"{\"level\":\"error\",\"ts\":1,\"msg\":\"refused\",\"traceID\":\"ab12\"}\n","stream":"stderr","time":"2026-01-31T12:00:00.123Z"}"#,
                "1769860800123 Error {trace_id=ab12} refused",
                0,
            ),
            (
                "fluent bit to kafka, log not parsed",
                r#"{"date":1769860800.123,"log":"2026-01-31T12:00:00.1Z stderr F level=warn msg=\"disk slow\"","kubernetes":{"pod_name":"p","namespace_name":"n","container_name":"c","docker_id":"d","pod_id":"i","host":"node-1","labels":{"app.kubernetes.io/name":"x","app":"y"}}}"#,
                "1769860800123 Warning {container=c,namespace=n,node=node-1,pod=p,service=x} disk slow",
                0,
            ),
            (
                "vector in kubernetes",
                r#"{"file":"/var/log/pods/x.log","kubernetes":{"container_id":"containerd://1","container_name":"c","namespace_labels":{"a":"b"},"pod_ip":"10.0.0.1","pod_labels":{"app":"x"},"pod_name":"p","pod_namespace":"n","pod_node_name":"node-1","pod_owner":"ReplicaSet/x"},"message":"refused","source_type":"kubernetes_logs","stream":"stderr","timestamp":"2026-01-31T12:00:00.123Z","timestamp_end":"2026-01-31T12:00:00.123Z"}"#,
                "1769860800123 - {container=c,namespace=n,node=node-1,pod=p,service=x} refused",
                0,
            ),
            (
                "vector syslog",
                r#"{"appname":"sshd","facility":"auth","host":"h","hostname":"h","message":"refused","msgid":"ID1","procid":77,"severity":"err","source_ip":"10.0.0.1","source_type":"syslog","timestamp":"2026-01-31T12:00:00.123Z","version":1}"#,
                "1769860800123 Error {host=h,service=sshd} refused",
                0,
            ),
            (
                "journald",
                r#"{"MESSAGE":"refused","PRIORITY":"3","SYSLOG_IDENTIFIER":"sshd","_HOSTNAME":"h","__REALTIME_TIMESTAMP":"1769860800123456","_PID":"7"}"#,
                "1769860800123 Error {host=h,service=sshd} refused",
                0,
            ),
            (
                "google cloud",
                r#"{"jsonPayload":{"message":"refused","x":1},"severity":"ERROR","timestamp":"2026-01-31T12:00:00.123Z","resource":{"type":"k8s_container"}}"#,
                "1769860800123 Error {} refused",
                0,
            ),
            (
                "serilog",
                r#"{"@t":"2026-01-31T12:00:00.123Z","@mt":"refused {Times}","@l":"Error","Times":3}"#,
                "1769860800123 Error {} refused {Times}",
                0,
            ),
            (
                "datadog",
                r#"{"message":"m","dd.trace_id":8726187263,"dd":{"service":"x"}}"#,
                "- - {trace_id=8726187263} m",
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
        let (decoded, items) = decode_to_text(Format::LogJson, b"{\"msg\":\"a\xffb\"}").unwrap();
        assert_eq!((decoded.replaced, items), (1, vec!["- - {} a\u{fffd}b".to_owned()]));
        for blank in [r#"{"message":""}"#, r#"{"log":"\n","stream":"stdout"}"#] {
            let (decoded, items) = decode_to_text(Format::LogJson, blank.as_bytes()).unwrap();
            assert_eq!(
                (decoded.empty, items.len()),
                (1, 0),
                "{blank}: an empty line, as containers write many"
            );
        }
        for none in ["{}", r#"{"level":"info"}"#, r#"{"message":null}"#, r#"{"message":7}"#] {
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
