use foreshock_domain::Timestamp;
use foreshock_engine::*;
use foreshock_failure::{FailureConfig, Rules};
use foreshock_history::{
    dump::Dump,
    labels::Labels,
    train::{Progress, Training},
};
use foreshock_wire::Format;
use std::path::Path;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let d = Path::new(&a[1]);
    let s = |i: usize| a[i].parse::<i64>().unwrap() * 1000;
    let which = a.get(4).map_or("both", |s| s.as_str());
    let budget: f64 = a.get(5).map_or(300.0, |s| s.parse().unwrap());
    let src = |t: &str, f| SourceConfig {
        topic: t.into(),
        format: f,
        entity: vec!["host".into()],
        sessions: None,
        log: LogConfig::default(),
    };
    let rules: FailureConfig =
        serde_json::from_str(r#"{"cooldown_s":20,"probe":[{"name":"a","series":"probe_up","windows":2}]}"#).unwrap();
    let mut config = EngineConfig::new(
        vec![src("metrics", Format::TelegrafJson), src("logs", Format::LogJson)],
        Rules::new(&rules).unwrap(),
    );
    config.windows = Windows {
        width_ms: 5_000,
        lateness_ms: 5_000,
    };
    config.alarms.budget.false_alarms_per_day = budget;
    let o = |n: &str, f| Dump::open(&d.join(n), f).unwrap().keyed_by(&["host"]);
    let mut dumps = vec![];
    if which != "logs" {
        dumps.push((TopicId(1), o("metrics.jsonl", Format::TelegrafJson)));
    }
    if which != "metrics" {
        dumps.push((TopicId(2), o("logs.jsonl", Format::LogJson)));
    }
    let t = std::time::Instant::now();
    let labels = Labels::read(&d.join("failures.csv")).unwrap();
    let tr = Training {
        config,
        dumps,
        labels,
        apart: vec!["kill".into(), "bad-config".into(), "unplanned".into()],
        horizon_ms: s(2),
        lead_ms: s(3),
        until: Timestamp::LATEST,
    };
    let r = tr
        .run(&mut |p| {
            if let Progress::Fitting(i, n) = p {
                eprintln!("{i}/{n} {:?}", t.elapsed());
            }
            true
        })
        .unwrap();
    println!("{}", serde_json::to_string_pretty(&r.figures).unwrap());
    for p in &r.model.points {
        println!("{p:?}");
    }
    println!("{:?}", r.model.calibration);
    let mut x: Vec<_> = r.model.schema.series.iter().map(|s| s.name.clone()).collect();
    x.sort();
    println!("{x:?}");
}
