//! The topic between the stages: one JSON object a record, `{"window": …}`, `{"urgent": …}`, `{"incident": …}`, `{"progress": …}`
//! or `{"tick": …}`; `docs/schema/signals.schema.json` describes it.
//!
//! Times are milliseconds since 1970. What is decoded equals what was encoded, bit for bit: numbers are written with the fewest
//! digits that give them back, and `NaN`, `+Inf` and `-Inf`, which JSON can't say, as text.
//!
//! The shapes below mirror the domain's types (serde's remote derive: the compiler holds them together), because only
//! this topic needs numbers that may be text.

use foreshock_domain::{
    Channel, Direction, Entity, EntityWindow, Fact, Incident, LogEvidence, Progress, Score, Signal, SignalRecord,
    Source, SourcePosition, TemplateEntry, Tick, Timestamp, VectorEntry, Verdict,
};
use serde::{Deserialize, Serialize};

use crate::error::DecodeError;
use crate::limits::PAYLOAD_BYTES_MAX;

/// Writes one record onto the end of `out`.
pub fn encode(record: &SignalRecord, out: &mut Vec<u8>) {
    // Into memory, and every number and key has a form in JSON: nothing in it can fail.
    let _ = RecordShape::serialize(record, &mut serde_json::Serializer::new(out));
}

