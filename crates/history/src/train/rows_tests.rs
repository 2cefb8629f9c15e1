use foreshock_engine::Moment;

use super::*;

#[test]
fn what_is_thinned_is_stood_for() {
    let horizon_ms = 60_000;
    let at = |i: i64| Timestamp::from_millis(1_700_000_000_000 + i * 10_000);
    let failure = Label {
        entity: Entity::new("a"),
        class: "crash".into(),
        onset: at(150_000),
        end: None,
        lead_ms: None,
    };
    let mut rows = Rows::new(&[failure], &[], horizon_ms, 0);
    let n = 2 * i64::try_from(ROWS_MAX).unwrap();
    for i in 0..n {
        rows.take(Moment {
            entity: Entity::new("a"),
            at: at(i),
            probability: None,
            features: vec![(1, [0.0; PER_SERIES])],
            names: vec![],
        });
    }
    assert!(
        rows.rows.len() <= ROWS_MAX && rows.rows.len() > ROWS_MAX / 8,
        "{}",
        rows.rows.len()
    );
    let stood_for: f64 = rows.rows.iter().map(|r| r.weight).sum();
    assert!((stood_for / n as f64 - 1.0).abs() < 0.05, "{stood_for} of {n}");
    // All rows before the failure are there, each for itself.
    let before: Vec<&Row> = rows
        .rows
        .iter()
        .filter(|r| matches!(rows.target(r), Target::In(_)))
        .collect();
    assert_eq!(before.len(), 6);
    assert!(before.iter().all(|r| r.weight == 1.0));
}
