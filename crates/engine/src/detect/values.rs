//! What stands inside an entity's lines: numbers as series, and sets of values.
//!
//! The entity's frequent templates are **watched**: what stands at their variable places is read, line by line, into the window's tally. A
//! place is first on trial ([`ValueTrial`]). What turns out to be an amount gets a model as every metric has, fed with the mean
//! of a window's numbers; what turns out to be a set tells values that it never had.
//!
//! **Mean, not maximum.** Measured on durations of three shapes, at 1 to 50 lines a window and with day and night: both are calibrated;
//! the mean finds twice as long durations where the maximum of heavy tails does not, and what only the maximum finds is a
//! few slow lines among many.
//!
//! **Fails** where the key says that a place is a name though it is an amount (`line`, `number`), and on amounts in lines so rare that their
//! template is never among the frequent. Gaps in these series are no signal: whether lines come is for the template bank.
//! **Cost:** nothing for lines that are not watched but a search among 32 ids; some 100 ns for one that is. [`WATCHED_MAX`] templates, and of
//! each kind [`TRIALS_MAX`] and [`TRACKED_MAX`] places an entity, [`PLACES_MAX`] a partition, 1.3 kB each.

mod place;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use foreshock_domain::{Learning, Millis, Signal, Timestamp};
use foreshock_logs::{Miner, TemplateBank, TemplateCount, TemplateId, ValueTally, value_hash};
use serde::{Deserialize, Serialize};

use self::place::{Place, Role};
use super::evidence::{evidence, value_signal};
use super::partition::{Context, DetectState};
use super::window::EntityTally;

/// Templates of one entity whose values are read.
const WATCHED_MAX: usize = 32;
/// Lines after which a template counts as frequent.
const LINES_MIN: u64 = 64;
/// Places of one template.
const TEMPLATE_PLACES_MAX: usize = 8;
/// Places of one entity that are on trial, and that are followed.
const TRIALS_MAX: usize = 32;
const TRACKED_MAX: usize = 16;
/// Places of all entities of a partition, on trial or followed: 11 MB.
pub(super) const PLACES_MAX: usize = 8_192;
/// Windows after which what is not written any more makes room.
const IDLE_WINDOWS: Millis = 1_024;
/// Windows after which a template of which no place was of use makes room, and after which it is looked at anew.
const USELESS_WINDOWS: Millis = 256;
const ANEW_WINDOWS: Millis = 2_048;
/// Windows that a template taken up has to come again.
const NEW_WINDOWS: Millis = 64;

/// The values of one entity's lines.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct EntityValues {
    /// By id.
    watched: Vec<Watched>,
    /// [`Miner::merges`] when the ids were last brought up to date.
    merges: u64,
    /// Places on trial or followed.
    held: u32,
}

/// A template whose values are read.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Watched {
    id: TemplateId,
    /// Positions, as bits, at which words are values.
    words: u64,
    /// End of the last window with a line of it.
    heard: Timestamp,
    /// Its places are not known yet: those of the next window that may teach are taken.
    is_new: bool,
    /// By place; what is of no use is not there.
    places: Vec<Place>,
}

/// The window that ends, as far as values are concerned.
pub(super) struct Closing<'a> {
    pub(super) miner: &'a Miner,
    pub(super) bank: &'a TemplateBank,
    /// Lines of each template, by id.
    pub(super) counts: &'a [TemplateCount],
    pub(super) learning: Learning,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) gate: f64,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Closed {
    pub(super) tested: u32,
    pub(super) signals: Vec<Signal>,
    /// Places for which there was no room.
    pub(super) refused: u64,
}

impl DetectState {
    /// What stands inside a line that was just mined and counted, where its template is one that the entity writes often. The
    /// window has this start and this index.
    pub(super) fn take_values(
        &mut self,
        cx: &Context<'_>,
        (start, index): (Timestamp, i64),
        owner: usize,
        template: TemplateId,
        text: &str,
    ) {
        let slot = self.entities.get(owner);
        if let (Some(values), Some(miner)) = (slot.and_then(|s| s.values.as_deref()), self.miner.as_deref())
            && let Some(watched) = values.find(template)
            && let Some(window) = self.open.get_mut(&start)
            && let Some(cell) = window.entity_cell(&self.entity_cells, owner, index)
            && let Some(tally) = window.entities.get_mut(cell)
        {
            watched.read(miner, text, cx.source.log.raw_text, &mut tally.values);
        }
    }
}

impl Closing<'_> {
    /// Ends a window of an entity; `held` is how many places all entities of the partition hold.
    pub(super) fn close(
        &self,
        values: &mut Option<Box<EntityValues>>,
        held: &mut usize,
        tally: Option<&mut EntityTally>,
    ) -> Closed {
        let Some(tally) = tally else { return Closed::default() };
        let is_frequent = |c: &TemplateCount| c.id != TemplateId::OVERFLOW && self.lines(c) >= LINES_MIN;
        if values.is_none() && !self.counts.iter().any(is_frequent) {
            return Closed::default();
        }
        let values = values.get_or_insert_default();
        let others = held.saturating_sub(values.held());
        let closed = values.close(self, PLACES_MAX.saturating_sub(others), tally);
        *held = others + values.held();
        closed
    }

    /// Lines of a template that the entity has written so far, as far as is remembered.
    fn lines(&self, count: &TemplateCount) -> u64 {
        self.bank.past(count.id, self.counts).seen + u64::from(count.count)
    }
}

