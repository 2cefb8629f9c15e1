//! Learns what is usual at each half hour of the day and is believed only where that has beaten the plain level. A value
//! is compared with its own half hour and with one hour before and after, so that a clock change alarms nobody.
//!
//! **Fails when** the period is not a day (a weekly rhythm shows as two kinds of day, and the profile lies between).
//! **Cost:** three interpolations in a table; 264 bytes.
//! **Paper:** the seasonal component of C. C. Holt, *Forecasting seasonals and trends by exponentially weighted moving
//! averages*, ONR memorandum 52, 1957 (International Journal of Forecasting 20(1), 2004, equation 3), additive.

use foreshock_domain::Timestamp;
use serde::{Deserialize, Serialize};

/// Half hours of a day.
const BINS: usize = 48;
const DAY_MS: i64 = 86_400_000;
const BIN_MS: i64 = DAY_MS / BINS as i64;
/// Final step of a bin's level, per day: about a week is remembered.
const ALPHA_DAY: f64 = 0.15;
/// Final step of the errors that are compared.
const ALPHA_ERROR: f64 = 1.0 / 300.0;
/// The profile is used while its error is below this share of the plain level's.
const GATE: f64 = 0.75;
/// Stands for the level of a half hour never visited: not finite, and equal to itself, which NaN is not.
const UNVISITED: f32 = f32::INFINITY;
/// Residuals count as at most this many mean errors.
const CLAMP: f64 = 5.0;

/// Daily profile of a series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeasonalProfile {
    /// Level of each half hour minus `origin`, in the unit of the series; `UNVISITED` where never visited.
    bins: [[f32; 24]; 2],
    /// First value, so that the table needs few digits.
    origin: f64,
    started: Option<Timestamp>,
    /// The half hour being visited, its running mean minus `origin`, and the values in it.
    visit: u8,
    visit_mean: f64,
    visit_count: u32,
    /// Days of history, at most 255.
    days: u8,
    /// Mean |residual| of the profile, in the unit of the series.
    error: f64,
    /// Mean |residual| of the plain level, in the unit of the series.
    error_flat: f64,
    /// Residuals in both means.
    compared: u32,
}

impl Default for SeasonalProfile {
    fn default() -> Self {
        Self {
            bins: [[UNVISITED; 24]; 2],
            origin: 0.0,
            started: None,
            visit: 0,
            visit_mean: 0.0,
            visit_count: 0,
            days: 0,
            error: 0.0,
            error_flat: 0.0,
            compared: 0,
        }
    }
}

impl SeasonalProfile {
    /// What is usual at this time of day, in the unit of the series, if the profile has earned belief: two days of
    /// history and clearly better than the plain level.
    #[must_use]
    #[inline]
    pub fn expected(&self, at: Timestamp) -> Option<f64> {
        if self.days < 2 || self.error >= GATE * self.error_flat {
            None
        } else {
            self.level(at)
        }
    }

    /// Signed residual of `value` against the nearest of this time of day and one hour before and after, where
    /// `expected` is what [`Self::expected`] gave; in the unit of the series. Zero when the value lies between them.
    #[must_use]
    #[inline]
    pub fn residual(&self, value: f64, at: Timestamp, expected: f64) -> f64 {
        let own = value - expected;
        let mut least = own;
        for shift in [-2 * BIN_MS, 2 * BIN_MS] {
            if let Some(level) = self.level(at + shift) {
                let residual = value - level;
                if residual.abs() < least.abs() || residual * own < 0.0 {
                    least = residual;
                }
            }
        }
        if least * own < 0.0 { 0.0 } else { least }
    }

    /// Spread of the profile's residuals, as a standard deviation in the unit of the series.
    #[must_use]
    pub fn scale(&self) -> f64 {
        1.2533 * self.error
    }

    /// Learns a finite value; `flat` is what the plain level expected, `floor` (> 0) the least spread that counts.
    pub fn learn(&mut self, value: f64, at: Timestamp, flat: f64, floor: f64) {
        let Some(started) = self.started else {
            self.started = Some(at);
            self.origin = value;
            self.visit = bin_of(at);
            self.visit_mean = 0.0;
            self.visit_count = 1;
            return;
        };
        if at < started {
            // A clock set back: history counts from here on.
            self.started = Some(at - i64::from(self.days) * DAY_MS);
        }
        let days = ((at - started) / DAY_MS).clamp(i64::from(self.days), 255);
        // One step at a time: a single record from the far future makes no history.
        self.days = days.min(i64::from(self.days) + 1) as u8;
        if let Some(level) = self.level(at) {
            self.compare(value - level, value - flat, floor);
        }
        let bin = bin_of(at);
        if bin != self.visit {
            self.leave(floor);
            self.visit = bin;
            self.visit_mean = 0.0;
            self.visit_count = 0;
        }
        self.visit_count = self.visit_count.saturating_add(1);
        self.visit_mean += (value - self.origin - self.visit_mean) / f64::from(self.visit_count);
    }

