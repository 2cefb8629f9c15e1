//! Objectives as OpenSLO writes them (`apiVersion: openslo/v1`, <https://openslo.com>), taken for what they say of error budgets:
//! each objective of an SLO whose indicator is a ratio of two counters is one [`SloRule`].
//!
//! A part that would change which events count, and that is not understood, is an error, never skipped: a budget that is not the
//! declared one is worse than none. What concerns only who is told and when (services, notification targets) is left out; what an
//! alert policy asks for and the windows here do not do is noted.
//!
//! Cost: linear in the text; the parser is capped in depth, nodes and aliases.

mod query;
mod tree;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::SloRule;
use crate::rules::NAME_BYTES_MAX;
use crate::selector::Selector;
use crate::slo::{PAIRS, PRECURSORS};
use query::selector_of;
use tree::{Node, documents};

/// What there is in place of a part that is not understood.
const BY_HAND: &str = "state it by hand as `[[failure.slo]]` with `name`, `objective`, `total` and `errors` or `good`, and list the \
                       others of this file in `only`";

/// Table `failure.openslo` of the configuration: a file whose objectives are taken as if they stood in `failure.slo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenSloFile {
    /// YAML with one or more documents.
    pub file: String,
    /// Names of the SLOs that are taken; left out, all of them.
    #[serde(default)]
    pub only: Option<Vec<String>>,
}

/// What was taken of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenSlo {
    /// One rule an objective, named as its SLO; `name/1`, `name/2`, … where an SLO has several.
    pub rules: Vec<SloRule>,
    /// What was understood, and is done in another way than the file says.
    pub notes: Vec<String>,
}

/// A part of a file that can't be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}, expected {expected}")]
pub struct OpenSloError {
    /// Document and field, such as `document 2 (SLO checkout), spec.objectives[0].target`.
    pub place: String,
    /// What was found.
    pub what: String,
    /// What may stand there.
    pub expected: String,
    /// What to do where it can't be put right.
    pub help: Option<&'static str>,
}

impl OpenSlo {
    /// Takes the objectives of a text; `only` those of these SLOs.
    ///
    /// # Errors
    /// The first part that can't be taken, and how to do without.
    pub fn parse(text: &str, only: Option<&[String]>) -> Result<Self, OpenSloError> {
        let all = documents(text)?;
        let objects: Vec<Object<'_>> = all
            .iter()
            .map(|(n, value)| Object::new(*n, value))
            .collect::<Result<_, _>>()?;
        let mut out = Self {
            rules: Vec::new(),
            notes: Vec::new(),
        };
        for slo in objects.iter().filter(|o| o.kind == "SLO") {
            if only.is_none_or(|names| names.iter().any(|n| n == slo.name)) {
                out.take(slo, &objects)?;
            }
        }
        let missing = only.and_then(|names| names.iter().find(|n| !objects.iter().any(|o| o.is("SLO", n))));
        if let Some(name) = missing {
            let found: Vec<&str> = objects.iter().filter(|o| o.kind == "SLO").map(|o| o.name).collect();
            return Err(whole(
                format!("there is no SLO {name}"),
                format!("names of those in it: {}", found.join(", ")),
            ));
        }
        if out.rules.is_empty() {
            return Err(whole("there is no SLO in it", "a document with `kind: SLO`"));
        }
        Ok(out)
    }

