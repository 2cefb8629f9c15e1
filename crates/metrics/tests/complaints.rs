//! What people complain of in anomaly detectors, one test each.

#![allow(clippy::unwrap_used)] // a test that can't go on should stop

use foreshock_domain::{Channel, Detector, Direction, Learning, Timestamp, Verdict};
use foreshock_metrics::{Point, SeriesModel};

mod streams;
use streams::stream;

const START_S: i64 = 1_700_006_400;

/// Surprises of values `every_s` apart.
fn verdicts(values: &[f64], every_s: i64) -> Vec<Option<Verdict>> {
    let mut model = SeriesModel::new(None);
    let at = |i: usize| Timestamp::from_secs(START_S + every_s * i as i64);
    values
        .iter()
        .enumerate()
        .map(|(i, &value)| model.score_learn(&Point { at: at(i), value }, Learning::Normal))
        .collect()
}

fn surprises(values: &[f64], every_s: i64) -> Vec<f64> {
    verdicts(values, every_s)
        .into_iter()
        .map(|v| v.map_or(0.0, |v| v.score.surprise()))
        .collect()
}

fn largest(surprises: &[f64]) -> f64 {
    surprises.iter().copied().fold(0.0, f64::max)
}

#[test]
fn a_tiny_change_of_a_constant_series_is_no_sensation() {
    let mut values = vec![1000.0; 600];
    values.extend([1000.1; 50]);
    assert!(largest(&surprises(&values, 60)) < 3.0);
    // A real change is.
    let mut values = vec![1000.0; 600];
    values.extend([1500.0; 5]);
    assert!(largest(&surprises(&values, 60)) > 4.0);
}

#[test]
fn low_counts_do_not_alarm() {
    let values: Vec<f64> = stream(7, 3, 4_000).iter().map(|x| x.min(1.0)).collect();
    let scores = surprises(&values, 60);
    let loud = scores[500..].iter().filter(|&&s| s >= 3.0).count();
    assert!(loud <= 7, "{loud} of 3500 points reach a surprise of 3");
}

#[test]
fn a_second_anomaly_after_the_first_is_found() {
    let mut values = stream(0, 5, 2_100);
    values[2_000] += 60.0;
    values[2_010] -= 60.0;
    let verdicts = verdicts(&values, 60);
    for (i, direction) in [(2_000, Direction::Up), (2_010, Direction::Down)] {
        let verdict = verdicts[i].unwrap();
        assert!(verdict.score.surprise() > 3.0, "point {i}: {verdict:?}");
        assert_eq!(verdict.direction, direction, "point {i}: {verdict:?}");
    }
}

#[test]
fn a_daylight_saving_shift_does_not_alarm_for_days() {
    // Twenty days of five-minute values, from the fifteenth on an hour early.
    let shifted = stream(4, 11, 288 * 21);
    let day = 288;
    let values: Vec<f64> = (0..day * 20)
        .map(|i| if i < day * 14 { shifted[i] } else { shifted[i + 12] })
        .collect();
    let scores = surprises(&values, 300);
    let loud = scores[day * 14..].iter().filter(|&&s| s >= 3.0).count();
    assert!(
        loud <= 10,
        "{loud} of {} points after the shift reach a surprise of 3",
        day * 6
    );
}

#[test]
fn the_daily_rhythm_is_learned_and_its_absence_found() {
    let mut values = stream(4, 2, 288 * 14);
    // Noon's height at midnight: usual for the series, not for the hour.
    let odd = 288 * 13 + 200;
    for value in &mut values[odd..odd + 12] {
        *value = 125.0;
    }
    let verdicts = verdicts(&values, 300);
    let found = verdicts[odd..odd + 12]
        .iter()
        .flatten()
        .map(|v| v.score.surprise())
        .fold(0.0, f64::max);
    assert!(found > 3.0, "{found}");
}

#[test]
fn a_clock_that_jumps_harms_nothing() {
    let values = stream(0, 9, 3_000);
    let far = Timestamp::from_secs(4_070_908_800);
    let mut model = SeriesModel::new(None);
    let mut loud = 0;
    for (i, &value) in values.iter().enumerate() {
        let at = match i % 100 {
            40 => far,
            60 => Timestamp::EARLIEST,
            _ => Timestamp::from_secs(START_S + 60 * i as i64),
        };
        let verdict = model.score_learn(&Point { at, value }, Learning::Normal);
        loud += usize::from(i >= 1_000 && verdict.is_some_and(|v| v.score.surprise() >= 3.0));
    }
    assert!(loud <= 8, "{loud} of 2000 points reach a surprise of 3");
    let spike = Point {
        at: Timestamp::from_secs(START_S + 60 * 3_000),
        value: 160.0,
    };
    assert!(model.score_one(&spike).unwrap().score.surprise() > 3.0);
}

#[test]
fn one_outlier_in_the_warm_up_does_not_deafen() {
    let mut values = stream(0, 13, 1_001);
    values[20] = 1e6;
    values[1_000] = 160.0;
    let scores = surprises(&values, 60);
    assert!(scores[1_000] > 3.0, "{}", scores[1_000]);
}

#[test]
fn a_slow_leak_after_a_short_history_is_found_early_and_stays_found() {
    // Two hundred healthy windows of ten seconds, then a rise of ten spreads over a hundred windows.
    let mut found = 0;
    for seed in 0..20 {
        let mut values = stream(0, 500 + seed, 300);
        for (i, value) in values[200..].iter_mut().enumerate() {
            *value += 0.5 * (i + 1) as f64;
        }
        let verdicts = verdicts(&values, 10);
        let early = verdicts[200..250].iter().flatten().any(|v| v.score.surprise() >= 3.0);
        let directed = verdicts[240].is_some_and(|v| v.direction != Direction::Down);
        found += u32::from(early && directed);
    }
    assert!(found >= 16, "{found} of 20");
}

