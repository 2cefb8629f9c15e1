//! Times as text and as numbers.
//!
//! Read: RFC 3339 and its common relatives (`YYYY-MM-DD HH:MM:SS[.fff]`, a comma before the fraction, no zone: UTC), and
//! epoch numbers whose unit is told by their size. Written: RFC 3339 in UTC with milliseconds.
//!
//! Fails where a number of one unit has the size of another: milliseconds before 1973-03-03, microseconds before
//! 1973-03-03 and nanoseconds before 1973-03-03 are taken for the next larger unit. Nothing outside 1970–9999 is accepted.
//!
//! Cost: some 10 ns a text, no allocation to read. The calendar is the proleptic Gregorian one by days since 1970
//! (Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`, `civil_from_days`).

use std::fmt::Write as _;

use foreshock_domain::Timestamp;

use crate::decoder::Near;
use crate::json::Scalar;

const DAY_MS: i64 = 86_400_000;

/// RFC 3339: date, `T` or a space, time, optional fraction, zone. Digits of the fraction past milliseconds are dropped; a
/// leap second counts as the second before it.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let found = leading(text)?;
    (found.zoned && found.bytes == text.len()).then_some(found.at)
}

/// `YYYY-MM-DD HH:MM:SS[.fff]`, also with `T` or a comma, taken as UTC; or RFC 3339; or an epoch number as text.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim_ascii();
    if let Some(found) = leading(text) {
        return (found.bytes == text.len()).then_some(found.at);
    }
    match text.parse::<i64>() {
        Ok(n) => from_epoch(n),
        Err(_) => from_epoch_f64(text.parse().ok()?),
    }
}

/// An integer since the epoch: below 10¹¹ seconds, below 10¹⁴ milliseconds, below 10¹⁷ microseconds, else nanoseconds.
#[must_use]
pub fn from_epoch(n: i64) -> Option<Timestamp> {
    let ms = match n {
        ..0 => return None,
        0..100_000_000_000 => n * 1_000,
        100_000_000_000..100_000_000_000_000 => n,
        100_000_000_000_000..100_000_000_000_000_000 => n / 1_000,
        _ => n / 1_000_000,
    };
    Some(Timestamp::from_millis(ms)).filter(|at| at.is_plausible())
}

/// As [`from_epoch`], with a fraction, rounded to milliseconds.
#[must_use]
#[allow(clippy::cast_possible_truncation)] // bounded by the range check above the cast
pub fn from_epoch_f64(x: f64) -> Option<Timestamp> {
    let ms = match x {
        _ if !(0.0..=9.3e18).contains(&x) => return None,
        _ if x < 1e11 => x * 1e3,
        _ if x < 1e14 => x,
        _ if x < 1e17 => x / 1e3,
        _ => x / 1e6,
    };
    Some(Timestamp::from_millis(ms.round() as i64)).filter(|at| at.is_plausible())
}

/// Nanoseconds since the epoch, whatever their size.
pub(crate) fn from_nanos(ns: u64) -> Option<Timestamp> {
    let ms = i64::try_from(ns / 1_000_000).ok()?;
    Some(Timestamp::from_millis(ms)).filter(|at| at.is_plausible())
}

/// A time as JSON holds it: a number or text.
pub(crate) fn from_scalar(found: &Scalar<'_>) -> Option<Timestamp> {
    match found {
        Scalar::Signed(n) => from_epoch(*n),
        Scalar::Unsigned(n) => i64::try_from(*n).ok().and_then(from_epoch),
        Scalar::Float(x) => from_epoch_f64(*x),
        Scalar::Text(text) => parse(text),
        Scalar::Null | Scalar::Bool(_) | Scalar::Nested => None,
    }
}

/// RFC 3339 in UTC with milliseconds, such as `2026-01-31T12:00:00.000Z`. Instants outside the years 0000–9999, which
/// RFC 3339 can't say, become the nearest that it can.
#[must_use]
pub fn format_rfc3339(at: Timestamp) -> String {
    let mut out = String::with_capacity(24);
    write_rfc3339(at, &mut out);
    out
}

