use foreshock_domain::{Fact, LabelPairs, Level};

use crate::config::{FailureConfig, HeartbeatRule, ProbeRule, SloRule};
use crate::declared::DECLARED;
use crate::error::RuleError;
use crate::lines::{FATAL_LINE, LineMatcher};
use crate::probe::Down;
use crate::watch::{SeriesWatch, WatchRole, WatchWindow};

/// Rules of all kinds together.
const RULES_MAX: usize = 256;
/// Bytes of a rule's name.
const NAME_BYTES_MAX: usize = 64;
/// Longest time that a rule may name, in seconds: 30 days.
const SECONDS_MAX: u64 = 30 * 86_400;
/// Most windows in a row that a probe rule may ask for.
const WINDOWS_MAX: u32 = 1_000;

/// The declared rules, checked and compiled: the only ones that run.
#[derive(Clone, Debug)]
pub struct Rules {
    config: FailureConfig,
    lines: LineMatcher,
    fingerprint: u64,
}

impl Rules {
    /// Checks and compiles the rules.
    ///
    /// # Errors
    /// The first rule that can't be used, by the path of its key below `failure`.
    pub fn new(config: &FailureConfig) -> Result<Self, RuleError> {
        check_names(config)?;
        check_seconds("failure.cooldown_s", config.cooldown_s)?;
        check_seconds("failure.forget_s", config.forget_s)?;
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
        }
        let lines = LineMatcher::new(&config.log, config.fatal_lines, "failure.log")?;
        Ok(Self {
            config: config.clone(),
            lines,
            fingerprint: fingerprint(config),
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
            &mut c.slo.iter().map(|r| r.errors.matches(name, labels)),
            WatchRole::Errors,
        );
        watch(
            &mut c.slo.iter().map(|r| r.total.matches(name, labels)),
            WatchRole::Total,
        );
        let beats = |r: &HeartbeatRule| r.series.as_ref().is_some_and(|s| s.matches(name, labels));
        watch(&mut c.heartbeat.iter().map(beats), WatchRole::Heartbeat);
        out
    }

    /// An empty window for a watched series.
    #[must_use]
    pub fn window(&self, watch: &SeriesWatch) -> WatchWindow {
        let probe = (watch.role == WatchRole::Probe)
            .then(|| self.config.probe.get(usize::from(watch.rule)))
            .flatten();
        WatchWindow::new(probe.map_or_else(Down::default, |rule| rule.down))
    }

    /// What a watched series has to tell the second stage at the end of a window: nothing where it was not heard, or where its
    /// counter did not grow. `counter_increase` is the growth over the window with resets accounted for; it is used for the
    /// roles [`WatchRole::Errors`] and [`WatchRole::Total`] alone.
    #[must_use]
    pub fn fact(&self, watch: &SeriesWatch, series: &str, window: &WatchWindow, counter_increase: f64) -> Option<Fact> {
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

    pub(crate) fn slo(&self, name: &str) -> Option<&SloRule> {
        self.config.slo.iter().find(|r| r.name == name)
    }

    /// Whether a log rule of this name is still declared.
    pub(crate) fn has_log(&self, name: &str) -> bool {
        (name == FATAL_LINE && self.config.fatal_lines) || self.config.log.iter().any(|r| r.name == name)
    }

    pub(crate) fn cooldown_ms(&self) -> i64 {
        millis(self.config.cooldown_s)
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
    let heartbeat = config
        .heartbeat
        .iter()
        .map(|r| &r.name)
        .enumerate()
        .map(|(i, n)| ("heartbeat", i, n));
    let log = config
        .log
        .iter()
        .map(|r| &r.name)
        .enumerate()
        .map(|(i, n)| ("log", i, n));
    let probe = config
        .probe
        .iter()
        .map(|r| &r.name)
        .enumerate()
        .map(|(i, n)| ("probe", i, n));
    let slo = config
        .slo
        .iter()
        .map(|r| &r.name)
        .enumerate()
        .map(|(i, n)| ("slo", i, n));
    let mut seen: Vec<&str> = vec![DECLARED, FATAL_LINE];
    for (kind, i, name) in heartbeat.chain(log).chain(probe).chain(slo) {
        let error =
            |what: &str, expected: &str| Err(RuleError::new(format!("failure.{kind}[{i}].name"), what, expected));
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            return error("no usable name", "1 to 64 bytes of text");
        }
        if seen.contains(&name.as_str()) {
            return error(
                &format!("the name {name} twice"),
                "a name of its own; declared and fatal_line are taken",
            );
        }
        seen.push(name);
        if seen.len() > RULES_MAX + 2 {
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

/// FNV-1a over the configuration's text: it is to tell two sets of rules apart, not to resist anybody.
fn fingerprint(config: &FailureConfig) -> u64 {
    let text = format!("{config:?}");
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, b| {
        (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
