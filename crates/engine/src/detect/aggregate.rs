//! What a metric window keeps of its samples: count, mean, minimum, maximum, first, last and, for counters, the increase.
//!
//! Fails when: samples of a counter arrive out of order inside one window; the ones that come too late are then left out of
//! the increase. Cost: O(1) per sample, 88 bytes.

use foreshock_domain::Timestamp;
use serde::{Deserialize, Serialize};

/// One series' samples in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Aggregate {
    /// Finite samples.
    pub(crate) count: u32,
    /// NaN and ±Inf.
    pub(crate) missing: u32,
    sum: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) first: f64,
    pub(crate) first_at: Timestamp,
    pub(crate) last: f64,
    pub(crate) last_at: Timestamp,
    /// Increase from the first to the last sample; a fall counts as a reset to zero.
    increase: f64,
    pub(crate) falls: u32,
    pub(crate) rises: u32,
}

/// What an aggregate said of one more sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Counted.
    Finite,
    /// NaN or infinite.
    Missing,
    /// The same timestamp as the sample before: sent twice.
    Duplicate,
}

/// How much a counter rose from `before` to `after`; a fall is a reset to zero.
pub(crate) fn counter_increase(before: f64, after: f64) -> f64 {
    if after >= before {
        after - before
    } else {
        after.max(0.0)
    }
}

impl Aggregate {
    /// Adds a sample.
    pub(crate) fn add(&mut self, at: Timestamp, value: f64) -> Taken {
        if !value.is_finite() {
            self.missing += 1;
            return Taken::Missing;
        }
        if self.count == 0 {
            *self = Self {
                count: 1,
                missing: self.missing,
                sum: value,
                min: value,
                max: value,
                first: value,
                first_at: at,
                last: value,
                last_at: at,
                ..Self::default()
            };
            return Taken::Finite;
        }
        if at == self.last_at {
            return Taken::Duplicate;
        }
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if at > self.last_at {
            self.increase += counter_increase(self.last, value);
            self.falls += u32::from(value < self.last);
            self.rises += u32::from(value > self.last);
            self.last = value;
            self.last_at = at;
        } else if at < self.first_at {
            self.first = value;
            self.first_at = at;
        }
        Taken::Finite
    }

    /// Mean of the finite samples; NaN where there is none. Kept between minimum and maximum, which a sum that overflows
    /// or rounds would leave.
    pub(crate) fn mean(&self) -> f64 {
        if self.count == 0 {
            return f64::NAN;
        }
        (self.sum / f64::from(self.count)).clamp(self.min, self.max)
    }

    /// Increase of a counter since its last sample before this window; `None` where there was none.
    pub(crate) fn increase_since(&self, before: Option<(Timestamp, f64)>) -> Option<f64> {
        let (_, value) = before?;
        (self.count > 0).then(|| counter_increase(value, self.first) + self.increase)
    }

    /// Rate of a counter per second since its last sample before this window; NaN where that is not known.
    pub(crate) fn rate_since(&self, before: Option<(Timestamp, f64)>) -> f64 {
        let (Some((at, _)), Some(increase)) = (before, self.increase_since(before)) else {
            return f64::NAN;
        };
        let seconds = self.last_at.as_secs_f64() - at.as_secs_f64();
        if seconds > 0.0 { increase / seconds } else { f64::NAN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(samples: &[(i64, f64)]) -> Aggregate {
        let mut a = Aggregate::default();
        for (s, v) in samples {
            a.add(Timestamp::from_secs(*s), *v);
        }
        a
    }

    #[test]
    fn summary_of_a_window() {
        let a = of(&[(1, 4.0), (2, f64::NAN), (3, 8.0), (4, f64::INFINITY), (5, 6.0)]);
        assert_eq!(
            (a.count, a.missing, a.min, a.max, a.first, a.last),
            (3, 2, 4.0, 8.0, 4.0, 6.0)
        );
        assert!((a.mean() - 6.0).abs() < 1e-12);
    }

    #[test]
    fn empty_and_all_missing_windows_have_no_mean() {
        assert!(of(&[]).mean().is_nan());
        assert!(of(&[(1, f64::NAN)]).mean().is_nan());
        assert!(
            of(&[(1, f64::NAN)])
                .rate_since(Some((Timestamp::from_secs(0), 1.0)))
                .is_nan()
        );
    }

    #[test]
    fn huge_values_keep_the_mean_inside_the_range() {
        assert_eq!(of(&[(1, f64::MAX), (2, f64::MAX)]).mean(), f64::MAX);
    }

    #[test]
    fn the_same_timestamp_twice_is_a_duplicate() {
        let mut a = of(&[(1, 4.0)]);
        assert_eq!(a.add(Timestamp::from_secs(1), 4.0), Taken::Duplicate);
        assert_eq!(a.count, 1);
    }

    #[test]
    fn counters_rise_across_windows_and_resets() {
        let before = Some((Timestamp::from_secs(0), 100.0));
        assert_eq!(of(&[(10, 110.0), (20, 130.0)]).increase_since(before), Some(30.0));
        assert!((of(&[(10, 110.0), (20, 130.0)]).rate_since(before) - 1.5).abs() < 1e-12);
        // Restarted between the windows, and once more inside.
        assert_eq!(of(&[(10, 5.0), (20, 2.0)]).increase_since(before), Some(7.0));
        assert_eq!(of(&[(10, 5.0)]).increase_since(None), None);
    }
}
