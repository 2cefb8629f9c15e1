//! A process that ends where nobody asked for it: a restart count that grew, a start time that moved, a state such as `CrashLoop`.
//!
//! Only what changes is a fact: Kubernetes says `OOMKilled` of a container's last end for as long as the container lives. So the
//! reason and the exit code of the last end merely name the cause of a restart that is seen in the same window; a restart after
//! exit code 0 was asked for and is none. A new pod is a new series, which has no past to differ from.
//!
//! Fails where nothing is scraped between two restarts (they are then one), where reason and restart reach different partitions
//! (the cause is then not named), and with a restart by hand that nobody declares as planned work, whose exit code is not known.
//!
//! Cost: O(1) a watched series and window.

use std::fmt;

use foreshock_domain::{Fact, LabelPairs, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::ProcessRule;
use crate::probe::Down;
use crate::selector::Selector;
use crate::watch::WatchWindow;

/// Start times are computed from the clock of the host and tremble with it, in seconds.
const TREMBLE_S: f64 = 2.0;
/// Bytes of a cause.
const CAUSE_BYTES_MAX: usize = 128;

/// The rules that hold unless `processes` is switched off.
const DEFAULTS: [(&str, &str, &str); 8] = [
    (
        "process_restarted",
        "kube_pod_container_status_restarts_total",
        "increase",
    ),
    (
        "process_crash_loop",
        "kube_pod_container_status_waiting_reason{reason=\"CrashLoopBackOff\"}",
        "== 1",
    ),
    ("process_oom_killed", "container_oom_events_total", "increase"),
    ("process_oom_killed_on_host", "node_vmstat_oom_kill", "increase"),
    ("process_started_again", "process_start_time_seconds", "start"),
    (
        "process_unit_failed",
        "node_systemd_unit_state{state=\"failed\"}",
        "== 1",
    ),
    (
        "process_unit_restarted",
        "node_systemd_service_restart_total",
        "increase",
    ),
    (
        "process_docker_restarted",
        "docker_container_status_restart_count",
        "increase",
    ),
];

/// Series that say why a container ended last, and what they say: the label `reason` of one that is 1, or the value.
const REASON: &str = "kube_pod_container_status_last_terminated_reason";
const EXIT_CODES: [&str; 2] = [
    "kube_pod_container_status_last_terminated_exitcode",
    "docker_container_status_exitcode",
];

/// What of a series says that a process ended. Read from and written as its text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum When {
    /// `increase`: a count grew.
    #[default]
    Increase,
    /// `start`: a start time in seconds moved on.
    Start,
    /// A comparison such as `== 1`: a state holds.
    Is(Down),
}

impl When {
    fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "increase" => Some(Self::Increase),
            "start" => Some(Self::Start),
            text => Down::parse(text).map(Self::Is),
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Increase => f.write_str("increase"),
            Self::Start => f.write_str("start"),
            Self::Is(down) => down.fmt(f),
        }
    }
}

impl Serialize for When {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "invalid condition, expected \"increase\", \"start\" or a comparison such as \"== 1\"";
        let text = String::deserialize(d)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(EXPECTED))
    }
}

/// The default rules.
pub(crate) fn defaults() -> Vec<ProcessRule> {
    let rules = DEFAULTS.iter().filter_map(|(name, series, when)| {
        Some(ProcessRule {
            name: (*name).to_owned(),
            series: Selector::parse(series).ok()?,
            when: When::parse(when)?,
        })
    });
    rules.collect()
}

/// Their names.
pub(crate) fn default_names() -> impl Iterator<Item = &'static str> {
    DEFAULTS.iter().map(|(name, ..)| *name)
}

/// Whether a series names causes.
pub(crate) fn names_causes(name: &str, labels: &LabelPairs<'_>) -> bool {
    let reason = || labels.iter().any(|(k, v)| &**k == "reason" && !v.is_empty());
    EXIT_CODES.contains(&name) || (name == REASON && reason())
}

