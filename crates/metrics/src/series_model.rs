//! The bank: runs every channel on one series, calibrates each statistic, combines the surprises into one that is itself
//! calibrated, and says which channel spoke loudest.
//!
//! Two questions are asked and the louder answer is the score. *Is this unusual?* weighs all channels alike. *Is this
//! new?* weighs those channels that fall silent once something has been seen; it counts in full, and the other one
//! magnitude less, because oddness that keeps coming back is rarely what foretells a failure.
//!
//! **Fails when** the first few hundred points are unlike everything after them: it is cautious, not clairvoyant. It sees
//! one series only; a relation between series that breaks is for a multivariate model.
//! **Cost:** [`SeriesModel::STATE_BYTES`] and, by the bench, some hundred nanoseconds a point; no allocation.
//! **Papers:** each channel's own file; the combination is D. J. Wilson, *The harmonic mean p-value*, PNAS 116(4), 2019,
//! equation 1, calibrated afterwards by [`TailCalibrator`].

use std::f64::consts::LN_10;

use foreshock_domain::{Channel, Detector, Direction, Learning, MetricKind, Score, Timestamp, Verdict};
use foreshock_stats::{TailCalibrator, TailPrior};
use serde::{Deserialize, Serialize};

use crate::quarantine::{Quarantine, QuarantineStep};
use crate::reading::{BASE, CHANNELS, LEVEL, RESIDUAL, Reading, SPREAD, TREND};
use crate::{Cusum, Point, RobustLevel, RobustLevelParams, SeasonalProfile, Spread, Territory};

/// Points before the first verdict.
const SILENT: u64 = 32;
/// Points below which verdicts are held back.
const CAUTIOUS: u64 = 200;
/// Follows the last ten points or so.
const FAST: RobustLevelParams = RobustLevelParams {
    alpha_level: 0.15,
    alpha_scale: 0.01,
    clamp: 4.0,
};
/// Follows the last few hundred points.
const SLOW: RobustLevelParams = RobustLevelParams {
    alpha_level: 0.004,
    alpha_scale: 0.004,
    clamp: 4.0,
};
/// Cumulative sum, in spreads, from which on the level counts as moved.
const MOVED: f64 = 6.0;
/// How much each channel counts in "is this unusual?".
const WEIGHTS_UNUSUAL: [f64; CHANNELS] = [0.5, 0.5, 1.0, 1.0, 0.5, 1.0, 1.0, 0.2, 0.5];
/// How much each channel counts in "is this new?".
const WEIGHTS_NEW: [f64; CHANNELS] = [0.0, 0.0, 0.0, 0.0, 0.02, 1.0, 1.0, 0.1, 0.3];
/// Magnitudes that being unusual counts less than being new.
const UNUSUAL_COSTS: f64 = 0.7;
/// Residuals have heavy tails.
const RESIDUAL_PRIOR: TailPrior = TailPrior {
    rate: 1.3,
    weight: 24.0,
    shape: 0.4,
    memory: 4000,
};
/// Averages and sums of bounded residuals have light ones.
const AVERAGE_PRIOR: TailPrior = TailPrior {
    rate: 1.3,
    weight: 24.0,
    shape: 0.1,
    memory: 4000,
};
/// New territory is entered in leaps.
const DISTANCE_PRIOR: TailPrior = TailPrior {
    rate: 1.3,
    weight: 24.0,
    shape: 0.7,
    memory: 4000,
};
/// A combination of calibrated surprises is exponential by construction, and only its rate is to be learned.
const UNUSUAL_PRIOR: TailPrior = TailPrior {
    rate: LN_10,
    weight: 16.0,
    shape: 0.03,
    memory: 6000,
};
/// As for the unusual, but with more patience: a young series finds everything new.
const NEW_PRIOR: TailPrior = TailPrior {
    rate: LN_10,
    weight: 64.0,
    shape: 0.1,
    memory: 6000,
};

/// Online model of one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeriesModel {
    kind: Option<MetricKind>,
    pub(crate) observations: u64,
    last_at: Option<Timestamp>,
    /// Typical time between points, ms.
    interval_ms: f64,
    /// First value; the territories are relative to it.
    pub(crate) origin: f64,
    /// The last four values; the newest is at `recent_at`.
    pub(crate) recent: [f64; 4],
    pub(crate) recent_at: u8,
    pub(crate) fast: RobustLevel,
    pub(crate) slow: RobustLevel,
    pub(crate) profile: SeasonalProfile,
    /// Short-run mean of standardised base residuals.
    pub(crate) mean: f32,
    pub(crate) cusum: Cusum,
    pub(crate) spread: Spread,
    /// Where values, means of four, short-run residuals and seasonal residuals have been.
    pub(crate) values: Territory,
    pub(crate) means: Territory,
    pub(crate) residuals: Territory,
    pub(crate) seasonal_residuals: Territory,
    tails: [TailCalibrator; CHANNELS],
    unusual: TailCalibrator,
    new: TailCalibrator,
    odd_since: Option<Timestamp>,
    quarantine: Quarantine,
}

