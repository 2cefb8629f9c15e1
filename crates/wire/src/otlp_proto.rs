//! OpenTelemetry logs as protobuf: `ExportLogsServiceRequest`, which is the same on the wire as `LogsData`.
//!
//! Decoded by hand: the few fields that are of use lie at fixed depths, so nothing recurses and all else is read over by its
//! length (opentelemetry-proto, `logs/v1/logs.proto`, `common/v1/common.proto`, `resource/v1/resource.proto`). A record
//! that breaks off, or has a length that is not true, is refused.
//!
//! Fails on bodies that are lists or bytes of something else than text: a list is no message and is counted.
//!
//! Cost: one pass over the bytes; text borrows from the record.

use std::borrow::Cow;

use crate::error::DecodeError;
use crate::fields::{Found, Lines, Slot, TRACE, keep, place, place_dotted};
use crate::json::Scalar;
use crate::limits::ITEMS_MAX;
use crate::otlp_json::severity;
use crate::time;

/// A field's value.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

/// The fields of a message, in the order they were written.
struct Fields<'a> {
    rest: &'a [u8],
}

const BROKEN: &str = "broken protobuf, expected an ExportLogsServiceRequest of OpenTelemetry";

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut n = 0_u64;
        for shift in (0..70).step_by(7) {
            let (b, rest) = self.rest.split_first()?;
            self.rest = rest;
            // What is above 64 bits is dropped, as everywhere.
            n |= u64::from(b & 0x7f).checked_shl(shift).unwrap_or(0);
            if b & 0x80 == 0 {
                return Some(n);
            }
        }
        None
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(bytes)
    }

    /// The next field; `None` at the end.
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.field().map(Some).ok_or_else(|| DecodeError::new(BROKEN))
    }

    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.bytes(8)?.try_into().ok()?)),
            2 => {
                let count = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.bytes(count)?)
            }
            5 => {
                self.bytes(4)?;
                Value::Fixed32
            }
            _ => return None,
        };
        (tag >> 3 > 0).then_some((tag >> 3, value))
    }
}

/// Reads a record into `lines`.
pub(crate) fn read<'a>(payload: &'a [u8], lines: &mut Lines<'a>) -> Result<(), DecodeError> {
    let mut request = Fields { rest: payload };
    while let Some((field, value)) = request.next()? {
        if let (1, Value::Bytes(bytes)) = (field, value) {
            resource_logs(bytes, lines)?;
        }
    }
    Ok(())
}

fn resource_logs<'a>(bytes: &'a [u8], lines: &mut Lines<'a>) -> Result<(), DecodeError> {
    // The resource may stand behind its logs, so it is looked for first.
    let mut resource = Found::default();
    let mut fields = Fields { rest: bytes };
    while let Some((field, value)) = fields.next()? {
        if let (1, Value::Bytes(bytes)) = (field, value) {
            let mut attributes = Fields { rest: bytes };
            while let Some((field, value)) = attributes.next()? {
                if let (1, Value::Bytes(bytes)) = (field, value) {
                    attribute(bytes, &mut resource)?;
                }
            }
        }
    }
    let mut fields = Fields { rest: bytes };
    while let Some((field, value)) = fields.next()? {
        if let (2, Value::Bytes(bytes)) = (field, value) {
            let mut scope = Fields { rest: bytes };
            while let Some((field, value)) = scope.next()? {
                if let (2, Value::Bytes(bytes)) = (field, value) {
                    log_record(bytes, &resource, lines)?;
                }
            }
        }
    }
    Ok(())
}

