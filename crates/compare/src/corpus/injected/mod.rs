//! Injected anomalies: base series without failures, into which anomalies of known kind, place and strength are written.
//!
//! Everything follows from a seed. The halves `tune` and `report` have different seeds: what is chosen while looking at one is
//! reported on the other. Anomalies lie after the first quarter of a series, a handful in each, from hardly visible to clear,
//! some of them soon after another. In the contaminated variant 2 % of the first quarter are runs of outliers, unlabelled.

mod anomaly;
mod base;
mod entity;
mod nominal;
mod random;

use foreshock_domain::Timestamp;

pub use anomaly::Kind;
pub use base::{Family, base};
pub use nominal::{NOMINAL, Nominal};
pub use random::Draws;

/// 2023-11-14T22:13:20Z, a Tuesday.
const BEGIN_S: i64 = 1_700_000_000;
/// Rows after a gap that count as its event, where the rows themselves are absent.
const AFTER_GAP: usize = 3;
/// Share of the warm-up that is outliers in the contaminated variant.
const CONTAMINATION: f64 = 0.02;
/// Rows of one run of them.
const RUN: usize = 5;
/// Entities a seed.
const ENTITIES: usize = 16;

/// Which half of the seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Half {
    /// Look at it as much as you like.
    Tune,
    /// What is reported.
    Report,
}

impl Half {
    /// Seed of the `i`-th copy of the set.
    #[must_use]
    pub fn seed(self, i: u64) -> u64 {
        match self {
            Self::Tune => 1_000 + i,
            Self::Report => 9_000_000 + i,
        }
    }
}

/// What the first quarter of a series is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// As always.
    Clean,
    /// 2 % of it are runs of outliers.
    Contaminated,
}

/// A labelled range of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// First row.
    pub first: usize,
    /// Last row.
    pub last: usize,
}

/// One entity's series with labels.
#[derive(Clone, Debug)]
pub struct Series {
    /// `kind/family/index`.
    pub name: String,
    /// Name of the family of the base.
    pub family: &'static str,
    /// What was injected.
    pub kind: Kind,
    /// Event time of each row.
    pub at: Vec<Timestamp>,
    /// Metrics a row.
    pub metrics: usize,
    /// Row by row; NaN where missing.
    pub values: Vec<f64>,
    /// Rows of a period; `None` without rhythm.
    pub period: Option<usize>,
    /// Rows before which nothing is labelled or measured.
    pub warm_up: usize,
    /// Ascending and disjoint.
    pub events: Vec<Event>,
}

impl Series {
    /// Rows with their values.
    pub fn rows(&self) -> impl Iterator<Item = (Timestamp, &[f64])> {
        self.at.iter().copied().zip(self.values.chunks_exact(self.metrics))
    }
}

/// The whole set: `copies` of each kind in each family that it suits, and entities with broken relations.
#[must_use]
pub fn set(half: Half, copies: u64, variant: Variant) -> Vec<Series> {
    let mut out = Vec::new();
    for copy in 0..copies {
        let seed = half.seed(copy);
        for kind in Kind::ALL {
            for family in Family::ALL.into_iter().filter(|&f| kind.suits(f)) {
                out.push(series(seed, kind, family, variant));
            }
        }
        out.extend((0..ENTITIES).map(|i| entity::correlated(seed, i, variant)));
    }
    out
}

fn series(seed: u64, kind: Kind, family: Family, variant: Variant) -> Series {
    let mut draws = Draws::new(seed, &[kind.name(), family.name()]);
    let n = family.length(&mut draws);
    let base = base(family, n, &mut draws);
    let mut values = base.values.clone();
    let places = anomaly::places(kind, family, n, &mut draws);
    for &place in &places {
        anomaly::inject(kind, family, &base, &mut values, place, &mut draws);
    }
    let event = |p: &anomaly::Place| Event {
        first: p.first,
        last: p.first + p.rows - 1,
    };
    let mut series = Series {
        name: name(kind.name(), family.name(), seed as usize),
        family: family.name(),
        kind,
        at: times(n, family.interval_ms()),
        metrics: 1,
        values,
        period: family.period(),
        warm_up: n / 4,
        events: places.iter().map(event).collect(),
    };
    if kind == Kind::Missing && draws.happens(0.5) {
        make_absent(&mut series);
    }
    if variant == Variant::Contaminated {
        contaminate(&mut series, &mut draws);
    }
    series
}

fn name(kind: &str, family: &str, index: usize) -> String {
    format!("{kind}/{family}/{index}")
}

fn times(n: usize, interval_ms: i64) -> Vec<Timestamp> {
    (0..n as i64)
        .map(|i| Timestamp::from_secs(BEGIN_S) + i * interval_ms)
        .collect()
}