/// What the bank makes of a [`Reading`].
struct Judgement {
    /// 1/p of each channel.
    rarities: [f64; CHANNELS],
    /// log10 of the weighted means of 1/p.
    unusual: f64,
    new: f64,
    /// The score.
    surprise: f64,
    /// The louder answer, without cost or caution.
    oddness: f64,
    /// Whether "is this new?" was the louder answer.
    is_new: bool,
}

impl SeriesModel {
    /// Bytes of one model.
    pub const STATE_BYTES: usize = size_of::<Self>();

    /// A model that has seen nothing. `kind` is what the format said of the series, for information: counters are
    /// expected as rates.
    #[must_use]
    pub fn new(kind: Option<MetricKind>) -> Self {
        let prior = |channel| match channel {
            RESIDUAL | BASE | SPREAD => &RESIDUAL_PRIOR,
            LEVEL | TREND => &AVERAGE_PRIOR,
            _ => &DISTANCE_PRIOR,
        };
        Self {
            kind,
            observations: 0,
            last_at: None,
            interval_ms: 0.0,
            origin: 0.0,
            recent: [0.0; 4],
            recent_at: 0,
            fast: RobustLevel::default(),
            slow: RobustLevel::default(),
            profile: SeasonalProfile::default(),
            mean: 0.0,
            cusum: Cusum::default(),
            spread: Spread::default(),
            values: Territory::default(),
            means: Territory::default(),
            residuals: Territory::default(),
            seasonal_residuals: Territory::default(),
            tails: std::array::from_fn(|channel| TailCalibrator::new(prior(channel))),
            unusual: TailCalibrator::new(&UNUSUAL_PRIOR),
            new: TailCalibrator::new(&NEW_PRIOR),
            odd_since: None,
            quarantine: Quarantine::default(),
        }
    }

    /// What the format said of the series.
    #[must_use]
    pub fn kind(&self) -> Option<MetricKind> {
        self.kind
    }

    /// Points learned, without missing ones.
    #[must_use]
    pub fn observations(&self) -> u64 {
        self.observations
    }

    /// Since when the present oddness lasts; `None` while nothing is odd. Where the level moved, this is the last time
    /// that the cumulative sum was zero, which is before the surprise.
    #[must_use]
    pub fn onset(&self) -> Option<Timestamp> {
        let odd_since = self.odd_since?;
        let moved_since = self.cusum.since().filter(|_| self.cusum.magnitude() >= MOVED);
        Some(moved_since.map_or(odd_since, |since| since.min(odd_since)))
    }

    /// Typical time between points in milliseconds; 0 before the second point.
    #[must_use]
    pub fn interval_ms(&self) -> f64 {
        self.interval_ms
    }

    /// Surprise of a reading; `None` while silent.
    fn judge(&self, reading: &Reading) -> Option<Judgement> {
        if self.observations < SILENT {
            return None;
        }
        let rarities: [f64; CHANNELS] = std::array::from_fn(|c| self.tails[c].rarity(reading.statistics[c]));
        let unusual = weighted_log_mean(&rarities, &WEIGHTS_UNUSUAL);
        let new = weighted_log_mean(&rarities, &WEIGHTS_NEW);
        let surprise_unusual = self.unusual.surprise(unusual);
        let surprise_new = self.new.surprise(new);
        let trust = (self.observations as f64 / CAUTIOUS as f64).min(1.0);
        let is_new = surprise_new >= surprise_unusual - UNUSUAL_COSTS;
        let louder = surprise_new.max(surprise_unusual - UNUSUAL_COSTS).max(0.0);
        Some(Judgement {
            rarities,
            unusual,
            new,
            surprise: louder * (0.5 + 0.5 * trust),
            oddness: surprise_new.max(surprise_unusual),
            is_new,
        })
    }

