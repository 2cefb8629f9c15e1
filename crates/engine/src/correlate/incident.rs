use foreshock_domain::{
    Contributor, Entity, Event, EventAction, EventKind, Exhaustion, Grade, IncidentId, KindRecord, Prediction, Score,
    Severity, Signal, SlowBurn, SourcePosition, Timestamp,
};
use foreshock_failure::predict::Worth;
use serde::{Deserialize, Serialize};

use crate::id;

/// A precursor or failure that is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Incident {
    pub(crate) kind: EventKind,
    pub(crate) id: IncidentId,
    /// Sequence number of the next event.
    pub(crate) seq: u32,
    /// Onset.
    pub(crate) started_at: Timestamp,
    /// End of the window in which it was first told.
    pub(crate) opened_at: Timestamp,
    /// Event time of the last event.
    pub(crate) told_at: Timestamp,
    /// Greatest surprise of the entity so far.
    pub(crate) score: Score,
    /// Surprise at which it opened.
    pub(crate) threshold: Score,
    /// Strongest first.
    pub(crate) contributors: Vec<Contributor>,
    /// For failures: class, rule and evidence.
    pub(crate) class: Box<str>,
    pub(crate) rule: Box<str>,
    pub(crate) evidence: Box<str>,
    /// For precursors: the highest grade it had.
    pub(crate) grade: Grade,
    /// For precursors: what the predictor said last.
    pub(crate) prediction: Option<Prediction>,
    /// For precursors: what ran out soonest, when it last did.
    pub(crate) exhaustion: Option<Exhaustion>,
    /// For precursors: the error budget that burnt most, when one last did.
    pub(crate) burn: Option<SlowBurn>,
    /// For precursors: what became of earlier ones of its kind.
    pub(crate) record: Option<KindRecord>,
}

/// Adds signals to contributors: one entry per source, id and channel, at its strongest, with its earliest onset. True when
/// one is new.
pub(crate) fn merge(contributors: &mut Vec<Contributor>, signals: &[Signal], cap: usize) -> bool {
    let mut new = false;
    for signal in signals {
        let known = contributors
            .iter_mut()
            .find(|c| c.source == signal.source && c.id == signal.id && c.channel == signal.channel());
        match known {
            Some(c) if signal.score() > c.score => {
                let onset = c.onset.min(signal.onset);
                *c = Contributor {
                    onset,
                    ..contributor(signal)
                };
            }
            Some(c) => c.onset = c.onset.min(signal.onset),
            None => {
                contributors.push(contributor(signal));
                new = true;
            }
        }
    }
    contributors.sort_by(|a, b| {
        b.score
            .surprise()
            .total_cmp(&a.score.surprise())
            .then_with(|| a.id.cmp(&b.id))
            .then_with(|| a.channel.cmp(&b.channel))
    });
    contributors.truncate(cap);
    new
}

fn contributor(s: &Signal) -> Contributor {
    Contributor {
        source: s.source,
        id: s.id.clone(),
        name: s.name.clone(),
        channel: s.channel(),
        direction: s.direction(),
        score: s.score(),
        actual: s.verdict.actual,
        expected: s.verdict.expected,
        lower: s.verdict.lower,
        upper: s.verdict.upper,
        onset: s.onset,
        log: s.log.clone(),
        share: s.share,
    }
}

impl Incident {
    /// A precursor is worth watching where such precursors came before failures.
    pub(crate) fn remember(&mut self, record: Option<(KindRecord, Worth)>) {
        // Signals come and go; what was told stands where nothing better is known.
        let Some((record, worth)) = record else { return };
        if worth > Worth::Nothing {
            self.grade = self.grade.max(Grade::Watch);
        } else if self.record.is_some() {
            return;
        }
        self.record = Some(record);
    }

    /// The next event of this incident.
    pub(crate) fn event(
        &mut self,
        entity: &Entity,
        action: EventAction,
        observed_at: Timestamp,
        position: Option<SourcePosition>,
    ) -> Event {
        let seq = self.seq;
        self.seq += 1;
        // What could not wait for its window was told before windows that end earlier.
        let observed_at = observed_at.max(self.told_at);
        self.told_at = observed_at;
        Event {
            kind: self.kind,
            action,
            incident_id: self.id,
            event_id: id::event(self.id, action, seq),
            seq,
            entity: entity.clone(),
            started_at: self.started_at,
            observed_at,
            ended_at: None,
            severity: match self.kind {
                EventKind::Failure => Severity::Error,
                EventKind::Precursor if self.grade >= Grade::Watch => Severity::Warning,
                // Ten times rarer than the budget asks for is worth a look in working hours.
                EventKind::Precursor if self.score.surprise() >= self.threshold.surprise() + 1.0 => Severity::Warning,
                EventKind::Precursor => Severity::Info,
            },
            score: self.score,
            contributors: self.contributors.clone(),
            position,
            why: String::new(),
            precursor: None,
            failure: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use foreshock_domain::Channel;

    use super::super::testing;
    use super::*;

    fn signal(id: &str, surprise: f64, onset_s: i64) -> Signal {
        testing::signal(id, surprise, Timestamp::from_secs(onset_s))
    }

    #[test]
    fn merging_keeps_the_strongest_and_the_earliest_onset() {
        let mut all = Vec::new();
        assert!(merge(&mut all, &[signal("a", 3.0, 50), signal("b", 4.0, 60)], 8));
        assert!(!merge(&mut all, &[signal("a", 5.0, 70)], 8));
        assert_eq!(all.iter().map(|c| &*c.id).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((all[0].score.surprise(), all[0].onset), (5.0, Timestamp::from_secs(50)));
        let mut spread = signal("a", 1.0, 70);
        spread.verdict.channel = Channel::Spread;
        assert!(merge(&mut all, &[spread], 2));
        assert_eq!(all.len(), 2);
    }
}
