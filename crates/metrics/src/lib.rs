//! Online models of metric series.
//!
//! A [`SeriesModel`] is a bank of small detectors of fixed size, each with one statistic and one file. Every statistic is
//! turned into a calibrated surprise, the surprises are combined and calibrated once more, and the verdict names the
//! channel that spoke loudest. `docs/models/metrics.md` walks through it with figures.
//!
//! An [`EntityModel`] looks at all series of one entity together: broken relations and known regimes; see
//! `docs/models/entity.md`.
//!
//! Architecture invariant: no I/O, no clock, no randomness, no allocation after construction. State is a pure function of
//! the points, in order.

mod cusum;
mod dependence;
mod entity_model;
mod entity_row;
mod extremes;
mod factor_model;
mod gap;
mod judgement;
mod lattice;
mod period;
mod point;
mod quarantine;
mod reading;
mod regimes;
mod robust_level;
mod seasonal_profile;
mod series_model;
mod spread;
mod table;
mod territory;

pub use cusum::Cusum;
pub use entity_model::{EntityAnswer, EntityModel, Explained, Share};
pub use entity_row::{ENTITY_SERIES_MAX, SeriesValue};
pub use gap::Gap;
pub use lattice::Lattice;
pub use period::Period;
pub use point::Point;
pub use robust_level::{RobustLevel, RobustLevelParams};
pub use seasonal_profile::SeasonalProfile;
pub use series_model::SeriesModel;
pub use spread::Spread;
pub use territory::Territory;