fn log_record<'a>(bytes: &'a [u8], resource: &Found<'a>, lines: &mut Lines<'a>) -> Result<(), DecodeError> {
    let mut found = resource.clone();
    found.skipped = 0;
    let (mut number, mut text) = (0, None);
    let mut fields = Fields { rest: bytes };
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            // Nanoseconds whatever their size; 0 says unknown.
            (1, Value::Fixed64(ns)) => take_ns(ns, 0, &mut found),
            (11, Value::Fixed64(ns)) => take_ns(ns, 1, &mut found),
            (2, Value::Varint(n)) => number = n,
            (3, Value::Bytes(bytes)) => text = Some(String::from_utf8_lossy(bytes)),
            (5, Value::Bytes(bytes)) => body(bytes, &mut found)?,
            (6, Value::Bytes(bytes)) => attribute(bytes, &mut found)?,
            (9, Value::Bytes(id)) if !id.is_empty() && id.len() <= 32 && id.iter().any(|b| *b != 0) => {
                found.take(TRACE, 0, Scalar::Text(Cow::Owned(hex(id))));
            }
            // An event without a body has its name to say.
            (12, Value::Bytes(bytes)) => found.take(Slot::Message, 20, Scalar::Text(String::from_utf8_lossy(bytes))),
            _ => {}
        }
    }
    match severity(number) {
        Some(level) => keep(&mut found.level, 0, level),
        None => {
            if let Some(text) = text {
                found.take(Slot::Level, 1, Scalar::Text(text));
            }
        }
    }
    // Without a body a record says nothing: it is as an empty line.
    found.is_blank = true;
    lines.push(found);
    if lines.len() > ITEMS_MAX {
        return Err(DecodeError::new(&format!(
            "too many items, expected at most {ITEMS_MAX} a record"
        )));
    }
    Ok(())
}

fn take_ns(ns: u64, rank: u8, found: &mut Found<'_>) {
    if ns == 0 {
        return;
    }
    match time::from_nanos(ns) {
        Some(at) => keep(&mut found.at, rank, at),
        None => found.skipped += 1,
    }
}

/// What the body says: text, or the message in a map.
fn body<'a>(bytes: &'a [u8], found: &mut Found<'a>) -> Result<(), DecodeError> {
    let mut fields = Fields { rest: bytes };
    while let Some((field, value)) = fields.next()? {
        if let (6, Value::Bytes(list)) = (field, value) {
            let mut entries = Fields { rest: list };
            while let Some((field, value)) = entries.next()? {
                if let (1, Value::Bytes(entry)) = (field, value) {
                    let (key, value) = key_value(entry)?;
                    if let Some((slot, rank)) = place("", &key) {
                        // The record's own time and level go first.
                        found.take(slot, rank.saturating_add(10), value);
                    }
                }
            }
        } else {
            match scalar(field, value) {
                Some(Scalar::Text(text)) => found.take(Slot::Message, 0, Scalar::Text(text)),
                Some(Scalar::Signed(n)) => found.take(Slot::Message, 0, Scalar::Text(Cow::Owned(n.to_string()))),
                _ => found.skipped += 1,
            }
        }
    }
    Ok(())
}

/// An attribute that names the source becomes a label.
fn attribute<'a>(bytes: &'a [u8], found: &mut Found<'a>) -> Result<(), DecodeError> {
    let (key, value) = key_value(bytes)?;
    if let Some((slot @ Slot::Label(_), rank)) = place_dotted(&key) {
        found.take(slot, rank, value);
    }
    Ok(())
}

fn key_value(bytes: &[u8]) -> Result<(Cow<'_, str>, Scalar<'_>), DecodeError> {
    let (mut key, mut found) = (Cow::Borrowed(""), Scalar::Null);
    let mut fields = Fields { rest: bytes };
    while let Some((field, value)) = fields.next()? {
        match (field, value) {
            (1, Value::Bytes(bytes)) => key = String::from_utf8_lossy(bytes),
            (2, Value::Bytes(bytes)) => {
                let mut any = Fields { rest: bytes };
                while let Some((field, value)) = any.next()? {
                    found = scalar(field, value).unwrap_or(Scalar::Nested);
                }
            }
            _ => {}
        }
    }
    Ok((key, found))
}

