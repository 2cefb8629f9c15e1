//! A sample on its way into its window: the series it is of, and what rules watch of it.

use foreshock_domain::{Sample, SeriesId, Timestamp};
use foreshock_metrics::SeriesModel;

use super::aggregate::{Aggregate, Taken};
use super::partition::{Arrival, Context, DetectState, Scratch, open_window};
use super::series::{Kind, SeriesSlot, series_id};
use super::window::shorten;
use crate::slots::place_u32;

impl DetectState {
    pub(super) fn take_sample(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        arrival: &Arrival<'_>,
        sample: &Sample<'_>,
    ) {
        let id = series_id(&mut scratch.series, sample.name, sample.labels);
        let place = match self.series.place(&id) {
            Some(place) => place,
            None => {
                let Some(owner) = self.owner(cx, scratch, arrival) else {
                    return;
                };
                if self.series.len() >= cx.config.limits.series {
                    // Refused, and yet the entity was heard.
                    cx.counters.series_refused += 1;
                    self.tally(scratch, owner, arrival);
                    return;
                }
                self.series.insert(new_series(cx, id, sample, owner))
            }
        };
        if (self.series.get(place)).is_some_and(|slot| slot.watches_of != cx.config.rules.fingerprint()) {
            // The state was written under other rules, whose numbers mean nothing here.
            if let Some(slot) = self.series.get_mut(place) {
                slot.watches = cx.config.rules.watches(sample.name, sample.labels);
                slot.watches_of = cx.config.rules.fingerprint();
            }
            for window in self.open.values_mut() {
                window.watched.remove(&place_u32(place));
            }
        }
        let Some(slot) = self.series.get(place) else { return };
        let window = open_window(&mut self.open, scratch, arrival.start);
        let known = window.series_cell(&self.series_cells, place, arrival.window);
        let cell = known.unwrap_or_else(|| {
            let cell = window.series.len();
            window.series.push((place_u32(place), Aggregate::default()));
            self.series_cells.set(place, arrival.window, cell);
            cell
        });
        let owner = slot.entity as usize;
        let Some((_, aggregate)) = window.series.get_mut(cell) else {
            return;
        };
        match aggregate.add(arrival.at, sample.value) {
            Taken::Duplicate => return cx.counters.duplicates += 1,
            Taken::Missing => cx.counters.missing += 1,
            Taken::Finite => {}
        }
        if !slot.watches.is_empty() {
            let fresh = || slot.watches.iter().map(|w| cx.config.rules.window(w)).collect();
            for watched in window.watched.entry(place_u32(place)).or_insert_with(fresh) {
                watched.observe(arrival.at, sample.value);
            }
        }
        cx.counters.samples += 1;
        if let Some(tally) = self.tally(scratch, owner, arrival) {
            tally.samples += 1;
        }
    }
}

fn new_series(cx: &Context<'_>, id: SeriesId, sample: &Sample<'_>, owner: usize) -> SeriesSlot {
    let mut name = String::from(sample.name);
    for (i, (k, v)) in sample.labels.iter().enumerate() {
        name.push(if i == 0 { '{' } else { ',' });
        name.push_str(k);
        name.push('=');
        name.push_str(v);
    }
    if !sample.labels.is_empty() {
        name.push('}');
    }
    SeriesSlot {
        id,
        name: shorten(&name, 1_024).into(),
        entity: place_u32(owner),
        kind: Kind::new(sample.kind, sample.name),
        model: SeriesModel::new(sample.kind),
        watches: cx.config.rules.watches(sample.name, sample.labels),
        watches_of: cx.config.rules.fingerprint(),
        last: None,
        heard: Timestamp::MIN,
    }
}
