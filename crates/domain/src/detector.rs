use serde::{Deserialize, Serialize};

use crate::Verdict;

/// How much a model may take from an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Learning {
    /// Learn; what looks bad is still learned with bounded influence.
    Normal,
    /// The entity is failing: the clock advances, nothing is learned.
    Paused,
}

/// An online model of one stream: river's verbs.
///
/// Laws, held by one conformance suite that every detector must pass:
/// - `score_one` never changes `self`, and `score_learn` gives the same as `score_one` then `learn_one`;
/// - the same inputs give the same scores, bit for bit, on every run; saving and loading changes nothing;
/// - NaN and ±Inf are missing values: they never poison; that they are missing may score, on a channel of its own;
/// - state is of fixed size after construction; no allocation per step; nothing panics.
pub trait Detector {
    /// One observation.
    type Input: ?Sized;

    /// What is surprising about `x`; `None` while warming up, or where `x` is missing and that is nothing odd. Never changes
    /// `self`.
    fn score_one(&self, x: &Self::Input) -> Option<Verdict>;

    /// Takes `x` into the baseline.
    fn learn_one(&mut self, x: &Self::Input, learning: Learning);

    /// Score before learn, in one pass where a model can share the work.
    fn score_learn(&mut self, x: &Self::Input, learning: Learning) -> Option<Verdict> {
        let verdict = self.score_one(x);
        self.learn_one(x, learning);
        verdict
    }
}
