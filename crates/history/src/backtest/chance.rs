//! What the same alerts reach by chance: each entity's are moved by a random time along its own record, round its end. They keep their
//! number and rhythm and lose their tie to the failures.

use std::collections::BTreeMap;

use foreshock_domain::{Entity, Millis};

use super::collect::{Alert, Collected};
use super::evaluate::{Terms, by_entity, is_hit};
use crate::labels::Label;

/// Shifts of the null.
const SHIFTS: u32 = 499;

/// Mean recall of shifted alerts, and the share of shifts that reach `reached`.
pub(super) fn chance(terms: &Terms, targets: &[&Label], collected: &Collected, reached: usize) -> (f64, f64) {
    if targets.is_empty() {
        return (0.0, 1.0);
    }
    let mut alerts: BTreeMap<&Entity, Vec<Alert>> = BTreeMap::new();
    for episode in &collected.episodes {
        alerts.entry(&episode.entity).or_default().extend(&episode.alerts);
    }
    let of_entity = by_entity(targets.iter().copied());
    let (mut sum, mut as_good, mut random) = (0, 0, SplitMix(1));
    for _ in 0..SHIFTS {
        let mut caught = 0;
        for (entity, failures) in &of_entity {
            let (Some(own), Some((first, last))) = (alerts.get(entity), collected.spans.get(*entity)) else {
                continue;
            };
            let span = (*last - *first).max(1);
            #[allow(clippy::cast_possible_wrap)] // below the span
            let by = (random.next() % span.unsigned_abs()) as Millis;
            let moved = |a: &Alert| Alert {
                at: *first + (a.at - *first + by).rem_euclid(span),
                ..*a
            };
            let moved: Vec<Alert> = own.iter().map(moved).collect();
            caught += failures
                .iter()
                .filter(|f| moved.iter().any(|a| is_hit(terms, *a, f)))
                .count();
        }
        sum += caught;
        as_good += usize::from(caught >= reached);
    }
    let shifts = f64::from(SHIFTS);
    let mean = sum as f64 / shifts / targets.len() as f64;
    // The record itself is one of the arrangements (Phipson, Smyth, SAGMB 9(1), 2010).
    (mean, (as_good + 1) as f64 / (shifts + 1.0))
}

/// Steele, Lea, Flood, OOPSLA 2014: enough for shifts, and the same on every machine.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
