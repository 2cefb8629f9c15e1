//! The bank: runs every channel on one series, calibrates each statistic, combines the surprises into one that is itself
//! calibrated, and says which channel spoke loudest.
//!
//! **Fails when** the first few hundred points are unlike everything after them: it is cautious, not clairvoyant. It sees
//! one series only; a relation between series that breaks is for a multivariate model.
//! **Cost:** see `STATE_BYTES` and the bench; no allocation.
//! **Papers:** each channel's own file; the combination is D. J. Wilson, PNAS 116(4), 2019, equation 1, calibrated
//! afterwards by [`TailCalibrator`].

use foreshock_domain::{Channel, Detector, Direction, Learning, MetricKind, Score, Timestamp, Verdict};
use foreshock_stats::{TailCalibrator, TailPrior, weighted_harmonic_mean};
use serde::{Deserialize, Serialize};

use crate::{Cusum, Point, RobustLevel, RobustLevelParams, SeasonalProfile, Spread, Territory};

/// Points before the first verdict.
const SILENT: u64 = 32;
/// Points below which verdicts are held back.
const CAUTIOUS: u64 = 200;
const FAST: RobustLevelParams = RobustLevelParams { alpha_level: 0.15, alpha_scale: 0.01, clamp: 4.0 };
const SLOW: RobustLevelParams = RobustLevelParams { alpha_level: 0.004, alpha_scale: 0.004, clamp: 4.0 };
/// Standardised residuals count as at most this in the averages.
const CLAMP: f64 = 4.0;
/// Step of the short-run mean of standardised residuals.
const ALPHA_MEAN: f64 = 1.0 / 8.0;
/// Values beyond this are cut, so that no difference overflows.
const LARGEST: f64 = 1e150;

/// Channels, in the order of the arrays below.
const CHANNELS: usize = 7;
const RESIDUAL: usize = 0;
const BASE: usize = 1;
const LEVEL: usize = 2;
const TREND: usize = 3;
const SPREAD: usize = 4;
const NOVELTY: usize = 5;
const NOVELTY_MEAN: usize = 6;

/// How much each channel counts in the combination.
const WEIGHTS: [f64; CHANNELS] = [0.3, 0.3, 0.3, 0.3, 0.3, 1.0, 0.5];

/// Online model of one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeriesModel {
    kind: Option<MetricKind>,
    observations: u64,
    last_at: Option<Timestamp>,
    /// Typical time between points, ms.
    interval_ms: f64,
    /// The last four values, newest at `recent_at`.
    recent: [f64; 4],
    recent_at: u8,
    fast: RobustLevel,
    slow: RobustLevel,
    profile: SeasonalProfile,
    /// Short-run mean of standardised base residuals.
    mean: f32,
    cusum: Cusum,
    spread: Spread,
    values: Territory,
    means: Territory,
    tails: [TailCalibrator; CHANNELS],
    combined: TailCalibrator,
    odd_since: Option<Timestamp>,
    /// Points in a row whose surprise was high.
    odd_run: u8,
}

/// All that one point means to the model: what both scoring and learning need.
struct Reading {
    value: f64,
    at: Timestamp,
    floor: f64,
    join: f64,
    mean_of_four: f64,
    seasonal: bool,
    expected_fast: f64,
    expected_base: f64,
    scale_fast: f64,
    scale_base: f64,
    mean: f32,
    cusum: Cusum,
    spread: Spread,
    statistics: [f64; CHANNELS],
    signs: [f64; CHANNELS],
    surprises: [f64; CHANNELS],
    /// log10 of the weighted mean of 1/p.
    combined: f64,
    surprise: f64,
}

impl SeriesModel {
    /// Bytes of one model.
    pub const STATE_BYTES: usize = size_of::<Self>();

