//! The bank: runs every channel on one series, calibrates each statistic, combines the surprises into one that is itself
//! calibrated, and says which channel spoke loudest.
//!
//! `reading.rs` measures a point, `judgement.rs` says how surprising that is, and this file keeps the state.
//!
//! **Fails when** the first few hundred points are unlike everything after them: it is cautious, not clairvoyant. It sees
//! one series only; a relation between series that breaks is for [`crate::EntityModel`].
//! **Cost:** [`SeriesModel::STATE_BYTES`] and, by the bench, some hundred nanoseconds a point; no allocation.
//! **Papers:** each channel's own file; the combination is D. J. Wilson, *The harmonic mean p-value*, PNAS 116(4), 2019,
//! equation 1, calibrated afterwards by [`TailCalibrator`].

use foreshock_domain::{Channel, Detector, Direction, Learning, MetricKind, Score, Timestamp, Verdict};
use foreshock_stats::{ExcessTail, TailCalibrator};
use serde::{Deserialize, Serialize};

use crate::dependence::Dependence;
use crate::extremes::Extremes;
use crate::gap;
use crate::judgement::{DISTANCE_SHAPE, Judgement, NEW_PRIOR, SILENT, UNUSUAL_PRIOR, prior_of};
use crate::quarantine::{Quarantine, QuarantineStep};
use crate::reading::{RARE, Reading, STEADY};
use crate::{Cusum, Gap, Lattice, Period, Point, RobustLevel, RobustLevelParams, SeasonalProfile, Spread, Territory};

/// No time.
const NEVER: Timestamp = Timestamp::MIN;
/// Cumulative sum, in spreads, from which on the level counts as moved.
const MOVED: f64 = 6.0;
/// Surprise from which on a series counts as odd, and below which it no longer does.
const ODD_FROM: f64 = 2.0;
const ODD_UNTIL: f64 = 1.0;
/// Odd points in a row from which on they calibrate nothing: not all of an outlier's run may teach.
const HELD_FROM: u16 = 1;
/// Magnitudes that a gap counts less as news than as a score: collectors stumble more often than services.
const GAP_IS_NO_NEWS: f64 = 3.0;

/// Online model of one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeriesModel {
    kind: Option<MetricKind>,
    /// Points learned, without missing ones.
    pub(crate) observations: u32,
    /// [`Timestamp::MIN`] before the first point.
    last_at: Timestamp,
    /// Typical time between points, ms.
    interval_ms: f64,
    /// First value; the territories are relative to it.
    pub(crate) origin: f64,
    /// The last value.
    pub(crate) last: f64,
    pub(crate) fast: RobustLevel,
    pub(crate) slow: RobustLevel,
    pub(crate) lattice: Lattice,
    pub(crate) profile: SeasonalProfile,
    pub(crate) period: Period,
    /// Short and long mean of standardised base residuals.
    pub(crate) mean: f32,
    pub(crate) long_mean: f32,
    /// Mean square of the last standardised forecast errors.
    pub(crate) energy: f32,
    pub(crate) cusum: Cusum,
    pub(crate) spread: Spread,
    pub(crate) dependence: Dependence,
    /// Where values, moves from the short-run level and residuals against a rhythm have been.
    pub(crate) values: Territory,
    pub(crate) moves: Territory,
    pub(crate) rhythm_residuals: Territory,
    /// Ranges of the long mean and of the short-run residual, in spreads.
    pub(crate) long_means: Extremes,
    pub(crate) fast_residuals: Extremes,
    gap: Gap,
    pub(crate) steady: [TailCalibrator; STEADY],
    pub(crate) rare: [ExcessTail; RARE],
    pub(crate) unusual: TailCalibrator,
    pub(crate) new: TailCalibrator,
    novelty: f32,
    /// [`Timestamp::MIN`] while nothing is odd.
    odd_since: Timestamp,
    quarantine: Quarantine,
}

/// Points that are missing up to now, and how surprising that is.
#[derive(Clone, Copy)]
struct Missing {
    /// Missing at this step.
    points: u32,
    /// Missing in a row.
    run: u32,
    surprise: f64,
    /// Missing in a row, as it was usual before this step.
    usual: f64,
}

