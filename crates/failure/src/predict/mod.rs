//! What is learned from failures that happened: features of an entity, the hazard that follows from them, and when to warn.
//!
//! [`FeatureState`] turns an entity's windows into [`Features`], live and in training by the same code. [`HazardModel`] says how
//! probable a failure is within a horizon and what speaks for it. Learning the model is not done here but from dumps.

mod calibration;
mod features;
mod hazard;
mod schema;
mod track_record;
mod trees;
mod warning;

pub use calibration::Calibration;
pub use features::{FeatureState, Features, NAMES as FEATURE_NAMES, PER_SERIES, Past, key_of};
pub use hazard::{Bin, Forecast, Ground, HAZARD_VERSION, HazardModel, Linear, Odds, OperatingPoint};
pub use schema::{Schema, SchemaSeries};
pub use track_record::{Ending, Kind, TrackRecords, Worth};
pub use trees::{Node, Trees};
pub use warning::{Warning, episode_params};
