//! When a bounded resource runs out: time to the limit where a series keeps going towards it, further than it ever went.
//!
//! Sixteen averages on each of four time scales (1, 4, 16 and 64 windows an average). A scale says something where its averages
//! rise nearly without exception (Mann–Kendall, z ≥ 3.5; Mann, Econometrica 13, 1945) and the last is beyond all that left the
//! scale before: a saw that falls back each time says nothing once one tooth was seen. The pace is the median of all slopes
//! (Theil–Sen; Sen, JASA 63, 1968); the soonest answer of the scales counts. What led to a failure does not become usual: the
//! averages at hand are dropped, and not remembered as a height that was harmless.
//!
//! **Fails** for the first tooth of a saw, for what leaps to its limit in less than a dozen windows, and for limits that nobody
//! states. **Cost:** O(1) a window, 120 comparisons and slopes where an average is complete; 700 bytes a bounded series.

use foreshock_domain::Millis;
use serde::{Deserialize, Serialize};

use crate::glob::Glob;

/// Averages of a scale.
const POINTS: usize = 16;
/// Windows an average of each scale.
const SCALES: [u32; 4] = [1, 4, 16, 64];
/// Mann–Kendall's z from which a course is one.
const Z_MIN: f64 = 3.5;
/// Averages that must have left a scale before it knows what is usual: as long as it looks at.
const PAST_MIN: u32 = 16;
/// Windows in a row that must say so.
const CONFIRM: u32 = 2;
/// It is over when the time left is this many times the horizon.
const CALM: f64 = 2.0;
/// Share of the way from its usual height to the limit that must be gone: what has hardly begun is not told.
const GONE_MIN: f64 = 0.2;

/// Table `exhaustion` of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExhaustionConfig {
    /// Seconds: what runs out sooner is told, of grade `watch`. 0: nothing is. Default one hour.
    pub horizon_s: u64,
    /// Whether the limits that names state are taken for such. Default true.
    pub by_name: bool,
    /// Further resources.
    pub resource: Vec<Resource>,
}

/// A series and what it can't pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// Metric name without labels; `*` and `?` allowed.
    pub series: Glob,
    /// In the unit of the series. Approached from below, or, where the series is above it, from above.
    pub limit: f64,
}

impl Default for ExhaustionConfig {
    fn default() -> Self {
        Self {
            horizon_s: 3_600,
            by_name: true,
            resource: Vec::new(),
        }
    }
}

/// Endings of names that state a limit: shares in percent, and what is left of something.
const BY_NAME: [(&str, f64); 8] = [
    ("used_percent", 100.0),
    ("usage_percent", 100.0),
    ("free_percent", 0.0),
    ("available_percent", 0.0),
    ("free_bytes", 0.0),
    ("avail_bytes", 0.0),
    ("available_bytes", 0.0),
    ("MemAvailable_bytes", 0.0),
];

impl ExhaustionConfig {
    /// The limit of a series, if it has one. `name` may carry labels.
    #[must_use]
    pub fn limit(&self, name: &str) -> Option<f64> {
        if self.horizon_s == 0 {
            return None;
        }
        let metric = name.split('{').next().unwrap_or(name);
        let told = self.resource.iter().find(|r| r.series.matches(metric)).map(|r| r.limit);
        let by_name = || {
            BY_NAME
                .iter()
                .find(|(end, _)| metric.ends_with(end))
                .map(|(_, limit)| *limit)
        };
        told.or_else(|| self.by_name.then(by_name).flatten())
    }

    /// The horizon in milliseconds.
    #[must_use]
    pub fn horizon_ms(&self) -> Millis {
        i64::try_from(self.horizon_s)
            .unwrap_or(i64::MAX / 1_000)
            .saturating_mul(1_000)
    }
}

/// The course of one bounded series.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Course {
    limit: f64,
    scales: [Scale; SCALES.len()],
    /// Windows in a row in which it runs out within the horizon.
    soon: u32,
    open: bool,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Scale {
    points: [f64; POINTS],
    held: usize,
    sum: f64,
    summed: u32,
    /// Averages that have left, and the closest to the limit of them.
    past: u32,
    closest: f64,
    /// Windows to the limit, by the last average; `None` where there is no course.
    left: Option<f64>,
}

