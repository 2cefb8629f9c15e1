//! Simple rivals on raw windows of a fleet: a score for each window of each host, from that window and those before.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
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

/// The largest |z| of a host's series against their own exponentially weighted mean and variance.
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

/// Boosted trees on raw windows, learned from the failures before `until`: last value, mean and slope of a minute of each series,
/// and lines by level. Windows whose horizon reaches past `until` are not learned from.
pub fn boosted_trees(fleet: &Fleet, spans: &FailureSpans, horizon_ms: Millis, until: Timestamp) -> Result<Scores> {
    let rows: BTreeMap<&String, Vec<Vec<f64>>> = fleet.hosts.iter().map(|(h, w)| (h, features(w))).collect();
    let (mut x, mut y): (Vec<&Vec<f64>>, Vec<f64>) = (Vec::new(), Vec::new());
    for (host, windows) in &fleet.hosts {
        let entity = foreshock_domain::Entity::new(host);
        for (w, row) in windows.iter().zip(&rows[host]) {
            let known = Known { seen: until, until };
            if w.end + horizon_ms <= until
                && let Some(came) = spans.target(&entity, w.end, horizon_ms, known).came()
            {
                x.push(row);
                y.push(f64::from(u8::from(came)));
            }
        }
    }
    let width = x.first().context("nothing to learn from")?.len();
    let mut columns = vec![0.0; width * x.len()];
    for (i, row) in x.iter().enumerate() {
        for (k, value) in row.iter().enumerate() {
            columns[k * x.len() + i] = *value;
        }
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
    let weights = vec![1.0; x.len()];
    booster.fit(&Matrix::new(&columns, x.len(), width), &y, &weights, None)?;
    let mut scores = Scores::new();
    for (host, windows) in &fleet.hosts {
        let of_host = &rows[host];
        let mut columns = vec![0.0; width * of_host.len()];
        for (i, row) in of_host.iter().enumerate() {
            for (k, value) in row.iter().enumerate() {
                columns[k * of_host.len() + i] = *value;
            }
        }
        let odds = booster.predict(&Matrix::new(&columns, of_host.len(), width), false);
        let scored = windows.iter().zip(odds).map(|(w, o)| (w.end, 1.0 / (1.0 + (-o).exp())));
        scores.insert(host.clone(), scored.collect());
    }
    Ok(scores)
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

    #[test]
    fn trees_learn_from_nothing_that_is_later() {
        let at = |i: i64| Timestamp::from_millis(1_700_000_000_000 + 5_000 * i);
        let label = |i: i64| foreshock_history::labels::Label {
            entity: foreshock_domain::Entity::new("h"),
            class: "x".into(),
            onset: at(i),
            end: None,
            lead_ms: None,
        };
        let fleet = fleet(200);
        let of = |labels: &[_]| {
            let spans = FailureSpans::new(labels, &[]);
            boosted_trees(&fleet, &spans, 50_000, at(120)).unwrap()["h"].clone()
        };
        let known = [label(40), label(80), label(100)];
        let later = [label(40), label(80), label(100), label(125), label(160)];
        assert_eq!(of(&known), of(&later));
        let other = [label(30), label(80), label(100)];
        assert_ne!(of(&known), of(&other));
    }
}
