//! Precursors against failures: recall at lead, precision of episodes, false alarms per day, and what chance would have reached.
//!
//! An alert (a precursor that opens or escalates) is a hit where a failure of its entity begins at least the minimum lead (that of all,
//! or the failure's own) and at most
//! the horizon after it. An episode is true where one of its alerts is a hit; late where the failure came sooner than the minimum lead;
//! a symptom where it opened inside a failure; unknown where the data ends before its horizon does; else false. Nothing is
//! point-adjusted: a failure counts once, an episode counts once (Salfner, Lenk, Malek, ACM Computing Surveys 42(3), 2010, section 3.3).
//!
//! Chance is what the same alerts reach when each entity's are moved by a random time along its own record, round its end: they
//! keep their number and rhythm and lose their tie to the failures.

use std::collections::BTreeMap;

use foreshock_domain::{Entity, Millis, Timestamp};
use serde::{Deserialize, Serialize};

use super::collect::{Alert, Collected, Episode, Kind};
use crate::labels::Label;

/// Shifts of the null.
const SHIFTS: u32 = 499;
/// Two-sided 95 % of a normal distribution.
const Z95: f64 = 1.959_964;
/// An engine's own failure this close to a labelled one is that one.
const SAME_MS: Millis = 120_000;
/// Rows of the table of signals.
const KINDS_MAX: usize = 15;
const DAY_MS: f64 = 86_400_000.0;

/// What counts.
#[derive(Clone, Debug)]
pub struct Terms {
    /// A warning is worth nothing closer to the failure than this, unless the label says better.
    pub lead_ms: Millis,
    /// A warning foretells failures up to this far ahead.
    pub horizon_ms: Millis,
    /// Alerts and failures before this are not scored: the models were learning.
    pub from: Timestamp,
    /// Classes that nobody can foretell: in the table of classes, and in no total.
    pub apart: Vec<String>,
    /// Asked: false alarms a day.
    pub budget_per_day: f64,
}

/// A share with its 95 % interval (Wilson, JASA 22, 1927).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// How many.
    pub hits: usize,
    /// Of how many.
    pub of: usize,
    /// `hits / of`; `None` of none.
    pub share: Option<f64>,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Share {
    /// Of counts.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts far below 2^53
    pub fn new(hits: usize, of: usize) -> Self {
        if of == 0 {
            return Self {
                high: 1.0,
                ..Self::default()
            };
        }
        let (n, p) = (of as f64, hits as f64 / of as f64);
        let z2 = Z95 * Z95;
        let middle = p + z2 / (2.0 * n);
        let half = Z95 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
        Self {
            hits,
            of,
            share: Some(p),
            low: ((middle - half) / (1.0 + z2 / n)).max(0.0),
            high: ((middle + half) / (1.0 + z2 / n)).min(1.0),
        }
    }
}

/// What became of an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A failure followed in time.
    True,
    /// A failure followed sooner than the minimum lead.
    Late,
    /// It opened inside a failure.
    Symptom,
    /// The data ends before its horizon does.
    Unknown,
    /// No failure followed.
    False,
}

/// One failure and how it was foretold.
#[derive(Clone, Debug, Serialize)]
pub struct FailureRow {
    /// Whom.
    pub entity: String,
    /// Class as labelled.
    pub class: String,
    /// Onset in RFC 3339.
    pub onset: String,
    /// Place among the labels.
    #[serde(skip)]
    pub label: usize,
    /// Seconds from the first hit to the onset; `None` where it was missed.
    pub lead_s: Option<f64>,
    /// It was warned of, but later than the minimum lead.
    pub late: bool,
    /// The engine's own rules saw it.
    pub seen: bool,
    /// Strangest window within the horizon before it, surprise.
    pub peak: f64,
    /// The sentence of the warning, where there was one.
    pub why: Option<String>,
}

/// The failures of one class.
#[derive(Clone, Debug, Serialize)]
pub struct ClassRow {
    /// Its name.
    pub class: String,
    /// In no total.
    pub apart: bool,
    /// Failures foretold in time.
    pub recall: Share,
    /// Median lead of those, in seconds.
    pub lead_s_median: Option<f64>,
    /// Failures that the engine's own rules saw.
    pub seen: Share,
}

/// One kind of signal and what followed it.
#[derive(Clone, Debug, Serialize)]
pub struct KindRow {
    /// Metric or template.
    pub name: String,
    /// What was odd.
    pub channel: String,
    /// Episodes with it that a failure followed.
    pub before_failure: usize,
    /// Episodes with it that none followed.
    pub before_nothing: usize,
}

