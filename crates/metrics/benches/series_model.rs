//! Scoring and learning, one thread: `cargo bench -p foreshock-metrics`. Prints ns per point and bytes per series.

#![allow(clippy::print_stdout)] // bytes are a result as well

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use foreshock_domain::{Detector, Learning, Timestamp};
use foreshock_metrics::{Point, SeriesModel};

#[path = "../tests/streams/mod.rs"]
mod streams;
use streams::{STREAMS, stream};

/// Points each model has seen before it is measured.
const WARM_UP: usize = 3_000;

fn point(i: usize, value: f64) -> Point {
    Point {
        at: Timestamp::from_secs(1_700_000_000 + 10 * i as i64),
        value,
    }
}

fn interleaved(c: &mut Criterion) {
    println!("{} bytes per series", SeriesModel::STATE_BYTES);
    let values: Vec<Vec<f64>> = (0..STREAMS.len())
        .map(|kind| stream(kind, 1, WARM_UP + 4_096))
        .collect();
    let mut group = c.benchmark_group("score_learn");
    group.sample_size(10);
    for series in [1usize, 1_000, 100_000] {
        let mut template: Vec<SeriesModel> = values.iter().map(|_| SeriesModel::new(None)).collect();
        for (model, values) in template.iter_mut().zip(&values) {
            for (i, &value) in values[..WARM_UP].iter().enumerate() {
                model.learn_one(&point(i, value), Learning::Normal);
            }
        }
        let mut models: Vec<SeriesModel> = (0..series).map(|s| template[s % template.len()].clone()).collect();
        let rounds = (4_096 / series).max(1);
        group.throughput(Throughput::Elements((rounds * series) as u64));
        group.bench_function(BenchmarkId::new("interleaved", series), |b| {
            b.iter(|| {
                for round in 0..rounds {
                    for (s, model) in models.iter_mut().enumerate() {
                        let value = values[s % values.len()][WARM_UP + round];
                        black_box(model.score_learn(&point(WARM_UP + round, value), Learning::Normal));
                    }
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, interleaved);
criterion_main!(benches);
