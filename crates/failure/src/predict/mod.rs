//! How likely is a failure within the horizon? Features of an entity, online, and a hazard learned from failures that happened.

mod features;
mod hazard;

pub use features::{FeatureState, PER_SERIES, Sparse, Vitals};
pub use hazard::{Bin, Hazard, HazardModel, Platt, Schema};
