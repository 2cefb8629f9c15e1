use super::*;

use crate::backtest::collect::{Before, Seen};
use foreshock_domain::Grade;

const MINUTE: i64 = 60_000;

fn at(minute: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + minute * MINUTE)
}

fn label(entity: &str, class: &str, onset: i64, end: i64) -> Label {
    Label {
        entity: Entity::new(entity),
        class: class.into(),
        onset: at(onset),
        end: Some(at(end)),
        lead_ms: None,
    }
}

/// An episode that is told at these minutes with these surprises.
fn episode(entity: &str, alerts: &[(i64, f64)]) -> Episode {
    Episode {
        entity: Entity::new(entity),
        alerts: alerts
            .iter()
            .map(|(m, score)| Alert {
                at: at(*m),
                score: *score,
                grade: Grade::Info,
                probability: None,
            })
            .collect(),
        ended: None,
        why: "odd".into(),
        kinds: vec![Kind {
            name: "cpu".into(),
            channel: "level".into(),
        }],
    }
}

/// Two entities watched for ten hours.
fn collected(labels: &[Label], episodes: Vec<Episode>) -> Collected {
    Collected {
        episodes,
        before: vec![Before::default(); labels.len()],
        spans: ["a", "b"].map(|e| (Entity::new(e), (at(0), at(600)))).into(),
        ..Collected::default()
    }
}

fn terms() -> Terms {
    Terms {
        lead_ms: 5 * MINUTE,
        horizon_ms: 60 * MINUTE,
        from: Timestamp::MIN,
        apart: vec!["kill".into()],
        budget_per_day: 1.0,
    }
}

#[test]
fn every_episode_has_one_outcome() {
    let labels = [label("a", "crash", 300, 310)];
    /// Entity, alerts, outcome.
    type Case<'a> = (&'a str, &'a [(i64, f64)], Outcome);
    let cases: [Case<'_>; 11] = [
        ("a", &[(240, 5.0)], Outcome::True),
        ("a", &[(295, 5.0)], Outcome::True),
        ("a", &[(296, 5.0)], Outcome::Late),
        ("a", &[(239, 5.0)], Outcome::False),
        ("a", &[(100, 5.0), (250, 6.0)], Outcome::True),
        ("a", &[(300, 5.0)], Outcome::Symptom),
        ("a", &[(310, 5.0)], Outcome::Symptom),
        ("a", &[(312, 5.0)], Outcome::False),
        ("b", &[(250, 5.0)], Outcome::False),
        ("b", &[(540, 5.0)], Outcome::False),
        ("b", &[(541, 5.0)], Outcome::Unknown),
    ];
    for (entity, alerts, expected) in cases {
        let collected = collected(&labels, vec![episode(entity, alerts)]);
        let (_, outcomes) = evaluate(&terms(), &labels, 0, &collected);
        assert_eq!(outcomes, [expected], "{entity} {alerts:?}");
    }
}

#[test]
fn figures_count_failures_and_episodes_once() {
    let labels = [
        label("a", "crash", 120, 125),
        label("a", "slo", 400, 410),
        label("b", "kill", 200, 201),
        label("b", "crash", 300, 301),
    ];
    let episodes = vec![
        episode("a", &[(70, 4.0), (100, 6.0)]),
        episode("a", &[(110, 5.0)]),
        episode("a", &[(397, 5.0)]),
        episode("b", &[(30, 5.0)]),
    ];
    let mut collected = collected(&labels, episodes);
    collected.seen.push(Seen {
        entity: Entity::new("a"),
        class: "probe".into(),
        onset: at(121),
        end: None,
    });
    let (f, _) = evaluate(&terms(), &labels, 0, &collected);
    assert_eq!((f.recall.hits, f.recall.of), (1, 3), "the kill is apart");
    assert_eq!((f.precision.hits, f.precision.of), (2, 3), "late counts neither way");
    assert_eq!(f.leads_s, [50.0 * 60.0], "the first warning counts");
    assert!((f.false_per_day - 1.0 / (600.0 / 1_440.0)).abs() < 1e-9);
    assert!(f.failures[1].late && f.failures[1].lead_s.is_none(), "{:?}", f.failures);
    assert_eq!(f.failures.iter().filter(|r| r.seen).count(), 1);
    let classes: Vec<(&str, bool, usize)> = f.classes.iter().map(|c| (&*c.class, c.apart, c.recall.of)).collect();
    assert_eq!(classes, [("crash", false, 2), ("slo", false, 1), ("kill", true, 1)]);
    // From surprise 5.5 on, one episode and one failure are left.
    let strict = f.curve.iter().find(|p| p.threshold > 5.5).unwrap();
    assert_eq!(
        (strict.recall, strict.precision, strict.false_per_day),
        (1.0 / 3.0, 1.0, 0.0)
    );
}

