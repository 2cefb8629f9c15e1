use foreshock_domain::{LabelPairs, MetricKind, SeriesId, Timestamp};
use foreshock_failure::SeriesWatch;
use foreshock_metrics::SeriesModel;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::aggregate::Aggregate;
use crate::slots::{Keyed, Slots};

/// Series in a block of the stored state: some 150 kB.
const SERIES_BLOCK: usize = 128;
/// Windows in which a metric's kind is learned, where its format does not say.
const KIND_WINDOWS: u16 = 32;

/// Gauge or counter: told by the format or by a name that ends in `_total`, or learned from how the values move at first.
///
/// A counter rises in nearly every window and falls only when its process starts anew; a gauge that happens to rise for a
/// while, like memory in use, also stands still or falls. The first [`KIND_WINDOWS`] windows in which the series moves decide.
/// A gauge stays one: a leak that makes it rise steadily later on is what this program is to find. A learned counter that keeps
/// falling, or that comes to a stand as memory does after a start, was none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kind {
    decided: Option<MetricKind>,
    told: bool,
    windows: u16,
    rose: u16,
    falls: u16,
    /// Rise over the present group of windows, and the greatest over any.
    rise: f64,
    rise_most: f64,
}

impl Kind {
    pub(crate) fn new(told: Option<MetricKind>, name: &str) -> Self {
        // OpenMetrics lets no other metric bear that ending.
        let told = told.or_else(|| name.ends_with("_total").then_some(MetricKind::Counter));
        Self {
            decided: told,
            told: told.is_some(),
            windows: 0,
            rose: 0,
            falls: 0,
            rise: 0.0,
            rise_most: 0.0,
        }
    }

    pub(crate) fn is_counter(&self) -> bool {
        self.decided == Some(MetricKind::Counter)
    }

    /// Takes in how a window moved; true when the kind turned out to be another one than was assumed so far.
    pub(crate) fn learn(&mut self, before: Option<(Timestamp, f64)>, window: &Aggregate) -> bool {
        let Some((_, value)) = before else { return false };
        if self.told || self.decided == Some(MetricKind::Gauge) || window.count == 0 {
            return false;
        }
        let fell = window.first < value || window.falls > 0;
        self.windows += 1;
        self.rose += u16::from(window.last > value && !fell);
        self.falls += u16::from(fell);
        self.rise += (window.last - value).max(0.0);
        if self.windows < KIND_WINDOWS {
            return false;
        }
        let (rose, falls, rise) = (self.rose, self.falls, self.rise);
        (self.windows, self.rose, self.falls, self.rise) = (0, 0, 0, 0.0);
        self.rise_most = self.rise_most.max(rise);
        if self.is_counter() {
            let stands = rose < KIND_WINDOWS / 4 || rise < self.rise_most / 50.0;
            let was_none = falls > 2 || stands;
            if was_none {
                self.decided = Some(MetricKind::Gauge);
            }
            return was_none;
        }
        if rose == 0 && falls == 0 {
            return false;
        }
        // Counters count: whole numbers from zero up. One restart in the time is forgiven.
        let whole = window.min >= 0.0 && window.last.fract() == 0.0 && window.first.fract() == 0.0;
        let counter = whole && falls <= 1 && rose >= KIND_WINDOWS - KIND_WINDOWS / 8;
        self.decided = Some(if counter {
            MetricKind::Counter
        } else {
            MetricKind::Gauge
        });
        counter
    }
}

/// One series and its model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SeriesSlot {
    pub(crate) id: SeriesId,
    /// `name{label=value}`.
    pub(crate) name: Box<str>,
    pub(crate) entity: u32,
    pub(crate) kind: Kind,
    pub(crate) model: SeriesModel,
    pub(crate) watches: Vec<SeriesWatch>,
    /// Fingerprint of the rules that `watches` were made by.
    pub(crate) watches_of: u64,
    /// Last sample of the last closed window.
    pub(crate) last: Option<(Timestamp, f64)>,
    /// End of the last window it was heard in.
    pub(crate) heard: Timestamp,
}

impl Keyed for SeriesSlot {
    type Key = SeriesId;

    fn key(&self) -> SeriesId {
        self.id
    }
}

/// All series of a partition.
pub(crate) type SeriesTable = Slots<SeriesSlot, SERIES_BLOCK>;

/// Id of a series: a 64-bit hash of its name and sorted labels, each with its length. `scratch` is reused. Cost: one pass
/// over the bytes, no allocation.
pub(crate) fn series_id(scratch: &mut Vec<u8>, name: &str, labels: &LabelPairs<'_>) -> SeriesId {
    scratch.clear();
    let mut push = |part: &str| {
        scratch.extend_from_slice(&(part.len() as u32).to_le_bytes());
        scratch.extend_from_slice(part.as_bytes());
    };
    push(name);
    for (k, v) in labels {
        push(k);
        push(v);
    }
    SeriesId(xxh3_64(scratch))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(values: &[f64]) -> Kind {
        let mut kind = Kind::new(None, "x");
        let mut before = None;
        for (i, v) in values.iter().enumerate() {
            let mut window = Aggregate::default();
            window.add(Timestamp::from_secs(i as i64), *v);
            kind.learn(before, &window);
            before = Some((window.last_at, window.last));
        }
        kind
    }

    #[test]
    fn kind_is_learned_from_how_values_move() {
        let counter: Vec<f64> = (0..100).map(|i| f64::from(i * 3)).collect();
        assert!(learned(&counter).is_counter());
        let mut restarted = counter.clone();
        restarted.extend(counter.iter());
        assert!(learned(&restarted).is_counter());
        let wave: Vec<f64> = (0..100).map(|i| (f64::from(i) / 5.0).sin().round()).collect();
        assert!(!learned(&wave).is_counter());
        let real_valued: Vec<f64> = (0..100).map(|i| f64::from(i) * 0.7 + 0.1).collect();
        assert!(!learned(&real_valued).is_counter());
        // Fills up after a start, as memory does.
        let fills: Vec<f64> = (0..200)
            .map(|i| (1e6 * (1.0 - (-f64::from(i) / 12.0).exp())).round())
            .collect();
        assert!(!learned(&fills).is_counter());
        assert!(Kind::new(None, "errors_total").is_counter());
        // Stands still, then leaks: still a gauge.
        let leak: Vec<f64> = (0..40)
            .map(|i| f64::from(1_000 + i % 2))
            .chain((0..200).map(|i| f64::from(1_001 + i)))
            .collect();
        assert!(!learned(&leak).is_counter());
    }

    #[test]
    fn an_idle_counter_is_learned_when_it_moves() {
        let values: Vec<f64> = vec![0.0; 64].into_iter().chain((0..64).map(f64::from)).collect();
        assert!(learned(&values).is_counter());
    }

    #[test]
    fn ids_tell_apart_what_only_concatenates_alike() {
        let mut scratch = Vec::new();
        let a = series_id(&mut scratch, "ab", &[("c".into(), "d".into())]);
        let b = series_id(&mut scratch, "abc", &[("".into(), "d".into())]);
        assert_ne!(a, b);
        assert_eq!(a, series_id(&mut scratch, "ab", &[("c".into(), "d".into())]));
    }
}
