use std::collections::BTreeMap;

use foreshock_domain::{Input, Millis, Progress, SignalRecord, SourcePosition, Timestamp, Upstream};
use foreshock_failure::is_pattern;
use foreshock_logs::{Masking, Miner, Sessions};
use foreshock_stats::GoodTuring;
use foreshock_wire::{Decoded, Decoder, Memory, Near, Origin, signals};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::clock::{Admission, EventClock};
use super::entities::EntityTable;
use super::series::SeriesTable;
use super::window::{EntityTally, Finder, OpenWindow};
use crate::config::{EngineConfig, SourceConfig};
use crate::counters::Counters;
use crate::record::{Destination, Output, Record, TopicPartition};
use crate::slots::place_u32;
use crate::state::{FrozenBlock, LoadError, Loading, Part, Snapshot, Stage, pack};

/// What a partition may look at and write to while it applies a record.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a EngineConfig,
    pub(crate) source: &'a SourceConfig,
    pub(crate) from: TopicPartition,
    pub(crate) counters: &'a mut Counters,
    pub(crate) outputs: &'a mut Vec<Output>,
}

/// Memory that is used again for every record and is no part of the state.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Cleared windows.
    pub(super) spare: Vec<OpenWindow>,
    /// Name of the entity at hand.
    entity: String,
    /// Bytes of the series at hand.
    pub(super) series: Vec<u8>,
    /// The line at hand without what users mask.
    pub(super) masking: Masking,
}

/// One input that was believed, and the window it belongs to.
pub(super) struct Arrival<'a> {
    record: &'a Record<'a>,
    input: &'a Input<'a>,
    pub(super) at: Timestamp,
    pub(super) start: Timestamp,
    /// `start` over the width.
    pub(super) window: i64,
}

/// The state of one partition of an input topic: a pure function of its records, in order.
#[derive(Serialize, Deserialize)]
pub(crate) struct DetectState {
    pub(super) upstream: Upstream,
    pub(super) clock: EventClock,
    /// Every window that ends at or before this has been closed.
    pub(super) closed_until: Timestamp,
    /// By start.
    pub(super) open: BTreeMap<Timestamp, OpenWindow>,
    pub(super) series: SeriesTable,
    pub(super) entities: EntityTable,
    pub(super) miner: Option<Box<Miner>>,
    /// `None` until the first line of a source whose lines name sessions.
    pub(super) sessions: Option<Box<Sessions>>,
    /// Sessions cut off that were counted.
    pub(super) sessions_cut: u64,
    /// Where the sweep for idle series and entities goes on.
    pub(super) sweep: usize,
    pub(super) last_offset: i64,
    /// How often a window of an entity holds a grave line of a kind never seen.
    pub(super) unseen: GoodTuring,
    /// Found again from the open windows.
    #[serde(skip)]
    pub(super) series_cells: Finder,
    #[serde(skip)]
    pub(super) entity_cells: Finder,
}

/// What the blocks of its state hold: of which table, how many entries, and how they are laid out.
#[cfg(test)]
pub(crate) fn layouts() -> Vec<(Part, usize, crate::state::layout::Layout)> {
    let (of_series, series) = SeriesTable::layout();
    let (of_entities, entities) = EntityTable::layout();
    let head = crate::state::layout::trace::layout_of::<(DetectState, Memory)>();
    let mut all = vec![
        (Part::Head, 1, head),
        (Part::Series, of_series, series),
        (Part::Entities, of_entities, entities),
    ];
    all.extend(OpenWindow::layouts());
    all
}

/// One partition of an input topic: decoder, windows, models.
pub struct DetectPartition {
    decoder: Decoder,
    state: DetectState,
    scratch: Scratch,
}

