//! Precursors against failures: recall at lead, precision of episodes, false alarms per day, and what chance would have reached.
//!
//! An alert (a precursor that opens or escalates) is a hit where a failure of its entity begins at least the minimum lead (that of all,
//! or the failure's own) and at most the horizon after it. An episode is true where one of its alerts is a hit; late where the failure came sooner than the minimum lead;
//! a symptom where it opened inside a failure; unknown where the data ends before its horizon does; else false. Nothing is
//! point-adjusted: a failure counts once, an episode counts once (Salfner, Lenk, Malek, ACM Computing Surveys 42(3), 2010, section 3.3).

use std::collections::BTreeMap;

use foreshock_domain::{Entity, Millis, Timestamp};

use super::chance::chance;
use super::collect::{Alert, Collected, Episode, Kind};
pub use super::figures::{ClassRow, CurvePoint, FailureRow, Figures, KindRow, LeftOut, Outcome, Share, Terms};
use crate::labels::Label;

/// An engine's own failure this close to a labelled one is that one.
const SAME_MS: Millis = 120_000;
/// Rows of the table of signals.
const KINDS_MAX: usize = 15;
const DAY_MS: f64 = 86_400_000.0;

/// Failures that are scored, by entity, in order of onset.
pub(super) type ByEntity<'a> = BTreeMap<&'a Entity, Vec<&'a Label>>;

/// Evaluates what was collected against the labels.
#[must_use]
pub fn evaluate(terms: &Terms, labels: &[Label], merged: usize, collected: &Collected) -> (Figures, Vec<Outcome>) {
    let last = collected.spans.values().map(|s| s.1).max().unwrap_or(terms.from);
    let first = collected.spans.values().map(|s| s.0).min().unwrap_or(terms.from);
    let from = terms.from.max(first);
    let mut left_out = LeftOut {
        merged,
        ..LeftOut::default()
    };
    let scored: Vec<usize> = (0..labels.len())
        .filter(|i| left_out.keeps(&labels[*i], from, last, collected))
        .collect();
    let all: ByEntity<'_> = by_entity(labels.iter());
    let outcomes: Vec<Outcome> = collected
        .episodes
        .iter()
        .map(|e| outcome(terms, e, all.get(&e.entity).map_or(&[], Vec::as_slice), last, 0.0))
        .collect();
    let failures: Vec<FailureRow> = scored
        .iter()
        .map(|i| failure_row(terms, labels, *i, collected))
        .collect();
    let counted = |row: &&FailureRow| !terms.apart.contains(&row.class);
    let mut leads_s: Vec<f64> = failures.iter().filter(counted).filter_map(|f| f.lead_s).collect();
    leads_s.sort_by(f64::total_cmp);
    let days = ((last - from) as f64 / DAY_MS).max(f64::MIN_POSITIVE);
    let in_part = |e: &Episode| e.alerts.first().is_some_and(|a| a.at >= from);
    let count = |wanted: Outcome| {
        let both = collected.episodes.iter().zip(&outcomes);
        both.filter(|(e, o)| in_part(e) && **o == wanted).count()
    };
    let (trues, falses) = (count(Outcome::True), count(Outcome::False));
    let targets: Vec<&Label> = failures.iter().filter(counted).map(|row| &labels[row.label]).collect();
    let recall = Share::new(leads_s.len(), targets.len());
    let (chance_recall, chance_p) = chance(terms, &targets, collected, recall.hits);
    let figures = Figures {
        scored: (rfc3339(from), rfc3339(last)),
        days,
        entities: collected.spans.len(),
        lead_s_min: seconds(terms.lead_ms),
        horizon_s: seconds(terms.horizon_ms),
        recall,
        precision: Share::new(trues, trues + falses),
        false_per_day: falses as f64 / days,
        false_per_entity_day: falses as f64 / quiet_days(terms, &all, collected, from).max(f64::MIN_POSITIVE),
        budget_per_day: terms.budget_per_day,
        lead_s: quantiles(&leads_s),
        leads_s,
        chance_recall,
        chance_p,
        outcomes: [
            ("true", Outcome::True),
            ("late", Outcome::Late),
            ("symptom", Outcome::Symptom),
            ("unknown", Outcome::Unknown),
            ("false", Outcome::False),
        ]
        .map(|(name, o)| (name, count(o)))
        .into(),
        classes: class_rows(terms, &failures),
        ranked_by: "surprise",
        curve: curve(terms, &targets, &all, collected, (from, last, days)),
        kinds: kind_rows(collected, &outcomes),
        failures,
        left_out,
    };
    (figures, outcomes)
}

