use foreshock_domain::Timestamp;

use super::*;
use crate::config::LogRule;
use crate::probe::Down;
use crate::selector::Selector;

fn selector(text: &str) -> Selector {
    Selector::parse(text).unwrap()
}

fn config() -> FailureConfig {
    let probe = |name: &str, series: &str, down: &str| ProbeRule {
        name: name.into(),
        series: selector(series),
        down: Down::parse(down).unwrap(),
        windows: 3,
    };
    FailureConfig {
        heartbeat: vec![
            HeartbeatRule {
                name: "alive".into(),
                after_s: 60,
                series: None,
                entity: None,
            },
            HeartbeatRule {
                name: "job".into(),
                after_s: 60,
                series: Some(selector("up{job=\"batch\"}")),
                entity: None,
            },
        ],
        probe: vec![probe("blackbox", "probe_success", "== 0"), probe("scrape", "up", "< 1")],
        slo: vec![SloRule {
            name: "http".into(),
            objective: 0.999,
            errors: Some(selector("http_requests_total{code=~\"5..\"}")),
            good: None,
            total: selector("http_requests_total"),
            min_events: 100,
        }],
        ..FailureConfig::default()
    }
}

#[test]
fn what_is_watched() {
    use WatchRole::{Errors, Heartbeat, Probe, Total};
    let rules = Rules::new(&config()).unwrap();
    /// Metric, labels, and the indices of the rules with their roles.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [(u16, WatchRole)]);
    let cases: [Case<'_>; 5] = [
        ("cpu", &[], &[]),
        ("probe_success", &[("instance", "x")], &[(0, Probe)]),
        ("up", &[("job", "batch")], &[(1, Probe), (1, Heartbeat)]),
        ("http_requests_total", &[("code", "200")], &[(0, Total)]),
        ("http_requests_total", &[("code", "503")], &[(0, Errors), (0, Total)]),
    ];
    for (name, labels, expected) in cases {
        let labels: Vec<_> = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let got: Vec<_> = rules
            .watches(name, &labels)
            .into_iter()
            .map(|w| (w.rule, w.role))
            .collect();
        assert_eq!(got, expected, "{name}");
    }
}

#[test]
fn facts() {
    let rules = Rules::new(&config()).unwrap();
    let at = Timestamp::from_secs(1_000);
    let fact = |rule: u16, role: WatchRole, values: &[f64], increase: f64| {
        let watch = SeriesWatch { rule, role };
        let mut window = rules.window(&watch);
        // Newest first: a window takes samples in any order.
        values
            .iter()
            .enumerate()
            .rev()
            .for_each(|(i, x)| window.observe(at + i as i64 * 1_000, *x));
        let growth = Growth {
            increase,
            ..Growth::default()
        };
        let fact = rules.fact(&watch, "s", &window, growth);
        window.reset();
        assert_eq!(window, rules.window(&watch));
        fact
    };
    let probe = |rule: &str, up: u32, down: u32, first_down: Option<i64>, last_up: Option<i64>| Fact::Probe {
        rule: rule.into(),
        series: "s".into(),
        up,
        down,
        first_down: first_down.map(Timestamp::from_secs),
        last_up: last_up.map(Timestamp::from_secs),
    };
    let counter = |errors: bool, increase: f64| Fact::Counter {
        rule: "http".into(),
        errors,
        increase,
    };
    let beat = Fact::Heartbeat {
        rule: "job".into(),
        series: "s".into(),
        last_at: Timestamp::from_secs(1_001),
    };
    let cases = [
        ("silent probe", fact(0, WatchRole::Probe, &[], 0.0), None),
        ("probe of NaN", fact(0, WatchRole::Probe, &[f64::NAN], 0.0), None),
        (
            "probe up",
            fact(0, WatchRole::Probe, &[1.0, 1.0], 0.0),
            Some(probe("blackbox", 2, 0, None, Some(1_001))),
        ),
        (
            "probe both",
            fact(0, WatchRole::Probe, &[1.0, 0.0, 0.0], 0.0),
            Some(probe("blackbox", 1, 2, Some(1_001), Some(1_000))),
        ),
        (
            "its own comparison",
            fact(1, WatchRole::Probe, &[0.5], 0.0),
            Some(probe("scrape", 0, 1, Some(1_000), None)),
        ),
        (
            "errors",
            fact(0, WatchRole::Errors, &[7.0], 3.0),
            Some(counter(true, 3.0)),
        ),
        (
            "total",
            fact(0, WatchRole::Total, &[7.0], 3.0),
            Some(counter(false, 3.0)),
        ),
        ("no growth", fact(0, WatchRole::Total, &[7.0], 0.0), None),
        ("growth unknown", fact(0, WatchRole::Total, &[7.0], f64::NAN), None),
        (
            "growth without bound",
            fact(0, WatchRole::Total, &[7.0], f64::INFINITY),
            None,
        ),
        (
            "heard",
            fact(1, WatchRole::Heartbeat, &[f64::NAN, 1.0], 0.0),
            Some(beat),
        ),
        ("not heard", fact(1, WatchRole::Heartbeat, &[], 0.0), None),
        ("rule that is gone", fact(9, WatchRole::Probe, &[0.0], 0.0), None),
    ];
    for (name, got, expected) in cases {
        assert_eq!(got, expected, "{name}");
    }
}

