//! The laws of `foreshock_domain::Detector`, held for every detector of this crate over every kind of stream.

use foreshock_domain::{Channel, Detector, Learning, MetricKind, Timestamp, Verdict};
use foreshock_metrics::{Point, SeriesModel};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

mod streams;
use streams::{STREAMS, stream};

const STEPS: usize = 1_500;

fn points(kind: usize) -> Vec<Point> {
    stream(kind, 7, STEPS)
        .into_iter()
        .enumerate()
        .map(|(i, value)| {
            // Some values missing, some outrageous, and a clock that now and then stumbles.
            let value = match i % 211 {
                50 => f64::NAN,
                51 => f64::INFINITY,
                52 => f64::NEG_INFINITY,
                150 => value * 1e9,
                _ => value,
            };
            let stumble = if i % 500 == 499 { -86_400_000 } else { 0 };
            Point {
                at: Timestamp::from_secs(1_700_000_000 + 300 * i as i64) + stumble,
                value,
            }
        })
        .collect()
}

/// Every law over one detector; a new detector costs one line in [`every_detector_keeps_the_laws`].
fn keeps_the_laws<D>(name: &str, new: impl Fn() -> D)
where
    D: Detector<Input = Point> + Clone + PartialEq + std::fmt::Debug + Serialize + DeserializeOwned,
{
    for (kind, stream_name) in STREAMS.iter().enumerate() {
        let points = points(kind);
        let context = format!("{name} on {stream_name}");
        scoring_is_pure_and_the_fast_path_is_the_same(&context, &new, &points);
        saving_and_loading_changes_nothing(&context, &new, &points);
        missing_values_have_no_direction_and_pausing_learns_nothing(&context, &new, &points);
        memory_is_bounded(&context, &new, &points);
    }
}

fn bits(verdict: Option<Verdict>) -> Option<[u64; 5]> {
    verdict.map(|v| [v.score.surprise(), v.actual, v.expected, v.lower, v.upper].map(f64::to_bits))
}

fn scoring_is_pure_and_the_fast_path_is_the_same<D>(context: &str, new: &impl Fn() -> D, points: &[Point])
where
    D: Detector<Input = Point> + Clone + PartialEq + std::fmt::Debug,
{
    let (mut one, mut fast) = (new(), new());
    for point in points {
        let before = one.clone();
        let scored = one.score_one(point);
        assert_eq!(one, before, "{context}: score_one changed the model");
        one.learn_one(point, Learning::Normal);
        let shared = fast.score_learn(point, Learning::Normal);
        assert_eq!(bits(scored), bits(shared), "{context}: at {point:?}");
        if let Some(v) = shared {
            assert!(
                v.score.surprise() >= 0.0 && v.score.surprise().is_finite(),
                "{context}: {v:?}"
            );
            assert!(
                v.expected.is_finite() && v.lower <= v.expected && v.expected <= v.upper,
                "{context}: {v:?}"
            );
        }
    }
    assert_eq!(one, fast, "{context}: the paths end apart");
}

fn saving_and_loading_changes_nothing<D>(context: &str, new: &impl Fn() -> D, points: &[Point])
where
    D: Detector<Input = Point> + Clone + PartialEq + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let mut kept = new();
    let mut moved = new();
    for (i, point) in points.iter().enumerate() {
        if i % 97 == 0 {
            let bytes = postcard::to_stdvec(&moved).expect("encodes");
            moved = postcard::from_bytes(&bytes).expect("decodes");
        }
        let (a, b) = (
            kept.score_learn(point, Learning::Normal),
            moved.score_learn(point, Learning::Normal),
        );
        assert_eq!(bits(a), bits(b), "{context}: point {i}");
    }
}

fn missing_values_have_no_direction_and_pausing_learns_nothing<D>(context: &str, new: &impl Fn() -> D, points: &[Point])
where
    D: Detector<Input = Point> + Clone + PartialEq + std::fmt::Debug,
{
    let mut model = new();
    for point in &points[..400] {
        let verdict = model.score_learn(point, Learning::Normal);
        // What is missing is no value; that it is missing may be odd.
        assert!(
            point.value.is_finite() || verdict.is_none_or(|v| v.channel == Channel::Missing && v.actual.is_finite()),
            "{context}: scored {point:?}"
        );
    }
    let last = points[400];
    let mut clock_only = model.clone();
    clock_only.learn_one(
        &Point {
            value: f64::NAN,
            ..last
        },
        Learning::Paused,
    );
    for value in [f64::INFINITY, last.value, 1e300, -1e300] {
        let mut paused = model.clone();
        paused.learn_one(&Point { value, ..last }, Learning::Paused);
        assert_eq!(paused, clock_only, "{context}: learned {value} while paused");
    }
}

fn memory_is_bounded<D>(context: &str, new: &impl Fn() -> D, points: &[Point])
where
    D: Detector<Input = Point> + Serialize,
{
    let mut model = new();
    for point in points {
        model.learn_one(point, Learning::Normal);
    }
    let bytes = postcard::to_stdvec(&model).expect("encodes").len();
    assert!(bytes <= 3 * size_of::<D>() / 2, "{context}: {bytes} bytes saved");
}

#[test]
fn every_detector_keeps_the_laws() {
    keeps_the_laws("series model", || SeriesModel::new(None));
    keeps_the_laws("series model of a counter", || {
        SeriesModel::new(Some(MetricKind::Counter))
    });
}

// Two kilobytes a series is what sizing a deployment counts with.
const _: () = assert!(SeriesModel::STATE_BYTES <= 2_048);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Hostile bits: nothing panics, nothing is poisoned, and a normal stream afterwards still scores.
    #[test]
    fn any_bits_never_panic_or_poison(raw in proptest::collection::vec((any::<i64>(), any::<u64>()), 0..200)) {
        let mut model = SeriesModel::new(None);
        for (at, value) in raw {
            let point = Point { at: Timestamp::from_millis(at), value: f64::from_bits(value) };
            if let Some(v) = model.score_learn(&point, Learning::Normal) {
                prop_assert!(v.score.surprise() >= 0.0 && !v.score.surprise().is_nan());
                prop_assert!(!v.expected.is_nan() && !v.lower.is_nan() && !v.upper.is_nan());
            }
        }
        for (i, value) in stream(0, 1, 100).into_iter().enumerate() {
            let point = Point { at: Timestamp::from_secs(1_700_000_000 + 10 * i as i64), value };
            let verdict = model.score_learn(&point, Learning::Normal);
            prop_assert!(verdict.is_none_or(|v| v.score.surprise().is_finite()));
        }
    }

    /// A snapshot that was damaged on its way still makes a model that runs, or none.
    #[test]
    fn a_damaged_snapshot_never_panics(damage in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..20)) {
        let mut model = SeriesModel::new(None);
        let values = stream(4, 3, 700);
        let at = |i: usize| Timestamp::from_secs(1_700_000_000 + 600 * i as i64);
        for (i, &value) in values[..600].iter().enumerate() {
            model.learn_one(&Point { at: at(i), value }, Learning::Normal);
        }
        let mut bytes = postcard::to_stdvec(&model).expect("encodes");
        for (position, byte) in damage {
            let position = usize::from(position) % bytes.len();
            bytes[position] = byte;
        }
        if let Ok(mut damaged) = postcard::from_bytes::<SeriesModel>(&bytes) {
            for (i, &value) in values.iter().enumerate().skip(600) {
                damaged.score_learn(&Point { at: at(i), value }, Learning::Normal);
            }
        }
    }
}
