//! The few ways in which an entity works (idle, peak, batch, maintenance), found as it goes: each row belongs to the
//! nearest regime, and each regime has its own level and spread of every series. What is far from all of them founds
//! another; regimes that are not apart are one. A regime counts as known at its third visit, or while it is the home.
//!
//! Distance is the mean over series of squared standardised deviations, each cut, so it works with 5 series as with 64 and
//! with any of them missing. A window into which a change falls is a mixture of two regimes, and is recognised as one.
//!
//! **Fails when** regimes differ in one series only (that is for the series' own model), shade into each other without a
//! gap (they stay one, with a wide spread), or are more than [`REGIMES`]. **Cost:** O(series × 8) a step;
//! [`Regimes::BYTES_A_SERIES`] bytes a series.
//! **Papers:** M. Charikar, C. Chekuri, T. Feder, R. Motwani, *Incremental clustering and dynamic information retrieval*,
//! SIAM J. Computing 33(6), 2004, section 3 (merge the closest when full); J. Ward, *Hierarchical grouping to optimize an
//! objective function*, JASA 58, 1963 (what closest means in the beginning).

use std::f64::consts::FRAC_1_SQRT_2;

use serde::{Deserialize, Serialize};

use crate::entity_row::{ENTITY_SERIES_MAX, Row, slots};
use crate::{RobustLevel, RobustLevelParams};

/// Most regimes at a time.
pub(crate) const REGIMES: usize = 8;
/// Rows in which the first regimes are found; before that nothing is said.
const FOUNDING: u32 = 32;
/// Mean squared deviation from which on a row is outside a regime.
const OUTSIDE: f64 = 12.0;
/// Mean squared deviation up to which a row surely is in a regime that is settled; about 1 is usual.
const PLAIN: f64 = 3.0;
/// A mixture must bring the distance to this share to be believed of a row that could be in a settled regime.
const MIXED: f64 = 0.5;
/// Squared deviation that a single series counts at most.
const CUT: f64 = 64.0;
/// Spreads from which on a series is far from a regime. Two regimes have two series that are far apart at least: what one
/// series does is its own matter. Less than the roots of `OUTSIDE` and of twice `APART`, so that several make a difference.
const FAR: f64 = 3.0;
/// Mean squared distance of two levels, in their spreads, below which regimes are one.
const APART: f64 = 5.0;
/// Visits after which a regime is known, and rows.
const KNOWN_VISITS: u16 = 3;
const KNOWN_ROWS: u32 = 16;
/// Rows after which an unknown regime is the new normal, and after which it is known however it was come to.
const SETTLED_ROWS: u32 = 100;
const LIVED_IN_ROWS: u32 = 400;
/// Rows that a baseline remembers.
const MEMORY: f64 = 1_000.0;
/// Rows that the common spread of all regimes is worth to a new one.
const PRIOR_ROWS: f64 = 8.0;
/// Rows between two looks for regimes that have become one.
const MERGE_EVERY: u32 = 32;
/// Levels that differ by this many spreads are explained by the regime.
const EXPLAINS: f64 = 4.0;
/// Deviations count as at most this many spreads when a baseline learns.
const CLAMP: f64 = 4.0;
/// Follows a series whatever the regime.
const OVERALL: RobustLevelParams = RobustLevelParams {
    alpha_level: 0.002,
    alpha_scale: 0.002,
    clamp: 8.0,
};

/// Unlike `clamp`, a limit that a damaged snapshot made NaN bounds nothing instead of panicking.
fn bounded(x: f64, limit: f64) -> f64 {
    x.max(-limit).min(limit)
}

/// Level and spread of one series in one regime, in the unit of the series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cell {
    mean: f64,
    variance: f64,
    seen: u32,
}

impl Cell {
    fn learn(&mut self, value: f64, limit: f64, share: f64) {
        self.seen = self.seen.saturating_add(1);
        if self.seen == 1 {
            *self = Self {
                mean: value,
                variance: 0.0,
                seen: 1,
            };
            return;
        }
        let alpha = share * (1.0 / f64::from(self.seen)).max(1.0 / MEMORY);
        let deviation = bounded(value - self.mean, limit);
        self.mean += alpha * deviation;
        self.variance += alpha * (deviation * deviation * (1.0 - alpha) - self.variance);
    }

    fn merged(self, other: Self) -> Self {
        let seen = self.seen.saturating_add(other.seen);
        if seen == 0 {
            return self;
        }
        let (a, b) = (
            f64::from(self.seen) / f64::from(seen),
            f64::from(other.seen) / f64::from(seen),
        );
        let apart = self.mean - other.mean;
        Self {
            mean: a * self.mean + b * other.mean,
            variance: a * self.variance + b * other.variance + a * b * apart * apart,
            seen,
        }
    }
}

