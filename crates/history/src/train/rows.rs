//! Rows to learn from: every window of every entity with its features and the time to its next failure.
//!
//! Memory is bounded: time is cut into blocks of an entity, as long as two horizons. Blocks that lie near a failure are all kept while
//! there is room; of the others, which look alike, a share that is halved whenever the room runs out. What stays stands
//! for what went by its weight. Blocks and not single rows, since warnings last.

use std::collections::{BTreeMap, HashMap};

use foreshock_domain::{Entity, Millis, Timestamp};
use foreshock_engine::Moment;
use foreshock_failure::predict::{Features, PER_SERIES, Schema, SchemaSeries};
use serde::{Deserialize, Serialize};

use crate::labels::Label;

/// Rows held.
const ROWS_MAX: usize = 150_000;
/// Series that a model looks at: those that most rows have.
const SERIES_MAX: usize = 256;
/// Share of the rows that must have a series.
const SHARE_MIN: f64 = 0.05;

/// What a row is worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// The next failure begins after so many milliseconds, within the horizon.
    In(Millis),
    /// None within the horizon.
    Survives,
    /// Inside a failure, before one that nobody can foretell, or the data ends too soon.
    Unknown,
}

impl Target {
    /// Whether a failure came within the horizon, where that is known.
    #[must_use]
    pub fn came(self) -> Option<bool> {
        match self {
            Self::In(_) => Some(true),
            Self::Survives => Some(false),
            Self::Unknown => None,
        }
    }
}

/// One failure, as far as it matters here. Spans are ordered by onset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// When it began.
    pub onset: Timestamp,
    /// When it was over; the onset where nobody wrote it down.
    pub end: Timestamp,
    /// Whether it could have been foretold.
    pub foreseeable: bool,
    /// Least lead that would have been worth something, where it has one of its own.
    pub lead_ms: Option<Millis>,
}

/// When each entity failed.
#[derive(Debug, Default)]
pub struct FailureSpans {
    of: HashMap<Entity, Vec<Span>>,
    /// Last onset of all.
    last: Option<Timestamp>,
}

/// How far what happened is known.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The entity was last seen then; what became of it after is known only where it failed.
    pub seen: Timestamp,
    /// The data and the failures end then, for all: who fails within the next horizon is known of nobody.
    pub until: Timestamp,
}

impl FailureSpans {
    /// `apart` are classes that nobody can foretell.
    #[must_use]
    pub fn new(failures: &[Label], apart: &[String]) -> Self {
        let mut of: HashMap<Entity, Vec<Span>> = HashMap::new();
        for f in failures {
            let span = Span {
                onset: f.onset,
                end: f.end.unwrap_or(f.onset),
                foreseeable: !apart.iter().any(|a| **a == *f.class),
                lead_ms: f.lead_ms,
            };
            of.entry(f.entity.clone()).or_default().push(span);
        }
        for spans in of.values_mut() {
            spans.sort();
        }
        let last = failures.iter().map(|f| f.onset).max();
        Self { of, last }
    }

    fn of(&self, entity: &Entity) -> &[Span] {
        self.of.get(entity).map_or(&[], Vec::as_slice)
    }

    /// Until when failures are known, where the last window of all ends at `data`.
    #[must_use]
    pub fn known_until(&self, data: Timestamp) -> Timestamp {
        self.last.map_or(data, |last| last.max(data))
    }

    /// What comes of a moment of an entity.
    #[must_use]
    pub fn target(&self, entity: &Entity, at: Timestamp, horizon_ms: Millis, known: Known) -> Target {
        let spans = self.of(entity);
        // Also of those who did fail: else the end of the data would look as if everybody failed.
        if at + horizon_ms > known.until {
            return Target::Unknown;
        }
        if spans.iter().any(|s| s.onset <= at && at <= s.end) {
            return Target::Unknown;
        }
        match spans.iter().find(|s| s.onset > at) {
            Some(s) if s.onset - at <= horizon_ms && s.foreseeable => Target::In(s.onset - at),
            Some(s) if s.onset - at <= horizon_ms => Target::Unknown,
            Some(_) => Target::Survives,
            None if at + horizon_ms > known.seen => Target::Unknown,
            None => Target::Survives,
        }
    }
}

