//! Declared failures: `{"entity": "…", "class": "…", "onset": …, "end": …, "summary": "…"}`.
//!
//! One object, an array of them, or several after each other in a record. `entity` and `onset` must be there; `class`
//! without a word is `declared`; `end` is left out, `null` or empty while the failure lasts. Times as in [`crate::time`]. An end
//! before the onset is refused, for nobody can tell which of the two is wrong.

use std::borrow::Cow;

use foreshock_domain::{Entity, Incident, Input, Timestamp};
use serde::Serialize;
use serde::de::{Error, IgnoredAny, MapAccess};

use crate::decoder::Decoded;
use crate::error::DecodeError;
use crate::json::{Collect, Scalar, Text, documents};
use crate::labels::bounded;
use crate::limits::{SUMMARY_BYTES_MAX, prefix};
use crate::time;

/// Class of an incident whose declarer gave none.
const CLASS_DEFAULT: &str = "declared";

/// The incidents of a record before they are handed on.
#[derive(Debug, Default)]
pub(crate) struct Incidents {
    incidents: Vec<Incident>,
}

impl Incidents {
    pub(crate) fn decode_record(
        &mut self,
        payload: &[u8],
        sink: &mut dyn FnMut(Input<'_>),
    ) -> Result<Decoded, DecodeError> {
        self.incidents.clear();
        documents(payload, self)?;
        let decoded = Decoded {
            items: self.incidents.len(),
            ..Decoded::default()
        };
        self.incidents
            .drain(..)
            .for_each(|incident| sink(Input::Incident(incident)));
        Ok(decoded)
    }
}

/// Reads one or several incidents.
///
/// # Errors
/// Whatever makes a decoder refuse the record.
pub fn decode(payload: &[u8]) -> Result<Vec<Incident>, DecodeError> {
    let mut all = Incidents::default();
    documents(payload, &mut all)?;
    Ok(all.incidents)
}

/// Writes one incident as [`decode`] reads it.
pub fn encode(incident: &Incident, out: &mut Vec<u8>) {
    #[derive(Serialize)]
    struct Wire<'a> {
        entity: &'a str,
        class: &'a str,
        onset: String,
        end: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        summary: Option<&'a str>,
    }
    let wire = Wire {
        entity: incident.entity.as_str(),
        class: &incident.class,
        onset: time::format_rfc3339(incident.onset),
        end: incident.end.map(time::format_rfc3339),
        summary: incident.summary.as_deref(),
    };
    // Strings into memory: nothing in it can fail.
    let _ = serde_json::to_writer(out, &wire);
}