impl SeriesModel {
    /// Bytes of one model.
    pub const STATE_BYTES: usize = size_of::<Self>();
    /// Follows the last ten points or so.
    pub(crate) const FAST: RobustLevelParams = RobustLevelParams {
        alpha_level: 0.15,
        alpha_scale: 0.01,
        clamp: 4.0,
    };
    /// Follows the last few hundred points.
    pub(crate) const SLOW: RobustLevelParams = RobustLevelParams {
        alpha_level: 0.004,
        alpha_scale: 0.00347,
        clamp: 4.0,
    };

    /// A model that has seen nothing. `kind` is what the format said of the series, for information: counters are
    /// expected as rates.
    #[must_use]
    pub fn new(kind: Option<MetricKind>) -> Self {
        Self {
            kind,
            observations: 0,
            last_at: NEVER,
            interval_ms: 0.0,
            origin: 0.0,
            last: 0.0,
            fast: RobustLevel::default(),
            slow: RobustLevel::default(),
            lattice: Lattice::default(),
            profile: SeasonalProfile::default(),
            period: Period::default(),
            mean: 0.0,
            long_mean: 0.0,
            energy: 1.0,
            cusum: Cusum::default(),
            spread: Spread::default(),
            dependence: Dependence::default(),
            values: Territory::default(),
            moves: Territory::default(),
            rhythm_residuals: Territory::default(),
            long_means: Extremes::default(),
            fast_residuals: Extremes::default(),
            gap: Gap::default(),
            steady: std::array::from_fn(|channel| TailCalibrator::new(prior_of(channel))),
            rare: [ExcessTail::default(); RARE],
            unusual: TailCalibrator::new(&UNUSUAL_PRIOR),
            new: TailCalibrator::new(&NEW_PRIOR),
            novelty: 0.0,
            odd_since: NEVER,
            quarantine: Quarantine::default(),
        }
    }

    /// What the format said of the series.
    #[must_use]
    pub fn kind(&self) -> Option<MetricKind> {
        self.kind
    }

    /// Points learned, without missing ones.
    #[must_use]
    pub fn observations(&self) -> u64 {
        u64::from(self.observations)
    }

    /// Surprise of what the last point brought that was never seen of this series before; what lasts or comes back is no
    /// news. An event opens on it.
    #[must_use]
    pub fn novelty(&self) -> Score {
        Score::from_surprise(f64::from(self.novelty))
    }

    /// Since when the present oddness lasts; `None` while nothing is odd. Where the level moved, this is the last time
    /// that the cumulative sum was zero, which is before the surprise.
    #[must_use]
    pub fn onset(&self) -> Option<Timestamp> {
        if self.odd_since == NEVER {
            return None;
        }
        let moved_since = self.cusum.since().filter(|_| self.cusum.magnitude() >= MOVED);
        Some(moved_since.map_or(self.odd_since, |since| since.min(self.odd_since)))
    }

    /// Typical time between points in milliseconds; 0 before the second point.
    #[must_use]
    pub fn interval_ms(&self) -> f64 {
        self.interval_ms
    }

    /// As [`Detector::score_learn`], where points come when they come, and what is missing between two is nothing odd.
    pub fn score_learn_sparse(&mut self, point: &Point, learning: Learning) -> Option<Verdict> {
        self.step(point, learning).0
    }

    /// What the value says, and what was missing before it; both are learned.
    fn step(&mut self, point: &Point, learning: Learning) -> (Option<Verdict>, Missing) {
        let missing = self.missing(point);
        let reading = self.read(point);
        let judgement = reading.as_ref().and_then(|reading| self.judge(reading));
        let verdict = match (&reading, &judgement) {
            (Some(reading), Some(judgement)) => Some(self.verdict(reading, judgement)),
            _ => None,
        };
        if learning == Learning::Normal {
            self.learn_missing(missing);
            if let Some(reading) = &reading {
                self.learn(reading, judgement.as_ref());
            }
        }
        self.tick(point.at);
        (verdict, missing)
    }

    fn learn(&mut self, reading: &Reading, judgement: Option<&Judgement>) {
        let mut share = 1.0;
        if let Some(judgement) = judgement {
            self.novelty = self.novelty.max(judgement.novelty as f32);
            share = self.learn_judgement(reading, judgement);
        } else {
            self.dependence.learn(reading.z, self.observations);
        }
        self.learn_reading(reading, share);
        self.gap.learn_present();
    }

