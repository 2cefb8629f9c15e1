use foreshock_domain::{Score, Verdict};
use serde::{Deserialize, Serialize};

use crate::TemplateId;

/// Lines of one template in one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCount {
    /// Template.
    pub id: TemplateId,
    /// Lines, at least 1.
    pub count: u32,
}

/// What is odd about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SessionOddity {
    /// It lacks a line that nearly all sessions have.
    Missing,
    /// It has a line that hardly any session has.
    Rare,
    /// More lines of a template than usual.
    TooMany,
    /// Fewer lines of a template than usual, and yet some.
    TooFew,
    /// Each line is usual, but not beside, or without, the others.
    Combination,
    /// Each line is usual, but not that often beside the others.
    Proportion,
}

impl SessionOddity {
    /// A word that never changes, for ids.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Rare => "rare",
            Self::TooMany => "many",
            Self::TooFew => "few",
            Self::Combination => "combination",
            Self::Proportion => "proportion",
        }
    }
}

/// What the model says of one session.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionVerdict {
    /// What is oddest about it.
    pub oddity: SessionOddity,
    /// The template it shows in.
    pub id: TemplateId,
    /// Counts are in lines of that template in the session; `expected` is the usual count, 0 where most have none.
    pub verdict: Verdict,
    /// Taken for broken or foreign by the robust rules, and so not learned as normal.
    pub rejected: bool,
}

impl SessionVerdict {
    /// Surprise of the session.
    #[must_use]
    pub fn score(&self) -> Score {
        self.verdict.score
    }
}
