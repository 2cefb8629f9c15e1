//! What a point means to the bank: its distances from everything that is expected, each in spreads.

use foreshock_domain::Timestamp;

use crate::{Cusum, Point, SeriesModel, Spread};

/// Channels that always say something; each is calibrated by a histogram.
pub(crate) const STEADY: usize = 7;
/// |value − one-step forecast|.
pub(crate) const RESIDUAL: usize = 0;
/// |value − usual value of the phase or the time of day, or else the long-run level|.
pub(crate) const BASE: usize = 1;
/// |mean of the last sixteen standardised base residuals, or so|.
pub(crate) const MEAN: usize = 2;
/// |mean of the last sixty-four|.
pub(crate) const LONG_MEAN: usize = 3;
/// Cumulative sum of them.
pub(crate) const TREND: usize = 4;
/// Short-run against long-run movement from point to point.
pub(crate) const SPREAD: usize = 5;
/// Energy of the last few forecast errors.
pub(crate) const SHAPE: usize = 6;

/// Channels that are silent nearly always: what was never seen before.
pub(crate) const RARE: usize = 6;
/// Distance of the value to the nearest territory visited.
pub(crate) const VALUE: usize = 0;
/// Its distance to the range of all values seen.
pub(crate) const RANGE: usize = 1;
/// Distance of the value's move away from the short-run level to the moves seen.
pub(crate) const MOVE: usize = 2;
/// Distance of the residual against the rhythm to the residuals seen.
pub(crate) const RHYTHM: usize = 3;
/// What the long mean exceeds its own range by.
pub(crate) const LONG_MEAN_RECORD: usize = 4;
/// What the short-run residual, in its own spreads, exceeds its range by.
pub(crate) const MOVE_RECORD: usize = 5;

/// Share of the level that is the least change that counts, however flat the series was.
const FLOOR_OF_LEVEL: f64 = 0.005;
/// Share of the spread that is added to it.
const FLOOR_OF_SPREAD: f64 = 0.02;
/// Standardised residuals count as at most this in the means.
const MEAN_CLAMP: f64 = 8.0;
/// And in the cumulative sum and the energy.
const SUM_CLAMP: f64 = 4.0;
/// Step of the short mean, and what makes it of order one on noise.
const ALPHA_MEAN: f64 = 0.12;
const MEAN_UNIT: f64 = 3.9;
/// Step of the long mean, and what makes it of order one on noise.
const ALPHA_LONG_MEAN: f64 = 0.031;
const LONG_MEAN_UNIT: f64 = 8.0;
/// Step of the energy of forecast errors.
const ALPHA_ENERGY: f64 = 0.08;
/// Values beyond this are cut, so that no difference overflows single precision.
const LARGEST: f64 = 1e30;
/// Statistics beyond this grow with their logarithm: what is outrageous is so by its size, not by the square of it.
const LINEAR_TO: f64 = 16.0;
/// Points before extremes are kept, and before they are asked.
const EXTREMES_FROM: u32 = 8;
const EXTREMES_ASKED_FROM: u32 = 16;
/// Shares of the spread and of the range that make the unit of distances to territory.
const DISTANCE_OF_SPREAD: f64 = 0.98;
const DISTANCE_OF_RANGE: f64 = 0.014;
/// Shares of the spread and of the range within which values belong together.
const JOIN_OF_SPREAD: f64 = 0.514;
const JOIN_OF_RANGE: f64 = 0.132;

/// All that one point means to the bank: what both scoring and learning need.
pub(crate) struct Reading {
    pub at: Timestamp,
    pub value: f64,
    /// Least spread that counts, in the unit of the series.
    pub floor: f64,
    /// Spread of the long-run level, in the unit of the series.
    pub unit: f64,
    /// Gap between values that belong together, in the unit of the series.
    pub join: f64,
    /// Whether a rhythm is believed.
    pub rhythmic: bool,
    /// One-step forecast and its spread, in the unit of the series.
    pub forecast: f64,
    pub forecast_scale: f64,
    /// What is usual now and its spread, in the unit of the series.
    pub expected: f64,
    pub scale: f64,
    /// `value − expected`, in the unit of the series; a profile's may be nearer zero.
    pub residual: f64,
    /// Distance to the long-run level, in spreads.
    pub z_slow: f64,
    /// `residual` in spreads.
    pub z: f64,
    pub mean: f32,
    pub long_mean: f32,
    pub energy: f32,
    pub cusum: Cusum,
    pub spread: Spread,
    /// Distance to the short-run level, in the unit of the series and in its spreads.
    pub moved: f64,
    pub z_fast: f64,
    /// Of order one on normal data; `bent`, their signs kept.
    pub steady: [f64; STEADY],
    /// Signed distances, in spreads; zero nearly always.
    pub rare: [f64; RARE],
    /// Whether the record of the long mean was set by the point before: one excursion, of which this is one more row.
    pub record_lasts: bool,
}