    fn verdict(&self, reading: &Reading, judgement: &Judgement) -> Verdict {
        let weights = if judgement.is_new {
            &WEIGHTS_NEW
        } else {
            &WEIGHTS_UNUSUAL
        };
        let mut loudest = 0;
        for channel in 1..CHANNELS {
            if judgement.rarities[channel] * weights[channel] > judgement.rarities[loudest] * weights[loudest] {
                loudest = channel;
            }
        }
        let channel = match loudest {
            RESIDUAL => Channel::Residual,
            BASE if reading.seasonal => Channel::Seasonal,
            BASE | LEVEL => Channel::Level,
            TREND => Channel::Trend,
            SPREAD => Channel::Spread,
            _ => Channel::Novelty,
        };
        let direction = match loudest {
            SPREAD => Direction::Both,
            _ if reading.signs[loudest] < 0.0 => Direction::Down,
            _ => Direction::Up,
        };
        let (expected, half) = if loudest == RESIDUAL {
            (
                reading.expected_fast,
                reading.scale_fast * self.tails[RESIDUAL].percentile_99(),
            )
        } else {
            (
                reading.expected_base,
                reading.scale_base * self.tails[BASE].percentile_99(),
            )
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

    fn learn(&mut self, reading: &Reading, judgement: Option<&Judgement>) {
        if self.observations == 0 {
            self.recent = [reading.value; 4];
            self.origin = reading.value;
        }
        let mut share = 1.0;
        if let Some(judgement) = judgement {
            share = self.learn_judgement(reading, judgement);
        }
        self.observations = self.observations.saturating_add(1);
        self.recent_at = self.recent_at.wrapping_add(1) % 4;
        self.recent[usize::from(self.recent_at)] = reading.value;
        self.fast.learn(&FAST, reading.value, reading.floor, 1.0);
        self.slow.learn(&SLOW, reading.value, reading.floor, share);
        self.profile
            .learn(reading.value, reading.at, self.slow.level(), reading.floor);
        self.mean = reading.mean;
        self.cusum = reading.cusum;
        self.spread = reading.spread;
        self.values.learn(reading.value - self.origin, reading.join);
        self.means.learn(reading.mean_of_four - self.origin, reading.join);
        self.residuals
            .learn(reading.value - reading.expected_fast, reading.join);
        if reading.seasonal {
            self.seasonal_residuals.learn(reading.residual_base, reading.join);
        }
    }

    /// Calibrates, as far as quarantine allows; returns the share that the levels may learn.
    fn learn_judgement(&mut self, reading: &Reading, judgement: &Judgement) -> f64 {
        if judgement.surprise >= 2.0 {
            self.odd_since.get_or_insert(reading.at);
        } else if judgement.surprise < 1.0 {
            self.odd_since = None;
        }
        let step = self
            .quarantine
            .step(judgement.oddness, [judgement.unusual, judgement.new]);
        match step {
            QuarantineStep::Held => return Quarantine::SHARE,
            QuarantineStep::Released { count, means } => {
                self.unusual.learn(means[0], count.saturating_mul(8));
                self.new.learn(means[1], count.saturating_mul(8));
            }
            QuarantineStep::Free => {}
        }
        for (tail, &statistic) in self.tails.iter_mut().zip(&reading.statistics) {
            tail.learn(statistic, 8);
        }
        self.unusual.learn(judgement.unusual, 8);
        self.new.learn(judgement.new, 8);
        1.0
    }

    fn tick(&mut self, at: Timestamp) {
        if let Some(last) = self.last_at {
            let gap = (at - last) as f64;
            if gap > 0.0 {
                let known = self.interval_ms > 0.0;
                let bounded = if known { gap.min(4.0 * self.interval_ms) } else { gap };
                self.interval_ms += if known { 0.05 } else { 1.0 } * (bounded - self.interval_ms);
            }
        }
        self.last_at = Some(at);
    }
}

/// log10 of the weighted mean of 1/p.
#[inline]
fn weighted_log_mean(rarities: &[f64; CHANNELS], weights: &[f64; CHANNELS]) -> f64 {
    let sum: f64 = rarities.iter().zip(weights).map(|(r, w)| r * w).sum();
    (sum / weights.iter().sum::<f64>()).log10().max(0.0)
}

impl Detector for SeriesModel {
    type Input = Point;

    fn score_one(&self, point: &Point) -> Option<Verdict> {
        let reading = self.read(point)?;
        Some(self.verdict(&reading, &self.judge(&reading)?))
    }

    fn learn_one(&mut self, point: &Point, learning: Learning) {
        if learning == Learning::Normal
            && let Some(reading) = self.read(point)
        {
            let judgement = self.judge(&reading);
            self.learn(&reading, judgement.as_ref());
        }
        self.tick(point.at);
    }

    fn score_learn(&mut self, point: &Point, learning: Learning) -> Option<Verdict> {
        let mut verdict = None;
        if let Some(reading) = self.read(point) {
            let judgement = self.judge(&reading);
            verdict = judgement.as_ref().map(|j| self.verdict(&reading, j));
            if learning == Learning::Normal {
                self.learn(&reading, judgement.as_ref());
            }
        }
        self.tick(point.at);
        verdict
    }
}