#[test]
fn the_onset_of_a_shift_is_when_it_began() {
    let mut values = stream(0, 21, 1_060);
    values[1_000..].iter_mut().for_each(|x| *x += 30.0);
    let mut model = SeriesModel::new(None);
    for (i, &value) in values.iter().enumerate() {
        model.learn_one(
            &Point {
                at: Timestamp::from_secs(START_S + 60 * i as i64),
                value,
            },
            Learning::Normal,
        );
    }
    let onset = (model.onset().unwrap().as_millis() / 1_000 - START_S) / 60;
    assert!((990..=1_005).contains(&onset), "onset at point {onset}");
}

#[test]
fn silent_at_first_and_named_afterwards() {
    let values = stream(0, 17, 800);
    let before = verdicts(&values, 60);
    assert!(before[..32].iter().all(Option::is_none) && before[32].is_some());
    let mut stuck = values;
    stuck.extend(vec![100.0; 60]);
    let after = verdicts(&stuck, 60);
    let found = after[800..]
        .iter()
        .flatten()
        .any(|v| v.channel == Channel::Spread && v.score.surprise() > 2.0);
    assert!(found, "a stuck sensor shows as spread");
}

#[test]
fn a_gap_is_told_once_it_is_unlike_the_others() {
    // A value in fifty is lost all the time; then twenty in a row.
    let mut values = stream(0, 23, 2_020);
    (0..2_000).step_by(50).for_each(|i| values[i] = f64::NAN);
    values[2_000..].fill(f64::NAN);
    let verdicts = verdicts(&values, 60);
    let single = verdicts[1_900].map_or(0.0, |v| v.score.surprise());
    let twentieth = verdicts[2_019].unwrap();
    assert!(single < 2.5, "a single one as always: {single}");
    assert_eq!(twentieth.channel, Channel::Missing);
    assert_eq!(twentieth.direction, Direction::Absence);
    assert!(twentieth.score.surprise() > 3.0, "{twentieth:?}");
    assert!(
        (twentieth.actual - 20.0).abs() < 1e-9 && twentieth.upper < 20.0,
        "{twentieth:?}"
    );
}

#[test]
fn rows_that_are_absent_count_as_missing() {
    let values = stream(0, 29, 1_001);
    let mut model = SeriesModel::new(None);
    let at = |i: usize| Timestamp::from_secs(START_S + 60 * i as i64);
    for (i, &value) in values[..1_000].iter().enumerate() {
        model.learn_one(&Point { at: at(i), value }, Learning::Normal);
    }
    let after = Point {
        at: at(1_060),
        value: values[1_000],
    };
    let verdict = model.score_one(&after).unwrap();
    assert_eq!((verdict.channel, verdict.actual), (Channel::Missing, 60.0));
}

#[test]
fn a_rhythm_of_any_length_is_found_and_its_breaking_off_seen() {
    // A wave of 37 points, and for half a cycle the value of the other half: usual for the series, not for the phase.
    let noise = stream(0, 31, 2_000);
    let wave = |i: usize| 40.0 * (i as f64 / 37.0 * std::f64::consts::TAU).sin();
    let mut values: Vec<f64> = noise.iter().enumerate().map(|(i, x)| x + wave(i)).collect();
    for (i, value) in values.iter_mut().enumerate().skip(1_900).take(18) {
        *value = noise[i] + wave(i + 18);
    }
    let scores = surprises(&values, 17);
    assert!(largest(&scores[1_900..1_918]) > 3.5, "{:?}", &scores[1_900..1_918]);
    let loud = scores[600..1_900].iter().filter(|&&s| s >= 3.0).count();
    assert!(loud <= 5, "{loud} of 1300 points before reach a surprise of 3");
}

#[test]
fn a_quiet_weekend_is_no_news_by_the_third() {
    // Half hours; work on five days of seven.
    let noise = stream(0, 37, 48 * 35);
    let values: Vec<f64> = noise
        .iter()
        .enumerate()
        .map(|(i, x)| {
            let hour = (i % 48) as f64 / 2.0;
            let works = (i / 48) % 7 < 5 && (8.0..18.0).contains(&hour);
            x + if works { 80.0 } else { 0.0 }
        })
        .collect();
    // Monday, 2023-11-13.
    let mut model = SeriesModel::new(None);
    let mut loud = 0;
    for (i, &value) in values.iter().enumerate() {
        let at = Timestamp::from_secs(1_699_833_600 + 1_800 * i as i64);
        let verdict = model.score_learn(&Point { at, value }, Learning::Normal);
        let is_late = i >= 48 * 19;
        loud += usize::from(is_late && verdict.is_some_and(|v| v.score.surprise() >= 3.0));
    }
    assert!(
        loud <= 4,
        "{loud} of {} points from the third weekend on reach a surprise of 3",
        48 * 16
    );
}

#[test]
fn what_comes_back_every_day_stops_being_news() {
    // One spike a day at the same time, as a backup makes it.
    let mut values = stream(0, 41, 288 * 14);
    (0..14).for_each(|day| values[288 * day + 100] += 80.0);
    let mut model = SeriesModel::new(None);
    let mut news = Vec::new();
    for (i, &value) in values.iter().enumerate() {
        let at = Timestamp::from_secs(START_S + 300 * i as i64);
        model.learn_one(&Point { at, value }, Learning::Normal);
        if i % 288 == 100 {
            news.push(model.novelty().surprise());
        }
    }
    // The highest spike so far is a record, and a record is news.
    let loud = news[7..].iter().filter(|&&n| n >= 2.5).count();
    assert!(loud <= 1, "{news:?}");
}
