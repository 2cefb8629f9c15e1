//! The entity model on generated entities: broken relations that no single series shows, and regimes.

#![allow(clippy::print_stdout)] // the figures are what one runs these for

mod entities;

use entities::{Factors, Working, average_precision};
use foreshock_domain::{Detector, Learning, SeriesId, Timestamp};
use foreshock_metrics::{EntityAnswer, EntityModel, Point, SeriesModel, SeriesValue};
use foreshock_stats::harmonic_mean_surprise;

fn row_of(values: &[f64]) -> Vec<SeriesValue> {
    values
        .iter()
        .enumerate()
        .map(|(s, &value)| SeriesValue {
            series: SeriesId(s as u64 * 7 + 1),
            value,
        })
        .collect()
}

/// What a broken relation looks like to the entity model and to the models of the single series.
struct Outcome {
    entity: f64,
    single: f64,
    /// Share of broken rows in which the series whose relation broke is the first that is named.
    named: f64,
}

fn breaks(seed: u64, series: usize, factors: usize, share: f64) -> Outcome {
    let mut generator = Factors::new(seed, series, factors, share);
    let mut model = EntityModel::new();
    let mut singles: Vec<SeriesModel> = (0..series).map(|_| SeriesModel::new(None)).collect();
    let mut answer = EntityAnswer::default();
    let (mut scores, mut alone, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    let (mut named, mut broken_rows) = (0.0, 0.0);
    for i in 0..10_500usize {
        // From row 1,500 on, every 900 rows one series breaks for 90 rows.
        let broken = (i >= 1_500 && (i - 1_500) % 900 < 90).then(|| (i / 900) % series);
        let values = generator.row(broken);
        let at = Timestamp::from_secs(i as i64 * 60);
        model.score_learn(at, &row_of(&values), Learning::Normal, &mut answer);
        let own = values.iter().zip(&mut singles).filter_map(|(&value, single)| {
            let verdict = single.score_learn(&Point { at, value }, Learning::Normal);
            verdict.map(|v| v.score.surprise())
        });
        let own = harmonic_mean_surprise(own.collect::<Vec<_>>().into_iter(), series as u32);
        if i < 1_500 {
            continue;
        }
        scores.push(answer.correlation.map_or(0.0, |s| s.surprise()));
        alone.push(own);
        labels.push(broken.is_some());
        if let Some(broken) = broken {
            broken_rows += 1.0;
            let first = answer.shares.first().map(|s| s.series);
            named += f64::from(u8::from(first == Some(SeriesId(broken as u64 * 7 + 1))));
        }
    }
    Outcome {
        entity: average_precision(&scores, &labels),
        single: average_precision(&alone, &labels),
        named: named / broken_rows,
    }
}

#[test]
fn broken_relations_are_found_that_no_single_series_shows() {
    // Other seeds than most constants were chosen by; how odd rows are held was chosen with these in view.
    println!("series factors share  entity single named");
    for (series, factors, share) in [
        (3, 1, 0.95),
        (3, 1, 0.9),
        (5, 1, 0.9),
        (5, 2, 0.95),
        (10, 1, 0.8),
        (10, 2, 0.9),
        (10, 3, 0.9),
        (20, 3, 0.9),
        (40, 4, 0.9),
        (64, 4, 0.9),
    ] {
        let outcomes: Vec<Outcome> = (100..105).map(|seed| breaks(seed, series, factors, share)).collect();
        let mean = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>() / outcomes.len() as f64;
        let least = outcomes.iter().map(|o| o.entity).fold(1.0, f64::min);
        let (entity, single, named) = (mean(|o| o.entity), mean(|o| o.single), mean(|o| o.named));
        println!("{series:6} {factors:7} {share:5} {entity:7.3} (least {least:.3}) {single:6.3} {named:5.2}");
        assert!(
            entity >= 0.9 && least >= 0.8,
            "{series} series, {factors} factors: {entity}, least {least}"
        );
        assert!(single <= 0.2, "no single series shows it: {single}");
        assert!(named >= 0.9, "{series} series, {factors} factors: named in {named}");
    }
}

/// Rows of broken relations that pass a surprise of 4, where single series were far off in the first 1,500 rows or were not.
fn loud_rows(seed: u64, series: usize, outliers: bool) -> u32 {
    let mut generator = Factors::new(seed, series, 1, 0.9);
    let mut model = EntityModel::new();
    let mut answer = EntityAnswer::default();
    let mut loud = 0;
    for i in 0..6_000usize {
        let broken = (i >= 1_500 && (i - 1_500) % 900 < 90).then(|| (i / 900) % series);
        let mut values = generator.row(broken);
        // Each series is off for five rows in 250, and never two of them at a time.
        if outliers && i < 1_500 && i % (250 / series) < 5 {
            values[i / (250 / series) % series] += 9.0;
        }
        let at = Timestamp::from_secs(i as i64 * 60);
        model.score_learn(at, &row_of(&values), Learning::Normal, &mut answer);
        let surprise = answer.correlation.map_or(0.0, |s| s.surprise());
        loud += u32::from(broken.is_some() && surprise >= 4.0);
    }
    loud
}

#[test]
fn outliers_of_single_series_do_not_deafen_the_relations() {
    for series in [3, 5, 10] {
        let of = |outliers| (100..105).map(|seed| loud_rows(seed, series, outliers)).sum::<u32>();
        let (clean, dirty) = (of(false), of(true));
        println!("{series} series: {dirty} loud rows after outliers, {clean} without");
        assert!(
            clean > 100 && f64::from(dirty) >= 0.5 * f64::from(clean),
            "{series} series: {dirty} of {clean}"
        );
    }
}

/// Shares of rows that reach surprises of 2, 3 and 4, over the nominal share.
fn realised(series: usize, factors: usize, shape: impl Fn(f64) -> f64, seeds: std::ops::Range<u64>) -> [f64; 3] {
    let (mut reached, mut rows) = ([0.0; 3], 0.0);
    for seed in seeds {
        let mut generator = Factors::new(seed, series, factors, 0.8);
        let mut model = EntityModel::new();
        let mut answer = EntityAnswer::default();
        for i in 0..11_000 {
            let values: Vec<f64> = generator.row(None).into_iter().map(&shape).collect();
            let at = Timestamp::from_secs(i * 60);
            model.score_learn(at, &row_of(&values), Learning::Normal, &mut answer);
            if i < 1_000 {
                continue;
            }
            rows += 1.0;
            let surprise = answer.correlation.map_or(0.0, |s| s.surprise());
            for (i, r) in reached.iter_mut().enumerate() {
                *r += f64::from(u8::from(surprise >= i as f64 + 2.0));
            }
        }
    }
    std::array::from_fn(|i| reached[i] / rows / 10f64.powi(-(i as i32 + 2)))
}

#[test]
fn realised_rates_on_unbroken_entities_are_near_nominal() {
    type Shape = fn(f64) -> f64;
    let shapes: [(&str, Shape); 3] = [
        ("gaussian", |z| 50.0 + z),
        ("lognormal", f64::exp),
        ("counts", |z| (3.0 + z).max(0.0).round()),
    ];
    for (series, factors) in [(3, 1), (5, 2), (20, 3), (64, 4)] {
        for (name, shape) in shapes {
            let [a, b, c] = realised(series, factors, shape, 0..3);
            println!("{series:3} {name:10} {a:5.2} {b:5.2} {c:5.2}");
            assert!((0.3..=2.5).contains(&a), "{series} {name}: {a} of nominal at 1e-2");
            assert!(b <= 4.0, "{series} {name}: {b} of nominal at 1e-3");
        }
    }
}

/// The whole answer for an entity: its series' own models, the entity model, and what they say together.
struct Fused {
    model: EntityModel,
    singles: Vec<SeriesModel>,
    answer: EntityAnswer,
}

impl Fused {
    fn new(series: usize) -> Self {
        Self {
            model: EntityModel::new(),
            singles: (0..series).map(|_| SeriesModel::new(None)).collect(),
            answer: EntityAnswer::default(),
        }
    }

    /// What relations and regimes say of the last row, without the series that no regime explains.
    fn of_regimes(&self) -> f64 {
        let explained = self.answer.explained.iter().map(|e| e.verdict.score.surprise());
        let all: Vec<f64> = explained.chain(self.answer.correlation.map(|s| s.surprise())).collect();
        harmonic_mean_surprise(all.iter().copied(), all.len() as u32)
    }

    /// Surprise of a row by the series' own models alone, and with the entity model.
    fn step(&mut self, i: usize, values: &[f64]) -> (f64, f64) {
        let at = Timestamp::from_secs(i as i64 * 60);
        let row = row_of(values);
        self.model.score_learn(at, &row, Learning::Normal, &mut self.answer);
        let mut own: Vec<f64> = values
            .iter()
            .zip(&mut self.singles)
            .map(|(&value, single)| {
                let verdict = single.score_learn(&Point { at, value }, Learning::Normal);
                verdict.map_or(0.0, |v| v.score.surprise())
            })
            .collect();
        let tested = own.len() as u32;
        let alone = harmonic_mean_surprise(own.iter().copied(), tested);
        for explained in &self.answer.explained {
            if let Some(s) = row.iter().position(|v| v.series == explained.series) {
                own[s] = explained.verdict.score.surprise();
            }
        }
        let correlation = self.answer.correlation.map(|s| s.surprise());
        let together = harmonic_mean_surprise(own.into_iter().chain(correlation), tested + 1);
        (alone, together)
    }
}

#[test]
fn changes_between_known_regimes_alarm_nobody() {
    for (series, regimes, dwell) in [(8, 4, (40, 120)), (5, 2, (60, 200)), (20, 6, (30, 80)), (12, 6, (1, 1))] {
        let (mut near, mut alarms) = (0, 0);
        for seed in 0..4 {
            let mut working = Working::new(seed, series, regimes, dwell);
            let mut fused = Fused::new(series);
            let mut visits = vec![0u32; regimes];
            let mut rows_in = vec![0u32; regimes];
            let mut since = 0;
            for i in 0..8_000 {
                let (values, changed) = working.row(None);
                visits[working.regime] += u32::from(changed || i == 0);
                rows_in[working.regime] += 1;
                since = if changed { 0 } else { since + 1 };
                fused.step(i, &values);
                // Every regime was visited twice before its present visit.
                if since <= 3 && visits.iter().all(|&v| v > 2) && rows_in.iter().all(|&v| v > 20) {
                    near += 1;
                    alarms += u32::from(fused.of_regimes() >= 3.0);
                }
            }
            assert!(fused.model.known_regimes() >= regimes, "{series} series, seed {seed}");
        }
        println!("{series} series, {regimes} regimes of {dwell:?} rows: {alarms} alarms in {near} rows after changes");
        assert!(
            f64::from(alarms) <= 0.0005 * f64::from(near),
            "{alarms} alarms in {near} rows"
        );
    }
}

/// Units that jump between six conditions in every row and wear out: without regimes a slow drift drowns in the jumps.
#[test]
fn wear_is_seen_beneath_changing_conditions() {
    let (mut with, mut without) = (0.0, 0.0);
    for seed in 0..3 {
        let (mut labels, mut scores, mut alone) = (Vec::new(), Vec::new(), Vec::new());
        for unit in 0..10 {
            let mut working = Working::new(seed, 14, 6, (1, 1));
            // The same machine type, another life.
            working.reseed(unit);
            working.depend_throughout();
            let mut fused = Fused::new(14);
            for i in 0..300 {
                let (mut values, _) = working.row(None);
                let wear = ((i as f64 - 200.0) / 100.0).max(0.0).powi(2) * 4.0;
                for value in values.iter_mut().step_by(2) {
                    *value += wear;
                }
                let (a, t) = fused.step(i, &values);
                if i >= 64 {
                    labels.push(i >= 270);
                    scores.push(t);
                    alone.push(a);
                }
            }
        }
        with += average_precision(&scores, &labels) / 3.0;
        without += average_precision(&alone, &labels) / 3.0;
    }
    println!("average precision of the last 30 of 236 rows: {with:.3}, series alone {without:.3}, chance 0.127");
    // Without regimes the answer is that of the series alone, which fails the first by far.
    assert!(with >= 0.6 && with >= without + 0.15, "{with} and {without}");
}

/// A single cloud, however it is stretched, is one regime.
#[test]
fn one_way_of_working_is_one_regime() {
    for (series, factors) in [(3, 1), (5, 1), (10, 1), (10, 3), (40, 2)] {
        for seed in 0..5 {
            let mut generator = Factors::new(seed, series, factors, 0.95);
            let mut model = EntityModel::new();
            let mut several = 0;
            for i in 0..4_000 {
                let values: Vec<f64> = generator.row(None).iter().map(|z| 300.0 + z).collect();
                model.learn_one(Timestamp::from_secs(i * 60), &row_of(&values), Learning::Normal);
                several += u32::from(model.known_regimes() > 1);
            }
            assert_eq!(
                several, 0,
                "{series} series, {factors} factors, seed {seed}: rows with several regimes"
            );
        }
    }
}
