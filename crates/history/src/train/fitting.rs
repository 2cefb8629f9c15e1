//! From rows to a model and what it is worth: parts, kinds, calibration, threshold, examination; see [`super`].

use foreshock_domain::{Millis, Timestamp};
use foreshock_failure::predict::{Calibration, HazardModel, Odds, OperatingPoint};

use super::fit::{self, Kind, Part};
use super::judge::{self, RowFigures, Scored};
use super::rows::{Rows, Target};
use super::{FAILURES_MIN, Progress, TrainError, TrainFigures, Trained, WarningFigures};
use crate::backtest::evaluate::Share;

/// Chronological parts; the last is the examination.
const PARTS: usize = 5;
/// The first part that is predicted. The second would be predicted from the first alone, in which entities are still learning
/// what is usual: what such a model is worth says nothing of one that knows more, and would spoil calibration and threshold.
const PREDICTED: usize = 2;
/// Failures from which on trees are tried.
const FAILURES_FOR_TREES: usize = 50;
/// Strengths of the penalty that are tried, from few to many rows' worth.
const PENALTIES: [f64; 4] = [30.0, 100.0, 300.0, 1_000.0];

/// What a model is fitted for.
#[derive(Clone, Copy, Debug)]
pub struct Fitting {
    /// How far ahead to look.
    pub horizon_ms: Millis,
    /// Least lead that is worth something.
    pub lead_ms: Millis,
    /// Width of the windows.
    pub window_ms: Millis,
    /// Wrong warnings a day that the deployment allows.
    pub false_a_day: f64,
}

/// A model of the parts before one part, and what it says of that.
struct Fold {
    span: (Timestamp, Timestamp),
    scored: Vec<Scored>,
}

