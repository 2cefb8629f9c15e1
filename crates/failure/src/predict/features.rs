//! Features of one entity, online: each of its series against its own past.
//!
//! A value is compressed by sign(x)·ln(1+|x|) and averaged over three lengths; a slowly learned mean and spread say what is usual.
//! Five numbers a series: its middle average (one window is too noisy to say where a series stands), how far a short and a middle
//! average are from what is usual, and how the averages stand to each other, which is the slope on two scales. All but the first are relative to the entity's own past, so that
//! hosts of different size pool. Counts of log templates and of grave lines, and how surprised the models are, are series too.
//! While the entity fails nothing is learned, and a value far from what is usual teaches little: a growing fault does not
//! become normal.
//!
//! Time since the last failure is no feature: in recordings that let faults begin by a plan it would learn the plan.
//!
//! **Fails** where the first windows are not usual themselves, and for what only several series together show; that is a signal
//! of the entity's model and comes in by its surprise. **Cost** per window and series: some 30 flops, no allocation once a series
//! is known; 120 bytes and its name.

use std::collections::BTreeMap;

use foreshock_domain::{EntityWindow, Level, Source, is_entity_label};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Numbers a series gives.
pub const PER_SERIES: usize = 5;
/// What they are called, in order.
pub const NAMES: [&str; PER_SERIES] = ["level", "distance", "middle distance", "rise", "trend"];
/// Series of one entity that are looked at, templates among them; further ones are not.
const SERIES_MAX: usize = 512;
/// Weight of a new value in the short, the middle and the long average.
const SHORT: f64 = 0.5;
const MIDDLE: f64 = 0.15;
const LONG: f64 = 0.03;
/// Least weight of a new value in mean and spread, and the distance from which on a value has no more than that.
const LEARN_MIN: f64 = 0.004;
const ODD: f64 = 3.0;
/// Spread below which nothing is told apart: absolute, and relative to the mean.
const SPREAD_MIN: f64 = 0.01;
const SPREAD_SHARE: f64 = 1e-4;
/// Distances are cut here: a constant that changes would else be infinitely odd.
const MOST: f64 = 50.0;
/// Windows before an entity's features mean something.
const WARM_UP: u32 = 5;
/// What an entity says besides its series.
const VITALS: [&str; 6] = [
    "log lines",
    "log warnings",
    "log errors",
    "log surprise",
    "metric surprise",
    "urgency of what runs out",
];
/// Urgency 1: seconds that are left then.
const URGENT_S: f64 = 3_600.0;

/// The features of one series at one moment.
pub type Features = [f32; PER_SERIES];

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Slot {
    key: u64,
    name: Box<str>,
    /// A count: where nothing comes it is 0, and not missing.
    is_count: bool,
    past: Past,
    /// Value of the window at hand.
    #[serde(skip)]
    value: Option<f64>,
    #[serde(skip)]
    features: Option<Features>,
}

/// What is known of the past of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Past {
    mean: f64,
    variance: f64,
    short: f64,
    middle: f64,
    long: f64,
    seen: u32,
    /// Whether it was ever below zero.
    is_signed: bool,
}

/// The past of one entity's series.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FeatureState {
    slots: Vec<Slot>,
    /// Places of slots by the id of a series, since its name comes only now and then.
    by_series: BTreeMap<u64, u32>,
    by_key: BTreeMap<u64, u32>,
    seen: u32,
}

