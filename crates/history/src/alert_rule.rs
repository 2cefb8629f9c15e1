//! What a person would be told while reading a file: the surprise of an event where it opens or escalates, 0 elsewhere.
//!
//! An event opens on what is new, once: for a time after it was told only what is clearly stranger is told again. What is
//! no stranger than events that were told before is told with less surprise, the less the more there were and the more
//! recent they are: the third spike of a kind is hardly news.
//!
//! **Fails when** two failures that look alike and have nothing to do with each other come within a few thousand rows: the
//! second is told with up to half a magnitude less. **Cost:** a comparison a row; some exponentials a surprising one;
//! [`Alerts`] is of fixed size.
//! **Method:** habituation, R. F. Thompson, W. A. Spencer, *Psychological Review* 73(1), 1966: response falls with
//! repetition, recovers with time, and not for a stronger stimulus.

use crate::entity_bank::RowScore;

/// Events remembered.
const REMEMBERED: usize = 32;
/// How sharply "no stranger than before" is drawn, per magnitude.
const SHARPNESS: f64 = 4.0;

/// How surprises become alerts. Times are in rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AlertRule {
    /// Surprise of an event of a given novelty: magnitudes per magnitude. Rows of one event are no separate chances, so an
    /// event is rarer than its row; chosen so that on failure-free series events pass 3 and 4 about as often as they say.
    pub scale: f64,
    /// Surprise at which an event opens. Low by default, because whoever reads a whole file ranks its alerts and sets the
    /// bar afterwards.
    pub open_at: f64,
    /// Rows for which a told event keeps others, that are not clearly stranger, from opening.
    pub refractory: f64,
    /// An event is told again when this many magnitudes stranger.
    pub escalate_by: f64,
    /// Magnitudes that a tenfold number of events like it takes off.
    pub habituation: f64,
    /// Magnitudes by which an event before must have been stranger to count as like it in full.
    pub tolerance: f64,
    /// Rows after which an event before counts half.
    pub half_life: f64,
}

impl Default for AlertRule {
    fn default() -> Self {
        Self {
            scale: 1.25,
            open_at: 2.5,
            refractory: 98.5,
            escalate_by: 1.438,
            habituation: 0.759,
            tolerance: 9.375,
            half_life: 3660.0,
        }
    }
}

/// What was told of one series or file so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alerts {
    row: u64,
    /// Row of the last event told, its surprise before habituation, and whether there is one.
    told_at: u64,
    told: f64,
    /// Row and surprise of events, in a ring; the newest at `newest`.
    remembered: [(u64, f64); REMEMBERED],
    events: usize,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            row: 0,
            told_at: 0,
            told: 0.0,
            remembered: [(0, 0.0); REMEMBERED],
            events: 0,
        }
    }
}

/// What a row is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scored {
    /// Surprise of the row; that of the event where one is told.
    pub score: f64,
    /// Surprise of the event where one opens or escalates, 0 elsewhere.
    pub alert: f64,
}

impl Alerts {
    /// A row's score and alert, from what the models say of it; `None` while they say nothing.
    pub fn score(&mut self, rule: &AlertRule, scored: Option<RowScore>) -> Scored {
        let alert = self.step(rule, scored.map_or(f64::NAN, |s| s.novelty));
        let score = scored.map_or(0.0, |s| s.score);
        // What is told and what is shown are one number.
        Scored {
            score: if alert > 0.0 { alert } else { score },
            alert,
        }
    }

    /// The surprise where an event opens or escalates, and 0 elsewhere, for a row of this novelty (−log10 p); NaN is none.
    pub fn step(&mut self, rule: &AlertRule, novelty: f64) -> f64 {
        self.row += 1;
        let surprise = novelty * rule.scale;
        if surprise.is_nan() || surprise < rule.open_at {
            return 0.0;
        }
        let rested = self.events == 0 || (self.row - self.told_at) as f64 >= rule.refractory;
        if !rested && surprise < self.told + rule.escalate_by {
            return 0.0;
        }
        let known = self.events - usize::from(!rested);
        let habituated = surprise - rule.habituation * (1.0 + self.alike(rule, surprise, known)).log10();
        if rested && habituated < rule.open_at {
            return 0.0;
        }
        self.events = known + 1;
        self.remembered[known % REMEMBERED] = (self.row, surprise);
        (self.told_at, self.told) = (self.row, surprise);
        if habituated < rule.open_at { 0.0 } else { habituated }
    }

    /// How many of the first `known` events are like one of this surprise, or stranger; faded with time.
    fn alike(&self, rule: &AlertRule, surprise: f64, known: usize) -> f64 {
        (known.saturating_sub(REMEMBERED)..known)
            .map(|i| {
                let (row, other) = self.remembered[i % REMEMBERED];
                let faded = 0.5f64.powf((self.row - row) as f64 / rule.half_life);
                faded / (1.0 + (SHARPNESS * (surprise - other) / rule.tolerance).exp())
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_told_once_and_again_when_stranger() {
        let rule = AlertRule {
            scale: 1.0,
            open_at: 2.0,
            escalate_by: 1.0,
            ..AlertRule::default()
        };
        // (name, novelty of each row, rows told)
        let cases: [(&str, &[f64], &[usize]); 5] = [
            ("quiet", &[0.0, 1.9, f64::NAN], &[]),
            ("lasting", &[3.0, 3.2, 3.4], &[0]),
            ("growing", &[3.0, 3.2, 4.6, 5.0], &[0, 2]),
            ("after missing ones", &[f64::NAN, 2.5], &[1]),
            ("infinite", &[f64::INFINITY, 3.0], &[0]),
        ];
        for (name, novelties, told) in cases {
            let mut alerts = Alerts::default();
            let found: Vec<usize> = (0..novelties.len())
                .filter(|&i| alerts.step(&rule, novelties[i]) > 0.0)
                .collect();
            assert_eq!(found, told, "{name}");
        }
    }

    #[test]
    fn what_comes_back_is_told_with_less_surprise_and_what_is_stranger_is_not() {
        let rule = AlertRule::default();
        let mut alerts = Alerts::default();
        let mut told = Vec::new();
        for i in 0..100_000 {
            let alert = alerts.step(&rule, if i % 500 == 10 { 4.0 } else { 0.0 });
            if i % 500 == 10 {
                told.push(alert);
            }
        }
        assert!(told[3] < told[1] && told[1] < told[0], "{told:?}");
        assert!(told[199] > 0.5 * told[0], "fades, so that it settles: {}", told[199]);
        assert!(
            alerts.step(&rule, 12.0) > 0.99 * 12.0 * rule.scale,
            "stranger than all before"
        );
    }
}
