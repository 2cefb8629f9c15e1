//! Numbers in lines: `12`, `-3.5,`, `took=12ms`, `(1.05 KB)`, `1m2.5s`, `99.5%`, with the unit where one is written.
//!
//! What is no quantity is no number: hexadecimal, dates, times of day, addresses, versions, numbers with a leading zero or of more than
//! fifteen digits, words that hold a digit. Fails on numbers with thousands separators (`1,234` is none) and on `m`, which is
//! a minute here and may be a metre. Cost: one pass over the word, some 10 ns; nothing is allocated. Powers of ten up to 22 are exact in
//! an `f64`, so a quotient of two whole numbers below 2^53 is the nearest number to what was written (Clinger, PLDI 1990, section 3).

use serde::{Deserialize, Serialize};

/// Digits beyond which a whole number is an id.
const DIGITS_MAX: usize = 15;
/// Larger numbers are none.
pub(crate) const LARGEST: f64 = 1e15;
/// Powers of ten that are exact.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];
/// Parts of a duration: days, hours, minutes, seconds.
const PARTS_MAX: usize = 4;

/// Unit of a number, where it is written beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Unit {
    /// None is written.
    #[default]
    None,
    /// Nanoseconds.
    Nanosecond,
    /// Microseconds.
    Microsecond,
    /// Milliseconds.
    Millisecond,
    /// Seconds.
    Second,
    /// Minutes.
    Minute,
    /// Hours.
    Hour,
    /// Bytes.
    Byte,
    /// 1,024 bytes, however it is written.
    Kibibyte,
    /// 1,024 of these.
    Mebibyte,
    /// 1,024 of these.
    Gibibyte,
    /// 1,024 of these.
    Tebibyte,
    /// Hundredths.
    Percent,
}

/// What units measure; those of one family can be turned into each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Pure,
    Time,
    Size,
    Share,
}

impl Unit {
    /// As it is shown behind a number.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Nanosecond => "ns",
            Self::Microsecond => "us",
            Self::Millisecond => "ms",
            Self::Second => "s",
            Self::Minute => "min",
            Self::Hour => "h",
            Self::Byte => "B",
            Self::Kibibyte => "KB",
            Self::Mebibyte => "MB",
            Self::Gibibyte => "GB",
            Self::Tebibyte => "TB",
            Self::Percent => "%",
        }
    }

    fn of(word: &[u8]) -> Option<Self> {
        Some(match word {
            b"" => Self::None,
            b"ns" => Self::Nanosecond,
            b"us" | b"\xc2\xb5s" | b"\xce\xbcs" => Self::Microsecond,
            b"ms" | b"msec" | b"msecs" | b"millis" => Self::Millisecond,
            b"s" | b"sec" | b"secs" => Self::Second,
            b"m" | b"min" => Self::Minute,
            b"h" => Self::Hour,
            b"B" | b"bytes" => Self::Byte,
            b"k" | b"K" | b"kB" | b"KB" | b"KiB" => Self::Kibibyte,
            b"M" | b"MB" | b"MiB" => Self::Mebibyte,
            b"G" | b"GB" | b"GiB" => Self::Gibibyte,
            b"TB" | b"TiB" => Self::Tebibyte,
            b"%" => Self::Percent,
            _ => return None,
        })
    }

    /// Family, and how many of its smallest unit this is.
    fn scale(self) -> (Family, f64) {
        match self {
            Self::None => (Family::Pure, 1.0),
            Self::Nanosecond => (Family::Time, 1.0),
            Self::Microsecond => (Family::Time, 1e3),
            Self::Millisecond => (Family::Time, 1e6),
            Self::Second => (Family::Time, 1e9),
            Self::Minute => (Family::Time, 6e10),
            Self::Hour => (Family::Time, 3.6e12),
            Self::Byte => (Family::Size, 1.0),
            Self::Kibibyte => (Family::Size, 1_024.0),
            Self::Mebibyte => (Family::Size, 1_048_576.0),
            Self::Gibibyte => (Family::Size, 1_073_741_824.0),
            Self::Tebibyte => (Family::Size, 1_099_511_627_776.0),
            Self::Percent => (Family::Share, 1.0),
        }
    }
}

/// A number as a line has it; finite, and no larger than 10^15.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number {
    /// In its unit.
    pub value: f64,
    /// Its unit.
    pub unit: Unit,
}

