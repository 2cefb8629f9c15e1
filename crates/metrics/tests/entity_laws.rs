//! The laws of every model, for the entity model: scoring is pure, saving and loading changes nothing, missing values never
//! poison, pausing learns nothing, state is bounded, nothing panics.

#![allow(clippy::print_stdout)]

mod entities;

use entities::Factors;
use foreshock_domain::{Learning, SeriesId, Timestamp};
use foreshock_metrics::{ENTITY_SERIES_MAX, EntityAnswer, EntityModel, SeriesValue};
use proptest::prelude::*;

type Rows = Vec<Vec<SeriesValue>>;

/// Rows in which series come and go, with values missing.
fn rows(series: usize, rows: usize) -> Rows {
    let mut generator = Factors::new(3, series, 2.min(series), 0.8);
    (0..rows)
        .map(|i| {
            let values = generator.row(None);
            let listed = values.into_iter().enumerate().filter(|(s, _)| (i / 50 + s) % 7 != 0);
            listed
                .map(|(s, value)| SeriesValue {
                    series: SeriesId(s as u64),
                    value: match (i + s) % 23 {
                        0 => f64::NAN,
                        1 => f64::INFINITY,
                        _ => value,
                    },
                })
                .collect()
        })
        .collect()
}

fn at(i: usize) -> Timestamp {
    Timestamp::from_secs(i as i64 * 60)
}

fn learned(rows: &Rows) -> EntityModel {
    let mut model = EntityModel::new();
    for (i, row) in rows.iter().enumerate() {
        model.learn_one(at(i), row, Learning::Normal);
    }
    model
}

#[test]
fn scoring_is_pure_and_agrees_with_the_fast_path() {
    for series in [1, 2, 5, 64, 200] {
        let mut model = EntityModel::new();
        let mut twin = EntityModel::new();
        let (mut answer, mut other) = (EntityAnswer::default(), EntityAnswer::default());
        for (i, row) in rows(series, 400).iter().enumerate() {
            let before = model.clone();
            model.score_one(row, &mut answer);
            assert_eq!(model, before, "{series} series, row {i}");
            model.learn_one(at(i), row, Learning::Normal);
            twin.score_learn(at(i), row, Learning::Normal, &mut other);
            assert_eq!(answer, other, "{series} series, row {i}");
            assert_eq!(model, twin, "{series} series, row {i}");
        }
    }
}

#[test]
fn saving_and_loading_changes_nothing() {
    let rows = rows(12, 600);
    let mut model = learned(&rows[..300].to_vec());
    let bytes = postcard::to_stdvec(&model).expect("encodes");
    let mut loaded: EntityModel = postcard::from_bytes(&bytes).expect("decodes");
    assert_eq!(loaded, model);
    let (mut a, mut b) = (EntityAnswer::default(), EntityAnswer::default());
    for (i, row) in rows.iter().enumerate().skip(300) {
        model.score_learn(at(i), row, Learning::Normal, &mut a);
        loaded.score_learn(at(i), row, Learning::Normal, &mut b);
        assert_eq!(a, b, "row {i}");
    }
    assert_eq!(postcard::to_stdvec(&loaded), postcard::to_stdvec(&model));
}

/// The order of a row's values is no information.
#[test]
fn order_within_a_row_does_not_matter_once_series_are_known() {
    let mut forward = learned(&rows(9, 200));
    let mut backward = forward.clone();
    let (mut a, mut b) = (EntityAnswer::default(), EntityAnswer::default());
    for (i, mut row) in rows(9, 300).into_iter().enumerate() {
        forward.score_learn(at(i), &row, Learning::Normal, &mut a);
        row.reverse();
        backward.score_learn(at(i), &row, Learning::Normal, &mut b);
        assert_eq!(a, b, "row {i}");
    }
}

