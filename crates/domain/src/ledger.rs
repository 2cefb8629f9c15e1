use serde::{Deserialize, Serialize};

use crate::{Entity, Grade, IncidentId, Score, Timestamp};

/// What became of a precursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// The entity failed while it was open, or within the horizon after.
    Confirmed,
    /// The entity was watched for the whole horizon after it was resolved, and did not fail.
    Expired,
    /// Planned work began before the horizon had passed: whether it would have failed is not known.
    Mitigated,
    /// What would have come of it can't be known, for another reason.
    Censored,
}

/// Why a precursor's fate can't be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Censoring {
    /// The entity was forgotten before the horizon had passed.
    Forgotten,
    /// The failure had begun before the precursor was told: it foretold nothing, and was no false alarm.
    Symptom,
    /// More precursors of the entity were waiting than are remembered.
    Crowded,
}

/// One precursor, when its fate is known. Each is told once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The precursor.
    pub incident_id: IncidentId,
    /// Of whom.
    pub entity: Entity,
    /// The highest grade it had.
    pub grade: Grade,
    /// Its greatest surprise.
    pub score: Score,
    /// Its onset.
    pub started_at: Timestamp,
    /// When it was first told.
    pub told_at: Timestamp,
    /// When it was resolved.
    pub resolved_at: Timestamp,
    /// When its fate was known, in event time.
    pub decided_at: Timestamp,
    /// How long after `resolved_at` a failure confirms it, in seconds.
    pub horizon_s: f64,
    /// What became of it.
    pub fate: Fate,
    /// Seconds from `told_at` to the failure's onset; set when confirmed.
    pub lead_s: Option<f64>,
    /// The failure; set when confirmed, and for symptoms.
    pub failure_id: Option<IncidentId>,
    /// Its class; set with it.
    pub failure_class: Option<Box<str>>,
    /// Set when censored.
    pub reason: Option<Censoring>,
}