/// As [`format_rfc3339`], onto the end of `out`.
pub fn write_rfc3339(at: Timestamp, out: &mut String) {
    const YEAR_0_MS: i64 = -62_167_219_200_000;
    const YEAR_9999_END_MS: i64 = 253_402_300_799_999;
    let ms = at.as_millis().clamp(YEAR_0_MS, YEAR_9999_END_MS);
    let (year, month, day) = civil_from_days(ms.div_euclid(DAY_MS));
    let of_day = ms.rem_euclid(DAY_MS);
    let (hour, minute, second, milli) = (
        of_day / 3_600_000,
        of_day / 60_000 % 60,
        of_day / 1_000 % 60,
        of_day % 1_000,
    );
    // Writing to a string can't fail.
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"
    );
}

/// A time at the start of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leading {
    pub(crate) at: Timestamp,
    /// Its length.
    pub(crate) bytes: usize,
    /// Whether it named its zone.
    pub(crate) zoned: bool,
}

/// The date and time that `text` starts with, if it does.
pub(crate) fn leading(text: &str) -> Option<Leading> {
    let b = text.as_bytes();
    if b.len() < 19 || b[4] != b'-' || b[7] != b'-' || b[13] != b':' || b[16] != b':' || !b"Tt ".contains(&b[10]) {
        return None;
    }
    let (year, month, day) = (digits(&b[..4])?, digits(&b[5..7])?, digits(&b[8..10])?);
    let (hour, minute, second) = (digits(&b[11..13])?, digits(&b[14..16])?, digits(&b[17..19])?);
    if !(1..=12).contains(&month)
        || !(1..=days_in(year, month)).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let (milli, after_fraction) = fraction(b, 19);
    let (offset_ms, bytes, zoned) = zone(b, after_fraction)?;
    let of_day = hour * 3_600_000 + minute * 60_000 + second.min(59) * 1_000 + milli;
    let at = Timestamp::from_millis(days_from_civil(year, month, day) * DAY_MS + of_day - offset_ms);
    at.is_plausible().then_some(Leading { at, bytes, zoned })
}

/// A time without a zone at the start of a text, as syslog writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Yearless {
    /// `None` where nobody says in which year.
    pub(crate) at: Option<Timestamp>,
    /// Its length.
    pub(crate) bytes: usize,
}

/// Clocks do not differ by more than this, but zones do.
const AHEAD_MS: i64 = 5 * 60_000;
const HALF_HOUR_MS: i64 = 30 * 60_000;
/// The easternmost zone.
const EAST_MS: i64 = 14 * 3_600_000;

/// `Jan 31 12:00:00`, also with a year after the day or the time and with a fraction, if `text` starts with it. The year is that in
/// which the time is nearest to `near`; one that is ahead of the log's own time is taken for a local time of
/// the east.
pub(crate) fn leading_yearless(text: &str, near: Option<Near>) -> Option<Yearless> {
    const MONTHS: [&[u8]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
    ];
    let b = text.as_bytes();
    if b.len() < 15 || b[3] != b' ' {
        return None;
    }
    let month = (1..).zip(MONTHS).find(|(_, name)| *name == &b[..3])?.0;
    let mut at = if b[4] == b' ' { 5 } else { 4 };
    let day = number(b, &mut at, 2)?;
    if b.get(at) != Some(&b' ') {
        return None;
    }
    at += 1;
    let mut year = None;
    if let Some(found) = b.get(at..at + 4).and_then(digits)
        && b.get(at + 4) == Some(&b' ')
    {
        (year, at) = (Some(found), at + 5);
    }
    let clock = b.get(at..at + 8)?;
    if clock[2] != b':' || clock[5] != b':' {
        return None;
    }
    let (hour, minute, second) = (digits(&clock[..2])?, digits(&clock[3..5])?, digits(&clock[6..])?);
    if !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (milli, end) = fraction(b, at + 8);
    let of_day = hour * 3_600_000 + minute * 60_000 + second.min(59) * 1_000 + milli;
    let in_year = |year: i64| {
        let at = Timestamp::from_millis(days_from_civil(year, month, day) * DAY_MS + of_day);
        (day <= days_in(year, month) && at.is_plausible()).then_some(at)
    };
    let found = match (year, near) {
        (Some(year), _) => in_year(year),
        (None, Some(known)) => {
            let near = known.at();
            let (year, ..) = civil_from_days(near.as_millis().div_euclid(DAY_MS));
            let nearest = [year - 1, year, year + 1].into_iter().filter_map(in_year);
            nearest.min_by_key(|at| (*at - near).abs()).map(|at| {
                let ahead = at - near - AHEAD_MS;
                if matches!(known, Near::Record(_)) && (1..=EAST_MS).contains(&ahead) {
                    at - (ahead + HALF_HOUR_MS - 1).div_euclid(HALF_HOUR_MS) * HALF_HOUR_MS
                } else {
                    at
                }
            })
        }
        (None, None) => None,
    };
    Some(Yearless { at: found, bytes: end })
}

