//! What the bank makes of a reading: each statistic becomes a p-value, two weighted harmonic means of them ask two questions,
//! and each mean is calibrated once more.
//!
//! *Is this unusual?* weighs every channel. *Is this new?* weighs those that fall silent once something has been seen. The
//! louder answer is the score; the second alone is [`SeriesModel::novelty`], on which an event opens, because oddness that
//! keeps coming back is rarely what foretells a failure.
//!
//! Rows of one excursion are no separate chances: a running mean that sets a record sets another with each row, as long as
//! the excursion lasts. The score counts the first of such a run (runs declustering: R. L. Smith, I. Weissman, *Estimating
//! the extremal index*, JRSS B 56(3), 1994: runs of exceedances); the event may still grow with the later ones.
//!
//! **Fails when** nearly everything is as odd as everything else: the weights are the same for every series. **Cost:** a
//! logarithm and an exponential for each channel that is odd, and three logarithms a point.

use std::f64::consts::LN_10;

use foreshock_domain::{Channel, Direction, Score, Verdict};
use foreshock_stats::{TailCalibrator, TailPrior};

use crate::SeriesModel;
use crate::reading::{BASE, LONG_MEAN, LONG_MEAN_RECORD, MEAN, RARE, RESIDUAL, Reading, SHAPE, SPREAD, STEADY, TREND};

/// Points before the first verdict.
pub(crate) const SILENT: u32 = 32;
/// How much each channel counts, in the order of the readings' arrays: found by a search over the Numenta benchmark, injected
/// anomalies and failure-free streams together; `docs/models/metrics.md` says how much that flatters.
struct Weights {
    steady: [f64; STEADY],
    rare: [f64; RARE],
}
const UNUSUAL: Weights = Weights {
    steady: [0.659, 0.261, 0.376, 0.319, 1.32, 0.58, 0.407],
    rare: [0.849, 0.441, 0.18, 0.5, 0.135, 0.124],
};
const NEW: Weights = Weights {
    steady: [0.000895, 0.0, 0.0000846, 0.00207, 0.00108, 0.014, 0.000197],
    rare: [1.23, 2.52, 0.138, 0.00858, 1.18, 0.00108],
};
/// What both answers together cost, in magnitudes, so that the louder one is a p-value again.
const UNUSUAL_COSTS: f64 = 0.158;
const NEW_COSTS: f64 = 0.301;
/// Points below which the second answer is held back, and to what share at first: a young series finds everything new.
const NEW_CAUTION: Caution = Caution {
    points: 342.0,
    share: 0.506,
};
/// How far beyond 1/n a history supports a surprise, and what a further magnitude counts.
const STEADY_SUPPORT: Support = Support {
    beyond: 0.684,
    share: 0.346,
};
const RARE_SUPPORT: Support = Support {
    beyond: 5.71,
    share: 0.522,
};
const UNUSUAL_SUPPORT: Support = Support {
    beyond: 0.361,
    share: 0.229,
};
const NEW_SUPPORT: Support = Support {
    beyond: 3.33,
    share: 0.482,
};
/// How much more the other channels depend on their past than the residuals do.
const DEPENDENT: f64 = 3.77;
/// Points that the means, the sum, the spread and the energy add up: their neighbours are not independent.
const SPAN: [f64; STEADY] = [1.0, 1.0, 8.0, 32.0, 8.0, 12.0, 12.0];
/// Shape of the Pareto tail of distances: new territory is entered in leaps.
pub(crate) const DISTANCE_SHAPE: f64 = 0.7;
/// 1/p above which the support of a history matters.
const COMMON: f64 = 30.0;
/// Points that the tails of the steady channels remember at most. A rhythm that was found late, or outliers in the warm-up,
/// are so outgrown in one or two thousand points, and what lies beyond 2 % is still a mean of some twenty.
const STEADY_MEMORY: u32 = 1500;
/// Residuals have heavy tails.
const RESIDUAL_PRIOR: TailPrior = TailPrior {
    rate: 1.3,
    weight: 24.0,
    shape: 0.4,
    memory: STEADY_MEMORY,
};
/// Averages and sums of bounded residuals have light ones.
const AVERAGE_PRIOR: TailPrior = TailPrior {
    rate: 1.3,
    weight: 24.0,
    shape: 0.1,
    memory: STEADY_MEMORY,
};
/// A combination of calibrated surprises is exponential by construction, and only its rate is to be learned.
pub(crate) const UNUSUAL_PRIOR: TailPrior = TailPrior {
    rate: LN_10,
    weight: 16.0,
    shape: 0.03,
    memory: 5000,
};
/// As for the unusual, but with more patience: a young series finds everything new.
pub(crate) const NEW_PRIOR: TailPrior = TailPrior {
    rate: LN_10,
    weight: 64.0,
    shape: 0.108,
    memory: 8000,
};

