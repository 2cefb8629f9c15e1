//! What one window's lines have at one place of a template: how many numbers, their sum and range, and which values if they are few.
//!
//! Cost: a few additions and, where values are counted, a scan of at most 17 hashes a line; nothing is allocated but for the first
//! values of a window.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::value_set::SET_VALUES_MAX;
use crate::{LineValue, Number, Unit};

/// Bytes of a value that is kept to be shown.
const SHOWN_BYTES_MAX: usize = 64;

/// The values of one place in one window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ValueTally {
    /// Lines with a value at this place.
    pub lines: u32,
    /// Those whose value is a number in the unit of the place.
    pub numbers: u32,
    /// All numbers are whole.
    pub is_whole: bool,
    /// Unit of the numbers.
    pub unit: Unit,
    sum: f64,
    squares: f64,
    /// Least and greatest number.
    pub least: f64,
    /// See `least`.
    pub greatest: f64,
    /// The last to arrive.
    pub last: f64,
    /// Numbers that were above, and below, the one before.
    pub rises: u32,
    /// See `rises`.
    pub falls: u32,
    /// Hash and lines of each value; as long as there are at most 17.
    pub values: Vec<(u64, u32)>,
    /// Lines whose value is none of these.
    pub others: u32,
    /// The first value that was not known, where raw text may leave.
    pub shown: Option<Box<str>>,
    /// The key at the place, as far as it may be shown; only while the place is new.
    pub key: Option<Box<str>>,
    /// Whether the key says that this is a name.
    pub is_name: bool,
}

impl ValueTally {
    /// Of a place whose numbers have this unit; where that is not known yet, the first number says.
    #[must_use]
    pub fn new(unit: Option<Unit>, value: &LineValue<'_>) -> Self {
        Self {
            is_whole: true,
            unit: unit.or(value.number.map(|n| n.unit)).unwrap_or_default(),
            ..Self::default()
        }
    }

    /// Counts a number, or a value that is none.
    pub fn add_number(&mut self, number: Option<Number>) {
        self.lines = self.lines.saturating_add(1);
        let Some(value) = number.and_then(|n| n.in_unit(self.unit)) else {
            return;
        };
        if self.numbers == 0 {
            (self.least, self.greatest) = (value, value);
        } else {
            self.least = self.least.min(value);
            self.greatest = self.greatest.max(value);
            self.rises = self.rises.saturating_add(u32::from(value > self.last));
            self.falls = self.falls.saturating_add(u32::from(value < self.last));
        }
        self.numbers = self.numbers.saturating_add(1);
        self.is_whole &= value.fract() == 0.0;
        self.sum += value;
        self.squares += value * value;
        self.last = value;
    }

    /// Counts a value, whatever it is, by its [`value_hash`].
    pub fn add_value(&mut self, hash: u64) {
        if let Some((_, count)) = self.values.iter_mut().find(|(known, _)| *known == hash) {
            *count = count.saturating_add(1);
        } else if self.values.len() <= SET_VALUES_MAX {
            self.values.push((hash, 1));
        } else {
            self.others = self.others.saturating_add(1);
        }
    }

    /// Keeps a value to show it.
    pub fn show(&mut self, text: &[u8]) {
        if self.shown.is_none() {
            let text = String::from_utf8_lossy(text.get(..SHOWN_BYTES_MAX).unwrap_or(text));
            self.shown = Some(foreshock_domain::text::printable(&text).into());
        }
    }

    /// Mean of the numbers; NaN where there is none. Within their range, which rounding could leave.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.numbers == 0 {
            return f64::NAN;
        }
        (self.sum / f64::from(self.numbers)).clamp(self.least, self.greatest)
    }

    /// Sum of the numbers, and of their squares.
    pub(crate) fn sums(&self) -> (f64, f64) {
        (self.sum, self.squares)
    }

    /// Takes in the lines of a template that merged into this one. Those of another unit count as no numbers.
    pub fn absorb(&mut self, other: Self) {
        self.lines = self.lines.saturating_add(other.lines);
        for (hash, count) in other.values {
            let has_room = self.values.len() <= SET_VALUES_MAX;
            match self.values.iter_mut().find(|(known, _)| *known == hash) {
                Some((_, mine)) => *mine = mine.saturating_add(count),
                None if has_room => self.values.push((hash, count)),
                None => self.others = self.others.saturating_add(count),
            }
        }
        self.others = self.others.saturating_add(other.others);
        self.shown = self.shown.take().or(other.shown);
        self.is_name |= other.is_name;
        if other.numbers == 0 || other.unit != self.unit {
            return;
        }
        if self.numbers == 0 {
            (self.least, self.greatest) = (other.least, other.greatest);
        }
        self.least = self.least.min(other.least);
        self.greatest = self.greatest.max(other.greatest);
        self.rises = self.rises.saturating_add(other.rises);
        self.falls = self.falls.saturating_add(other.falls);
        self.numbers = self.numbers.saturating_add(other.numbers);
        self.is_whole &= other.is_whole;
        self.sum += other.sum;
        self.squares += other.squares;
        self.last = other.last;
    }
}

/// What a value is known by.
#[must_use]
pub fn value_hash(text: &[u8]) -> u64 {
    xxh3_64(text)
}
