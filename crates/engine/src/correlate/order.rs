//! When a window may be decided: all inputs have come as far as its end.
//!
//! Inputs are read at different speeds, above all while catching up, and an entity's metrics and logs must meet in the same
//! window whatever the speeds are. So every input partition says how far it has come ([`Progress`]), and the least of these is
//! how far the second stage goes. An input that says nothing for [`IDLE_MS`] of observed time no longer holds the others back.
//!
//! Observed time is what ticks add up to. A gap between ticks counts as two intervals at most: nobody was watching, and what is
//! not watched can't be missed. So neither a restart nor a backlog makes anything look silent.
//!
//! Fails when: an input is stalled for longer than [`IDLE_MS`] and then goes on; its windows come late and are taken by
//! themselves. Cost: O(log inputs) per progress record, O(inputs) per decision; 100 bytes per input partition.

use std::collections::BTreeMap;

use foreshock_domain::{Millis, Progress, Tick, Timestamp, Upstream};
use serde::{Deserialize, Serialize};

/// An input that says nothing for this long does not hold back the others.
const IDLE_MS: Millis = 60_000;
/// For this long after the first input was heard nothing is decided, since further inputs may be on their way.
const SETTLE_MS: Millis = 30_000;
/// A watermark set back by more than this means that the sources' clocks were set back.
const SET_BACK_MS: Millis = 24 * 3_600_000;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Reached {
    watermark: Timestamp,
    heard_ms: Millis,
}

/// How far each input has come, and the observed time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    inputs: BTreeMap<Upstream, Reached>,
    first_heard_ms: Option<Millis>,
    observed_ms: Millis,
    last_tick: Option<Timestamp>,
    decided_until: Timestamp,
}

impl Default for Order {
    fn default() -> Self {
        Self {
            inputs: BTreeMap::new(),
            first_heard_ms: None,
            observed_ms: 0,
            last_tick: None,
            decided_until: Timestamp::MIN,
        }
    }
}

impl Order {
    pub(crate) fn tick(&mut self, tick: Tick) {
        let passed = self.last_tick.map_or(0, |last| tick.at - last);
        self.observed_ms += passed.clamp(0, tick.every_ms.max(0).saturating_mul(2));
        self.last_tick = Some(self.last_tick.map_or(tick.at, |last| last.max(tick.at)));
    }

    pub(crate) fn progress(&mut self, progress: Progress) {
        let heard_ms = self.observed_ms;
        self.first_heard_ms.get_or_insert(heard_ms);
        if self.decided_until - progress.watermark > SET_BACK_MS {
            self.decided_until = progress.watermark;
        }
        self.inputs.insert(
            progress.upstream,
            Reached {
                watermark: progress.watermark,
                heard_ms,
            },
        );
    }

    /// Milliseconds of observed time.
    pub(crate) fn observed_ms(&self) -> Millis {
        self.observed_ms
    }

    /// Windows that end at or before this are decided; what comes of them now is late.
    pub(crate) fn decided_until(&self) -> Timestamp {
        self.decided_until
    }

    /// How far windows may be decided now; never goes back but with the sources' clocks.
    pub(crate) fn advance(&mut self) -> Timestamp {
        if self
            .first_heard_ms
            .is_none_or(|first| self.observed_ms - first < SETTLE_MS)
        {
            return self.decided_until;
        }
        let awake = self.inputs.values().filter(|r| self.observed_ms - r.heard_ms < IDLE_MS);
        // Where all are idle, what has been sent is all there will be.
        let all = self.inputs.values().map(|r| r.watermark).max();
        if let Some(reached) = awake.map(|r| r.watermark).min().or(all) {
            self.decided_until = self.decided_until.max(reached);
        }
        self.decided_until
    }

    /// Windows up to here were decided early, for lack of room.
    pub(crate) fn forced_to(&mut self, end: Timestamp) {
        self.decided_until = self.decided_until.max(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(s: i64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 + s)
    }

    fn progress(topic: &str, s: i64) -> Progress {
        Progress {
            upstream: Upstream {
                topic: topic.into(),
                partition: 0,
            },
            watermark: t(s),
        }
    }

    fn ticked(order: &mut Order, from: i64, to: i64) {
        for s in (from..=to).step_by(5) {
            order.tick(Tick {
                at: t(s),
                every_ms: 5_000,
            });
        }
    }

    fn settled() -> Order {
        let mut order = Order::default();
        order.progress(progress("metrics", 0));
        order.progress(progress("logs", 0));
        ticked(&mut order, 0, 30);
        order
    }

    #[test]
    fn the_slowest_input_decides() {
        let mut order = settled();
        order.progress(progress("metrics", 100));
        order.progress(progress("logs", 40));
        assert_eq!(order.advance(), t(40));
        order.progress(progress("logs", 110));
        assert_eq!(order.advance(), t(100));
    }

    #[test]
    fn nothing_is_decided_before_all_inputs_had_time_to_show_up() {
        let mut order = Order::default();
        order.progress(progress("metrics", 100));
        ticked(&mut order, 0, 25);
        assert_eq!(order.advance(), Timestamp::MIN);
        ticked(&mut order, 30, 30);
        assert_eq!(order.advance(), t(100));
    }

    #[test]
    fn an_idle_input_holds_nobody_back() {
        let mut order = settled();
        order.progress(progress("logs", 40));
        for s in (35..=115).step_by(5) {
            ticked(&mut order, s, s);
            order.progress(progress("metrics", s));
        }
        assert_eq!(order.advance(), t(115));
    }

    #[test]
    fn a_gap_between_ticks_is_two_intervals() {
        let mut order = settled();
        let before = order.observed_ms();
        ticked(&mut order, 86_400, 86_400);
        assert_eq!(order.observed_ms() - before, 10_000);
        // A clock that goes back adds nothing, now or when it catches up.
        ticked(&mut order, 10, 10);
        ticked(&mut order, 86_400, 86_400);
        assert_eq!(order.observed_ms() - before, 10_000);
    }

    #[test]
    fn sources_set_back_by_more_than_a_day_set_the_order_back() {
        let mut order = settled();
        order.progress(progress("metrics", 10 * 86_400));
        order.progress(progress("logs", 10 * 86_400));
        assert_eq!(order.advance(), t(10 * 86_400));
        order.progress(progress("metrics", 0));
        assert_eq!(order.decided_until(), t(0));
    }
}
