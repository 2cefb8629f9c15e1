//! JSON Lines that are a table of metrics: one row a line, wide (`{"timestamp": …, "host": "a", "cpu": 1.5}`) or long
//! (`{"timestamp": …, "host": "a", "series": "cpu", "value": 1.5}`).
//!
//! As in a Parquet file, what is text is a label and what is a number (or true, false) is a metric; `null` and the texts of numbers that
//! are none (`NaN`, `Inf`) are missing values. Labels may stand in an object `labels` or `tags` too.

use std::borrow::Cow;
use std::collections::BTreeMap;

use foreshock_domain::Timestamp;
use foreshock_wire::time;
use serde_json::{Map, Value};

use crate::dump::TimedRecord;
use crate::metric_record::MetricRecord;

const TIMES: [&str; 4] = ["timestamp", "@timestamp", "time", "ts"];
const LABELS: [&str; 2] = ["labels", "tags"];
const SERIES: &str = "series";
const VALUE: &str = "value";

/// Whether this is a row of a table, and not a record of plain JSON, which names its metric.
pub fn is_row(line: &[u8]) -> bool {
    let row: Result<Map<String, Value>, _> = serde_json::from_slice(line);
    row.is_ok_and(|row| !row.contains_key("name") && time_of(&row).is_ok())
}

/// The row as a record.
///
/// # Errors
/// What was expected and what was found.
pub fn record(line: &[u8], key_labels: &[String]) -> Result<TimedRecord, String> {
    let row: Map<String, Value> =
        serde_json::from_slice(line).map_err(|e| format!("expected a JSON object of one row: {e}"))?;
    let at = time_of(&row)?;
    let mut labels: BTreeMap<&str, Cow<'_, str>> = BTreeMap::new();
    let mut points = Vec::new();
    for (name, value) in row.iter().filter(|(name, _)| !TIMES.contains(&name.as_str())) {
        match value {
            Value::Object(inner) if LABELS.contains(&name.as_str()) => {
                labels.extend(inner.iter().filter_map(|(k, v)| Some((k.as_str(), label(v)?))));
            }
            Value::Number(_) | Value::Bool(_) | Value::Null => points.push((Cow::from(name.as_str()), number(value))),
            Value::String(text) if is_no_number(text) => points.push((Cow::from(name.as_str()), f64::NAN)),
            Value::String(_) => labels.extend(label(value).map(|text| (name.as_str(), text))),
            Value::Array(_) | Value::Object(_) => {
                return Err(format!(
                    "{name}: expected a number, text, true, false or null, found {value}"
                ));
            }
        }
    }
    if let Some(series) = labels.remove(SERIES) {
        let value = row
            .get(VALUE)
            .ok_or_else(|| format!("series {series}: expected a {VALUE}"))?;
        labels.remove(VALUE);
        if points.iter().any(|(name, _)| name != VALUE) || points.is_empty() {
            return Err(format!(
                "series {series}: expected one number, {VALUE}, and else text, found {row:?}"
            ));
        }
        points = vec![(series, number(value))];
    }
    Ok(MetricRecord { at, labels, points }.to_record(key_labels))
}

fn time_of(row: &Map<String, Value>) -> Result<Timestamp, String> {
    let found = TIMES.iter().find_map(|name| Some((name, row.get(*name)?)));
    let (name, value) = found.ok_or("expected a timestamp, @timestamp, time or ts")?;
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    time::parse(&text).ok_or_else(|| format!("{name}: expected a time, found {value}"))
}

fn label(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(Cow::from(text.as_str())),
        Value::Number(number) => Some(Cow::from(number.to_string())),
        Value::Bool(yes) => Some(Cow::from(if *yes { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Bool(yes) => f64::from(u8::from(*yes)),
        other => other.as_f64().unwrap_or(f64::NAN),
    }
}

fn is_no_number(text: &str) -> bool {
    let text = text.trim_start_matches(['+', '-']);
    ["nan", "inf", "infinity"].iter().any(|n| text.eq_ignore_ascii_case(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Value, String> {
        let record = record(line.as_bytes(), &["host".to_owned()])?;
        assert_eq!(record.key, "a");
        Ok(serde_json::from_slice(&record.payload).expect("JSON"))
    }

    #[test]
    fn wide_and_long_rows_are_points() {
        let wide = read(r#"{"timestamp":1700000000,"host":"a","cpu":1.5,"up":true,"gone":null,"odd":"NaN"}"#).unwrap();
        let points: Vec<(&str, &Value)> = wide
            .as_array()
            .unwrap()
            .iter()
            .map(|p| (p["name"].as_str().unwrap(), &p["value"]))
            .collect();
        assert_eq!(
            points,
            [
                ("cpu", &Value::from(1.5)),
                ("gone", &Value::Null),
                ("odd", &Value::Null),
                ("up", &Value::from(1.0))
            ]
        );
        assert_eq!(wide[0]["labels"], serde_json::json!({"host": "a"}));
        let long =
            read(r#"{"ts":"2026-01-31T10:00:00Z","tags":{"host":"a","zone":7},"series":"cpu","value":2}"#).unwrap();
        assert_eq!(
            (&long[0]["name"], &long[0]["value"], &long[0]["labels"]["zone"]),
            (&Value::from("cpu"), &Value::from(2.0), &Value::from("7"))
        );
        assert_eq!(long[0]["timestamp"], "2026-01-31T10:00:00.000Z");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, expected) in [
            ("[1]", "expected a JSON object of one row"),
            (r#"{"cpu":1}"#, "expected a timestamp, @timestamp, time or ts"),
            (r#"{"time":"soon","cpu":1}"#, "time: expected a time, found \"soon\""),
            (
                r#"{"ts":1700000000,"cpu":[1]}"#,
                "cpu: expected a number, text, true, false or null, found [1]",
            ),
            (r#"{"ts":1700000000,"series":"cpu"}"#, "series cpu: expected a value"),
            (
                r#"{"ts":1700000000,"series":"cpu","value":1,"mem":2}"#,
                "series cpu: expected one number",
            ),
        ] {
            let error = record(line.as_bytes(), &[]).expect_err(line);
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn records_of_plain_json_are_no_rows() {
        assert!(is_row(br#"{"timestamp":1700000000,"cpu":1}"#));
        for line in [
            r#"{"timestamp":1700000000,"name":"cpu","value":1}"#,
            "[]",
            r#"{"cpu":1}"#,
            "",
        ] {
            assert!(!is_row(line.as_bytes()), "{line}");
        }
    }
}
