use foreshock_domain::{Entity, Timestamp};
use foreshock_engine::*;
use foreshock_failure::{FailureConfig, Rules};
use foreshock_history::{dump::Dump, labels::Labels, train};
use foreshock_wire::Format;
use std::path::Path;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let d = Path::new(&a[1]);
    let horizon = a[2].parse::<i64>().unwrap() * 1000;
    let lead = a[3].parse::<i64>().unwrap() * 1000;
    let which = a.get(4).map_or("both", |s| s.as_str());
    let src = |t: &str, f| SourceConfig {
        topic: t.into(),
        format: f,
        entity: vec!["host".into()],
        sessions: None,
        log: LogConfig::default(),
    };
    let rules: FailureConfig =
        serde_json::from_str(r#"{"probe":[{"name":"a","series":"probe_up","windows":2}]}"#).unwrap();
    let mut c = EngineConfig::new(
        vec![src("metrics", Format::TelegrafJson), src("logs", Format::LogJson)],
        Rules::new(&rules).unwrap(),
    );
    c.windows = Windows {
        width_ms: 5_000,
        lateness_ms: 5_000,
    };
    let o = |n: &str, f| Dump::open(&d.join(n), f).unwrap().keyed_by(&["host"]);
    let mut dumps = vec![];
    if which != "logs" {
        dumps.push((TopicId(1), o("metrics.jsonl", Format::TelegrafJson)));
    }
    if which != "metrics" {
        dumps.push((TopicId(2), o("logs.jsonl", Format::LogJson)));
    }
    let t = std::time::Instant::now();
    let rows = train::rows(c, dumps, &mut |_| true).unwrap();
    eprintln!("{} rows in {:?}", rows.len(), t.elapsed());
    let all = Labels::read(&d.join("failures.csv")).unwrap();
    let apart = ["kill", "bad-config"];
    let learn = Labels {
        failures: all.failures.clone(),
        merged: 0,
    };
    let t = std::time::Instant::now();
    let Some(m) = train::train(&rows, &learn, horizon) else {
        println!("none");
        return;
    };
    eprintln!(
        "trained in {:?}, {} series, platt {:?}",
        t.elapsed(),
        m.model.schema.series.len(),
        m.model.calibration
    );
    println!(
        "AP {:.3} base {:.3} brier {:.4} judged {} rows",
        m.average_precision.0,
        m.average_precision.1,
        m.brier,
        m.judged.len()
    );
    for b in 0..10 {
        let (lo, hi) = (b as f64 / 10.0, (b + 1) as f64 / 10.0);
        let r: Vec<_> = m.judged.iter().filter(|j| j.2 >= lo && j.2 < hi).collect();
        if !r.is_empty() {
            println!(
                "  {:.2} said, {:.2} came, n {}",
                r.iter().map(|j| j.2).sum::<f64>() / r.len() as f64,
                r.iter().filter(|j| j.3).count() as f64 / r.len() as f64,
                r.len()
            );
        }
    }
    let last = rows.iter().map(|r| r.at).max().unwrap();
    let mut by: std::collections::BTreeMap<Entity, Vec<(Timestamp, f64)>> = Default::default();
    for r in rows.iter().filter(|r| r.at >= m.judged_from) {
        by.entry(r.entity.clone())
            .or_default()
            .push((r.at, m.model.predict_one(&r.features).within_horizon));
    }
    for th in [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9] {
        let (mut tp, mut fp, mut late, mut caught, mut total, mut leads) = (0, 0, 0, 0, 0, vec![]);
        let mut classes: std::collections::BTreeMap<String, (u32, u32)> = Default::default();
        let mut al: std::collections::BTreeMap<Entity, Vec<Timestamp>> = Default::default();
        for (e, ps) in &by {
            let (mut on, mut off) = (false, 0);
            let fs: Vec<_> = all.failures.iter().filter(|f| f.entity == *e).collect();
            let mut prev = Timestamp::MIN;
            for (at, p) in ps {
                if fs.iter().any(|f| f.onset > prev && f.onset <= *at) {
                    on = false;
                }
                prev = *at;
                if *p >= th {
                    off = 0;
                    if !on {
                        on = true;
                        al.entry(e.clone()).or_default().push(*at);
                        let next = fs
                            .iter()
                            .filter(|f| f.onset > *at && f.onset - *at <= horizon * 3 / 2)
                            .map(|f| f.onset - *at)
                            .min();
                        match next {
                            Some(ms) if ms >= lead => tp += 1,
                            Some(_) => late += 1,
                            None if last - *at > horizon => fp += 1,
                            None => {}
                        }
                    }
                } else {
                    off += 1;
                    if off >= 4 {
                        on = false;
                    }
                }
            }
        }
        for f in &all.failures {
            if f.onset < m.judged_from + lead || f.onset > last || apart.contains(&&*f.class) {
                continue;
            }
            total += 1;
            let hit = al.get(&f.entity).and_then(|v| {
                v.iter()
                    .filter(|a| f.onset - **a >= lead && f.onset - **a <= horizon * 3 / 2)
                    .map(|a| f.onset - *a)
                    .max()
            });
            let c = classes.entry(f.class.to_string()).or_default();
            c.1 += 1;
            if let Some(ms) = hit {
                caught += 1;
                c.0 += 1;
                leads.push(ms / 1000);
            }
        }
        leads.sort();
        println!(
            "th {th}: recall {caught}/{total} precision {tp}/{} late {late} lead p50 {:?} {:?}",
            tp + fp,
            leads.get(leads.len() / 2),
            classes
        );
    }
}
