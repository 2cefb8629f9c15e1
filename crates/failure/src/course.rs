//! The course of an entity's failures, one at a time: causes that come while one is open, or within its cooldown, merge into it, and it is
//! resolved when all of them are over and the cooldown has passed without another.
//!
//! Fails where windows of different partitions reach it far out of order: a cause that comes more than a cooldown of event time after the end
//! makes a new failure, even if the windows between are still to come.
//!
//! Cost: O(causes) a change. Everything is capped; what is not taken is counted.

use foreshock_domain::{EventAction, SourcePosition, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cause::{CauseKey, Change, Kind};
use crate::lines::prefix;
use crate::planned::{Span, Waiting, Weighed, after, weigh};
use crate::transition::{Standing, Transition};

/// Causes of one failure.
const CAUSES_MAX: usize = 32;
/// Bytes of a transition's evidence.
const EVIDENCE_BYTES_MAX: usize = 512;

/// Where and when a step is made.
#[derive(Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) at: Timestamp,
    pub(crate) position: Option<&'a SourcePosition>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Cause {
    key: CauseKey,
    onset: Timestamp,
    /// When it was over; `None` while it lasts.
    ended: Option<Timestamp>,
    /// Event time of the last word of it.
    news_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct OpenFailure {
    ordinal: u64,
    seq: u32,
    class: Box<str>,
    rule: Box<str>,
    onset: Timestamp,
    causes: Vec<Cause>,
    /// Of the last change.
    evidence: String,
}

impl OpenFailure {
    /// When the last cause was over, if all are.
    fn ended(&self) -> Option<Timestamp> {
        self.causes
            .iter()
            .try_fold(self.onset, |latest, cause| Some(latest.max(cause.ended?)))
    }
}

/// What is open of one entity, and what was last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Course {
    open: Option<OpenFailure>,
    /// Onset and end of the last failure that is over.
    closed: Option<(Timestamp, Timestamp)>,
    /// Failures so far.
    count: u64,
    pub(crate) cooldown_ms: i64,
    pub(crate) dropped: u64,
    /// Causes that began in planned work and may outlast it.
    waiting: Vec<Waiting>,
    /// When work is planned, told anew before each call.
    #[serde(skip)]
    pub(crate) planned: Vec<Span>,
}

impl Course {
    /// What is declared goes on: it was said again.
    pub(crate) fn still_declared(&mut self, at: Timestamp) {
        let causes = self.open.iter_mut().flat_map(|f| &mut f.causes);
        causes
            .filter(|c| c.key.kind == Kind::Declared)
            .for_each(|c| c.news_at = at);
    }

    /// What was declared, and nothing said of it since.
    pub(crate) fn declared_before(&self, long_ago: Timestamp) -> impl Iterator<Item = &CauseKey> {
        let causes = self.open.iter().flat_map(|f| &f.causes);
        causes
            .filter(move |c| c.key.kind == Kind::Declared && c.ended.is_none() && c.news_at <= long_ago)
            .map(|c| &c.key)
    }

    /// How the entity is at an instant of event time, as far as is known now.
    pub(crate) fn standing(&self, at: Timestamp) -> Standing {
        let of = |onset: Timestamp, ended: Option<Timestamp>| match ended {
            _ if at < onset => Standing::Healthy,
            Some(ended) if at >= ended + self.cooldown_ms => Standing::Healthy,
            Some(ended) if at > ended => Standing::Cooldown,
            _ => Standing::Failing,
        };
        let open = self.open.as_ref().map_or(Standing::Healthy, |f| of(f.onset, f.ended()));
        match open {
            Standing::Healthy => self
                .closed
                .map_or(Standing::Healthy, |(onset, ended)| of(onset, Some(ended))),
            standing => standing,
        }
    }

    /// Takes what the rules found into the failure: what began goes first, by onset, so that a cause that ends and one that
    /// begins in the same window are one failure.
    pub(crate) fn apply(&mut self, mut changes: Vec<Change>, moment: Moment<'_>, out: &mut Vec<Transition>) {
        changes.sort_by(|a, b| order(a).cmp(&order(b)));
        for change in changes {
            match change {
                Change::Began {
                    key,
                    onset,
                    ended,
                    evidence,
                } => {
                    let weighed = match key.kind {
                        Kind::Declared => Weighed::Counts(onset),
                        _ => weigh(&self.planned, onset, ended, moment.at),
                    };
                    let onset = match weighed {
                        Weighed::Counts(from) => from,
                        Weighed::Waits => {
                            self.wait(Waiting { key, onset, evidence });
                            continue;
                        }
                        Weighed::Belongs => continue,
                    };
                    let cause = Cause {
                        key,
                        onset,
                        ended,
                        news_at: moment.at,
                    };
                    self.began(cause, &evidence, moment, out);
                }
                Change::Ended { key, ended, evidence } => {
                    self.waiting.retain(|w| w.key != key);
                    let Some(failure) = self.open.as_mut() else { continue };
                    if let Some(cause) = failure.causes.iter_mut().find(|c| c.key == key && c.ended.is_none()) {
                        cause.ended = Some(ended.max(cause.onset));
                        cause.news_at = cause.news_at.max(moment.at);
                        failure.evidence = evidence;
                    }
                }
            }
        }
    }

    fn wait(&mut self, cause: Waiting) {
        if self.waiting.len() == CAUSES_MAX {
            self.dropped += 1;
        } else if self.waiting.iter().all(|w| w.key != cause.key) {
            self.waiting.push(cause);
        }
    }

