//! Discrete-time hazard: the probability of a failure in each bin of time ahead, given that none came before.
//!
//! p(H) = 1 − Π (1 − h_k) over the bins up to H, so it never falls with H (Singer, Willett, Journal of Educational Statistics 18(2),
//! 1993, equation 3). Each h_k has log odds that are linear in the features, a sum of trees, or the mean of both; p of the whole
//! horizon is calibrated. Pooled over entities: what is learned from the failures of some holds for all.
//!
//! **Fails** for failures whose growth none of the training failures resembles; the unsupervised models remain for those.
//! **Cost:** one multiplication per feature, bin and linear part; one comparison per level and tree.

use foreshock_domain::Millis;
use serde::{Deserialize, Serialize};

use super::calibration::Calibration;
use super::features::{FeatureState, PER_SERIES};
use super::schema::Schema;
use super::trees::Trees;

/// Raised whenever a model that was written before can't be used any more.
pub const HAZARD_VERSION: u32 = 2;
/// A threshold is taken only where so many of its warnings came true, on history that the model had not seen.
const PRECISION_MIN: f64 = 0.8;
/// Grounds named.
const GROUNDS_MAX: usize = 4;
/// Log odds are no larger, in a weight or a leaf: beyond, sums of a damaged model would be no numbers.
const ODDS_MAX: f64 = 1e6;
/// A ground adds at least this to the log odds.
const GROUND_MIN: f64 = 0.1;

/// Log odds that are linear in standardised features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    /// Where all features are at their means.
    pub intercept: f64,
    /// One a feature.
    pub weights: Vec<f64>,
}

/// How the log odds of a bin follow from the features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Odds {
    /// A weighted sum.
    Linear(Linear),
    /// Boosted trees.
    Trees(Trees),
    /// The mean of both.
    Mean(Linear, Trees),
}

/// One bin of time ahead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Its end in milliseconds from now; it begins where the one before ends.
    pub until_ms: Millis,
    /// Log odds of a failure in it.
    pub odds: Odds,
}

/// What warnings from a threshold on were worth, on history that the model had not seen when it judged it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperatingPoint {
    /// Probability from which on it is a warning.
    pub threshold: f64,
    /// Warnings that a failure followed within the horizon, not sooner than the minimum lead.
    pub right: u32,
    /// Warnings that none followed.
    pub wrong: u32,
    /// Failures that were warned of in time.
    pub foretold: u32,
    /// Failures there were.
    pub failures: u32,
    /// Wrong warnings a day and entity.
    pub false_per_entity_day: f64,
    /// Share of the time in which no failure was near and a warning was open all the same.
    pub quiet_share: f64,
    /// Median time from warning to failure in seconds; 0 where none was foretold.
    pub lead_s: f64,
}

/// What is learned from failures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HazardModel {
    /// [`HAZARD_VERSION`] of whoever wrote it.
    pub version: u32,
    /// Width of the windows it was learned from; other windows have other features.
    pub window_ms: Millis,
    /// Least lead that is worth something.
    pub lead_ms: Millis,
    /// How far ahead it looks: the end of the last bin.
    pub horizon_ms: Millis,
    /// Its features.
    pub schema: Schema,
    /// Bins in order of time.
    pub bins: Vec<Bin>,
    /// Of the whole horizon.
    pub calibration: Calibration,
    /// What warnings are worth by threshold, ascending.
    pub points: Vec<OperatingPoint>,
}

/// What speaks for a failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Ground {
    /// Key of the series.
    pub key: u64,
    /// What it adds to the log odds.
    pub odds: f64,
}

/// What the model says of one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Calibrated probability of a failure within the horizon.
    pub probability: f64,
}

impl Odds {
    fn of(&self, x: &[f64], part: &mut dyn FnMut(usize, f64)) -> f64 {
        match self {
            Self::Linear(linear) => linear.walk(x, part),
            Self::Trees(trees) => trees.walk(x, part),
            Self::Mean(linear, trees) => {
                let half = &mut |f, v| part(f, v / 2.0);
                f64::midpoint(linear.walk(x, half), trees.walk(x, half))
            }
        }
    }

    /// Whether it fits vectors of this length and every answer is a number.
    fn is_sound(&self, width: usize) -> bool {
        let linear = |l: &Linear| {
            l.weights.len() == width && l.weights.iter().chain([&l.intercept]).all(|w| w.abs() <= ODDS_MAX)
        };
        match self {
            Self::Linear(l) => linear(l),
            Self::Trees(t) => t.is_sound() && t.base.abs() <= ODDS_MAX,
            Self::Mean(l, t) => linear(l) && t.is_sound() && t.base.abs() <= ODDS_MAX,
        }
    }
}

