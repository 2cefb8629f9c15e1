//! Learns what is usual at each half hour of the day, for two kinds of day, and is believed only where that has beaten the
//! plain level. Which days are of which kind is learned as well, by quarters of a day; working days and weekends are the
//! first guess. A value is compared with its own half hour and with one hour before and after, so that a clock change
//! alarms nobody.
//!
//! **Fails when** there are more than two kinds of day, and on holidays. **Cost:** four look-ups and interpolations in
//! tables; 360 bytes.
//! **Paper:** the seasonal component of C. C. Holt, *Forecasting seasonals and trends by exponentially weighted moving
//! averages*, ONR memorandum 52, 1957 (International Journal of Forecasting 20(1), 2004, equation 3), additive. `Differs:`
//! 7 × 48 half hours of the week would take a month to be seen four times; two kinds of day take a week.

use foreshock_domain::Timestamp;
use serde::{Deserialize, Serialize};

use crate::table::Table;

/// Half hours of a day.
const BINS: usize = Table::LEVELS;
const DAY_MS: i64 = 86_400_000;
const BIN_MS: i64 = DAY_MS / BINS as i64;
/// Final step of a bin's level, per day: about a week is remembered.
const ALPHA_DAY: f64 = 0.15;
/// Final step of the errors that are compared.
const ALPHA_ERROR: f64 = 1.0 / 300.0;
/// The profile is used while its error is below this share of the plain level's.
const GATE: f64 = 0.75;
/// Steps of a table that make one mean error.
const QUANTA: f64 = 64.0;
/// Values count as at most this many spreads from the plain level.
const FARTHEST: f64 = 50.0;
/// Quarters of the days of a week.
const QUARTERS: usize = 28;
const QUARTER_MS: i64 = DAY_MS / 4;
/// Half hours of evidence at which a quarter's kind is settled.
const SETTLED: i8 = 24;
/// Half hours of evidence that the first guess is worth.
const GUESS: i8 = 12;
/// Residuals count as at most this many mean errors.
const CLAMP: f64 = 5.0;

/// Daily profile of a series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeasonalProfile {
    /// Level of each half hour of the two kinds of day, in the unit of the series.
    kinds: [Table; 2],
    /// Evidence that a quarter of a week's day is of the first kind (> 0) or of the second, in half hours.
    evidence: [i8; QUARTERS],
    /// Since when there is history; [`Timestamp::MIN`] before the first value.
    started: Timestamp,
    /// The half hour of the epoch being visited, the mean of its values and their number.
    visit: i64,
    visit_mean: f64,
    visit_count: u32,
    /// Days of history, at most 255.
    days: u8,
    /// Days on which each kind was visited, at most 255.
    days_of: [u8; 2],
    /// Mean |residual| of the profile, in the unit of the series.
    error: f64,
    /// Mean |residual| of the plain level, in the unit of the series.
    error_flat: f64,
    /// Residuals in both means.
    compared: u32,
}