impl DetectPartition {
    /// A partition without a past.
    #[must_use]
    pub fn new(source: &SourceConfig, partition: i32) -> Self {
        Self::with(
            source,
            DetectState {
                upstream: Upstream {
                    topic: source.topic.clone(),
                    partition,
                },
                clock: EventClock::default(),
                closed_until: Timestamp::MIN,
                open: BTreeMap::new(),
                series: SeriesTable::default(),
                entities: EntityTable::default(),
                miner: None,
                sessions: None,
                sessions_cut: 0,
                sweep: 0,
                last_offset: -1,
                unseen: super::grave::unseen(),
                series_cells: Finder::default(),
                entity_cells: Finder::default(),
            },
        )
    }

    fn with(source: &SourceConfig, state: DetectState) -> Self {
        Self {
            decoder: Decoder::new(source.format),
            state,
            scratch: Scratch::default(),
        }
    }

    /// From what [`Self::freeze`] gave, which is freed block by block. `width_ms` is that of windows.
    ///
    /// # Errors
    /// When the blocks are not a whole state of a version that can be read.
    pub fn load(source: &SourceConfig, width_ms: Millis, snapshot: Snapshot) -> Result<Self, LoadError> {
        let mut from = Loading::new(snapshot, Stage::Detect)?;
        let (mut state, memory): (DetectState, Memory) = from.head()?;
        state.series.load(Part::Series, &mut from)?;
        state.entities.load(Part::Entities, &mut from)?;
        for (start, window) in &mut state.open {
            window.load(*start, &mut from)?;
        }
        if !state.points_inside() {
            return Err(LoadError::Incomplete(
                "a series or an entity that is spoken of is not there",
            ));
        }
        state.find_cells(width_ms);
        if let Some(miner) = &mut state.miner {
            source.log.instruct(miner);
        }
        if !source.log.raw_text {
            // What was kept while raw text was allowed leaves no more.
            for window in state.open.values_mut() {
                window.forget_examples();
            }
        }
        let mut partition = Self::with(source, state);
        partition.decoder = partition.decoder.remembering(memory);
        Ok(partition)
    }

    /// The state as of now: what is large is shared, not copied.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn freeze(&mut self) -> Result<Vec<FrozenBlock>, postcard::Error> {
        let head = pack(&(&self.state, self.decoder.memory()))?;
        let mut blocks = vec![FrozenBlock::head(head)];
        self.state.series.freeze(Part::Series, &mut blocks);
        self.state.entities.freeze(Part::Entities, &mut blocks);
        for (start, window) in &mut self.state.open {
            window.freeze(*start, &mut blocks);
        }
        Ok(blocks)
    }

    /// Every window that ends at or before this has been closed.
    #[must_use]
    pub fn closed_until(&self) -> Timestamp {
        self.state.closed_until
    }

    /// Series and entities held.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        (self.state.series.len(), self.state.entities.len())
    }

    /// Applies one record.
    pub(crate) fn apply(&mut self, cx: &mut Context<'_>, record: &Record<'_>) {
        let Self {
            decoder,
            state,
            scratch,
        } = self;
        state.last_offset = record.offset;
        let origin = Origin {
            key: record.key.unwrap_or_default(),
            near: (record.timestamp.map(Near::Record)).or(state.clock.watermark(0).map(Near::Before)),
        };
        let decoded = decoder.decode_from(record.payload.unwrap_or_default(), origin, &mut |input| {
            state.take(cx, scratch, record, &input);
        });
        match decoded {
            Ok(decoded) => count(cx.counters, &decoded),
            Err(error) => {
                cx.counters.dead_letters += 1;
                cx.outputs.push(Output::dead_letter(&state.upstream, record, &error));
            }
        }
    }
}

/// Counts what the decoder left out or changed.
fn count(counters: &mut Counters, decoded: &Decoded) {
    counters.fields_skipped += decoded.skipped as u64;
    counters.lines_replaced += decoded.replaced as u64;
    counters.lines_cut += decoded.cut as u64;
    counters.lines_cleaned += decoded.cleaned as u64;
    counters.lines_empty += decoded.empty as u64;
    counters.lines_untimed += decoded.untimed as u64;
    counters.lines_unlike += decoded.unlike as u64;
    counters.lines_joined += decoded.joined as u64;
}