/// What the calibrator of a steady channel assumes at first.
pub(crate) fn prior_of(channel: usize) -> &'static TailPrior {
    match channel {
        RESIDUAL | BASE | SPREAD | SHAPE => &RESIDUAL_PRIOR,
        _ => &AVERAGE_PRIOR,
    }
}

/// What the bank makes of a [`Reading`].
pub(crate) struct Judgement {
    /// 1/p of each channel.
    steady: [f64; STEADY],
    rare: [f64; RARE],
    /// log10 of the weighted means of 1/p.
    pub unusual: f64,
    pub new: f64,
    /// The score.
    pub surprise: f64,
    /// Surprise of what was never seen before.
    pub novelty: f64,
    /// The louder answer, without cost or caution.
    pub oddness: f64,
}

impl Judgement {
    /// log10 of the weighted mean of 1/p.
    fn mean(&self, weights: &Weights) -> f64 {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(r, w)| r * w).sum::<f64>();
        let sum = dot(&self.steady, &weights.steady) + dot(&self.rare, &weights.rare);
        let total = weights.steady.iter().chain(&weights.rare).sum::<f64>();
        (sum / total).log10().max(0.0)
    }

    /// How many independent ones `points` are worth to *is this unusual?*: to channels that depend on their past an
    /// excursion of the series is one observation, however many points it lasts; forecast errors and distances are apart.
    fn worth(&self, points: f64, dependence: f64) -> f64 {
        let steady: f64 = self.steady.iter().zip(&UNUSUAL.steady).map(|(r, w)| r * w).sum();
        let rare: f64 = self.rare.iter().zip(&UNUSUAL.rare).map(|(r, w)| r * w).sum();
        let lasting = (steady - self.steady[RESIDUAL] * UNUSUAL.steady[RESIDUAL]).max(0.0) / (steady + rare);
        points * (1.0 - lasting + lasting / dependence)
    }

    /// The channel that speaks loudest, and which way it points.
    fn loudest(&self, reading: &Reading) -> (Channel, Direction, usize) {
        let rarities = self.steady.iter().chain(&self.rare);
        let loudest = rarities
            .enumerate()
            .fold((0, 0.0), |held, (i, &r)| if r > held.1 { (i, r) } else { held })
            .0;
        let signs = reading.steady.iter().chain(&reading.rare);
        let sign = signs.copied().nth(loudest).unwrap_or(0.0);
        let channel = match loudest {
            RESIDUAL => Channel::Residual,
            BASE if reading.rhythmic => Channel::Seasonal,
            BASE | MEAN | LONG_MEAN => Channel::Level,
            TREND => Channel::Trend,
            SPREAD => Channel::Spread,
            SHAPE => Channel::Shape,
            _ => Channel::Novelty,
        };
        let direction = match loudest {
            SPREAD if sign > 0.0 => Direction::Both,
            SHAPE => Direction::Pattern,
            _ if sign < 0.0 => Direction::Down,
            _ => Direction::Up,
        };
        (channel, direction, loudest)
    }
}

/// How a young model is held back.
struct Caution {
    points: f64,
    share: f64,
}

impl Caution {
    fn hold(&self, surprise: f64, points: f64) -> f64 {
        surprise * (self.share + (1.0 - self.share) * (points / self.points).min(1.0))
    }
}

