//! What became of an entity's precursors: each waits, resolved, until its fate is known, and is told once.
//!
//! `confirmed`: the entity failed, with an onset after the precursor was told and not later than a horizon after it was resolved.
//! `expired`: the entity was heard for the whole horizon, and did not fail. `mitigated`: planned work began in it. `censored`: the
//! entity was forgotten first, the failure had begun before, or too many wait.
//!
//! Fails where a failure is told later than the horizon: the precursor is `expired` by then.
//!
//! Cost: O(waiting) a window, which is none for most entities; at most 16 of some 100 bytes each.

use std::collections::VecDeque;

use foreshock_domain::{Censoring, Entity, Fate, IncidentId, LedgerEntry, Millis, Timestamp};
use serde::{Deserialize, Serialize};

use super::incident::Incident;

/// Precursors of an entity that wait for their fate.
const WAITING_MAX: usize = 16;

/// A failure that is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed<'a> {
    pub(crate) id: IncidentId,
    pub(crate) class: &'a str,
    pub(crate) onset: Timestamp,
    pub(crate) told_at: Timestamp,
}

/// Precursors of one entity that are resolved, oldest first, with their entries as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    waiting: VecDeque<LedgerEntry>,
}

impl Ledger {
    /// A precursor was resolved.
    pub(crate) fn resolved(
        &mut self,
        entity: &Entity,
        precursor: &Incident,
        at: Timestamp,
        horizon_ms: Millis,
        out: &mut Vec<LedgerEntry>,
    ) {
        if self.waiting.len() == WAITING_MAX
            && let Some(oldest) = self.waiting.pop_front()
        {
            out.push(censored(oldest, Censoring::Crowded, at));
        }
        self.waiting.push_back(LedgerEntry {
            incident_id: precursor.id,
            entity: entity.clone(),
            grade: precursor.grade,
            score: precursor.score,
            started_at: precursor.started_at,
            told_at: precursor.opened_at,
            resolved_at: at,
            decided_at: at,
            horizon_s: seconds(horizon_ms),
            fate: Fate::Expired,
            lead_s: None,
            failure_id: None,
            failure_class: None,
            reason: None,
        });
    }

    /// The entity was heard up to `clock`.
    pub(crate) fn heard(&mut self, clock: Timestamp, out: &mut Vec<LedgerEntry>) {
        self.settle(out, |entry| {
            let at = until(entry);
            (clock >= at).then(|| decided(entry, Fate::Expired, at))
        });
    }

    /// The entity failed.
    pub(crate) fn failed(&mut self, failure: Failed<'_>, out: &mut Vec<LedgerEntry>) {
        self.settle(out, |entry| {
            let lead_ms = failure.onset - entry.told_at;
            let horizon_ms = until(entry) - entry.resolved_at;
            let of_failure = |mut entry: LedgerEntry| {
                entry.failure_id = Some(failure.id);
                entry.failure_class = Some(failure.class.into());
                entry
            };
            if failure.onset > until(entry) {
                Some(decided(entry, Fate::Expired, until(entry)))
            } else if lead_ms > 0 {
                let mut entry = of_failure(decided(entry, Fate::Confirmed, failure.told_at));
                entry.lead_s = Some(seconds(lead_ms));
                Some(entry)
            } else if -lead_ms <= horizon_ms {
                Some(censored(of_failure(entry.clone()), Censoring::Symptom, failure.told_at))
            } else {
                // One that is told long after the fact says nothing of it.
                None
            }
        });
    }

    /// Planned work began at `from`, and is known of at `now`.
    pub(crate) fn planned(&mut self, from: Timestamp, now: Timestamp, out: &mut Vec<LedgerEntry>) {
        self.settle(out, |entry| {
            (from < until(entry)).then(|| decided(entry, Fate::Mitigated, now))
        });
    }

    /// The entity is forgotten.
    pub(crate) fn forgotten(&mut self, now: Timestamp, out: &mut Vec<LedgerEntry>) {
        self.settle(out, |entry| {
            Some(censored(
                entry.clone(),
                Censoring::Forgotten,
                now.max(entry.resolved_at),
            ))
        });
    }

    fn settle(&mut self, out: &mut Vec<LedgerEntry>, fate: impl Fn(&LedgerEntry) -> Option<LedgerEntry>) {
        self.waiting.retain(|entry| {
            let settled = fate(entry);
            let waits = settled.is_none();
            out.extend(settled);
            waits
        });
    }
}

/// When its horizon has passed.
#[allow(clippy::cast_possible_truncation)] // was made of milliseconds
fn until(entry: &LedgerEntry) -> Timestamp {
    entry.resolved_at + (entry.horizon_s * 1e3).round() as Millis
}

fn decided(entry: &LedgerEntry, fate: Fate, at: Timestamp) -> LedgerEntry {
    LedgerEntry {
        fate,
        decided_at: at.max(entry.resolved_at),
        ..entry.clone()
    }
}

fn censored(entry: LedgerEntry, reason: Censoring, at: Timestamp) -> LedgerEntry {
    LedgerEntry {
        fate: Fate::Censored,
        reason: Some(reason),
        decided_at: at.max(entry.resolved_at),
        ..entry
    }
}

#[allow(clippy::cast_precision_loss)] // spans of time far below 2^53 ms
fn seconds(ms: Millis) -> f64 {
    ms as f64 / 1e3
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
