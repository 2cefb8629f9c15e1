use foreshock_domain::{Channel, Contributor, Direction, EventKind, Grade, Score, Source};

use super::*;

const HOUR: i64 = 3_600;

fn t(s: i64) -> Timestamp {
    Timestamp::from_secs(s)
}

/// A precursor that was told at 100 and resolved at 1,000.
fn waiting() -> Ledger {
    let mut ledger = Ledger::default();
    let told = with_fates(&mut TrackRecords::default(), |fates| {
        ledger.resolved(&Entity::new("web"), &precursor(1, 100), t(1_000), HOUR * 1_000, fates);
    });
    assert_eq!(told, []);
    ledger
}

/// The entries that `act` gives.
fn with_fates(records: &mut TrackRecords, act: impl FnOnce(&mut Fates<'_>)) -> Vec<LedgerEntry> {
    let mut out = Vec::new();
    act(&mut Fates { out: &mut out, records });
    out
}

fn signal() -> Contributor {
    Contributor {
        source: Source::Metric,
        id: "m".into(),
        name: "memory{host=web}".into(),
        channel: Channel::Level,
        direction: Direction::Up,
        score: Score::from_surprise(5.0),
        actual: 2.0,
        expected: 1.0,
        lower: 0.0,
        upper: 1.5,
        onset: t(0),
        log: None,
        share: None,
    }
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
        contributors: vec![signal()],
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

fn failed(onset: i64) -> impl Fn(&mut Ledger, &mut Fates<'_>) {
    move |ledger, fates| {
        let failure = Failed {
            id: IncidentId(9),
            class: "probe",
            onset: t(onset),
            told_at: t(onset.max(1_000) + 30),
        };
        ledger.failed(failure, fates);
    }
}

/// What happens to the ledger.
type Happens = Box<dyn Fn(&mut Ledger, &mut Fates<'_>)>;
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
        let (mut ledger, mut records) = (waiting(), TrackRecords::default());
        records.healthy(1_000 * HOUR * 1_000);
        let out = with_fates(&mut records, |fates| happens(&mut ledger, fates));
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
        let record = records.of(&[signal()]).map(|(record, _)| (record.right, record.of));
        let on_record = match expected {
            Some((Fate::Confirmed, ..)) => Some((1, 1)),
            Some((Fate::Expired, ..)) => Some((0, 1)),
            _ => None,
        };
        assert_eq!(record, on_record, "{name}");
        // Told once.
        let more = with_fates(&mut records, |fates| ledger.forgotten(t(99_999), fates));
        assert_eq!(out.len() + more.len(), 1, "{name}");
        assert_eq!(ledger, Ledger::default(), "{name}");
    }
}

#[test]
fn waiting_is_bounded() {
    let mut ledger = Ledger::default();
    let mut out = with_fates(&mut TrackRecords::default(), |fates| {
        for i in 0..100 {
            let told = precursor(i as u128, i);
            ledger.resolved(&Entity::new("web"), &told, t(i + 10), HOUR * 1_000, fates);
        }
    });
    assert_eq!(ledger.waiting.len(), WAITING_MAX);
    assert!(out.iter().all(|e| e.reason == Some(Censoring::Crowded)));
    out.extend(with_fates(&mut TrackRecords::default(), |fates| {
        ledger.forgotten(t(500), fates);
    }));
    let ids: std::collections::BTreeSet<_> = out.iter().map(|e| e.incident_id).collect();
    assert_eq!((out.len(), ids.len()), (100, 100), "each is told once");
}
