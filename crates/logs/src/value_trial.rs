//! What stands at a place of a template: an amount that can be followed as a series, one of a few values, or nothing that could be normal.
//!
//! A place is on trial for [`WINDOWS_MIN`] windows and [`LINES_MIN`] lines or more. Then it is
//! - **growing**, when window by window its mean goes nearly always one way: a counter, a timestamp, a sequence number. Tried again
//!   for twice as long, since a gauge may begin so, and dropped after some 1,000 windows;
//! - an **id**, when the numbers are whole, have no unit, hardly ever repeat and lie evenly over a wide range: around its middle, with a
//!   variance of 1/12 of the range squared, and no further from the even distribution than chance has it (Kolmogorov and Smirnov's distance,
//!   by one number a window). What is measured has a mode, and a range of six spreads or more;
//! - a **set**, when it has at most 16 values and hardly any new one is to be expected (Good–Turing); whole numbers that lie
//!   close together are amounts, and so is what has a unit;
//! - an **amount**, when it is any other number.
//!
//! Fails on ids that are drawn unevenly (frequent users first): their mean is followed as an amount, which is harmless while the mix
//! stays; on two counters that write through one template, which together look like noise; and where a gauge rises all day. Cost: some
//! 30 operations a window; 1 kB, freed when the trial is over.

use foreshock_domain::Learning;
use serde::{Deserialize, Serialize};

use crate::{SET_VALUES_MAX, Unit, ValueSet, ValueTally};

/// Windows and lines of the first trial.
const WINDOWS_MIN: u32 = 32;
const LINES_MIN: u32 = 128;
/// Length of the last trial; a place that nothing can be said of by then is given up.
const WINDOWS_MAX: u32 = 512;
/// Share of lines whose value must be a number for the place to be one.
const NUMBERS_MIN: f64 = 0.98;
/// Changes of the mean before anything can be said to grow.
const CHANGES_MIN: u32 = 12;
/// Share of the way that is progress, where a mean grows: 1 for what only grows, some 0.2 for a random walk.
const PROGRESS: f64 = 0.7;
/// Share of changes from line to line that go one way, where a number grows; a half where it does not.
const ONE_WAY: f64 = 0.8;
/// Variance over range squared between which numbers lie evenly: 1/12, give or take what few lines do to it.
const EVEN: std::ops::Range<f64> = 0.065..0.105;
/// How far their mean may be from the middle of the range, in ranges.
const OFF_CENTRE: f64 = 0.08;
/// Kolmogorov and Smirnov's distance times the root of the numbers, which even ones pass once in a hundred times.
const UNEVEN: f64 = 1.63;
/// Numbers kept to see how they lie, one a window.
const KEPT_MAX: usize = 64;
/// Narrower ranges are no ids'.
const ID_RANGE: f64 = 1_000.0;
/// Share of lines that repeat one of the first 16 values, above which they are no ids.
const REPEATS_MAX: f64 = 0.05;
/// New values in a window to be expected of a set at most.
const UNSETTLED_MAX: f64 = 0.05;
/// Values from which on close whole numbers are an amount.
const CLOSE_MIN: usize = 6;

/// What a place of a template is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// Worth following as a series.
    Amount,
    /// One of a few values.
    Set,
    /// Neither.
    Nothing,
}

/// One place on trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValueTrial {
    windows: u32,
    lines: u32,
    numbers: u32,
    is_whole: bool,
    has_unit: bool,
    least: f64,
    greatest: f64,
    sum: f64,
    squares: f64,
    /// Changes from line to line, within windows.
    rises: u32,
    falls: u32,
    /// Mean of the first and the last window, the way between them, and in how many steps.
    first_mean: Option<f64>,
    last_mean: f64,
    way: f64,
    changes: u32,
    /// The last number of each of the first windows.
    kept: Vec<f64>,
    set: ValueSet,
    is_overfull: bool,
    /// Lines that repeat one of the values of the set.
    repeats: u32,
    /// Windows after which it is judged.
    until: u32,
}

impl Default for ValueTrial {
    fn default() -> Self {
        Self::of(WINDOWS_MIN)
    }
}

impl ValueTrial {
    fn of(until: u32) -> Self {
        Self {
            windows: 0,
            lines: 0,
            numbers: 0,
            is_whole: true,
            has_unit: false,
            least: f64::MAX,
            greatest: f64::MIN,
            sum: 0.0,
            squares: 0.0,
            rises: 0,
            falls: 0,
            first_mean: None,
            last_mean: 0.0,
            way: 0.0,
            changes: 0,
            kept: Vec::new(),
            set: ValueSet::default(),
            is_overfull: false,
            repeats: 0,
            until,
        }
    }

