//! Records of the signals topic by hand, as the first stage writes them: what tests of the second stage play.

#![allow(dead_code)] // no test needs all of it

#[path = "../../src/correlate/testing.rs"]
mod testing;

use foreshock_domain::{
    Entity, EntityWindow, Progress, Signal, SignalRecord, SourcePosition, Tick, Timestamp, Upstream,
};
pub use testing::signal;

pub const WIDTH_MS: i64 = 10_000;

/// Where a window begins.
pub fn at(window: i64) -> Timestamp {
    Timestamp::from_millis(1_760_000_000_000 + window * WIDTH_MS)
}

pub fn upstream() -> Upstream {
    Upstream {
        topic: "m".into(),
        partition: 0,
    }
}

pub fn position(offset: i64) -> SourcePosition {
    SourcePosition {
        upstream: upstream(),
        offset_first: offset,
        offset_last: offset,
    }
}

/// A window in which ten series were tested.
pub fn entity_window(entity: &str, window: i64, signals: Vec<Signal>) -> EntityWindow {
    EntityWindow {
        entity: Entity::new(entity),
        start: at(window),
        end: at(window + 1),
        position: position(window),
        samples: 10,
        lines: 0,
        tested: 10,
        signals,
        vector: Vec::new(),
        templates: Vec::new(),
        facts: Vec::new(),
    }
}

/// What comes behind the windows of all entities, and decides them.
pub fn decided(window: i64) -> [SignalRecord; 2] {
    let end = at(window + 1);
    [
        SignalRecord::Progress(Progress {
            upstream: upstream(),
            watermark: end,
        }),
        SignalRecord::Tick(Tick {
            at: end,
            every_ms: WIDTH_MS,
        }),
    ]
}
