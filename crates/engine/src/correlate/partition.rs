use std::borrow::Cow;
use std::collections::BTreeMap;

use foreshock_domain::{
    Entity, EntityWindow, Event, EventAction, EventKind, LedgerEntry, SignalRecord, Timestamp, Upstream,
};
use foreshock_failure::predict::OperatingPoint;
use foreshock_failure::{Noted, Planned};
use foreshock_stats::AlarmBudget;
use foreshock_wire::{event, ledger, signals};
use serde::{Deserialize, Serialize};

use super::entity::{EntityState, Surroundings};
use super::forecast::Moment;
use super::judgement::Fleet;
use super::order::Order;
use crate::config::EngineConfig;
use crate::counters::Counters;
use crate::record::{Destination, Output, Record};

/// Event time, entity, input, offset: one order for all windows that are held back.
type HeldKey = (Timestamp, Entity, Upstream, i64);

/// The state of one partition of the signals topic: a pure function of its records, in order.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct CorrelatePartition {
    order: Order,
    held: BTreeMap<HeldKey, EntityWindow>,
    entities: BTreeMap<Entity, EntityState>,
    fleet: Fleet,
    planned: Planned,
    /// Of the record being applied.
    #[serde(skip)]
    moments: Vec<Moment>,
    /// Of the record being applied.
    #[serde(skip)]
    settled: Vec<LedgerEntry>,
}

/// What a partition may look at and write to while it applies a record.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a EngineConfig,
    pub(crate) counters: &'a mut Counters,
    pub(crate) outputs: &'a mut Vec<Output>,
}

/// As [`Context`], for a record that was decoded.
struct Taking<'a> {
    config: &'a EngineConfig,
    counters: &'a mut Counters,
}

impl CorrelatePartition {
    /// From [`Self::save`].
    ///
    /// # Errors
    /// When the bytes are not a state of this version.
    pub fn load(bytes: &[u8]) -> Result<Self, postcard::Error> {
        postcard::from_bytes(bytes)
    }

