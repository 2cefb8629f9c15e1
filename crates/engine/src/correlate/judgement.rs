//! How odd an entity is, in surprise, and what that is worth in this fleet.
//!
//! Two questions are asked of a window: is it odd (harmonic mean of the p-values), and has it been odd for long (evidence of each
//! series and template added up over windows, then averaged)? Each answer has a bound that holds where p-values are valid given
//! the past, and is also compared with how often any entity of this partition has climbed as high. The lesser surprise of the two counts,
//! and the better of the two answers, at half its p.
//!
//! Fails when: what is odd is odd for the first time and in few entities; then only the bound speaks. Cost: O(series with
//! evidence) per window, and a scan of 64 numbers where something is odd; 40 bytes per series with evidence, 600 bytes a partition.

use std::collections::{BTreeMap, VecDeque};

use foreshock_domain::{Channel, Millis, Signal, Timestamp};
use foreshock_failure::predict::Kind;
use foreshock_stats::{AlarmBudget, Evidence, Excursion, ExcursionPrior, ExcursionRate, OnlineFdr, merge_evidence};
use serde::{Deserialize, Serialize};

use super::news::News;

/// Series and templates whose lasting oddness is kept at a time.
const LASTING_MAX: usize = 128;
/// What is learned of one excursion passes the threshold by this much at most; a tenth of the budget's rate.
const BEYOND: f64 = 1.0;
/// The better of two answers is worth half.
const TWO_QUESTIONS: f64 = std::f64::consts::LOG10_2;
/// Evidence is kept from passing the level of the threshold by more than this many magnitudes of surprise, so that it is
/// forgotten in bounded time, and from passing this many of evidence, of which a quiet window takes 0.3.
const EVIDENCE_BEYOND: f64 = 2.0;
const EVIDENCE_MAX: f64 = 400.0;
/// What a series showed before must be passed by what it shows now, and is forgotten with this time constant, in steps.
const PAST_MS: f64 = 2.0 * 86_400_000.0;
const FADE_STEP_MS: Millis = 600_000;
/// Less than this is not worth remembering.
const PAST_LEAST: f64 = 3.0;
/// What was not odd for so many windows is over, however much evidence there is that it was.
const OVER_AFTER: u8 = 12;
/// Excursions that are over are remembered from this level on, this many of an entity, to be taken back if it fails.
const ENDED_LEAST: f64 = 2.0;
const ENDED_MAX: usize = 16;
/// A model has seen a whole day.
const MATURE_MS: Millis = 24 * 3_600_000;
/// An onset lies at most this long before the first window in which the second stage heard of the oddness.
const LOOK_BACK_MS: Millis = 10 * 60_000;

/// P-values are taken at their word until the fleet says otherwise.
const NOW_PRIOR: ExcursionPrior = ExcursionPrior {
    windows: 500.0,
    begins: 1.0,
    scale: 1.0,
};
/// An excursion begins beyond the gate, so with a p-value below 0.01 by default, and normal oddness is taken to last a dozen
/// windows until the fleet says otherwise.
const LASTING_PRIOR: ExcursionPrior = ExcursionPrior {
    windows: 20_000.0,
    begins: 0.01,
    scale: 24.0,
};

/// How often entities of one age climb how high.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Usual {
    now: ExcursionRate,
    lasting: ExcursionRate,
}

impl Default for Usual {
    fn default() -> Self {
        Self {
            now: ExcursionRate::new(&NOW_PRIOR),
            lasting: ExcursionRate::new(&LASTING_PRIOR),
        }
    }
}

/// What is usual among the entities of a partition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Fleet {
    /// Where models have not yet seen a whole day, and where they have.
    young: Usual,
    mature: Usual,
    account: OnlineFdr,
    /// Grave lines of kinds never seen.
    pub(crate) news: News,
}

impl Fleet {
    /// Windows up to here are decided, under this partition's share of the budget.
    pub(crate) fn advance(&mut self, until: Timestamp, share: AlarmBudget) {
        self.account.advance(until.as_millis());
        self.news.advance(until, share);
    }

    /// A precursor was confirmed by a failure.
    pub(crate) fn discovered(&mut self) {
        self.account.discovered();
        self.news.confirmed();
    }

    /// What may be spent now of this partition's share of the budget.
    pub(crate) fn spending(&self, share: AlarmBudget) -> AlarmBudget {
        self.account.spending(share)
    }
}

/// Oddness of one series or template, added up.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Lasting {
    evidence: Evidence,
    /// End of the window in which it began.
    since: Timestamp,
    /// log10 of the evidence at its greatest since it began.
    peak: f64,
    /// The same of earlier times, fading.
    past: f64,
    past_at: Timestamp,
    /// Windows since it was odd last.
    quiet: u8,
    /// The strongest signal since it began, with the earliest onset, while there is evidence: what began it need not be there when
    /// it has become enough.
    strongest: Option<Box<Signal>>,
    /// Of what kind that is.
    kind: Kind,
}

