//! Work that somebody planned: maintenance and deploys. They are declared like incidents, by a class of `failure.planned`, for one
//! entity or for a pattern of names; from onset to end what is unusual is neither precursor nor failure.
//!
//! One without an end lasts as long as the configuration says for its class, unless its end is declared later.
//!
//! Fails where the plan is declared after the fact: a failure that was told already stays told.
//!
//! Cost: a pattern match for each plan that is remembered, at each window and tick of an entity; at most 256 plans a partition.

use foreshock_domain::{Incident, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cause::CauseKey;
use crate::glob::Glob;
use crate::rules::Rules;

/// Plans remembered in a partition.
const PLANS_MAX: usize = 256;
/// How long after its end a plan is still remembered: what was going on in it may be told late.
const REMEMBERED_MS: i64 = 6 * 3_600_000;

/// From when until when work is planned; the end is outside.
pub type Span = (Timestamp, Timestamp);

/// The plans of a partition's entities.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    plans: Vec<Plan>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Plan {
    entity: Glob,
    class: Box<str>,
    span: Span,
    /// Whether the end was declared; otherwise it is the configuration's guess.
    is_ended: bool,
}

/// What a declaration did to the plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It is none of planned work: an incident.
    Incident,
    /// It was taken.
    Plan,
    /// It was taken, and the plan that ends first was forgotten for it.
    Displaced,
}

impl Planned {
    /// Takes a declaration, if it is one of planned work.
    pub fn note(&mut self, rules: &Rules, incident: &Incident) -> Noted {
        let Some(lasts_ms) = rules.planned_ms(&incident.class) else {
            return Noted::Incident;
        };
        let of = |p: &&mut Plan| p.entity.as_str() == incident.entity.as_str() && p.class == incident.class;
        let onset = incident.onset;
        let same = self.plans.iter_mut().filter(of).find(|p| p.span.0 == onset);
        if let Some(plan) = same {
            if let Some(end) = incident.end {
                (plan.span.1, plan.is_ended) = (end, true);
            }
            return Noted::Plan;
        }
        if let Some(end) = incident.end {
            // A source that has no memory of its own gives a new onset at the end: the open one is meant.
            let is_meant = |p: &&mut Plan| !p.is_ended && p.span.0 <= onset && onset < p.span.1;
            if let Some(plan) = self.plans.iter_mut().filter(of).find(is_meant) {
                (plan.span.1, plan.is_ended) = (end, true);
                return Noted::Plan;
            }
        }
        let is_full = self.plans.len() >= PLANS_MAX;
        if is_full {
            let first = (0..self.plans.len()).min_by_key(|i| self.plans.get(*i).map(|p| p.span.1));
            first.map(|i| self.plans.remove(i));
        }
        self.plans.push(Plan {
            entity: Glob::new(incident.entity.as_str()),
            class: incident.class.clone(),
            span: (onset, incident.end.unwrap_or(onset + lasts_ms)),
            is_ended: incident.end.is_some(),
        });
        if is_full { Noted::Displaced } else { Noted::Plan }
    }

    /// When work is planned on an entity. No allocation where none is.
    #[must_use]
    pub fn spans(&self, entity: &str) -> Vec<Span> {
        let of = self.plans.iter().filter(|p| p.entity.matches(entity));
        of.map(|p| p.span).collect()
    }

    /// Event time stands at `now`: forgets what is long over.
    pub fn forget(&mut self, now: Timestamp) {
        self.plans.retain(|p| p.span.1 + REMEMBERED_MS > now);
    }
}

/// Whether a name is a pattern, and so may mean entities of any partition.
#[must_use]
pub fn is_pattern(entity: &str) -> bool {
    entity.contains(['*', '?'])
}

/// When the planned work at `at` is over: `at` itself where there is none.
pub(crate) fn after(spans: &[Span], mut at: Timestamp) -> Timestamp {
    while let Some((_, end)) = spans.iter().find(|(from, to)| *from <= at && at < *to) {
        at = *end;
    }
    at
}

/// What becomes of a cause of a failure when work is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weighed {
    /// It counts, from then on.
    Counts(Timestamp),
    /// It counts if it is still there when the work is over.
    Waits,
    /// It belongs to the work.
    Belongs,
}

