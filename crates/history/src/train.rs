//! Learning the predictor: dumps through the engine, rows of features, failures as labels, a hazard fitted and judged by time.
//!
//! Rows come from the engine itself, so what is learned from is what will be computed live. They are split by time: the first 60 % to
//! fit, the next 20 % to calibrate and to choose the threshold, the last 20 % to judge; between parts as much as a horizon is left
//! out, since its rows know of failures in the next part. Rows inside failures are none. The model is a pooled logistic hazard with
//! an L2 penalty (linfa-logistic); its strength is the best of a few on the calibration part.
//!
//! Memory: rows are thinned, negatives alone, so that no more than [`ROWS_MAX`] are held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use foreshock_domain::{Entity, Millis, Timestamp};
use foreshock_engine::{Destination, Engine, EngineConfig, Output, TopicId, run};
use foreshock_failure::predict::{Bin, HazardModel, PER_SERIES, Platt, Schema, Sparse};
use linfa::Dataset;
use linfa::traits::Fit;
use linfa_logistic::LogisticRegression;
use ndarray::{Array1, Array2};
use serde::Deserialize;

use crate::dump::{Dump, DumpError};
use crate::dump_log::DumpLog;
use crate::labels::{Label, Labels};

/// Rows held.
const ROWS_MAX: usize = 200_000;
/// Series that a model looks at: those that most rows have.
const SERIES_MAX: usize = 256;
/// Shares of the time that fit and calibrate.
const FIT: f64 = 0.6;
const CALIBRATE: f64 = 0.2;
/// Strengths of the penalty that are tried.
const PENALTIES: [f64; 4] = [3.0, 30.0, 300.0, 3_000.0];
/// Ends of the bins as shares of the horizon.
const BINS: [f64; 3] = [0.25, 0.5, 1.0];

/// One moment of one entity.
#[derive(Clone, Debug, Deserialize)]
pub struct Row {
    /// Whom.
    pub entity: Entity,
    /// End of the window.
    pub at: Timestamp,
    /// Features by series.
    pub features: Sparse,
}

/// Runs dumps through the engine and gives its rows of features.
///
/// # Errors
/// When a dump can't be read.
pub fn rows(
    mut config: EngineConfig,
    dumps: Vec<(TopicId, Dump)>,
    progress: &mut dyn FnMut(&[Dump]) -> bool,
) -> Result<Vec<Row>, DumpError> {
    config.features = true;
    let mut rows = Vec::new();
    let mut written = |output: &Output| {
        if output.to == Destination::Features
            && let Ok(row) = serde_json::from_slice::<Row>(&output.value)
            && rows.len() < ROWS_MAX
        {
            rows.push(row);
        }
    };
    let mut log = DumpLog::new(dumps, config.tick_every_ms, &mut written, progress);
    run(&mut log, &mut Engine::new(Arc::new(config)), &mut |_| {})?;
    Ok(rows)
}

/// What a row is worth: time to the next failure, or none within the horizon, or not known.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Target {
    /// The next failure begins after so many milliseconds, within the horizon.
    In(Millis),
    /// None within the horizon.
    Survives,
    /// Inside a failure, or the data ends too soon.
    Unknown,
}

fn target(row: &Row, of_entity: &BTreeMap<&Entity, Vec<&Label>>, horizon_ms: Millis, last: Timestamp) -> Target {
    let failures = of_entity.get(&row.entity).map_or(&[][..], Vec::as_slice);
    let inside = |f: &&&Label| f.onset <= row.at && row.at <= f.end.unwrap_or(f.onset);
    if failures.iter().any(|f| inside(&f)) {
        return Target::Unknown;
    }
    let next = failures
        .iter()
        .filter(|f| f.onset > row.at)
        .map(|f| f.onset - row.at)
        .min();
    match next {
        Some(ms) if ms <= horizon_ms => Target::In(ms),
        _ if row.at + horizon_ms > last => Target::Unknown,
        _ => Target::Survives,
    }
}

