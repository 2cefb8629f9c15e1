use std::borrow::Cow;
use std::collections::BTreeMap;

use foreshock_domain::{
    Entity, EntityWindow, Event, EventAction, EventKind, Incident, LedgerEntry, SignalRecord, SourcePosition,
    Timestamp, Upstream,
};
use foreshock_failure::predict::{OperatingPoint, TrackRecords};
use foreshock_failure::{Noted, Planned, TELEMETRY_LOST};
use foreshock_stats::AlarmBudget;
use foreshock_wire::{event, ledger, signals};
use serde::{Deserialize, Serialize};

use super::entity::{EntityState, Surroundings};
use super::forecast::Moment;
use super::judgement::Fleet;
use super::order::Order;
use super::telemetry::Telemetry;
use crate::config::EngineConfig;
use crate::counters::Counters;
use crate::detect::signals_partition;
use crate::record::{Destination, Output, Record};
use crate::slots::{Keyed, Slots, place_u32};
use crate::state::{Blocks, FrozenBlock, LoadError, Loading, Part, Snapshot, Stage, pack};

/// Entities in a block of the stored state, each of some 10 kB, and windows that are held back.
const ENTITY_BLOCK: usize = 16;
const HELD_BLOCK: usize = 64;

/// Windows that end at one time, in order of arrival, each with its place in the signals topic.
type Held = Blocks<(i64, EntityWindow), HELD_BLOCK>;

/// The state of one partition of the signals topic: a pure function of its records, in order.
#[derive(Default, Serialize, Deserialize)]
pub struct CorrelatePartition {
    order: Order,
    /// By end.
    held: BTreeMap<Timestamp, Held>,
    entities: Slots<EntityState, ENTITY_BLOCK>,
    fleet: Fleet,
    records: TrackRecords,
    planned: Planned,
    /// Places in order of names, which is the order in which entities are looked at. Found again after loading.
    #[serde(skip)]
    by_name: BTreeMap<Entity, u32>,
    #[serde(skip)]
    held_len: usize,
    telemetry: Telemetry,
    /// What the record being applied tells of topics; each goes to all partitions.
    #[serde(skip)]
    lost: Vec<Incident>,
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

/// What the blocks of its state hold: of which table, how many entries, and how they are laid out.
#[cfg(test)]
pub(crate) fn layouts() -> Vec<(Part, usize, crate::state::layout::Layout)> {
    let (of_entities, entities) = Slots::<EntityState, ENTITY_BLOCK>::layout();
    let (of_held, held) = Held::layout();
    vec![
        (
            Part::Head,
            1,
            crate::state::layout::trace::layout_of::<CorrelatePartition>(),
        ),
        (Part::Entities, of_entities, entities),
        (Part::Held, of_held, held),
    ]
}

impl CorrelatePartition {
    /// From what [`Self::freeze`] gave, which is freed block by block.
    ///
    /// # Errors
    /// When the blocks are not a whole state of a version that can be read.
    pub fn load(snapshot: Snapshot) -> Result<Self, LoadError> {
        let mut from = Loading::new(snapshot, Stage::Correlate)?;
        let mut partition: Self = from.head()?;
        partition.entities.load(Part::Entities, &mut from)?;
        for (end, held) in &mut partition.held {
            from.fill(held, Part::Held, end.as_millis())?;
            partition.held_len += held.len();
        }
        let places = 0..partition.entities.places();
        let names = places.filter_map(|p| Some((partition.entities.get(p)?.key(), place_u32(p))));
        partition.by_name = names.collect();
        Ok(partition)
    }