    /// A model that has seen nothing. `kind` is what the format said of the series, for information: counters are
    /// expected as rates.
    #[must_use]
    pub fn new(kind: Option<MetricKind>) -> Self {
        let statistic = TailPrior::default();
        let novelty = TailPrior { shape: 0.2, ..statistic };
        let combined = TailPrior { rate: std::f64::consts::LN_10, weight: 64.0, shape: 0.0, memory: 6000 };
        let mut tails = std::array::from_fn(|_| TailCalibrator::new(&statistic));
        tails[NOVELTY] = TailCalibrator::new(&novelty);
        tails[NOVELTY_MEAN] = TailCalibrator::new(&novelty);
        Self {
            kind,
            observations: 0,
            last_at: None,
            interval_ms: 0.0,
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
            tails,
            combined: TailCalibrator::new(&combined),
            odd_since: None,
            odd_run: 0,
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

    /// Since when the present oddness lasts; `None` while nothing is odd.
    #[must_use]
    pub fn onset(&self) -> Option<Timestamp> {
        self.odd_since
    }

    /// Typical time between points in milliseconds; 0 before the second point.
    #[must_use]
    pub fn interval_ms(&self) -> f64 {
        self.interval_ms
    }

    fn read(&self, point: &Point) -> Option<Reading> {
        if !point.value.is_finite() {
            return None;
        }
        let value = point.value.clamp(-LARGEST, LARGEST);
        let first = self.observations == 0;
        let level = if first { value } else { self.slow.level() };
        // A change below half a per cent of the level is no change, however flat the series was.
        let floor = 0.005 * level.abs().max(1e-9) + 0.02 * self.slow.scale();
        let profile = self.profile.expected(point.at);
        let (expected_base, residual_base, scale_base) = match profile {
            Some(expected) => (expected, self.profile.residual(value, point.at, expected), self.profile.scale()),
            None => (level, value - level, self.slow.scale()),
        };
        let expected_fast = if first { value } else { self.fast.level() };
        let scale_fast = self.fast.scale() + floor;
        let scale_base = scale_base + floor;
        let z_fast = (value - expected_fast) / scale_fast;
        let z_base = residual_base / scale_base;
        let bounded = z_base.clamp(-CLAMP, CLAMP);
        let mean = self.mean + (ALPHA_MEAN * (bounded - f64::from(self.mean))) as f32;
        let cusum = self.cusum.after(bounded, point.at);
        let previous = self.recent[usize::from(self.recent_at)];
        let step = if first { 0.0 } else { (value - previous).abs() };
        let spread = self.spread.after(step, floor);
        let mut four = self.recent;
        if first {
            four = [value; 4];
        } else {
            four[usize::from(self.recent_at + 1) % 4] = value;
        }
        let mean_of_four = four.iter().map(|v| v / 4.0).sum::<f64>();
        let unit = self.slow.scale() + floor;
        let new_value = self.values.distance(value) / unit;
        let new_mean = self.means.distance(mean_of_four) / unit;
        let log_ratio = spread.log_ratio(floor);
        let signs = [z_fast, z_base, f64::from(mean), if cusum.is_up() { 1.0 } else { -1.0 }, log_ratio, new_value, new_mean];
        let statistics = [
            z_fast.abs(),
            z_base.abs(),
            f64::from(mean).abs() * 3.9,
            cusum.magnitude() * 0.5,
            log_ratio.abs(),
            new_value.abs(),
            new_mean.abs(),
        ];
        let mut reading = Reading {
            value,
            at: point.at,
            floor,
            join: 0.4 * unit,
            mean_of_four,
            seasonal: profile.is_some(),
            expected_fast,
            expected_base,
            scale_fast,
            scale_base,
            mean,
            cusum,
            spread,
            statistics,
            signs,
            surprises: [0.0; CHANNELS],
            combined: 0.0,
            surprise: 0.0,
        };
        self.judge(&mut reading);
        Some(reading)
    }

    /// Fills in the surprises.
    fn judge(&self, reading: &mut Reading) {
        if self.observations < SILENT {
            return;
        }
        for channel in 0..CHANNELS {
            reading.surprises[channel] = self.tails[channel].extrapolated_surprise(reading.statistics[channel]);
        }
        reading.combined = weighted_harmonic_mean(reading.surprises.iter().copied().zip(WEIGHTS));
        let surprise = self.combined.surprise(reading.combined);
        let trust = (self.observations as f64 / CAUTIOUS as f64).min(1.0);
        reading.surprise = surprise * (0.5 + 0.5 * trust);
    }

    fn verdict(&self, reading: &Reading) -> Option<Verdict> {
        if self.observations < SILENT {
            return None;
        }
        let mut loudest = 0;
        for channel in 1..CHANNELS {
            let loudness = |c: usize| reading.surprises[c] + WEIGHTS[c].log10();
            if loudness(channel) > loudness(loudest) {
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
            (reading.expected_fast, reading.scale_fast * self.tails[RESIDUAL].percentile_99())
        } else {
            (reading.expected_base, reading.scale_base * self.tails[BASE].percentile_99())
        };
        Some(Verdict {
            score: Score::from_surprise(reading.surprise),
            channel,
            direction,
            actual: reading.value,
            expected,
            lower: expected - half,
            upper: expected + half,
        })
    }

    fn learn(&mut self, reading: &Reading) {
        if self.observations == 0 {
            self.recent = [reading.value; 4];
        }
        if self.observations >= SILENT {
            for (tail, &statistic) in self.tails.iter_mut().zip(&reading.statistics) {
                tail.learn(statistic, 8);
            }
            self.combined.learn(reading.combined, 8);
        }
        self.observations += 1;
        self.recent_at = (self.recent_at + 1) % 4;
        self.recent[usize::from(self.recent_at)] = reading.value;
        self.fast.learn(&FAST, reading.value, reading.floor);
        self.slow.learn(&SLOW, reading.value, reading.floor);
        self.profile.learn(reading.value, reading.at, self.slow.level(), reading.floor);
        self.mean = reading.mean;
        self.cusum = reading.cusum;
        self.spread = reading.spread;
        self.values.learn(reading.value, reading.join);
        self.means.learn(reading.mean_of_four, reading.join);
        if reading.surprise >= 2.0 {
            self.odd_since.get_or_insert(reading.at);
        } else if reading.surprise < 1.0 {
            self.odd_since = None;
        }
    }

    fn tick(&mut self, at: Timestamp) {
        if let Some(last) = self.last_at {
            let gap = (at - last) as f64;
            if gap > 0.0 {
                let bounded = if self.interval_ms > 0.0 { gap.min(4.0 * self.interval_ms) } else { gap };
                let alpha = if self.interval_ms > 0.0 { 0.05 } else { 1.0 };
                self.interval_ms += alpha * (bounded - self.interval_ms);
            }
        }
        self.last_at = Some(at);
    }
}

impl Detector for SeriesModel {
    type Input = Point;

    fn score_one(&self, point: &Point) -> Option<Verdict> {
        self.verdict(&self.read(point)?)
    }

    fn learn_one(&mut self, point: &Point, learning: Learning) {
        if learning == Learning::Normal
            && let Some(reading) = self.read(point)
        {
            self.learn(&reading);
        }
        self.tick(point.at);
    }

    fn score_learn(&mut self, point: &Point, learning: Learning) -> Option<Verdict> {
        let reading = self.read(point);
        let verdict = reading.as_ref().and_then(|r| self.verdict(r));
        if learning == Learning::Normal
            && let Some(reading) = &reading
        {
            self.learn(reading);
        }
        self.tick(point.at);
        verdict
    }
}