impl Course {
    /// Of a series with this limit.
    #[must_use]
    pub fn new(limit: f64) -> Self {
        Self {
            limit,
            scales: [Scale::default(); SCALES.len()],
            soon: 0,
            open: false,
        }
    }

    /// What it can't pass.
    #[must_use]
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// Takes a window's value. Milliseconds until the limit is reached, where that is within the horizon; while it was told, within
    /// twice that.
    pub fn step(&mut self, value: f64, width_ms: Millis, horizon_ms: Millis) -> Option<Millis> {
        if !value.is_finite() {
            return None;
        }
        // How far it is from the limit; a course goes down to 0, whichever way the series goes.
        let distance = (self.limit - value).abs();
        let mut left: Option<f64> = None;
        for (scale, windows) in self.scales.iter_mut().zip(SCALES) {
            scale.step(distance, windows);
            left = [left, scale.left].into_iter().flatten().reduce(f64::min);
        }
        #[allow(clippy::cast_precision_loss)] // milliseconds of a horizon
        let (width, horizon) = (width_ms as f64, horizon_ms as f64);
        let left_ms = left.map(|windows| windows * width);
        self.soon = match left_ms {
            Some(ms) if ms <= horizon => self.soon.saturating_add(1),
            _ => 0,
        };
        self.open = self.soon >= CONFIRM || (self.open && left_ms.is_some_and(|ms| ms <= CALM * horizon));
        #[allow(clippy::cast_possible_truncation)] // below twice the horizon
        left_ms.filter(|_| self.open).map(|ms| ms as Millis)
    }

    /// The entity has failed: what led there must not become usual.
    pub fn failed(&mut self) {
        for scale in &mut self.scales {
            (scale.held, scale.sum, scale.summed, scale.left) = (0, 0.0, 0, None);
        }
        (self.soon, self.open) = (0, false);
    }
}

impl Scale {
    fn step(&mut self, distance: f64, windows: u32) {
        self.sum += distance;
        self.summed += 1;
        if self.summed < windows {
            // Between averages time goes on.
            self.left = self.left.map(|l| (l - 1.0).max(0.0));
            return;
        }
        let average = self.sum / f64::from(windows);
        (self.sum, self.summed) = (0.0, 0);
        if self.held == POINTS {
            let gone = self.points[0];
            self.closest = if self.past == 0 { gone } else { self.closest.min(gone) };
            self.past = self.past.saturating_add(1);
            self.points.copy_within(1.., 0);
            self.held -= 1;
        }
        self.points[self.held] = average;
        self.held += 1;
        self.left = self.course().map(|averages| averages * f64::from(windows));
    }

