//! One entity's series together: finds relations between them that break while each series looks normal by itself, and
//! knows the regimes the entity works in, so that a change between known ones alarms nobody.
//!
//! Each row is standardised by the baseline of its regime, and what is far off by itself is left out. A factor model
//! predicts every series from all others; of the squared residuals, their running means and the evidence they make the
//! largest, and the mean (Q, squared prediction error), are calibrated, as is the factors' own length (T²), and the
//! calibrated surprises are combined and calibrated once more. The verdict names the series and their shares of Q. For
//! series whose level depends on the regime, the surprise against the regime's baseline is given beside it, to take the
//! place of the surprise of the series' own model.
//!
//! **Fails when** a relation is a curve or has a lag, when more than four factors drive the entity, when a break is
//! smaller than the rest that series has of its own, or shorter than a few rows, or so large that the series is far off by
//! itself; and a failure that recurs becomes a regime at its third visit. **Cost:** O(series × 12) a row;
//! [`EntityModel::BYTES_MAX`] at most, and about a sixty-fourth of it a series; no allocation once a series is known.
//! **Papers:** J. E. Jackson, G. Mudholkar, *Control procedures for residuals associated with principal component analysis*,
//! Technometrics 21(3), 1979, section 2 (Q beside T²); the parts in `factor_model.rs` and `regimes.rs`. `Differs:` Q is taken
//! over residuals of each series against the others, which name the culprit, and not over what k components leave.

use std::f64::consts::LN_10;

use foreshock_domain::{Channel, Direction, Learning, Score, SeriesId, Timestamp, Verdict};
use foreshock_stats::{TailCalibrator, TailPrior, weighted_harmonic_mean};
use serde::{Deserialize, Serialize};

use crate::entity_row::{ENTITY_SERIES_MAX, Row, SeriesValue, slots};
use crate::factor_model::{FactorModel, Relations};
use crate::quarantine::{Quarantine, QuarantineStep};
use crate::regimes::{Place, Placed, Regimes};

/// Rows before the first verdict.
const SILENT: u32 = 64;
/// Odd rows in a row from which on they calibrate nothing: at three, a few broken relations teach the tails enough to
/// silence the next; at one, the first rows of a known regime are held.
const HELD_FROM: u16 = 2;
/// Rows below which verdicts are held back.
const CAUTIOUS: u32 = 256;
/// Rows a series is learned in before its relations count.
const SERIES_SILENT: u32 = 32;
/// Rows after which a slot whose series says nothing may be given away.
const IDLE_ROWS: u32 = 128;
/// Deviations from a baseline count as at most this many spreads, and a series that is further off is left out of the
/// relations: it is odd by itself, and what it drags along is no relation that broke. An outlier in one series would
/// otherwise teach the tails what a broken relation is like, and deafen them.
const BOUND: f64 = 4.0;
/// Squared residuals count as at most this.
const SQUARE_MAX: f64 = 25.0;
/// The same where the entity changes between regimes: a row into which a change falls breaks relations, and only that row.
const SQUARE_MAX_CHANGING: f64 = 9.0;
/// Step of the running mean of squares.
const ALPHA_MEAN: f64 = 1.0 / 8.0;
/// Variance, relative to the usual, of the residual of a broken relation; what its log likelihood ratio (Page's cumulative
/// sum of it) can add up to, and what a row can add.
const BROKEN: f64 = 6.0;
const EVIDENCE_MAX: f64 = 12.0;
/// Step of the running mean of deviations from a regime's baseline.
const ALPHA_DRIFT: f64 = 1.0 / 8.0;
/// Step of the mean residual that is taken off: slow, so that breaks of a hundred rows stay breaks.
const ALPHA_WANDER: f64 = 1.0 / 256.0;
/// Rows that the usual squared residual remembers; and the least it is taken for.
const USUAL_MEMORY: f64 = 600.0;
const USUAL_MIN: f64 = 0.1;
/// A run of oddness of at most this many rows is passing (running means are odd in runs), and what it held back is learned
/// in full when it ends; a longer one counts an eighth, by its mean, so that a second break is as loud as the first.
const PASSING: u16 = 24;
/// Shares of Q that are told.
const SHARES_MAX: usize = 4;
/// Statistics of a row.
const STATISTICS: usize = 5;
const WEIGHTS: [f64; STATISTICS] = [0.05, 0.5, 1.0, 0.1, 0.02];
const STATISTIC_PRIOR: TailPrior = TailPrior {
    rate: 1.3,
    weight: 24.0,
    shape: 0.1,
    memory: 4000,
};
/// A combination of calibrated surprises is exponential by construction, and only its rate is to be learned.
const COMBINED_PRIOR: TailPrior = TailPrior {
    rate: LN_10,
    weight: 24.0,
    shape: 0.05,
    memory: 6000,
};
const DEVIATION_PRIOR: TailPrior = TailPrior {
    rate: 1.3,
    weight: 24.0,
    shape: 0.3,
    memory: 4000,
};