    fn take(&mut self, slo: &Object<'_>, objects: &[Object<'_>]) -> Result<(), OpenSloError> {
        let spec = slo.node.need("spec", "the spec of an SLO")?;
        let method = spec.get("budgetingMethod");
        if let Some(method) = method.as_ref().filter(|m| m.value.as_str() != Some("Occurrences")) {
            return Err(method
                .wrong("`Occurrences`: events are counted, and not slices of time")
                .by_hand());
        }
        check_window(&spec)?;
        let total_and_part = indicator(slo, &spec, objects)?;
        let objectives = spec.need("objectives", "a list of objectives")?.list("objectives")?;
        let several = objectives.len() > 1;
        for (i, objective) in objectives.iter().enumerate() {
            let name = if several {
                format!("{}/{}", slo.name, i + 1)
            } else {
                slo.name.to_owned()
            };
            let (total, part) = total_and_part.clone();
            let (errors, good) = match part {
                Part::Bad(selector) => (Some(selector), None),
                Part::Good(selector) => (None, Some(selector)),
            };
            self.rules.push(SloRule {
                name,
                objective: target(objective)?,
                errors,
                good,
                total,
                min_events: SloRule::MIN_EVENTS,
            });
        }
        if objectives.is_empty() {
            let node = spec.need("objectives", "a list of objectives")?;
            return Err(node.wrong("at least one objective"));
        }
        self.note_alerts(slo, &spec, objects)
    }

    /// The windows of an error budget are fixed: what a policy asks for is done where it is one of them, and noted where not.
    fn note_alerts(&mut self, slo: &Object<'_>, spec: &Node<'_>, objects: &[Object<'_>]) -> Result<(), OpenSloError> {
        let Some(policies) = spec.get("alertPolicies") else {
            return Ok(());
        };
        for entry in policies.list("alert policies")? {
            let policy = resolve(&entry, "alertPolicyRef", "AlertPolicy", objects);
            // A bare text is how older files refer.
            let policy = policy.or_else(|| find(objects, "AlertPolicy", entry.value.as_str()?));
            let Some(conditions) = policy.and_then(|p| p.get("spec")).and_then(|s| s.get("conditions")) else {
                self.note(slo, "an alert policy that is not in this file is not looked at");
                continue;
            };
            for entry in conditions.list("alert conditions")? {
                let condition = resolve(&entry, "conditionRef", "AlertCondition", objects);
                let condition = condition.and_then(|c| c.get("spec")).and_then(|s| s.get("condition"));
                match condition {
                    Some(condition) => self.note_condition(slo, &condition),
                    None => self.note(slo, "an alert condition that is not in this file is not looked at"),
                }
            }
        }
        Ok(())
    }

    fn note_condition(&mut self, slo: &Object<'_>, condition: &Node<'_>) {
        let text = |key| {
            condition
                .get(key)
                .and_then(|n| n.value.as_str().map(str::to_owned))
                .unwrap_or_default()
        };
        let threshold = condition.get("threshold").and_then(|n| n.number()).unwrap_or(f64::NAN);
        let window = text("lookbackWindow");
        let is_ours = duration_ms(&window).is_some_and(|ms| {
            let asked = |(long_ms, factor): (i64, f64)| long_ms == ms && (factor - threshold).abs() < 1e-9;
            matches!(&*text("op"), "gt" | "gte") && PAIRS.into_iter().chain(PRECURSORS).any(asked)
        });
        if !is_ours {
            let op = text("op");
            self.note(
                slo,
                &format!(
                    "the alert condition {op} {threshold} over {window} is not taken; a burn is a failure at 14.4 times over 1 h \
                     and 6 times over 6 h"
                ),
            );
        }
    }

    fn note(&mut self, slo: &Object<'_>, what: &str) {
        let note = format!("{}: {what}", slo.name);
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// What of all events is counted beside them.
#[derive(Clone, Debug)]
enum Part {
    Bad(Selector),
    Good(Selector),
}

/// One object of the file.
struct Object<'a> {
    kind: &'a str,
    name: &'a str,
    node: Node<'a>,
}

impl<'a> Object<'a> {
    fn new(document: usize, value: &'a Value) -> Result<Self, OpenSloError> {
        let text = |path: &[&str]| {
            let found = path.iter().try_fold(value, |v, key| v.get(key));
            found.and_then(Value::as_str).unwrap_or_default()
        };
        let (kind, name) = (text(&["kind"]), text(&["metadata", "name"]));
        let node = Node::root(document, kind, name, value);
        let version = node.need("apiVersion", "`openslo/v1`")?;
        if version.value.as_str() != Some("openslo/v1") {
            return Err(version.wrong("`openslo/v1`"));
        }
        const KINDS: [&str; 7] = [
            "SLO",
            "SLI",
            "AlertPolicy",
            "AlertCondition",
            "AlertNotificationTarget",
            "DataSource",
            "Service",
        ];
        if !KINDS.contains(&kind) {
            return Err(node.need("kind", "a kind of OpenSLO")?.wrong(
                "one of SLO, SLI, AlertPolicy, AlertCondition, \
                                                                     AlertNotificationTarget, DataSource, Service",
            ));
        }
        // Room for the number of an objective.
        if name.is_empty() || name.len() + 3 > NAME_BYTES_MAX {
            let metadata = node.need("metadata", "metadata with a name")?;
            return Err(metadata
                .need("name", "a name")?
                .wrong(format!("1 to {} bytes of text", NAME_BYTES_MAX - 3)));
        }
        Ok(Self { kind, name, node })
    }

    fn is(&self, kind: &str, name: &str) -> bool {
        self.kind == kind && self.name == name
    }
}

fn find<'a>(objects: &[Object<'a>], kind: &str, name: &str) -> Option<Node<'a>> {
    objects.iter().find(|o| o.is(kind, name)).map(|o| o.node.clone())
}