#[test]
fn what_cannot_be_scored_is_left_out_and_told() {
    let labels = [
        label("a", "crash", -5, -4),
        label("a", "crash", 50, 51),
        label("nobody", "crash", 100, 101),
        label("a", "crash", 601, 602),
        label("a", "crash", 500, 501),
    ];
    let collected = collected(&labels, vec![episode("a", &[(40, 5.0)]), episode("a", &[(480, 5.0)])]);
    let terms = Terms {
        from: at(100),
        ..terms()
    };
    let (f, _) = evaluate(&terms, &labels, 3, &collected);
    let expected = LeftOut {
        merged: 3,
        before: 2,
        after: 1,
        unknown: vec!["nobody".into()],
        unknown_count: 1,
    };
    assert_eq!((f.left_out, f.recall.of, f.precision.of), (expected, 1, 1));
}

#[test]
fn chance_knows_alarms_that_are_always_on() {
    let labels: Vec<Label> = (1..9).map(|i| label("a", "crash", i * 65, i * 65 + 1)).collect();
    let always = (0..60).map(|i| episode("a", &[(i * 10, 5.0)])).collect();
    let (f, _) = evaluate(&terms(), &labels, 0, &collected(&labels, always));
    assert_eq!(f.recall.share, Some(1.0));
    assert!(
        f.chance_recall > 0.99 && f.chance_p > 0.9,
        "{} {}",
        f.chance_recall,
        f.chance_p
    );
    let apt = labels
        .iter()
        .map(|l| episode("a", &[((l.onset - at(0)) / MINUTE - 6, 5.0)]))
        .collect();
    let terms = Terms {
        horizon_ms: 8 * MINUTE,
        ..terms()
    };
    let (f, _) = evaluate(&terms, &labels, 0, &collected(&labels, apt));
    assert_eq!(f.recall.share, Some(1.0));
    assert!(
        f.chance_recall < 0.3 && f.chance_p < 0.2,
        "{} {}",
        f.chance_recall,
        f.chance_p
    );
}

#[test]
fn nothing_gives_no_figures_and_no_nan() {
    let (f, outcomes) = evaluate(&terms(), &[], 0, &Collected::default());
    assert!(outcomes.is_empty() && f.recall.share.is_none() && f.lead_s.is_none() && f.curve.is_empty());
    let text = serde_json::to_string(&f).unwrap();
    assert!(!text.contains("null,\"low\":null"), "{text}");
    assert!(f.false_per_day == 0.0 && f.false_per_entity_day == 0.0);
}

#[test]
fn wilson_intervals() {
    // Brown, Cai, DasGupta, Statistical Science 16(2), 2001: ends by hand.
    let cases = [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0)];
    for (hits, of, low, high) in cases {
        let share = Share::new(hits, of);
        assert!(
            (share.low - low).abs() < 1e-3 && (share.high - high).abs() < 1e-3,
            "{share:?}"
        );
    }
}