/// What is known of one series, beside its baselines and loadings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Slot {
    series: SeriesId,
    /// Row in which it was last present.
    last: u32,
    /// Usual squared residual against the others.
    usual: f32,
    usual_seen: u32,
    /// Running mean of squared residuals, relative to the usual.
    mean: f32,
    /// Evidence that its relation is broken, in nats.
    evidence: f32,
    /// Running mean of deviations from the regime's baseline.
    drift: f32,
    /// Mean residual over many rows: where the series has wandered to, which is no relation that broke.
    wander: f32,
    /// Calibrate |deviation| and |drift|.
    tails: [TailCalibrator; 2],
}

impl Slot {
    fn new(series: SeriesId, row: u32) -> Self {
        Self {
            series,
            last: row,
            usual: 1.0,
            usual_seen: 0,
            mean: 1.0,
            evidence: 0.0,
            drift: 0.0,
            wander: 0.0,
            tails: std::array::from_fn(|_| TailCalibrator::new(&DEVIATION_PRIOR)),
        }
    }

    fn usual(&self) -> f64 {
        f64::from(self.usual).max(USUAL_MIN)
    }
}

/// Online model of one entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EntityModel {
    rows: u32,
    slots: Vec<Slot>,
    regimes: Regimes,
    factors: FactorModel,
    tails: [TailCalibrator; STATISTICS],
    combined: TailCalibrator,
    quarantine: Quarantine,
    odd_since: Option<Timestamp>,
    refused: u64,
}

/// A series' share in a broken relation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Which series.
    pub series: SeriesId,
    /// Its share of Q, in 0 ..= 1.
    pub share: f64,
    /// What it is, what the other series make of it, and the range of 99 %; the score is that of the whole entity.
    pub verdict: Verdict,
}

/// The surprise of a series against the baseline of the regime that the entity is in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Explained {
    /// Which series.
    pub series: SeriesId,
    /// Takes the place of what the series' own model says.
    pub verdict: Verdict,
}

/// What the model says of a row. Made once and reused: filling it allocates nothing after the first few rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntityAnswer {
    /// Surprise of the relations between series; `None` while warming up or where fewer than two series are present.
    pub correlation: Option<Score>,
    /// The series that make up the surprise, the largest share first, at most four.
    pub shares: Vec<Share>,
    /// Series whose level is explained by a known regime; empty unless there are two of them.
    pub explained: Vec<Explained>,
    /// Whether the row lies in a known regime or between two.
    pub known_regime: bool,
}

/// All that a row means to the model.
struct Reading {
    row: Row,
    placed: Placed,
    /// Present series within bounds, whose relations count.
    counted: u64,
    /// Deviations from the baseline of the series that are within bounds: what relations are between.
    within: Row,
    relations: Relations,
    /// Squared residuals, bounded; their running means, relative to the usual; and the evidence that they make.
    squares: [f64; ENTITY_SERIES_MAX],
    means: [f64; ENTITY_SERIES_MAX],
    evidence: [f64; ENTITY_SERIES_MAX],
    drifts: [f64; ENTITY_SERIES_MAX],
    statistics: Option<[f64; STATISTICS]>,
}