impl Default for SeasonalProfile {
    fn default() -> Self {
        let mut evidence = [GUESS; QUARTERS];
        // Saturday and Sunday, counted from Monday.
        evidence[20..].fill(-GUESS);
        Self {
            kinds: [Table::default(); 2],
            evidence,
            started: Timestamp::MIN,
            visit: 0,
            visit_mean: 0.0,
            visit_count: 0,
            days: 0,
            days_of: [0; 2],
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

    /// Mean |residual| of the profile and of the plain level, in the unit of the series; equal while nothing is known.
    #[must_use]
    pub fn errors(&self) -> (f64, f64) {
        (self.error, self.error_flat)
    }

    /// Learns a finite value; `flat` is what the plain level expected, `unit` (> 0) its spread and `floor` (> 0) the least
    /// spread that counts.
    pub fn learn(&mut self, value: f64, at: Timestamp, flat: f64, unit: f64, floor: f64) {
        // One outlier must not coarsen the tables.
        // Not `clamp`: a damaged snapshot may hold a spread below zero.
        let value = value.max(flat - FARTHEST * unit).min(flat + FARTHEST * unit);
        let visit = at.as_millis().div_euclid(BIN_MS);
        if self.started == Timestamp::MIN {
            self.started = at;
            self.kinds = [Table::around(value, floor / QUANTA); 2];
            self.visit = visit;
            self.visit_mean = value;
            self.visit_count = 1;
            return;
        }
        if at < self.started {
            // A clock set back: history counts from here on.
            self.started = at - i64::from(self.days) * DAY_MS;
        }
        let days = ((at - self.started) / DAY_MS).max(i64::from(self.days)).min(255);
        // One step at a time: a single record from the far future makes no history.
        self.days = days.min(i64::from(self.days) + 1) as u8;
        if let Some(level) = self.level(at) {
            self.compare(value - level, value - flat, floor);
        }
        if visit != self.visit {
            self.leave(floor);
            self.visit = visit;
            self.visit_mean = 0.0;
            self.visit_count = 0;
        }
        self.visit_count = self.visit_count.saturating_add(1);
        self.visit_mean += (value - self.visit_mean) / f64::from(self.visit_count);
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

    /// Takes the finished visit into its half hour, and weighs of which kind its day is.
    fn leave(&mut self, floor: f64) {
        let bin = self.visit.rem_euclid(BINS as i64) as usize;
        let quarter = quarter_of(self.visit);
        let [first, second] = self.kinds.map(|kind| kind.get(bin));
        if let (Some(first), Some(second)) = (first, second) {
            let gain = (self.visit_mean - second).abs() - (self.visit_mean - first).abs();
            let least = 0.5 * self.error.max(floor);
            let step = i8::from(gain > least) - i8::from(gain < -least);
            self.evidence[quarter] = (self.evidence[quarter] + step).clamp(-SETTLED, SETTLED);
        }
        let kind = self.kind_of(quarter);
        if bin == 0 || self.days_of[kind] == 0 {
            self.days_of[kind] = self.days_of[kind].saturating_add(1);
        }
        let alpha = ALPHA_DAY.max(1.0 / (f64::from(self.days_of[kind]) + 1.0));
        let level = match self.kinds[kind].get(bin) {
            Some(held) => {
                let limit = if self.days >= 2 {
                    CLAMP * self.error.max(floor)
                } else {
                    f64::INFINITY
                };
                held + alpha * (self.visit_mean - held).max(-limit).min(limit)
            }
            None => self.visit_mean,
        };
        self.kinds[kind].set(bin, level);
    }

    fn kind_of(&self, quarter: usize) -> usize {
        usize::from(self.evidence[quarter] < 0)
    }

    /// Level at a time of day, interpolated between the centres of the half hours; that of the other kind of day where
    /// this one was never seen.
    #[inline]
    fn level(&self, at: Timestamp) -> Option<f64> {
        let shifted = (at - BIN_MS / 2).as_millis();
        let left = shifted.div_euclid(BIN_MS);
        let share = shifted.rem_euclid(BIN_MS) as f64 / BIN_MS as f64;
        let a = self.level_of(left)?;
        Some(self.level_of(left + 1).map_or(a, |b| a + share * (b - a)))
    }

    /// Level of a half hour of the epoch.
    #[inline]
    fn level_of(&self, visit: i64) -> Option<f64> {
        let bin = visit.rem_euclid(BINS as i64) as usize;
        let kind = self.kind_of(quarter_of(visit));
        self.kinds[kind].get(bin).or_else(|| self.kinds[1 - kind].get(bin))
    }
}

/// Quarter of the week, from Monday's first, that a half hour of the epoch lies in.
fn quarter_of(visit: i64) -> usize {
    let quarter = visit.div_euclid(QUARTER_MS / BIN_MS);
    // The epoch began on a Thursday.
    (quarter + 12).rem_euclid(QUARTERS as i64) as usize
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
            profile.learn(value(hour), at, 50.0, 10.0, 0.1);
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
            profile.learn(1.0, Timestamp::from_millis(at), 1.0, 1.0, 0.1);
        }
        assert!(profile.expected(Timestamp::from_millis(0)).is_none_or(f64::is_finite));
    }
}