/// A number of at most `digits_max` digits at `at`, which moves behind it.
fn number(b: &[u8], at: &mut usize, digits_max: usize) -> Option<i64> {
    let count = b
        .get(*at..)?
        .iter()
        .take(digits_max)
        .take_while(|c| c.is_ascii_digit())
        .count();
    let found = (count > 0).then(|| digits(&b[*at..*at + count]))?;
    *at += count;
    found
}

/// Milliseconds of the fraction at byte `start`, and where it ends. A separator without a digit is no fraction.
fn fraction(b: &[u8], start: usize) -> (i64, usize) {
    if !matches!(b.get(start), Some(b'.' | b',')) {
        return (0, start);
    }
    let first = start + 1;
    let count = b[first..].iter().take_while(|c| c.is_ascii_digit()).count();
    let milli = (0..3).fold(0, |sum, i| {
        sum * 10 + if i < count { i64::from(b[first + i] - b'0') } else { 0 }
    });
    (milli, if count == 0 { start } else { first + count })
}

/// Offset of the zone at `start` in milliseconds, where it ends, and whether there is one. `None` for an impossible one.
fn zone(b: &[u8], start: usize) -> Option<(i64, usize, bool)> {
    let sign = match b.get(start) {
        Some(b'Z' | b'z') => return Some((0, start + 1, true)),
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Some((0, start, false)),
    };
    let (minutes_at, end) = if b.get(start + 3) == Some(&b':') {
        (start + 4, start + 6)
    } else {
        (start + 3, start + 5)
    };
    let hours = b.get(start + 1..start + 3).and_then(digits);
    let minutes = b.get(minutes_at..end).and_then(digits);
    match (hours, minutes) {
        (Some(h @ 0..=23), Some(m @ 0..=59)) => Some((sign * (h * 3_600_000 + m * 60_000), end, true)),
        (Some(_), Some(_)) => None,
        // A dash that is no offset ends the time, as in `2026-01-31 12:00:00-message`.
        _ => Some((0, start, false)),
    }
}