impl LeftOut {
    fn keeps(&mut self, label: &Label, from: Timestamp, last: Timestamp, collected: &Collected) -> bool {
        let Some(span) = collected.spans.get(&label.entity) else {
            self.unknown_count += 1;
            let name = label.entity.as_str();
            if self.unknown.len() < 10 && !self.unknown.iter().any(|u| u == name) {
                self.unknown.push(name.to_owned());
            }
            return false;
        };
        if label.onset < from.max(span.0) {
            self.before += 1;
            return false;
        }
        if label.onset > last {
            self.after += 1;
            return false;
        }
        true
    }
}

pub(super) fn by_entity<'a>(labels: impl Iterator<Item = &'a Label>) -> ByEntity<'a> {
    let mut by: ByEntity<'a> = BTreeMap::new();
    for label in labels {
        by.entry(&label.entity).or_default().push(label);
    }
    by
}

/// What became of an episode, of whose alerts those below `threshold` are left out.
fn outcome(terms: &Terms, episode: &Episode, failures: &[&Label], last: Timestamp, threshold: f64) -> Outcome {
    let told = || episode.alerts.iter().filter(|a| a.score >= threshold);
    if told().any(|alert| failures.iter().any(|f| is_hit(terms, *alert, f))) {
        return Outcome::True;
    }
    let Some(first) = told().next().map(|a| a.at) else {
        return Outcome::Unknown;
    };
    // Where nobody wrote down the end, a failure lasts as long as a minimum lead.
    let inside =
        |f: &&Label| f.onset <= first && first <= f.end.unwrap_or(f.onset + f.lead_or(terms.lead_ms)) + SAME_MS / 2;
    if failures.iter().any(inside) {
        return Outcome::Symptom;
    }
    if told().any(|a| {
        failures
            .iter()
            .any(|f| f.onset > a.at && f.onset - a.at < f.lead_or(terms.lead_ms))
    }) {
        return Outcome::Late;
    }
    if first + terms.horizon_ms > last {
        return Outcome::Unknown;
    }
    Outcome::False
}

pub(super) fn is_hit(terms: &Terms, alert: Alert, failure: &Label) -> bool {
    (failure.lead_or(terms.lead_ms)..=terms.horizon_ms).contains(&(failure.onset - alert.at))
}

fn failure_row(terms: &Terms, labels: &[Label], place: usize, collected: &Collected) -> FailureRow {
    let label = &labels[place];
    let own = || collected.episodes.iter().filter(|e| e.entity == label.entity);
    let hits = own().flat_map(|e| e.alerts.iter().map(move |a| (e, *a)));
    let first = hits.filter(|(_, a)| is_hit(terms, *a, label)).min_by_key(|(_, a)| a.at);
    let is_late = |a: &Alert| label.onset > a.at && label.onset - a.at < label.lead_or(terms.lead_ms);
    let before = &collected.before[place];
    let peak = before
        .points
        .iter()
        .filter(|p| p.0 <= 0)
        .map(|p| p.1)
        .fold(0.0, f64::max);
    FailureRow {
        entity: label.entity.as_str().to_owned(),
        class: label.class.to_string(),
        onset: rfc3339(label.onset),
        label: place,
        lead_s: first.map(|(_, a)| seconds(label.onset - a.at)),
        late: first.is_none() && own().any(|e| e.alerts.iter().any(is_late)),
        seen: collected.seen.iter().any(|s| {
            let end = label.end.unwrap_or(label.onset) + SAME_MS;
            s.entity == label.entity && s.onset >= label.onset - SAME_MS && s.onset <= end
        }),
        peak,
        why: first.map(|(e, _)| e.why.clone()),
    }
}

fn class_rows(terms: &Terms, failures: &[FailureRow]) -> Vec<ClassRow> {
    let mut classes: BTreeMap<(bool, &str), Vec<&FailureRow>> = BTreeMap::new();
    for row in failures {
        let key = (terms.apart.contains(&row.class), row.class.as_str());
        classes.entry(key).or_default().push(row);
    }
    let row = |((apart, class), rows): ((bool, &str), Vec<&FailureRow>)| {
        let mut leads: Vec<f64> = rows.iter().filter_map(|r| r.lead_s).collect();
        leads.sort_by(f64::total_cmp);
        ClassRow {
            class: class.to_owned(),
            apart,
            recall: Share::new(leads.len(), rows.len()),
            lead_s_median: quantiles(&leads).map(|q| q.1),
            seen: Share::new(rows.iter().filter(|r| r.seen).count(), rows.len()),
        }
    };
    classes.into_iter().map(row).collect()
}

