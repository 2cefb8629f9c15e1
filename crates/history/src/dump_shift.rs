//! Moves the event times inside a record, so that an old recording can be sent as if it happened now.
//!
//! Only the times of the record itself move: those where its format keeps them. The record is written anew, with its keys
//! sorted. Raw text is not touched: its times can't be told from other numbers with certainty.

use foreshock_domain::{Millis, Timestamp};
use foreshock_wire::{Format, time};
use serde_json::{Map, Value};

/// Whether the times of a format can be moved.
#[must_use]
pub const fn is_movable(format: Format) -> bool {
    matches!(
        format,
        Format::TelegrafJson | Format::PlainJson | Format::LogJson | Format::IncidentJson
    )
}

/// The record with its times moved by `by`; `None` for raw text and for what is no JSON. Times in whole seconds move by
/// whole seconds, so `by` should be a multiple of 1000.
#[must_use]
pub fn shift(payload: &[u8], format: Format, by: Millis) -> Option<Vec<u8>> {
    let keys: &[&str] = match format {
        Format::TelegrafJson | Format::PlainJson => &["timestamp"],
        Format::LogJson => &["@timestamp", "timestamp", "time", "ts"],
        Format::IncidentJson => &["onset", "end"],
        // Their times stand where only the decoder finds them, or are no JSON.
        Format::LogText
        | Format::Syslog
        | Format::Logfmt
        | Format::Cri
        | Format::OtlpJson
        | Format::OtlpProto
        | Format::Log => return None,
    };
    let mut record: Value = serde_json::from_slice(payload).ok()?;
    match &mut record {
        Value::Array(many) => many
            .iter_mut()
            .filter_map(Value::as_object_mut)
            .for_each(|one| shift_keys(one, keys, by)),
        Value::Object(one) => {
            shift_keys(one, keys, by);
            if let Some(Value::Array(batch)) = one.get_mut("metrics").filter(|_| format == Format::TelegrafJson) {
                batch
                    .iter_mut()
                    .filter_map(Value::as_object_mut)
                    .for_each(|one| shift_keys(one, keys, by));
            }
        }
        _ => return None,
    }
    serde_json::to_vec(&record).ok()
}

fn shift_keys(object: &mut Map<String, Value>, keys: &[&str], by: Millis) {
    for key in keys {
        if let Some(value) = object.get_mut(*key)
            && let Some(shifted) = shift_value(value, by)
        {
            *value = shifted;
        }
    }
}

/// The same instant moved, in the unit it was written in.
fn shift_value(value: &Value, by: Millis) -> Option<Value> {
    match value {
        Value::String(text) => {
            let at: Timestamp = time::parse(text)?;
            Some(Value::String(time::format_rfc3339(at + by)))
        }
        Value::Number(number) => {
            if let Some(n) = number.as_i64() {
                // Units by size, as the decoder tells them.
                let by = match n {
                    ..100_000_000_000 => by / 1_000,
                    100_000_000_000..100_000_000_000_000 => by,
                    100_000_000_000_000..100_000_000_000_000_000 => by.checked_mul(1_000)?,
                    _ => by.checked_mul(1_000_000)?,
                };
                return Some(n.checked_add(by)?.into());
            }
            let x = number.as_f64()?;
            #[allow(clippy::cast_precision_loss)] // as exact as the number it is added to
            let by = by as f64;
            let by = match x {
                _ if x < 1e11 => by / 1e3,
                _ if x < 1e14 => by,
                _ if x < 1e17 => by * 1e3,
                _ => by * 1e6,
            };
            serde_json::Number::from_f64(x + by).map(Value::Number)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_move_in_their_own_unit_and_nothing_else_does() {
        let cases = [
            (
                "seconds",
                Format::TelegrafJson,
                r#"{"name":"a","timestamp":1458229140}"#,
                r#"{"name":"a","timestamp":1458229150}"#,
            ),
            (
                "milliseconds",
                Format::PlainJson,
                r#"{"timestamp":1458229140000,"value":1458229140000}"#,
                r#"{"timestamp":1458229150000,"value":1458229140000}"#,
            ),
            (
                "nanoseconds",
                Format::PlainJson,
                r#"{"timestamp":1458229140000000000}"#,
                r#"{"timestamp":1458229150000000000}"#,
            ),
            (
                "double",
                Format::LogJson,
                r#"{"@timestamp":1458229140.5}"#,
                r#"{"@timestamp":1458229150.5}"#,
            ),
            (
                "text",
                Format::LogJson,
                r#"{"time":"2016-03-17T15:39:00Z"}"#,
                r#"{"time":"2016-03-17T15:39:10.000Z"}"#,
            ),
            (
                "batch",
                Format::TelegrafJson,
                r#"{"metrics":[{"timestamp":1}]}"#,
                r#"{"metrics":[{"timestamp":11}]}"#,
            ),
            (
                "array",
                Format::PlainJson,
                r#"[{"timestamp":1},2]"#,
                r#"[{"timestamp":11},2]"#,
            ),
            (
                "no time",
                Format::LogJson,
                r#"{"time":null,"ts":"soon"}"#,
                r#"{"time":null,"ts":"soon"}"#,
            ),
            (
                "incident",
                Format::IncidentJson,
                r#"{"end":null,"onset":1}"#,
                r#"{"end":null,"onset":11}"#,
            ),
        ];
        for (name, format, from, to) in cases {
            let got = shift(from.as_bytes(), format, 10_000).expect(name);
            assert_eq!(String::from_utf8(got).unwrap(), to, "{name}");
        }
        assert_eq!(shift(b"2016-03-17 15:39:00 hello", Format::LogText, 1), None);
        assert_eq!(shift(b"{", Format::LogJson, 1), None);
        assert_eq!(shift(b"7", Format::LogJson, 1), None);
        let huge = format!(r#"{{"timestamp":{}}}"#, i64::MAX);
        assert_eq!(
            shift(huge.as_bytes(), Format::PlainJson, i64::MAX),
            Some(huge.into_bytes())
        );
    }
}
