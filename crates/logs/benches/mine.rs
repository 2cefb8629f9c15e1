//! What a line costs: on the known path, on a stream of new names, on garbage, and with masks of the user's before it.
//!
//! The lines are made up; figures on real logs are in `docs/models/logs.md`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foreshock_logs::{Masking, Masks, Miner, Showing};

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

/// Patterns that begin with a word of their own, as most do, or with none that a search could look for.
fn patterns(how_many: u32, with_words: bool) -> Vec<(String, String)> {
    (0..how_many)
        .map(|i| {
            let pattern = if with_words {
                format!("{}-[A-Z]+", word(i * 7_919).to_uppercase())
            } else {
                format!(r"\b[A-Z]{{{}}}[a-z]+[A-Z]+\b", 2 + i)
            };
            (format!("mask-{}", word(i)), pattern)
        })
        .collect()
}

/// The known path behind masks that match in no line, and in each.
fn masked(c: &mut Criterion) {
    let mut group = c.benchmark_group("masks");
    group.throughput(Throughput::Elements(1_000));
    let plain: Vec<String> = (0..1_000).map(known).collect();
    for how_many in [0, 1, 10, 50] {
        for (with_words, kind) in [(true, "a word each"), (false, "no word")] {
            let patterns = patterns(how_many, with_words);
            let list: Vec<(&str, &str)> = patterns.iter().map(|(n, p)| (n.as_str(), p.as_str())).collect();
            let masks = Masks::new(&list).ok();
            let hit = |i: u32| {
                if with_words {
                    format!(
                        "{} for {}-ABC",
                        known(i),
                        word(i % how_many.max(1) * 7_919).to_uppercase()
                    )
                } else {
                    format!("{} for ABxyC", known(i))
                }
            };
            let each: Vec<String> = (0..1_000).map(hit).collect();
            for (lines, what) in [(&plain, "in no line"), (&each, "in each line")] {
                if how_many == 0 && !with_words {
                    continue;
                }
                let mut miner = Miner::new();
                if let Some(masks) = &masks {
                    miner.set_placeholders(masks.placeholders());
                }
                let mut masking = Masking::default();
                group.bench_function(format!("{how_many}, {kind}, {what}"), |b| {
                    b.iter(|| {
                        for line in lines {
                            let line = masks.as_ref().map_or(line.as_str(), |m| masking.apply(m, line));
                            black_box(miner.mine(line, None));
                        }
                    });
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, mine, masked);
criterion_main!(benches);
