//! Grave lines of a kind never seen, which are told the moment they come: from what the calibrated threshold leaves of the budget.
//!
//! Such lines are the surest single sign that logs give, and still too common for the threshold of a small budget: some come in
//! every week of a healthy deployment. So they are told where fewer than [`COMMON`] times the budget of them are expected, and
//! where a false alarm of the budget is left unspent. Those that come within some minutes are one happening, told of the entity that
//! wrote the first.
//!
//! Fails where many that meant nothing came not long before: what is left of the budget is then spent, and the next waits for the
//! threshold. Cost: some operations a window; 60 bytes.

use foreshock_domain::{Millis, Timestamp};
use foreshock_stats::{AlarmBudget, Unspent};
use serde::{Deserialize, Serialize};

/// Happenings expected for each false alarm of the budget from which on they are too common to be told.
const COMMON: f64 = 8.0;
/// Within so long of its begin it is the same happening.
const SAME_MS: Millis = 300_000;
/// What was counted is forgotten with this time constant.
const MEMORY_MS: f64 = 2.0 * 86_400_000.0;
const DAY_MS: f64 = 86_400_000.0;

/// How often such lines come in this partition, and what is left of its share of the budget.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct News {
    unspent: Unspent,
    /// Happenings and time watched, fading.
    happenings: f64,
    watched_ms: f64,
    /// When the last happening began.
    last: Option<Timestamp>,
}

impl News {
    /// Time passes under this share of the budget.
    pub(crate) fn advance(&mut self, until: Timestamp, share: AlarmBudget) {
        let passed = self.unspent.advance(until.as_millis(), share) as f64;
        let keep = (-passed / MEMORY_MS).exp();
        self.happenings *= keep;
        self.watched_ms = self.watched_ms * keep + passed;
    }

    /// One came at `at`; whether it is to be told. Judged, then learned.
    pub(crate) fn take(&mut self, at: Timestamp, share: AlarmBudget) -> bool {
        let expected = (self.happenings + 1.0) * DAY_MS;
        let is_rare = expected < COMMON * share.false_alarms_per_day * self.watched_ms;
        if self.last.is_some_and(|last| (0..SAME_MS).contains(&(at - last))) {
            return false;
        }
        self.happenings += 1.0;
        self.last = Some(at);
        is_rare && self.unspent.covers_one()
    }

    /// A precursor was told.
    pub(crate) fn told(&mut self) {
        self.unspent.spend();
    }

    /// One was confirmed by a failure.
    pub(crate) fn confirmed(&mut self) {
        self.unspent.refund();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: AlarmBudget = AlarmBudget {
        false_alarms_per_day: 1.0,
    };

    fn minutes(m: i64) -> Timestamp {
        Timestamp::from_secs(60 * m)
    }

    /// Minutes at which one comes, and which of them are told.
    fn told(at: &[i64]) -> Vec<i64> {
        let (mut news, mut told, mut clock) = (News::default(), Vec::new(), 0);
        for &at in at {
            while clock <= at {
                news.advance(minutes(clock), SHARE);
                clock += 1;
            }
            if news.take(minutes(at), SHARE) {
                news.told();
                told.push(at);
            }
        }
        told
    }

    #[test]
    fn cases() {
        const HOUR: i64 = 60;
        assert!(told(&[1, HOUR]).is_empty(), "what is rare isn't known yet");
        assert_eq!(told(&[5 * HOUR]), [5 * HOUR]);
        let flock = [30, 31, 33].map(|m| 5 * HOUR + m);
        assert_eq!(told(&flock), flock[..1], "one happening");
        let daily: Vec<i64> = (1..30).map(|day| 24 * HOUR * day).collect();
        assert_eq!(told(&daily), daily, "as many as the budget");
        let thrice: Vec<i64> = (3..90).map(|i| 8 * HOUR * i).collect();
        let paid = told(&thrice).len();
        assert!((30..=37).contains(&paid), "a week's and a month's: {paid}");
        let hourly: Vec<i64> = (0..200).map(|h| HOUR * h).collect();
        assert!(told(&hourly).is_empty(), "nothing new in it");
    }

    #[test]
    fn what_proved_true_is_no_false_alarm() {
        let mut news = News::default();
        for m in 0..3_000 {
            news.advance(minutes(m), SHARE);
        }
        for _ in 0..7 {
            news.told();
        }
        assert!(!news.take(minutes(3_000), SHARE));
        news.confirmed();
        assert!(news.take(minutes(3_010), SHARE));
    }
}
