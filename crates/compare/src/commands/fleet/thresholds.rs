//! From a rival's scores to precursors: the threshold that the first part gives, and episodes above it.

use std::collections::BTreeMap;

use foreshock_domain::{Entity, Grade, Timestamp};
use foreshock_history::backtest::collect::{Alert, Before, Collected, Episode};
use foreshock_history::backtest::evaluate::{Terms, evaluate};
use foreshock_history::labels::Label;
use foreshock_stats::{EpisodeParams, EpisodeStep};

use super::Recording;
use super::rivals::Scores;

/// Thresholds tried, as quantiles of the scores of the first part.
const THRESHOLDS: u32 = 60;
const PRECISION_MIN: f64 = 0.8;

/// The threshold, and whether it had to be chosen by F1. Sees scores and failures of the first part alone.
pub(super) fn choose(recording: &Recording, scores: &Scores) -> (f64, bool) {
    let until = recording.from;
    let first: Scores = scores
        .iter()
        .map(|(host, s)| (host.clone(), s.iter().filter(|(at, _)| *at < until).copied().collect()))
        .collect();
    let labels: Vec<Label> = recording
        .labels
        .failures
        .iter()
        .filter(|f| f.onset < until)
        .cloned()
        .collect();
    let terms = Terms {
        from: Timestamp::MIN,
        ..recording.terms.clone()
    };
    let mut all: Vec<f64> = first.values().flatten().map(|(_, s)| *s).filter(|s| *s > 0.0).collect();
    all.sort_by(f64::total_cmp);
    // Denser towards the top, where alarms are rare enough.
    let quantile = |i: u32| {
        let rest = 0.5 * 0.88_f64.powi(i32::try_from(i).unwrap_or(0));
        all.get(((1.0 - rest) * all.len() as f64) as usize).copied()
    };
    let mut thresholds: Vec<f64> = (0..THRESHOLDS).filter_map(quantile).collect();
    thresholds.dedup();
    let mut best: Option<(usize, f64)> = None;
    let mut fallback = (-1.0, all.last().copied().unwrap_or(1.0));
    for threshold in thresholds {
        let (f, _) = evaluate(&terms, &labels, 0, &alarms(&first, &labels, threshold));
        let (recall, precision) = (f.recall.share.unwrap_or(0.0), f.precision.share.unwrap_or(0.0));
        if f.false_per_day <= terms.budget_per_day
            && precision >= PRECISION_MIN
            && f.recall.hits > 0
            && best.is_none_or(|b| f.recall.hits >= b.0)
        {
            best = Some((f.recall.hits, threshold));
        }
        let f1 = 2.0 * recall * precision / (recall + precision).max(f64::MIN_POSITIVE);
        if f1 > fallback.0 {
            fallback = (f1, threshold);
        }
    }
    best.map_or((fallback.1, true), |b| (b.1, false))
}

/// Precursors of a score at a threshold; begun anew after each failure.
pub(super) fn alarms(scores: &Scores, labels: &[Label], threshold: f64) -> Collected {
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
        for (at, score) in scores {
            if own.iter().any(|f| f.onset <= *at && *at <= f.end.unwrap_or(f.onset)) {
                episode = foreshock_stats::Episode::default();
                continue;
            }
            if episode.step(&params, at.as_millis(), *score, threshold) == EpisodeStep::Opened {
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use foreshock_history::labels::Labels;

    use super::*;

    fn at(i: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + 5_000 * i)
    }

    fn recording(labels: Vec<Label>) -> Recording {
        Recording {
            metrics: PathBuf::new(),
            logs: PathBuf::new(),
            labels: Labels::settle(labels),
            from: at(600),
            terms: Terms {
                lead_ms: 10_000,
                horizon_ms: 120_000,
                from: at(600),
                apart: Vec::new(),
                budget_per_day: 1e6,
            },
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

    #[test]
    fn the_threshold_sees_the_first_part_alone() {
        let known = recording(vec![label(200), label(400), label(800)]);
        let other = recording(vec![label(200), label(400), label(700), label(900)]);
        let chosen = choose(&known, &scores(1.0));
        assert_eq!(chosen, choose(&other, &scores(50.0)));
        assert!(!chosen.1 && chosen.0 > 1.4, "{chosen:?}");
        // It depends on what it may see.
        let moved = recording(vec![label(260), label(450), label(800)]);
        assert_ne!(chosen, choose(&moved, &scores(1.0)));
    }

    #[test]
    fn an_alarm_before_a_failure_is_a_hit() {
        let recording = recording(vec![label(200), label(400), label(800)]);
        let collected = alarms(&scores(0.0), &recording.labels.failures, 5.0);
        let terms = Terms {
            from: Timestamp::MIN,
            ..recording.terms
        };
        let (f, _) = evaluate(&terms, &recording.labels.failures, 0, &collected);
        assert_eq!((f.recall.hits, f.precision.hits, f.precision.of), (2, 2, 2));
    }
}
