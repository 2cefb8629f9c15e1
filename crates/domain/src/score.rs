use serde::{Deserialize, Serialize};

/// Surprise: −log10 of a calibrated p-value, like a magnitude. On normal data a window passes 3 one time in a thousand and
/// 4 one time in ten thousand. Never negative, never NaN, never saturated at a bound that ties.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Score(f64);

impl Score {
    /// No surprise at all: p = 1.
    pub const ZERO: Self = Self(0.0);

    /// From a p-value; NaN and values above 1 count as 1, zero as the smallest positive number.
    #[must_use]
    pub fn from_p(p: f64) -> Self {
        if p.is_nan() {
            Self::ZERO
        } else {
            Self(-p.clamp(f64::MIN_POSITIVE, 1.0).log10() + 0.0)
        }
    }

    /// From a surprise that was computed in the log domain, where p itself would underflow.
    #[must_use]
    pub fn from_surprise(surprise: f64) -> Self {
        if surprise > 0.0 {
            Self(surprise.min(f64::MAX))
        } else {
            Self::ZERO
        }
    }

    /// The surprise.
    #[must_use]
    pub const fn surprise(self) -> f64 {
        self.0
    }

    /// The p-value; 0 where it underflows.
    #[must_use]
    pub fn p(self) -> f64 {
        10f64.powf(-self.0)
    }
}

/// Which way the observation left the expected range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Higher than expected.
    Up,
    /// Lower than expected.
    Down,
    /// Neither alone: spread or shape.
    Both,
    /// A pattern: something never seen before.
    Pattern,
    /// Something expected did not come.
    Absence,
}

/// What kind of strangeness a model found. Kinds are kept apart all the way to the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// One value away from the short-run expectation: spikes.
    Residual,
    /// The level moved.
    Level,
    /// The level keeps moving one way.
    Trend,
    /// Unusual for this time of day.
    Seasonal,
    /// Noise grew, or the sensor is stuck.
    Spread,
    /// The last stretch does not move as the series usually does.
    Shape,
    /// A value in territory never visited.
    Novelty,
    /// Values that should have come did not; counted in intervals.
    Missing,
    /// A log template never seen before.
    NewTemplate,
    /// A log template comes more or less often than it used to.
    TemplateRate,
    /// A regular log template stopped coming.
    TemplateSilence,
    /// A session of log lines (a block, a request, a window) has lines that it should not have, or lacks some.
    Session,
    /// The relation between an entity's series broke, whatever each does by itself.
    Correlation,
}

/// What a model says of one observation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Surprise of the observation, all channels combined and calibrated.
    pub score: Score,
    /// The channel that contributed most.
    pub channel: Channel,
    /// Which way.
    pub direction: Direction,
    /// What was observed, in the unit of the series.
    pub actual: f64,
    /// What was expected, in the unit of the series.
    pub expected: f64,
    /// Lower end of the expected range (99 %), in the unit of the series.
    pub lower: f64,
    /// Upper end of the expected range (99 %), in the unit of the series.
    pub upper: f64,
}
