//! `calibration`: how often streams without failures pass a surprise, against how often they should.

use clap::Args;
use serde::Serialize;

use crate::corpus::injected::{Half, NOMINAL, Nominal, Variant};
use crate::parallel::in_parallel;
use crate::rivals::{Method, Shape, surprises};
use crate::table::Table;

/// Rows that are not counted.
const FROM: usize = 1_000;
/// Rows of a stream.
const ROWS: usize = 12_000;
/// Surprises.
const LIMITS: [f64; 3] = [2.0, 3.0, 4.0];

/// Options of `calibration`.
#[derive(Debug, Args)]
pub struct Options {
    /// Which seeds: look at `tune` while choosing, report `report`
    #[arg(long, value_enum, default_value = "report")]
    pub half: Half,
    /// Streams of each family, with seeds of their own
    #[arg(long, default_value_t = 8)]
    pub copies: u64,
    /// Method
    #[arg(long, value_enum, default_value = "foreshock")]
    pub method: Method,
}

/// Share of rows that reach a surprise, over its nominal share.
#[derive(Clone, Debug, Serialize)]
pub struct Calibration {
    /// Name of the stream.
    pub stream: &'static str,
    /// At surprise 2, 3 and 4.
    pub clean: [f64; 3],
    /// The same with 2 % of the first thousand rows replaced by runs of outliers.
    pub contaminated: [f64; 3],
}

/// Runs every stream.
#[must_use]
pub fn measure(options: &Options) -> Vec<Calibration> {
    in_parallel(&NOMINAL, "calibration", |stream| {
        let rates = |variant| {
            let seeds = (0..options.copies).map(|copy| options.half.seed(copy));
            rates(options.method, *stream, variant, seeds)
        };
        Calibration {
            stream: stream.name(),
            clean: rates(Variant::Clean),
            contaminated: rates(Variant::Contaminated),
        }
    })
}

fn rates(method: Method, stream: Nominal, variant: Variant, seeds: impl Iterator<Item = u64>) -> [f64; 3] {
    let (mut reached, mut rows) = ([0usize; 3], 0usize);
    for seed in seeds {
        let series = stream.series(seed, ROWS, FROM, variant);
        let mut scorer = method.scorer(Shape {
            metrics: 1,
            period: series.period,
        });
        let scores: Vec<f64> = series
            .rows()
            .map(|(at, values)| scorer.score_learn(at, values))
            .collect();
        let counted = &surprises(method, &scores)[FROM..];
        for (count, limit) in reached.iter_mut().zip(LIMITS) {
            *count += counted.iter().filter(|&&s| s >= limit).count();
        }
        // A missing row is not scored and can't alarm.
        rows += series.values[FROM..].iter().filter(|x| x.is_finite()).count();
    }
    std::array::from_fn(|i| reached[i] as f64 / rows as f64 * 10f64.powf(LIMITS[i]))
}

/// A row a stream, and how many cells are within a factor of two.
#[must_use]
pub fn table(results: &[Calibration]) -> String {
    let mut table = Table::new(&[
        "stream",
        "1e-2",
        "1e-3",
        "1e-4",
        "dirty 1e-2",
        "dirty 1e-3",
        "dirty 1e-4",
    ]);
    for r in results {
        let mut cells = vec![r.stream.to_owned()];
        cells.extend(r.clean.iter().chain(&r.contaminated).map(|x| format!("{x:.2}")));
        table.row(cells);
    }
    for (name, holds) in [
        ("at most twice nominal", (|x| x <= 2.0) as fn(f64) -> bool),
        ("at least half", |x| x >= 0.5),
    ] {
        let mut cells = vec![name.to_owned()];
        for i in 0..6 {
            let cell = |r: &Calibration| if i < 3 { r.clean[i] } else { r.contaminated[i - 3] };
            let count = results.iter().filter(|r| holds(cell(r))).count();
            cells.push(format!("{count}/{}", results.len()));
        }
        table.row(cells);
    }
    table.to_string()
}
