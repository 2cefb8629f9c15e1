//! What a line costs: on the known path, on a stream of new names, and on garbage.
//!
//! The lines are made up; figures on real logs are in `docs/models/logs.md`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foreshock_logs::{Miner, Showing};

/// A different word for each number, no two of which look like a variable.
fn word(number: u32) -> String {
    (0..6)
        .map(|digit| char::from(b'g' + (number / 20_u32.pow(digit) % 20) as u8))
        .collect()
}

fn known(i: u32) -> String {
    match i % 4 {
        0 => format!("Received block blk_{i} of size {} from /10.251.91.{}", i * 7, i % 256),
        1 => format!("PacketResponder {i} for block blk_{i} terminating"),
        2 => format!(
            "[instance: 5f4e{i:04x}-a1b2] Took {}.{i} seconds to build the instance on the hypervisor.",
            i % 60
        ),
        _ => "Skipping periodic task, nothing has changed since the last run of it".to_owned(),
    }
}

/// Name, and the line of each number.
type Case = (&'static str, fn(u32) -> String);

fn mine(c: &mut Criterion) {
    let mut group = c.benchmark_group("mine");
    group.throughput(Throughput::Elements(1_000));
    let cases: [Case; 3] = [
        ("known", known),
        ("new names", |i| {
            format!("session opened for user {} on the gateway", word(i))
        }),
        ("garbage", |i| {
            (0..12).map(|j| word(i * 12 + j)).collect::<Vec<_>>().join(" ")
        }),
    ];
    for (name, line) in cases {
        let lines: Vec<String> = (0..200_000).map(line).collect();
        for (showing, what) in [(Showing::All, ""), (Showing::Proven, ", redacted")] {
            let mut miner = Miner::new();
            miner.set_showing(showing);
            let mut at = 0;
            group.bench_function(format!("{name}{what}"), |b| {
                b.iter(|| {
                    for line in lines.iter().cycle().skip(at).take(1_000) {
                        black_box(miner.mine(line, None));
                    }
                    at = (at + 1_000) % lines.len();
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, mine);
criterion_main!(benches);
