//! Simple rivals on raw windows of a fleet: a score for each window of each host, from that window and those before.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use foreshock_domain::{Millis, Timestamp};
use foreshock_history::train::rows::{FailureSpans, Known};
use forust_ml::data::Matrix;
use forust_ml::gradientbooster::GradientBooster;

use super::windows::{Fleet, Window};
use crate::rivals::{Scorer, random_cut_forest};

/// Weight of a new value in mean and variance of the z-score.
const ALPHA: f64 = 0.02;
/// Windows of a host before anything is said.
const WARM_UP: usize = 30;
/// Windows that the boosted trees look back.
const BACK: usize = 12;
/// Parts of the time that the boosted trees learn from, and the first that is scored: as in `train`.
const PARTS: usize = 5;
const PREDICTED: usize = 2;

/// Score of each window, by host.
pub type Scores = BTreeMap<String, Vec<(Timestamp, f64)>>;

/// What hosts have, as whoever writes thresholds knows.
pub struct Limits {
    /// Bytes of address space.
    pub memory: f64,
    /// Bytes of the volume.
    pub volume: f64,
}

/// Thresholds as people write them: a core at 90 %, memory and volume at 80 % of their limits, an ERROR line, half a second of
/// response time. The score is 1 where one is passed.
pub fn static_thresholds(fleet: &Fleet, limits: &Limits, width_ms: Millis) -> Scores {
    let place = |name: &str| fleet.place(name);
    let (user, system) = (place("procstat_cpu_time_user"), place("procstat_cpu_time_system"));
    let (memory, free) = (place("procstat_memory_vms"), place("shop_volume_free_bytes"));
    let response = place("probe_response_time");
    let at = |w: &Window, p: Option<usize>| p.map_or(f64::NAN, |p| w.values[p]);
    let seconds = width_ms as f64 / 1e3;
    let passes = |w: &Window| {
        (at(w, user) + at(w, system)) / seconds > 0.9
            || at(w, memory) > 0.8 * limits.memory
            || at(w, free) < 0.2 * limits.volume
            || at(w, response) > 0.5
            || w.errors > 0.0
    };
    each(fleet, |windows| {
        windows.iter().map(|w| f64::from(u8::from(passes(w)))).collect()
    })
}

/// The largest |z| of a host's series against their own exponentially weighted mean and variance. The first move of a series that
/// never varied counts for nothing: there is nothing to measure it by.
pub fn z_score(fleet: &Fleet) -> Scores {
    each(fleet, |windows| {
        let mut past: Vec<(f64, f64)> = vec![(f64::NAN, 0.0); fleet.series.len()];
        let score = |(i, w): (usize, &Window)| {
            let mut largest = 0.0_f64;
            for (value, (mean, variance)) in w.values.iter().zip(&mut past) {
                if value.is_nan() {
                    continue;
                }
                if mean.is_nan() {
                    *mean = *value;
                    continue;
                }
                let distance = value - *mean;
                if *variance > 0.0 {
                    largest = largest.max(distance.abs() / variance.sqrt());
                }
                *variance = (1.0 - ALPHA) * (*variance + ALPHA * distance * distance);
                *mean += ALPHA * distance;
            }
            if i < WARM_UP { 0.0 } else { largest }
        };
        windows.iter().enumerate().map(score).collect()
    })
}

/// A random cut forest a host over all its series, the last value carried where one is missing.
pub fn forest(fleet: &Fleet) -> Result<Scores> {
    let mut scores = Scores::new();
    for (host, windows) in &fleet.hosts {
        let mut scorer = random_cut_forest(fleet.series.len()).context("a forest of no series")?;
        let mut last = vec![0.0; fleet.series.len()];
        let mut of_host = Vec::with_capacity(windows.len());
        for (i, w) in windows.iter().enumerate() {
            for (last, value) in last.iter_mut().zip(&w.values) {
                if !value.is_nan() {
                    *last = *value;
                }
            }
            let score = scorer.score_learn(w.end, &last);
            of_host.push((w.end, if i < WARM_UP { 0.0 } else { score }));
        }
        scores.insert(host.clone(), of_host);
    }
    Ok(scores)
}