impl Lasting {
    fn new(end: Timestamp) -> Self {
        Self {
            evidence: Evidence::default(),
            since: end,
            peak: 0.0,
            past: 0.0,
            past_at: end,
            quiet: 0,
            strongest: None,
            kind: Kind::default(),
        }
    }

    fn show(&mut self, signal: &Signal) {
        let known = self.strongest.as_ref();
        let onset = known.map_or(signal.onset, |s| s.onset.min(signal.onset));
        let stronger = known.is_none_or(|s| signal.score() > s.score());
        if stronger {
            self.strongest = Some(Box::new(signal.clone()));
            self.kind = Kind::of(signal);
        }
        if let Some(strongest) = &mut self.strongest {
            strongest.onset = onset;
        }
    }

    /// Takes in a window; gives back by how much the evidence passes that of earlier times.
    fn add(&mut self, surprise: f64, gate: f64, most: f64, end: Timestamp) -> f64 {
        if end - self.past_at >= FADE_STEP_MS {
            self.past *= (-((end - self.past_at) as f64) / PAST_MS).exp();
            self.past_at = end;
        }
        if self.evidence.is_none() {
            self.since = end;
        }
        let sum = self.evidence.add(surprise, gate, most);
        self.peak = self.peak.max(sum);
        if self.evidence.is_none() {
            self.past = self.past.max(self.peak);
            self.peak = 0.0;
            self.strongest = None;
        }
        (sum - self.past).max(0.0)
    }

    fn is_forgotten(&self) -> bool {
        self.evidence.is_none() && self.past < PAST_LEAST
    }
}

/// How odd an entity has been.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Oddness {
    /// By id; those that came to nothing are dropped.
    lasting: BTreeMap<Box<str>, Lasting>,
    /// End of the first window.
    first: Option<Timestamp>,
    is_mature: bool,
    now_excursion: Excursion,
    lasting_excursion: Excursion,
    /// Of each question, with the end of the window that ended it; the oldest first.
    over: VecDeque<(Question, Excursion, Timestamp)>,
}

/// What is asked of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Question {
    Now,
    Lasting,
}

impl Oddness {
    /// Surprise of an entity's windows that end at `end`, which is compared with `threshold`; `now` is that of this moment alone.
    #[allow(clippy::too_many_arguments)] // each of another kind
    pub(crate) fn judge(
        &mut self,
        fleet: &mut Fleet,
        signals: &[Signal],
        now: f64,
        tested: u32,
        gate: f64,
        threshold: f64,
        end: Timestamp,
    ) -> f64 {
        let asked = threshold + TWO_QUESTIONS;
        self.is_mature |= end - *self.first.get_or_insert(end) >= MATURE_MS;
        let usual = if self.is_mature {
            &mut fleet.mature
        } else {
            &mut fleet.young
        };
        if signals.is_empty() && self.lasting.is_empty() {
            self.learn(usual, [0.0; 2], asked, end);
            return 0.0;
        }
        let paid = f64::from(tested.max(1)).log10();
        let most = (usual.lasting.level_of(asked + EVIDENCE_BEYOND) + paid).min(EVIDENCE_MAX);
        let lasting = self.add_up(signals, tested, gate, most, end);
        let now_surprise = now.min(usual.now.surprise(now));
        let lasting_surprise = lasting.min(usual.lasting.surprise(lasting));
        // Score before learn.
        self.learn(usual, [now, lasting], asked, end);
        (now_surprise.max(lasting_surprise) - TWO_QUESTIONS).max(0.0)
    }

    fn learn(&mut self, usual: &mut Usual, [now, lasting]: [f64; 2], asked: f64, end: Timestamp) {
        let at = end.as_millis();
        let most = |rate: &ExcursionRate, value: f64| {
            if value < 1.0 {
                value
            } else {
                rate.level_of(asked + BEYOND)
            }
        };
        let (most_now, most_lasting) = (most(&usual.now, now), most(&usual.lasting, lasting));
        let over = [
            (
                Question::Now,
                usual.now.learn(&mut self.now_excursion, at, now, most_now),
            ),
            (
                Question::Lasting,
                usual
                    .lasting
                    .learn(&mut self.lasting_excursion, at, lasting, most_lasting),
            ),
        ];
        for (question, excursion) in over {
            if let Some(excursion) = excursion.filter(|over| over.height() >= ENDED_LEAST) {
                if self.over.len() == ENDED_MAX {
                    self.over.pop_front();
                }
                self.over.push_back((question, excursion, end));
            }
        }
    }