    /// Calibrates, as far as quarantine allows; returns the share that the levels may learn.
    fn learn_judgement(&mut self, reading: &Reading, judgement: &Judgement) -> f64 {
        if judgement.surprise >= ODD_FROM {
            if self.odd_since == NEVER {
                self.odd_since = reading.at;
            }
        } else if judgement.surprise < ODD_UNTIL {
            self.odd_since = NEVER;
        }
        let step = self
            .quarantine
            .step(HELD_FROM, judgement.oddness, [judgement.unusual, judgement.new]);
        match step {
            QuarantineStep::Held => return Quarantine::SHARE,
            QuarantineStep::Released { unusual, new } => {
                for (middle, count) in unusual {
                    self.unusual.learn(middle, count.saturating_mul(8));
                }
                let count: u16 = unusual.iter().map(|(_, count)| count).sum();
                self.new.learn(new, count.saturating_mul(8));
            }
            QuarantineStep::Free => {}
        }
        self.dependence.learn(reading.z, self.observations);
        for (tail, &statistic) in self.steady.iter_mut().zip(&reading.steady) {
            tail.learn(statistic.abs(), 8);
        }
        for (tail, &distance) in self.rare.iter_mut().zip(&reading.rare) {
            tail.learn(distance.abs(), DISTANCE_SHAPE);
        }
        self.unusual.learn(judgement.unusual, 8);
        self.new.learn(judgement.new, 8);
        1.0
    }

    /// What is missing up to and including this point.
    fn missing(&self, point: &Point) -> Missing {
        let points = self.absent(point.at) + u32::from(!point.value.is_finite());
        let run = self.gap.run().saturating_add(points);
        let surprise = if points == 0 || self.observations < SILENT {
            0.0
        } else {
            self.gap.surprise(run)
        };
        Missing {
            points,
            run,
            surprise,
            usual: self.gap.usual(),
        }
    }

    /// Points that should have come between the last one and `at`.
    fn absent(&self, at: Timestamp) -> u32 {
        if self.interval_ms <= 0.0 {
            return 0;
        }
        let intervals = ((at - self.last_at) as f64 / self.interval_ms).round() - 1.0;
        if (1.0..=f64::from(gap::LONGEST)).contains(&intervals) {
            intervals as u32
        } else {
            0
        }
    }

    /// The louder of what a value says and what was missing before it.
    fn with_missing(verdict: Option<Verdict>, missing: Missing) -> Option<Verdict> {
        let score = Score::from_surprise(missing.surprise);
        if score <= verdict.map_or(Score::ZERO, |v| v.score) {
            return verdict;
        }
        Some(Verdict {
            score,
            channel: Channel::Missing,
            direction: Direction::Absence,
            actual: f64::from(missing.run),
            expected: 0.0,
            lower: 0.0,
            upper: missing.usual,
        })
    }

    fn learn_missing(&mut self, missing: Missing) {
        self.novelty = (missing.surprise - GAP_IS_NO_NEWS).max(0.0) as f32;
        if missing.points > 0 {
            self.gap.learn_missing(missing.points);
            self.period.skip(missing.points);
        }
    }

    fn tick(&mut self, at: Timestamp) {
        let gap = (at - self.last_at) as f64;
        if self.last_at != NEVER && gap > 0.0 {
            let known = self.interval_ms > 0.0;
            let bounded = if known { gap.min(4.0 * self.interval_ms) } else { gap };
            self.interval_ms += if known { 0.05 } else { 1.0 } * (bounded - self.interval_ms);
        }
        self.last_at = at;
    }
}

impl Detector for SeriesModel {
    type Input = Point;

    fn score_one(&self, point: &Point) -> Option<Verdict> {
        let reading = self.read(point);
        let verdict = reading.and_then(|reading| Some(self.verdict(&reading, &self.judge(&reading)?)));
        Self::with_missing(verdict, self.missing(point))
    }

    fn learn_one(&mut self, point: &Point, learning: Learning) {
        self.score_learn(point, learning);
    }

    fn score_learn(&mut self, point: &Point, learning: Learning) -> Option<Verdict> {
        let (verdict, missing) = self.step(point, learning);
        Self::with_missing(verdict, missing)
    }
}
