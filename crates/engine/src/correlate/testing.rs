//! What tests of this stage play, those beside it in `tests/` as well.

use foreshock_domain::{Channel, Direction, Score, Signal, Source, Timestamp, Verdict};

/// A metric's level that is higher than usual.
pub fn signal(id: &str, surprise: f64, onset: Timestamp) -> Signal {
    Signal {
        source: Source::Metric,
        id: id.into(),
        name: id.into(),
        unit: None,
        verdict: Verdict {
            score: Score::from_surprise(surprise),
            channel: Channel::Level,
            direction: Direction::Up,
            actual: 9.0,
            expected: 5.0,
            lower: 4.0,
            upper: 6.0,
        },
        onset,
        share: None,
        log: None,
    }
}
