//! A model learned from failures in the engine: warnings, what they say, what they leave when the failure comes, and that what is
//! learned from is what is computed live.

#![allow(clippy::panic, clippy::unwrap_used)] // a test says what is wrong

use std::sync::Arc;

use foreshock_domain::{Event, EventAction, EventKind, Grade, Resolution, Severity, Timestamp};
use foreshock_engine::{
    Destination, Engine, EngineConfig, MemoryLog, MemoryTopic, Moment, Observe, SourceConfig, StoredRecord, TopicId,
    TopicPartition, run,
};
use foreshock_failure::predict::{
    Bin, Calibration, FEATURE_NAMES, HAZARD_VERSION, HazardModel, Linear, Odds, OperatingPoint, PER_SERIES, Schema,
    SchemaSeries, key_of,
};
use foreshock_failure::{FailureConfig, Rules};
use foreshock_wire::{Format, event};

const START_MS: i64 = 1_700_000_000_000;
const EVERY_MS: i64 = 5_000;
const SAMPLES: i64 = 720;
/// Sample from which on a host leaks, and at which its probe fails, for two minutes.
const LEAKS: i64 = 480;
const FAILS: i64 = 600;

/// Two hosts; the second leaks for ten minutes, then its probe fails.
fn topic() -> MemoryTopic {
    let mut records = Vec::new();
    for i in 0..SAMPLES {
        for host in ["a", "b"] {
            let leaks = host == "b" && (LEAKS..FAILS).contains(&i);
            let memory = 1_000.0 + ((i * 7_919) % 13) as f64 + if leaks { 10.0 * (i - LEAKS) as f64 } else { 0.0 };
            let up = i32::from(!(host == "b" && (FAILS..FAILS + 24).contains(&i)));
            let at = START_MS + i * EVERY_MS;
            for (name, value) in [("memory", memory), ("up", f64::from(up))] {
                let line =
                    format!(r#"{{"timestamp":{at},"name":"{name}","value":{value},"labels":{{"host":"{host}"}}}}"#);
                records.push(StoredRecord {
                    of: TopicPartition {
                        topic: TopicId(1),
                        partition: 0,
                    },
                    timestamp: Some(Timestamp::from_millis(at)),
                    key: Some(host.as_bytes().to_vec()),
                    payload: Some(line.into_bytes()),
                });
            }
        }
    }
    MemoryTopic::new(records, 1)
}

/// Says that failures come when memory rises.
fn model(threshold: f64) -> HazardModel {
    let rise = FEATURE_NAMES.iter().position(|n| *n == "distance").unwrap();
    let mut weights = vec![0.0; PER_SERIES];
    weights[rise] = 1.0;
    HazardModel {
        version: HAZARD_VERSION,
        window_ms: 10_000,
        lead_ms: 60_000,
        horizon_ms: 600_000,
        schema: Schema {
            series: vec![SchemaSeries {
                key: key_of("memory"),
                name: "memory".into(),
                mean: [0.0; PER_SERIES],
                spread: [1.0; PER_SERIES],
            }],
        },
        bins: vec![Bin {
            until_ms: 600_000,
            odds: Odds::Linear(Linear {
                intercept: -6.0,
                weights,
            }),
        }],
        calibration: Calibration::NONE,
        points: vec![OperatingPoint {
            threshold,
            right: 14,
            wrong: 1,
            foretold: 14,
            failures: 15,
            false_per_entity_day: 0.01,
            quiet_share: 0.01,
            lead_s: 240.0,
        }],
    }
}

fn config(model: Option<HazardModel>, observe: Observe) -> EngineConfig {
    let source = SourceConfig::new("metrics", Format::PlainJson, &["host"]);
    let rules: FailureConfig = toml::from_str("[[probe]]\nname = \"up\"\nseries = \"up\"\nwindows = 2").unwrap();
    let mut config = EngineConfig::new(vec![source], Rules::new(&rules).unwrap());
    (config.predictor, config.observe) = (model.map(Arc::new), observe);
    config.alarms.budget.false_alarms_per_day = 0.1;
    config
}

fn play(config: EngineConfig) -> (Vec<Event>, Vec<Moment>) {
    let mut topics = topic();
    let mut log = MemoryLog::new(&mut topics, config.tick_every_ms, || 500);
    run(&mut log, &mut Engine::new(Arc::new(config)), &mut |_| {}).unwrap();
    drop(log);
    let (mut events, mut moments) = (Vec::new(), Vec::new());
    for output in &topics.written {
        match output.to {
            Destination::Anomalies | Destination::Failures => events.push(event::decode(&output.value).unwrap()),
            Destination::Moments => moments.push(Moment::decode(&output.value).unwrap()),
            _ => {}
        }
    }
    (events, moments)
}

#[test]
fn a_warning_says_how_probable_and_why_and_is_confirmed() {
    let (events, _) = play(config(Some(model(0.5)), Observe::Nothing));
    let precursors: Vec<&Event> = events.iter().filter(|e| e.kind == EventKind::Precursor).collect();
    let warned = precursors
        .iter()
        .find(|e| e.precursor.as_ref().is_some_and(|p| p.grade == Grade::Warning))
        .unwrap();
    assert_eq!((warned.entity.as_str(), warned.severity), ("b", Severity::Warning));
    let prediction = warned.precursor.as_ref().unwrap().prediction.as_ref().unwrap();
    assert!(
        prediction.probability >= 0.5 && prediction.horizon_s == 600.0,
        "{prediction:?}"
    );
    let ground = &prediction.grounds[0];
    assert_eq!(&*ground.name, "memory");
    assert!(
        ground.value > ground.upper && ground.lower > 900.0 && ground.upper < 1_100.0,
        "{ground:?}"
    );
    let record = prediction.record.unwrap();
    assert_eq!((record.right, record.of), (14, 15));
    assert!(
        warned
            .why
            .contains("likely to fail within 10 min (14 of 15 such warnings came true, 4 min before at the median)"),
        "{}",
        warned.why
    );
    let last = precursors.iter().rfind(|e| e.action == EventAction::Resolve).unwrap();
    assert_eq!(last.precursor.as_ref().unwrap().resolution, Some(Resolution::Confirmed));
    assert!(last.precursor.as_ref().unwrap().lead_s.unwrap() > 120.0);
    // Nobody is warned of the other, nor of this one while it fails or right after.
    let of_a = precursors
        .iter()
        .filter(|e| e.entity.as_str() == "a" && e.precursor.as_ref().unwrap().grade > Grade::Info);
    assert_eq!(of_a.count(), 0);
    let failed_at = events
        .iter()
        .find(|e| e.kind == EventKind::Failure)
        .unwrap()
        .observed_at;
    let later = precursors
        .iter()
        .filter(|e| e.action == EventAction::Open && e.observed_at >= failed_at);
    assert_eq!(later.count(), 0);
}

#[test]
fn without_a_threshold_within_the_budget_nothing_is_warned_of() {
    let mut costly = model(0.5);
    costly.points[0].false_per_entity_day = 100.0;
    let (events, moments) = play(config(Some(costly), Observe::Predictions));
    assert!(
        events
            .iter()
            .all(|e| e.precursor.as_ref().is_none_or(|p| p.grade == Grade::Info))
    );
    // It predicts all the same.
    let highest = moments.iter().filter_map(|m| m.probability).fold(0.0, f64::max);
    assert!(highest > 0.5 && moments.iter().all(|m| m.features.is_empty()));
}

#[test]
fn what_is_learned_from_is_what_is_computed_live() {
    let (_, learned) = play(config(None, Observe::Features));
    let (events, live) = play(config(Some(model(0.5)), Observe::Features));
    let (_, predicted) = play(config(Some(model(0.5)), Observe::Predictions));
    assert!(learned.len() > 500, "{}", learned.len());
    let bits = |m: &Moment| {
        m.features
            .iter()
            .map(|(k, f)| (*k, f.map(f32::to_bits)))
            .collect::<Vec<_>>()
    };
    for (a, b) in learned.iter().zip(&live) {
        assert_eq!((&a.entity, a.at, bits(a)), (&b.entity, b.at, bits(b)));
    }
    assert_eq!(learned.len(), live.len());
    // Whether anybody looks changes neither predictions nor events.
    let said = |of: &[Moment]| of.iter().map(|m| m.probability.map(f64::to_bits)).collect::<Vec<_>>();
    assert_eq!(said(&live), said(&predicted));
    let (unseen, _) = play(config(Some(model(0.5)), Observe::Nothing));
    assert_eq!(unseen, events);
}

#[test]
fn what_runs_out_is_told_with_the_time_that_is_left_and_without_any_failure_learned() {
    let mut config = config(None, Observe::Nothing);
    config.exhaustion = toml::from_str("[[resource]]\nseries = \"memory\"\nlimit = 2400").unwrap();
    let (events, _) = play(config);
    let watched = events
        .iter()
        .find(|e| e.precursor.as_ref().is_some_and(|p| p.grade == Grade::Watch))
        .unwrap();
    assert_eq!((watched.entity.as_str(), watched.severity), ("b", Severity::Warning));
    let exhaustion = watched.precursor.as_ref().unwrap().exhaustion.as_ref().unwrap();
    // It grows by 10 a sample of five seconds, so 400 above 1,000 there are 500 s left.
    let truly = (2_400.0 - exhaustion.value) / 10.0 * 5.0;
    assert!((exhaustion.in_s - truly).abs() < truly / 5.0, "{exhaustion:?}, {truly}");
    assert!(
        watched.why.contains("on its way to 2400: runs out in"),
        "{}",
        watched.why
    );
    assert!(
        events
            .iter()
            .all(|e| e.entity.as_str() != "a" || e.precursor.as_ref().is_none_or(|p| p.grade == Grade::Info))
    );
}