impl Fitting {
    /// Fits, chooses, calibrates and examines.
    ///
    /// # Errors
    /// When there is too little to learn from, or it was stopped.
    pub fn train(&self, rows: Rows, progress: &mut dyn FnMut(Progress<'_>) -> bool) -> Result<Trained, TrainError> {
        let targets: Vec<Target> = rows.rows.iter().map(|r| rows.target(r)).collect();
        let onsets = learnable(&rows);
        if onsets.len() < FAILURES_MIN {
            return Err(TrainError::TooFew { found: onsets.len() });
        }
        let edges = edges(&rows, &onsets);
        let with_trees = onsets.len() >= FAILURES_FOR_TREES;
        // Each part but the first by each kind, the penalties on one of them, and the whole.
        let fits = (PARTS - PREDICTED) * if with_trees { 2 } else { 1 } + PENALTIES.len() + 2;
        let mut done = 0;
        let mut step = || {
            done += 1;
            if progress(Progress::Fitting(done, fits)) {
                Ok(())
            } else {
                Err(TrainError::Stopped)
            }
        };
        let part = |k: usize| self.part(&rows, &targets, edges[k]);
        let penalty = self.penalty(
            &part(PARTS - 2),
            &rows,
            &targets,
            (edges[PARTS - 2], edges[PARTS - 1]),
            &mut step,
        )?;
        let (mut linear, mut trees, mut mean) = (Vec::new(), Vec::new(), Vec::new());
        for k in PREDICTED..PARTS {
            let span = (edges[k], edges[k + 1]);
            let before = part(k);
            let by_linear = before.odds(self.horizon_ms, Kind::Linear(penalty));
            step()?;
            let by_trees = with_trees.then(|| before.odds(self.horizon_ms, Kind::Trees)).flatten();
            if with_trees {
                step()?;
            }
            // A first part without a failure to learn from predicts nothing, and is not judged.
            let Some(by_linear) = by_linear else { continue };
            if with_trees && by_trees.is_none() {
                continue;
            }
            let keep = |odds: Vec<(Millis, Odds)>, of: &mut Vec<Fold>| {
                let model = fit::model(before.schema.clone(), odds, self.window_ms, self.lead_ms);
                let scored = score(&model, &rows, &targets, span);
                of.push(Fold { span, scored });
            };
            if let Some(by_trees) = by_trees {
                keep(fit::mean(&by_linear, &by_trees), &mut mean);
                keep(by_trees, &mut trees);
            }
            keep(by_linear, &mut linear);
        }
        if linear.last().is_none_or(|f| f.span.1 != edges[PARTS]) || linear.len() < 2 {
            return Err(TrainError::TooLittle);
        }
        let mut kinds: Vec<(&str, Vec<Fold>)> = vec![("linear", linear), ("trees", trees), ("mean", mean)];
        kinds.retain(|k| !k.1.is_empty());
        let log_loss: Vec<(String, f64)> = kinds
            .iter()
            .map(|(name, folds)| ((*name).to_owned(), loss_of(&rows, &folds[..folds.len() - 1])))
            .collect();
        let best = (0..kinds.len())
            .min_by(|a, b| log_loss[*a].1.total_cmp(&log_loss[*b].1))
            .unwrap_or(0);
        let (kind, folds) = kinds.swap_remove(best);
        let (last, before) = folds.split_last().ok_or(TrainError::TooLittle)?;
        let (by_row, warnings, examined) = self.examine(&rows, before, last);
        let model = self.whole(&rows, &targets, kind, penalty, &folds)?;
        step()?;
        let time = |at: Timestamp| foreshock_wire::time::format_rfc3339(at);
        let spans = || (0..rows.entities.len()).flat_map(|e| rows.spans(index(e)));
        let figures = TrainFigures {
            data: (time(edges[0]), time(rows.end)),
            windows: rows.seen,
            rows: rows.rows.len(),
            entities: rows.entities.len(),
            failures: onsets.len(),
            failures_apart: spans().filter(|s| !s.foreseeable).count(),
            series: model.schema.series.len(),
            kind: kind.to_owned(),
            log_loss,
            parts: edges[..PARTS].iter().map(|at| time(*at)).collect(),
            by_row,
            warnings,
        };
        Ok(Trained {
            model,
            figures,
            examined,
            examined_from: edges[PARTS - 1],
            rows,
        })
    }

    /// Rows to fit to that know nothing of what comes from `until` on.
    pub(super) fn part<'a>(&self, rows: &'a Rows, targets: &[Target], until: Timestamp) -> Part<'a> {
        let of = (0..rows.rows.len())
            .filter(|i| targets[*i] != Target::Unknown && rows.rows[*i].at + self.horizon_ms <= until)
            .map(|i| (i, targets[i]));
        Part::new(rows, of.collect())
    }

    /// The strength of the penalty that predicts one part best from the parts before.
    fn penalty(
        &self,
        before: &Part<'_>,
        rows: &Rows,
        targets: &[Target],
        span: (Timestamp, Timestamp),
        step: &mut dyn FnMut() -> Result<(), TrainError>,
    ) -> Result<f64, TrainError> {
        let mut best = (f64::INFINITY, PENALTIES[1]);
        for penalty in PENALTIES {
            if let Some(odds) = before.odds(self.horizon_ms, Kind::Linear(penalty)) {
                let model = fit::model(before.schema.clone(), odds, self.window_ms, self.lead_ms);
                let scored = score(&model, rows, targets, span);
                let loss = judge::log_loss(&judge::known(rows, &scored));
                if loss < best.0 {
                    best = (loss, penalty);
                }
            }
            step()?;
        }
        Ok(best.1)
    }

    /// The last part, with calibration and threshold of those before.
    fn examine(&self, rows: &Rows, before: &[Fold], last: &Fold) -> (RowFigures, Option<WarningFigures>, Vec<Scored>) {
        let (calibration, points) = self.calibrate(rows, before);
        let examined: Vec<Scored> = last
            .scored
            .iter()
            .map(|s| Scored {
                p: calibration.apply(s.p),
                ..*s
            })
            .collect();
        let chosen = HazardModel {
            calibration,
            points,
            ..fit::model(Default::default(), Vec::new(), self.window_ms, self.lead_ms)
        };
        let warnings = chosen.operating_point(self.false_per_entity_day(rows)).map(|point| {
            let w = judge::warned(
                rows,
                &examined,
                &[last.span],
                self.horizon_ms,
                self.lead_ms,
                point.threshold,
            );
            WarningFigures {
                threshold: w.threshold,
                recall: Share::new(w.foretold as usize, w.failures as usize),
                precision: Share::new(w.right as usize, (w.right + w.wrong) as usize),
                false_per_entity_day: w.false_per_entity_day,
                lead_s: w.lead_s,
            }
        });
        (judge::by_row(rows, &examined), warnings, examined)
    }

    /// Calibration of what the folds predicted, and what their warnings are worth.
    fn calibrate(&self, rows: &Rows, folds: &[Fold]) -> (Calibration, Vec<OperatingPoint>) {
        let raw: Vec<Scored> = folds.iter().flat_map(|f| f.scored.iter().copied()).collect();
        let calibration = Calibration::fit(&judge::known(rows, &raw));
        let scored: Vec<Scored> = raw
            .into_iter()
            .map(|s| Scored {
                p: calibration.apply(s.p),
                ..s
            })
            .collect();
        let spans: Vec<(Timestamp, Timestamp)> = folds.iter().map(|f| f.span).collect();
        let points = judge::operating_points(rows, &scored, &spans, self.horizon_ms, self.lead_ms);
        (calibration, points)
    }

    #[allow(clippy::cast_precision_loss)] // entities
    fn false_per_entity_day(&self, rows: &Rows) -> f64 {
        self.false_a_day / rows.entities.len().max(1) as f64
    }

    /// The model of everything.
    fn whole(
        &self,
        rows: &Rows,
        targets: &[Target],
        kind: &str,
        penalty: f64,
        folds: &[Fold],
    ) -> Result<HazardModel, TrainError> {
        let all = self.part(rows, targets, Timestamp::LATEST);
        let by = |kind| all.odds(self.horizon_ms, kind).ok_or(TrainError::TooLittle);
        let odds = match kind {
            "trees" => by(Kind::Trees)?,
            "mean" => fit::mean(&by(Kind::Linear(penalty))?, &by(Kind::Trees)?),
            _ => by(Kind::Linear(penalty))?,
        };
        let (calibration, points) = self.calibrate(rows, folds);
        Ok(HazardModel {
            calibration,
            points,
            ..fit::model(all.schema, odds, self.window_ms, self.lead_ms)
        })
    }
}