    /// Planned work has been over for a cooldown, in which a probe can see that the service is back: what still fails is a
    /// failure since the work was over.
    pub(crate) fn outlast(&mut self, now: Timestamp, moment: Moment<'_>, out: &mut Vec<Transition>) {
        let is_at_work = |(from, to): &Span| *from <= now && now < *to + self.cooldown_ms;
        if self.waiting.is_empty() || self.planned.iter().any(is_at_work) {
            return;
        }
        for w in std::mem::take(&mut self.waiting) {
            let cause = Cause {
                onset: after(&self.planned, w.onset),
                key: w.key,
                ended: None,
                news_at: moment.at,
            };
            self.began(cause, &w.evidence, moment, out);
        }
    }

    fn began(&mut self, cause: Cause, evidence: &str, moment: Moment<'_>, out: &mut Vec<Transition>) {
        self.settle(cause.onset, out);
        let whole_before = |f: &OpenFailure| cause.ended.is_some_and(|end| end + self.cooldown_ms <= f.onset);
        match self.open.take() {
            Some(failure) if whole_before(&failure) => {
                // Told late and over before the open one began: a failure of its own.
                self.start(cause, evidence, moment, out);
                self.resolve(moment, out);
                self.open = Some(failure);
            }
            Some(mut failure) => {
                if self.merge(&mut failure, cause) {
                    failure.seq = failure.seq.saturating_add(1);
                    out.push(transition(&failure, EventAction::Update, evidence, None, moment));
                }
                failure.evidence.clear();
                self.open = Some(failure);
            }
            None => self.start(cause, evidence, moment, out),
        }
    }

    /// Takes a cause into a failure; says whether it is a new one.
    fn merge(&mut self, failure: &mut OpenFailure, cause: Cause) -> bool {
        failure.onset = failure.onset.min(self.after_the_last(cause.onset));
        if let Some(known) = failure.causes.iter_mut().find(|c| c.key == cause.key) {
            known.onset = known.onset.min(cause.onset);
            known.ended = cause.ended.map(|end| known.ended.map_or(end, |before| before.max(end)));
            known.news_at = cause.news_at;
            return false;
        }
        if failure.causes.len() == CAUSES_MAX {
            self.dropped += 1;
            return false;
        }
        failure.causes.push(cause);
        true
    }

    fn start(&mut self, cause: Cause, evidence: &str, moment: Moment<'_>, out: &mut Vec<Transition>) {
        let failure = OpenFailure {
            ordinal: self.count,
            seq: 0,
            class: cause.key.class(),
            rule: cause.key.rule.clone(),
            onset: self.after_the_last(cause.onset),
            causes: vec![cause],
            evidence: String::new(),
        };
        self.count = self.count.saturating_add(1);
        out.push(transition(&failure, EventAction::Open, evidence, None, moment));
        self.open = Some(failure);
    }

    /// Failures of an entity do not overlap: an onset inside the last one counts as its end.
    fn after_the_last(&self, onset: Timestamp) -> Timestamp {
        match self.closed {
            Some((began, ended)) if onset >= began => onset.max(ended),
            _ => onset,
        }
    }

    /// Resolves the failure if all its causes are over and the cooldown has passed at `at`.
    /// What is told of it is the same whether a window or the clock showed that the time has passed, which after a fault may be the one
    /// or the other.
    pub(crate) fn settle(&mut self, at: Timestamp, out: &mut Vec<Transition>) {
        let Some(failure) = &self.open else { return };
        let Some(due) = failure.ended().map(|end| end + self.cooldown_ms) else {
            return;
        };
        if at >= due {
            // Not before it was known that all is over.
            let known = failure.causes.iter().map(|c| c.news_at).max();
            let moment = Moment {
                at: known.map_or(due, |known| known.max(due)),
                position: None,
            };
            self.resolve(moment, out);
        }
    }

    fn resolve(&mut self, moment: Moment<'_>, out: &mut Vec<Transition>) {
        let Some(mut failure) = self.open.take() else { return };
        let ended = failure.ended().unwrap_or(failure.onset);
        failure.seq = failure.seq.saturating_add(1);
        let quiet = format!("nothing more for {} s", self.cooldown_ms / 1_000);
        let evidence = if failure.evidence.is_empty() {
            &quiet
        } else {
            &failure.evidence
        };
        out.push(transition(
            &failure,
            EventAction::Resolve,
            evidence,
            Some(ended),
            moment,
        ));
        if self.closed.is_none_or(|(_, last)| ended >= last) {
            self.closed = Some((failure.onset, ended));
        }
    }
}

/// What began goes before what ended, earlier onsets first, and then by kind, rule and subject.
fn order(change: &Change) -> (bool, Timestamp, &CauseKey) {
    match change {
        Change::Began { key, onset, .. } => (false, *onset, key),
        Change::Ended { key, ended, .. } => (true, *ended, key),
    }
}

fn transition(
    failure: &OpenFailure,
    action: EventAction,
    evidence: &str,
    ended_at: Option<Timestamp>,
    moment: Moment<'_>,
) -> Transition {
    Transition {
        action,
        seq: failure.seq,
        ordinal: failure.ordinal,
        class: failure.class.clone(),
        rule: failure.rule.clone(),
        evidence: prefix(evidence, EVIDENCE_BYTES_MAX).to_owned(),
        onset: failure.onset,
        // Windows that were on their way when a path broke set the clock back; nothing is seen before it begins.
        observed_at: moment.at.max(failure.onset),
        ended_at,
        position: moment.position.cloned(),
    }
}