/// The same alerts, those below a surprise left out.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CurvePoint {
    /// Surprise from which an alert counts.
    pub threshold: f64,
    /// Share of failures foretold.
    pub recall: f64,
    /// Share of episodes that are true.
    pub precision: f64,
    /// False episodes a day.
    pub false_per_day: f64,
}

/// What an evaluation says.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// First and last time of the scored part in RFC 3339.
    pub scored: (String, String),
    /// Its length in days.
    pub days: f64,
    /// Entities seen.
    pub entities: usize,
    /// Minimum lead in seconds.
    pub lead_s_min: f64,
    /// Horizon in seconds.
    pub horizon_s: f64,
    /// Failures foretold in time.
    pub recall: Share,
    /// Episodes that a failure followed.
    pub precision: Share,
    /// False episodes a day in the whole deployment.
    pub false_per_day: f64,
    /// False episodes a day and entity, of the time in which no failure was near.
    pub false_per_entity_day: f64,
    /// What was asked for.
    pub budget_per_day: f64,
    /// Leads of the failures foretold in seconds: 10 %, 50 %, 90 %.
    pub lead_s: Option<(f64, f64, f64)>,
    /// All leads, ascending, in seconds.
    pub leads_s: Vec<f64>,
    /// Recall that the same alerts reach by chance.
    pub chance_recall: f64,
    /// Share of the shifted records that reach the recall or more: the p-value of its being chance.
    pub chance_p: f64,
    /// Episodes by what became of them.
    pub outcomes: BTreeMap<&'static str, usize>,
    /// By class of failure, totals first.
    pub classes: Vec<ClassRow>,
    /// By failure, in order of onset.
    pub failures: Vec<FailureRow>,
    /// What alerts are ranked by: `surprise` or `probability`.
    pub ranked_by: &'static str,
    /// By threshold, ascending.
    pub curve: Vec<CurvePoint>,
    /// By kind of signal, those before failures first.
    pub kinds: Vec<KindRow>,
    /// Labels left out: before the scored part or the data, or of an entity that the data does not have.
    pub left_out: LeftOut,
}

/// Labels that could not be scored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Rows that were part of another failure.
    pub merged: usize,
    /// Began before the scored part, or before the entity was first seen.
    pub before: usize,
    /// Began after the data.
    pub after: usize,
    /// Of entities that the data does not have, by name; at most ten.
    pub unknown: Vec<String>,
    /// How many those are.
    pub unknown_count: usize,
}

/// Failures that are scored, by entity, in order of onset.
type ByEntity<'a> = BTreeMap<&'a Entity, Vec<&'a Label>>;

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

fn by_entity<'a>(labels: impl Iterator<Item = &'a Label>) -> ByEntity<'a> {
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

fn is_hit(terms: &Terms, alert: Alert, failure: &Label) -> bool {
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

/// Mean recall of shifted alerts, and the share of shifts that reach `reached`.
fn chance(terms: &Terms, targets: &[&Label], collected: &Collected, reached: usize) -> (f64, f64) {
    if targets.is_empty() {
        return (0.0, 1.0);
    }
    let mut alerts: BTreeMap<&Entity, Vec<Alert>> = BTreeMap::new();
    for episode in &collected.episodes {
        alerts.entry(&episode.entity).or_default().extend(&episode.alerts);
    }
    let of_entity = by_entity(targets.iter().copied());
    let (mut sum, mut as_good, mut random) = (0, 0, SplitMix(1));
    for _ in 0..SHIFTS {
        let mut caught = 0;
        for (entity, failures) in &of_entity {
            let (Some(own), Some((first, last))) = (alerts.get(entity), collected.spans.get(*entity)) else {
                continue;
            };
            let span = (*last - *first).max(1);
            #[allow(clippy::cast_possible_wrap)] // below the span
            let by = (random.next() % span.unsigned_abs()) as Millis;
            let moved = |a: &Alert| Alert {
                at: *first + (a.at - *first + by).rem_euclid(span),
                ..*a
            };
            let moved: Vec<Alert> = own.iter().map(moved).collect();
            caught += failures
                .iter()
                .filter(|f| moved.iter().any(|a| is_hit(terms, *a, f)))
                .count();
        }
        sum += caught;
        as_good += usize::from(caught >= reached);
    }
    let shifts = f64::from(SHIFTS);
    let mean = sum as f64 / shifts / targets.len() as f64;
    // The record itself is one of the arrangements (Phipson, Smyth, SAGMB 9(1), 2010).
    (mean, (as_good + 1) as f64 / (shifts + 1.0))
}

/// Steele, Lea, Flood, OOPSLA 2014: enough for shifts, and the same on every machine.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
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