/// A model and what it was worth on the part it never saw.
#[derive(Debug)]
pub struct Trained {
    /// The model.
    pub model: HazardModel,
    /// Average precision on the judged part, and the share of rows before failures there.
    pub average_precision: (f64, f64),
    /// Mean squared error of the probability there (Brier).
    pub brier: f64,
    /// Probabilities of the judged part: entity, time, probability, whether a failure came.
    pub judged: Vec<(Entity, Timestamp, f64, bool)>,
    /// Where the judged part begins.
    pub judged_from: Timestamp,
}

/// Fits, calibrates and judges. `None` where there are too few failures to learn from.
#[must_use]
pub fn train(rows: &[Row], labels: &Labels, horizon_ms: Millis) -> Option<Trained> {
    let (first, last) = (rows.iter().map(|r| r.at).min()?, rows.iter().map(|r| r.at).max()?);
    let mut of_entity: BTreeMap<&Entity, Vec<&Label>> = BTreeMap::new();
    for label in &labels.failures {
        of_entity.entry(&label.entity).or_default().push(label);
    }
    #[allow(clippy::cast_possible_truncation)] // a share of a span of time
    let cut = |share: f64| first + ((last - first) as f64 * share) as Millis;
    let (fit_until, calibrate_until) = (cut(FIT), cut(FIT + CALIBRATE));
    let mut parts: [Vec<(&Row, Target)>; 3] = Default::default();
    for row in rows {
        let target = target(row, &of_entity, horizon_ms, last);
        let part = if row.at + horizon_ms <= fit_until {
            0
        } else if row.at >= fit_until && row.at + horizon_ms <= calibrate_until {
            1
        } else if row.at >= calibrate_until {
            2
        } else {
            continue;
        };
        if target != Target::Unknown {
            parts[part].push((row, target));
        }
    }
    let [fit, calibrate, judge] = parts;
    let schema = schema(&fit);
    let dense =
        |part: &[(&Row, Target)]| -> Vec<Vec<f64>> { part.iter().map(|(r, _)| schema.dense(&r.features)).collect() };
    let (fit_x, calibrate_x, judge_x) = (dense(&fit), dense(&calibrate), dense(&judge));
    let happened =
        |part: &[(&Row, Target)]| -> Vec<bool> { part.iter().map(|(_, t)| matches!(t, Target::In(_))).collect() };
    let (calibrate_y, judge_y) = (happened(&calibrate), happened(&judge));
    let mut best: Option<(f64, HazardModel)> = None;
    for penalty in PENALTIES {
        let Some(bins) = fit_bins(&fit, &fit_x, horizon_ms, penalty) else {
            continue;
        };
        let model = HazardModel {
            schema: schema.clone(),
            bins,
            calibration: Platt::NONE,
            threshold: 1.0,
        };
        let scored: Vec<(f64, bool)> = calibrate_x
            .iter()
            .map(|x| model.raw(x))
            .zip(calibrate_y.iter().copied())
            .collect();
        let worth = average_precision(&scored);
        if best.as_ref().is_none_or(|(b, _)| worth > *b) {
            best = Some((worth, model));
        }
    }
    let (_, mut model) = best?;
    let scored: Vec<(f64, bool)> = calibrate_x.iter().map(|x| model.raw(x)).zip(calibrate_y).collect();
    model.calibration = Platt::fit(&scored);
    let judged: Vec<(f64, bool)> = judge_x
        .iter()
        .map(|x| model.calibration.apply(model.raw(x)))
        .zip(judge_y)
        .collect();
    let base = judged.iter().filter(|j| j.1).count() as f64 / judged.len().max(1) as f64;
    let brier = judged
        .iter()
        .map(|(p, y)| (p - f64::from(u8::from(*y))).powi(2))
        .sum::<f64>()
        / judged.len().max(1) as f64;
    Some(Trained {
        average_precision: (average_precision(&judged), base),
        brier,
        judged: judge
            .iter()
            .zip(&judged)
            .map(|((r, _), (p, y))| (r.entity.clone(), r.at, *p, *y))
            .collect(),
        judged_from: calibrate_until,
        model,
    })
}

