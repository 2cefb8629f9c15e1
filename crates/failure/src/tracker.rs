//! The life of an entity's failures, one at a time: causes that come while one is open, or within its cooldown, merge into it,
//! and it is resolved when all of them are over and the cooldown has passed without another.
//!
//! Fails where windows of different partitions reach it far out of order: a cause that comes more than a cooldown of event
//! time after the end makes a new failure, even if the windows between are still to come.
//!
//! Cost: O(causes) a window or tick. Everything is capped; what is not taken is counted in [`FailureTracker::dropped`].

use foreshock_domain::{EntityWindow, EventAction, Fact, Incident, SlowBurn, SourcePosition, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cause::{CauseKey, Change, Kind};
use crate::declared::Declared;
use crate::heartbeat::Beat;
use crate::lines::prefix;
use crate::planned::{Span, Waiting, Weighed, after, weigh};
use crate::probe::{ProbeRun, ProbeWindow};
use crate::process::told;
use crate::rules::{Rules, millis};
use crate::slo::{Burn, Counts};
use crate::transition::{Standing, Transition};

/// Probe series of an entity.
const PROBES_MAX: usize = 64;
/// Things of an entity that are listened for.
const BEATS_MAX: usize = 64;
/// Causes of one failure.
const CAUSES_MAX: usize = 32;
/// Bytes of a transition's evidence.
const EVIDENCE_BYTES_MAX: usize = 512;

/// Where and when a step is made.
#[derive(Clone, Copy)]
struct Moment<'a> {
    at: Timestamp,
    position: Option<&'a SourcePosition>,
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

/// The failures of one entity.
///
/// ```
/// use foreshock_domain::{Entity, EntityWindow, EventAction, Fact, SourcePosition, Timestamp, Upstream};
/// use foreshock_failure::{FailureConfig, FailureTracker, Rules, Standing};
///
/// let rules = Rules::new(&FailureConfig::default())?;
/// assert_eq!(rules.line_rule(None, "panic: out of range"), Some("fatal_line"));
///
/// let at = Timestamp::from_secs(1_800_000_000);
/// let upstream = Upstream { topic: "logs".into(), partition: 0 };
/// let window = EntityWindow {
///     entity: Entity::new("web-1"),
///     start: at,
///     end: at + 10_000,
///     position: SourcePosition { upstream, offset_first: 7, offset_last: 7 },
///     samples: 0,
///     lines: 1,
///     tested: 0,
///     signals: vec![],
///     facts: vec![Fact::Lines { rule: "fatal_line".into(), count: 1, first_at: at, sample: "panic: …".into() }],
///     vector: vec![],
///     templates: Vec::new(),
/// };
/// let (mut tracker, mut out) = (FailureTracker::default(), Vec::new());
/// tracker.on_window(&rules, &window, 0, &mut out);
/// assert_eq!(tracker.standing(at), Standing::Failing);
/// tracker.on_clock(&rules, 300_000, &mut out); // five minutes without another
/// let steps: Vec<_> = out.iter().map(|t| (t.action, &*t.class, t.ended_at)).collect();
/// assert_eq!(steps, [(EventAction::Open, "log", None), (EventAction::Resolve, "log", Some(at))]);
/// # Ok::<(), foreshock_failure::RuleError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FailureTracker {
    probes: Vec<ProbeRun>,
    burns: Vec<Burn>,
    beats: Vec<Beat>,
    declared: Declared,
    open: Option<OpenFailure>,
    /// Onset and end of the last failure that is over.
    closed: Option<(Timestamp, Timestamp)>,
    /// Failures so far.
    count: u64,
    cooldown_ms: i64,
    /// Latest event time known, and the observed clock when it was.
    event_at: Option<Timestamp>,
    event_ms: Option<i64>,
    dropped: u64,
    /// Causes that began in planned work and may outlast it.
    waiting: Vec<Waiting>,
    /// When work is planned, told anew before each call.
    #[serde(skip)]
    planned: Vec<Span>,
}

impl FailureTracker {
    /// When work is planned on the entity, for the calls that follow: what fails then is no failure, unless it still fails
    /// when the work is over. What is declared is one all the same.
    pub fn plan(&mut self, spans: Vec<Span>) {
        self.planned = spans;
    }

    /// A window of the entity arrived when the observed clock stood at `observed_ms`.
    pub fn on_window(&mut self, rules: &Rules, w: &EntityWindow, observed_ms: i64, out: &mut Vec<Transition>) {
        self.cooldown_ms = rules.cooldown_ms();
        if self.event_at.is_none_or(|at| w.end > at) || self.event_ms.is_none() {
            self.event_at = self.event_at.max(Some(w.end));
            self.event_ms = Some(observed_ms);
        }
        let moment = Moment {
            at: w.end,
            position: Some(&w.position),
        };
        self.settle(w.start, out);
        let mut changes = Vec::new();
        self.hear(rules, w, observed_ms, &mut changes);
        for fact in &w.facts {
            self.take(rules, w, fact, observed_ms, &mut changes);
        }
        self.burn(rules, w.end, &mut changes);
        self.apply(changes, moment, out);
        self.outlast(w.start, moment, out);
        self.settle(w.end, out);
    }

