//! What an entity's rules watch, from window to window: probes, lines, processes, heartbeats, error budgets, declared incidents. What they
//! find goes into the course of its failures ([`crate::course`]).
//!
//! Cost: O(causes) a window or tick. Everything is capped; what is not taken is counted in [`FailureTracker::dropped`].

use foreshock_domain::{EntityWindow, Fact, Incident, SlowBurn, SourcePosition, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cause::{CauseKey, Change, Kind};
use crate::course::{Course, Moment};
use crate::declared::Declared;
use crate::heartbeat::Beat;
use crate::planned::{Span, after};
use crate::probe::{ProbeRun, ProbeWindow};
use crate::process::told;
use crate::rules::{Rules, millis};
use crate::slo::{Burn, Counts};
use crate::transition::{Standing, Transition};

/// Probe series of an entity.
const PROBES_MAX: usize = 64;
/// Things of an entity that are listened for.
const BEATS_MAX: usize = 64;

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
    course: Course,
    /// Latest event time known, and the observed clock when it was.
    event_at: Option<Timestamp>,
    event_ms: Option<i64>,
    dropped: u64,
}

impl FailureTracker {
    /// When work is planned on the entity, for the calls that follow: what fails then is no failure, unless it still fails
    /// when the work is over. What is declared is one all the same.
    pub fn plan(&mut self, spans: Vec<Span>) {
        self.course.planned = spans;
    }

    /// A window of the entity arrived when the observed clock stood at `observed_ms`.
    pub fn on_window(&mut self, rules: &Rules, w: &EntityWindow, observed_ms: i64, out: &mut Vec<Transition>) {
        self.course.cooldown_ms = rules.cooldown_ms();
        if self.event_at.is_none_or(|at| w.end > at) || self.event_ms.is_none() {
            self.event_at = self.event_at.max(Some(w.end));
            self.event_ms = Some(observed_ms);
        }
        let moment = Moment {
            at: w.end,
            position: Some(&w.position),
        };
        self.course.settle(w.start, out);
        let mut changes = Vec::new();
        self.hear(rules, w, observed_ms, &mut changes);
        for fact in &w.facts {
            self.take(rules, w, fact, observed_ms, &mut changes);
        }
        self.burn(rules, w.end, &mut changes);
        self.course.apply(changes, moment, out);
        self.course.outlast(w.start, moment, out);
        self.course.settle(w.end, out);
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
        self.course.cooldown_ms = rules.cooldown_ms();
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
        self.course.apply(changes, moment, out);
        self.course.outlast(now, moment, out);
        self.course.settle(now, out);
    }

    /// Somebody declared an incident of the entity.
    pub fn on_incident(&mut self, rules: &Rules, i: &Incident, position: &SourcePosition, out: &mut Vec<Transition>) {
        self.course.cooldown_ms = rules.cooldown_ms();
        let told_at = i.end.unwrap_or(i.onset);
        let now = *self.event_at.get_or_insert(told_at);
        let moment = Moment {
            at: now.max(told_at),
            position: Some(position),
        };
        match self.declared.note(i) {
            Some(change) => self.course.apply(vec![change], moment, out),
            None => {
                // A repeat: it goes on, so `forget_s` begins anew.
                self.course.still_declared(moment.at);
            }
        }
        self.course.settle(now, out);
    }

    /// How the entity is at an instant of event time, as far as is known now.
    #[must_use]
    pub fn standing(&self, at: Timestamp) -> Standing {
        self.course.standing(at)
    }

    /// Probes, series and causes past the caps, so far.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped + self.course.dropped
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
                let Some(declared) = rules
                    .slo(rule)
                    .filter(|_| after(&self.course.planned, w.start) == w.start)
                else {
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
                let is_of_work = |(from, to): &Span| *from <= *at && *at < *to + self.course.cooldown_ms;
                if self.course.planned.iter().any(is_of_work) {
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
        for key in self.course.declared_before(long_ago) {
            self.declared.give_up(&key.subject);
            changes.push(no_longer(key.clone(), now, GONE));
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
