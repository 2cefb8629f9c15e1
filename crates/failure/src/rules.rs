use foreshock_domain::{Fact, LabelPairs, Level};
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{FailureConfig, HeartbeatRule, ProbeRule, ProcessRule, SloRule};
use crate::declared::{DECLARED, TELEMETRY_LOST};
use crate::error::RuleError;
use crate::lines::{FATAL_LINE, LineMatcher};
use crate::process::{self, Growth, When};
use crate::watch::{SeriesWatch, WatchRole, WatchWindow};

/// Rules of all kinds together.
const RULES_MAX: usize = 256;
/// Bytes of a rule's name.
pub(crate) const NAME_BYTES_MAX: usize = 64;
/// Longest time that a rule may name, in seconds: 30 days.
const SECONDS_MAX: u64 = 30 * 86_400;
/// Most windows in a row that a probe rule may ask for.
const WINDOWS_MAX: u32 = 1_000;

/// The declared rules, checked and compiled: the only ones that run.
#[derive(Clone, Debug)]
pub struct Rules {
    config: FailureConfig,
    lines: LineMatcher,
    /// Defaults, then those of the configuration.
    processes: Vec<ProcessRule>,
    fingerprint: u64,
}

impl Rules {
    /// Checks and compiles the rules.
    ///
    /// # Errors
    /// The first rule that can't be used, by the path of its key below `failure`.
    pub fn new(config: &FailureConfig) -> Result<Self, RuleError> {
        check_names(config)?;
        if !config.openslo.is_empty() {
            let expected = "what is in the files, in `failure.slo`";
            return Err(RuleError::new("failure.openslo", "files that nobody read", expected));
        }
        check_seconds("failure.cooldown_s", config.cooldown_s)?;
        check_seconds("failure.forget_s", config.forget_s)?;
        check_seconds("failure.horizon_s", config.horizon_s)?;
        for (class, lasts_s) in &config.planned {
            check_seconds(&format!("failure.planned.{class}"), *lasts_s)?;
        }
        for (i, rule) in config.heartbeat.iter().enumerate() {
            check_seconds(&format!("failure.heartbeat[{i}].after_s"), rule.after_s)?;
        }
        for (i, rule) in config.probe.iter().enumerate() {
            if !(1..=WINDOWS_MAX).contains(&rule.windows) {
                let key = format!("failure.probe[{i}].windows");
                return Err(RuleError::new(
                    key,
                    rule.windows.to_string(),
                    format!("1 to {WINDOWS_MAX}"),
                ));
            }
        }
        for (i, rule) in config.slo.iter().enumerate() {
            if !(rule.objective > 0.0 && rule.objective < 1.0) {
                let key = format!("failure.slo[{i}].objective");
                return Err(RuleError::new(
                    key,
                    rule.objective.to_string(),
                    "a share above 0 and below 1, such as 0.999",
                ));
            }
            if rule.errors.is_some() == rule.good.is_some() {
                let found = if rule.good.is_some() {
                    "both of `errors` and `good`"
                } else {
                    "neither `errors` nor `good`"
                };
                return Err(RuleError::new(
                    format!("failure.slo[{i}]"),
                    found,
                    "one of `errors` and `good`",
                ));
            }
        }
        let lines = LineMatcher::new(&config.log, config.fatal_lines, "failure.log")?;
        let mut processes = if config.processes {
            process::defaults()
        } else {
            Vec::new()
        };
        processes.extend(config.process.iter().cloned());
        Ok(Self {
            config: config.clone(),
            lines,
            // Of what holds by default, too: a later version may know more of it.
            fingerprint: xxh3_64(format!("{config:?}{processes:?}").as_bytes()),
            processes,
        })
    }

