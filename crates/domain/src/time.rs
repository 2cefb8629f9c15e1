use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// A length of time in milliseconds; negative when it points backwards.
pub type Millis = i64;

/// A point in event time: milliseconds since 1970-01-01T00:00:00Z.
///
/// Event time is what the record says, never when it was read. Formatting and parsing live in the `wire` crate, so
/// that this crate needs no calendar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Before every real timestamp.
    pub const MIN: Self = Self(i64::MIN);
    /// Earliest instant accepted from outside: 1970-01-01.
    pub const EARLIEST: Self = Self(0);
    /// Latest instant accepted from outside: 9999-12-30T22:00:00Z, the last one that calendars agree on.
    pub const LATEST: Self = Self(253_402_207_200_000);

    /// From milliseconds since the epoch.
    #[must_use]
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// From seconds since the epoch.
    #[must_use]
    pub const fn from_secs(s: i64) -> Self {
        Self(s.saturating_mul(1_000))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Seconds since the epoch, with the fraction.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // milliseconds of any accepted instant are below 2^53
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1_000.0
    }

    /// Start of the window of `width_ms` that holds this instant. `width_ms` must be positive.
    #[must_use]
    pub const fn window_start(self, width_ms: Millis) -> Self {
        Self(self.0.div_euclid(width_ms).saturating_mul(width_ms))
    }

    /// Whether a record from outside may carry this instant.
    #[must_use]
    pub fn is_plausible(self) -> bool {
        (Self::EARLIEST..=Self::LATEST).contains(&self)
    }
}

impl Add<Millis> for Timestamp {
    type Output = Self;
    fn add(self, ms: Millis) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

impl Sub<Millis> for Timestamp {
    type Output = Self;
    fn sub(self, ms: Millis) -> Self {
        Self(self.0.saturating_sub(ms))
    }
}

impl Sub for Timestamp {
    type Output = Millis;
    fn sub(self, other: Self) -> Millis {
        self.0.saturating_sub(other.0)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_align_to_the_epoch_on_both_sides_of_it() {
        assert_eq!(Timestamp(12_345).window_start(10_000), Timestamp(10_000));
        assert_eq!(Timestamp(10_000).window_start(10_000), Timestamp(10_000));
        assert_eq!(Timestamp(-1).window_start(10_000), Timestamp(-10_000));
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp::MIN - 1, Timestamp::MIN);
        assert_eq!(Timestamp::from_secs(i64::MAX), Timestamp(i64::MAX));
    }
}
