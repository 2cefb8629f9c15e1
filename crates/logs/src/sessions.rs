use foreshock_domain::{Learning, Millis, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Miner, OpenSession, OpenSessions, SessionCount, SessionModel, SessionVerdict};

/// The sessions of one input partition, under way and over: [`OpenSessions`] into a [`SessionModel`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sessions {
    /// Under way.
    pub open: OpenSessions,
    /// What is normal of those that are over.
    pub model: SessionModel,
    #[serde(skip)]
    counts: Vec<SessionCount>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            open: OpenSessions::default(),
            model: SessionModel::units(),
            counts: Vec::new(),
        }
    }
}

impl Sessions {
    /// Judges, and then learns, the sessions that are over by `now`, in the order in which they fell silent. `learning` says
    /// whether a session may be learned from; `told` gets each with what the model says of it.
    pub fn close(
        &mut self,
        now: Timestamp,
        idle: Millis,
        miner: &Miner,
        mut learning: impl FnMut(&OpenSession) -> Learning,
        mut told: impl FnMut(&OpenSession, Option<SessionVerdict>),
    ) {
        self.model.reconcile(miner);
        while let Some(session) = self.open.next_over(now, idle) {
            session.canonical_counts(|id| miner.canonical(id), &mut self.counts);
            let verdict = self.model.score_learn(&self.counts, learning(&session));
            told(&session, verdict);
            self.open.recycle(session);
        }
    }
}
