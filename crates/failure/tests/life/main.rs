//! The life of failures, told as scripts: what happens to one entity, and what is said of it.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that fails may say so

mod script;

use foreshock_domain::{Entity, EntityWindow, EventAction, Fact, Timestamp};
use foreshock_failure::{FailureConfig, Glob, Rules, Standing};
use proptest::prelude::*;

use Step::{Clock, Declared, Down, Errors, Fatal, Heard, Job, Late, Over, Up};
use script::{RULES, Script, Step, at, check, config, told};

#[test]
fn probes() {
    check(&[
        ("nothing happens", &[Up(0, 300)], &[]),
        ("two windows are too few", &[Up(0, 50), Down(50, 70), Up(70, 300)], &[]),
        (
            "three open it, from the first sample on",
            &[Up(0, 50), Down(50, 80)],
            &["open 0.0 probe/web 55 at 80"],
        ),
        (
            "up for three windows, then the cooldown",
            &[Down(0, 30), Up(30, 130)],
            &["open 0.0 probe/web 5 at 30", "resolve 0.1 probe/web 5..30 at 130"],
        ),
        (
            "up for three windows, not yet the cooldown",
            &[Down(0, 30), Up(30, 120)],
            &["open 0.0 probe/web 5 at 30"],
        ),
        (
            "down again within the cooldown is the same failure",
            &[Down(0, 30), Up(30, 60), Down(60, 90), Up(90, 190)],
            &["open 0.0 probe/web 5 at 30", "resolve 0.1 probe/web 5..90 at 190"],
        ),
        (
            "down again after it is the next",
            &[Down(0, 30), Up(30, 140), Down(140, 170)],
            &[
                "open 0.0 probe/web 5 at 30",
                "resolve 0.1 probe/web 5..30 at 130",
                "open 1.0 probe/web 145 at 170",
            ],
        ),
        (
            "a probe that vanishes is given up",
            &[Down(0, 30), Clock(10_029), Clock(10_030), Clock(10_129), Clock(10_130)],
            &[
                "open 0.0 probe/web 5 at 30",
                "update 0.1 probe/web 5 at 10029",
                "resolve 0.2 probe/web 5..10030 at 10130",
            ],
        ),
    ]);
}

#[test]
fn log_lines() {
    check(&[
        (
            "a line opens, quiet resolves",
            &[Fatal(10), Heard(60), Clock(113), Clock(114)],
            &[
                "open 0.0 log/fatal_line 14 at 20",
                "resolve 0.1 log/fatal_line 14..14 at 114",
            ],
        ),
        (
            "more lines prolong it in silence",
            &[Fatal(10), Fatal(50), Fatal(140), Heard(230), Heard(240)],
            &[
                "open 0.0 log/fatal_line 14 at 20",
                "resolve 0.1 log/fatal_line 14..144 at 244",
            ],
        ),
        (
            "a line after the cooldown is the next failure",
            &[Fatal(10), Fatal(110)],
            &[
                "open 0.0 log/fatal_line 14 at 20",
                "resolve 0.1 log/fatal_line 14..14 at 114",
                "open 1.0 log/fatal_line 114 at 120",
            ],
        ),
    ]);
}

#[test]
fn heartbeats() {
    check(&[
        ("never heard", &[Clock(1_000), Clock(2_000)], &[]),
        ("just in time", &[Heard(0), Clock(69), Heard(60), Clock(129)], &[]),
        ("silent", &[Heard(0), Clock(70)], &["open 0.0 heartbeat/alive 10 at 70"]),
        (
            "heard again",
            &[Heard(0), Clock(70), Clock(80), Heard(90), Heard(180)],
            &[
                "open 0.0 heartbeat/alive 10 at 70",
                "resolve 0.1 heartbeat/alive 10..90 at 190",
            ],
        ),
        // Event time stands still far behind, but something arrives every 50 s.
        (
            "a backlog is no silence",
            &[Late(0, 0), Late(0, 50), Clock(100), Late(10, 105), Clock(160)],
            &[],
        ),
        (
            "a series of its own",
            &[Job(0), Heard(50), Heard(100), Clock(129), Clock(130)],
            &["open 0.0 heartbeat/job 2 at 130"],
        ),
        (
            "the job's silence joins the entity's",
            &[Job(0), Clock(70), Clock(130)],
            &[
                "open 0.0 heartbeat/alive 10 at 70",
                "update 0.1 heartbeat/alive 2 at 130",
            ],
        ),
    ]);
    let mut other = config();
    other.heartbeat[0].entity = Some(Glob::new("db-*"));
    assert_eq!(
        told(&Rules::new(&other).unwrap(), &[Heard(0), Clock(1_000)]),
        Vec::<String>::new(),
        "another entity's rule"
    );
}