    /// The state as of now: what is large is shared, not copied.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn freeze(&mut self) -> Result<Vec<FrozenBlock>, postcard::Error> {
        let mut blocks = vec![FrozenBlock::head(pack(self)?)];
        self.entities.freeze(Part::Entities, &mut blocks);
        for (end, held) in &mut self.held {
            held.freeze(Part::Held, end.as_millis(), &mut blocks);
        }
        Ok(blocks)
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
            Ok(SignalRecord::Incident { incident, position })
                if *incident.class == *TELEMETRY_LOST && position.upstream.topic == cx.config.signals_topic =>
            {
                self.telemetry.note(&incident, position.upstream.partition);
                // The failure is of the partition that has the topic among its entities.
                let home = signals_partition(incident.entity.as_str(), cx.config.signals_partitions);
                if home == record.from.partition {
                    let decoded = SignalRecord::Incident { incident, position };
                    self.take(cx.config, cx.counters, record.offset, decoded, &mut events);
                }
            }
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
        for incident in self.lost.drain(..) {
            send_to_all(cx, record, incident);
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
        self.lost.clear();
        match record {
            SignalRecord::Window(window) => self.take_window(cx, offset, window, events),
            SignalRecord::Urgent(window) => {
                self.with_entity(cx, &window.entity.clone(), events, |state, around| {
                    state.take_news(around, &window);
                });
            }
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
        // A window may also be sent of what is silent: that is not hearing.
        let is_heard = window.samples > 0 || window.lines > 0;
        let place = self.by_name.get(&window.entity).filter(|_| is_heard).copied();
        if let Some(state) = place.and_then(|place| self.entities.get_mut(place as usize)) {
            let observed_ms = self.order.observed_ms();
            let sources = state.arrived(observed_ms);
            self.telemetry
                .heard(sources, &window.position.upstream, observed_ms, window.end);
        }
        if window.end <= self.order.decided_until() {
            cx.counters.windows_late += 1;
            self.decide(cx, &[window], events);
            return;
        }
        self.held.entry(window.end).or_default().push((offset, window));
        self.held_len += 1;
        if self.held_len > cx.config.limits.held_windows {
            if let Some((end, _)) = self.held.first_key_value() {
                cx.counters.windows_forced += 1;
                self.order.forced_to(*end);
            }
            self.release(cx, events);
        }
    }

    /// Decides all windows whose time has come, those of one entity and end together. The budget and plans stand at each window's own
    /// end, so that a backlog, which is decided at once, is decided as it would have been window by window.
    fn release(&mut self, cx: &mut Taking<'_>, events: &mut Vec<Event>) {
        let until = self.order.advance();
        loop {
            let share = self.share(cx.config);
            let Some(entry) = self.held.first_entry().filter(|entry| *entry.key() <= until) else {
                break;
            };
            self.fleet.advance(*entry.key(), share);
            self.planned.forget(*entry.key());
            let mut windows = entry.remove().into_vec();
            self.held_len -= windows.len();
            // One order, whatever the order of arrival.
            windows.sort_by(|(a_offset, a), (b_offset, b)| {
                let by_input = || a.position.upstream.cmp(&b.position.upstream);
                (a.entity.cmp(&b.entity))
                    .then_with(by_input)
                    .then(a_offset.cmp(b_offset))
            });
            let windows: Vec<EntityWindow> = windows.into_iter().map(|(_, window)| window).collect();
            for group in windows.chunk_by(|a, b| a.entity == b.entity) {
                self.decide(cx, group, events);
            }
        }
        if until > Timestamp::MIN {
            self.planned.forget(until);
        }
    }

    fn decide(&mut self, cx: &mut Taking<'_>, group: &[EntityWindow], events: &mut Vec<Event>) {
        let Some(entity) = group.first().map(|w| w.entity.clone()) else {
            return;
        };
        self.with_entity(cx, &entity, events, |state, around| state.take(around, group));
    }

    fn tick_entities(&mut self, cx: &mut Taking<'_>, events: &mut Vec<Event>) {
        let (observed_ms, now) = (self.order.observed_ms(), self.order.decided_until());
        let (point, share) = (self.point(cx.config), self.share(cx.config));
        let threshold = self.threshold(cx.config, share);
        // Quiet is who is half way to a missed heartbeat.
        let quiet_ms = cx.config.rules.silence_ms().map(|ms| ms / 2);
        if let Some(quiet_ms) = quiet_ms {
            let states = self.by_name.values().filter_map(|p| self.entities.get(*p as usize));
            self.lost = self
                .telemetry
                .tick(states.map(EntityState::sources), quiet_ms, observed_ms);
        }
        let mut idle = Vec::new();
        for place in self.by_name.values() {
            let Some(state) = self.entities.get_mut(*place as usize) else {
                continue;
            };
            let is_unheard = quiet_ms.is_some_and(|ms| self.telemetry.explains(state.sources(), ms, observed_ms));
            let around = &mut Surroundings {
                config: cx.config,
                observed_ms,
                share,
                threshold,
                point,
                now,
                planned: &self.planned,
                fleet: &mut self.fleet,
                events,
                ledger: &mut self.settled,
                records: &mut self.records,
                moments: &mut self.moments,
            };
            state.tick(around, is_unheard);
        }
        for (name, place) in &self.by_name {
            let Some(state) = self.entities.get(*place as usize) else {
                continue;
            };
            if state.is_idle(observed_ms, cx.config.limits.idle_ms) {
                idle.push((name.clone(), *place as usize));
            }
        }
        cx.counters.evicted += idle.len() as u64;
        for (name, place) in idle {
            if let Some(state) = self.entities.get_mut(place) {
                state.leave(&mut self.settled, now);
            }
            self.entities.remove(place);
            self.by_name.remove(&name);
        }
    }

    fn with_entity(
        &mut self,
        cx: &mut Taking<'_>,
        entity: &Entity,
        events: &mut Vec<Event>,
        act: impl FnOnce(&mut EntityState, &mut Surroundings<'_>),
    ) {
        let place = match self.entities.place(entity) {
            Some(place) => place,
            None if self.entities.len() >= cx.config.limits.entities => {
                cx.counters.entities_refused += 1;
                return;
            }
            None => {
                let place = self.entities.insert(EntityState::new(entity.clone()));
                self.by_name.insert(entity.clone(), place_u32(place));
                place
            }
        };
        let (point, share) = (self.point(cx.config), self.share(cx.config));
        let threshold = self.threshold(cx.config, share);
        let (observed_ms, now) = (self.order.observed_ms(), self.order.decided_until());
        if let Some(state) = self.entities.get_mut(place) {
            act(
                state,
                &mut Surroundings {
                    config: cx.config,
                    observed_ms,
                    share,
                    threshold,
                    point,
                    now,
                    planned: &self.planned,
                    fleet: &mut self.fleet,
                    events,
                    ledger: &mut self.settled,
                    records: &mut self.records,
                    moments: &mut self.moments,
                },
            );
        }
    }

    /// Of the whole deployment, as far as a partition can know it: it can't see the others, but entities are spread by hash, so each
    /// has about as many.
    #[allow(clippy::cast_precision_loss)] // counts far below 2^53
    fn entities_in_all(&self, config: &EngineConfig) -> f64 {
        self.entities.len().max(1) as f64 * f64::from(config.signals_partitions.max(1))
    }

    /// From which probability on it is a warning, within the same budget.
    fn point<'a>(&self, config: &'a EngineConfig) -> Option<&'a OperatingPoint> {
        let model = config.predictor.as_ref()?;
        model.operating_point(config.budget_of_warnings() / self.entities_in_all(config))
    }