fn index(entity: usize) -> u32 {
    u32::try_from(entity).unwrap_or(u32::MAX)
}

fn loss_of(rows: &Rows, folds: &[Fold]) -> f64 {
    let scored: Vec<Scored> = folds.iter().flat_map(|f| f.scored.iter().copied()).collect();
    let calibration = Calibration::fit(&judge::known(rows, &scored));
    let known: Vec<(f64, bool, f64)> = judge::known(rows, &scored)
        .into_iter()
        .map(|(p, came, w)| (calibration.apply(p), came, w))
        .collect();
    judge::log_loss(&known)
}

/// What a model says of the rows of a span.
fn score(model: &HazardModel, rows: &Rows, targets: &[Target], span: (Timestamp, Timestamp)) -> Vec<Scored> {
    let mut x = Vec::new();
    let mut scored = Vec::new();
    for (place, row) in rows.rows.iter().enumerate() {
        if row.at >= span.0 && row.at < span.1 {
            rows.fill(&model.schema, row, &mut x);
            scored.push(Scored {
                row: place,
                p: model.raw(&x),
                target: targets[place],
            });
        }
    }
    scored
}

/// Onsets of the failures that can be learned from: foreseeable, of an entity in the data, after its beginning.
fn learnable(rows: &Rows) -> Vec<Timestamp> {
    let first = rows.first.unwrap_or(Timestamp::MIN);
    let mut onsets: Vec<Timestamp> = (0..rows.entities.len())
        .flat_map(|e| {
            let last = rows.last[e];
            let near = move |at: Timestamp| at > first && at <= last + rows.horizon_ms();
            rows.spans(index(e))
                .iter()
                .filter(move |s| s.foreseeable && near(s.onset))
                .map(|s| s.onset)
        })
        .collect();
    onsets.sort();
    onsets
}

/// Beginnings of the parts, and the end of the last: each with a fifth of the failures.
fn edges(rows: &Rows, onsets: &[Timestamp]) -> [Timestamp; PARTS + 1] {
    let mut edges = [Timestamp::MIN; PARTS + 1];
    edges[0] = rows.first.unwrap_or(Timestamp::MIN);
    for (k, edge) in edges.iter_mut().enumerate().take(PARTS).skip(1) {
        // Right behind the last failure of the part before.
        *edge = onsets[(k * onsets.len() / PARTS).saturating_sub(1)] + 1;
    }
    edges[PARTS] = Timestamp::LATEST;
    edges
}