#[test]
fn error_budgets() {
    check(&[
        (
            "within the budget",
            &[Errors(0, 10.0), Errors(10, 10.0), Errors(20, 10.0)],
            &[],
        ),
        (
            "a burn",
            &[Errors(0, 0.0), Errors(60, 500.0)],
            &["open 0.0 slo_burn/http 60 at 70"],
        ),
        (
            "over when the traffic stops and the windows drain",
            &[Errors(0, 500.0), Heard(50), Heard(1_800), Heard(2_200)],
            &[
                "open 0.0 slo_burn/http 0 at 10",
                // The 6 h pair keeps a bucket of six minutes.
                "resolve 0.1 slo_burn/http 0..60 at 1810",
            ],
        ),
    ]);
}

#[test]
fn declared_incidents() {
    check(&[
        (
            "open and over",
            &[Declared(0), Over(0, 50), Clock(0), Clock(149), Clock(150)],
            &[
                "open 0.0 outage/declared 0 at 0",
                "resolve 0.1 outage/declared 0..50 at 150",
            ],
        ),
        (
            "repeats say nothing",
            &[Declared(0), Declared(0), Declared(0)],
            &["open 0.0 outage/declared 0 at 0"],
        ),
        (
            "told when it was over",
            &[Heard(500), Over(100, 200)],
            &[
                "open 0.0 outage/declared 100 at 510",
                "resolve 0.1 outage/declared 100..200 at 510",
            ],
        ),
        (
            "history in a row",
            &[Over(0, 50), Over(1_000, 1_050), Over(0, 50)],
            &[
                "open 0.0 outage/declared 0 at 50",
                "resolve 0.1 outage/declared 0..50 at 150",
                "open 1.0 outage/declared 1000 at 1050",
            ],
        ),
        (
            "an old one told during another",
            &[Down(1_000, 1_030), Over(100, 200)],
            &[
                "open 0.0 probe/web 1005 at 1030",
                "open 1.0 outage/declared 100 at 1030",
                "resolve 1.1 outage/declared 100..200 at 1030",
            ],
        ),
        (
            "nobody ends it",
            &[
                Heard(0),
                Declared(0),
                Clock(59),
                Heard(5_000),
                Heard(9_990),
                Clock(10_009),
                Clock(10_010),
                Heard(10_050),
                Heard(10_100),
            ],
            &[
                "open 0.0 outage/declared 0 at 10",
                "resolve 0.1 outage/declared 0..10010 at 10110",
            ],
        ),
    ]);
}

#[test]
fn causes_merge() {
    check(&[
        (
            "the first names it, the last ends it",
            &[Down(0, 30), Fatal(30), Up(40, 70), Up(70, 140)],
            &[
                "open 0.0 probe/web 5 at 30",
                "update 0.1 probe/web 5 at 40",
                "resolve 0.2 probe/web 5..40 at 140",
            ],
        ),
        (
            "an earlier onset moves it back",
            &[Fatal(20), Declared(0)],
            &["open 0.0 log/fatal_line 24 at 30", "update 0.1 log/fatal_line 0 at 30"],
        ),
        (
            "it lasts as long as any cause does",
            &[Declared(0), Down(10, 40), Over(0, 50), Down(40, 400), Up(400, 500)],
            &[
                "open 0.0 outage/declared 0 at 0",
                "update 0.1 outage/declared 0 at 40",
                "resolve 0.2 outage/declared 0..400 at 500",
            ],
        ),
    ]);
}

#[test]
fn standing() {
    let mut script = Script::new(RULES.clone());
    let standing = |script: &Script, s: i64| script.tracker.standing(at(s));
    assert_eq!(standing(&script, 0), Standing::Healthy);
    [Down(0, 30)].into_iter().for_each(|step| script.step(step));
    let cases = [
        (4, Standing::Healthy),
        (5, Standing::Failing),
        (30, Standing::Failing),
        (9_999, Standing::Failing),
    ];
    for (s, expected) in cases {
        assert_eq!(standing(&script, s), expected, "while open, at {s}");
    }
    script.step(Up(30, 60));
    let over = [
        (4, Standing::Healthy),
        (30, Standing::Failing),
        (31, Standing::Cooldown),
        (129, Standing::Cooldown),
        (130, Standing::Healthy),
    ];
    for (s, expected) in over {
        assert_eq!(standing(&script, s), expected, "all causes over, at {s}");
    }
    script.step(Up(60, 130));
    assert!(script.told().last().unwrap().starts_with("resolve"));
    for (s, expected) in over {
        assert_eq!(standing(&script, s), expected, "resolved, at {s}");
    }
}

#[test]
fn rules_that_are_gone_let_go() {
    let mut script = Script::new(RULES.clone());
    [Down(0, 30), Errors(30, 900.0), Heard(40)]
        .into_iter()
        .for_each(|step| script.step(step));
    script.rules = Rules::new(&FailureConfig {
        cooldown_s: 100,
        ..FailureConfig::default()
    })
    .unwrap();
    [Clock(60), Clock(200)].into_iter().for_each(|step| script.step(step));
    assert!(
        script.told().last().unwrap().starts_with("resolve 0."),
        "{:?}",
        script.told()
    );
}

