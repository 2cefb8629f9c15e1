use foreshock_domain::Timestamp;
use serde::{Deserialize, Serialize};

use crate::probe::Down;

/// What a rule wants of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchRole {
    /// How many samples say up and how many say down.
    Probe,
    /// How much the counter of bad events grew, or that of good ones where the rule has such.
    Errors,
    /// How much the counter of all events grew.
    Total,
    /// That it was heard.
    Heartbeat,
    /// Whether it says that a process ended.
    Process,
    /// Why a container ended last.
    Cause,
}

/// One rule's interest in one series. Valid for the rules that made it: see [`crate::Rules::fingerprint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesWatch {
    /// Index of the rule among those of its kind.
    pub rule: u16,
    /// What it wants.
    pub role: WatchRole,
}

/// What a watched series said in one window. 64 bytes, no allocation. Made by [`crate::Rules::window`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WatchWindow {
    down_means: Down,
    pub(crate) up: u32,
    pub(crate) down: u32,
    pub(crate) first_down: Option<Timestamp>,
    pub(crate) last_up: Option<Timestamp>,
    pub(crate) last_at: Option<Timestamp>,
}

impl WatchWindow {
    pub(crate) const fn new(down_means: Down) -> Self {
        Self {
            down_means,
            up: 0,
            down: 0,
            first_down: None,
            last_up: None,
            last_at: None,
        }
    }

    /// Takes a sample in any order. NaN says that the series is alive and nothing else.
    pub fn observe(&mut self, at: Timestamp, value: f64) {
        self.last_at = self.last_at.max(Some(at));
        if value.is_nan() {
            return;
        }
        if self.down_means.holds(value) {
            self.down = self.down.saturating_add(1);
            self.first_down = Some(self.first_down.map_or(at, |first| first.min(at)));
        } else {
            self.up = self.up.saturating_add(1);
            self.last_up = self.last_up.max(Some(at));
        }
    }

    /// Empties it for the next window.
    pub fn reset(&mut self) {
        *self = Self::new(self.down_means);
    }
}
