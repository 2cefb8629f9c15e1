//! From scores to alarms, and which threshold a rival gets. Whatever chooses for the judged part is handed scores and failures of the
//! first part alone; the one choice in hindsight says so and is in no main table.

use std::collections::BTreeMap;

use foreshock_domain::{Entity, Grade, Timestamp};
use foreshock_history::backtest::collect::{Alert, Before, Collected, Episode};
use foreshock_history::backtest::evaluate::{Figures, Terms, evaluate};
use foreshock_history::labels::Label;
use foreshock_history::train::judge::average_precision;
use foreshock_history::train::rows::{FailureSpans, Known, Target};
use foreshock_stats::{EpisodeParams, EpisodeStep};

use super::rivals::Scores;

/// Thresholds tried, as quantiles of the scores.
const THRESHOLDS: u32 = 60;
const PRECISION_MIN: f64 = 0.8;

/// Figures at each threshold, ascending.
pub struct Sweep(Vec<Point>);

struct Point {
    threshold: f64,
    figures: Figures,
    /// Share of the windows far from failures in which a precursor was open.
    quiet_share: f64,
}

/// Thresholds that the first part gives, by rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chosen {
    /// Of those within the budget and right four times of five, the one with the largest share of failures foretold less the share of
    /// quiet time under warning, as the predictor's own; else that of the best F1.
    pub best: f64,
    /// It is that of the best F1.
    pub fell_back: bool,
    /// The lowest that is within the budget, as is all above it.
    pub lowest: Option<f64>,
    /// That of the best F1.
    pub f1: f64,
}

/// Thresholds by what is known before the judged part: later scores and failures are taken away first.
pub fn choose(terms: &Terms, labels: &[Label], scores: &Scores) -> Chosen {
    let first: Scores = scores
        .iter()
        .map(|(host, s)| (host.clone(), s.iter().filter(|s| s.0 < terms.from).copied().collect()))
        .collect();
    let labels: Vec<Label> = labels.iter().filter(|f| f.onset < terms.from).cloned().collect();
    let terms = Terms {
        from: Timestamp::MIN,
        ..terms.clone()
    };
    Sweep::new(&terms, &labels, &first).choose(terms.budget_per_day)
}

impl Sweep {
    /// Of all scores; thresholds are quantiles of those from `terms.from` on.
    pub fn new(terms: &Terms, labels: &[Label], scores: &Scores) -> Self {
        let in_part = scores.values().flatten().filter(|s| s.0 >= terms.from);
        let mut all: Vec<f64> = in_part.map(|s| s.1).filter(|s| *s > 0.0).collect();
        all.sort_by(f64::total_cmp);
        // Denser towards the top, where alarms are rare enough.
        let quantile = |i: u32| {
            let rest = 0.5 * 0.88_f64.powi(i32::try_from(i).unwrap_or(0));
            all.get(((1.0 - rest) * all.len() as f64) as usize).copied()
        };
        let mut thresholds: Vec<f64> = (0..THRESHOLDS).filter_map(quantile).collect();
        thresholds.dedup();
        let quiet = quiet(terms, labels, scores);
        let at = |threshold| {
            let (mut warned, mut all) = (0_u32, 0_u32);
            let collected = alarms_asked(scores, labels, threshold, &mut |host, i, is_open| {
                let is_quiet = quiet[host][i];
                all += u32::from(is_quiet);
                warned += u32::from(is_quiet && is_open);
            });
            Point {
                threshold,
                figures: evaluate(terms, labels, 0, &collected).0,
                quiet_share: f64::from(warned) / f64::from(all.max(1)),
            }
        };
        Self(thresholds.into_iter().map(at).collect())
    }

    fn choose(&self, budget_per_day: f64) -> Chosen {
        let right_enough = |f: &Figures| {
            f.false_per_day <= budget_per_day
                && f.precision.share.is_some_and(|p| p >= PRECISION_MIN)
                && f.recall.hits > 0
        };
        let worth = |p: &Point| p.figures.recall.share.unwrap_or(0.0) - p.quiet_share;
        // Of equals the higher one.
        let holds = self.0.iter().filter(|p| right_enough(&p.figures));
        let best = holds.max_by(|a, b| worth(a).total_cmp(&worth(b)));
        let f1 = self
            .0
            .iter()
            .rev()
            .max_by(|a, b| f1(&a.figures).total_cmp(&f1(&b.figures)));
        // Where nothing scored, nothing is told.
        let f1 = f1.map_or(f64::INFINITY, |p| p.threshold);
        Chosen {
            best: best.map_or(f1, |p| p.threshold),
            fell_back: best.is_none(),
            lowest: self.within(budget_per_day).last().map(|p| p.threshold),
            f1,
        }
    }

    /// From the highest threshold down, as far as false alarms stay within a rate. Below, fewer may come again: what is always on
    /// opens seldom.
    fn within(&self, per_day: f64) -> impl Iterator<Item = &Point> {
        self.0
            .iter()
            .rev()
            .take_while(move |p| p.figures.false_per_day <= per_day)
    }