impl EntityValues {
    /// A template, if anything of its lines is to be read.
    fn find(&self, template: TemplateId) -> Option<&Watched> {
        let at = self.watched.binary_search_by_key(&template, |w| w.id).ok()?;
        self.watched.get(at).filter(|w| w.is_new || !w.places.is_empty())
    }

    /// Places on trial or followed.
    pub(super) fn held(&self) -> usize {
        self.held as usize
    }

    /// Ends a window: judges and learns what is followed, tries what is on trial, and takes up what has become frequent.
    fn close(&mut self, cx: &Closing<'_>, room: usize, tally: &mut EntityTally) -> Closed {
        let mut closed = Closed::default();
        self.reconcile(cx.miner);
        let mut values = canonical(cx.miner, std::mem::take(&mut tally.values));
        self.judge(cx, &mut values, tally, &mut closed);
        self.take_places(cx, values, room, &mut closed);
        self.take_up(cx);
        self.held = u32::try_from(self.places()).unwrap_or(u32::MAX);
        closed
    }

    fn places(&self) -> usize {
        self.watched.iter().map(|w| w.places.len()).sum()
    }

    /// Gives templates the ids that they have now. Of two that became one, the places of that with more are kept: a position is
    /// the same in both.
    fn reconcile(&mut self, miner: &Miner) {
        if self.merges == miner.merges() {
            return;
        }
        self.merges = miner.merges();
        for watched in &mut self.watched {
            watched.id = miner.canonical(watched.id);
            watched.words = miner.word_places(watched.id);
        }
        self.watched
            .sort_by_key(|w| (w.id, std::cmp::Reverse((w.tracked(), w.places.len()))));
        self.watched.dedup_by(|next, kept| {
            let same = next.id == kept.id;
            if same {
                kept.heard = kept.heard.max(next.heard);
            }
            same
        });
    }

    fn judge(
        &mut self,
        cx: &Closing<'_>,
        values: &mut BTreeMap<(u64, u16), ValueTally>,
        tally: &EntityTally,
        closed: &mut Closed,
    ) {
        let mut tracked = self.make_room(cx.end - IDLE_WINDOWS * (cx.end - cx.start));
        for watched in &mut self.watched {
            let template = watched.id;
            let is_heard = cx.counts.binary_search_by_key(&template, |c| c.id).is_ok();
            // One of which nothing is of use grows old, whether it is written or not.
            if is_heard && !watched.places.is_empty() {
                watched.heard = cx.end;
            }
            watched.places.retain_mut(|place| {
                let Some(value) = values.remove(&(template.0, place.place)) else {
                    return true;
                };
                place.unit = place.unit.or((value.numbers > 0).then_some(value.unit));
                let told = place.step(&value, cx.learning, cx.start);
                closed.tested += u32::from(told.is_tested);
                if let Some((verdict, onset)) = told.verdict.filter(|(v, _)| v.score.surprise() >= cx.gate) {
                    let past = cx.bank.past(template, cx.counts);
                    let log = evidence(cx.miner, template, value.lines, past, Some(tally));
                    let name = place.name(&log.template, told.is_set.then_some(value.shown.as_deref()));
                    closed
                        .signals
                        .push(value_signal(place.id, name, place.unit, verdict, log, onset));
                }
                if told.ripened && tracked == TRACKED_MAX {
                    closed.refused += 1;
                    return false;
                }
                tracked = (tracked + usize::from(told.ripened)).saturating_sub(usize::from(told.unripened));
                told.stays
            });
        }
    }

    /// Where as many places are followed as may be and others wait, drops those that were idle for longest. How many are followed then.
    fn make_room(&mut self, idle: Timestamp) -> usize {
        let tracked = |all: &[Watched]| all.iter().map(Watched::tracked).sum::<usize>();
        let waits = self.watched.iter().any(|w| w.tracked() < w.places.len());
        while waits && tracked(&self.watched) >= TRACKED_MAX {
            let old = self.watched.iter_mut().filter(|w| w.tracked() > 0 && w.heard <= idle);
            let Some(oldest) = old.min_by_key(|w| (w.heard, w.id)) else {
                break;
            };
            oldest.places.retain(Place::is_trial);
        }
        tracked(&self.watched)
    }