impl Default for EntityModel {
    fn default() -> Self {
        Self {
            rows: 0,
            slots: Vec::new(),
            regimes: Regimes::default(),
            factors: FactorModel::default(),
            tails: std::array::from_fn(|_| TailCalibrator::new(&STATISTIC_PRIOR)),
            combined: TailCalibrator::new(&COMBINED_PRIOR),
            quarantine: Quarantine::default(),
            odd_since: None,
            refused: 0,
        }
    }
}

impl EntityModel {
    /// Bytes of a model that knows [`ENTITY_SERIES_MAX`] series.
    pub const BYTES_MAX: usize = size_of::<Self>() + ENTITY_SERIES_MAX * Self::BYTES_A_SERIES;
    /// Bytes of each series that it knows.
    pub const BYTES_A_SERIES: usize = size_of::<Slot>() + Regimes::BYTES_A_SERIES + FactorModel::BYTES_A_SERIES;

    /// A model that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Rows learned.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// Series it knows.
    pub fn series(&self) -> impl Iterator<Item = SeriesId> + '_ {
        self.slots.iter().map(|s| s.series)
    }

    /// Regimes that are known.
    #[must_use]
    pub fn known_regimes(&self) -> usize {
        self.regimes.known()
    }

    /// Values that found no slot: of series beyond [`ENTITY_SERIES_MAX`].
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Since when relations have been unusual; `None` while they are not.
    #[must_use]
    pub fn onset(&self) -> Option<Timestamp> {
        self.odd_since
    }

    /// What is surprising about a row: the values of the entity's series in one window, in any order, of which the first of
    /// each series counts. Never changes `self`.
    pub fn score_one(&self, values: &[SeriesValue], answer: &mut EntityAnswer) {
        let reading = self.read(self.scatter(values));
        self.answer(&reading, answer);
    }

    /// Takes a row into the baselines.
    pub fn learn_one(&mut self, at: Timestamp, values: &[SeriesValue], learning: Learning) {
        self.score_learn(at, values, learning, &mut EntityAnswer::default());
    }

    /// Scores a row, then learns it. `at` is the event time of the window's start.
    pub fn score_learn(
        &mut self,
        at: Timestamp,
        values: &[SeriesValue],
        learning: Learning,
        answer: &mut EntityAnswer,
    ) {
        let reading = self.read(self.scatter(values));
        let combined = self.answer(&reading, answer);
        if learning == Learning::Normal {
            self.learn(at, values, reading, combined, answer.correlation);
        }
    }

    fn slot_of(&self, series: SeriesId, hint: usize) -> Option<usize> {
        // Rows mostly come in the order of the slots.
        if self.slots.get(hint).is_some_and(|s| s.series == series) {
            return Some(hint);
        }
        self.slots.iter().position(|s| s.series == series)
    }

    fn scatter(&self, values: &[SeriesValue]) -> Row {
        let mut row = Row::empty();
        for (hint, v) in values.iter().enumerate() {
            if let Some(slot) = self.slot_of(v.series, hint).filter(|&s| s < ENTITY_SERIES_MAX) {
                row.set(slot, v.value);
            }
        }
        row
    }

    fn read(&self, row: Row) -> Reading {
        let placed = self.regimes.read(&row);
        let mut counted = 0;
        let mut drifts = [0.0; ENTITY_SERIES_MAX];
        let mut within = Row::empty();
        for s in slots(placed.deviations.present) {
            let deviation = placed.deviations.values[s];
            drifts[s] = deviation.clamp(-BOUND, BOUND);
            if deviation.abs() > BOUND {
                continue;
            }
            within.set(s, deviation);
            counted |= u64::from(self.factors.seen(s) >= SERIES_SILENT) << s;
        }
        for (drift, slot) in drifts.iter_mut().zip(&self.slots) {
            *drift = f64::from(slot.drift) + ALPHA_DRIFT * (*drift - f64::from(slot.drift));
        }
        let mut relations = self.factors.read(&within);
        for s in slots(within.present) {
            relations.shift(s, self.slots.get(s).map_or(0.0, |slot| f64::from(slot.wander)));
        }
        let mut reading = Reading {
            row,
            placed,
            counted,
            within,
            relations,
            squares: [0.0; ENTITY_SERIES_MAX],
            means: [1.0; ENTITY_SERIES_MAX],
            evidence: [0.0; ENTITY_SERIES_MAX],
            drifts,
            statistics: None,
        };
        self.square(&mut reading);
        reading.statistics = self.statistics(&reading);
        reading
    }

    fn square(&self, reading: &mut Reading) {
        let limit = if self.regimes.known() > 1 {
            SQUARE_MAX_CHANGING
        } else {
            SQUARE_MAX
        };
        for s in slots(reading.counted) {
            let Some(slot) = self.slots.get(s) else { continue };
            let residual = reading.relations.residuals[s];
            let square = (residual * residual).min(SQUARE_MAX);
            let relative = (square / slot.usual()).min(limit);
            reading.squares[s] = square;
            reading.means[s] = f64::from(slot.mean) + ALPHA_MEAN * (relative - f64::from(slot.mean));
            // Log of the ratio of two normal densities, of variance BROKEN and 1.
            let ratio = 0.5 * (relative * (1.0 - 1.0 / BROKEN) - BROKEN.ln());
            reading.evidence[s] = (f64::from(slot.evidence) + ratio).clamp(0.0, EVIDENCE_MAX);
        }
    }

    fn statistics(&self, reading: &Reading) -> Option<[f64; STATISTICS]> {
        if reading.counted.count_ones() < 2 || matches!(reading.placed.place, Place::Founding | Place::Between(_)) {
            return None;
        }
        let (mut now, mut short, mut evidence, mut sum) = (0.0f64, 0.0f64, 0.0f64, 0.0);
        for s in slots(reading.counted) {
            let usual = self.slots.get(s).map_or(1.0, Slot::usual);
            now = now.max(reading.squares[s] / usual);
            short = short.max(reading.means[s]);
            evidence = evidence.max(reading.evidence[s]);
            sum += reading.means[s];
        }
        let mean = sum / f64::from(reading.counted.count_ones());
        Some([
            now.sqrt(),
            (short - 1.0).max(0.0),
            evidence,
            2.0 * (mean - 1.0).max(0.0),
            reading.relations.strength.sqrt(),
        ])
    }

    /// Fills the answer; gives back log10 of the weighted mean of 1/p.
    fn answer(&self, reading: &Reading, answer: &mut EntityAnswer) -> Option<f64> {
        answer.correlation = None;
        answer.shares.clear();
        answer.explained.clear();
        answer.known_regime = reading.placed.known;
        // A single series knows its own levels.
        let several = reading.placed.deviations.present.count_ones() > 1;
        if several && reading.placed.known && self.regimes.known() > 1 {
            self.explain(reading, answer);
        }
        let statistics = reading.statistics?;
        let surprises = std::array::from_fn::<_, STATISTICS, _>(|i| self.tails[i].surprise(statistics[i]));
        let combined = weighted_harmonic_mean(surprises.into_iter().zip(WEIGHTS));
        if self.rows < SILENT {
            return Some(combined);
        }
        let trust = 0.5 + 0.5 * (f64::from(self.rows) / f64::from(CAUTIOUS)).min(1.0);
        let score = Score::from_surprise(self.combined.surprise(combined) * trust);
        answer.correlation = Some(score);
        self.attribute(reading, score, answer);
        Some(combined)
    }

    /// Who makes up Q: the excess of each running mean over one.
    fn attribute(&self, reading: &Reading, score: Score, answer: &mut EntityAnswer) {
        let excess = |s: usize| (reading.means[s] - 1.0).max(0.0);
        let total: f64 = slots(reading.counted).map(excess).sum();
        if total <= 0.0 {
            return;
        }
        let mut told = 0u64;
        while answer.shares.len() < SHARES_MAX {
            let next = slots(reading.counted & !told).max_by(|&a, &b| excess(a).total_cmp(&excess(b)));
            let Some(s) = next.filter(|&s| excess(s) > 0.0) else {
                break;
            };
            told |= 1 << s;
            let Some(slot) = self.slots.get(s) else { break };
            let (residual, offset) = (reading.relations.residuals[s], reading.relations.offsets[s]);
            let unit = reading.placed.spreads[s];
            let expected = reading.row.values[s] - offset * unit;
            // One standard deviation of the residual, in the unit of the series.
            let deviation = if residual.abs() > 1e-9 { offset / residual } else { 1.0 } * unit;
            let half = 2.6 * deviation * slot.usual().sqrt();
            answer.shares.push(Share {
                series: slot.series,
                share: excess(s) / total,
                verdict: Verdict {
                    score,
                    channel: Channel::Correlation,
                    direction: if offset < 0.0 { Direction::Down } else { Direction::Up },
                    actual: reading.row.values[s],
                    expected,
                    lower: expected - half,
                    upper: expected + half,
                },
            });
        }
    }

    /// Surprises against the regime, of the series that it explains.
    fn explain(&self, reading: &Reading, answer: &mut EntityAnswer) {
        let deviations = &reading.placed.deviations;
        for s in slots(deviations.present) {
            let Some(slot) = self.slots.get(s).filter(|_| self.regimes.explains(s)) else {
                continue;
            };
            let deviation = deviations.values[s];
            let between = matches!(reading.placed.place, Place::Between(_));
            let drift = if between { 0.0 } else { reading.drifts[s] };
            let here = slot.tails[0].surprise(deviation.abs());
            let lasting = slot.tails[1].surprise(4.0 * drift.abs());
            let (expected, spread) = (reading.placed.expected[s], reading.placed.spreads[s]);
            let half = slot.tails[0].percentile_99() * spread;
            let leading = if lasting > here { drift } else { deviation };
            answer.explained.push(Explained {
                series: slot.series,
                verdict: Verdict {
                    // Two questions: the better answer is worth half.
                    score: Score::from_surprise(here.max(lasting) - std::f64::consts::LOG10_2),
                    channel: Channel::Level,
                    direction: if leading < 0.0 { Direction::Down } else { Direction::Up },
                    actual: reading.row.values[s],
                    expected,
                    lower: expected - half,
                    upper: expected + half,
                },
            });
        }
    }

    fn learn(
        &mut self,
        at: Timestamp,
        values: &[SeriesValue],
        mut reading: Reading,
        combined: Option<f64>,
        score: Option<Score>,
    ) {
        self.rows = self.rows.saturating_add(1);
        if self.admit(values) {
            // Newcomers were not in the row that was read; they are learned from the next row on, but for the baseline.
            let fresh = self.scatter(values);
            reading.row = fresh;
        }
        for s in slots(reading.row.present) {
            if let Some(slot) = self.slots.get_mut(s) {
                slot.last = self.rows;
            }
        }
        let surprise = score.map_or(0.0, Score::surprise);
        if surprise >= 2.0 {
            self.odd_since.get_or_insert(at);
        } else if surprise < 1.0 {
            self.odd_since = None;
        }
        let mut share = 1.0;
        if let (Some(statistics), Some(combined)) = (&reading.statistics, combined) {
            share = self.calibrate(statistics, combined);
        }
        self.learn_slots(&reading, share);
        let place = reading.placed.place;
        if !matches!(place, Place::Founding | Place::Between(_)) {
            self.factors.learn(&reading.within, &reading.relations, share);
        }
        self.regimes.learn(&reading.row, place, share);
    }

    /// Calibrates, as far as quarantine allows; returns the share that baselines and loadings may learn.
    fn calibrate(&mut self, statistics: &[f64; STATISTICS], combined: f64) -> f64 {
        let oddness = if self.rows < SILENT {
            0.0
        } else {
            self.combined.surprise(combined)
        };
        match self.quarantine.step(HELD_FROM, oddness, [combined, 0.0]) {
            QuarantineStep::Held => return Quarantine::SHARE,
            QuarantineStep::Released { unusual, .. } => {
                // What passes is learned half as it was and half by its mean: all as it was makes the tail heavy, and the
                // next break quiet; all by the mean makes it light, and every row of three series loud.
                let count: u16 = unusual.iter().map(|(_, count)| count).sum();
                let mean = unusual.iter().map(|(m, count)| m * f64::from(*count)).sum::<f64>() / f64::from(count);
                if count <= PASSING {
                    for (middle, count) in unusual {
                        self.combined.learn(middle, 4 * count);
                    }
                    self.combined.learn(mean, 4 * count);
                } else {
                    self.combined.learn(mean, count);
                }
            }
            QuarantineStep::Free => {}
        }
        // Loadings learn what lasts in full, which makes it usual; it calibrates an eighth.
        let eighths = if self.quarantine.is_lasting() { 1 } else { 8 };
        for (tail, &statistic) in self.tails.iter_mut().zip(statistics) {
            tail.learn(statistic, eighths);
        }
        self.combined.learn(combined, eighths);
        1.0
    }

    fn learn_slots(&mut self, reading: &Reading, share: f64) {
        let settled = !matches!(reading.placed.place, Place::Founding | Place::Between(_));
        for s in slots(reading.placed.deviations.present).filter(|_| settled) {
            let Some(slot) = self.slots.get_mut(s) else { continue };
            slot.drift = reading.drifts[s] as f32;
            let residual = reading.relations.residuals[s].clamp(-BOUND, BOUND);
            slot.wander += (share * ALPHA_WANDER * residual) as f32;
            if share >= 1.0 {
                slot.tails[0].learn(reading.placed.deviations.values[s].abs(), 8);
                slot.tails[1].learn(4.0 * reading.drifts[s].abs(), 8);
            }
            if reading.counted >> s & 1 == 1 {
                slot.usual_seen = slot.usual_seen.saturating_add(1);
                let alpha = share * (1.0 / f64::from(slot.usual_seen)).max(1.0 / USUAL_MEMORY);
                let square = reading.squares[s].min(9.0 * slot.usual());
                slot.usual += (alpha * (square - f64::from(slot.usual))) as f32;
                slot.mean = reading.means[s] as f32;
                slot.evidence = reading.evidence[s] as f32;
            }
        }
    }

    /// Gives slots to series that have none: free ones first, then those idle for longest. True when any was given.
    fn admit(&mut self, values: &[SeriesValue]) -> bool {
        let mut given = false;
        for (hint, v) in values.iter().enumerate() {
            if !v.value.is_finite() || self.slot_of(v.series, hint).is_some() {
                continue;
            }
            let slot = Slot::new(v.series, self.rows);
            if self.slots.len() < ENTITY_SERIES_MAX {
                self.slots.push(slot);
                self.regimes.push_series();
                self.factors.push_series();
                given = true;
                continue;
            }
            let idle = self.slots.iter().enumerate().min_by_key(|(_, s)| s.last);
            match idle.filter(|(_, s)| self.rows - s.last.min(self.rows) >= IDLE_ROWS) {
                Some((place, _)) => {
                    self.slots[place] = slot;
                    self.regimes.reset_series(place);
                    self.factors.reset_series(place);
                    given = true;
                }
                None => self.refused = self.refused.saturating_add(1),
            }
        }
        given
    }
}