impl FeatureState {
    /// Takes all windows of one end, and the seconds after which a bounded resource runs out, if one does. False where there are no features: the entity fails and nothing is learned, or it is too new.
    pub fn step(&mut self, windows: &[EntityWindow], runs_out_s: Option<f64>, is_failing: bool) -> bool {
        for slot in &mut self.slots {
            (slot.value, slot.features) = (slot.is_count.then_some(0.0), None);
        }
        let mut vitals = [0.0; VITALS.len()];
        vitals[5] = runs_out_s.map_or(0.0, |s| URGENT_S / s.max(1.0));
        for window in windows {
            self.take_vector(window);
            self.take_templates(window, &mut vitals);
            vitals[0] += f64::from(window.lines);
            for signal in &window.signals {
                let place = match signal.source {
                    Source::Log => 3,
                    Source::Metric => 4,
                };
                vitals[place] = vitals[place].max(signal.score().surprise());
            }
        }
        for (name, value) in VITALS.iter().zip(vitals) {
            if let Some(place) = self.place(key_of(name), || (*name).into(), true) {
                self.slots[place].value = Some(value);
            }
        }
        if is_failing {
            return false;
        }
        for slot in &mut self.slots {
            let Some(value) = slot.value else { continue };
            slot.features = Some(slot.past.step(value));
        }
        self.seen = self.seen.saturating_add(1);
        self.seen > WARM_UP
    }

    fn take_vector(&mut self, window: &EntityWindow) {
        for entry in &window.vector {
            let mut place = self.by_series.get(&entry.series.0).copied();
            if place.is_none()
                && let Some(name) = &entry.name
            {
                let name = pooled(name);
                let new = self.place(key_of(&name), || name, false);
                place = new.and_then(|p| u32::try_from(p).ok());
                if let Some(place) = place
                    && self.by_series.len() < SERIES_MAX
                {
                    self.by_series.insert(entry.series.0, place);
                }
            }
            let value = f64::from(entry.value);
            if let Some(slot) = place.and_then(|p| self.slots.get_mut(p as usize))
                && value.is_finite()
            {
                // Series that pool to one name (disks, cores) are as high as the highest.
                slot.value = Some(slot.value.map_or(value, |v| v.max(value)));
            }
        }
    }

    fn take_templates(&mut self, window: &EntityWindow, vitals: &mut [f64; VITALS.len()]) {
        for template in &window.templates {
            let count = f64::from(template.count);
            match template.level {
                Some(Level::Warning) => vitals[1] += count,
                Some(Level::Error | Level::Fatal) => vitals[2] += count,
                _ => {}
            }
            let name = || template.name.clone().unwrap_or_default();
            if let Some(place) = self.place(template.id, name, true) {
                let slot = &mut self.slots[place];
                slot.value = Some(slot.value.unwrap_or(0.0) + count);
                if let Some(name) = &template.name
                    && slot.name != *name
                {
                    slot.name.clone_from(name);
                }
            }
        }
    }

    /// The slot of a key, made where there is none and room.
    fn place(&mut self, key: u64, name: impl FnOnce() -> Box<str>, is_count: bool) -> Option<usize> {
        if let Some(place) = self.by_key.get(&key) {
            return Some(*place as usize);
        }
        if self.slots.len() >= SERIES_MAX {
            return None;
        }
        let place = self.slots.len();
        self.by_key.insert(key, u32::try_from(place).ok()?);
        self.slots.push(Slot {
            key,
            name: name(),
            is_count,
            past: Past::default(),
            value: None,
            features: None,
        });
        Some(place)
    }

    /// Key and features of every series that has any, of the last [`Self::step`].
    pub fn features(&self) -> impl Iterator<Item = (u64, &Features)> {
        self.slots.iter().filter_map(|s| Some((s.key, s.features.as_ref()?)))
    }

    /// Name of a series, its value in the last step, and what is usual: mean less and plus two spreads.
    #[must_use]
    pub fn told(&self, key: u64) -> Option<(&str, f64, (f64, f64))> {
        let slot = self.slots.get(*self.by_key.get(&key)? as usize)?;
        let (mean, spread) = (slot.past.mean, slot.past.spread());
        let lower = expanded(mean - 2.0 * spread);
        let lower = if slot.past.is_signed { lower } else { lower.max(0.0) };
        Some((&slot.name, slot.value?, (lower, expanded(mean + 2.0 * spread))))
    }
}

