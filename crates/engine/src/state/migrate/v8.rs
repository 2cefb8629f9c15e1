//! From 8 to 9: error budgets that burn slowly, processes that end, telemetry that is lost, numbers inside lines, and what became of
//! precursors.

use foreshock_domain::Timestamp;
use serde::{Deserialize, Serialize};

use super::Step;
use super::plan::{Change, How, Made};
use crate::state::pack;

pub(super) const STEP: Step = Step {
    from: 8,
    layout: include_str!("layouts/8.txt"),
    changes: &[
        begins("CorrelatePartition", "records", records),
        begins("EntityState", "burning", || pack(&false)),
        begins("EntityState", "watched_until", || pack(&Timestamp::MIN)),
        // Told anew by the next stronger signal; until then it is of a kind that no signal is of.
        begins("Lasting", "kind", || pack(&0_u64)),
        Change {
            of: "FailureTracker",
            field: "course",
            how: How::Gathers,
        },
        // Counted as the tracker's.
        begins("Course", "dropped", || pack(&0_u64)),
        begins("Burn", "counts", || pack(&BAD)),
        Change {
            of: "Burn",
            field: "rings",
            how: How::Remade(rings),
        },
    ],
};

pub(super) const fn begins(of: &'static str, field: &'static str, value: fn() -> Made) -> Change {
    let how = How::Begins(value);
    Change { of, field, how }
}

/// No kinds, no failures, no time.
fn records() -> Made {
    pack(&(0_usize, 0_u32, 0.0_f64))
}

/// The variant of `Counts`.
const BAD: u32 = 0;

/// As version 8 had it.
#[derive(Deserialize)]
struct Ring8 {
    width_ms: i64,
    head: i64,
    buckets: Vec<(f64, f64)>,
}

/// As version 9 has it.
#[derive(Serialize)]
struct Ring9 {
    width_ms: i64,
    counts: u32,
    head: i64,
    buckets: Vec<(f64, f64)>,
}

/// Those of 1 h and 6 h are kept; to them come those of 1 d and 3 d, without a past.
fn rings(bytes: &[u8]) -> Made {
    let rings: Vec<Ring8> = postcard::from_bytes(bytes)?;
    let known = rings.into_iter().map(|ring| Ring9 {
        width_ms: ring.width_ms,
        counts: BAD,
        head: ring.head,
        buckets: ring.buckets,
    });
    let slow = [24 * 60_000, 72 * 60_000].map(|width_ms| Ring9 {
        width_ms,
        counts: BAD,
        head: i64::MIN,
        buckets: vec![(0.0, 0.0); 60],
    });
    pack(&known.chain(slow).collect::<Vec<_>>())
}