/// What is usual of a series now, in its unit.
struct Base {
    expected: f64,
    residual: f64,
    scale: f64,
    rhythmic: bool,
}

impl SeriesModel {
    /// What a point means to this model; `None` where the value is missing.
    pub(crate) fn read(&self, point: &Point) -> Option<Reading> {
        if !point.value.is_finite() {
            return None;
        }
        let at = point.at;
        let value = point.value.clamp(-LARGEST, LARGEST);
        let first = self.observations == 0;
        let or_value = |level: f64| if first { value } else { level };
        let level = or_value(self.slow.level());
        let floor = FLOOR_OF_LEVEL * level.abs().max(1e-9) + FLOOR_OF_SPREAD * self.slow.scale();
        let unit = self.slow.scale() + floor;
        let base = self.base(value, at, level, floor);
        let z = base.residual / base.scale;
        let z_slow = (value - level) / unit;
        let error = z_slow - self.lattice.forecast();
        let forecast_scale = (self.lattice.scale() + FLOOR_OF_SPREAD).max(floor / unit);
        let moved = value - or_value(self.fast.level());
        let step = value - or_value(self.last);
        let mut reading = Reading {
            at,
            value,
            floor,
            unit,
            join: 0.0,
            rhythmic: base.rhythmic,
            forecast: value - error * unit,
            forecast_scale: forecast_scale * unit,
            expected: base.expected,
            scale: base.scale,
            residual: base.residual,
            z_slow,
            z,
            mean: follow(self.mean, ALPHA_MEAN, z.clamp(-MEAN_CLAMP, MEAN_CLAMP)),
            long_mean: follow(self.long_mean, ALPHA_LONG_MEAN, z.clamp(-MEAN_CLAMP, MEAN_CLAMP)),
            energy: follow(
                self.energy,
                ALPHA_ENERGY,
                (error / forecast_scale).clamp(-SUM_CLAMP, SUM_CLAMP).powi(2),
            ),
            cusum: self.cusum.after(z.clamp(-SUM_CLAMP, SUM_CLAMP), at),
            spread: self.spread.after(step.abs(), floor),
            moved,
            z_fast: moved / (self.fast.scale() + floor),
            steady: [0.0; STEADY],
            rare: [0.0; RARE],
            record_lasts: false,
        };
        reading.steady = reading.steady(error / forecast_scale);
        self.read_rare(&mut reading, value - or_value(self.origin));
        Some(reading)
    }

    /// What is usual now: by the better of the daily profile and the rhythm found, or else by the long-run level.
    fn base(&self, value: f64, at: Timestamp, level: f64, floor: f64) -> Base {
        let profile = self.profile.expected(at);
        let rhythm = self.period.expected();
        match (profile, rhythm) {
            (Some(expected), _) if rhythm.is_none() || self.profile.scale() <= self.period.scale() => Base {
                expected,
                residual: self.profile.residual(value, at, expected),
                scale: self.profile.scale() + floor,
                rhythmic: true,
            },
            (_, Some(expected)) => Base {
                expected,
                residual: value - expected,
                scale: self.period.scale() + floor,
                rhythmic: true,
            },
            _ => Base {
                expected: level,
                residual: value - level,
                scale: self.slow.scale() + floor,
                rhythmic: false,
            },
        }
    }