impl Linear {
    fn walk(&self, x: &[f64], part: &mut dyn FnMut(usize, f64)) -> f64 {
        let mut sum = self.intercept;
        for (f, (w, x)) in self.weights.iter().zip(x).enumerate() {
            sum += w * x;
            part(f, w * x);
        }
        sum
    }
}

impl HazardModel {
    /// Probability of a failure within the horizon before calibration, for features in their places.
    #[must_use]
    pub fn raw(&self, x: &[f64]) -> f64 {
        let survives = |bin: &Bin| 1.0 / (1.0 + bin.odds.of(x, &mut |_, _| {}).exp());
        1.0 - self.bins.iter().map(survives).product::<f64>()
    }

    /// What it says of an entity's last window. `x` is room for the vector.
    pub fn predict_one(&self, state: &FeatureState, x: &mut Vec<f64>) -> Forecast {
        self.schema.fill(state.features(), x);
        Forecast {
            probability: self.calibration.apply(self.raw(x)),
        }
    }

    /// What speaks for a failure most, by series, for features in their places.
    #[must_use]
    pub fn grounds(&self, x: &[f64]) -> Vec<Ground> {
        let mut by_series = vec![0.0; self.schema.series.len()];
        for bin in &self.bins {
            bin.odds.of(x, &mut |feature, odds| {
                if let Some(sum) = by_series.get_mut(feature / PER_SERIES) {
                    *sum += odds;
                }
            });
        }
        #[allow(clippy::cast_precision_loss)] // a few bins
        let bins = self.bins.len().max(1) as f64;
        let named = self.schema.series.iter().zip(by_series);
        let mut grounds: Vec<Ground> = named
            .map(|(s, odds)| Ground {
                key: s.key,
                odds: odds / bins,
            })
            .filter(|g| g.odds >= GROUND_MIN)
            .collect();
        grounds.sort_by(|a, b| b.odds.total_cmp(&a.odds).then_with(|| a.key.cmp(&b.key)));
        grounds.truncate(GROUNDS_MAX);
        grounds
    }

    /// Of the thresholds whose warnings stayed within so many false ones a day and entity and came true four times of five, on
    /// history that the model had not seen, the one with the largest share of failures foretold less the share of quiet time
    /// under warning (Youden, Cancer 3(1), 1950), the highest of equals; `None` where there is none. Without the second share a warning
    /// that is always on would be the best where failures are dense.
    #[must_use]
    pub fn operating_point(&self, false_per_entity_day: f64) -> Option<&OperatingPoint> {
        let holds = |p: &&OperatingPoint| {
            let told = f64::from(p.right + p.wrong);
            p.right > 0 && p.false_per_entity_day <= false_per_entity_day && f64::from(p.right) >= PRECISION_MIN * told
        };
        let worth = |p: &OperatingPoint| f64::from(p.foretold) / f64::from(p.failures.max(1)) - p.quiet_share;
        // `max_by` takes the last of equals, and thresholds ascend.
        self.points
            .iter()
            .filter(holds)
            .max_by(|a, b| worth(a).total_cmp(&worth(b)))
    }

    /// Why this model can't be asked, if it can't.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        if self.version != HAZARD_VERSION {
            return Some(format!("is of version {}, expected {HAZARD_VERSION}", self.version));
        }
        let sorted = self.schema.series.windows(2).all(|w| w[0].key < w[1].key);
        let spread = self.schema.series.iter().flat_map(|s| s.spread);
        let mut mean = self.schema.series.iter().flat_map(|s| s.mean);
        if !sorted || !spread.into_iter().all(|s| s > 0.0 && s.is_finite()) || !mean.all(f64::is_finite) {
            return Some("has a schema that is out of order".into());
        }
        let width = self.schema.width();
        if self.bins.is_empty() || !self.bins.iter().all(|b| b.odds.is_sound(width)) {
            return Some("has bins that do not fit its schema".into());
        }
        let ends = self.bins.iter().map(|b| b.until_ms);
        if !ends.is_sorted() || self.bins.last().map(|b| b.until_ms) != Some(self.horizon_ms) || self.window_ms <= 0 {
            return Some("has bins that do not make up its horizon".into());
        }
        if !self.calibration.slope.is_finite() || !self.calibration.intercept.is_finite() {
            return Some("has a calibration that is none".into());
        }
        None
    }
}