/// Which partition of the signals topic an entity's records go to.
#[allow(clippy::cast_possible_truncation)] // a remainder of a u32
pub(crate) fn signals_partition(entity: &str, partitions: u32) -> i32 {
    (xxh3_64(entity.as_bytes()) % u64::from(partitions.max(1))) as i32
}

/// Writes the name of the entity that an input belongs to.
fn name_entity(source: &SourceConfig, input: &Input<'_>, key: Option<&[u8]>, name: &mut String) {
    name.clear();
    'spec: for spec in &source.entity {
        name.clear();
        for (i, label) in spec.split('+').enumerate() {
            let Some(value) = input.label(label).filter(|v| !v.is_empty()) else {
                continue 'spec;
            };
            if i > 0 {
                name.push('/');
            }
            name.push_str(value);
        }
        break;
    }
    if name.is_empty() {
        match key.and_then(|k| std::str::from_utf8(k).ok()).filter(|k| !k.is_empty()) {
            Some(key) => name.push_str(super::window::shorten(key, 256)),
            None => name.push_str(&source.topic),
        }
    }
}

impl DetectState {
    fn take(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch, record: &Record<'_>, input: &Input<'_>) {
        let own = match input {
            Input::Sample(s) => s.at,
            Input::Line(l) => l.at,
            Input::Incident(incident) => {
                cx.counters.incidents += 1;
                let position = self.position(record.offset, record.offset);
                let is_planned = cx.config.rules.planned_ms(&incident.class).is_some();
                let record = SignalRecord::Incident {
                    incident: incident.clone(),
                    position,
                };
                if is_planned && is_pattern(incident.entity.as_str()) {
                    self.send_to_all(cx, incident.entity.as_str().as_bytes(), &record);
                } else {
                    self.send(cx, incident.entity.as_str(), &record);
                }
                return;
            }
        };
        let Some(at) = own.or(record.timestamp) else {
            cx.counters.implausible += 1;
            return;
        };
        match self.clock.admit(at, record.timestamp) {
            Admission::Taken => {}
            Admission::Restarted => {
                cx.counters.clock_resets += 1;
                self.close_until(cx, scratch, Timestamp::LATEST);
                if let Some(sessions) = &mut self.sessions {
                    sessions.open.restart();
                }
                self.closed_until = Timestamp::MIN;
            }
            Admission::Future => return cx.counters.future += 1,
            Admission::Implausible => return cx.counters.implausible += 1,
            Admission::Stale => return cx.counters.late += 1,
        }
        let width = cx.config.windows.width_ms;
        let start = at.window_start(width);
        if start + width <= self.closed_until {
            return cx.counters.late += 1;
        }
        // A window closes before the record that closes it is counted: what comes after the watermark is not in it.
        if let Some(watermark) = self.clock.watermark(cx.config.windows.lateness_ms) {
            let until = watermark.window_start(width);
            if until > self.closed_until {
                self.close_until(cx, scratch, until);
            }
        }
        let window = start.as_millis().div_euclid(width);
        let arrival = Arrival {
            record,
            input,
            at,
            start,
            window,
        };
        match input {
            Input::Sample(sample) => self.take_sample(cx, scratch, &arrival, sample),
            Input::Line(line) => self.take_line(cx, scratch, &arrival, line),
            Input::Incident(_) => {}
        }
    }

    /// The place of the entity that an input belongs to; `None`, and counted, where there is no room for it.
    pub(super) fn owner(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        arrival: &Arrival<'_>,
    ) -> Option<usize> {
        name_entity(cx.source, arrival.input, arrival.record.key, &mut scratch.entity);
        let owner = self
            .entities
            .place_or_insert(&scratch.entity, cx.config.limits.entities);
        if owner.is_none() {
            cx.counters.entities_refused += 1;
        }
        owner
    }