impl Past {
    fn spread(&self) -> f64 {
        (self.variance + self.floor()).sqrt()
    }

    fn floor(&self) -> f64 {
        SPREAD_MIN.powi(2) + (SPREAD_SHARE * self.mean).powi(2)
    }

    /// Features of a value, and then learns it.
    pub fn step(&mut self, value: f64) -> Features {
        let x = compressed(value);
        if self.seen == 0 {
            (self.mean, self.short, self.middle, self.long) = (x, x, x, x);
        }
        self.is_signed |= value < 0.0;
        self.short += SHORT * (x - self.short);
        self.middle += MIDDLE * (x - self.middle);
        self.long += LONG * (x - self.long);
        let spread = self.spread();
        let relative = [
            self.short - self.mean,
            self.middle - self.mean,
            self.short - self.middle,
            self.middle - self.long,
        ];
        let mut features = [0.0; PER_SERIES];
        #[allow(clippy::cast_possible_truncation)] // bounded
        {
            features[0] = self.middle as f32;
            for (f, r) in features[1..].iter_mut().zip(relative) {
                *f = (r / spread).clamp(-MOST, MOST) as f32;
            }
        }
        self.learn(x, spread);
        features
    }

    fn learn(&mut self, x: f64, spread: f64) {
        self.seen = self.seen.saturating_add(1);
        let weight = if ((x - self.mean) / spread).abs() < ODD || self.seen <= WARM_UP {
            (1.0 / f64::from(self.seen)).max(LEARN_MIN)
        } else {
            LEARN_MIN
        };
        // Nor can many steps in a row: each is bounded by what the spread was, and a growth of an hour is still odd at its end.
        let square = (x - self.mean).powi(2);
        let square = if self.seen <= WARM_UP {
            square
        } else {
            square.min(4.0 * (self.variance + self.floor()))
        };
        self.variance = (1.0 - weight) * (self.variance + weight * square);
        self.mean += weight * (x - self.mean);
    }
}

fn compressed(x: f64) -> f64 {
    x.signum() * x.abs().ln_1p()
}

fn expanded(x: f64) -> f64 {
    x.signum() * x.abs().exp_m1()
}

/// The key of a series by what its name is when pooled.
#[must_use]
pub fn key_of(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

/// `disk_free{host=a,path=/}` of every host is `disk_free{path=/}`.
pub(super) fn pooled(name: &str) -> Box<str> {
    let Some((metric, labels)) = name.split_once('{') else {
        return name.into();
    };
    let labels = labels.trim_end_matches('}').split(',');
    let kept: Vec<&str> = labels
        .filter(|label| {
            let key = label.split('=').next().unwrap_or_default();
            !label.is_empty() && !is_entity_label(key)
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
        let mut past = Past::default();
        for i in 0..60 {
            let usual = past.step(1_000.0 + f64::from(i % 7));
            assert!(usual[1..].iter().all(|f| f.abs() < 4.0), "{usual:?}");
        }
        let grown: Vec<Features> = (1..40).map(|i| past.step(1_000.0 * 1.05_f64.powi(i))).collect();
        assert!(
            grown[38][1] > 4.0 && grown[38][2] > 4.0 && grown[38][3] > 1.0,
            "{:?}",
            grown[38]
        );
        for value in [f64::MAX, f64::MIN, 0.0, 1e-300] {
            assert!(past.step(value).iter().all(|f| f.is_finite()));
        }
    }

    #[test]
    fn what_is_usual_is_told_in_the_series_own_unit() {
        let mut past = Past::default();
        for i in 0..200 {
            past.step(40.0 + f64::from(i % 3));
        }
        let (low, high) = (
            expanded(past.mean - 2.0 * past.spread()),
            expanded(past.mean + 2.0 * past.spread()),
        );
        assert!(low > 35.0 && low < 41.0 && high > 41.0 && high < 47.0, "{low} {high}");
    }
}
