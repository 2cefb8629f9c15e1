use super::*;

fn row(values: &[f64]) -> Row {
    let mut row = Row::empty();
    values.iter().enumerate().for_each(|(s, &v)| row.set(s, v));
    row
}

/// Five series around a level each, with a spread of about one.
fn around(level: f64, i: usize) -> Row {
    let wobble = |s: usize| ((i * 37 + s * 91) % 17) as f64 / 8.0 - 1.0;
    row(&std::array::from_fn::<f64, 5, _>(|s| level + wobble(s)))
}

fn learned(levels: impl IntoIterator<Item = f64>) -> Regimes {
    let mut regimes = Regimes::default();
    (0..5).for_each(|_| regimes.push_series());
    for (i, level) in levels.into_iter().enumerate() {
        let row = around(level, i);
        let place = regimes.read(&row).place;
        regimes.learn(&row, place, 1.0);
    }
    regimes
}

#[test]
fn regimes_by_case() {
    let alternating =
        |run: usize, rows: usize| (0..rows).map(move |i| if (i / run).is_multiple_of(2) { 50.0 } else { 80.0 });
    let cases: [(&str, Vec<f64>, usize); 6] = [
        ("nothing", vec![], 0),
        ("founding", vec![50.0; 10], 1),
        ("one level", vec![50.0; 500], 1),
        ("two levels that alternate", alternating(40, 400).collect(), 2),
        ("two levels, in every row another", alternating(1, 200).collect(), 2),
        (
            "a second level is not known at its first visit",
            alternating(100, 160).collect(),
            1,
        ),
    ];
    for (name, levels, known) in cases {
        let founding = levels.len() < FOUNDING as usize;
        let regimes = learned(levels);
        assert!(
            founding || regimes.known() == known,
            "{name}: {} known",
            regimes.known()
        );
    }
}

/// Whatever comes back in one series only is that series' own matter.
#[test]
fn one_series_apart_makes_no_regime() {
    let mut regimes = Regimes::default();
    (0..5).for_each(|_| regimes.push_series());
    for i in 0..2_000 {
        let mut row = around(50.0, i);
        if i % 100 >= 95 {
            row.values[2] += 40.0;
        }
        let place = regimes.read(&row).place;
        regimes.learn(&row, place, 1.0);
    }
    assert_eq!(regimes.known(), 1);
}

#[test]
fn a_slow_ramp_makes_no_known_regimes() {
    let ramp = (0..2_000).map(|i| if i < 300 { 50.0 } else { 50.0 + 0.05 * (i - 300) as f64 });
    let mut several = 0;
    let mut regimes = Regimes::default();
    (0..5).for_each(|_| regimes.push_series());
    for (i, level) in ramp.enumerate() {
        let row = around(level, i);
        let place = regimes.read(&row).place;
        regimes.learn(&row, place, 1.0);
        several += u32::from(
            (0..regimes.len())
                .filter(|&r| regimes.regimes[r].visits >= KNOWN_VISITS)
                .count()
                > 1,
        );
    }
    assert_eq!(several, 0, "a leak never comes back");
}

#[test]
fn a_window_with_a_change_in_it_is_between() {
    let regimes = learned((0..400).map(|i| if (i / 40) % 2 == 0 { 50.0 } else { 80.0 }));
    let placed = regimes.read(&around(62.0, 3));
    assert!(matches!(placed.place, Place::Between(_)), "{:?}", placed.place);
    assert!(placed.known && placed.deviations.values.iter().all(|z| z.abs() < 6.0));
    assert_eq!(
        regimes.read(&row(&[62.0, 50.0, 80.0, 50.0, 120.0])).place,
        Place::Outside
    );
    assert!((0..5).all(|s| regimes.explains(s)));
}

#[test]
fn more_regimes_than_fit_are_bounded() {
    let regimes = learned((0..3_000).map(|i| 50.0 + 40.0 * f64::from(i / 5 % 20)));
    assert!(regimes.len() <= REGIMES);
}