/// Boosted trees on raw windows, learned from the failures before `until`, of whose foreseeable ones `onsets` are ascending: last value,
/// mean and slope of a minute of each series, and lines by level.
///
/// A threshold chosen on what trees were fitted to would be worth nothing. So, as in `train`, the time before `until` is cut into five
/// parts of as many failures each, and trees of all parts before score each from the third on; earlier windows have no score.
/// Trees of everything before `until` score the rest. Windows whose horizon reaches into what is scored are not learned from.
pub fn boosted_trees(
    fleet: &Fleet,
    spans: &FailureSpans,
    onsets: &[Timestamp],
    horizon_ms: Millis,
    until: Timestamp,
) -> Result<Scores> {
    let rows: BTreeMap<&String, Vec<Vec<f64>>> = fleet.hosts.iter().map(|(h, w)| (h, features(w))).collect();
    let of_part = |part: usize| onsets.get(onsets.len() * part / PARTS).copied();
    let mut begins: Vec<Timestamp> = (PREDICTED..PARTS).filter_map(of_part).collect();
    begins.push(until);
    let mut scores = Scores::new();
    for (i, begin) in begins.iter().enumerate() {
        let end = begins.get(i + 1).copied().unwrap_or(Timestamp::LATEST);
        let Some(booster) = fitted(fleet, &rows, spans, horizon_ms, *begin)? else {
            ensure!(
                *begin < until,
                "boosted trees: expected failures to learn from before {until:.3}"
            );
            continue;
        };
        for (host, windows) in &fleet.hosts {
            let part = windows.partition_point(|w| w.end < *begin)..windows.partition_point(|w| w.end < end);
            if part.is_empty() {
                continue;
            }
            let of_host: Vec<&Vec<f64>> = rows[host][part.clone()].iter().collect();
            let (columns, width) = by_column(&of_host);
            let odds = booster.predict(&Matrix::new(&columns, of_host.len(), width), false);
            let scored = windows[part].iter().zip(odds);
            let probability = |odds: f64| 1.0 / (1.0 + (-odds).exp());
            let of_host = scores.entry(host.clone()).or_default();
            of_host.extend(scored.map(|(w, o)| (w.end, probability(o))));
        }
    }
    Ok(scores)
}

/// Trees of what is known at `until`; `None` where no failure is.
fn fitted(
    fleet: &Fleet,
    rows: &BTreeMap<&String, Vec<Vec<f64>>>,
    spans: &FailureSpans,
    horizon_ms: Millis,
    until: Timestamp,
) -> Result<Option<GradientBooster>> {
    let (mut x, mut y): (Vec<&Vec<f64>>, Vec<f64>) = (Vec::new(), Vec::new());
    let known = Known { seen: until, until };
    for (host, windows) in &fleet.hosts {
        let entity = foreshock_domain::Entity::new(host);
        for (w, row) in windows.iter().zip(&rows[host]) {
            if let Some(came) = spans.target(&entity, w.end, horizon_ms, known).came() {
                x.push(row);
                y.push(f64::from(u8::from(came)));
            }
        }
    }
    if !y.contains(&1.0) {
        return Ok(None);
    }
    let mut booster = GradientBooster::default()
        .set_iterations(200)
        .set_learning_rate(0.05)
        .set_max_depth(5)
        .set_min_leaf_weight(5.0)
        .set_l2(5.0)
        .set_subsample(0.8)
        .set_colsample_bytree(0.5)
        .set_nbins(64)
        .set_seed(1)
        .set_initialize_base_score(true);
    let (columns, width) = by_column(&x);
    let weights = vec![1.0; x.len()];
    booster.fit(&Matrix::new(&columns, x.len(), width), &y, &weights, None)?;
    Ok(Some(booster))
}

/// Rows laid out by column, and how many columns.
fn by_column(rows: &[&Vec<f64>]) -> (Vec<f64>, usize) {
    let width = rows.first().map_or(0, |r| r.len());
    let columns = (0..width).flat_map(|k| rows.iter().map(move |r| r[k])).collect();
    (columns, width)
}

fn features(windows: &[Window]) -> Vec<Vec<f64>> {
    let row = |i: usize| {
        let back = &windows[i.saturating_sub(BACK - 1)..=i];
        let w = &windows[i];
        let mut row = vec![w.warnings, w.errors, w.lines];
        row.extend([
            back.iter().map(|b| b.warnings).sum::<f64>(),
            back.iter().map(|b| b.errors).sum::<f64>(),
        ]);
        for k in 0..w.values.len() {
            let known: Vec<f64> = back.iter().map(|b| b.values[k]).filter(|v| !v.is_nan()).collect();
            let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
            let slope = known.last().unwrap_or(&0.0) - known.first().unwrap_or(&0.0);
            row.extend([known.last().copied().unwrap_or(f64::NAN), mean, slope]);
        }
        row
    };
    (0..windows.len()).map(row).collect()
}

