//! Rows of one entity, one thread: `cargo bench -p foreshock-metrics --bench entity_model`. Prints rows a second and bytes.

#![allow(clippy::print_stdout)] // bytes are a result as well

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use foreshock_domain::{Learning, SeriesId, Timestamp};
use foreshock_metrics::{EntityAnswer, EntityModel, SeriesValue};

#[path = "../tests/entities/mod.rs"]
mod entities;
use entities::Factors;

/// Rows a model has seen before it is measured, and rows that are measured over and over.
const WARM_UP: usize = 2_000;
const MEASURED: usize = 1_024;

fn rows(c: &mut Criterion) {
    let mut group = c.benchmark_group("entity_rows");
    group.sample_size(10);
    for series in [10usize, 64] {
        println!(
            "{series} series: {} bytes",
            EntityModel::BYTES_MAX - (foreshock_metrics::ENTITY_SERIES_MAX - series) * EntityModel::BYTES_A_SERIES
        );
        let mut generator = Factors::new(1, series, 3, 0.9);
        let rows: Vec<Vec<SeriesValue>> = (0..WARM_UP + MEASURED)
            .map(|_| {
                let values = generator.row(None).into_iter().zip(0..);
                let named = values.map(|(value, s)| SeriesValue {
                    series: SeriesId(s),
                    value: 50.0 + value,
                });
                named.collect()
            })
            .collect();
        let mut model = EntityModel::new();
        let mut answer = EntityAnswer::default();
        let mut step = |i: usize, model: &mut EntityModel| {
            let at = Timestamp::from_secs(i as i64 * 60);
            model.score_learn(at, &rows[i], Learning::Normal, &mut answer);
            black_box(&answer);
        };
        (0..WARM_UP).for_each(|i| step(i, &mut model));
        group.throughput(Throughput::Elements(MEASURED as u64));
        group.bench_function(BenchmarkId::new("score_learn", series), |b| {
            b.iter(|| (WARM_UP..WARM_UP + MEASURED).for_each(|i| step(i, &mut model)));
        });
    }
    group.finish();
}

criterion_group!(benches, rows);
criterion_main!(benches);