    /// Puts on trial what stands at places not looked at before.
    fn take_places(
        &mut self,
        cx: &Closing<'_>,
        values: BTreeMap<(u64, u16), ValueTally>,
        room: usize,
        closed: &mut Closed,
    ) {
        if cx.learning == Learning::Paused {
            return;
        }
        // The windows that were open when a template was taken up may have no values of it.
        let seen: Vec<u64> = values.keys().map(|(template, _)| *template).collect();
        let mut held = self.places();
        let mut on_trial: usize = self.watched.iter().map(|w| w.places.len() - w.tracked()).sum();
        for ((template, place), value) in values {
            let at = self.watched.binary_search_by_key(&template, |w| w.id.0);
            let Some(watched) = at.ok().and_then(|at| self.watched.get_mut(at)).filter(|w| w.is_new) else {
                continue;
            };
            if value.is_name || watched.places.len() >= TEMPLATE_PLACES_MAX {
                continue;
            }
            if on_trial >= TRIALS_MAX || held >= room {
                closed.refused += 1;
                continue;
            }
            let mut new = Place::new(watched.id, place, &value);
            new.step(&value, cx.learning, cx.start);
            (held, on_trial) = (held + 1, on_trial + 1);
            watched.places.push(new);
        }
        for watched in &mut self.watched {
            watched.is_new &= seen.binary_search(&watched.id.0).is_err();
        }
    }

    /// Begins to watch a template that has become frequent, once all its places can be tried.
    fn take_up(&mut self, cx: &Closing<'_>) {
        let width = cx.end - cx.start;
        let is_useful = |w: &Watched, windows: Millis| !w.places.is_empty() || w.heard > cx.end - windows * width;
        let waits = |w: &Watched| (0..=NEW_WINDOWS * width).contains(&(cx.end - w.heard));
        self.watched
            .retain(|w| if w.is_new { waits(w) } else { is_useful(w, ANEW_WINDOWS) });
        let on_trial: usize = self.watched.iter().map(|w| w.places.len() - w.tracked()).sum();
        if on_trial + TEMPLATE_PLACES_MAX > TRIALS_MAX || self.watched.iter().any(|w| w.is_new) {
            return;
        }
        let is_wanted = |count: &&TemplateCount| {
            count.id != TemplateId::OVERFLOW
                && self.watched.binary_search_by_key(&count.id, |w| w.id).is_err()
                && cx.lines(count) >= LINES_MIN
                && cx.miner.has_variables(count.id)
        };
        let Some(id) = cx.counts.iter().find(is_wanted).map(|count| count.id) else {
            return;
        };
        if self.watched.len() >= WATCHED_MAX {
            let is_over = |w: &&Watched| !is_useful(w, USELESS_WINDOWS) || w.heard <= cx.end - IDLE_WINDOWS * width;
            let oldest = self.watched.iter().filter(is_over).min_by_key(|w| (w.heard, w.id));
            let Some(oldest) = oldest.map(|w| w.id) else { return };
            self.watched.retain(|w| w.id != oldest);
        }
        let new = Watched {
            id,
            words: cx.miner.word_places(id),
            heard: cx.end,
            is_new: true,
            places: Vec::new(),
        };
        self.watched.insert(self.watched.partition_point(|w| w.id < id), new);
    }
}

impl Watched {
    /// Reads the values of a line of this template, which the miner has just mined.
    fn read(&self, miner: &Miner, text: &str, raw_text: bool, into: &mut BTreeMap<(u64, u16), ValueTally>) {
        miner.each_value(text, self.words, |value| {
            let known = self.places.binary_search_by_key(&value.place, |p| p.place);
            let known = known.ok().and_then(|at| self.places.get(at));
            if known.is_none() && !self.is_new {
                return;
            }
            let unit = known.and_then(|place| place.unit);
            let tally = into
                .entry((self.id.0, value.place))
                .or_insert_with(|| ValueTally::new(unit, &value));
            match known.map(|place| &place.role) {
                Some(Role::Amount(_)) => tally.add_number(value.number),
                Some(Role::Set(set)) => {
                    let hash = value_hash(value.text);
                    tally.lines = tally.lines.saturating_add(1);
                    tally.add_value(hash);
                    if raw_text && tally.shown.is_none() && !set.contains(hash) {
                        tally.show(value.text);
                    }
                }
                Some(Role::Trial(_)) => {
                    tally.add_number(value.number);
                    tally.add_value(value_hash(value.text));
                }
                None => {
                    tally.add_number(value.number);
                    tally.add_value(value_hash(value.text));
                    tally.is_name |= value.is_name();
                    if tally.key.is_none() {
                        tally.key = value.shown_key(raw_text);
                    }
                }
            }
        });
    }

    /// Places that are followed.
    fn tracked(&self) -> usize {
        self.places.iter().filter(|p| !p.is_trial()).count()
    }
}

/// The tallies under the ids that their templates have now.
fn canonical(miner: &Miner, tallies: BTreeMap<(u64, u16), ValueTally>) -> BTreeMap<(u64, u16), ValueTally> {
    let mut all: BTreeMap<(u64, u16), ValueTally> = BTreeMap::new();
    for ((id, place), tally) in tallies {
        match all.entry((miner.canonical(TemplateId(id)).0, place)) {
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(tally);
            }
            std::collections::btree_map::Entry::Occupied(mut known) => known.get_mut().absorb(tally),
        }
    }
    all
}
