//! Ours and the rivals behind one trait: one score a row, made before the row is learned.
//!
//! Rivals run at their published defaults. What they can't take, a missing value, is the last value carried forward for them.

mod carry;
mod ours;

use foreshock_domain::Timestamp;

pub use carry::CarryForward;
pub use ours::Ours;

/// A streaming detector of one entity.
pub trait Scorer: Send {
    /// Score of a row, higher is stranger, made before the row is learned; 0 while warming up. `values` are the entity's
    /// metrics, NaN where missing.
    fn score_learn(&mut self, at: Timestamp, values: &[f64]) -> f64;
}

/// What a method may know of a series beforehand.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Metrics a row.
    pub metrics: usize,
    /// Rows of a period; `None` without rhythm. Told to Holt-Winters only.
    pub period: Option<usize>,
}

/// A detector by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Method {
    /// One model a series, surprises combined by their harmonic mean.
    Foreshock,
}

impl Method {
    /// All, in the order of the tables.
    pub const ALL: &[Self] = &[Self::Foreshock];

    /// Name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Foreshock => "foreshock",
        }
    }

    /// Whether the score is a surprise, so that a threshold can be fixed beforehand.
    #[must_use]
    pub fn is_surprise(self) -> bool {
        matches!(self, Self::Foreshock)
    }

    /// A new detector for a series of this shape.
    #[must_use]
    pub fn scorer(self, shape: Shape) -> Box<dyn Scorer> {
        match self {
            Self::Foreshock => Box::new(Ours::new(shape.metrics)),
        }
    }
}