/// How far a history of `n` independent points can support a surprise: beyond 1/n by `beyond` magnitudes in full, and a
/// further magnitude by `share`. Extrapolation is trusted less, and still ranks.
struct Support {
    beyond: f64,
    share: f64,
}

impl Support {
    #[inline]
    fn bound(&self, surprise: f64, points: f64) -> f64 {
        let points = points.max(1.0);
        // Most are clearly within, by the power of two that the points reach: that needs no logarithm.
        let power = (points.to_bits() >> 52) as i32 - 1023;
        if surprise < self.beyond + 0.301 * f64::from(power) {
            return surprise;
        }
        let supported = points.log10() + self.beyond;
        if surprise > supported {
            supported + self.share * (surprise - supported)
        } else {
            surprise
        }
    }
}

impl SeriesModel {
    /// What the bank makes of a reading; `None` while silent.
    pub(crate) fn judge(&self, reading: &Reading) -> Option<Judgement> {
        if self.observations < SILENT {
            return None;
        }
        let points = f64::from(self.observations);
        let dependence = self.dependence.points();
        let mut judgement = Judgement {
            steady: std::array::from_fn(|c| {
                let rarity = self.steady[c].rarity(reading.steady[c].abs());
                if rarity < COMMON {
                    return rarity;
                }
                // The forecast's errors are white; all else is as dependent as the residuals, or more.
                let span = if c == RESIDUAL {
                    1.0
                } else {
                    (dependence * DEPENDENT).max(SPAN[c])
                };
                exp10(STEADY_SUPPORT.bound(rarity.log10(), points / span))
            }),
            rare: std::array::from_fn(|c| {
                if reading.rare[c] == 0.0 {
                    return 1.0;
                }
                let surprise = self.rare[c].surprise(reading.rare[c].abs(), DISTANCE_SHAPE);
                exp10(RARE_SUPPORT.bound(surprise, points).min(250.0))
            }),
            unusual: 0.0,
            new: 0.0,
            surprise: 0.0,
            novelty: 0.0,
            oddness: 0.0,
        };
        judgement.unusual = judgement.mean(&UNUSUAL);
        judgement.new = judgement.mean(&NEW);
        let answer = |calibrator: &TailCalibrator, mean: f64, support: &Support, points: f64| {
            support.bound(calibrator.extrapolated_surprise(mean), points).max(0.0)
        };
        let worth = judgement.worth(points, dependence);
        let unusual = answer(&self.unusual, judgement.unusual, &UNUSUAL_SUPPORT, worth);
        let new = answer(&self.new, judgement.new, &NEW_SUPPORT, points);
        judgement.oddness = unusual.max(new);
        judgement.novelty = NEW_CAUTION.hold(new, points);
        let mut news = judgement.novelty;
        if reading.record_lasts {
            let record = std::mem::replace(&mut judgement.rare[LONG_MEAN_RECORD], 1.0);
            let rest = answer(&self.new, judgement.mean(&NEW), &NEW_SUPPORT, points);
            judgement.rare[LONG_MEAN_RECORD] = record;
            news = NEW_CAUTION.hold(rest, points);
        }
        let louder = (unusual - UNUSUAL_COSTS).max(news - NEW_COSTS);
        judgement.surprise = louder.max(0.0);
        Some(judgement)
    }

    pub(crate) fn verdict(&self, reading: &Reading, judgement: &Judgement) -> Verdict {
        let (channel, direction, loudest) = judgement.loudest(reading);
        let (expected, half) = if loudest == RESIDUAL {
            let half = reading.forecast_scale * self.steady[RESIDUAL].percentile_99();
            (reading.forecast, half)
        } else {
            (reading.expected, reading.scale * self.steady[BASE].percentile_99())
        };
        Verdict {
            score: Score::from_surprise(judgement.surprise),
            channel,
            direction,
            actual: reading.value,
            expected,
            lower: expected - half,
            upper: expected + half,
        }
    }
}

#[inline]
fn exp10(x: f64) -> f64 {
    (x * LN_10).exp()
}