    /// The path of the entity's telemetry is lost: silence up to now says nothing of it. A probe that says down does.
    pub fn excuse_silence(&mut self, observed_ms: i64) {
        if let Some(now) = self.now(observed_ms) {
            self.beats.iter_mut().for_each(|beat| beat.excuse(now, observed_ms));
        }
    }

    /// A window of the entity arrived that can't be decided yet: whatever holds it up, the entity is not silent.
    pub fn arrived(&mut self, observed_ms: i64) {
        let of_entity = self.beats.iter_mut().filter(|beat| beat.series.is_empty());
        of_entity.for_each(|beat| beat.arrived(observed_ms));
    }

    /// Event time by the observed clock; `None` before the first window.
    fn now(&mut self, observed_ms: i64) -> Option<Timestamp> {
        let event_at = self.event_at?;
        let since_ms = observed_ms
            .saturating_sub(*self.event_ms.get_or_insert(observed_ms))
            .max(0);
        Some(event_at + since_ms)
    }

    /// The observed clock stands at `observed_ms`: finds silence, and resolves what is over.
    pub fn on_clock(&mut self, rules: &Rules, observed_ms: i64, out: &mut Vec<Transition>) {
        self.cooldown_ms = rules.cooldown_ms();
        let Some(now) = self.now(observed_ms) else { return };
        let moment = Moment {
            at: now,
            position: None,
        };
        let mut changes = Vec::new();
        for beat in &mut self.beats {
            if let Some(rule) = rules.heartbeat(&beat.rule) {
                changes.extend(beat.tick(observed_ms, millis(rule.after_s)));
            }
        }
        self.burn(rules, now, &mut changes);
        self.give_up(rules, now, &mut changes);
        self.apply(changes, moment, out);
        self.outlast(now, moment, out);
        self.settle(now, out);
    }

    /// Somebody declared an incident of the entity.
    pub fn on_incident(&mut self, rules: &Rules, i: &Incident, position: &SourcePosition, out: &mut Vec<Transition>) {
        self.cooldown_ms = rules.cooldown_ms();
        let told_at = i.end.unwrap_or(i.onset);
        let now = *self.event_at.get_or_insert(told_at);
        let moment = Moment {
            at: now.max(told_at),
            position: Some(position),
        };
        match self.declared.note(i) {
            Some(change) => self.apply(vec![change], moment, out),
            None => {
                // A repeat: it goes on, so `forget_s` begins anew.
                let causes = self.open.iter_mut().flat_map(|f| &mut f.causes);
                causes
                    .filter(|c| c.key.kind == Kind::Declared)
                    .for_each(|c| c.news_at = moment.at);
            }
        }
        self.settle(now, out);
    }