    /// 64-bit hash of the rules with a fixed seed. [`SeriesWatch`]es are indices into these rules: those that were made by
    /// rules of another fingerprint must be made again.
    #[must_use]
    pub const fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// What the rules want of a series. Called once for a new series: it runs every selector.
    #[must_use]
    pub fn watches(&self, name: &str, labels: &LabelPairs<'_>) -> Vec<SeriesWatch> {
        let mut out = Vec::new();
        let mut watch = |rules: &mut dyn Iterator<Item = bool>, role: WatchRole| {
            let selected = (0u16..).zip(rules).filter(|(_, selected)| *selected);
            out.extend(selected.map(|(rule, _)| SeriesWatch { rule, role }));
        };
        let c = &self.config;
        watch(
            &mut c.probe.iter().map(|r| r.series.matches(name, labels)),
            WatchRole::Probe,
        );
        watch(
            &mut c.slo.iter().map(|r| {
                let part = r.errors.as_ref().or(r.good.as_ref());
                part.is_some_and(|s| s.matches(name, labels))
            }),
            WatchRole::Errors,
        );
        watch(
            &mut c.slo.iter().map(|r| r.total.matches(name, labels)),
            WatchRole::Total,
        );
        let beats = |r: &HeartbeatRule| r.series.as_ref().is_some_and(|s| s.matches(name, labels));
        watch(&mut c.heartbeat.iter().map(beats), WatchRole::Heartbeat);
        watch(
            &mut self.processes.iter().map(|r| r.series.matches(name, labels)),
            WatchRole::Process,
        );
        let names_causes = !self.processes.is_empty() && process::names_causes(name, labels);
        watch(&mut std::iter::once(names_causes), WatchRole::Cause);
        out
    }

    /// An empty window for a watched series.
    #[must_use]
    pub fn window(&self, watch: &SeriesWatch) -> WatchWindow {
        let i = usize::from(watch.rule);
        let down = match watch.role {
            WatchRole::Probe => self.config.probe.get(i).map(|rule| rule.down),
            WatchRole::Process => self.processes.get(i).and_then(|rule| match rule.when {
                When::Is(down) => Some(down),
                When::Increase | When::Start => None,
            }),
            _ => None,
        };
        WatchWindow::new(down.unwrap_or_default())
    }

    /// What a watched series has to tell the second stage at the end of a window: nothing where it was not heard, or where its
    /// counter did not grow. Facts of an entity are put together by [`Self::name_causes`] then.
    #[must_use]
    pub fn fact(&self, watch: &SeriesWatch, series: &str, window: &WatchWindow, growth: Growth) -> Option<Fact> {
        let counter_increase = growth.increase;
        let i = usize::from(watch.rule);
        let counter = |errors: bool| {
            let rule = self.config.slo.get(i)?.name.as_str().into();
            let counts = counter_increase.is_finite() && counter_increase > 0.0;
            counts.then_some(Fact::Counter {
                rule,
                errors,
                increase: counter_increase,
            })
        };
        match watch.role {
            WatchRole::Errors => counter(true),
            WatchRole::Total => counter(false),
            WatchRole::Probe => {
                let rule = self.config.probe.get(i)?.name.as_str().into();
                (window.up > 0 || window.down > 0).then(|| Fact::Probe {
                    rule,
                    series: series.into(),
                    up: window.up,
                    down: window.down,
                    first_down: window.first_down,
                    last_up: window.last_up,
                })
            }
            WatchRole::Heartbeat => {
                let rule = self.config.heartbeat.get(i)?.name.as_str().into();
                window.last_at.map(|last_at| Fact::Heartbeat {
                    rule,
                    series: series.into(),
                    last_at,
                })
            }
            WatchRole::Process => process::fact(self.processes.get(i)?, series, window, growth),
            WatchRole::Cause => process::cause(series, window.last_at?, growth.last),
        }
    }

    /// Puts together what the series of one entity told in one window: why its processes ended goes to the facts that they did.
    pub fn name_causes(&self, facts: &mut Vec<Fact>) {
        if !self.processes.is_empty() {
            process::name(facts);
        }
    }

    /// Name of the first log rule that a line fires; [`FATAL_LINE`] for fatal lines. Linear in the message, of which at most
    /// 4 KiB are searched.
    #[must_use]
    pub fn line_rule(&self, level: Option<Level>, message: &str) -> Option<&str> {
        self.lines.rule(level, message)
    }