/// What is known of one series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Baselines {
    overall: RobustLevel,
    /// Variance within regimes, all of them together.
    within: f64,
    cells: [Cell; REGIMES],
}

impl Baselines {
    /// A change below a fifth of a per cent of the level is no change.
    fn floor(&self) -> f64 {
        0.002 * self.overall.level().abs() + 0.01 * self.overall.scale() + 1e-9
    }

    /// Spread in a regime: its own, drawn to the common one while it is young.
    fn spread(&self, regime: usize) -> f64 {
        let cell = &self.cells[regime];
        let n = f64::from(cell.seen);
        ((n * cell.variance + PRIOR_ROWS * self.within) / (n + PRIOR_ROWS)).sqrt() + self.floor()
    }

    /// Whether the levels in two regimes are far apart.
    fn is_far(&self, a: usize, b: usize) -> bool {
        let apart = (self.cells[a].mean - self.cells[b].mean).abs();
        apart > FAR * FRAC_1_SQRT_2 * self.spread(a).hypot(self.spread(b))
    }

    /// The common spread anew from all regimes.
    fn pool(&mut self) {
        let rows: f64 = self.cells.iter().map(|c| f64::from(c.seen)).sum();
        if rows > 0.0 {
            self.within = self.cells.iter().map(|c| f64::from(c.seen) * c.variance).sum::<f64>() / rows;
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Regime {
    rows: u32,
    /// Times it was come to from another regime.
    visits: u16,
    /// Row at which it was last seen.
    last: u32,
}

/// Regimes and baselines of one entity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Regimes {
    regimes: [Regime; REGIMES],
    count: u8,
    /// Where the entity was last seen without doubt.
    firm: u8,
    rows: u32,
    baselines: Vec<Baselines>,
}

/// Where a row belongs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    /// Regimes are still being found.
    Founding,
    /// In this regime.
    In(usize),
    /// Partly in the last regime and partly in this one: a change falls into the window.
    Between(usize),
    /// Far from all.
    Outside,
}

/// A row as deviations from a baseline. By slot; entries of series without one are 0.
pub(crate) struct Placed {
    pub place: Place,
    /// Whether the regime, or both regimes, are known.
    pub known: bool,
    /// Deviations in spreads, from the regime if it is settled and from the nearest settled one otherwise.
    pub deviations: Row,
    pub expected: [f64; ENTITY_SERIES_MAX],
    pub spreads: [f64; ENTITY_SERIES_MAX],
}

impl Regimes {
    pub const BYTES_A_SERIES: usize = size_of::<Baselines>();

    pub fn push_series(&mut self) {
        self.baselines.push(Baselines::default());
    }

    pub fn reset_series(&mut self, slot: usize) {
        if let Some(b) = self.baselines.get_mut(slot) {
            *b = Baselines::default();
        }
    }

    fn len(&self) -> usize {
        usize::from(self.count).min(REGIMES)
    }

    fn home(&self) -> usize {
        (0..self.len())
            .max_by_key(|&r| (self.regimes[r].rows, REGIMES - r))
            .unwrap_or(0)
    }

    fn is_known(&self, regime: usize) -> bool {
        let r = &self.regimes[regime];
        (r.visits >= KNOWN_VISITS && r.rows >= KNOWN_ROWS) || r.rows >= LIVED_IN_ROWS || regime == self.home()
    }

    fn is_settled(&self, regime: usize) -> bool {
        self.is_known(regime) || self.regimes[regime].rows >= SETTLED_ROWS
    }

    /// Regimes that are known.
    pub fn known(&self) -> usize {
        (0..self.len()).filter(|&r| self.is_known(r)).count()
    }

    /// Whether what a series does depends on which of the known regimes the entity is in.
    pub fn explains(&self, slot: usize) -> bool {
        let Some(b) = self.baselines.get(slot) else {
            return false;
        };
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for r in (0..self.len()).filter(|&r| self.is_known(r) && b.cells[r].seen > 0) {
            low = low.min(b.cells[r].mean);
            high = high.max(b.cells[r].mean);
        }
        high - low > EXPLAINS * (b.within.sqrt() + b.floor())
    }