    /// This partition's share of the budget for what is merely unusual.
    #[allow(clippy::cast_precision_loss)] // counts far below 2^53
    fn share(&self, config: &EngineConfig) -> AlarmBudget {
        let expected = |point: &OperatingPoint| point.false_per_entity_day * self.entities_in_all(config);
        let false_warnings = self.point(config).map_or(0.0, expected);
        AlarmBudget {
            false_alarms_per_day: config.budget_of_unusual(false_warnings)
                / f64::from(config.signals_partitions.max(1)),
        }
    }

    /// Surprise at which a precursor opens, so that the whole deployment stays within its budget.
    #[allow(clippy::cast_precision_loss)] // counts far below 2^53
    fn threshold(&self, config: &EngineConfig, share: AlarmBudget) -> f64 {
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

/// A topic's own failure is taken as one that somebody declares: by one partition, whoever says it first.
fn send_to_all(cx: &mut Context<'_>, record: &Record<'_>, incident: Incident) {
    let key = incident.entity.as_str().as_bytes().to_vec();
    // It comes of a tick, whose offset is another one after a crash; ids must not be, so the onset stands for it.
    let offset = incident.onset.as_millis();
    let position = SourcePosition {
        upstream: Upstream {
            topic: cx.config.signals_topic.clone(),
            partition: record.from.partition,
        },
        offset_first: offset,
        offset_last: offset,
    };
    let mut value = Vec::with_capacity(512);
    signals::encode(&SignalRecord::Incident { incident, position }, &mut value);
    for partition in 0..cx.config.signals_partitions {
        cx.outputs.push(Output {
            from: record.from,
            to: Destination::Signals(i32::try_from(partition).unwrap_or(i32::MAX)),
            key: key.clone(),
            value: value.clone(),
            headers: Vec::new(),
        });
    }
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