fn digits(b: &[u8]) -> Option<i64> {
    b.iter()
        .try_fold(0, |sum, c| c.is_ascii_digit().then(|| sum * 10 + i64::from(c - b'0')))
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01; years start in March, so that the leap day is the last.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a day since 1970-01-01.
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * day_of_year + 2) / 153;
    let month = if m < 10 { m + 3 } else { m - 9 };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day_of_year - (153 * m + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts() {
        let noon = Some(1_769_860_800_000);
        let cases = [
            ("2026-01-31T12:00:00Z", noon, noon),
            ("2026-01-31t12:00:00z", noon, noon),
            ("2026-01-31 12:00:00Z", noon, noon),
            ("2026-01-31T13:30:00+01:30", noon, noon),
            ("2026-01-31T11:00:00-0100", noon, noon),
            (
                "2026-01-31T12:00:00.1239999999999Z",
                Some(1_769_860_800_123),
                Some(1_769_860_800_123),
            ),
            (
                "2026-01-31T12:00:00.5Z",
                Some(1_769_860_800_500),
                Some(1_769_860_800_500),
            ),
            ("2016-12-31T23:59:60Z", Some(1_483_228_799_000), Some(1_483_228_799_000)),
            ("2000-02-29T00:00:00Z", Some(951_782_400_000), Some(951_782_400_000)),
            ("1970-01-01T00:00:00Z", Some(0), Some(0)),
            (
                "9999-12-30T22:00:00Z",
                Some(253_402_207_200_000),
                Some(253_402_207_200_000),
            ),
            // Only the wider reader takes these.
            ("2026-01-31 12:00:00", None, noon),
            ("2026-01-31T12:00:00,250", None, Some(1_769_860_800_250)),
            (" 2026-01-31 12:00:00 ", None, noon),
            ("1769860800", None, noon),
            ("1769860800.25", None, Some(1_769_860_800_250)),
            ("1769860800000", None, noon),
            // Nobody takes these.
            ("", None, None),
            ("2026-01-31", None, None),
            ("2026-01-31T12:00", None, None),
            ("2026-01-31T12:00:00Zjunk", None, None),
            ("2026-01-31T12:00:00.Z", None, None),
            ("2026-01-31T12:00:00+25:00", None, None),
            ("2026-02-29T12:00:00Z", None, None),
            ("1900-02-29T12:00:00Z", None, None),
            ("2026-13-01T12:00:00Z", None, None),
            ("2026-00-01T12:00:00Z", None, None),
            ("2026-01-00T12:00:00Z", None, None),
            ("2026-01-31T24:00:00Z", None, None),
            ("2026-01-31T12:60:00Z", None, None),
            ("2026-01-31T12:00:61Z", None, None),
            ("1969-12-31T23:59:59Z", None, None),
            ("9999-12-31T00:00:00Z", None, None),
            ("+026-01-31T12:00:00Z", None, None),
            ("2026-01-31T12:00:00é", None, None),
            ("NaN", None, None),
            ("inf", None, None),
            ("-1", None, None),
        ];
        for (text, rfc3339, any) in cases {
            assert_eq!(
                parse_rfc3339(text).map(Timestamp::as_millis),
                rfc3339,
                "{text} as RFC 3339"
            );
            assert_eq!(parse(text).map(Timestamp::as_millis), any, "{text}");
        }
    }

    #[test]
    fn epochs_tell_their_unit_by_their_size() {
        let cases = [
            (0, Some(0)),
            (99_999_999_999, Some(99_999_999_999_000)),
            (100_000_000_000, Some(100_000_000_000)),
            (99_999_999_999_999, Some(99_999_999_999_999)),
            (100_000_000_000_000, Some(100_000_000_000)),
            (99_999_999_999_999_999, Some(99_999_999_999_999)),
            (100_000_000_000_000_000, Some(100_000_000_000)),
            (i64::MAX, Some(9_223_372_036_854)),
            (-1, None),
            (i64::MIN, None),
        ];
        for (n, expected) in cases {
            assert_eq!(from_epoch(n).map(Timestamp::as_millis), expected, "{n}");
        }
        for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.001, 1e300] {
            assert_eq!(from_epoch_f64(x), None, "{x}");
        }
        assert_eq!(
            from_epoch_f64(1_458_229_140.123),
            Some(Timestamp::from_millis(1_458_229_140_123))
        );
    }

    #[test]
    fn instants_that_rfc_3339_cannot_say_become_the_nearest() {
        assert_eq!(format_rfc3339(Timestamp::MIN), "0000-01-01T00:00:00.000Z");
        assert_eq!(
            format_rfc3339(Timestamp::from_millis(i64::MAX)),
            "9999-12-31T23:59:59.999Z"
        );
        assert_eq!(format_rfc3339(Timestamp::EARLIEST), "1970-01-01T00:00:00.000Z");
    }

    proptest! {
        #[test]
        fn agrees_with_a_calendar(ms in 0i64..253_402_207_200_000) {
            let ours = format_rfc3339(Timestamp::from_millis(ms));
            let theirs = jiff::Timestamp::from_millisecond(ms).unwrap();
            prop_assert_eq!(&ours, &format!("{theirs:.3}"));
            prop_assert_eq!(parse_rfc3339(&ours), Some(Timestamp::from_millis(ms)));
        }

        #[test]
        fn accepts_only_what_a_calendar_accepts(text in r"(19|20|99)[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{1,9})?(Z|[+-][0-2][0-9]:[0-6][0-9])") {
            if let Some(ours) = parse_rfc3339(&text) {
                let theirs: jiff::Timestamp = text.parse().unwrap();
                prop_assert_eq!(ours.as_millis(), theirs.as_millisecond());
            }
        }

        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = (parse(&text), parse_rfc3339(&text), leading(&text));
        }
    }
}
