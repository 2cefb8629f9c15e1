//! Features of one entity, online: each of its series against its own past.
//!
//! A value is compressed by sign(x)·ln(1+|x|) and compared with the entity's own slowly learned mean and spread, so that hosts of
//! different size pool. Four numbers a series: the distance of the value, that of a short average, how the short average stands to a
//! long one (its slope), and whether it is missing. What an entity says besides its series (lines, how surprised its models
//! are) is taken as series too. While the entity fails nothing is learned, and a value far from what is usual teaches little: a
//! growing fault does not become normal.
//!
//! Fails where the first minutes are not usual themselves, and for what only several series together show; that is a signal of
//! the entity's model and comes in by its surprise. Cost per window and series: some 20 flops; 48 bytes a series.

use std::collections::BTreeMap;

use foreshock_domain::{EntityWindow, Source};
use serde::{Deserialize, Serialize};

/// Numbers a series gives.
pub const PER_SERIES: usize = 3;
/// Series of one entity that are looked at; further ones are not.
const SERIES_MAX: usize = 512;
/// Weight of a new value in the short and in the long average.
const FAST: f64 = 0.4;
const SLOW: f64 = 0.05;
/// Least weight of a new value in mean and spread, and the distance from which on a value has no more than that.
const LEARN_MIN: f64 = 0.004;
const ODD: f64 = 3.0;
/// Spread below which nothing is told apart: absolute, and relative to the mean.
const SPREAD_MIN: f64 = 0.01;
const SPREAD_SHARE: f64 = 0.02;
/// Features are cut here: a constant that changes would else be infinitely odd.
const MOST: f64 = 30.0;
/// Labels that say which entity it is, and not what is measured.
const ENTITY_LABELS: [&str; 8] = [
    "namespace",
    "pod",
    "host",
    "instance",
    "node",
    "service",
    "container",
    "job",
];

/// What an entity says besides its series.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vitals {
    /// Log lines of the window.
    pub lines: f64,
    /// Surprise of its strangest log signal.
    pub log_surprise: f64,
    /// Surprise of its strangest metric signal.
    pub metric_surprise: f64,
}

/// Features by the name of the series.
pub type Sparse = BTreeMap<Box<str>, [f32; PER_SERIES]>;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Slot {
    mean: f64,
    variance: f64,
    fast: f64,
    slow: f64,
    seen: u32,
}

/// The past of one entity's series.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FeatureState {
    slots: BTreeMap<Box<str>, Slot>,
    /// Pooled names of series by id, since a name comes once.
    names: BTreeMap<u64, Box<str>>,
}

impl FeatureState {
    /// Takes all windows of one end and gives their features. Where the entity is failing nothing is learned and nothing given.
    pub fn step(&mut self, windows: &[EntityWindow], is_failing: bool) -> Sparse {
        let mut vitals = Vitals::default();
        let mut values: BTreeMap<Box<str>, f64> = BTreeMap::new();
        for window in windows {
            vitals.lines += f64::from(window.lines);
            for signal in &window.signals {
                let most = match signal.source {
                    Source::Log => &mut vitals.log_surprise,
                    Source::Metric => &mut vitals.metric_surprise,
                };
                *most = most.max(signal.score().surprise());
            }
            for entry in &window.vector {
                if let Some(name) = &entry.name
                    && self.names.len() < SERIES_MAX
                {
                    self.names.insert(entry.series.0, pooled(name));
                }
                let value = f64::from(entry.value);
                if let Some(name) = self.names.get(&entry.series.0)
                    && value.is_finite()
                {
                    // Series that pool to one name (disks, cores) are as high as the highest.
                    let of_name = values.entry(name.clone()).or_insert(value);
                    *of_name = of_name.max(value);
                }
            }
        }
        if is_failing {
            return Sparse::new();
        }
        values.insert("~lines".into(), vitals.lines);
        values.insert("~log surprise".into(), vitals.log_surprise);
        values.insert("~metric surprise".into(), vitals.metric_surprise);
        values
            .into_iter()
            .map(|(name, value)| {
                let slot = self.slots.entry(name.clone()).or_insert_with(|| Slot::new(value));
                (name, slot.step(value))
            })
            .collect()
    }
}

impl Slot {
    fn new(value: f64) -> Self {
        let x = compressed(value);
        Self {
            mean: x,
            variance: 0.0,
            fast: x,
            slow: x,
            seen: 0,
        }
    }

    fn step(&mut self, value: f64) -> [f32; PER_SERIES] {
        let x = compressed(value);
        let floor = SPREAD_MIN.powi(2) + (SPREAD_SHARE * self.mean).powi(2);
        let spread = (self.variance + floor).sqrt();
        let distance = (x - self.mean) / spread;
        self.fast += FAST * (x - self.fast);
        self.slow += SLOW * (x - self.slow);
        let features = [
            distance,
            (self.fast - self.mean) / spread,
            (self.fast - self.slow) / spread,
        ];
        self.seen = self.seen.saturating_add(1);
        let weight = if distance.abs() < ODD {
            (1.0 / f64::from(self.seen)).max(LEARN_MIN)
        } else {
            LEARN_MIN
        };
        // A single step can't make anything usual: its square is bounded by what the spread was.
        let square = (x - self.mean).powi(2).min(4.0 * self.variance + floor);
        self.variance = (1.0 - weight) * (self.variance + weight * square);
        self.mean += weight * (x - self.mean);
        #[allow(clippy::cast_possible_truncation)] // within ±30
        features.map(|f| f.clamp(-MOST, MOST) as f32)
    }
}

fn compressed(x: f64) -> f64 {
    x.signum() * x.abs().ln_1p()
}

/// `disk_free{host=a,path=/}` of every host is `disk_free{path=/}`.
fn pooled(name: &str) -> Box<str> {
    let Some((metric, labels)) = name.split_once('{') else {
        return name.into();
    };
    let labels = labels.trim_end_matches('}').split(',');
    let kept: Vec<&str> = labels
        .filter(|label| {
            let key = label.split('=').next().unwrap_or_default();
            !label.is_empty() && !ENTITY_LABELS.contains(&key)
        })
        .collect();
    if kept.is_empty() {
        metric.into()
    } else {
        format!("{metric}{{{}}}", kept.join(",")).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_pool_by_what_is_measured() {
        let cases = [
            ("cpu", "cpu"),
            ("cpu{host=a,service=shop}", "cpu"),
            ("disk{host=a,path=/var}", "disk{path=/var}"),
            ("x{}", "x"),
        ];
        for (name, expected) in cases {
            assert_eq!(&*pooled(name), expected);
        }
    }

    #[test]
    fn growth_stands_out_and_does_not_become_normal() {
        let mut slot = Slot::new(1_000.0);
        for i in 0..60 {
            let usual = slot.step(1_000.0 + f64::from(i % 7));
            assert!(usual.iter().all(|f| f.abs() < 4.0), "{usual:?}");
        }
        let grown: Vec<[f32; PER_SERIES]> = (1..40).map(|i| slot.step(1_000.0 * 1.05_f64.powi(i))).collect();
        assert!(
            grown[38][0] > 4.0 && grown[38][1] > 4.0 && grown[38][2] > 1.0,
            "{:?}",
            grown[38]
        );
        for value in [f64::MAX, f64::MIN, 0.0, 1e-300] {
            assert!(slot.step(value).iter().all(|f| f.is_finite()));
        }
    }
}