#[test]
fn state_is_bounded() {
    let mut script = Script::new(RULES.clone());
    for i in 0..1_000 {
        let series: Box<str> = format!("probe_success{{n={i}}}").into();
        let down = Some(at(0));
        let facts = vec![
            Fact::Probe {
                rule: "web".into(),
                series: series.clone(),
                up: 0,
                down: 1,
                first_down: down,
                last_up: None,
            },
            Fact::Heartbeat {
                rule: "job".into(),
                series,
                last_at: at(0),
            },
            Fact::Counter {
                rule: "nobody's".into(),
                errors: true,
                increase: 1.0,
            },
        ];
        for window in 0..3 {
            script.window(window * 10, 0, facts.clone());
        }
    }
    assert!(postcard::to_allocvec(&script.tracker).unwrap().len() < 32 << 10);
    assert!(script.tracker.dropped() > 0);
    assert!(script.out.len() <= 32, "as many updates as causes are kept");
}

fn step() -> impl Strategy<Value = Step> {
    let s = (0i64..200).prop_map(|s| s * 10);
    prop_oneof![
        s.clone().prop_map(Heard),
        s.clone().prop_map(|s| Up(s, s + 30)),
        s.clone().prop_map(|s| Down(s, s + 30)),
        s.clone().prop_map(Fatal),
        (s.clone(), 0.0..1_000.0).prop_map(|(s, errors)| Errors(s, errors)),
        s.clone().prop_map(Job),
        s.clone().prop_map(Clock),
        (s.clone(), s.clone()).prop_map(|(a, b)| Late(a, b)),
        s.clone().prop_map(Declared),
        (s.clone(), s).prop_map(|(a, b)| Over(a, a + b)),
    ]
}

proptest! {
    /// Whatever happens in whatever order: one failure at a time opens, then resolves; numbers do not skip; onsets come before
    /// ends; and state that is saved and loaded at any point goes on as if it had not been.
    #[test]
    fn laws(steps in proptest::collection::vec(step(), 0..60), save_at in 0usize..60) {
        let mut script = Script::new(RULES.clone());
        let mut saved = Script::new(RULES.clone());
        for (i, step) in steps.iter().enumerate() {
            script.step(*step);
            saved.step(*step);
            if i == save_at {
                let bytes = postcard::to_allocvec(&saved.tracker).unwrap();
                saved.tracker = postcard::from_bytes(&bytes).unwrap();
            }
        }
        prop_assert_eq!(&script.out, &saved.out);
        prop_assert_eq!(&script.tracker, &saved.tracker);

        let mut last: std::collections::BTreeMap<u64, (EventAction, u32)> = std::collections::BTreeMap::new();
        for t in &script.out {
            prop_assert_eq!(t.ended_at.is_some(), t.action == EventAction::Resolve);
            prop_assert!(t.ended_at.is_none_or(|end| end >= t.onset), "{:?}", t);
            prop_assert!(t.evidence.len() <= 512 && !t.evidence.is_empty());
            match (last.insert(t.ordinal, (t.action, t.seq)), t.action) {
                (None, EventAction::Open) => prop_assert_eq!((t.seq, t.ordinal), (0, last.len() as u64 - 1)),
                (Some((EventAction::Open | EventAction::Update, seq)), EventAction::Update | EventAction::Resolve) => {
                    prop_assert_eq!(t.seq, seq + 1);
                }
                (before, _) => prop_assert!(false, "{:?} after {:?}", t, before),
            }
        }
    }

    #[test]
    fn extreme_times_never_panic(times in proptest::collection::vec(any::<[i64; 4]>(), 1..20)) {
        let mut script = Script::new(RULES.clone());
        for [start, end, observed_ms, onset] in times {
            let (start, end) = (Timestamp::from_millis(start.min(end)), Timestamp::from_millis(start.max(end)));
            let onset = Timestamp::from_millis(onset);
            let facts = vec![
                Fact::Lines { rule: "disk".into(), count: 2, first_at: onset, sample: "x".into() },
                Fact::Counter { rule: "http".into(), errors: true, increase: f64::MAX },
                Fact::Counter { rule: "http".into(), errors: false, increase: f64::MAX },
                Fact::Heartbeat { rule: "job".into(), series: "s".into(), last_at: onset },
                Fact::Probe { rule: "web".into(), series: "s".into(), up: 0, down: 1, first_down: Some(onset), last_up: None },
            ];
            let w = EntityWindow {
                entity: Entity::new("web-1"), start, end, position: Script::position(),
                samples: 1, lines: 0, tested: 0, signals: Vec::new(), facts, vector: Vec::new(), templates: Vec::new(),
            };
            script.tracker.on_window(&script.rules, &w, observed_ms, &mut script.out);
            script.tracker.on_clock(&script.rules, observed_ms, &mut script.out);
            let _ = script.tracker.standing(onset);
        }
    }
}