    /// log10 of the evidence over all series and templates.
    fn add_up(&mut self, signals: &[Signal], tested: u32, gate: f64, most: f64, end: Timestamp) -> f64 {
        let is_mature = self.is_mature;
        let counts = |s: &&Signal| match s.channel() {
            // A relation is judged by running means, which have added up what lasts already.
            Channel::Correlation => false,
            // Before a whole day was seen, a morning is a trend like any other.
            Channel::Trend => is_mature,
            _ => true,
        };
        for signal in signals.iter().filter(counts) {
            if self.lasting.len() < LASTING_MAX && !self.lasting.contains_key(&signal.id) {
                self.lasting.insert(signal.id.clone(), Lasting::new(end));
            }
            if let Some(lasting) = self.lasting.get_mut(&signal.id) {
                lasting.show(signal);
            }
        }
        let mut sums = Vec::with_capacity(self.lasting.len());
        self.lasting.retain(|id, lasting| {
            let here = signals
                .iter()
                .filter(counts)
                .filter(|s| s.id == *id)
                .map(|s| s.score().surprise());
            let most = most + lasting.past;
            let surprise = here.fold(0.0, f64::max);
            let sum = lasting.add(surprise, gate, most, end);
            lasting.quiet = if surprise >= gate {
                0
            } else {
                lasting.quiet.saturating_add(1)
            };
            if lasting.quiet < OVER_AFTER {
                sums.push(sum);
            }
            !lasting.is_forgotten()
        });
        merge_evidence(&sums, tested)
    }

    /// The entity fails: what it showed since `since` was no normal oddness and is not held against the next.
    pub(crate) fn failed(&mut self, fleet: &mut Fleet, since: Timestamp) {
        let usual = if self.is_mature {
            &mut fleet.mature
        } else {
            &mut fleet.young
        };
        usual.now.withdraw(&mut self.now_excursion);
        usual.lasting.withdraw(&mut self.lasting_excursion);
        for (question, mut excursion, at) in self.over.drain(..) {
            match question {
                _ if at < since => {}
                Question::Now => usual.now.withdraw(&mut excursion),
                Question::Lasting => usual.lasting.withdraw(&mut excursion),
            }
        }
        self.lasting.retain(|_, lasting| {
            (lasting.evidence, lasting.peak, lasting.strongest) = Default::default();
            !lasting.is_forgotten()
        });
    }

    /// The kinds of its lasting oddness, each with the signal that it rests on.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (Kind, &Signal)> {
        self.lasting.values().flat_map(|lasting| {
            let kinds = lasting.kind.up_to(lasting.evidence.log10());
            kinds.filter_map(|kind| Some((kind, lasting.strongest.as_deref()?)))
        })
    }

    /// What the evidence rests on: the strongest signal of each series and template that has any.
    pub(crate) fn grounds(&self) -> Vec<Signal> {
        let strongest = self.lasting.values().filter_map(|lasting| lasting.strongest.as_deref());
        strongest.cloned().collect()
    }

    /// Since when a series or template is odd: what its model says, `onset`, but not absurdly long before this stage heard of it.
    pub(crate) fn bounded_onset(&self, id: &str, onset: Timestamp, end: Timestamp) -> Timestamp {
        let odd = self.lasting.get(id).filter(|lasting| !lasting.evidence.is_none());
        let since = odd.map_or(end, |lasting| lasting.since);
        onset.max(since - LOOK_BACK_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::signal;
    use super::*;

    fn at(window: i64) -> Timestamp {
        Timestamp::from_secs(window * 10)
    }

    fn odd() -> Signal {
        signal("latency", 6.0, at(0))
    }

    /// What the fleet makes of a moment and of lasting evidence, where an entity that was odd for `odd` windows and then quiet fails, and
    /// what it showed since a window is taken back.
    fn after_failure(odd_windows: i64, since: i64) -> [f64; 2] {
        let (mut fleet, mut oddness) = (Fleet::default(), Oddness::default());
        for window in 0..40 {
            let is_odd = window < odd_windows;
            let (now, signals) = if is_odd { (4.0, vec![odd()]) } else { (0.0, Vec::new()) };
            oddness.judge(&mut fleet, &signals, now, 10, 2.0, 5.0, at(window));
        }
        oddness.failed(&mut fleet, at(since));
        [fleet.young.now.surprise(3.0), fleet.young.lasting.surprise(6.0)]
    }

    #[test]
    fn what_came_before_a_failure_is_not_taken_for_usual() {
        let never_odd = after_failure(0, 0);
        let (taken_back, too_long_ago) = (after_failure(20, 0), after_failure(20, 1_000));
        for question in [0, 1] {
            let [never, back, ago] = [never_odd, taken_back, too_long_ago].map(|surprises| surprises[question]);
            assert!(
                (back - never).abs() < 1e-6,
                "question {question}: {back}, {never} where nothing was odd"
            );
            assert!(
                ago < never - 1e-3,
                "question {question}: {ago}, {never} where nothing was odd"
            );
        }
    }
}
