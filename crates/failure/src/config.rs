use std::collections::BTreeMap;

use foreshock_domain::Level;
use serde::{Deserialize, Serialize};

use crate::glob::Glob;
use crate::openslo::OpenSloFile;
use crate::probe::Down;
use crate::process::When;
use crate::selector::Selector;

/// Table `failure` of the configuration: what counts as a failure. Checked by [`crate::Rules::new`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FailureConfig {
    /// Silence that is a failure.
    pub heartbeat: Vec<HeartbeatRule>,
    /// Log lines that are a failure.
    pub log: Vec<LogRule>,
    /// Black-box probes that fail.
    pub probe: Vec<ProbeRule>,
    /// Processes that end where nobody asked for it.
    pub process: Vec<ProcessRule>,
    /// Whether the rules for what Kubernetes, systemd and Docker say of processes hold. Default true.
    pub processes: bool,
    /// Error budgets that burn too fast.
    pub slo: Vec<SloRule>,
    /// Files of objectives, as [`crate::OpenSlo`] reads them. Whoever reads files puts what is in them into `slo` and leaves this
    /// empty.
    pub openslo: Vec<OpenSloFile>,
    /// Whether a line of level fatal, or one that a dying process or kernel writes, is a failure. Default true.
    pub fatal_lines: bool,
    /// Seconds without any cause after which a failure is over; causes that come before merge into it. Default 300.
    pub cooldown_s: u64,
    /// Seconds after which a cause that nothing more was heard of is given up: the entity was taken away. Default 7 days.
    pub forget_s: u64,
    /// Seconds after a precursor was resolved in which a failure confirms it, where no model has a horizon of its own. Default 1 h.
    pub horizon_s: u64,
    /// Classes of declarations that are planned work and no incident, each with the seconds that it lasts where no end is
    /// declared. Default `maintenance` 4 h, `deploy` 15 min.
    pub planned: BTreeMap<String, u64>,
}

impl Default for FailureConfig {
    fn default() -> Self {
        Self {
            heartbeat: Vec::new(),
            log: Vec::new(),
            probe: Vec::new(),
            process: Vec::new(),
            processes: true,
            slo: Vec::new(),
            openslo: Vec::new(),
            fatal_lines: true,
            cooldown_s: 300,
            forget_s: 7 * 86_400,
            horizon_s: 3_600,
            planned: [("maintenance", 4 * 3_600), ("deploy", 900)]
                .map(|(class, lasts_s)| (class.to_owned(), lasts_s))
                .into(),
        }
    }
}

/// Class `heartbeat`: an entity or a series that was heard before is not heard any more (a dead man's switch).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatRule {
    /// Name in events; unique among all rules.
    pub name: String,
    /// Seconds of silence, on the observed clock, that are a failure.
    pub after_s: u64,
    /// Series that must be heard; left out, anything of the entity.
    #[serde(default)]
    pub series: Option<Selector>,
    /// Entities it holds for, `*` and `?` allowed; left out, all.
    #[serde(default)]
    pub entity: Option<Glob>,
}

/// Class `log`: one line that matches is a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogRule {
    /// Name in events; unique among all rules.
    pub name: String,
    /// Regular expression (syntax of the `regex` crate, linear time), searched anywhere in the message's first 4 KiB.
    pub pattern: String,
    /// Least level of the line; a line without a level then never matches. Left out, any line.
    #[serde(default)]
    pub level: Option<Level>,
}

/// Class `probe`: a series that says whether the service answers, and it does not for several windows in a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeRule {
    /// Name in events; unique among all rules.
    pub name: String,
    /// The probe, such as `probe_success{job="web"}`; each series that it selects counts alone.
    pub series: Selector,
    /// Which values mean down. Default `== 0`.
    #[serde(default)]
    pub down: Down,
    /// Windows in a row, without a sample that says up, that are a failure; as many without one that says down end it.
    /// Default 3.
    #[serde(default = "windows_default")]
    pub windows: u32,
}