    /// The state as bytes.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn save(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_stdvec(self)
    }

    /// Entities held.
    #[must_use]
    pub fn entities(&self) -> usize {
        self.entities.len()
    }

    /// Applies one record.
    pub(crate) fn apply(&mut self, cx: &mut Context<'_>, record: &Record<'_>) {
        let mut events = Vec::new();
        match signals::decode(record.payload.unwrap_or_default()) {
            Ok(decoded) => self.take(cx.config, cx.counters, record.offset, decoded, &mut events),
            Err(error) => {
                cx.counters.dead_letters += 1;
                let partition = record.from.partition;
                let upstream = Upstream {
                    topic: cx.config.signals_topic.clone(),
                    partition,
                };
                cx.outputs.push(Output::dead_letter(&upstream, record, &error));
            }
        }
        for moment in self.moments.drain(..) {
            if let Ok(value) = postcard::to_stdvec(&moment) {
                cx.outputs.push(Output {
                    from: record.from,
                    to: Destination::Moments,
                    key: moment.entity.as_str().as_bytes().to_vec(),
                    value,
                    headers: Vec::new(),
                });
            }
        }
        for entry in self.settled.drain(..) {
            cx.outputs.push(output_of_ledger(record, &entry));
        }
        for event in &events {
            count(cx.counters, event);
            cx.outputs.push(output_of(record, event));
        }
    }

    /// Applies one decoded record, whose place in the signals topic is `offset`, and adds the events that follow from it: what
    /// [`crate::Engine`] does with the bytes, for simulations of weeks.
    pub fn take(
        &mut self,
        config: &EngineConfig,
        counters: &mut Counters,
        offset: i64,
        record: SignalRecord,
        events: &mut Vec<Event>,
    ) {
        let cx = &mut Taking { config, counters };
        self.settled.clear();
        match record {
            SignalRecord::Window(window) => self.take_window(cx, offset, window, events),
            SignalRecord::Incident { incident, position } => {
                let noted = self.planned.note(&cx.config.rules, &incident);
                cx.counters.plans_displaced += u64::from(noted == Noted::Displaced);
                if noted != Noted::Incident {
                    return;
                }
                self.with_entity(cx, &incident.entity.clone(), events, |state, around| {
                    state.declared(around, &incident, &position);
                });
            }
            SignalRecord::Progress(progress) => {
                self.order.progress(progress);
                self.release(cx, events);
            }
            SignalRecord::Tick(tick) => {
                self.order.tick(tick);
                self.release(cx, events);
                self.tick_entities(cx, events);
            }
        }
    }

    /// What became of precursors by the record that was taken last.
    #[must_use]
    pub fn settled(&self) -> &[LedgerEntry] {
        &self.settled
    }

    fn take_window(&mut self, cx: &mut Taking<'_>, offset: i64, window: EntityWindow, events: &mut Vec<Event>) {
        if window.end <= self.order.decided_until() {
            cx.counters.windows_late += 1;
            self.decide(cx, &[window], events);
            return;
        }
        let key = (
            window.end,
            window.entity.clone(),
            window.position.upstream.clone(),
            offset,
        );
        self.held.insert(key, window);
        if self.held.len() > cx.config.limits.held_windows {
            if let Some(((end, ..), _)) = self.held.first_key_value() {
                cx.counters.windows_forced += 1;
                self.order.forced_to(*end);
            }
            self.release(cx, events);
        }
    }

    /// Decides all windows whose time has come, those of one entity and end together.
    fn release(&mut self, cx: &mut Taking<'_>, events: &mut Vec<Event>) {
        let until = self.order.advance();
        if until > Timestamp::MIN {
            self.fleet.advance(until);
            self.planned.forget(until);
        }
        let mut group: Vec<EntityWindow> = Vec::new();
        while let Some(entry) = self.held.first_entry() {
            if entry.key().0 > until {
                break;
            }
            let window = entry.remove();
            if group
                .first()
                .is_some_and(|g| g.end != window.end || g.entity != window.entity)
            {
                self.decide(cx, &group, events);
                group.clear();
            }
            group.push(window);
        }
        self.decide(cx, &group, events);
    }

    fn decide(&mut self, cx: &mut Taking<'_>, group: &[EntityWindow], events: &mut Vec<Event>) {
        let Some(entity) = group.first().map(|w| w.entity.clone()) else {
            return;
        };
        self.with_entity(cx, &entity, events, |state, around| state.take(around, group));
    }

    fn tick_entities(&mut self, cx: &mut Taking<'_>, events: &mut Vec<Event>) {
        let (observed_ms, now) = (self.order.observed_ms(), self.order.decided_until());
        let (threshold, point) = (self.threshold(cx.config), self.point(cx.config));
        for state in self.entities.values_mut() {
            state.tick(&mut Surroundings {
                config: cx.config,
                observed_ms,
                threshold,
                point,
                now,
                planned: &self.planned,
                fleet: &mut self.fleet,
                events,
                ledger: &mut self.settled,
                moments: &mut self.moments,
            });
        }
        let before = self.entities.len();
        self.entities.retain(|_, state| {
            let stays = !state.is_idle(observed_ms, cx.config.limits.idle_ms);
            if !stays {
                state.leave(&mut self.settled, now);
            }
            stays
        });
        cx.counters.evicted += (before - self.entities.len()) as u64;
    }

    fn with_entity(
        &mut self,
        cx: &mut Taking<'_>,
        entity: &Entity,
        events: &mut Vec<Event>,
        act: impl FnOnce(&mut EntityState, &mut Surroundings<'_>),
    ) {
        if !self.entities.contains_key(entity) {
            if self.entities.len() >= cx.config.limits.entities {
                cx.counters.entities_refused += 1;
                return;
            }
            self.entities.insert(entity.clone(), EntityState::new(entity.clone()));
        }
        let (threshold, point) = (self.threshold(cx.config), self.point(cx.config));
        let (observed_ms, now) = (self.order.observed_ms(), self.order.decided_until());
        if let Some(state) = self.entities.get_mut(entity) {
            act(
                state,
                &mut Surroundings {
                    config: cx.config,
                    observed_ms,
                    threshold,
                    point,
                    now,
                    planned: &self.planned,
                    fleet: &mut self.fleet,
                    events,
                    ledger: &mut self.settled,
                    moments: &mut self.moments,
                },
            );
        }
    }

    /// From which probability on it is a warning, within the same budget.
    #[allow(clippy::cast_precision_loss)] // counts far below 2^53
    fn point<'a>(&self, config: &'a EngineConfig) -> Option<&'a OperatingPoint> {
        let entities = self.entities.len().max(1) as f64 * f64::from(config.signals_partitions.max(1));
        let model = config.predictor.as_ref()?;
        model.operating_point(config.budget_of_warnings() / entities)
    }

    /// Surprise at which a precursor opens, so that the whole deployment stays within its budget. A partition can't see the
    /// others; entities are spread by hash, so each has about as many and as large a share of the budget.
    #[allow(clippy::cast_precision_loss)] // counts far below 2^53
    fn threshold(&self, config: &EngineConfig) -> f64 {
        let share = AlarmBudget {
            false_alarms_per_day: config.budget_of_unusual() / f64::from(config.signals_partitions.max(1)),
        };
        let windows_a_day = 86_400_000.0 / config.windows.width_ms as f64;
        self.fleet
            .spending(share)
            .threshold(self.entities.len().max(1) as f64 * windows_a_day)
    }
}

fn count(counters: &mut Counters, event: &Event) {
    let counter = match (event.kind, event.action) {
        (EventKind::Precursor, EventAction::Open) => &mut counters.precursors_opened,
        (EventKind::Precursor, EventAction::Resolve) => &mut counters.precursors_resolved,
        (EventKind::Failure, EventAction::Open) => &mut counters.failures_opened,
        (EventKind::Failure, EventAction::Resolve) => &mut counters.failures_resolved,
        (_, EventAction::Update) => return,
    };
    *counter += 1;
}

fn output_of(record: &Record<'_>, of: &Event) -> Output {
    let mut value = Vec::with_capacity(1_024);
    event::encode(of, &mut value);
    let to = match of.kind {
        EventKind::Precursor => Destination::Anomalies,
        EventKind::Failure => Destination::Failures,
    };
    output(record, to, &of.entity, value, event::headers(of, "foreshock"))
}

fn output_of_ledger(record: &Record<'_>, of: &LedgerEntry) -> Output {
    let mut value = Vec::with_capacity(512);
    ledger::encode(of, &mut value);
    let headers = ledger::headers(of, "foreshock");
    output(record, Destination::Ledger, &of.entity, value, headers)
}

/// Keyed by entity.
fn output(
    record: &Record<'_>,
    to: Destination,
    entity: &Entity,
    value: Vec<u8>,
    headers: Vec<(&'static str, String)>,
) -> Output {
    let headers = headers.into_iter().map(|(k, v)| (Cow::Borrowed(k), v.into_bytes()));
    Output {
        from: record.from,
        to,
        key: entity.as_str().as_bytes().to_vec(),
        value,
        headers: headers.collect(),
    }
}