    pub(crate) fn heartbeats(&self) -> &[HeartbeatRule] {
        &self.config.heartbeat
    }

    pub(crate) fn heartbeat(&self, name: &str) -> Option<&HeartbeatRule> {
        self.config.heartbeat.iter().find(|r| r.name == name)
    }

    pub(crate) fn probe(&self, name: &str) -> Option<&ProbeRule> {
        self.config.probe.iter().find(|r| r.name == name)
    }

    pub(crate) fn process(&self, name: &str) -> Option<&ProcessRule> {
        self.processes.iter().find(|r| r.name == name)
    }
    pub(crate) fn slo(&self, name: &str) -> Option<&SloRule> {
        self.config.slo.iter().find(|r| r.name == name)
    }

    /// Whether a log rule of this name is still declared.
    pub(crate) fn has_log(&self, name: &str) -> bool {
        (name == FATAL_LINE && self.config.fatal_lines) || self.config.log.iter().any(|r| r.name == name)
    }

    /// How long after a failure nothing counts as a precursor, in milliseconds.
    #[must_use]
    pub fn cooldown_ms(&self) -> i64 {
        millis(self.config.cooldown_s)
    }

    /// The shortest silence that a heartbeat rule calls a failure, in milliseconds; `None` without such a rule.
    #[must_use]
    pub fn silence_ms(&self) -> Option<i64> {
        self.config.heartbeat.iter().map(|rule| millis(rule.after_s)).min()
    }

    /// How long after a precursor was resolved a failure confirms it, in milliseconds.
    #[must_use]
    pub fn horizon_ms(&self) -> i64 {
        millis(self.config.horizon_s)
    }

    /// How long planned work of a class lasts where no end is declared, in milliseconds; `None` where the class is an incident's.
    #[must_use]
    pub fn planned_ms(&self, class: &str) -> Option<i64> {
        self.config.planned.get(class).map(|lasts_s| millis(*lasts_s))
    }

    pub(crate) fn forget_ms(&self) -> i64 {
        millis(self.config.forget_s)
    }
}

/// Seconds as milliseconds; the longest there are where they are too many.
pub(crate) fn millis(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000)
}

fn check_names(config: &FailureConfig) -> Result<(), RuleError> {
    fn of<'a, R>(
        kind: &'a str,
        rules: &'a [R],
        name: fn(&R) -> &String,
    ) -> impl Iterator<Item = (&'a str, usize, &'a str)> {
        let rules = rules.iter().enumerate();
        rules.map(move |(i, rule)| (kind, i, name(rule).as_str()))
    }
    let all = of("heartbeat", &config.heartbeat, |r| &r.name)
        .chain(of("log", &config.log, |r| &r.name))
        .chain(of("probe", &config.probe, |r| &r.name))
        .chain(of("process", &config.process, |r| &r.name))
        .chain(of("slo", &config.slo, |r| &r.name));
    let mut seen: Vec<&str> = process::default_names()
        .chain([DECLARED, FATAL_LINE, TELEMETRY_LOST])
        .collect();
    let taken = seen.len();
    for (kind, i, name) in all {
        let error =
            |what: &str, expected: &str| Err(RuleError::new(format!("failure.{kind}[{i}].name"), what, expected));
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return error("no usable name", "1 to 64 bytes of text");
        }
        if seen.contains(&name) {
            return error(
                &format!("the name {name} twice"),
                "a name of its own; declared, fatal_line, telemetry_lost and those of the rules for processes are taken",
            );
        }
        seen.push(name);
        if seen.len() > RULES_MAX + taken {
            return Err(RuleError::new(
                "failure",
                "too many rules",
                format!("at most {RULES_MAX}"),
            ));
        }
    }
    Ok(())
}

fn check_seconds(key: &str, seconds: u64) -> Result<(), RuleError> {
    if (1..=SECONDS_MAX).contains(&seconds) {
        return Ok(());
    }
    Err(RuleError::new(
        key,
        seconds.to_string(),
        format!("1 to {SECONDS_MAX} seconds"),
    ))
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
