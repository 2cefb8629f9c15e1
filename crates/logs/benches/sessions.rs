//! What sessions cost: naming and gathering a line, judging and learning a session.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foreshock_domain::{Learning, Timestamp};
use foreshock_logs::{OpenSessions, SessionCount, SessionIds, SessionModel, TemplateId};

/// Session number `i` of a service with so many kinds of lines: seven that all have, some that few have.
fn session(i: u64, kinds: u64) -> Vec<SessionCount> {
    let mut ids: Vec<u64> = (1..=7)
        .chain((0..3).map(|k| 8 + (i * 7 + k * k * i / 3) % kinds))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let count = |id| SessionCount {
        id: TemplateId(id),
        count: 1 + u32::try_from(i * id % 4).unwrap_or(0),
    };
    ids.into_iter().map(count).collect()
}

fn sessions(c: &mut Criterion) {
    let mut group = c.benchmark_group("sessions");
    group.throughput(Throughput::Elements(1_000));
    let Ok(ids) = SessionIds::new(&[], Some(r"blk_-?\d+"), None) else {
        return;
    };
    let lines: Vec<String> = (0..200_000)
        .map(|i| {
            format!(
                "Received block blk_{} of size {} from /10.251.91.{}",
                i / 20 + i % 300,
                i * 7,
                i % 256
            )
        })
        .collect();
    let mut open = OpenSessions::default();
    let mut at = 0;
    group.bench_function("name and gather lines", |b| {
        b.iter(|| {
            for line in lines.iter().cycle().skip(at).take(1_000) {
                let now = Timestamp::from_millis(at as i64);
                ids.each(&[], line, |id| {
                    open.add(id, TemplateId(black_box(at as u64) % 20 + 1), now, 0, false);
                });
            }
            at = (at + 1_000) % lines.len();
            while let Some(over) = open.next_over(Timestamp::from_millis(at as i64), 60_000) {
                open.recycle(over);
            }
        });
    });
    for kinds in [20, 400] {
        let sessions: Vec<_> = (0..20_000).map(|i| session(i, kinds)).collect();
        let mut model = SessionModel::units();
        let mut at = 0;
        group.bench_function(format!("judge and learn, {kinds} kinds of lines"), |b| {
            b.iter(|| {
                for session in sessions.iter().cycle().skip(at).take(1_000) {
                    black_box(model.score_learn(session, Learning::Normal));
                }
                at = (at + 1_000) % sessions.len();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, sessions);
criterion_main!(benches);