/// How a series went on in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Growth {
    /// Growth of a counter over the window, resets accounted for.
    pub increase: f64,
    /// Last value less that of the window before; NaN where there is none.
    pub step: f64,
    /// Last value; NaN where there is none.
    pub last: f64,
}

/// What a watched series says of its process.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
pub(crate) fn fact(rule: &ProcessRule, series: &str, window: &WatchWindow, growth: Growth) -> Option<Fact> {
    let (count, at) = match rule.when {
        When::Increase if growth.increase >= 0.5 => (growth.increase.round() as u32, window.last_at?),
        When::Start if growth.step > TREMBLE_S => (1, window.last_at?),
        When::Is(_) if window.down > 0 => (1, window.first_down?),
        _ => return None,
    };
    Some(Fact::Process {
        rule: rule.name.as_str().into(),
        series: series.into(),
        count,
        at,
        cause: "".into(),
    })
}

/// What a series that names causes says, as a fact without a count that [`name`] takes out again.
#[allow(clippy::cast_possible_truncation)] // exit codes
pub(crate) fn cause(series: &str, at: Timestamp, last: f64) -> Option<Fact> {
    let metric = series.split('{').next().unwrap_or(series);
    let cause = if metric == REASON {
        let reason = label(series, "reason").filter(|_| last > 0.0)?;
        crate::lines::prefix(reason, CAUSE_BYTES_MAX).to_owned()
    } else {
        let code = last.is_finite().then_some(last as i32)?;
        format!("exit code {code}")
    };
    Some(Fact::Process {
        rule: "".into(),
        series: series.into(),
        count: 0,
        at,
        cause: cause.into(),
    })
}

/// Gives the facts of one entity and window their causes, by container, and takes out the causes that nothing happened of. What
/// ended with exit code 0 was asked for.
pub(crate) fn name(facts: &mut Vec<Fact>) {
    let mut causes = Vec::new();
    facts.retain(|fact| match fact {
        Fact::Process {
            count: 0,
            series,
            cause,
            ..
        } => {
            causes.push((container(series), cause.clone()));
            false
        }
        _ => true,
    });
    facts.retain_mut(|fact| {
        let Fact::Process { series, cause, .. } = fact else {
            return true;
        };
        let of = container(series);
        let mut named: Vec<&str> = causes
            .iter()
            .filter(|(c, _)| *c == of)
            .map(|(_, cause)| &**cause)
            .collect();
        // The reason first.
        named.sort_by_key(|c| c.starts_with("exit code"));
        let asked_for = named.contains(&"exit code 0");
        *cause = named.join(", ").into();
        !asked_for
    });
}

/// What happened, for a person.
pub(crate) fn told(when: When, series: &str, count: u32, cause: &str) -> String {
    let what = match when {
        When::Increase => format!("{series} up by {count}"),
        When::Start => format!("{series}: started again"),
        When::Is(down) => format!("{series} {down}"),
    };
    if cause.is_empty() {
        what
    } else {
        format!("{what}: {cause}")
    }
}

fn container(series: &str) -> Option<String> {
    let found = label(series, "container").or_else(|| label(series, "container_name"));
    found.map(str::to_owned)
}

