use std::collections::BTreeMap;

use foreshock_domain::{Fact, Level, Signal, TemplateEntry, Timestamp, VectorEntry};
use foreshock_failure::WatchWindow;
use foreshock_logs::ValueTally;
use serde::{Deserialize, Serialize};

use super::aggregate::Aggregate;
use crate::slots::place_u32;
use crate::state::{Blocks, FrozenBlock, LoadError, Loading, Part};

/// Places in the ring of open windows; a power of two above `LATENESS_WINDOWS_MAX` + 1.
const RING: usize = 8;

/// Where the tallies of one series or entity stand in the open windows, so that a sample finds its own without a search.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cells([(u32, u32); RING]);

impl Default for Cells {
    fn default() -> Self {
        Self([(0, u32::MAX); RING])
    }
}

impl Cells {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the low bits tell open windows apart
    fn get(&self, window: i64) -> Option<usize> {
        let (tag, place) = self.0[window as usize % RING];
        (tag == window as u32 && place != u32::MAX).then_some(place as usize)
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // as above; tables are capped far below 2^32
    fn set(&mut self, window: i64, place: usize) {
        self.0[window as usize % RING] = (window as u32, place as u32);
    }
}

/// [`Cells`] of every place of a table. No part of the state: the open windows say it all, and are asked after loading. What it
/// says must be checked against the window, since after the sources' clocks were set back one of the same index may be open
/// anew.
#[derive(Debug, Default)]
pub(crate) struct Finder(Vec<Cells>);

impl Finder {
    /// Place in the window of this index (window start over width), if the one of this place was heard in it.
    pub(crate) fn get(&self, place: usize, window: i64) -> Option<usize> {
        self.0.get(place)?.get(window)
    }

    pub(crate) fn set(&mut self, place: usize, window: i64, cell: usize) {
        if place >= self.0.len() {
            self.0.resize(place + 1, Cells::default());
        }
        if let Some(cells) = self.0.get_mut(place) {
            cells.set(window, cell);
        }
    }
}

/// Bytes of a line that an event may show.
pub(crate) const EXAMPLE_BYTES_MAX: usize = 512;

/// Lines of one template of one entity in one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TemplateTally {
    pub(crate) count: u32,
    pub(crate) first_seen: bool,
    pub(crate) level: Option<Level>,
    /// Event time of the earliest.
    pub(crate) first_at: Timestamp,
    /// The first to arrive, where the source lets raw text leave.
    pub(crate) example: Option<Box<str>>,
    /// One of them says by itself that something failed.
    pub(crate) grave: bool,
}

/// What one entity did in one window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct EntityTally {
    pub(crate) entity: u32,
    pub(crate) samples: u32,
    pub(crate) lines: u32,
    pub(crate) tested: u32,
    pub(crate) offset_first: i64,
    pub(crate) offset_last: i64,
    pub(crate) templates: BTreeMap<u64, TemplateTally>,
    /// By template and place, where its values are read.
    pub(crate) values: BTreeMap<(u64, u16), ValueTally>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) signals: Vec<Signal>,
    /// Its series, each with the place of its slot.
    pub(crate) vector: Vec<(u32, VectorEntry)>,
    /// Its templates under their canonical ids, where a predictor is learned or asked.
    pub(crate) counted: Vec<TemplateEntry>,
}

impl EntityTally {
    /// A line matched a failure rule: of the first of a window is kept what may be shown of it, the others are counted.
    pub(crate) fn line_matched(&mut self, rule: &str, at: Timestamp, shown: impl FnOnce() -> String) {
        for fact in &mut self.facts {
            if let Fact::Lines {
                rule: known,
                count,
                first_at,
                ..
            } = fact
                && **known == *rule
            {
                *count = count.saturating_add(1);
                *first_at = (*first_at).min(at);
                return;
            }
        }
        let sample = shorten(&shown(), EXAMPLE_BYTES_MAX).into();
        self.facts.push(Fact::Lines {
            rule: rule.into(),
            count: 1,
            first_at: at,
            sample,
        });
    }
}

/// The longest prefix of at most `bytes` bytes that ends between characters.
pub(crate) fn shorten(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    &text[..end]
}

/// Entries of an open window in a block of the stored state: some 50 kB.
const SERIES_BLOCK: usize = 512;
const ENTITY_BLOCK: usize = 64;

