//! What became of precursors: one JSON object each, on the topic `foreshock.ledger`, with CloudEvents binary-mode headers.
//! `docs/schema/ledger.schema.json` describes the value and is tested against what is written here.

use foreshock_domain::{Censoring, Entity, Fate, Grade, IncidentId, LedgerEntry, Score};
use serde::{Deserialize, Serialize};

use crate::error::DecodeError;
use crate::event::{CONTENT_TYPE, Hex, Rfc3339};
use crate::limits::PAYLOAD_BYTES_MAX;
use crate::time;

/// Version of the value's schema.
pub const SCHEMA_VERSION: &str = "1.0";

/// The value as it lies in the topic; the order here is the order there.
#[derive(Serialize, Deserialize)]
struct Shape {
    schema_version: String,
    incident_id: Hex,
    entity: Entity,
    fate: Fate,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Censoring>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lead_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure_id: Option<Hex>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure_class: Option<Box<str>>,
    grade: Grade,
    score: f64,
    started_at: Rfc3339,
    told_at: Rfc3339,
    resolved_at: Rfc3339,
    decided_at: Rfc3339,
    horizon_s: f64,
}

/// Writes one entry onto the end of `out`.
pub fn encode(entry: &LedgerEntry, out: &mut Vec<u8>) {
    let number = |x: f64| if x.is_finite() { x } else { 0.0 };
    let shape = Shape {
        schema_version: SCHEMA_VERSION.to_owned(),
        incident_id: Hex(entry.incident_id.0),
        entity: entry.entity.clone(),
        fate: entry.fate,
        reason: entry.reason,
        lead_s: entry.lead_s.filter(|s| s.is_finite()),
        failure_id: entry.failure_id.map(|id| Hex(id.0)),
        failure_class: entry.failure_class.clone(),
        grade: entry.grade,
        score: entry.score.surprise(),
        started_at: Rfc3339(entry.started_at),
        told_at: Rfc3339(entry.told_at),
        resolved_at: Rfc3339(entry.resolved_at),
        decided_at: Rfc3339(entry.decided_at),
        horizon_s: number(entry.horizon_s),
    };
    // Into memory, and every number and key has a form in JSON: nothing in it can fail.
    let _ = serde_json::to_writer(out, &shape);
}

/// CloudEvents headers of an entry. `source` is a URI reference that names this deployment.
#[must_use]
pub fn headers(entry: &LedgerEntry, source: &str) -> Vec<(&'static str, String)> {
    let fate = match entry.fate {
        Fate::Confirmed => "confirmed",
        Fate::Expired => "expired",
        Fate::Mitigated => "mitigated",
        Fate::Censored => "censored",
    };
    vec![
        ("ce_specversion", "1.0".to_owned()),
        // A precursor has one entry, so its id is the entry's.
        ("ce_id", entry.incident_id.to_string()),
        ("ce_source", source.to_owned()),
        ("ce_type", format!("foreshock.ledger.{fate}.v1")),
        ("ce_time", time::format_rfc3339(entry.decided_at)),
        ("content-type", CONTENT_TYPE.to_owned()),
    ]
}

/// Reads an entry back.
///
/// # Errors
/// Where it is not an entry of this major version of the schema.
pub fn decode(payload: &[u8]) -> Result<LedgerEntry, DecodeError> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        let bytes = payload.len();
        return Err(DecodeError::new(&format!(
            "record of {bytes} bytes, expected at most {PAYLOAD_BYTES_MAX}"
        )));
    }
    let shape: Shape = serde_json::from_slice(payload).map_err(|e| DecodeError::json(&e, (1, 1)))?;
    if shape.schema_version.split('.').next() != SCHEMA_VERSION.split('.').next() {
        return Err(DecodeError::new(&format!(
            "another schema version, expected {SCHEMA_VERSION}"
        )));
    }
    Ok(LedgerEntry {
        incident_id: IncidentId(shape.incident_id.0),
        entity: shape.entity,
        grade: shape.grade,
        score: Score::from_surprise(shape.score),
        started_at: shape.started_at.0,
        told_at: shape.told_at.0,
        resolved_at: shape.resolved_at.0,
        decided_at: shape.decided_at.0,
        horizon_s: shape.horizon_s,
        fate: shape.fate,
        lead_s: shape.lead_s,
        failure_id: shape.failure_id.map(|id| IncidentId(id.0)),
        failure_class: shape.failure_class,
        reason: shape.reason,
    })
}