/// A field of `AnyValue` that is no list and no map.
#[allow(clippy::cast_possible_wrap)] // that is how protobuf writes negative numbers
fn scalar(field: u64, value: Value<'_>) -> Option<Scalar<'_>> {
    match (field, value) {
        (1 | 7, Value::Bytes(text)) => Some(Scalar::Text(String::from_utf8_lossy(text))),
        (2, Value::Varint(n)) => Some(Scalar::Bool(n != 0)),
        (3, Value::Varint(n)) => Some(Scalar::Signed(n as i64)),
        (4, Value::Fixed64(bits)) => Some(Scalar::Float(f64::from_bits(bits))),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n & 15)]);
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decoder::decode_to_text;
    use crate::format::Format;

    fn varint(mut n: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while n > 0x7f {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
        out
    }

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2][..], &varint(bytes.len()), bytes].concat()
    }

    fn pair(key: &str, value: &str) -> Vec<u8> {
        [field(1, key.as_bytes()), field(2, &field(1, value.as_bytes()))].concat()
    }

    fn request(record: &[u8]) -> Vec<u8> {
        let resource = [
            field(1, &pair("service.name", "shop")),
            field(1, &pair("host.name", "h")),
        ]
        .concat();
        // The resource behind its logs, as is allowed.
        field(1, &[field(2, &field(2, record)), field(1, &resource)].concat())
    }

    fn fixed(number: u8, n: u64) -> Vec<u8> {
        [&[number << 3 | 1][..], &n.to_le_bytes()].concat()
    }

    const NOON: u64 = 1_769_860_800_123_456_789;

    #[test]
    fn records() {
        let body = field(5, &field(1, b"it broke"));
        let map = field(
            5,
            &field(
                6,
                &[field(1, &pair("message", "m")), field(1, &pair("x", "y"))].concat(),
            ),
        );
        let cases = [
            (
                "usual",
                [
                    fixed(1, NOON),
                    vec![2 << 3, 17],
                    body.clone(),
                    field(9, &[0xab; 16]),
                    field(6, &pair("k8s.pod.name", "p")),
                ]
                .concat(),
                format!(
                    "1769860800123 Error {{host=h,pod=p,service=shop,trace_id={}}} it broke",
                    "ab".repeat(16)
                ),
            ),
            (
                "observed",
                [fixed(1, 0), fixed(11, NOON), body.clone()].concat(),
                "1769860800123 - {host=h,service=shop} it broke".into(),
            ),
            (
                "text of the severity",
                [field(3, b"WARN"), body.clone()].concat(),
                "- Warning {host=h,service=shop} it broke".into(),
            ),
            ("map", map, "- - {host=h,service=shop} m".into()),
            ("number", field(5, &[3 << 3, 7]), "- - {host=h,service=shop} 7".into()),
            (
                "event",
                field(12, b"device.started"),
                "- - {host=h,service=shop} device.started".into(),
            ),
            (
                "not UTF-8",
                field(5, &field(1, b"a\xffb")),
                "- - {host=h,service=shop} a\u{fffd}b".into(),
            ),
            (
                "unknown fields",
                [vec![15 << 3 | 5, 0, 0, 0, 0], body].concat(),
                "- - {host=h,service=shop} it broke".into(),
            ),
        ];
        for (name, record, expected) in cases {
            let (_, items) = decode_to_text(Format::OtlpProto, &request(&record)).unwrap();
            assert_eq!(items, [expected], "{name}");
        }
        assert_eq!(decode_to_text(Format::OtlpProto, b"").unwrap().0.items, 0);
        assert_eq!(decode_to_text(Format::OtlpProto, &request(b"")).unwrap().0.empty, 1);
    }

    #[test]
    fn what_breaks_off_is_refused() {
        let whole = request(&[fixed(1, NOON), field(5, &field(1, b"it broke"))].concat());
        for end in 1..whole.len() {
            let error = decode_to_text(Format::OtlpProto, &whole[..end]).unwrap_err();
            assert_eq!(
                error.to_string(),
                "broken protobuf, expected an ExportLogsServiceRequest of OpenTelemetry"
            );
        }
        for bad in [
            &b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..],
            b"\x0b",
            b"\x00\x00",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert!(decode_to_text(Format::OtlpProto, bad).is_err(), "{bad:?}");
        }
        let many = field(1, &field(2, &field(2, b"").repeat(ITEMS_MAX + 1)));
        assert!(decode_to_text(Format::OtlpProto, &many).is_err());
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in 0usize..80, byte in any::<u8>()) {
            let mut damaged = request(&[fixed(1, NOON), vec![2 << 3, 17], field(5, &field(1, b"it broke"))].concat());
            if let Some(b) = damaged.get_mut(at) { *b = byte; }
            for format in [Format::OtlpProto, Format::Log] {
                let mut calls = 0;
                let outcome = crate::Decoder::new(format).decode(&damaged, &mut |_| calls += 1);
                prop_assert_eq!(outcome.map_or(0, |d| d.items), calls);
            }
        }
    }
}