/// One window that still takes samples. Tallies stand in order of first arrival, which the log fixes.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct OpenWindow {
    /// Series slot and what it got.
    pub(crate) series: Blocks<(u32, Aggregate), SERIES_BLOCK>,
    /// Series slot → for each of its watches what it saw; only series with failure rules are here.
    pub(crate) watched: BTreeMap<u32, Vec<WatchWindow>>,
    pub(crate) entities: Blocks<EntityTally, ENTITY_BLOCK>,
}

impl OpenWindow {
    /// Empties the window and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.series.clear();
        self.watched.clear();
        self.entities.clear();
    }

    /// Forgets what lines said.
    pub(crate) fn forget_examples(&mut self) {
        for cell in 0..self.entities.len() {
            let has_any = |tally: &EntityTally| {
                tally.templates.values().any(|t| t.example.is_some())
                    || tally.values.values().any(|v| v.shown.is_some())
            };
            if self.entities.get(cell).is_some_and(has_any)
                && let Some(tally) = self.entities.get_mut(cell)
            {
                tally.templates.values_mut().for_each(|t| t.example = None);
                tally.values.values_mut().for_each(|v| v.shown = None);
            }
        }
    }

    /// Where the tally of a series stands, if it was heard in this window, which has this index.
    pub(crate) fn series_cell(&self, finder: &Finder, series: usize, index: i64) -> Option<usize> {
        let cell = finder.get(series, index)?;
        (self.series.get(cell)?.0 == place_u32(series)).then_some(cell)
    }

    /// Where the tally of an entity stands, if it was heard in this window, which has this index.
    pub(crate) fn entity_cell(&self, finder: &Finder, entity: usize, index: i64) -> Option<usize> {
        let cell = finder.get(entity, index)?;
        (self.entities.get(cell)?.entity == place_u32(entity)).then_some(cell)
    }

    /// Adds its blocks to a frozen state.
    pub(crate) fn freeze(&mut self, start: Timestamp, into: &mut Vec<FrozenBlock>) {
        self.series.freeze(Part::WindowSeries, start.as_millis(), into);
        self.entities.freeze(Part::WindowEntities, start.as_millis(), into);
    }

    /// Reads its blocks.
    pub(crate) fn load(&mut self, start: Timestamp, from: &mut Loading) -> Result<(), LoadError> {
        from.fill(&mut self.series, Part::WindowSeries, start.as_millis())?;
        from.fill(&mut self.entities, Part::WindowEntities, start.as_millis())
    }
}

#[cfg(test)]
impl OpenWindow {
    /// What the blocks of its tables hold.
    pub(crate) fn layouts() -> [(Part, usize, crate::state::layout::Layout); 2] {
        let (of_series, series) = Blocks::<(u32, Aggregate), SERIES_BLOCK>::layout();
        let (of_entities, entities) = Blocks::<EntityTally, ENTITY_BLOCK>::layout();
        [
            (Part::WindowSeries, of_series, series),
            (Part::WindowEntities, of_entities, entities),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_forget_a_window_when_its_place_is_taken() {
        let mut cells = Cells::default();
        assert_eq!(cells.get(0), None);
        cells.set(5, 7);
        assert_eq!(cells.get(5), Some(7));
        assert_eq!(cells.get(5 + RING as i64), None);
        cells.set(5 + RING as i64, 9);
        assert_eq!((cells.get(5), cells.get(13)), (None, Some(9)));
    }

    #[test]
    fn shorten_cuts_between_characters() {
        assert_eq!(shorten("añb", 2), "a");
        assert_eq!(shorten("añb", 3), "añ");
        assert_eq!(shorten("", 0), "");
    }

    #[test]
    fn matched_lines_are_counted_per_rule() {
        let mut tally = EntityTally::default();
        tally.line_matched("oom", Timestamp::from_secs(5), || "out of memory".to_owned());
        tally.line_matched("oom", Timestamp::from_secs(4), || "again".to_owned());
        tally.line_matched("other", Timestamp::from_secs(6), || "x".to_owned());
        assert_eq!(tally.facts.len(), 2);
        let Fact::Lines {
            count,
            first_at,
            sample,
            ..
        } = &tally.facts[0]
        else {
            unreachable!()
        };
        assert_eq!(
            (*count, *first_at, &**sample),
            (2, Timestamp::from_secs(4), "out of memory")
        );
    }
}