impl Number {
    /// Its value in another unit; `None` where the two measure different things. Zero is zero in every unit.
    #[must_use]
    pub fn in_unit(self, unit: Unit) -> Option<f64> {
        if self.unit == unit || self.value == 0.0 {
            return Some(self.value);
        }
        let ((family, from), (wanted, to)) = (self.unit.scale(), unit.scale());
        let value = if from >= to {
            self.value * (from / to)
        } else {
            self.value / (to / from)
        };
        (family == wanted && value.abs() <= LARGEST).then_some(value)
    }

    /// Reads a word; `after` is the word behind it, which may be its unit. Gives back whether it is.
    pub(crate) fn read(word: &[u8], after: Option<&[u8]>) -> Option<(Self, bool)> {
        let (value, rest) = quantity(word)?;
        if rest.is_empty() {
            let unit = after.filter(|a| a.len() <= 8).map(bare).and_then(Unit::of);
            let unit = unit.filter(|unit| *unit != Unit::None);
            let number = Self {
                value,
                unit: unit.unwrap_or_default(),
            };
            return Some((number, unit.is_some()));
        }
        if let Some(unit) = Unit::of(rest) {
            return Some((Self { value, unit }, false));
        }
        duration(word).map(|number| (number, false))
    }
}

/// `1m2.5s`: in its last unit, that of the finest part.
fn duration(word: &[u8]) -> Option<Number> {
    let mut rest = word;
    let mut sum = 0.0;
    for _ in 0..PARTS_MAX {
        let (value, after) = quantity(rest)?;
        let length = after.iter().position(u8::is_ascii_digit).unwrap_or(after.len());
        let (unit, next) = after.split_at(length);
        let unit = Unit::of(unit)?;
        let (family, scale) = unit.scale();
        if family != Family::Time {
            return None;
        }
        sum += value * scale;
        if next.is_empty() {
            let value = sum / scale;
            return (value.abs() <= LARGEST).then_some(Number { value, unit });
        }
        rest = next;
    }
    None
}

/// A decimal number at the head of a word, and what follows it.
fn quantity(word: &[u8]) -> Option<(f64, &[u8])> {
    let (negative, digits) = match word.first()? {
        b'-' => (true, word.get(1..)?),
        b'+' => (false, word.get(1..)?),
        _ => (false, word),
    };
    let (mut mantissa, mut length, mut decimals) = (0_u64, 0, 0);
    let mut at = 0;
    let mut point = None;
    while let Some(&b) = digits.get(at) {
        match b {
            b'0'..=b'9' if length < DIGITS_MAX => {
                mantissa = mantissa * 10 + u64::from(b - b'0');
                length += 1;
                decimals += i32::from(point.is_some());
            }
            // Further decimals say nothing more, further digits of a whole number that it is an id.
            b'0'..=b'9' if point.is_some() => {}
            b'.' if point.is_none() && length > 0 && digits.get(at + 1).is_some_and(u8::is_ascii_digit) => {
                point = Some(at);
            }
            b'0'..=b'9' => return None,
            _ => break,
        }
        at += 1;
    }
    let whole = point.unwrap_or(at);
    let leads_with_zero = whole > 1 && digits.first() == Some(&b'0');
    if length == 0 || leads_with_zero {
        return None;
    }
    let mut rest = digits.get(at..)?;
    let mut power = -decimals;
    if let [b'e' | b'E', exponent @ ..] = rest
        && let Some((more, after)) = exponent_of(exponent)
    {
        power += more;
        rest = after;
    }
    let scale = *POWERS.get(power.unsigned_abs() as usize)?;
    #[allow(clippy::cast_precision_loss)] // below 10^15
    let mantissa = mantissa as f64;
    let value = if power < 0 { mantissa / scale } else { mantissa * scale };
    (value <= LARGEST).then_some((if negative { -value } else { value }, rest))
}

fn exponent_of(text: &[u8]) -> Option<(i32, &[u8])> {
    let (sign, digits) = match text.first()? {
        b'-' => (-1, text.get(1..)?),
        b'+' => (1, text.get(1..)?),
        _ => (1, text),
    };
    let length = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(1..=2).contains(&length) {
        return None;
    }
    let power = digits.iter().take(length).fold(0, |p, b| p * 10 + i32::from(b - b'0'));
    Some((sign * power, digits.get(length..)?))
}

