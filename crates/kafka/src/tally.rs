use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

/// Records behind, by input topic.
pub type Lag = Arc<Mutex<BTreeMap<String, i64>>>;

/// What the logs of a worker show of themselves, one after the other; shared with whoever shows it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Records behind, of the log that is there now.
    pub lag: Lag,
    /// Times the group was asked to share out anew partitions that no member had.
    pub group_repairs: Arc<AtomicU64>,
    /// Times that clients did not end and were left to themselves.
    pub clients_left: Arc<AtomicU64>,
}