    /// Mean squared deviation of a row from a mixture of two regimes: `share` of `b`, the rest of `a`.
    fn distance(&self, row: &Row, a: usize, b: usize, share: f64) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        for s in slots(row.present) {
            let Some(base) = self.baselines.get(s) else { continue };
            let (from, to) = (&base.cells[a], &base.cells[b]);
            if from.seen == 0 || to.seen == 0 {
                continue;
            }
            let expected = from.mean + share * (to.mean - from.mean);
            let z = (row.values[s] - expected) / base.spread(a).max(base.spread(b));
            sum += (z * z).min(CUT);
            count += 1.0;
        }
        if count > 0.0 { sum / count } else { 0.0 }
    }

    /// How much of a row is regime `b`, were it a mixture of `a` and `b`.
    fn mixture(&self, row: &Row, a: usize, b: usize) -> f64 {
        let (mut along, mut length) = (0.0, 0.0);
        for s in slots(row.present) {
            let Some(base) = self.baselines.get(s) else { continue };
            let (from, to) = (&base.cells[a], &base.cells[b]);
            if from.seen == 0 || to.seen == 0 {
                continue;
            }
            let spread = base.spread(a).max(base.spread(b));
            let way = (to.mean - from.mean) / spread;
            along += way * (row.values[s] - from.mean) / spread;
            length += way * way;
        }
        if length > 0.0 {
            (along / length).clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// Whether a single series, of several, makes the distance between a row and a regime: an outlier of that series, and
    /// not a way in which the entity works.
    fn is_one_series_apart(&self, row: &Row, regime: usize) -> bool {
        let is_far = |&s: &usize| {
            self.baselines.get(s).is_some_and(|base| {
                let cell = &base.cells[regime];
                cell.seen > 0 && (row.values[s] - cell.mean).abs() > FAR * base.spread(regime)
            })
        };
        row.present.count_ones() > 1 && slots(row.present).filter(is_far).nth(1).is_none()
    }

    fn nearest(&self, row: &Row, among: impl Fn(usize) -> bool) -> Option<(usize, f64)> {
        (0..self.len())
            .filter(|&r| among(r))
            .map(|r| (r, self.distance(row, r, r, 0.0)))
            .min_by(|a, b| a.1.total_cmp(&b.1))
    }

    fn place(&self, row: &Row) -> (Place, f64) {
        if self.rows < FOUNDING {
            return (Place::Founding, 0.0);
        }
        let nearest = self
            .nearest(row, |_| true)
            .filter(|&(r, distance)| distance <= OUTSIDE || self.is_one_series_apart(row, r));
        let from = usize::from(self.firm).min(REGIMES - 1);
        // A mixture may lie on the brim of a regime, or found one of mixtures, unless it is recognised first. A change falls
        // into one row, after one that was in a regime.
        let may_change = self.regimes[from].last == self.rows;
        let limit = match nearest {
            None => OUTSIDE,
            Some((regime, distance)) => {
                let settled = self.is_settled(regime);
                if !may_change || (settled && distance <= PLAIN) {
                    return (Place::In(regime), 0.0);
                }
                if settled { MIXED * distance } else { OUTSIDE }
            }
        };
        if self.is_known(from) {
            for to in (0..self.len()).filter(|&r| r != from && self.is_known(r)) {
                let share = self.mixture(row, from, to);
                if self.distance(row, from, to, share) <= limit {
                    return (Place::Between(to), share);
                }
            }
        }
        (nearest.map_or(Place::Outside, |(regime, _)| Place::In(regime)), 0.0)
    }

    /// Where a row belongs, and how it deviates from what is usual there.
    pub fn read(&self, row: &Row) -> Placed {
        let (place, share) = self.place(row);
        let firm = usize::from(self.firm).min(REGIMES - 1);
        let (a, b, known) = match place {
            Place::Founding => (0, 0, false),
            Place::Between(to) => (firm, to, true),
            Place::In(r) if self.is_settled(r) => (r, r, self.is_known(r)),
            Place::In(_) | Place::Outside => {
                let settled = self.nearest(row, |r| self.is_settled(r)).map_or(0, |n| n.0);
                (settled, settled, false)
            }
        };
        let mut placed = Placed {
            place,
            known,
            deviations: Row::empty(),
            expected: [0.0; ENTITY_SERIES_MAX],
            spreads: [0.0; ENTITY_SERIES_MAX],
        };
        if place == Place::Founding {
            return placed;
        }
        for s in slots(row.present) {
            let Some(base) = self.baselines.get(s) else { continue };
            let (from, to) = (&base.cells[a], &base.cells[b]);
            if from.seen == 0 || to.seen == 0 || base.overall.seen() < KNOWN_ROWS {
                continue;
            }
            placed.expected[s] = from.mean + share * (to.mean - from.mean);
            placed.spreads[s] = base.spread(a).max(base.spread(b));
            placed
                .deviations
                .set(s, (row.values[s] - placed.expected[s]) / placed.spreads[s]);
        }
        placed
    }

    /// Learns a row that was read; `share` in 0 ..= 1 is how much a settled regime may take of it.
    pub fn learn(&mut self, row: &Row, place: Place, share: f64) {
        self.rows = self.rows.saturating_add(1);
        for s in slots(row.present) {
            if let Some(base) = self.baselines.get_mut(s) {
                let floor = base.floor();
                base.overall.learn(&OVERALL, row.values[s], floor, 1.0);
            }
        }
        match place {
            Place::Founding => self.found(row),
            Place::In(r) => self.join(row, r, if self.is_settled(r) { share } else { 1.0 }),
            Place::Between(_) => {}
            Place::Outside => {
                if let Some(r) = self.room() {
                    self.join(row, r, 1.0);
                }
            }
        }
        if place != Place::Founding && self.rows.is_multiple_of(MERGE_EVERY) {
            self.merge_what_is_not_apart();
        }
    }

    /// Takes a row into a regime.
    fn join(&mut self, row: &Row, regime: usize, share: f64) {
        let firm = usize::from(self.firm).min(REGIMES - 1);
        let came = firm != regime && self.distance(row, firm, firm, 0.0) > OUTSIDE;
        if came {
            self.regimes[regime].visits = self.regimes[regime].visits.saturating_add(1);
            self.firm = regime as u8;
        }
        let state = &mut self.regimes[regime];
        state.rows = state.rows.saturating_add(1);
        state.last = self.rows;
        for s in slots(row.present) {
            let Some(base) = self.baselines.get_mut(s) else {
                continue;
            };
            let spread = base.spread(regime);
            let young = base.overall.seen() < KNOWN_ROWS;
            let limit = if young { f64::INFINITY } else { CLAMP * spread };
            let cell = &mut base.cells[regime];
            let deviation = bounded(row.values[s] - cell.mean, limit);
            let counts = cell.seen > 0;
            cell.learn(row.values[s], limit, share);
            if counts {
                let alpha = share * (1.0 / f64::from(base.overall.seen())).max(1.0 / MEMORY);
                base.within += alpha * (deviation * deviation - base.within);
            }
        }
    }

    /// A place for another regime: a free one, or that of the least of those that are not known.
    fn room(&mut self) -> Option<usize> {
        if self.len() == REGIMES {
            let least = (0..REGIMES)
                .filter(|&r| !self.is_known(r))
                .min_by_key(|&r| (self.regimes[r].rows, self.regimes[r].last))?;
            self.remove(least);
        }
        let new = self.len();
        self.regimes[new] = Regime::default();
        self.count = new as u8 + 1;
        Some(new)
    }

    /// The first rows: eight prototypes, of which the two closest are merged where a row is further from all.
    fn found(&mut self, row: &Row) {
        if self.len() < REGIMES {
            let new = self.len();
            self.count = new as u8 + 1;
            self.take_in(row, new);
        } else {
            let joined = (0..REGIMES)
                .map(|r| (r, self.cost_of_joining(row, r)))
                .min_by(|a, b| a.1.total_cmp(&b.1));
            let pair = self.closest(Self::cost_of_merging);
            if let (Some((near, joins)), Some((a, b, merges))) = (joined, pair) {
                let place = if joins <= merges {
                    near
                } else {
                    self.merge(a, b);
                    self.count = REGIMES as u8;
                    self.regimes[REGIMES - 1] = Regime::default();
                    REGIMES - 1
                };
                self.take_in(row, place);
            }
        }
        if self.rows == FOUNDING {
            self.baselines.iter_mut().for_each(Baselines::pool);
            self.merge_what_is_not_apart();
            for regime in &mut self.regimes {
                regime.visits = 1;
            }
            self.firm = self.nearest(row, |_| true).map_or(0, |n| n.0 as u8);
        }
    }

    fn take_in(&mut self, row: &Row, regime: usize) {
        self.regimes[regime].rows = self.regimes[regime].rows.saturating_add(1);
        self.regimes[regime].last = self.rows;
        for s in slots(row.present) {
            if let Some(base) = self.baselines.get_mut(s) {
                base.cells[regime].learn(row.values[s], f64::INFINITY, 1.0);
            }
        }
    }

    /// Ward's cost: what the sum of squares grows by, in overall spreads.
    fn cost_of_joining(&self, row: &Row, regime: usize) -> f64 {
        let n = f64::from(self.regimes[regime].rows);
        let (mut sum, mut count) = (0.0, 0.0);
        for s in slots(row.present) {
            let Some(base) = self.baselines.get(s).filter(|b| b.cells[regime].seen > 0) else {
                continue;
            };
            let z = (row.values[s] - base.cells[regime].mean) / (base.overall.scale() + base.floor());
            sum += z * z;
            count += 1.0;
        }
        if count > 0.0 { n / (n + 1.0) * sum / count } else { 0.0 }
    }

    fn cost_of_merging(&self, a: usize, b: usize) -> f64 {
        let (n, m) = (f64::from(self.regimes[a].rows), f64::from(self.regimes[b].rows));
        n * m / (n + m).max(1.0) * self.mean_square(a, b, |base| base.overall.scale() + base.floor(), f64::INFINITY)
    }

    /// How far apart two regimes are, in their spreads; 0 where it is one series of several that makes the difference.
    fn separation(&self, a: usize, b: usize) -> f64 {
        // A regime that has swallowed another is wide, and must not swallow all others for that.
        let spread = |base: &Baselines, r| base.spread(r).min(2.0 * base.within.sqrt() + base.floor());
        if self.are_one_series_apart(a, b) {
            return 0.0;
        }
        self.mean_square(a, b, |base| spread(base, a).hypot(spread(base, b)), CUT)
    }

    /// Whether a single series, of several, makes the difference between two regimes.
    fn are_one_series_apart(&self, a: usize, b: usize) -> bool {
        let both = |base: &&Baselines| base.cells[a].seen > 0 && base.cells[b].seen > 0;
        let shared = || self.baselines.iter().filter(both);
        shared().nth(1).is_some() && shared().filter(|base| base.is_far(a, b)).nth(1).is_none()
    }

    fn mean_square(&self, a: usize, b: usize, unit: impl Fn(&Baselines) -> f64, cut: f64) -> f64 {
        let (mut sum, mut count) = (0.0, 0.0);
        for base in self
            .baselines
            .iter()
            .filter(|s| s.cells[a].seen > 0 && s.cells[b].seen > 0)
        {
            let z = (base.cells[a].mean - base.cells[b].mean) / unit(base);
            sum += (z * z).min(cut);
            count += 1.0;
        }
        if count > 0.0 { sum / count } else { 0.0 }
    }

    fn closest(&self, cost: impl Fn(&Self, usize, usize) -> f64) -> Option<(usize, usize, f64)> {
        let len = self.len();
        (0..len)
            .flat_map(|a| (a + 1..len).map(move |b| (a, b)))
            .map(|(a, b)| (a, b, cost(self, a, b)))
            .min_by(|x, y| x.2.total_cmp(&y.2))
    }

    fn merge_what_is_not_apart(&mut self) {
        while let Some((a, b, apart)) = self.closest(Self::separation)
            && apart < APART
        {
            self.merge(a, b);
            if self.rows <= FOUNDING {
                self.baselines.iter_mut().for_each(Baselines::pool);
            }
        }
    }

    /// Makes `b` part of `a`, which is below it.
    fn merge(&mut self, a: usize, b: usize) {
        let (into, from) = (self.regimes[a], self.regimes[b]);
        self.regimes[a] = Regime {
            rows: into.rows.saturating_add(from.rows),
            visits: into.visits.max(from.visits),
            last: into.last.max(from.last),
        };
        // What makes a single series far are outliers of it, which must not make the regime wide.
        let outliers = self.are_one_series_apart(a, b);
        for base in &mut self.baselines {
            base.cells[a] = if outliers && base.is_far(a, b) {
                let larger = if base.cells[b].seen > base.cells[a].seen { b } else { a };
                base.cells[larger]
            } else {
                base.cells[a].merged(base.cells[b])
            };
        }
        if usize::from(self.firm) == b {
            self.firm = a as u8;
        }
        self.remove(b);
    }

    /// Forgets a regime; the last takes its place.
    fn remove(&mut self, regime: usize) {
        let Some(last) = self.len().checked_sub(1) else { return };
        for base in &mut self.baselines {
            base.cells[regime] = base.cells[last];
            base.cells[last] = Cell::default();
        }
        self.regimes[regime] = self.regimes[last];
        self.regimes[last] = Regime::default();
        if usize::from(self.firm) == regime {
            self.firm = self.home() as u8;
        } else if usize::from(self.firm) == last {
            self.firm = regime as u8;
        }
        self.count = last as u8;
    }
}

#[cfg(test)]
mod tests;