    /// Most failures foretold with at most so many false alarms a day: in hindsight.
    pub fn most_within(&self, per_day: f64) -> Option<&Figures> {
        self.within(per_day).map(|p| &p.figures).max_by_key(|f| f.recall.hits)
    }
}

fn f1(figures: &Figures) -> f64 {
    let (recall, precision) = (
        figures.recall.share.unwrap_or(0.0),
        figures.precision.share.unwrap_or(0.0),
    );
    2.0 * recall * precision / (recall + precision).max(f64::MIN_POSITIVE)
}

/// Windows of each host that no failure followed within the horizon.
fn quiet<'a>(terms: &Terms, labels: &[Label], scores: &'a Scores) -> BTreeMap<&'a str, Vec<bool>> {
    let spans = FailureSpans::new(labels, &terms.apart);
    let until = spans.known_until(scores.values().map(|s| end(s)).max().unwrap_or(Timestamp::MIN));
    let of = |(host, of_host): (&'a String, &'a Vec<(Timestamp, f64)>)| {
        let (entity, seen) = (Entity::new(host), end(of_host));
        let target = |at| spans.target(&entity, at, terms.horizon_ms, Known { seen, until });
        let is_quiet = of_host
            .iter()
            .map(|s| s.0 >= terms.from && target(s.0) == Target::Survives);
        (host.as_str(), is_quiet.collect())
    };
    scores.iter().map(of).collect()
}

/// Last time of a host's scores.
fn end(scores: &[(Timestamp, f64)]) -> Timestamp {
    scores.last().map_or(Timestamp::MIN, |s| s.0)
}

/// Precursors of a score at a threshold; begun anew after each failure.
pub fn alarms(scores: &Scores, labels: &[Label], threshold: f64) -> Collected {
    alarms_asked(scores, labels, threshold, &mut |_, _, _| ())
}

/// The same; `ask` is told of each window's host, place, and whether a precursor is open.
fn alarms_asked(
    scores: &Scores,
    labels: &[Label],
    threshold: f64,
    ask: &mut dyn FnMut(&str, usize, bool),
) -> Collected {
    let params = EpisodeParams {
        stay_share: 0.5,
        close_after_ms: 60_000,
        refractory_ms: 60_000,
        escalate_by: f64::INFINITY,
    };
    let mut collected = Collected {
        before: vec![Before::default(); labels.len()],
        ..Collected::default()
    };
    let mut failures: BTreeMap<&str, Vec<&Label>> = BTreeMap::new();
    for label in labels {
        failures.entry(label.entity.as_str()).or_default().push(label);
    }
    for (host, scores) in scores {
        let (Some(first), Some(last)) = (scores.first(), scores.last()) else {
            continue;
        };
        let entity = Entity::new(host);
        collected.spans.insert(entity.clone(), (first.0, last.0));
        let own = failures.get(host.as_str()).map_or(&[][..], Vec::as_slice);
        let mut episode = foreshock_stats::Episode::default();
        for (i, (at, score)) in scores.iter().enumerate() {
            if own.iter().any(|f| f.onset <= *at && *at <= f.end.unwrap_or(f.onset)) {
                episode = foreshock_stats::Episode::default();
                continue;
            }
            let step = episode.step(&params, at.as_millis(), *score, threshold);
            ask(host, i, episode.is_open());
            if step == EpisodeStep::Opened {
                collected.episodes.push(Episode {
                    entity: entity.clone(),
                    alerts: vec![Alert {
                        at: *at,
                        score: *score,
                        grade: Grade::Info,
                        probability: None,
                    }],
                    ended: None,
                    why: String::new(),
                    kinds: Vec::new(),
                });
            }
        }
    }
    collected.episodes.sort_by_key(|e| e.alerts[0].at);
    collected
}