/// One window of one entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Place of the entity in [`Rows::entities`].
    pub entity: u32,
    /// End of the window.
    pub at: Timestamp,
    /// Rows that it stands for.
    pub weight: f64,
    /// Place of the key in the table of keys, and its features.
    features: Vec<(u32, Features)>,
}

/// All rows that are kept, by entity and time. Written down without the rows themselves, which are many, and without the failures, which
/// are somebody else's.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Rows {
    /// In order of time for each entity.
    #[serde(skip)]
    pub rows: Vec<Row>,
    /// Names by place, in order of arrival.
    pub entities: Vec<Entity>,
    /// Rows seen, kept or not.
    pub seen: u64,
    keys: Vec<u64>,
    names: HashMap<u64, Box<str>>,
    place_of: HashMap<u64, u32>,
    entity_of: HashMap<Entity, u32>,
    /// Last row of each entity.
    pub last: Vec<Timestamp>,
    /// First row of all.
    pub first: Option<Timestamp>,
    /// Last row of all.
    pub end: Timestamp,
    /// Shares of blocks that are kept: near failures, and elsewhere. Halved as room runs out.
    shares: [f64; 2],
    horizon_ms: Millis,
    cooldown_ms: Millis,
    #[serde(skip)]
    failures: FailureSpans,
}

impl Rows {
    /// For these failures; `apart` are classes that nobody can foretell. For `cooldown_ms` after one nothing is a precursor.
    #[must_use]
    pub fn new(failures: &[Label], apart: &[String], horizon_ms: Millis, cooldown_ms: Millis) -> Self {
        Self {
            end: Timestamp::MIN,
            shares: [1.0, 1.0],
            horizon_ms,
            cooldown_ms,
            failures: FailureSpans::new(failures, apart),
            ..Self::default()
        }
    }

    /// The same, of rows that were read back.
    #[must_use]
    pub fn with_failures(mut self, failures: &[Label], apart: &[String]) -> Self {
        self.failures = FailureSpans::new(failures, apart);
        self
    }

    /// Takes one window.
    pub fn take(&mut self, moment: Moment) {
        self.seen += 1;
        for (key, name) in moment.names {
            // A name may come empty, where the text of a template is not known yet.
            if !name.is_empty() {
                self.names.insert(key, name);
            }
        }
        let entity = match self.entity_of.get(&moment.entity) {
            Some(place) => *place,
            None => {
                let place = u32::try_from(self.entities.len()).unwrap_or(u32::MAX);
                self.entity_of.insert(moment.entity.clone(), place);
                self.entities.push(moment.entity);
                self.last.push(Timestamp::MIN);
                place
            }
        };
        let last = &mut self.last[entity as usize];
        *last = moment.at.max(*last);
        self.end = self.end.max(moment.at);
        self.first = Some(self.first.map_or(moment.at, |f| f.min(moment.at)));
        let near = self.is_near(entity, moment.at);
        let share = self.shares[usize::from(!near)];
        if !self.stays(entity, moment.at, share) {
            return;
        }
        let mut features = Vec::with_capacity(moment.features.len());
        for (key, values) in moment.features {
            let next = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
            let place = *self.place_of.entry(key).or_insert(next);
            if place == next {
                self.keys.push(key);
            }
            features.push((place, values));
        }
        self.rows.push(Row {
            entity,
            at: moment.at,
            weight: 1.0 / share,
            features,
        });
        if self.rows.len() > ROWS_MAX {
            self.thin();
        }
    }

    fn thin(&mut self) {
        // The quiet time goes first, down to a twentieth; only then what is near failures.
        let which = usize::from(self.shares[1] > 0.05);
        self.shares[which] /= 2.0;
        let rows = std::mem::take(&mut self.rows);
        let kept = rows.into_iter().filter_map(|mut row| {
            let share = self.shares[usize::from(!self.is_near(row.entity, row.at))];
            row.weight = 1.0 / share;
            self.stays(row.entity, row.at, share).then_some(row)
        });
        self.rows = kept.collect();
    }

    fn block(&self, at: Timestamp) -> i64 {
        at.as_millis().div_euclid(self.horizon_ms.max(1).saturating_mul(2))
    }