/// Entity-days in which no failure was near: none began within a horizon, none was going on.
fn quiet_days(terms: &Terms, all: &ByEntity<'_>, collected: &Collected, from: Timestamp) -> f64 {
    let mut quiet_ms = 0;
    for (entity, (first, last)) in &collected.spans {
        let mut at = from.max(*first);
        for failure in all.get(entity).map_or(&[][..], Vec::as_slice) {
            quiet_ms += (failure.onset + -terms.horizon_ms - at).max(0);
            at = at.max(failure.end.unwrap_or(failure.onset + failure.lead_or(terms.lead_ms)));
        }
        quiet_ms += (*last - at).max(0);
    }
    quiet_ms as f64 / DAY_MS
}

fn curve(
    terms: &Terms,
    targets: &[&Label],
    all: &ByEntity<'_>,
    collected: &Collected,
    (from, last, days): (Timestamp, Timestamp, f64),
) -> Vec<CurvePoint> {
    let scores = collected.episodes.iter().flat_map(|e| &e.alerts).map(|a| a.score);
    let (low, high) = scores.fold((f64::INFINITY, 0.0_f64), |(l, h), s| (l.min(s), h.max(s)));
    if targets.is_empty() || low > high {
        return Vec::new();
    }
    // Alerts below the threshold they were told at were not told: the curve can only begin there.
    let steps = 24;
    let point = |i: u32| {
        let threshold = low + (high - low) * f64::from(i) / f64::from(steps);
        let caught = targets.iter().filter(|f| {
            let own = collected.episodes.iter().filter(|e| e.entity == f.entity);
            let mut told = own.flat_map(|e| &e.alerts).filter(|a| a.score >= threshold);
            told.any(|a| is_hit(terms, *a, f))
        });
        let caught = caught.count();
        let told = collected.episodes.iter().filter(|e| {
            let is_told = e.alerts.iter().any(|a| a.score >= threshold);
            is_told && e.alerts.first().is_some_and(|a| a.at >= from)
        });
        let (mut trues, mut falses) = (0, 0);
        for episode in told {
            let failures = all.get(&episode.entity).map_or(&[][..], Vec::as_slice);
            match outcome(terms, episode, failures, last, threshold) {
                Outcome::True => trues += 1,
                Outcome::False => falses += 1,
                Outcome::Late | Outcome::Symptom | Outcome::Unknown => {}
            }
        }
        let precision = Share::new(trues, trues + falses).share?;
        Some(CurvePoint {
            threshold,
            recall: caught as f64 / targets.len() as f64,
            precision,
            false_per_day: falses as f64 / days,
        })
    };
    (0..=steps).filter_map(point).collect()
}

fn kind_rows(collected: &Collected, outcomes: &[Outcome]) -> Vec<KindRow> {
    let mut counts: BTreeMap<&Kind, (usize, usize)> = BTreeMap::new();
    for (episode, outcome) in collected.episodes.iter().zip(outcomes) {
        let distinct: std::collections::BTreeSet<&Kind> = episode.kinds.iter().collect();
        for kind in distinct {
            let count = counts.entry(kind).or_default();
            match outcome {
                Outcome::True => count.0 += 1,
                Outcome::False => count.1 += 1,
                Outcome::Late | Outcome::Symptom | Outcome::Unknown => {}
            }
        }
    }
    let mut rows: Vec<KindRow> = counts
        .into_iter()
        .filter(|(_, c)| c.0 + c.1 > 0)
        .map(|(kind, (before_failure, before_nothing))| KindRow {
            name: kind.name.clone(),
            channel: kind.channel.clone(),
            before_failure,
            before_nothing,
        })
        .collect();
    rows.sort_by_key(|r| (std::cmp::Reverse(r.before_failure), r.before_nothing));
    rows.truncate(KINDS_MAX);
    rows
}

/// 10 %, 50 % and 90 % of ascending values, each one of the values.
fn quantiles(sorted: &[f64]) -> Option<(f64, f64, f64)> {
    let last = sorted.len().checked_sub(1)?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a place in the slice
    let at = |q: f64| sorted[((last as f64 * q).round() as usize).min(last)];
    Some((at(0.1), at(0.5), at(0.9)))
}

fn seconds(ms: Millis) -> f64 {
    ms as f64 / 1_000.0
}

fn rfc3339(at: Timestamp) -> String {
    foreshock_wire::time::format_rfc3339(at)
}

#[cfg(test)]
#[path = "evaluate_tests.rs"]
mod tests;