/// The series that most rows have, with mean and spread of their features.
fn schema(rows: &[(&Row, Target)]) -> Schema {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (row, _) in rows {
        for name in row.features.keys() {
            *counts.entry(name).or_default() += 1;
        }
    }
    let mut names: Vec<(&str, usize)> = counts.into_iter().collect();
    names.sort_by_key(|(name, n)| (std::cmp::Reverse(*n), *name));
    names.truncate(SERIES_MAX);
    let series: BTreeSet<&str> = names.iter().map(|n| n.0).collect();
    let series: Vec<Box<str>> = series.into_iter().map(Into::into).collect();
    let plain = Schema {
        mean: vec![0.0; series.len() * PER_SERIES],
        spread: vec![1.0; series.len() * PER_SERIES],
        series,
    };
    let n = rows.len().max(1) as f64;
    let (mut sum, mut squares) = (plain.mean.clone(), plain.mean.clone());
    for (row, _) in rows {
        for (place, x) in plain.dense(&row.features).into_iter().enumerate() {
            sum[place] += x;
            squares[place] += x * x;
        }
    }
    let mean: Vec<f64> = sum.iter().map(|s| s / n).collect();
    let spread = squares.iter().zip(&mean).map(|(s, m)| (s / n - m * m).max(0.0).sqrt());
    let spread = spread.map(|s| if s > 1e-6 { s } else { 1.0 }).collect();
    Schema { mean, spread, ..plain }
}

/// One logistic regression a bin, over the rows that survived the bins before.
fn fit_bins(rows: &[(&Row, Target)], x: &[Vec<f64>], horizon_ms: Millis, penalty: f64) -> Option<Vec<Bin>> {
    let mut bins = Vec::new();
    let mut from_ms = 0;
    for share in BINS {
        #[allow(clippy::cast_possible_truncation)] // a share of a horizon
        let until_ms = (horizon_ms as f64 * share) as Millis;
        let at_risk: Vec<usize> = (0..rows.len())
            .filter(|i| !matches!(rows[*i].1, Target::In(ms) if ms <= from_ms))
            .collect();
        let fails: Vec<bool> = at_risk
            .iter()
            .map(|i| matches!(rows[*i].1, Target::In(ms) if ms <= until_ms))
            .collect();
        if !fails.contains(&true) || !fails.contains(&false) {
            return None;
        }
        let width = x.first()?.len();
        let flat: Vec<f64> = at_risk.iter().flat_map(|i| x[*i].iter().copied()).collect();
        let records = Array2::from_shape_vec((at_risk.len(), width), flat).ok()?;
        let dataset = Dataset::new(records, Array1::from(fails));
        let fitted = LogisticRegression::default()
            .alpha(penalty)
            .max_iterations(200)
            .fit(&dataset)
            .ok()?;
        // Which class linfa calls positive is its own affair.
        let sign = if fitted.labels().pos.class { 1.0 } else { -1.0 };
        bins.push(Bin {
            until_s: until_ms as f64 / 1e3,
            intercept: sign * fitted.intercept(),
            weights: fitted.params().iter().map(|w| sign * w).collect(),
        });
        from_ms = until_ms;
    }
    Some(bins)
}

/// Area under precision against recall by steps, ties together.
#[must_use]
pub fn average_precision(scored: &[(f64, bool)]) -> f64 {
    let mut sorted = scored.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = sorted.iter().filter(|s| s.1).count() as f64;
    let (mut hits, mut seen, mut sum, mut i) = (0.0, 0.0, 0.0, 0);
    while i < sorted.len() {
        let ties = sorted[i..].iter().take_while(|s| s.0 == sorted[i].0).count();
        let new = sorted[i..i + ties].iter().filter(|s| s.1).count() as f64;
        hits += new;
        seen += ties as f64;
        sum += new * hits / seen;
        i += ties;
    }
    if positives > 0.0 { sum / positives } else { 0.0 }
}
