//! What is left of an alarm budget: an account that holds [`SAVED_DAYS`] days of it at first and at most, fills at its rate, and pays
//! for every alarm, so that in a time T no more alarms are paid from it than the budget grants for T and those days. A
//! calibrated threshold keeps a budget on average and mostly leaves part of it; what it leaves may be spent on what is worth
//! telling and not rare enough for the threshold.
//!
//! **Fails when** what is paid from it is common: then the first of each day is told, whatever it is; who spends must ask for
//! more than that something is left. **Cost:** three operations a step; 24 bytes.
//! **Method:** a token bucket; as an alarm budget the wealth of alpha-investing (D. Foster, R. Stine, *Journal of the Royal
//! Statistical Society B* 70(2), 2008), which earns by time here, and pays by the alarm instead of by the test.

use serde::{Deserialize, Serialize};

use crate::AlarmBudget;

/// Days of the budget that are saved at most.
pub const SAVED_DAYS: f64 = 7.0;
/// A jump of the clock counts as one hour: nobody was watching.
const JUMP_MS: i64 = 3_600_000;
const DAY_MS: f64 = 86_400_000.0;

/// Alarms of a budget that were not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Unspent {
    alarms: f64,
    at_ms: Option<i64>,
}

impl Unspent {
    /// Time passes, in ms of event time; gives back how much of it counts.
    pub fn advance(&mut self, at_ms: i64, budget: AlarmBudget) -> i64 {
        // `max` turns NaN into 0.
        let rate = budget.false_alarms_per_day.max(0.0);
        let saved = SAVED_DAYS * rate;
        let Some(at) = self.at_ms.replace(at_ms) else {
            self.alarms += saved;
            return 0;
        };
        let since = at_ms.saturating_sub(at).clamp(0, JUMP_MS);
        // Of a small share one alarm can be saved up all the same.
        let most = if rate > 0.0 { saved.max(1.0) } else { 0.0 };
        self.alarms = (self.alarms + rate * since as f64 / DAY_MS).clamp(-most, most);
        since
    }

    /// Whether an alarm can be paid.
    #[must_use]
    pub fn covers_one(&self) -> bool {
        // A day's hours may add up to a little less than a day.
        self.alarms >= 1.0 - 1e-9
    }

    /// An alarm was told, paid or not.
    pub fn spend(&mut self) {
        self.alarms -= 1.0;
    }

    /// One proved true: it was no false alarm.
    pub fn refund(&mut self) {
        self.alarms += 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const ONE: AlarmBudget = AlarmBudget {
        false_alarms_per_day: 1.0,
    };

    /// `h`: an hour passes; `d`: a day of hours; `j`: the clock jumps by a month; `b`: it goes back; `s`: spent; `r`: refunded.
    fn after(steps: &str) -> Unspent {
        let (mut unspent, mut at) = (Unspent::default(), 0);
        unspent.advance(at, ONE);
        for step in steps.chars() {
            let hours: &[i64] = match step {
                'h' => &[1],
                'd' => &[1; 24],
                'j' => &[720],
                'b' => &[-720],
                _ => &[],
            };
            for hour in hours {
                at += hour * HOUR;
                unspent.advance(at, ONE);
            }
            match step {
                's' => unspent.spend(),
                'r' => unspent.refund(),
                _ => {}
            }
        }
        unspent
    }

    #[test]
    fn cases() {
        for (steps, covers) in [
            ("", true),
            ("ssssss", true),
            ("sssssss", false),
            ("dddddddsssssss", false),
            ("sssssssd", true),
            ("sssssssdsh", false),
            ("sssssssr", true),
            ("sssssssj", false),
            ("sssssssbbbb", false),
            // No more is owed than is saved.
            ("sssssssssssssssssssssssshddddddd", false),
            ("sssssssssssssssssssssssshdddddddd", true),
        ] {
            assert_eq!(after(steps).covers_one(), covers, "{steps}");
        }
    }

    #[test]
    fn no_more_is_told_than_the_budget_grants() {
        for of in [0.0, 0.3, 1.0, 20.0, f64::NAN] {
            let (mut unspent, mut told, days) = (Unspent::default(), 0.0, 200);
            for minute in 0..days * 1_440 {
                unspent.advance(
                    minute * 60_000,
                    AlarmBudget {
                        false_alarms_per_day: of,
                    },
                );
                if unspent.covers_one() {
                    unspent.spend();
                    told += 1.0;
                }
            }
            let granted = if of > 0.0 { of * (days as f64 + SAVED_DAYS) } else { 0.0 };
            assert!(told <= granted && told >= granted - 2.0, "{told} of {granted}");
        }
    }
}