/// Rows without a value become no rows; the event is what comes after the gap.
fn make_absent(series: &mut Series) {
    let mut gone = 0;
    for event in &mut series.events {
        let rows = event.last - event.first + 1;
        event.first -= gone;
        event.last = event.first + AFTER_GAP - 1;
        gone += rows;
    }
    let mut present = series.values.iter().map(|x| x.is_finite());
    series.at.retain(|_| present.next().unwrap_or(false));
    series.values.retain(|x| x.is_finite());
    series.warm_up = series.at.len() / 4;
}

/// Runs of outliers in the warm-up, six to twelve spreads off.
fn contaminate(series: &mut Series, draws: &mut Draws) {
    let (metrics, rows) = (series.metrics, series.warm_up);
    for metric in 0..metrics {
        let column = || series.values[..rows * metrics].iter().skip(metric).step_by(metrics);
        let mean = column().sum::<f64>() / rows as f64;
        let spread = (column().map(|x| (x - mean).powi(2)).sum::<f64>() / rows as f64).sqrt();
        let spread = spread.max(1e-3 * mean.abs());
        let mut row = 0;
        while row + RUN < rows {
            if draws.happens(CONTAMINATION / RUN as f64) {
                let shift = draws.uniform(6.0, 12.0) * spread;
                for x in series.values[row * metrics..(row + RUN) * metrics]
                    .iter_mut()
                    .skip(metric)
                    .step_by(metrics)
                {
                    *x += shift;
                }
                row += RUN;
            }
            row += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_set_and_halves_differ() {
        let bits = |half| -> Vec<u64> {
            let set = set(half, 1, Variant::Clean);
            set.iter().flat_map(|s| &s.values).map(|x| x.to_bits()).collect()
        };
        assert!(bits(Half::Tune) == bits(Half::Tune));
        assert!(bits(Half::Tune) != bits(Half::Report));
    }

    #[test]
    fn events_are_disjoint_labelled_and_after_the_warm_up() {
        for variant in [Variant::Clean, Variant::Contaminated] {
            for series in set(Half::Tune, 2, variant) {
                let name = &series.name;
                assert!(series.events.len() >= 2, "{name}: {:?}", series.events);
                assert!(series.events[0].first >= series.warm_up, "{name}");
                for pair in series.events.windows(2) {
                    assert!(pair[0].last < pair[1].first, "{name}: {pair:?}");
                }
                assert!(
                    series
                        .events
                        .iter()
                        .all(|e| e.first <= e.last && e.last < series.at.len()),
                    "{name}"
                );
                assert_eq!(series.values.len(), series.at.len() * series.metrics, "{name}");
                assert!(series.at.is_sorted(), "{name}");
                let warm_up = &series.values[..series.warm_up * series.metrics];
                assert!(warm_up.iter().all(|x| x.is_finite()), "{name}");
            }
        }
    }

    #[test]
    fn what_is_injected_is_there_and_nothing_else() {
        for kind in [Kind::Spike, Kind::Trend, Kind::Variance, Kind::Seasonal, Kind::Flat] {
            let mut draws = Draws::new(5, &["test"]);
            let base = base(Family::Daily5Min, 6_000, &mut draws);
            let mut values = base.values.clone();
            let place = anomaly::Place { first: 3_000, rows: 60 };
            anomaly::inject(kind, Family::Daily5Min, &base, &mut values, place, &mut draws);
            let changed: Vec<usize> = (0..6_000).filter(|&i| values[i] != base.values[i]).collect();
            let inside = changed.iter().all(|i| (3_000..3_060).contains(i));
            assert!(inside && changed.len() > 40, "{}: {changed:?}", kind.name());
        }
    }

    #[test]
    fn a_broken_relation_keeps_the_marginal() {
        for index in 0..4 {
            let series = entity::correlated(3, index, Variant::Clean);
            for metric in 0..series.metrics {
                let column: Vec<f64> = series
                    .values
                    .iter()
                    .skip(metric)
                    .step_by(series.metrics)
                    .copied()
                    .collect();
                let spread = |rows: &[f64]| {
                    let mean = rows.iter().sum::<f64>() / rows.len() as f64;
                    (
                        mean,
                        (rows.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / rows.len() as f64).sqrt(),
                    )
                };
                let (mean, all) = spread(&column);
                for event in &series.events {
                    let furthest = column[event.first..=event.last]
                        .iter()
                        .map(|x| (x - mean).abs() / all)
                        .fold(0.0, f64::max);
                    assert!(furthest < 5.0, "{} {metric}: {furthest}", series.name);
                }
            }
        }
    }

    #[test]
    fn contamination_is_two_per_cent_of_the_warm_up() {
        let (mut changed, mut rows) = (0, 0);
        for (clean, dirty) in set(Half::Tune, 1, Variant::Clean)
            .iter()
            .zip(&set(Half::Tune, 1, Variant::Contaminated))
        {
            let pairs = clean.values.iter().zip(&dirty.values);
            changed += pairs.filter(|(a, b)| a.to_bits() != b.to_bits()).count();
            rows += clean.warm_up * clean.metrics;
        }
        let share = changed as f64 / rows as f64;
        assert!((0.017..0.022).contains(&share), "{share}");
    }
}
