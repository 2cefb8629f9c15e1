use serde::{Deserialize, Serialize};

use crate::{Millis, Timestamp};

/// One partition of an input topic, as the second stage knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Upstream {
    /// Input topic.
    pub topic: Box<str>,
    /// Partition of it.
    pub partition: i32,
}

/// How far an input partition has come: every window that ends at or before `watermark` has been sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Which input partition.
    pub upstream: Upstream,
    /// Event time up to which its windows are closed.
    pub watermark: Timestamp,
}

/// The clock is in the log: the owner of a signals partition writes ticks into it, so that absence is found as
/// deterministically as everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// The writer's clock.
    pub at: Timestamp,
    /// How often the writer means to tick. A longer gap means that nobody was watching, and counts as one interval.
    pub every_ms: Millis,
}
