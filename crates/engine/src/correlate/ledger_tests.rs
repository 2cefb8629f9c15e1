use foreshock_domain::{EventKind, Grade, Score};

use super::*;

const HOUR: i64 = 3_600;

fn t(s: i64) -> Timestamp {
    Timestamp::from_secs(s)
}

/// A precursor that was told at 100 and resolved at 1,000.
fn waiting() -> Ledger {
    let (mut ledger, mut out) = (Ledger::default(), Vec::new());
    ledger.resolved(
        &Entity::new("web"),
        &precursor(1, 100),
        t(1_000),
        HOUR * 1_000,
        &mut out,
    );
    assert_eq!(out, []);
    ledger
}

fn precursor(id: u128, told: i64) -> Incident {
    Incident {
        kind: EventKind::Precursor,
        id: IncidentId(id),
        seq: 2,
        started_at: t(told - 50),
        opened_at: t(told),
        told_at: t(told),
        score: Score::from_surprise(5.0),
        threshold: Score::from_surprise(4.0),
        contributors: Vec::new(),
        class: "".into(),
        rule: "".into(),
        evidence: "".into(),
        grade: Grade::Watch,
        prediction: None,
        exhaustion: None,
        burn: None,
        record: None,
    }
}

fn failed(onset: i64) -> impl Fn(&mut Ledger, &mut Vec<LedgerEntry>) {
    move |ledger, out| {
        let failure = Failed {
            id: IncidentId(9),
            class: "probe",
            onset: t(onset),
            told_at: t(onset.max(1_000) + 30),
        };
        ledger.failed(failure, out);
    }
}

/// What happens to the ledger.
type Happens = Box<dyn Fn(&mut Ledger, &mut Vec<LedgerEntry>)>;
/// Fate, reason, lead and when it was known.
type Told = (Fate, Option<Censoring>, Option<f64>, i64);

#[test]
fn every_fate() {
    let end = 1_000 + HOUR;
    let cases: [(&str, Happens, Option<Told>); 12] = [
        (
            "failed while it was open",
            Box::new(failed(900)),
            Some((Fate::Confirmed, None, Some(800.0), 1_030)),
        ),
        (
            "failed within the horizon",
            Box::new(failed(end)),
            Some((Fate::Confirmed, None, Some((end - 100) as f64), end + 30)),
        ),
        (
            "failed after it",
            Box::new(failed(end + 1)),
            Some((Fate::Expired, None, None, end)),
        ),
        (
            "had failed before",
            Box::new(failed(100)),
            Some((Fate::Censored, Some(Censoring::Symptom), None, 1_030)),
        ),
        ("had failed long before", Box::new(failed(100 - HOUR - 1)), None),
        ("not yet over", Box::new(move |l, out| l.heard(t(end - 1), out)), None),
        (
            "over",
            Box::new(move |l, out| l.heard(t(end), out)),
            Some((Fate::Expired, None, None, end)),
        ),
        (
            "heard again much later",
            Box::new(move |l, out| l.heard(t(end + 9 * HOUR), out)),
            Some((Fate::Expired, None, None, end)),
        ),
        (
            "work before it was resolved",
            Box::new(|l, out| l.planned(t(900), t(990), out)),
            Some((Fate::Mitigated, None, None, 1_000)),
        ),
        (
            "work in the horizon",
            Box::new(|l, out| l.planned(t(2_000), t(2_005), out)),
            Some((Fate::Mitigated, None, None, 2_005)),
        ),
        (
            "work after it",
            Box::new(move |l, out| l.planned(t(end), t(end), out)),
            None,
        ),
        (
            "forgotten",
            Box::new(|l, out| l.forgotten(t(3_000), out)),
            Some((Fate::Censored, Some(Censoring::Forgotten), None, 3_000)),
        ),
    ];
    for (name, happens, expected) in cases {
        let (mut ledger, mut out) = (waiting(), Vec::new());
        happens(&mut ledger, &mut out);
        let told: Vec<Told> = out
            .iter()
            .map(|e| (e.fate, e.reason, e.lead_s, e.decided_at.as_millis() / 1_000))
            .collect();
        assert_eq!(told, Vec::from_iter(expected), "{name}");
        let is_of_failure = out.iter().any(|e| e.failure_id == Some(IncidentId(9)));
        let expects_failure = matches!(
            expected,
            Some((Fate::Confirmed, ..) | (_, Some(Censoring::Symptom), ..))
        );
        assert_eq!(is_of_failure, expects_failure, "{name}");
        // Told once.
        let known = out.len();
        ledger.forgotten(t(99_999), &mut out);
        assert_eq!(out.len(), 1.max(known), "{name}");
        assert_eq!(ledger, Ledger::default(), "{name}");
    }
}

#[test]
fn waiting_is_bounded() {
    let (mut ledger, mut out) = (Ledger::default(), Vec::new());
    for i in 0..100 {
        ledger.resolved(
            &Entity::new("web"),
            &precursor(i as u128, i),
            t(i + 10),
            HOUR * 1_000,
            &mut out,
        );
    }
    assert_eq!(ledger.waiting.len(), WAITING_MAX);
    assert!(out.iter().all(|e| e.reason == Some(Censoring::Crowded)));
    ledger.forgotten(t(500), &mut out);
    let ids: std::collections::BTreeSet<_> = out.iter().map(|e| e.incident_id).collect();
    assert_eq!((out.len(), ids.len()), (100, 100), "each is told once");
}