    /// The tally of an entity in a window.
    pub(super) fn tally(
        &mut self,
        scratch: &mut Scratch,
        entity: usize,
        arrival: &Arrival<'_>,
    ) -> Option<&mut EntityTally> {
        self.entities.get(entity)?;
        let offset = arrival.record.offset;
        let window = open_window(&mut self.open, scratch, arrival.start);
        let known = window.entity_cell(&self.entity_cells, entity, arrival.window);
        let cell = known.unwrap_or_else(|| {
            let cell = window.entities.len();
            window.entities.push(EntityTally {
                entity: place_u32(entity),
                offset_first: offset,
                ..Default::default()
            });
            self.entity_cells.set(entity, arrival.window, cell);
            cell
        });
        let tally = window.entities.get_mut(cell)?;
        tally.offset_last = offset;
        Some(tally)
    }

    /// Whether every place that is spoken of is one of the tables': who may write the state topic may write anything.
    fn points_inside(&self) -> bool {
        let (series, entities) = (self.series.places(), self.entities.places());
        let is_entity = |place: u32| (place as usize) < entities;
        self.series.iter().all(|slot| is_entity(slot.entity))
            && self.open.values().all(|window| {
                window.series.iter().all(|(place, _)| (*place as usize) < series)
                    && window.entities.iter().all(|tally| is_entity(tally.entity))
            })
    }

    /// Finds out again where the tallies of series and entities stand.
    fn find_cells(&mut self, width_ms: Millis) {
        for (start, window) in &self.open {
            let index = start.as_millis().div_euclid(width_ms);
            for (cell, (place, _)) in window.series.iter().enumerate() {
                self.series_cells.set(*place as usize, index, cell);
            }
            for (cell, tally) in window.entities.iter().enumerate() {
                self.entity_cells.set(tally.entity as usize, index, cell);
            }
        }
    }

    pub(super) fn position(&self, offset_first: i64, offset_last: i64) -> SourcePosition {
        SourcePosition {
            upstream: self.upstream.clone(),
            offset_first,
            offset_last,
        }
    }

    /// Sends a record to the entity's partition of the signals topic.
    pub(super) fn send(&self, cx: &mut Context<'_>, entity: &str, record: &SignalRecord) {
        let partition = signals_partition(entity, cx.config.signals_partitions);
        self.send_to(cx, partition, entity.as_bytes(), record);
    }

    /// Tells every partition of the signals topic how far this partition has come.
    pub(super) fn send_progress(&self, cx: &mut Context<'_>) {
        let record = SignalRecord::Progress(Progress {
            upstream: self.upstream.clone(),
            watermark: self.closed_until,
        });
        self.send_to_all(cx, b"", &record);
    }

    fn send_to_all(&self, cx: &mut Context<'_>, key: &[u8], record: &SignalRecord) {
        for partition in 0..cx.config.signals_partitions {
            self.send_to(cx, i32::try_from(partition).unwrap_or(i32::MAX), key, record);
        }
    }

    fn send_to(&self, cx: &mut Context<'_>, partition: i32, key: &[u8], record: &SignalRecord) {
        let mut value = Vec::with_capacity(256);
        signals::encode(record, &mut value);
        cx.outputs.push(Output {
            from: cx.from,
            to: Destination::Signals(partition),
            key: key.to_vec(),
            value,
            headers: Vec::new(),
        });
    }
}

pub(super) fn open_window<'a>(
    open: &'a mut BTreeMap<Timestamp, OpenWindow>,
    scratch: &mut Scratch,
    start: Timestamp,
) -> &'a mut OpenWindow {
    open.entry(start)
        .or_insert_with(|| scratch.spare.pop().unwrap_or_default())
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