/// The value of a label in `name{label=value,…}`.
fn label<'a>(series: &'a str, label: &str) -> Option<&'a str> {
    let labels = series.split_once('{')?.1.trim_end_matches('}');
    let mut pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
    pairs.find(|(k, _)| *k == label).map(|(_, v)| v)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn rule(when: &str) -> ProcessRule {
        ProcessRule {
            name: "r".into(),
            series: Selector::parse("x").unwrap(),
            when: When::parse(when).unwrap(),
        }
    }

    #[test]
    fn every_default_is_a_rule() {
        let rules = defaults();
        assert_eq!(rules.len(), DEFAULTS.len());
        for (rule, (_, _, when)) in rules.iter().zip(DEFAULTS) {
            assert_eq!(rule.when.to_string(), when);
        }
    }

    #[test]
    fn conditions() {
        for (text, expected) in [
            ("increase", Some("increase")),
            (" start ", Some("start")),
            ("==1", Some("== 1")),
            ("decrease", None),
            ("", None),
        ] {
            assert_eq!(When::parse(text).map(|w| w.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_a_fact() {
        let growth = |increase, step| Growth {
            increase,
            step,
            last: 1.0,
        };
        let cases = [
            ("increase", 1.0, growth(0.0, 0.0), None),
            ("increase", 1.0, growth(1.0, 1.0), Some(1)),
            ("increase", 1.0, growth(3.0, 3.0), Some(3)),
            ("increase", 1.0, growth(f64::NAN, 1.0), None),
            ("increase", 1.0, growth(f64::INFINITY, 1.0), Some(u32::MAX)),
            ("start", 1.0, growth(0.0, 0.0), None),
            ("start", 1.0, growth(0.0, 1.9), None),
            ("start", 1.0, growth(0.0, 30.0), Some(1)),
            ("start", 1.0, growth(0.0, -30.0), None),
            ("start", 1.0, growth(0.0, f64::NAN), None),
            ("== 1", 0.0, growth(0.0, 0.0), None),
            ("== 1", 1.0, growth(0.0, 0.0), Some(1)),
            ("== 1", f64::NAN, growth(0.0, 0.0), None),
        ];
        for (when, value, growth, expected) in cases {
            let rule = rule(when);
            let down = if let When::Is(down) = rule.when {
                down
            } else {
                Down::default()
            };
            let mut window = WatchWindow::new(down);
            window.observe(AT, value);
            let found = fact(&rule, "x", &window, growth).map(|f| match f {
                Fact::Process { count, at, .. } => (count, at),
                other => panic!("{other:?}"),
            });
            assert_eq!(found, expected.map(|n| (n, AT)), "{when} {value} {growth:?}");
        }
    }

    #[test]
    fn causes_are_named_by_container() {
        let restart = |container: &str| {
            let series = format!("kube_pod_container_status_restarts_total{{container={container},pod=a}}");
            let mut window = WatchWindow::new(Down::default());
            window.observe(AT, 2.0);
            fact(
                &rule("increase"),
                &series,
                &window,
                Growth {
                    increase: 1.0,
                    step: 1.0,
                    last: 2.0,
                },
            )
            .unwrap()
        };
        let of = |metric: &str, container: &str, more: &str, last: f64| {
            cause(&format!("{metric}{{container={container}{more}}}"), AT, last)
        };
        let told = |facts: Vec<Option<Fact>>| {
            let mut facts: Vec<Fact> = facts.into_iter().flatten().collect();
            name(&mut facts);
            let causes = facts.iter().map(|f| match f {
                Fact::Process { cause, count, .. } => format!("{count} {cause}"),
                other => panic!("{other:?}"),
            });
            causes.collect::<Vec<_>>()
        };
        let oom = of(REASON, "app", ",reason=OOMKilled", 1.0);
        let cases = [
            (
                "nothing happened",
                vec![oom.clone(), of(EXIT_CODES[0], "app", "", 137.0)],
                vec![],
            ),
            ("not named", vec![Some(restart("app"))], vec!["1 "]),
            (
                "named",
                vec![of(EXIT_CODES[0], "app", "", 137.0), Some(restart("app")), oom.clone()],
                vec!["1 OOMKilled, exit code 137"],
            ),
            ("of another container", vec![Some(restart("proxy")), oom], vec!["1 "]),
            (
                "not this reason",
                vec![Some(restart("app")), of(REASON, "app", ",reason=Error", 0.0)],
                vec!["1 "],
            ),
            (
                "asked for",
                vec![Some(restart("app")), of(EXIT_CODES[0], "app", "", 0.0)],
                vec![],
            ),
            (
                "no code",
                vec![Some(restart("app")), of(EXIT_CODES[0], "app", "", f64::NAN)],
                vec!["1 "],
            ),
        ];
        for (name, facts, expected) in cases {
            assert_eq!(told(facts), expected, "{name}");
        }
    }
}
