//! Fitting a hazard to rows: a penalised logistic regression, boosted trees, and the mean of both.

use foreshock_domain::Millis;
use foreshock_failure::predict::{Bin, Calibration, HAZARD_VERSION, HazardModel, Linear, Node, Odds, Schema, Trees};
use forust_ml::data::Matrix;
use forust_ml::gradientbooster::GradientBooster;
use linfa::Dataset;
use linfa::traits::Fit;
use linfa_logistic::LogisticRegression;
use ndarray::{Array1, Array2};

use super::rows::{Rows, Target};

/// Ends of the bins as shares of the horizon.
const BINS: [f64; 2] = [0.5, 1.0];
/// Numbers a matrix may have; of more rows an even share is left out. Neighbours look alike.
const CELLS_MAX: usize = 5_000_000;
/// Least rows of each kind that a bin can be fitted to.
const ROWS_MIN: usize = 5;

/// How a hazard is to be fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Logistic regression with this strength of its L2 penalty.
    Linear(f64),
    /// Boosted trees.
    Trees,
}

/// Rows to fit to, in their places.
pub struct Part<'a> {
    pub(super) rows: &'a Rows,
    /// Places of the rows and what each is worth; none unknown.
    pub(super) of: Vec<(usize, Target)>,
    pub(super) schema: Schema,
    /// Row-major.
    x: Vec<f64>,
}

impl<'a> Part<'a> {
    /// With a schema of its own.
    pub fn new(rows: &'a Rows, of: Vec<(usize, Target)>) -> Self {
        let places: Vec<usize> = of.iter().map(|r| r.0).collect();
        let schema = rows.schema(&places);
        let mut part = Self {
            rows,
            of,
            schema,
            x: Vec::new(),
        };
        part.x.reserve(part.of.len() * part.schema.width());
        let mut vector = Vec::new();
        for (place, _) in &part.of {
            rows.fill(&part.schema, &rows.rows[*place], &mut vector);
            part.x.extend_from_slice(&vector);
        }
        part
    }

    fn row(&self, i: usize) -> &[f64] {
        let width = self.schema.width();
        &self.x[i * width..(i + 1) * width]
    }

    /// Fits one kind: the odds of each bin, over the rows that survived the bins before. `None` where a bin has too few rows of
    /// either kind.
    pub fn odds(&self, horizon_ms: Millis, kind: Kind) -> Option<Vec<(Millis, Odds)>> {
        let mut from_ms = 0;
        let mut bins = Vec::new();
        let every = (self.of.len() * self.schema.width().max(1)).div_ceil(CELLS_MAX).max(1);
        for share in BINS {
            #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // a share of a horizon
            let until_ms = (horizon_ms as f64 * share) as Millis;
            let at_risk: Vec<usize> = (0..self.of.len())
                .filter(|i| !matches!(self.of[*i].1, Target::In(ms) if ms <= from_ms) && i % every == 0)
                .collect();
            let fails: Vec<bool> = at_risk
                .iter()
                .map(|i| matches!(self.of[*i].1, Target::In(ms) if ms <= until_ms))
                .collect();
            let positives = fails.iter().filter(|f| **f).count();
            if positives < ROWS_MIN || fails.len() - positives < ROWS_MIN {
                return None;
            }
            bins.push((
                until_ms,
                match kind {
                    // As strong as it would be on all rows.
                    Kind::Linear(penalty) => Odds::Linear(self.linear(&at_risk, &fails, penalty / every as f64)?),
                    Kind::Trees => Odds::Trees(self.trees(&at_risk, &fails)?),
                },
            ));
            from_ms = until_ms;
        }
        Some(bins)
    }

    fn linear(&self, at_risk: &[usize], fails: &[bool], penalty: f64) -> Option<Linear> {
        // Weights are left out: they stand for quiet time that was thinned, and the calibration, which has them, sets it right.
        let flat: Vec<f64> = at_risk.iter().flat_map(|i| self.row(*i).iter().copied()).collect();
        let records = Array2::from_shape_vec((at_risk.len(), self.schema.width()), flat).ok()?;
        let fitted = LogisticRegression::default()
            .alpha(penalty)
            .max_iterations(100)
            .gradient_tolerance(1e-3)
            .fit(&Dataset::new(records, Array1::from(fails.to_vec())))
            .ok()?;
        // Which class linfa calls positive is its own affair.
        let sign = if fitted.labels().pos.class { 1.0 } else { -1.0 };
        Some(Linear {
            intercept: sign * fitted.intercept(),
            weights: fitted.params().iter().map(|w| sign * w).collect(),
        })
    }

    fn trees(&self, at_risk: &[usize], fails: &[bool]) -> Option<Trees> {
        let (n, width) = (at_risk.len(), self.schema.width());
        // forust wants columns.
        let mut columns = vec![0.0; n * width];
        for (i, row) in at_risk.iter().enumerate() {
            for (k, x) in self.row(*row).iter().enumerate() {
                columns[k * n + i] = *x;
            }
        }
        let y: Vec<f64> = fails.iter().map(|f| f64::from(u8::from(*f))).collect();
        let weights: Vec<f64> = at_risk.iter().map(|i| self.rows.rows[self.of[*i].0].weight).collect();
        let mut booster = GradientBooster::default()
            .set_iterations(120)
            .set_learning_rate(0.08)
            .set_max_depth(4)
            .set_max_leaves(16)
            .set_l2(5.0)
            .set_min_leaf_weight(5.0)
            .set_subsample(0.8)
            .set_colsample_bytree(0.5)
            .set_nbins(64)
            .set_seed(1)
            .set_initialize_base_score(true)
            .set_parallel(true);
        booster.fit(&Matrix::new(&columns, n, width), &y, &weights, None).ok()?;
        #[allow(clippy::cast_possible_truncation)] // places in a tree of 31 nodes and a vector of 1,280
        let tree = |t: &forust_ml::tree::Tree| {
            let child = |is_leaf: bool, place: usize| if is_leaf { 0 } else { place as u32 };
            let nodes = t.nodes.iter().map(|n| Node {
                feature: n.split_feature as u32,
                split: n.split_value,
                left: child(n.is_leaf, n.left_child),
                right: child(n.is_leaf, n.right_child),
                value: n.weight_value,
            });
            nodes.collect()
        };
        Some(Trees {
            base: booster.base_score,
            trees: booster.trees.iter().map(tree).collect(),
        })
    }
}

/// The mean of a linear and a tree model of the same rows.
pub fn mean(linear: &[(Millis, Odds)], trees: &[(Millis, Odds)]) -> Vec<(Millis, Odds)> {
    let pair = |(l, t): (&(Millis, Odds), &(Millis, Odds))| match (&l.1, &t.1) {
        (Odds::Linear(linear), Odds::Trees(trees)) => Some((l.0, Odds::Mean(linear.clone(), trees.clone()))),
        _ => None,
    };
    linear.iter().zip(trees).filter_map(pair).collect()
}

/// A model of odds, not calibrated yet.
pub fn model(schema: Schema, odds: Vec<(Millis, Odds)>, window_ms: Millis, lead_ms: Millis) -> HazardModel {
    HazardModel {
        version: HAZARD_VERSION,
        window_ms,
        lead_ms,
        horizon_ms: odds.last().map_or(0, |b| b.0),
        schema,
        bins: odds
            .into_iter()
            .map(|(until_ms, odds)| Bin { until_ms, odds })
            .collect(),
        calibration: Calibration::NONE,
        points: Vec::new(),
    }
}