/// Weighs a cause that began at `onset` and, where it is over, ended at `ended`.
pub(crate) fn weigh(spans: &[Span], onset: Timestamp, ended: Option<Timestamp>, now: Timestamp) -> Weighed {
    let counts_from = after(spans, onset);
    match ended {
        Some(end) if counts_from > onset && end <= counts_from => Weighed::Belongs,
        None if after(spans, now) > now => Weighed::Waits,
        _ => Weighed::Counts(counts_from),
    }
}

/// A cause that began in planned work and waits for its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) key: CauseKey,
    pub(crate) onset: Timestamp,
    pub(crate) evidence: String,
}

#[cfg(test)]
mod tests {
    use foreshock_domain::Entity;

    use super::*;
    use crate::config::FailureConfig;

    fn t(s: i64) -> Timestamp {
        Timestamp::from_secs(s)
    }

    fn incident(entity: &str, class: &str, onset: i64, end: Option<i64>) -> Incident {
        Incident {
            entity: Entity::new(entity),
            class: class.into(),
            onset: t(onset),
            end: end.map(t),
            summary: None,
        }
    }

    #[test]
    fn what_is_declared_is_planned() {
        let rules = Rules::new(&FailureConfig::default()).unwrap();
        let deploy = |onset, end| incident("web-*", "deploy", onset, end);
        /// Declarations, and the spans of `web-1` after them.
        type Case<'a> = (&'a str, Vec<Incident>, &'a [(i64, i64)]);
        let cases: [Case<'_>; 9] = [
            ("an incident", vec![incident("web-1", "outage", 0, None)], &[]),
            ("a deploy lasts 15 min", vec![deploy(100, None)], &[(100, 1_000)]),
            (
                "maintenance lasts 4 h",
                vec![incident("web-1", "maintenance", 0, None)],
                &[(0, 14_400)],
            ),
            ("with an end", vec![deploy(100, Some(160))], &[(100, 160)]),
            ("a repeat", vec![deploy(100, None), deploy(100, None)], &[(100, 1_000)]),
            (
                "ended later",
                vec![deploy(100, None), deploy(100, Some(5_000))],
                &[(100, 5_000)],
            ),
            (
                "ended with its own onset",
                vec![deploy(100, None), deploy(300, Some(300))],
                &[(100, 300)],
            ),
            (
                "another, much later",
                vec![deploy(100, None), deploy(9_000, Some(9_100))],
                &[(100, 1_000), (9_000, 9_100)],
            ),
            ("another entity", vec![incident("db-1", "deploy", 0, None)], &[]),
        ];
        for (name, declared, expected) in cases {
            let mut planned = Planned::default();
            for incident in &declared {
                planned.note(&rules, incident);
            }
            let expected: Vec<Span> = expected.iter().map(|(a, b)| (t(*a), t(*b))).collect();
            assert_eq!(planned.spans("web-1"), expected, "{name}");
        }
    }

    #[test]
    fn plans_are_bounded_and_forgotten() {
        let rules = Rules::new(&FailureConfig::default()).unwrap();
        let mut planned = Planned::default();
        let noted: Vec<Noted> = (0..300)
            .map(|i| planned.note(&rules, &incident("a", "deploy", i, Some(i + 10))))
            .collect();
        assert_eq!(planned.plans.len(), PLANS_MAX);
        assert_eq!(
            noted.iter().filter(|n| **n == Noted::Displaced).count(),
            300 - PLANS_MAX
        );
        assert_eq!(planned.spans("a")[0].0, t(44), "the one that ends first goes first");
        planned.forget(t(309) + REMEMBERED_MS);
        assert_eq!(planned.spans("a"), []);
    }

    #[test]
    fn what_becomes_of_a_cause() {
        use Weighed::{Belongs, Counts, Waits};
        // Two plans that touch are one.
        let spans = [(t(100), t(200)), (t(200), t(300))];
        let cases = [
            ("before", 50, Some(60), 70, Counts(t(50))),
            ("found in it, over before it", 50, Some(60), 150, Counts(t(50))),
            ("began before, still there", 50, None, 150, Waits),
            ("in it", 110, Some(120), 130, Belongs),
            ("in it, still there", 110, None, 130, Waits),
            ("in it, told after it", 110, Some(120), 400, Belongs),
            ("in it, still there after it", 110, None, 300, Counts(t(300))),
            ("in it, over after it", 110, Some(310), 400, Counts(t(300))),
            ("after", 300, None, 300, Counts(t(300))),
        ];
        for (name, onset, ended, now, expected) in cases {
            assert_eq!(weigh(&spans, t(onset), ended.map(t), t(now)), expected, "{name}");
        }
    }
}