/// Class `process`: a process ended where nobody asked for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessRule {
    /// Name in events; unique among all rules.
    pub name: String,
    /// The series, such as `node_systemd_unit_state{state="failed"}`; each one that it selects counts alone.
    pub series: Selector,
    /// What of it says so: a count that grew (`increase`, the default), a start time that moved on (`start`), or a state (`== 1`).
    #[serde(default)]
    pub when: When,
}

/// Class `slo_burn`: errors use up the budget of an objective too fast, over a long and a short window at once: 14.4 times
/// over 1 h and 5 min, or 6 times over 6 h and 30 min.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SloRule {
    /// Name in events; unique among all rules.
    pub name: String,
    /// Share of events that must be good, such as 0.999; above 0 and below 1.
    pub objective: f64,
    /// Counters of bad events, such as `http_requests_total{code=~"5.."}`; summed over the entity. Either this or `good`.
    #[serde(default)]
    pub errors: Option<Selector>,
    /// Counters of good events, where those are counted: what of all events is not good is bad.
    #[serde(default)]
    pub good: Option<Selector>,
    /// Counters of all events; summed over the entity.
    pub total: Selector,
    /// Events in the long window below which nothing is said. Default 100.
    #[serde(default = "min_events_default")]
    pub min_events: u64,
}

const fn windows_default() -> u32 {
    3
}

const fn min_events_default() -> u64 {
    SloRule::MIN_EVENTS
}

impl SloRule {
    /// Events in the long window below which nothing is said, where the rule does not say.
    pub const MIN_EVENTS: u64 = 100;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Rules;

    /// The `failure` table of a configuration file.
    #[derive(Debug, Deserialize)]
    struct File {
        failure: FailureConfig,
    }

    #[test]
    fn the_documented_example_is_accepted() {
        let page = include_str!("../../../docs/failures.md");
        let example = page
            .split("```toml\n")
            .nth(1)
            .and_then(|rest| rest.split("```").next())
            .unwrap();
        let file: File = toml::from_str(example).unwrap();
        Rules::new(&file.failure).unwrap();
        let c = &file.failure;
        assert_eq!(
            (
                c.heartbeat.len(),
                c.probe.len(),
                c.slo.len(),
                c.log.len(),
                c.process.len()
            ),
            (2, 1, 2, 1, 2)
        );
        // What the page calls the default is the default.
        let default = FailureConfig::default();
        assert_eq!(
            (c.cooldown_s, c.forget_s, c.fatal_lines, c.horizon_s, &c.planned),
            (
                default.cooldown_s,
                default.forget_s,
                default.fatal_lines,
                default.horizon_s,
                &default.planned
            )
        );
        assert_eq!(c.processes, default.processes);
        assert_eq!(c.process[0].when, When::default());
        assert_eq!(
            (c.probe[0].windows, c.probe[0].down),
            (windows_default(), Down::default())
        );
        assert_eq!(c.slo[0].min_events, min_events_default());
    }

    #[test]
    fn refusals_say_what_was_expected() {
        let cases = [
            ("[failure]\nheartbeats = []", "unknown field `heartbeats`"),
            ("[[failure.probe]]\nname = 'p'", "missing field `series`"),
            (
                "[[failure.probe]]\nname = 'p'\nseries = 'up{'",
                "expected name or name{label=\"value\"}",
            ),
            (
                "[[failure.probe]]\nname = 'p'\nseries = 'up'\ndown = 'zero'",
                "expected such as \"== 0\"",
            ),
            (
                "[[failure.process]]\nname = 'p'\nseries = 'up'\nwhen = 'gone'",
                "expected \"increase\", \"start\" or a comparison",
            ),
            (
                "[[failure.log]]\nname = 'l'\npattern = 'x'\nlevel = 'loud'",
                "unknown variant `loud`",
            ),
            (
                "[[failure.slo]]\nname = 's'\nobjective = 'high'",
                "invalid type: string \"high\", expected f64",
            ),
        ];
        for (text, expected) in cases {
            let error = toml::from_str::<File>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
