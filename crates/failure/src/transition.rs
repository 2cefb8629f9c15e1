use foreshock_domain::{EventAction, SourcePosition, Timestamp};
use serde::{Deserialize, Serialize};

/// How an entity is at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// No failure: what is odd may be a precursor.
    Healthy,
    /// In a failure: what is odd is a symptom of it, and nothing is learned.
    Failing,
    /// After the end of a failure, before its cooldown has passed: still its symptoms.
    Cooldown,
}

/// A step in the life of a failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// Open, update or resolve.
    pub action: EventAction,
    /// 0 for open, then 1, 2, …
    pub seq: u32,
    /// The how-manieth failure of this entity, from 0: with the entity it names the incident.
    pub ordinal: u64,
    /// Class of the cause that opened it.
    pub class: Box<str>,
    /// Name of the rule that opened it.
    pub rule: Box<str>,
    /// What the rule behind this step saw, for a person; at most 512 bytes.
    pub evidence: String,
    /// Since when the service fails, as known now: an update may move it back.
    pub onset: Timestamp,
    /// End of the window that made this step; for silence, the event time that would be by the observed clock.
    pub observed_at: Timestamp,
    /// When the last cause was over; set when resolved.
    pub ended_at: Option<Timestamp>,
    /// The records behind this step; none for silence.
    pub position: Option<SourcePosition>,
}
