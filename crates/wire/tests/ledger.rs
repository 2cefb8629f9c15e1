//! Entries of the ledger are what the published schema says, and are read back as they were written.
#![allow(clippy::unwrap_used)] // a test that fails may say so

use foreshock_domain::{Censoring, Entity, Fate, Grade, IncidentId, LedgerEntry, Score, Timestamp};
use foreshock_wire::ledger;
use proptest::prelude::*;
use serde_json::Value;

const SCHEMA: &str = include_str!("../../../docs/schema/ledger.schema.json");

/// What is wrong with an entry under the schema, which here also refuses every key that it does not name.
fn errors(bytes: &[u8]) -> Vec<String> {
    let closed = SCHEMA.replace("\"additionalProperties\": true", "\"additionalProperties\": false");
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&serde_json::from_str(&closed).unwrap())
        .unwrap();
    let value: Value = serde_json::from_slice(bytes).unwrap();
    validator
        .iter_errors(&value)
        .map(|e| format!("{e} at {}", e.instance_path()))
        .collect()
}

fn entry(fate: Fate, reason: Option<Censoring>) -> LedgerEntry {
    let is_of_failure = fate == Fate::Confirmed || reason == Some(Censoring::Symptom);
    LedgerEntry {
        incident_id: IncidentId(0xabc),
        entity: Entity::new("web-1"),
        grade: Grade::Watch,
        score: Score::from_surprise(4.5),
        started_at: Timestamp::from_secs(1_800_000_000),
        told_at: Timestamp::from_secs(1_800_000_060),
        resolved_at: Timestamp::from_secs(1_800_000_900),
        decided_at: Timestamp::from_secs(1_800_000_900),
        horizon_s: 3_600.0,
        fate,
        lead_s: (fate == Fate::Confirmed).then_some(840.0),
        failure_id: is_of_failure.then_some(IncidentId(0xdef)),
        failure_class: is_of_failure.then(|| "probe".into()),
        reason,
    }
}

fn bytes(entry: &LedgerEntry) -> Vec<u8> {
    let mut bytes = Vec::new();
    ledger::encode(entry, &mut bytes);
    bytes
}

const FATES: [(Fate, Option<Censoring>); 6] = [
    (Fate::Confirmed, None),
    (Fate::Expired, None),
    (Fate::Mitigated, None),
    (Fate::Censored, Some(Censoring::Forgotten)),
    (Fate::Censored, Some(Censoring::Symptom)),
    (Fate::Censored, Some(Censoring::Crowded)),
];

#[test]
fn every_fate_satisfies_the_schema() {
    for (fate, reason) in FATES {
        assert_eq!(errors(&bytes(&entry(fate, reason))), Vec::<String>::new(), "{fate:?}");
    }
}

#[test]
fn the_schema_refuses_what_does_not_agree() {
    let confirmed = |change: fn(&mut LedgerEntry)| {
        let mut entry = entry(Fate::Confirmed, None);
        change(&mut entry);
        entry
    };
    let cases = [
        ("no lead", confirmed(|e| e.lead_s = None)),
        ("no failure", confirmed(|e| e.failure_id = None)),
        ("a reason", confirmed(|e| e.reason = Some(Censoring::Forgotten))),
        ("expired with a lead", confirmed(|e| e.fate = Fate::Expired)),
        ("censored without a reason", entry(Fate::Censored, None)),
    ];
    for (name, entry) in cases {
        assert_ne!(errors(&bytes(&entry)), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn headers_name_precursor_and_fate() {
    let headers = ledger::headers(&entry(Fate::Confirmed, None), "/foreshock/test");
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", "00000000000000000000000000000abc"),
        ("ce_source", "/foreshock/test"),
        ("ce_type", "foreshock.ledger.confirmed.v1"),
        ("ce_time", "2027-01-15T08:15:00.000Z"),
        ("content-type", "application/json"),
    ];
    let found: Vec<_> = headers.iter().map(|(k, v)| (*k, v.as_str())).collect();
    assert_eq!(found, expected);
}

#[test]
fn refusals() {
    let other = String::from_utf8(bytes(&entry(Fate::Expired, None))).unwrap();
    let cases = [
        ("[1]".to_owned(), "invalid"),
        (
            other.replace("\"schema_version\":\"1.0\"", "\"schema_version\":\"2.0\""),
            "another schema version, expected 1.0",
        ),
        (other.replace("expired", "lost"), "unknown variant `lost`"),
    ];
    for (payload, expected) in cases {
        let error = ledger::decode(payload.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{payload}: {error}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        of in 0usize..FATES.len(), id in any::<u128>(), name in any::<String>(), at in 0i64..4_000_000_000_000, surprise in 0.0..300.0,
    ) {
        let (fate, reason) = FATES[of];
        let entry = LedgerEntry {
            incident_id: IncidentId(id),
            entity: Entity::new(&name),
            score: Score::from_surprise(surprise),
            told_at: Timestamp::from_millis(at),
            ..entry(fate, reason)
        };
        let bytes = bytes(&entry);
        prop_assert_eq!(errors(&bytes), Vec::<String>::new());
        prop_assert_eq!(ledger::decode(&bytes).unwrap(), entry);
    }
}
