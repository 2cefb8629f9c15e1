use foreshock_domain::Timestamp;

use crate::{Cusum, Point, SeriesModel, Spread};

/// Channels of the bank, in the order of its arrays.
pub(crate) const CHANNELS: usize = 9;
/// |value − short-run level|.
pub(crate) const RESIDUAL: usize = 0;
/// |value − usual value of the time of day, or else long-run level|.
pub(crate) const BASE: usize = 1;
/// |short-run mean of the standardised base residuals|.
pub(crate) const LEVEL: usize = 2;
/// Cumulative sum of them.
pub(crate) const TREND: usize = 3;
/// Short-run against long-run movement from point to point.
pub(crate) const SPREAD: usize = 4;

/// Standardised residuals count as at most this in averages and sums.
const CLAMP: f64 = 4.0;
/// Step of the short-run mean of standardised residuals.
const ALPHA_MEAN: f64 = 1.0 / 8.0;
/// Values beyond this are cut, so that no difference overflows single precision.
const LARGEST: f64 = 1e30;
/// Statistics beyond this grow with their logarithm: what is outrageous is so by its size, not by the square of it.
const LINEAR_TO: f64 = 16.0;

/// All that one point means to the bank: what both scoring and learning need.
pub(crate) struct Reading {
    pub at: Timestamp,
    pub value: f64,
    /// Least spread that counts, in the unit of the series.
    pub floor: f64,
    /// Gap between values that belong together, in the unit of the series.
    pub join: f64,
    pub mean_of_four: f64,
    /// Whether the daily profile is believed.
    pub seasonal: bool,
    pub expected_fast: f64,
    pub scale_fast: f64,
    pub expected_base: f64,
    pub scale_base: f64,
    pub residual_base: f64,
    pub mean: f32,
    pub cusum: Cusum,
    pub spread: Spread,
    /// Non-negative, of order one on normal data.
    pub statistics: [f64; CHANNELS],
    /// Which way each statistic points.
    pub signs: [f64; CHANNELS],
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
        let level = if first { value } else { self.slow.level() };
        // A change below half a per cent of the level is no change, however flat the series was.
        let floor = 0.005 * level.abs().max(1e-9) + 0.02 * self.slow.scale();
        let unit = self.slow.scale() + floor;
        let profile = self.profile.expected(at);
        let (expected_base, residual_base, scale_base) = match profile {
            Some(expected) => (
                expected,
                self.profile.residual(value, at, expected),
                self.profile.scale() + floor,
            ),
            None => (level, value - level, unit),
        };
        let expected_fast = if first { value } else { self.fast.level() };
        let scale_fast = self.fast.scale() + floor;
        let residual_fast = value - expected_fast;
        let (z_fast, z_base) = (residual_fast / scale_fast, residual_base / scale_base);
        let bounded = z_base.clamp(-CLAMP, CLAMP);
        let mean = self.mean + (ALPHA_MEAN * (bounded - f64::from(self.mean))) as f32;
        let cusum = self.cusum.after(bounded, at);
        let (step, mean_of_four) = self.recent_after(value, first);
        let spread = self.spread.after(step, floor);
        let origin = if first { value } else { self.origin };
        let signs = [
            z_fast,
            z_base,
            f64::from(mean) * 3.9,
            if cusum.is_up() { 0.5 } else { -0.5 } * cusum.magnitude(),
            spread.log_ratio(floor),
            self.values.distance(value - origin) / unit,
            self.means.distance(mean_of_four - origin) / unit,
            self.residuals.distance(residual_fast) / unit,
            if profile.is_some() {
                self.seasonal_residuals.distance(residual_base) / unit
            } else {
                0.0
            },
        ];
        let width = self.values.range().map_or(0.0, |(low, high)| high - low);
        Some(Reading {
            at,
            value,
            floor,
            join: 0.2 * unit + 0.05 * width,
            mean_of_four,
            seasonal: profile.is_some(),
            expected_fast,
            scale_fast,
            expected_base,
            scale_base,
            residual_base,
            mean,
            cusum,
            spread,
            statistics: signs.map(|s| bend(s.abs())),
            signs,
        })
    }

    /// The move from the previous value, and the mean of the last four, were `value` the newest.
    fn recent_after(&self, value: f64, first: bool) -> (f64, f64) {
        if first {
            return (0.0, value);
        }
        let newest = usize::from(self.recent_at) % 4;
        let mut four = self.recent;
        four[(newest + 1) % 4] = value;
        ((value - self.recent[newest]).abs(), four.iter().sum::<f64>() / 4.0)
    }
}

#[inline]
fn bend(statistic: f64) -> f64 {
    if statistic <= LINEAR_TO {
        statistic
    } else {
        LINEAR_TO * (1.0 + (statistic / LINEAR_TO).ln())
    }
}
