//! What keeps a session model's memory bounded and honest: trust decided anew, habits that changed, counts that fade.
//!
//! Fails where a share of units above [`CHANGED`] breaks for hours and nobody declares it a failure: that is then the new
//! normal. Cost: a pass over all vectors remembered each time a sixteenth more sessions were seen, some milliseconds at most.

use super::{BROKEN_BY, SESSIONS_MIN, SessionModel};
use crate::TemplateId;

/// What is trusted is decided anew when this part more sessions were seen.
const REFIT_PART: u32 = 16;
/// Sessions at which all counts are halved.
const SESSIONS_MAX: u32 = 1 << 16;
/// Of sessions of late, this share rejected means that the habits changed.
const CHANGED: f64 = 0.5;
/// Sessions that are of late.
const LATE: f64 = 64.0;
/// What the counts are divided by then.
const CHANGE_KEEPS: u32 = 16;

impl SessionModel {
    /// Looks after the memory: habits that changed, counts that grew large, trust that is due to be decided anew.
    pub(super) fn settle(&mut self, rejected: bool) {
        let odd = if rejected && self.seen > SESSIONS_MIN { 1.0 } else { 0.0 };
        self.rejected_late += (odd - self.rejected_late) / LATE;
        if self.rejected_late > CHANGED {
            // Not a failing unit here and there: another release, or an outage so long that it was told long ago.
            self.rejected_late = 0.0;
            self.scale_all(CHANGE_KEEPS);
            self.refit();
        } else if self.seen >= SESSIONS_MAX {
            self.fade();
            self.refit();
        } else if self.seen >= self.refit_at {
            self.refit();
        }
    }

    /// Decides anew which of the vectors remembered are trusted.
    fn refit(&mut self) {
        self.refit_at = self.seen + (self.seen / REFIT_PART).max(SESSIONS_MIN);
        if self.events.len() >= self.limits.events {
            self.drop_rarest_events();
        }
        if !self.are_units {
            return;
        }
        let core: Vec<TemplateId> = self
            .events
            .iter()
            .filter(|e| self.is_core(e.all))
            .map(|e| e.id)
            .collect();
        let lacks = |events: &[(TemplateId, u8)]| {
            let has = |id: &&TemplateId| events.binary_search_by_key(*id, |(e, _)| *e).is_err();
            core.iter().filter(has).count() >= BROKEN_BY as usize
        };
        let broken = self.vectors.iter().filter(|(_, v)| lacks(&v.events));
        let held: u64 = self.vectors.iter().map(|(_, v)| u64::from(v.all)).sum();
        let broken: u64 = broken.map(|(_, v)| u64::from(v.all)).sum();
        // Vectors pushed out are taken to be broken as often as those held.
        self.broken = u32::try_from(broken * u64::from(self.seen) / held.max(1)).unwrap_or(u32::MAX);
        let foreign: Vec<TemplateId> = (self.events.iter())
            .filter(|e| self.is_foreign(e.all))
            .map(|e| e.id)
            .collect();
        let is_known = |id: &TemplateId| self.events.binary_search_by_key(id, |e| e.id).is_ok();
        let trusts = |events: &[(TemplateId, u8)]| {
            let is_odd = |(id, _): &(TemplateId, u8)| foreign.binary_search(id).is_ok() || !is_known(id);
            !lacks(events) && !events.iter().any(is_odd)
        };
        let changed: Vec<(u64, u32)> = (self.vectors.iter())
            .map(|(key, v)| (key, if trusts(&v.events) { v.all } else { 0 }, v.trusted))
            .filter(|(_, to, from)| to != from)
            .map(|(key, to, _)| (key, to))
            .collect();
        for (key, to) in changed {
            self.retrust(key, to);
        }
    }

    fn retrust(&mut self, key: u64, to: u32) {
        let Some(vector) = self.vectors.get(key) else {
            return;
        };
        let (events, from) = (vector.events.clone(), vector.trusted);
        self.vectors.trust(key, to);
        self.trusted = self.trusted.saturating_add(to).saturating_sub(from);
        for (id, octave) in &events {
            if let Some(event) = self.event_mut(*id) {
                event.trust(*octave, 0, from, to);
            }
        }
    }

    fn drop_rarest_events(&mut self) {
        let mut counts: Vec<u32> = self.events.iter().map(|e| e.all).collect();
        counts.sort_unstable();
        let quarter = counts.get(self.limits.events / 4).copied().unwrap_or(0);
        let before = self.events.len();
        let mut room = self.limits.events / 4;
        self.events.retain(|e| {
            let goes = e.all <= quarter && room > 0;
            room -= usize::from(goes);
            !goes
        });
        self.events_evicted += (before - self.events.len()) as u64;
    }

    /// Halves all counts.
    fn fade(&mut self) {
        self.trusted = self.trusted.div_ceil(2);
        self.past.fade();
        for event in &mut self.events {
            event.fade();
        }
        self.vectors.rebuild(|mut v| {
            (v.all, v.trusted) = (v.all.div_ceil(2), v.trusted.div_ceil(2));
            v
        });
        self.seen = self.seen.div_ceil(2);
        self.broken = self.broken.div_ceil(2);
    }

    /// Forgets most of how often events and vectors were seen, so that new habits soon count.
    fn scale_all(&mut self, by: u32) {
        for event in &mut self.events {
            event.all = event.all.div_ceil(by);
        }
        self.vectors.rebuild(|mut v| {
            v.all = v.all.div_ceil(by);
            v
        });
        self.seen = (self.seen / by).max(SESSIONS_MIN);
        self.broken = self.broken.div_ceil(by);
    }
}