    /// How the entity is at an instant of event time, as far as is known now.
    #[must_use]
    pub fn standing(&self, at: Timestamp) -> Standing {
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

    /// Probes, series and causes past the caps, so far.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Notes that the entity was heard, where a rule listens for that.
    fn hear(&mut self, rules: &Rules, w: &EntityWindow, observed_ms: i64, changes: &mut Vec<Change>) {
        if w.samples == 0 && w.lines == 0 {
            return;
        }
        for rule in rules.heartbeats() {
            let concerns = rule.entity.as_ref().is_none_or(|glob| glob.matches(w.entity.as_str()));
            if rule.series.is_none() && concerns {
                self.beat(&rule.name, "", w.start, w.end, observed_ms, changes);
            }
        }
    }

    fn beat(
        &mut self,
        rule: &str,
        series: &str,
        start: Timestamp,
        last_at: Timestamp,
        observed_ms: i64,
        changes: &mut Vec<Change>,
    ) {
        if let Some(beat) = self.beats.iter_mut().find(|b| *b.rule == *rule && *b.series == *series) {
            changes.extend(beat.heard(start, last_at, observed_ms));
        } else if self.beats.len() < BEATS_MAX {
            self.beats.push(Beat::new(rule, series, last_at, observed_ms));
        } else {
            self.dropped += 1;
        }
    }

    /// Takes one fact of a window. Facts of rules that are no longer declared are ignored.
    fn take(&mut self, rules: &Rules, w: &EntityWindow, fact: &Fact, observed_ms: i64, changes: &mut Vec<Change>) {
        match fact {
            Fact::Probe {
                rule,
                series,
                up,
                down,
                first_down,
                ..
            } => {
                let Some(declared) = rules.probe(rule) else { return };
                let step = ProbeWindow {
                    start: w.start,
                    end: w.end,
                    up: *up,
                    down: *down,
                    first_down: *first_down,
                };
                let found = self.probes.iter().position(|p| p.rule == *rule && p.series == *series);
                if found.is_none() && self.probes.len() == PROBES_MAX {
                    self.dropped += 1;
                    return;
                }
                let at = found.unwrap_or_else(|| {
                    self.probes.push(ProbeRun::new(rule, series));
                    self.probes.len() - 1
                });
                changes.extend(self.probes[at].step(&step, declared.windows));
            }
            Fact::Counter { rule, errors, increase } => {
                // What goes wrong in planned work is not taken from the budget.
                let Some(declared) = rules.slo(rule).filter(|_| after(&self.planned, w.start) == w.start) else {
                    return;
                };
                let counts = if declared.good.is_some() {
                    Counts::Good
                } else {
                    Counts::Bad
                };
                let found = self.burns.iter().position(|b| b.rule == *rule && b.counts == counts);
                let at = found.unwrap_or_else(|| {
                    self.burns.push(Burn::new(rule, counts));
                    self.burns.len() - 1
                });
                self.burns[at].add(w.start, *errors, *increase);
            }
            Fact::Lines {
                rule,
                count,
                first_at,
                sample,
            } => {
                if *count == 0 || !rules.has_log(rule) {
                    return;
                }
                // A line has no length: what it tells is over at once, and the cooldown does the waiting.
                let ended = if *count == 1 { *first_at } else { w.end.max(*first_at) };
                let evidence = if *count == 1 {
                    sample.to_string()
                } else {
                    format!("{count} lines: {sample}")
                };
                let key = CauseKey::new(Kind::Log, rule, "");
                changes.push(Change::Began {
                    key,
                    onset: *first_at,
                    ended: Some(ended),
                    evidence,
                });
            }
            Fact::Process {
                rule,
                series,
                count,
                at,
                cause,
            } => {
                let Some(declared) = rules.process(rule) else { return };
                // A state that the work left behind has the same time to go as everything else.
                let is_of_work = |(from, to): &Span| *from <= *at && *at < *to + self.cooldown_ms;
                if self.planned.iter().any(is_of_work) {
                    return;
                }
                // Like a line it has no length: a state that goes on is told again, and the cooldown waits for quiet.
                changes.push(Change::Began {
                    key: CauseKey::new(Kind::Process, rule, series),
                    onset: *at,
                    ended: Some(*at),
                    evidence: told(declared.when, series, *count, cause),
                });
            }
            Fact::Heartbeat { rule, series, last_at } => {
                let Some(declared) = rules.heartbeat(rule) else { return };
                if declared
                    .entity
                    .as_ref()
                    .is_none_or(|glob| glob.matches(w.entity.as_str()))
                {
                    self.beat(rule, series, w.start, *last_at, observed_ms, changes);
                }
            }
        }
    }

    /// The error budget that burns most, of those that burn too fast to last and too slowly to be a failure.
    #[must_use]
    pub fn slow_burn(&self) -> Option<SlowBurn> {
        let slow = self.burns.iter().filter_map(Burn::slow);
        slow.max_by(|a, b| a.rate.total_cmp(&b.rate))
    }

    /// Weighs the error budgets at `now`.
    #[allow(clippy::cast_precision_loss)] // a guard against little traffic needs no exact integer
    fn burn(&mut self, rules: &Rules, now: Timestamp, changes: &mut Vec<Change>) {
        self.burns.retain_mut(|burn| {
            let rule = rules
                .slo(&burn.rule)
                .filter(|r| r.good.is_some() == (burn.counts == Counts::Good));
            if let Some(rule) = rule {
                changes.extend(burn.evaluate(now, rule.objective, rule.min_events as f64));
                return true;
            }
            if burn.burning {
                changes.push(no_longer(burn.key(), now, "the rule is no longer declared"));
            }
            false
        });
    }

    /// Drops what has not been heard of for so long that it must have been taken away, and what no rule asks for any more.
    fn give_up(&mut self, rules: &Rules, now: Timestamp, changes: &mut Vec<Change>) {
        const GONE: &str = "nothing heard of it for so long that it counts as taken away";
        let long_ago = now - rules.forget_ms();
        self.beats.retain(|beat| {
            let keep = beat.last_at() > long_ago && rules.heartbeat(&beat.rule).is_some();
            if !keep && beat.silent {
                changes.push(no_longer(beat.key(), now, GONE));
            }
            keep
        });
        self.probes.retain(|probe| {
            let keep = probe.seen() > long_ago && rules.probe(&probe.rule).is_some();
            if !keep && probe.failing {
                changes.push(no_longer(probe.key(), now, GONE));
            }
            keep
        });
        for cause in self.open.iter().flat_map(|f| &f.causes) {
            if cause.key.kind == Kind::Declared && cause.ended.is_none() && cause.news_at <= long_ago {
                self.declared.give_up(&cause.key.subject);
                changes.push(no_longer(cause.key.clone(), now, GONE));
            }
        }
    }

    /// Takes what the rules found into the failure: what began goes first, by onset, so that a cause that ends and one that
    /// begins in the same window are one failure.
    fn apply(&mut self, mut changes: Vec<Change>, moment: Moment<'_>, out: &mut Vec<Transition>) {
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
    fn outlast(&mut self, now: Timestamp, moment: Moment<'_>, out: &mut Vec<Transition>) {
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
    fn settle(&mut self, at: Timestamp, out: &mut Vec<Transition>) {
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

fn no_longer(key: CauseKey, now: Timestamp, why: &str) -> Change {
    Change::Ended {
        key,
        ended: now,
        evidence: why.to_owned(),
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