    /// Distances to what was ever seen; `offset` is the value's from the series' origin.
    fn read_rare(&self, reading: &mut Reading, offset: f64) {
        let range = self.values.range();
        let width = range.map_or(0.0, |(low, high)| high - low);
        reading.join = JOIN_OF_SPREAD * reading.unit + JOIN_OF_RANGE * width;
        let per_distance = 1.0 / (DISTANCE_OF_SPREAD * reading.unit + DISTANCE_OF_RANGE * width);
        reading.rare[VALUE] = self.values.distance(offset) * per_distance;
        if reading.rare[VALUE] != 0.0
            && let Some((low, high)) = range
        {
            reading.rare[RANGE] = ((offset - high).max(0.0) + (offset - low).min(0.0)) / reading.unit;
        }
        reading.rare[MOVE] = self.moves.distance(reading.moved) * per_distance;
        if reading.rhythmic {
            reading.rare[RHYTHM] = self.rhythm_residuals.distance(reading.residual) * per_distance;
        }
        if self.observations > EXTREMES_ASKED_FROM {
            reading.rare[LONG_MEAN_RECORD] = self.long_means.beyond(reading.long_mean_unit());
            let before = f64::from(self.long_mean) * LONG_MEAN_UNIT;
            reading.record_lasts = reading.rare[LONG_MEAN_RECORD] != 0.0 && self.long_means.is_mark(before);
            reading.rare[MOVE_RECORD] = self.fast_residuals.beyond(reading.z_fast);
        }
        reading.rare = reading.rare.map(bend);
    }

    /// Takes a reading into everything but the calibration; `share` in 0 ..= 1 slows the level down.
    pub(crate) fn learn_reading(&mut self, reading: &Reading, share: f64) {
        let value = reading.value;
        if self.observations == 0 {
            self.origin = value;
        }
        let level = if self.observations == 0 {
            value
        } else {
            self.slow.level()
        };
        self.observations = self.observations.saturating_add(1);
        self.last = value;
        self.lattice.learn(reading.z_slow, 1.0);
        self.fast.learn(&Self::FAST, value, reading.floor, 1.0);
        self.period.learn(value, level, reading.unit);
        self.slow.learn(&Self::SLOW, value, reading.floor, share);
        self.profile
            .learn(value, reading.at, self.slow.level(), reading.unit, reading.floor);
        self.mean = reading.mean;
        self.long_mean = reading.long_mean;
        self.energy = reading.energy;
        self.cusum = reading.cusum;
        self.spread = reading.spread;
        self.values.learn(value - self.origin, reading.join);
        self.moves.learn(reading.moved, reading.join);
        if reading.rhythmic {
            self.rhythm_residuals.learn(reading.residual, reading.join);
        }
        if self.observations > EXTREMES_FROM {
            self.long_means.learn(reading.long_mean_unit());
            self.fast_residuals.learn(reading.z_fast);
        }
    }
}

impl Reading {
    fn long_mean_unit(&self) -> f64 {
        f64::from(self.long_mean) * LONG_MEAN_UNIT
    }

    /// Statistics of the steady channels, signed; `error` is the forecast's in its spreads.
    fn steady(&self, error: f64) -> [f64; STEADY] {
        let trend = if self.cusum.is_up() { 0.5 } else { -0.5 } * self.cusum.magnitude();
        // The logarithm of the ratio of energies; what is calmer than usual is the spread channel's to say.
        let energy = (f64::from(self.energy) + 0.05) / 1.05;
        let shape = if energy > 1.0 { energy.ln() * 4.0 } else { 0.0 };
        [
            bend(error),
            bend(self.z),
            bend(f64::from(self.mean) * MEAN_UNIT),
            bend(self.long_mean_unit()),
            bend(trend),
            bend(self.spread.log_ratio(self.floor)),
            shape,
        ]
    }
}

#[inline]
fn follow(mean: f32, alpha: f64, x: f64) -> f32 {
    mean + (alpha * (x - f64::from(mean))) as f32
}

/// Linear up to [`LINEAR_TO`], logarithmic beyond; keeps the sign.
#[inline]
fn bend(statistic: f64) -> f64 {
    let size = statistic.abs();
    if size <= LINEAR_TO {
        statistic
    } else {
        (LINEAR_TO * (1.0 + (size / LINEAR_TO).ln())).copysign(statistic)
    }
}