/// Area under precision against recall of the windows from `terms.from` on, against whether a failure began within the horizon; and the
/// same of chance. Windows whose outcome nobody knows are left out, as `backtest` does with probabilities.
pub fn by_window(terms: &Terms, spans: &FailureSpans, scores: &Scores) -> (f64, f64) {
    let until = spans.known_until(scores.values().map(|s| end(s)).max().unwrap_or(Timestamp::MIN));
    let mut known: Vec<(f64, bool, f64)> = Vec::new();
    for (host, of_host) in scores {
        let entity = Entity::new(host);
        let limits = Known {
            seen: end(of_host),
            until,
        };
        let judged = of_host.iter().filter(|s| s.0 >= terms.from);
        known.extend(judged.filter_map(|(at, score)| {
            let target = spans.target(&entity, *at, terms.horizon_ms, limits);
            Some((*score, target.came()?, 1.0))
        }));
    }
    let came = known.iter().filter(|k| k.1).count();
    (average_precision(&known), came as f64 / known.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(i: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + 5_000 * i)
    }

    fn terms() -> Terms {
        Terms {
            lead_ms: 10_000,
            horizon_ms: 120_000,
            from: at(600),
            apart: Vec::new(),
            budget_per_day: 1e6,
        }
    }

    fn label(i: i64) -> Label {
        Label {
            entity: Entity::new("h"),
            class: "x".into(),
            onset: at(i),
            end: Some(at(i + 4)),
            lead_ms: None,
        }
    }

    /// Rises before each failure of the first part.
    fn scores(later: f64) -> Scores {
        let score = |i: i64| {
            let rises = [200, 400].iter().any(|f| (f - 15..*f).contains(&i));
            if i >= 600 {
                later * (i % 7) as f64
            } else if rises {
                9.0
            } else {
                1.0 + (i % 5) as f64 * 0.1
            }
        };
        [("h".to_owned(), (0..1_000).map(|i| (at(i), score(i))).collect())].into()
    }

    fn labels<const N: usize>(onsets: [i64; N]) -> Vec<Label> {
        onsets.map(label).into()
    }

    #[test]
    fn the_threshold_sees_the_first_part_alone() {
        let chosen = choose(&terms(), &labels([200, 400, 800]), &scores(1.0));
        let other = labels([200, 400, 700, 900]);
        assert_eq!(chosen, choose(&terms(), &other, &scores(50.0)));
        assert!(!chosen.fell_back && chosen.best > 1.4, "{chosen:?}");
        // It depends on what it may see.
        assert_ne!(chosen, choose(&terms(), &labels([260, 450, 800]), &scores(1.0)));
    }

    #[test]
    fn an_alarm_before_a_failure_is_a_hit() {
        let labels = labels([200, 400, 800]);
        let collected = alarms(&scores(0.0), &labels, 5.0);
        let terms = Terms {
            from: Timestamp::MIN,
            ..terms()
        };
        let (f, _) = evaluate(&terms, &labels, 0, &collected);
        assert_eq!((f.recall.hits, f.precision.hits, f.precision.of), (2, 2, 2));
    }

    #[test]
    fn the_budget_bounds_the_lowest_threshold() {
        let labels = labels([200, 400, 800]);
        let none = Terms {
            budget_per_day: 0.0,
            ..terms()
        };
        let (strict, free) = (
            choose(&none, &labels, &scores(1.0)),
            choose(&terms(), &labels, &scores(1.0)),
        );
        // Between failures the score reaches 1.4: without a false alarm the threshold is above.
        assert!(
            strict.lowest > Some(1.4) && free.lowest < Some(1.4),
            "{strict:?} {free:?}"
        );
        let nothing = choose(&terms(), &labels, &Scores::new());
        assert_eq!((nothing.best, nothing.lowest), (f64::INFINITY, None));
    }

    #[test]
    fn what_is_always_on_is_not_the_best() {
        // Failures so dense that whatever opens is followed by one: an alarm that never closes foretells them all, the score nine of ten.
        let onsets: Vec<i64> = (0..10).map(|k| 45 + 50 * k).collect();
        let labels: Vec<Label> = onsets.iter().map(|i| label(*i)).collect();
        let rises = |i: i64| onsets.iter().skip(1).any(|f| (f - 10..*f).contains(&i));
        let score = |i: i64| if rises(i) { 9.0 } else { 4.0 };
        let scores: Scores = [("h".to_owned(), (0..600).map(|i| (at(i), score(i))).collect())].into();
        let terms = Terms {
            horizon_ms: 225_000,
            ..terms()
        };
        let all = Terms {
            from: Timestamp::MIN,
            ..terms.clone()
        };
        let foretold = |threshold| {
            evaluate(&all, &labels, 0, &alarms(&scores, &labels, threshold))
                .0
                .recall
                .hits
        };
        assert_eq!((foretold(4.0), foretold(9.0)), (10, 9));
        assert!(choose(&terms, &labels, &scores).best > 4.0);
    }

    #[test]
    fn a_score_of_the_future_is_right_about_every_window() {
        let labels = labels([700, 800]);
        let spans = FailureSpans::new(&labels, &[]);
        let perfect = |i: i64| f64::from(u8::from([700, 800].iter().any(|f| (f - 24..*f).contains(&i))));
        let of = |score: &dyn Fn(i64) -> f64| -> Scores {
            [("h".to_owned(), (0..1_000).map(|i| (at(i), score(i))).collect())].into()
        };
        let (right, chance) = by_window(&terms(), &spans, &of(&perfect));
        assert!((right - 1.0).abs() < 1e-12 && chance < 0.2, "{right} {chance}");
        // All alike is chance, and windows before the judged part count for nothing.
        let (blind, _) = by_window(&terms(), &spans, &of(&|i| if i < 600 { perfect(i) } else { 0.5 }));
        assert!((blind - chance).abs() < 1e-12, "{blind} {chance}");
    }
}