    /// Whether a block is one of those kept: by a hash, so that what is kept of a smaller share was kept of a larger one.
    #[allow(clippy::cast_precision_loss)] // a share
    fn stays(&self, entity: u32, at: Timestamp, share: f64) -> bool {
        let mixed = (u64::from(entity) << 40 ^ self.block(at).cast_unsigned()).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed >> 11) as f64) < share * (1u64 << 53) as f64
    }

    fn is_near(&self, entity: u32, at: Timestamp) -> bool {
        let width = self.horizon_ms.max(1).saturating_mul(2);
        let start = Timestamp::from_millis(self.block(at).saturating_mul(width));
        let spans = self
            .entities
            .get(entity as usize)
            .map_or(&[][..], |e| self.failures.of(e));
        spans
            .iter()
            .any(|s| s.onset >= start && s.onset - start <= width + self.horizon_ms)
    }

    /// Time from a row to what comes.
    #[must_use]
    pub fn target(&self, row: &Row) -> Target {
        let place = row.entity as usize;
        let known = Known {
            seen: self.last[place],
            until: self.known_until(),
        };
        self.failures
            .target(&self.entities[place], row.at, self.horizon_ms, known)
    }

    /// Until when it is known who failed.
    #[must_use]
    pub fn known_until(&self) -> Timestamp {
        self.failures.known_until(self.end)
    }

    /// How far ahead is looked.
    #[must_use]
    pub fn horizon_ms(&self) -> Millis {
        self.horizon_ms
    }

    /// Whether nothing is a precursor at a row: its entity is failing, or has just failed.
    #[must_use]
    pub fn is_symptom(&self, row: &Row) -> bool {
        let spans = self.failures.of(&self.entities[row.entity as usize]);
        spans
            .iter()
            .any(|s| s.onset <= row.at && row.at <= s.end + self.cooldown_ms)
    }

    /// An entity's failures, in order of onset.
    #[must_use]
    pub fn spans(&self, entity: u32) -> &[Span] {
        let entity = self.entities.get(entity as usize);
        entity.map_or(&[][..], |e| self.failures.of(e))
    }

    /// The series that most of these rows have, with mean and spread of their features.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts
    pub fn schema(&self, of: &[usize]) -> Schema {
        let mut sums: BTreeMap<u32, (f64, [f64; PER_SERIES], [f64; PER_SERIES])> = BTreeMap::new();
        for i in of {
            let row = &self.rows[*i];
            for (place, values) in &row.features {
                let (n, sum, squares) = sums.entry(*place).or_default();
                *n += row.weight;
                for k in 0..PER_SERIES {
                    let x = f64::from(values[k]);
                    sum[k] += row.weight * x;
                    squares[k] += row.weight * x * x;
                }
            }
        }
        let all: f64 = of.iter().map(|i| self.rows[*i].weight).sum();
        let mut kept: Vec<_> = sums.into_iter().filter(|(_, (n, ..))| *n >= SHARE_MIN * all).collect();
        kept.sort_by(|a, b| b.1.0.total_cmp(&a.1.0).then(a.0.cmp(&b.0)));
        kept.truncate(SERIES_MAX);
        let mut series: Vec<SchemaSeries> = kept
            .into_iter()
            .map(|(place, (n, sum, squares))| {
                let key = self.keys[place as usize];
                let mean = sum.map(|s| s / n);
                let mut spread = [1.0; PER_SERIES];
                for k in 0..PER_SERIES {
                    let variance = (squares[k] / n - mean[k] * mean[k]).max(0.0);
                    if variance > 1e-18 + 1e-12 * mean[k] * mean[k] {
                        spread[k] = variance.sqrt();
                    }
                }
                SchemaSeries {
                    key,
                    name: self.names.get(&key).cloned().unwrap_or_default(),
                    mean,
                    spread,
                }
            })
            .collect();
        series.sort_by_key(|s| s.key);
        Schema { series }
    }

    /// The vector of a row.
    pub fn fill(&self, schema: &Schema, row: &Row, out: &mut Vec<f64>) {
        let features = row.features.iter().map(|(place, f)| (self.keys[*place as usize], f));
        schema.fill(features, out);
    }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