fn each(fleet: &Fleet, mut score: impl FnMut(&[Window]) -> Vec<f64>) -> Scores {
    let of = |(host, windows): (&String, &Vec<Window>)| {
        let times = windows.iter().map(|w| w.end);
        (host.clone(), times.zip(score(windows)).collect())
    };
    fleet.hosts.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(windows: usize) -> Fleet {
        let window = |i: usize| Window {
            end: Timestamp::from_millis(1_700_000_000_000 + 5_000 * i as i64),
            values: vec![((i * 7_919) % 101) as f64, if i > 150 { 50.0 + i as f64 } else { 5.0 }],
            warnings: 0.0,
            errors: f64::from(u8::from(i == 170)),
            lines: 3.0,
        };
        Fleet {
            series: vec!["a".into(), "b".into()],
            hosts: [("h".to_owned(), (0..windows).map(window).collect())].into(),
        }
    }

    #[test]
    fn rivals_know_no_future() {
        let (short, long) = (fleet(160), fleet(200));
        let limits = Limits {
            memory: 1.0,
            volume: 1.0,
        };
        let pairs = [
            (
                static_thresholds(&short, &limits, 5_000),
                static_thresholds(&long, &limits, 5_000),
            ),
            (z_score(&short), z_score(&long)),
            (forest(&short).unwrap(), forest(&long).unwrap()),
        ];
        for (short, long) in pairs {
            assert_eq!(short["h"][..], long["h"][..160]);
        }
        // And the step in one of the series is strange to the z-score, once a constant has any variance.
        let of = &z_score(&long)["h"];
        let step = of[151..156].iter().map(|s| s.1).fold(0.0, f64::max);
        assert!(step > 2.0 * of[100].1, "{step} where {} is usual", of[100].1);
    }

    fn label(i: i64) -> foreshock_history::labels::Label {
        foreshock_history::labels::Label {
            entity: foreshock_domain::Entity::new("h"),
            class: "x".into(),
            onset: at(i),
            end: None,
            lead_ms: None,
        }
    }

    fn at(i: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + 5_000 * i)
    }

    /// Scores of trees that may know what was before 120.
    fn trees(windows: usize, onsets: &[i64]) -> Vec<(Timestamp, f64)> {
        let labels: Vec<_> = onsets.iter().map(|i| label(*i)).collect();
        let known: Vec<Timestamp> = onsets.iter().filter(|i| **i < 120).map(|i| at(*i)).collect();
        let spans = FailureSpans::new(&labels, &[]);
        boosted_trees(&fleet(windows), &spans, &known, 50_000, at(120)).unwrap()["h"].clone()
    }

    #[test]
    fn trees_learn_from_nothing_that_is_later() {
        let known = trees(200, &[20, 40, 60, 80, 100]);
        assert_eq!(known, trees(200, &[20, 40, 60, 80, 100, 125, 160]));
        assert_ne!(known, trees(200, &[20, 35, 60, 80, 100]));
        // And look at no window that is later.
        assert_eq!(known[..100], trees(160, &[20, 40, 60, 80, 100])[..]);
    }

    #[test]
    fn no_tree_scores_what_it_was_fitted_to() {
        // The third part begins with the third failure. What comes in a part changes nothing in it, and something after it.
        let (one, other) = (
            trees(200, &[20, 40, 60, 80, 100]),
            trees(200, &[20, 40, 60, 80, 100, 110]),
        );
        assert_eq!(one[0].0, at(60));
        let until = |end: i64| move |s: &&(Timestamp, f64)| s.0 < at(end);
        assert!(
            one.iter()
                .take_while(until(120))
                .eq(other.iter().take_while(until(120)))
        );
        assert!(
            !one.iter()
                .skip_while(until(120))
                .eq(other.iter().skip_while(until(120)))
        );
    }

    #[test]
    fn trees_without_failures_say_what_is_missing() {
        let spans = FailureSpans::new(&[label(160)], &[]);
        let error = boosted_trees(&fleet(200), &spans, &[], 50_000, at(120)).unwrap_err();
        assert!(
            error.to_string().contains("expected failures to learn from before"),
            "{error}"
        );
    }
}