/// An object that stands in place, or that is referred to by name.
fn resolve<'a>(entry: &Node<'a>, reference: &str, kind: &str, objects: &[Object<'a>]) -> Option<Node<'a>> {
    match entry.get(reference) {
        Some(name) => find(objects, kind, name.value.as_str()?),
        None => entry.get("spec").map(|_| entry.clone()),
    }
}

/// Counters of all events, and of the bad or good ones among them.
fn indicator(slo: &Object<'_>, spec: &Node<'_>, objects: &[Object<'_>]) -> Result<(Selector, Part), OpenSloError> {
    let indicator = match (spec.get("indicator"), spec.get("indicatorRef")) {
        (Some(indicator), None) => indicator,
        (None, Some(reference)) => {
            let name = reference.value.as_str().unwrap_or_default();
            let named = find(objects, "SLI", name);
            named.ok_or_else(|| reference.wrong("the name of an SLI in the same file"))?
        }
        _ => return Err(slo.node.need("spec", "")?.wrong("either `indicator` or `indicatorRef`")),
    };
    let spec = indicator.need("spec", "the spec of an SLI")?;
    let ratio = match (spec.get("ratioMetric"), spec.get("thresholdMetric")) {
        (Some(ratio), None) => ratio,
        (_, Some(threshold)) => {
            return Err(threshold
                .found("a threshold", "`ratioMetric`, counters of events")
                .by_hand());
        }
        (None, None) => return Err(spec.wrong("`ratioMetric`")),
    };
    let counter = ratio.get("counter");
    if counter.as_ref().and_then(|c| c.value.as_bool()) != Some(true) {
        let node = counter.unwrap_or_else(|| ratio.clone());
        return Err(node
            .found("no counter", "`counter: true`, a count that only grows")
            .by_hand());
    }
    if let Some(raw) = ratio.get("raw") {
        let expected = "`total` and `good` or `bad`, counters of events";
        return Err(raw.found("a ratio that is computed elsewhere", expected).by_hand());
    }
    let total = metric(&ratio.need("total", "a counter of all events")?, objects)?;
    let part = match (ratio.get("good"), ratio.get("bad")) {
        (Some(good), None) => Part::Good(metric(&good, objects)?),
        (None, Some(bad)) => Part::Bad(metric(&bad, objects)?),
        _ => return Err(ratio.wrong("either `good` or `bad`")),
    };
    Ok((total, part))
}

/// The counters of one metric source, which must be Prometheus'.
fn metric(node: &Node<'_>, objects: &[Object<'_>]) -> Result<Selector, OpenSloError> {
    let source = node.need("metricSource", "a metric source")?;
    let of_reference = source
        .get("metricSourceRef")
        .and_then(|r| find(objects, "DataSource", r.value.as_str()?))
        .and_then(|d| d.get("spec")?.get("type"));
    if let Some(kind) = source.get("type").or(of_reference) {
        let is_prometheus = kind
            .value
            .as_str()
            .is_some_and(|k| k.eq_ignore_ascii_case("prometheus"));
        if !is_prometheus {
            return Err(kind.wrong("`Prometheus`").by_hand());
        }
    }
    let spec = source.need("spec", "a spec with a `query`")?;
    let query = spec.get("query").or_else(|| spec.get("promql"));
    let query = query.ok_or_else(|| spec.wrong("a `query`"))?;
    let text = query.value.as_str().ok_or_else(|| query.wrong("a text in PromQL"))?;
    selector_of(text).map_err(|why| {
        let expected =
            "a metric with labels, such as http_requests_total{code=~\"5..\"}, alone or inside sum, rate or increase";
        query
            .found(format!("`{text}` is no plain selector: {why}"), expected)
            .by_hand()
    })
}

/// Share of events that must be good.
fn target(objective: &Node<'_>) -> Result<f64, OpenSloError> {
    let (node, share, expected) = match (objective.get("target"), objective.get("targetPercent")) {
        (Some(node), None) => (
            node.clone(),
            node.number(),
            "a share above 0 and below 1, such as 0.999",
        ),
        (None, Some(node)) => {
            // 99.9 as 0.999, and not as the nearest double to the quotient.
            let share = node.number().map(|percent| (percent * 1e10).round() / 1e12);
            (node, share, "a percentage above 0 and below 100, such as 99.9")
        }
        _ => return Err(objective.wrong("either `target` or `targetPercent`")),
    };
    let share = share.filter(|share| *share > 0.0 && *share < 1.0);
    share.ok_or_else(|| node.wrong(expected))
}

/// The budget's period says nothing about how fast it burns; it must only be one.
fn check_window(spec: &Node<'_>) -> Result<(), OpenSloError> {
    let Some(window) = spec.get("timeWindow") else {
        return Ok(());
    };
    let windows = window.list("time windows")?;
    let [only] = &windows[..] else {
        return Err(window.wrong("one time window"));
    };
    let duration = only.need("duration", "a length of time such as 30d")?;
    let is_one = duration.value.as_str().and_then(duration_ms).is_some();
    if is_one {
        Ok(())
    } else {
        Err(duration.wrong("a whole number and one of m, h, d, w, M, Q, Y, such as 30d"))
    }
}

/// OpenSLO's shorthand for lengths of time; months have 30 days and years 365.
fn duration_ms(text: &str) -> Option<i64> {
    const DAY: i64 = 86_400_000;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => DAY,
        "w" => 7 * DAY,
        "M" => 30 * DAY,
        "Q" => 91 * DAY,
        "Y" => 365 * DAY,
        _ => return None,
    };
    let digits = number.bytes().all(|b| b.is_ascii_digit()).then_some(number)?;
    digits.parse::<i64>().ok().filter(|n| *n > 0)?.checked_mul(unit)
}

impl OpenSloError {
    fn by_hand(mut self) -> Self {
        self.help = Some(BY_HAND);
        self
    }
}

/// What is wrong with the file as a whole.
fn whole(what: impl Into<String>, expected: impl Into<String>) -> OpenSloError {
    OpenSloError {
        place: "the file".into(),
        what: what.into(),
        expected: expected.into(),
        help: None,
    }
}