    /// Takes in one window with the place. What it is, once that can be said.
    pub fn learn(&mut self, tally: &ValueTally, learning: Learning) -> Option<ValueKind> {
        if learning == Learning::Paused || tally.lines == 0 {
            return None;
        }
        self.windows = self.windows.saturating_add(1);
        self.lines = self.lines.saturating_add(tally.lines);
        self.learn_values(tally);
        if tally.numbers > 0 {
            self.learn_numbers(tally);
        }
        if self.windows < self.until || self.lines < LINES_MIN {
            return None;
        }
        self.judge()
    }

    /// The values, where they are a set.
    #[must_use]
    pub fn into_set(self) -> ValueSet {
        let mut set = self.set;
        set.settle();
        set
    }

    fn learn_values(&mut self, tally: &ValueTally) {
        for (value, count) in &tally.values {
            let repeats = if self.set.contains(*value) {
                *count
            } else {
                count.saturating_sub(1)
            };
            self.repeats = self.repeats.saturating_add(repeats);
        }
        let fits = tally.values.len() <= SET_VALUES_MAX && self.set.learn(&tally.values, Learning::Normal);
        self.is_overfull |= !fits;
    }

    fn learn_numbers(&mut self, tally: &ValueTally) {
        let (sum, squares) = tally.sums();
        self.numbers = self.numbers.saturating_add(tally.numbers);
        self.is_whole &= tally.is_whole;
        self.has_unit |= tally.unit != Unit::None;
        self.least = self.least.min(tally.least);
        self.greatest = self.greatest.max(tally.greatest);
        self.sum += sum;
        self.squares += squares;
        self.rises = self.rises.saturating_add(tally.rises);
        self.falls = self.falls.saturating_add(tally.falls);
        if self.kept.len() < KEPT_MAX {
            self.kept.push(tally.last);
        }
        let mean = tally.mean();
        if self.first_mean.is_none() {
            self.first_mean = Some(mean);
        } else {
            self.way += (mean - self.last_mean).abs();
            self.changes = self.changes.saturating_add(u32::from(mean != self.last_mean));
        }
        self.last_mean = mean;
    }

    fn judge(&mut self) -> Option<ValueKind> {
        let is_number = f64::from(self.numbers) >= NUMBERS_MIN * f64::from(self.lines);
        if is_number && self.grows() {
            if self.until >= WINDOWS_MAX {
                return Some(ValueKind::Nothing);
            }
            *self = Self::of(self.until.saturating_mul(2));
            return None;
        }
        let few = self.set.len();
        let is_close = self.is_whole && few >= CLOSE_MIN && self.greatest - self.least + 1.0 <= 2.0 * few as f64;
        let is_measured = self.has_unit || !self.is_whole;
        if is_number && (self.is_overfull || (is_measured && few > 2) || is_close) {
            return Some(if self.is_id() {
                ValueKind::Nothing
            } else {
                ValueKind::Amount
            });
        }
        if self.is_overfull {
            return Some(ValueKind::Nothing);
        }
        if self.set.expected() <= UNSETTLED_MAX {
            return Some(ValueKind::Set);
        }
        (self.windows >= WINDOWS_MAX).then_some(ValueKind::Nothing)
    }

    fn grows(&self) -> bool {
        let progress = self.first_mean.map_or(0.0, |first| (self.last_mean - first).abs());
        let by_window = self.changes >= CHANGES_MIN && progress >= PROGRESS * self.way;
        let changes = f64::from(self.rises.max(self.falls));
        let all = f64::from(self.rises.saturating_add(self.falls));
        let by_line = all >= f64::from(LINES_MIN) / 4.0 && changes >= ONE_WAY * all;
        by_window || by_line
    }

    fn is_id(&self) -> bool {
        let n = f64::from(self.numbers);
        let mean = self.sum / n;
        let (variance, range) = (self.squares / n - mean * mean, self.greatest - self.least);
        let off_centre = (mean - f64::midpoint(self.least, self.greatest)).abs() / range;
        let is_unique = f64::from(self.repeats) <= REPEATS_MAX * f64::from(self.lines);
        self.is_whole
            && !self.has_unit
            && range >= ID_RANGE
            && is_unique
            && EVEN.contains(&(variance / (range * range)))
            && off_centre <= OFF_CENTRE
            && self.distance_from_even() <= UNEVEN
    }

    fn distance_from_even(&self) -> f64 {
        let mut kept = self.kept.clone();
        kept.sort_unstable_by(f64::total_cmp);
        let n = kept.len() as f64;
        let distance = |(i, number): (usize, &f64)| {
            let even = (number - self.least) / (self.greatest - self.least);
            (even - i as f64 / n).max((i + 1) as f64 / n - even)
        };
        kept.iter().enumerate().map(distance).fold(0.0, f64::max) * n.sqrt()
    }
}

#[cfg(test)]
mod tests;