/// A word without the brackets, quotes and stops around it.
pub(crate) fn bare(word: &[u8]) -> &[u8] {
    const BEFORE: &[u8] = b"([{<\"'`~#";
    const AFTER: &[u8] = b")]}>\"'`,;:.!?";
    let start = word.iter().position(|b| !BEFORE.contains(b)).unwrap_or(word.len());
    let word = word.get(start..).unwrap_or_default();
    let end = word.iter().rposition(|b| !AFTER.contains(b)).map_or(0, |last| last + 1);
    word.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(word: &str, after: &str) -> Option<(f64, Unit)> {
        let (number, _) = Number::read(bare(word.as_bytes()), Some(after.as_bytes()))?;
        Some((number.value, number.unit))
    }

    #[test]
    fn numbers_by_case() {
        for (word, after, value, unit) in [
            ("12", "", 12.0, Unit::None),
            ("12", "files", 12.0, Unit::None),
            ("12,", "ms,", 12.0, Unit::Millisecond),
            ("-3.25", "", -3.25, Unit::None),
            ("+7", "", 7.0, Unit::None),
            ("0", "", 0.0, Unit::None),
            ("0.1", "", 0.1, Unit::None),
            ("12ms", "", 12.0, Unit::Millisecond),
            ("(1.05", "KB)", 1.05, Unit::Kibibyte),
            ("850µs", "", 850.0, Unit::Microsecond),
            ("3.4s.", "", 3.4, Unit::Second),
            ("99.5%", "", 99.5, Unit::Percent),
            ("1m2.5s", "", 62.5, Unit::Second),
            ("1h0m5s", "", 3_605.0, Unit::Second),
            ("1.5e-05", "", 1.5e-5, Unit::None),
            ("2e3", "", 2_000.0, Unit::None),
            ("\"200\"", "", 200.0, Unit::None),
            ("123456789012345", "", 123_456_789_012_345.0, Unit::None),
            ("0.12345678901234567890", "", 0.123_456_789_012_34, Unit::None),
        ] {
            assert_eq!(read(word, after), Some((value, unit)), "{word} {after}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_no_number() {
        for word in [
            "",
            "-",
            ".",
            "ms",
            "007",
            "0x1f",
            "1f",
            "12abc",
            "v2",
            "1.2.3",
            "10.0.0.1:80",
            "2026-01-31",
            "12:00:05",
            "1,234",
            "1/3",
            "1234567890123456",
            "deadbeef",
            "1e300",
            "9e99",
            "nan",
            "inf",
            "5MB2",
            "12..5",
            "1_000",
        ] {
            assert_eq!(read(word, ""), None, "{word}");
        }
    }

    #[test]
    fn units_of_a_family_are_turned_into_each_other() {
        let number = |value, unit| Number { value, unit };
        for (from, to, want) in [
            (number(1.5, Unit::Second), Unit::Millisecond, Some(1_500.0)),
            (number(850.0, Unit::Microsecond), Unit::Millisecond, Some(0.85)),
            (number(2.0, Unit::Kibibyte), Unit::Byte, Some(2_048.0)),
            (number(12.3, Unit::Millisecond), Unit::Millisecond, Some(12.3)),
            (number(0.0, Unit::None), Unit::Millisecond, Some(0.0)),
            (number(1.0, Unit::None), Unit::Millisecond, None),
            (number(1.0, Unit::Percent), Unit::Byte, None),
            (number(1e15, Unit::Hour), Unit::Nanosecond, None),
        ] {
            assert_eq!(from.in_unit(to), want, "{from:?} {to:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_read_is_finite_and_what_was_written(word in "[-+]?[0-9]{1,16}(\\.[0-9]{1,12})?(e-?[0-9]{1,3})?[a-z%]{0,3}") {
            if let Some((number, _)) = Number::read(word.as_bytes(), None) {
                proptest::prop_assert!(number.value.abs() <= LARGEST);
                if number.unit == Unit::None && let Ok(value) = word.parse::<f64>() {
                    proptest::prop_assert!((number.value - value).abs() <= value.abs() * 1e-13);
                }
            }
        }

        #[test]
        fn any_text_reads(word in "\\PC*", after in "\\PC*") {
            let _ = Number::read(bare(word.as_bytes()), Some(after.as_bytes()));
        }
    }
}