/// Reads one record.
///
/// # Errors
/// Where it is not one: also a window that ends before it starts, or a tick with a non-positive interval.
pub fn decode(payload: &[u8]) -> Result<SignalRecord, DecodeError> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        let bytes = payload.len();
        return Err(DecodeError::new(&format!(
            "record of {bytes} bytes, expected at most {PAYLOAD_BYTES_MAX}"
        )));
    }
    let mut json = serde_json::Deserializer::from_slice(payload);
    let record = RecordShape::deserialize(&mut json)
        .and_then(|record| json.end().map(|()| record))
        .map_err(|e| DecodeError::json(&e, (1, 1)))?;
    match &record {
        SignalRecord::Window(w) | SignalRecord::Urgent(w) if w.end <= w.start => Err(DecodeError::new(
            "window that ends before it starts, expected end after start",
        )),
        SignalRecord::Tick(t) if t.every_ms <= 0 => {
            Err(DecodeError::new("tick without interval, expected every_ms above 0"))
        }
        _ => Ok(record),
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "SignalRecord", rename_all = "snake_case")]
enum RecordShape {
    Window(#[serde(with = "WindowShape")] EntityWindow),
    Incident {
        incident: Incident,
        position: SourcePosition,
    },
    Progress(Progress),
    Tick(Tick),
    Urgent(#[serde(with = "WindowShape")] EntityWindow),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "EntityWindow")]
struct WindowShape {
    entity: Entity,
    start: Timestamp,
    end: Timestamp,
    position: SourcePosition,
    samples: u32,
    lines: u32,
    tested: u32,
    #[serde(with = "signals_shape")]
    signals: Vec<Signal>,
    #[serde(with = "facts_shape")]
    facts: Vec<Fact>,
    /// Windows of before there was one have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "vector")]
    vector: Vec<VectorEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "templates")]
    templates: Vec<TemplateEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Signal")]
struct SignalShape {
    source: Source,
    id: Box<str>,
    name: Box<str>,
    unit: Option<Box<str>>,
    #[serde(with = "VerdictShape")]
    verdict: Verdict,
    onset: Timestamp,
    log: Option<LogEvidence>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share: Option<f64>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Verdict")]
struct VerdictShape {
    #[serde(deserialize_with = "score")]
    score: Score,
    channel: Channel,
    direction: Direction,
    #[serde(with = "number")]
    actual: f64,
    #[serde(with = "number")]
    expected: f64,
    #[serde(with = "number")]
    lower: f64,
    #[serde(with = "number")]
    upper: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Fact", rename_all = "snake_case")]
enum FactShape {
    Probe {
        rule: Box<str>,
        series: Box<str>,
        up: u32,
        down: u32,
        first_down: Option<Timestamp>,
        last_up: Option<Timestamp>,
    },
    Counter {
        rule: Box<str>,
        errors: bool,
        #[serde(with = "number")]
        increase: f64,
    },
    Lines {
        rule: Box<str>,
        count: u32,
        first_at: Timestamp,
        sample: Box<str>,
    },
    Process {
        rule: Box<str>,
        series: Box<str>,
        count: u32,
        at: Timestamp,
        cause: Box<str>,
    },
    Heartbeat {
        rule: Box<str>,
        series: Box<str>,
        last_at: Timestamp,
    },
}

/// Scores are made by the domain's own constructor, which keeps negative ones out.
fn score<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Score, D::Error> {
    f64::deserialize(d).map(Score::from_surprise)
}

/// A number that may be one of those JSON has no form for.
mod number {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::json::Scalar;

    pub(super) fn serialize<S: Serializer>(x: &f64, s: S) -> Result<S::Ok, S::Error> {
        match *x {
            x if x.is_finite() => s.serialize_f64(x),
            x if x.is_nan() => s.serialize_str("NaN"),
            x if x > 0.0 => s.serialize_str("+Inf"),
            _ => s.serialize_str("-Inf"),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        match Scalar::deserialize(d)? {
            Scalar::Text(text) => match text.as_ref() {
                "NaN" => Ok(f64::NAN),
                "+Inf" => Ok(f64::INFINITY),
                "-Inf" => Ok(f64::NEG_INFINITY),
                _ => Err(D::Error::custom("invalid text, expected a number, NaN, +Inf or -Inf")),
            },
            Scalar::Bool(_) => Err(D::Error::custom(
                "invalid boolean, expected a number, NaN, +Inf or -Inf",
            )),
            other => other
                .number()
                .ok_or_else(|| other.unexpected("a number, NaN, +Inf or -Inf")),
        }
    }
}

/// Each entry as `[id, value]` or `[id, value, name]`: there may be 64 in every window of every entity.
mod vector {
    use foreshock_domain::{SeriesId, VectorEntry};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Most series of an entity in a window.
    const ENTRIES_MAX: usize = 64;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Entry {
        Named(Box<str>, f32, Box<str>),
        Bare(Box<str>, f32),
    }

    pub(super) fn serialize<S: Serializer>(all: &[VectorEntry], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(all.iter().filter(|e| e.value.is_finite()).map(|e| {
            let id = e.series.to_string().into();
            match &e.name {
                Some(name) => Entry::Named(id, e.value, name.clone()),
                None => Entry::Bare(id, e.value),
            }
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<VectorEntry>, D::Error> {
        let entries = Vec::<Entry>::deserialize(d)?;
        if entries.len() > ENTRIES_MAX {
            return Err(D::Error::custom("more than 64 series in a vector"));
        }
        let entry = |entry| {
            let (id, value, name) = match entry {
                Entry::Named(id, value, name) => (id, value, Some(name)),
                Entry::Bare(id, value) => (id, value, None),
            };
            let series =
                super::hex(&id).ok_or_else(|| D::Error::custom("invalid series id, expected 16 hex digits"))?;
            Ok(VectorEntry {
                series: SeriesId(series),
                value,
                name,
            })
        };
        entries.into_iter().map(entry).collect()
    }
}

/// Sixteen hex digits and nothing else.
fn hex(id: &str) -> Option<u64> {
    let is_hex = id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit());
    u64::from_str_radix(id, 16).ok().filter(|_| is_hex)
}

/// Each entry as `[id, count, level]` or `[id, count, level, name]`.
mod templates {
    use foreshock_domain::{Level, TemplateEntry};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Most templates of an entity in a window.
    const ENTRIES_MAX: usize = 64;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Entry {
        Named(Box<str>, u32, Option<Level>, Box<str>),
        Bare(Box<str>, u32, Option<Level>),
    }

    pub(super) fn serialize<S: Serializer>(all: &[TemplateEntry], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(all.iter().map(|e| {
            let id = format!("{:016x}", e.id).into();
            match &e.name {
                Some(name) => Entry::Named(id, e.count, e.level, name.clone()),
                None => Entry::Bare(id, e.count, e.level),
            }
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<TemplateEntry>, D::Error> {
        let entries = Vec::<Entry>::deserialize(d)?;
        if entries.len() > ENTRIES_MAX {
            return Err(D::Error::custom("more than 64 templates in a window"));
        }
        let entry = |entry| {
            let (id, count, level, name) = match entry {
                Entry::Named(id, count, level, name) => (id, count, level, Some(name)),
                Entry::Bare(id, count, level) => (id, count, level, None),
            };
            let id = super::hex(&id).ok_or_else(|| D::Error::custom("invalid template id, expected 16 hex digits"))?;
            Ok(TemplateEntry { id, count, level, name })
        };
        entries.into_iter().map(entry).collect()
    }
}

/// A list of shapes: serde's remote derive knows single values only.
macro_rules! list_of {
    ($module:ident, $shape:ident, $of:ident) => {
        mod $module {
            use serde::{Deserialize, Deserializer, Serialize, Serializer};

            use super::$of;

            struct Read($of);
            impl<'de> Deserialize<'de> for Read {
                fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                    super::$shape::deserialize(d).map(Read)
                }
            }

            struct Write<'a>(&'a $of);
            impl Serialize for Write<'_> {
                fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                    super::$shape::serialize(self.0, s)
                }
            }

            pub(super) fn serialize<S: Serializer>(all: &[$of], s: S) -> Result<S::Ok, S::Error> {
                s.collect_seq(all.iter().map(Write))
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<$of>, D::Error> {
                Ok(Vec::<Read>::deserialize(d)?
                    .into_iter()
                    .map(|read| read.0)
                    .collect())
            }
        }
    };
}

list_of!(signals_shape, SignalShape, Signal);
list_of!(facts_shape, FactShape, Fact);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_by_case() {
        let record = |vector: &str| {
            format!(
                r#"{{"window":{{"entity":"web-1","start":0,"end":10,"position":{{"upstream":{{"topic":"m","partition":0}},
                "offset_first":0,"offset_last":0}},"samples":1,"lines":0,"tested":0,"signals":[],"facts":[]{vector}}}}}"#
            )
        };
        let id = r#""00000000000000ff""#;
        let many = format!(r#","vector":[{}]"#, vec![format!("[{id},1]"); 65].join(","));
        let cases: [(&str, String, Option<usize>); 6] = [
            ("of before there was one", String::new(), Some(0)),
            ("bare", format!(r#","vector":[[{id},1.5]]"#), Some(1)),
            ("named", format!(r#","vector":[[{id},1.5,"cpu"],[{id},-2]]"#), Some(2)),
            ("not an id", r#","vector":[["+f",1.5]]"#.to_owned(), None),
            ("no value", format!(r#","vector":[[{id}]]"#), None),
            ("more than fit", many, None),
        ];
        for (name, vector, expected) in cases {
            let entries = match decode(record(&vector).as_bytes()) {
                Ok(SignalRecord::Window(window)) => Some(window.vector.len()),
                _ => None,
            };
            assert_eq!(entries, expected, "{name}");
        }
    }
}