    fn compare(&mut self, residual: f64, residual_flat: f64, floor: f64) {
        self.compared = self.compared.saturating_add(1);
        let alpha = ALPHA_ERROR.max(1.0 / f64::from(self.compared));
        let limit = |mean: f64| {
            if self.compared > 24 {
                CLAMP * mean.max(floor)
            } else {
                f64::INFINITY
            }
        };
        let (own, flat) = (limit(self.error), limit(self.error_flat));
        self.error += alpha * (residual.abs().min(own) - self.error);
        self.error_flat += alpha * (residual_flat.abs().min(flat) - self.error_flat);
    }

    /// Takes the finished visit into its half hour.
    fn leave(&mut self, floor: f64) {
        let alpha = ALPHA_DAY.max(1.0 / (f64::from(self.days) + 1.0));
        let held = &mut self.bins.as_flattened_mut()[usize::from(self.visit) % BINS];
        if held.is_finite() {
            let limit = if self.days >= 2 {
                CLAMP * self.error.max(floor)
            } else {
                f64::INFINITY
            };
            let residual = (self.visit_mean - f64::from(*held)).max(-limit).min(limit);
            *held += (alpha * residual) as f32;
        } else {
            *held = self.visit_mean as f32;
        }
        if !held.is_finite() {
            // Beyond what the table can hold: never visited, as far as anybody can tell.
            *held = UNVISITED;
        }
    }

    /// Level at a time of day, interpolated between the centres of the half hours.
    #[inline]
    fn level(&self, at: Timestamp) -> Option<f64> {
        let shifted = (at - BIN_MS / 2).as_millis().rem_euclid(DAY_MS);
        let left = (shifted / BIN_MS) as usize;
        let share = (shifted % BIN_MS) as f64 / BIN_MS as f64;
        let bins = self.bins.as_flattened();
        let (a, b) = (f64::from(bins[left]), f64::from(bins[(left + 1) % BINS]));
        let level = if b.is_finite() { a + share * (b - a) } else { a };
        level.is_finite().then_some(level + self.origin)
    }
}

fn bin_of(at: Timestamp) -> u8 {
    (at.as_millis().rem_euclid(DAY_MS) / BIN_MS) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE_MINUTES: i64 = 300_000;

    /// A profile that has seen `days` days of `value(hour of day)`.
    fn learned(days: i64, value: impl Fn(f64) -> f64) -> (SeasonalProfile, Timestamp) {
        let mut profile = SeasonalProfile::default();
        let mut at = Timestamp::from_millis(0);
        for _ in 0..days * DAY_MS / FIVE_MINUTES {
            let hour = at.as_millis().rem_euclid(DAY_MS) as f64 / 3_600_000.0;
            profile.learn(value(hour), at, 50.0, 0.1);
            at = at + FIVE_MINUTES;
        }
        (profile, at)
    }

    fn wave(hour: f64) -> f64 {
        50.0 + 20.0 * (hour / 24.0 * std::f64::consts::TAU).sin()
    }

    #[test]
    fn belief_by_case() {
        // (name, days, what it expects at six in the morning)
        type Case = (&'static str, i64, fn(f64) -> f64, Option<f64>);
        let cases: [Case; 4] = [
            ("nothing seen", 0, wave, None),
            ("one day is too little", 1, wave, None),
            ("a rhythm", 5, wave, Some(70.0)),
            ("a flat series needs no profile", 5, |_| 50.0, None),
        ];
        for (name, days, value, expected) in cases {
            let (profile, at) = learned(days, value);
            let found = profile.expected(at + 6 * 3_600_000);
            match expected {
                None => assert_eq!(found, None, "{name}"),
                Some(e) => assert!((found.expect("believed") - e).abs() < 1.0, "{name}: {found:?}"),
            }
        }
    }

    #[test]
    fn an_hour_early_or_late_is_no_residual() {
        let (profile, midnight) = learned(6, wave);
        // (name, hour, value, whether it is odd)
        let cases = [
            ("on time", 3.0, wave(3.0), false),
            ("an hour early", 3.0, wave(4.0), false),
            ("an hour late", 3.0, wave(2.0), false),
            ("the height of noon at midnight", 0.0, 70.0, true),
        ];
        for (name, hour, value, is_odd) in cases {
            let at = midnight + (hour * 3_600_000.0) as i64;
            let residual = profile.residual(value, at, profile.expected(at).expect("believed"));
            assert_eq!(residual.abs() > 5.0, is_odd, "{name}: {residual}");
        }
    }

    #[test]
    fn clocks_that_jump_make_no_history() {
        let mut profile = SeasonalProfile::default();
        for at in [0, 4_102_444_800_000, 0, i64::MAX, i64::MIN, 0] {
            profile.learn(1.0, Timestamp::from_millis(at), 1.0, 0.1);
        }
        assert!(profile.expected(Timestamp::from_millis(0)).is_none_or(f64::is_finite));
    }
}