    /// Averages until the distance is 0.
    fn course(&self) -> Option<f64> {
        let last = *self.points[..self.held].last()?;
        if self.held < POINTS || self.past < PAST_MIN || last >= self.closest * (1.0 - GONE_MIN) {
            return None;
        }
        let mut falls = 0_i32;
        let mut slopes = [0.0; POINTS * (POINTS - 1) / 2];
        let mut n = 0;
        for i in 0..POINTS {
            for j in i + 1..POINTS {
                let fall = self.points[i] - self.points[j];
                falls += match fall.total_cmp(&0.0) {
                    std::cmp::Ordering::Greater => 1,
                    std::cmp::Ordering::Less => -1,
                    std::cmp::Ordering::Equal => 0,
                };
                #[allow(clippy::cast_precision_loss)] // at most 15
                {
                    slopes[n] = fall / (j - i) as f64;
                }
                n += 1;
            }
        }
        #[allow(clippy::cast_precision_loss)] // 16
        let points = POINTS as f64;
        let spread = (points * (points - 1.0) * (2.0 * points + 5.0) / 18.0).sqrt();
        if f64::from(falls) < Z_MIN * spread {
            return None;
        }
        let middle = slopes.len() / 2;
        let (_, slope, _) = slopes.select_nth_unstable_by(middle, f64::total_cmp);
        (*slope > 0.0).then(|| last / *slope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH_MS: Millis = 10_000;
    const HORIZON_MS: Millis = 3_600_000;

    fn noise(i: u32) -> f64 {
        f64::from(i.wrapping_mul(2_654_435_761) >> 16) / 65_536.0 - 0.5
    }

    /// What is told at each window.
    fn told(limit: f64, values: impl Iterator<Item = f64>) -> Vec<Option<Millis>> {
        let mut course = Course::new(limit);
        values.map(|v| course.step(v, WIDTH_MS, HORIZON_MS)).collect()
    }

    #[test]
    fn a_leak_is_told_with_the_time_that_is_left() {
        // Flat for an hour, then 1 a window towards 500 above it.
        let told = told(
            600.0,
            (0..800_u32).map(|i| 100.0 + noise(i) + f64::from(i.saturating_sub(360))),
        );
        let first = told.iter().position(Option::is_some).unwrap();
        assert!((360 + 80..360 + 200).contains(&first), "{first}");
        let left = told[first].unwrap() / WIDTH_MS;
        let truly = 860 - i64::try_from(first).unwrap();
        assert!((left - truly).abs() < truly / 10, "{left} where {truly} are left");
        assert!(told[first..].iter().all(Option::is_some));
    }

    #[test]
    fn what_is_left_of_something_falls_to_nothing() {
        let falls = |i: u32| 1e9 - 1.5e6 * f64::from(i.saturating_sub(900)) + 1e5 * noise(i);
        assert!(told(0.0, (0..1_300).map(falls))[1_299].is_some());
    }

    #[test]
    fn harmless_courses_by_case() {
        type Case = (&'static str, fn(u32) -> f64);
        let cases: [Case; 5] = [
            ("flat", |i| 50.0 + noise(i)),
            ("a saw that was seen before", |i| 20.0 + f64::from(i % 100) * 0.6),
            ("a day", |i| 50.0 + 20.0 * (f64::from(i) / 400.0).sin()),
            ("steps up and stays", |i| if i < 500 { 20.0 } else { 80.0 } + noise(i)),
            ("so slow that it takes days", |i| 20.0 + f64::from(i) * 0.001 + noise(i)),
        ];
        for (name, value) in cases {
            // The first tooth is not known to be one.
            let told = told(100.0, (0..4_000).map(value));
            let from = told.iter().skip(400).position(Option::is_some);
            assert_eq!(from, None, "{name}");
        }
    }

    #[test]
    fn a_second_leak_is_told_as_the_first_was() {
        let mut course = Course::new(600.0);
        let mut firsts = Vec::new();
        for round in 0..3_u32 {
            let mut first = None;
            for i in 0..700_u32 {
                let value = 100.0 + noise(round * 1_000 + i) + f64::from(i.saturating_sub(360)) * 1.4;
                if course.step(value, WIDTH_MS, HORIZON_MS).is_some() {
                    first.get_or_insert(i);
                }
            }
            course.failed();
            firsts.push(first.unwrap());
        }
        assert!(firsts.iter().all(|f| f.abs_diff(firsts[0]) < 60), "{firsts:?}");
    }

    #[test]
    fn odd_values_do_no_harm() {
        let mut course = Course::new(100.0);
        for value in [f64::NAN, f64::INFINITY, f64::MAX, f64::MIN, 0.0, -0.0] {
            for _ in 0..200 {
                let left = course.step(value, WIDTH_MS, HORIZON_MS);
                assert!(left.is_none_or(|ms| ms >= 0));
            }
        }
    }

    #[test]
    fn limits_by_name() {
        let config: ExhaustionConfig = toml::from_str("[[resource]]\nseries = \"*num_fds\"\nlimit = 96").unwrap();
        let cases = [
            ("procstat_num_fds{host=a}", Some(96.0)),
            ("disk_used_percent{path=/}", Some(100.0)),
            ("shop_volume_free_bytes", Some(0.0)),
            ("cpu_usage_user", None),
        ];
        for (name, expected) in cases {
            assert_eq!(config.limit(name), expected, "{name}");
        }
        let off = ExhaustionConfig { horizon_s: 0, ..config };
        assert_eq!(off.limit("disk_used_percent"), None);
    }
}