#[test]
fn refusals_name_the_key() {
    let change = |change: fn(&mut FailureConfig)| {
        let mut config = config();
        change(&mut config);
        Rules::new(&config).map(|_| ()).unwrap_err()
    };
    let cases = [
        (
            change(|c| c.slo[0].objective = 1.0),
            "failure.slo[0].objective: 1, expected a share above 0 and below 1, such as 0.999",
        ),
        (
            change(|c| c.slo[0].objective = f64::NAN),
            "failure.slo[0].objective: NaN, expected a share",
        ),
        (
            change(|c| c.probe[1].windows = 0),
            "failure.probe[1].windows: 0, expected 1 to 1000",
        ),
        (
            change(|c| c.heartbeat[0].after_s = 0),
            "failure.heartbeat[0].after_s: 0, expected 1 to 2592000 seconds",
        ),
        (
            change(|c| c.cooldown_s = u64::MAX),
            "failure.cooldown_s: 18446744073709551615, expected",
        ),
        (change(|c| c.horizon_s = 0), "failure.horizon_s: 0, expected"),
        (change(|c| c.forget_s = 0), "failure.forget_s: 0, expected"),
        (
            change(|c| c.planned = [("deploy".to_owned(), 0)].into()),
            "failure.planned.deploy: 0, expected 1 to 2592000 seconds",
        ),
        (
            change(|c| c.probe[0].name = "alive".into()),
            "failure.probe[0].name: the name alive twice",
        ),
        (
            change(|c| c.probe[0].name = "declared".into()),
            "failure.probe[0].name: the name declared twice",
        ),
        (
            change(|c| c.probe[0].name.clear()),
            "failure.probe[0].name: no usable name",
        ),
        (
            change(|c| {
                c.log.push(LogRule {
                    name: "l".into(),
                    pattern: "(".into(),
                    level: None,
                });
            }),
            "failure.log[0].pattern: unclosed group, expected a regular expression",
        ),
        (
            change(|c| {
                let rule = c.heartbeat[0].clone();
                c.heartbeat.extend((0..300).map(|i| HeartbeatRule {
                    name: format!("h{i}"),
                    ..rule.clone()
                }));
            }),
            "failure: too many rules, expected at most 256",
        ),
    ];
    for (error, expected) in cases {
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[test]
fn fingerprints_tell_rules_apart() {
    let one = Rules::new(&config()).unwrap().fingerprint();
    assert_eq!(one, Rules::new(&config()).unwrap().fingerprint());
    let mut other = config();
    other.probe.swap(0, 1);
    assert_ne!(one, Rules::new(&other).unwrap().fingerprint());
    let mut without = config();
    without.processes = !without.processes;
    assert_ne!(one, Rules::new(&without).unwrap().fingerprint());
}