impl<'de> Collect<'de> for Incidents {
    fn object<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        let (mut entity, mut class, mut onset, mut end, mut summary) = (None, None, None, None, None);
        while let Some(Text(key)) = map.next_key()? {
            match key.as_ref() {
                "entity" => entity = word::<A>(map.next_value()?, "an entity")?,
                "class" => class = word::<A>(map.next_value()?, "a class")?,
                "onset" => onset = moment::<A>(&map.next_value()?)?,
                "end" => end = moment::<A>(&map.next_value()?)?,
                "summary" => {
                    summary = match map.next_value()? {
                        Scalar::Text(text) if !text.is_empty() => Some(prefix(&text, SUMMARY_BYTES_MAX).into()),
                        _ => None,
                    }
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let entity = entity.ok_or_else(|| A::Error::missing_field("entity"))?;
        let onset = onset.ok_or_else(|| A::Error::missing_field("onset"))?;
        if end.is_some_and(|end| end < onset) {
            return Err(A::Error::custom("end before onset, expected end at or after onset"));
        }
        let class = class.unwrap_or(Cow::Borrowed(CLASS_DEFAULT)).as_ref().into();
        self.incidents.push(Incident {
            entity: Entity::new(&entity),
            class,
            onset,
            end,
            summary,
        });
        Ok(())
    }

    fn items(&self) -> usize {
        self.incidents.len()
    }
}

fn word<'de, A: MapAccess<'de>>(found: Scalar<'de>, what: &str) -> Result<Option<Cow<'de, str>>, A::Error> {
    match found {
        Scalar::Null => Ok(None),
        Scalar::Text(text) if text.is_empty() => Ok(None),
        Scalar::Text(text) => {
            bounded::<A::Error>(&text, what)?;
            Ok(Some(text))
        }
        other => Err(other.unexpected(what)),
    }
}

fn moment<'de, A: MapAccess<'de>>(found: &Scalar<'de>) -> Result<Option<Timestamp>, A::Error> {
    match found {
        Scalar::Null => Ok(None),
        Scalar::Text(text) if text.is_empty() => Ok(None),
        other => time::from_scalar(other)
            .map(Some)
            .ok_or_else(|| other.unexpected("an epoch time or RFC 3339 from 1970 to 9999")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decoder::decode_to_text;
    use crate::format::Format;

    #[test]
    fn records() {
        let cases: [(&str, &str, &[&str]); 6] = [
            (
                "open",
                r#"{"entity":"db-1","class":"outage","onset":"2026-01-31T12:00:00Z","end":null,"summary":"db is down"}"#,
                &["db-1 outage 1769860800000 - db is down"],
            ),
            (
                "over",
                r#"{"entity":"db-1","onset":1769860800,"end":1769860860}"#,
                &["db-1 declared 1769860800000 1769860860000 -"],
            ),
            (
                "empty end",
                r#"{"entity":"a","class":"","onset":1000000000,"end":"","summary":7}"#,
                &["a declared 1000000000000 - -"],
            ),
            (
                "an instant",
                r#"{"entity":"a","onset":1000000000,"end":1000000000}"#,
                &["a declared 1000000000000 1000000000000 -"],
            ),
            (
                "array",
                r#"[{"entity":"a","onset":1000000000},{"entity":"b","onset":1000000001}]"#,
                &["a declared 1000000000000 - -", "b declared 1000000001000 - -"],
            ),
            (
                "unknown keys",
                r#"{"status":{"x":[]},"entity":"a","onset":1000000000}"#,
                &["a declared 1000000000000 - -"],
            ),
        ];
        for (name, payload, expected) in cases {
            let (_, items) =
                decode_to_text(Format::IncidentJson, payload.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(items, expected, "{name}");
        }
    }

    #[test]
    fn refusals() {
        let cases = [
            ("no entity", r#"{"onset":1000000000}"#, "missing field `entity`"),
            (
                "empty entity",
                r#"{"entity":"","onset":1000000000}"#,
                "missing field `entity`",
            ),
            ("no onset", r#"{"entity":"a"}"#, "missing field `onset`"),
            (
                "bad onset",
                r#"{"entity":"a","onset":"now"}"#,
                "invalid value: string \"now\", expected an epoch time",
            ),
            (
                "end first",
                r#"{"entity":"a","onset":2000000000,"end":1000000000}"#,
                "end before onset",
            ),
            (
                "entity of the wrong kind",
                r#"{"entity":7,"onset":1000000000}"#,
                "invalid value: integer `7`, expected an entity",
            ),
        ];
        for (name, payload, expected) in cases {
            let error = decode_to_text(Format::IncidentJson, payload.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(expected), "{name}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            entity in ".{1,40}", class in ".{1,40}", summary in proptest::option::of(".{1,40}"),
            onset in 0i64..4_000_000_000_000, lasts in proptest::option::of(0i64..100_000_000),
        ) {
            let onset = Timestamp::from_millis(onset);
            let incident = Incident {
                entity: Entity::new(&entity),
                class: class.into(),
                onset,
                end: lasts.map(|ms| onset + ms),
                summary: summary.map(Into::into),
            };
            let mut bytes = Vec::new();
            encode(&incident, &mut bytes);
            prop_assert_eq!(decode(&bytes).unwrap(), vec![incident]);
        }
    }
}