#[test]
fn missing_rows_and_pauses_by_case() {
    let model = learned(&rows(8, 300));
    let all = |value: f64| -> Vec<SeriesValue> {
        (0..8)
            .map(|s| SeriesValue {
                series: SeriesId(s),
                value,
            })
            .collect()
    };
    let mut answer = EntityAnswer::default();
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        model.score_one(&all(value), &mut answer);
        assert!(answer.correlation.is_none() && answer.shares.is_empty() && answer.explained.is_empty());
    }
    let mut paused = model.clone();
    for i in 0..50 {
        paused.score_learn(at(i), &all(1e6), Learning::Paused, &mut answer);
    }
    assert_eq!(paused, model, "a pause learns nothing");
    let mut shaken = model.clone();
    for (i, value) in [1e308, -1e308, 0.0, f64::MIN_POSITIVE]
        .repeat(30)
        .into_iter()
        .enumerate()
    {
        shaken.score_learn(at(i), &all(value), Learning::Normal, &mut answer);
        assert!(answer.correlation.is_none_or(|s| s.surprise().is_finite()), "{value}");
    }
}

#[test]
fn slots_are_bounded_and_idle_ones_are_given_away() {
    let row = |from: u64, to: u64, i: usize| -> Vec<SeriesValue> {
        (from..to)
            .map(|s| SeriesValue {
                series: SeriesId(s),
                value: ((i as u64 * 31 + s * 17) % 13) as f64,
            })
            .collect()
    };
    let mut model = EntityModel::new();
    for i in 0..200 {
        model.learn_one(at(i), &row(0, 500, i), Learning::Normal);
    }
    assert!(model.series().eq((0..64).map(SeriesId)), "first come");
    assert!(model.refused() > 0);
    // Half of them fall silent, and newcomers take their places.
    for i in 200..500 {
        model.learn_one(at(i), &row(32, 80, i), Learning::Normal);
    }
    let held: Vec<u64> = model.series().map(|s| s.0).collect();
    assert_eq!(held.len(), ENTITY_SERIES_MAX);
    assert!((32..80).all(|s| held.contains(&s)), "{held:?}");
    println!(
        "{} bytes at most, {} a series",
        EntityModel::BYTES_MAX,
        EntityModel::BYTES_A_SERIES
    );
    let bytes = postcard::to_stdvec(&model).expect("encodes").len();
    // Variable-length integers may take a byte in four more than memory does.
    assert!(
        bytes <= EntityModel::BYTES_MAX * 5 / 4,
        "{bytes} of {}",
        EntityModel::BYTES_MAX
    );
    const { assert!(EntityModel::BYTES_MAX <= 50_000) };
}

/// A truncated input gives a truncated output.
#[test]
fn nothing_is_said_before_enough_was_seen() {
    let mut model = EntityModel::new();
    let mut answer = EntityAnswer::default();
    let mut spoke = None;
    for (i, row) in rows(6, 200).iter().enumerate() {
        model.score_learn(at(i), row, Learning::Normal, &mut answer);
        if answer.correlation.is_some() && spoke.is_none() {
            spoke = Some(i);
        }
    }
    assert!(spoke.is_some_and(|i| (64..110).contains(&i)), "{spoke:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bits_never_panic_or_poison(raw in proptest::collection::vec((0u64..90, any::<u64>()), 0..2_000), width in 1usize..40) {
        let mut model = EntityModel::new();
        let mut answer = EntityAnswer::default();
        for (i, row) in raw.chunks(width).enumerate() {
            let row: Vec<SeriesValue> = row
                .iter()
                .map(|&(s, bits)| SeriesValue { series: SeriesId(s), value: f64::from_bits(bits) })
                .collect();
            model.score_learn(at(i), &row, Learning::Normal, &mut answer);
            prop_assert!(answer.correlation.is_none_or(|s| s.surprise().is_finite()));
            prop_assert!(answer.explained.iter().all(|e| e.verdict.score.surprise().is_finite()));
        }
    }

    #[test]
    fn a_damaged_snapshot_never_panics(damage in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..20)) {
        let rows = rows(6, 150);
        let mut bytes = postcard::to_stdvec(&learned(&rows)).expect("encodes");
        for (place, value) in damage {
            let place = usize::from(place) % bytes.len();
            bytes[place] = value;
        }
        if let Ok(mut model) = postcard::from_bytes::<EntityModel>(&bytes) {
            let mut answer = EntityAnswer::default();
            for (i, row) in rows.iter().enumerate() {
                model.score_learn(at(i), row, Learning::Normal, &mut answer);
            }
        }
    }
}
