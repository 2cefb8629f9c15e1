//! Ours and the rivals behind one trait: one score a row, made before the row is learned.

mod ours;

use foreshock_domain::Timestamp;

pub use ours::Ours;

/// A streaming detector of one entity.
pub trait Scorer: Send {
    /// Score of a row, higher is stranger, made before the row is learned; 0 while warming up. `values` are the entity's
    /// metrics, NaN where missing.
    fn score_learn(&mut self, at: Timestamp, values: &[f64]) -> f64;
}
