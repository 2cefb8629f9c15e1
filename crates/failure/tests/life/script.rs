//! A script: what happens to one entity under these rules, and how what is told of it is written down.

use std::sync::LazyLock;

use foreshock_domain::{Entity, EntityWindow, EventAction, Fact, Incident, SourcePosition, Timestamp, Upstream};
use foreshock_failure::{
    FailureConfig, FailureTracker, Glob, HeartbeatRule, LogRule, ProbeRule, Rules, Selector, SloRule, Transition,
};

/// Event time 0 of the scripts, in seconds.
pub const EPOCH_S: i64 = 1_800_000_000;
/// Windows are 10 s long.
pub const WIDTH_S: i64 = 10;

pub fn at(s: i64) -> Timestamp {
    Timestamp::from_secs(EPOCH_S + s)
}

pub fn config() -> FailureConfig {
    let selector = |text: &str| Selector::parse(text).unwrap();
    FailureConfig {
        heartbeat: vec![
            HeartbeatRule {
                name: "alive".into(),
                after_s: 60,
                series: None,
                entity: Some(Glob::new("web-*")),
            },
            HeartbeatRule {
                name: "job".into(),
                after_s: 120,
                series: Some(selector("job_runs")),
                entity: None,
            },
        ],
        log: vec![LogRule {
            name: "disk".into(),
            pattern: "I/O error".into(),
            level: None,
        }],
        probe: vec![ProbeRule {
            name: "web".into(),
            series: selector("probe_success"),
            down: foreshock_failure::Down::default(),
            windows: 3,
        }],
        slo: vec![SloRule {
            name: "http".into(),
            objective: 0.99,
            errors: Some(selector("errors")),
            good: None,
            total: selector("requests"),
            min_events: 100,
        }],
        cooldown_s: 100,
        forget_s: 10_000,
        ..FailureConfig::default()
    }
}

/// What happens. Times are seconds of event time; the observed clock runs with it unless a step says otherwise.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A window that starts here, with a sample and nothing else.
    Heard(i64),
    /// Windows from here to there in which the probe says up.
    Up(i64, i64),
    /// The same, down from the fifth second of each.
    Down(i64, i64),
    /// A fatal line at the fourth second of the window that starts here.
    Fatal(i64),
    /// A window with so many errors of 1,000 requests.
    Errors(i64, f64),
    /// The job's series was heard in the window that starts here.
    Job(i64),
    /// The observed clock stands here.
    Clock(i64),
    /// A window that starts at the first arrives when the observed clock stands at the second.
    Late(i64, i64),
    /// An incident of class `outage` from here on.
    Declared(i64),
    /// And over.
    Over(i64, i64),
}

/// Compiled once: the properties below run many scripts.
pub static RULES: LazyLock<Rules> = LazyLock::new(|| Rules::new(&config()).unwrap());

pub struct Script {
    pub rules: Rules,
    pub tracker: FailureTracker,
    pub out: Vec<Transition>,
}

impl Script {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            tracker: FailureTracker::default(),
            out: Vec::new(),
        }
    }

    pub fn position() -> SourcePosition {
        SourcePosition {
            upstream: Upstream {
                topic: "t".into(),
                partition: 0,
            },
            offset_first: 1,
            offset_last: 2,
        }
    }

    pub fn window(&mut self, start: i64, observed_s: i64, facts: Vec<Fact>) {
        let w = EntityWindow {
            entity: Entity::new("web-1"),
            start: at(start),
            end: at(start + WIDTH_S),
            position: Self::position(),
            samples: 1,
            lines: 0,
            tested: 0,
            signals: Vec::new(),
            facts,
            vector: Vec::new(),
            templates: Vec::new(),
        };
        self.tracker
            .on_window(&self.rules, &w, observed_s * 1_000, &mut self.out);
    }

    pub fn incident(&mut self, onset: i64, end: Option<i64>) {
        let incident = Incident {
            entity: Entity::new("web-1"),
            class: "outage".into(),
            onset: at(onset),
            end: end.map(at),
            summary: None,
        };
        self.tracker
            .on_incident(&self.rules, &incident, &Self::position(), &mut self.out);
    }

    pub fn probe(&mut self, start: i64, is_up: bool) {
        let (up, down) = if is_up { (1, 0) } else { (0, 1) };
        let first_down = (!is_up).then(|| at(start + 5));
        let (rule, series) = ("web".into(), "probe_success".into());
        let fact = Fact::Probe {
            rule,
            series,
            up,
            down,
            first_down,
            last_up: is_up.then(|| at(start)),
        };
        self.window(start, start + WIDTH_S, vec![fact]);
    }

    pub fn step(&mut self, step: Step) {
        match step {
            Step::Heard(s) => self.window(s, s + WIDTH_S, Vec::new()),
            Step::Up(from, to) => (from..to).step_by(10).for_each(|s| self.probe(s, true)),
            Step::Down(from, to) => (from..to).step_by(10).for_each(|s| self.probe(s, false)),
            Step::Fatal(s) => {
                let (rule, sample) = ("fatal_line".into(), "giving up".into());
                self.window(
                    s,
                    s + WIDTH_S,
                    vec![Fact::Lines {
                        rule,
                        count: 1,
                        first_at: at(s + 4),
                        sample,
                    }],
                );
            }
            Step::Errors(s, errors) => {
                let count = |errors: bool, increase: f64| Fact::Counter {
                    rule: "http".into(),
                    errors,
                    increase,
                };
                self.window(s, s + WIDTH_S, vec![count(true, errors), count(false, 1_000.0)]);
            }
            Step::Job(s) => {
                let (rule, series) = ("job".into(), "job_runs".into());
                self.window(
                    s,
                    s + WIDTH_S,
                    vec![Fact::Heartbeat {
                        rule,
                        series,
                        last_at: at(s + 2),
                    }],
                );
            }
            Step::Clock(s) => self.tracker.on_clock(&self.rules, s * 1_000, &mut self.out),
            Step::Late(s, observed_s) => self.window(s, observed_s, Vec::new()),
            Step::Declared(s) => self.incident(s, None),
            Step::Over(s, end) => self.incident(s, Some(end)),
        }
    }

    pub fn told(&self) -> Vec<String> {
        let s = |t: Timestamp| (t - at(0)) / 1_000;
        self.out
            .iter()
            .map(|t| {
                let action = match t.action {
                    EventAction::Open => "open",
                    EventAction::Update => "update",
                    EventAction::Resolve => "resolve",
                };
                let ended = t.ended_at.map_or_else(String::new, |end| format!("..{}", s(end)));
                format!(
                    "{action} {}.{} {}/{} {}{ended} at {}",
                    t.ordinal,
                    t.seq,
                    t.class,
                    t.rule,
                    s(t.onset),
                    s(t.observed_at)
                )
            })
            .collect()
    }
}

pub fn told(rules: &Rules, steps: &[Step]) -> Vec<String> {
    let mut script = Script::new(rules.clone());
    steps.iter().for_each(|step| script.step(*step));
    script.told()
}

/// Name of a case, what happens, and what is told.
pub type Case<'a> = (&'a str, &'a [Step], &'a [&'a str]);

pub fn check(cases: &[Case<'_>]) {
    for (name, steps, expected) in cases {
        assert_eq!(told(&RULES, steps), *expected, "{name}");
    }
}
