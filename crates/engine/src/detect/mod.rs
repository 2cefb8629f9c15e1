//! First stage: one partition of an input topic.
//!
//! Records are decoded, admitted by the partition's event clock, added to event-time windows and, when the watermark passes a
//! window's end, scored and learned series by series and template by template. What is surprising leaves as signals,
//! one [`foreshock_domain::EntityWindow`] per entity and window.

mod aggregate;
mod clock;
mod close;
mod entities;
mod evidence;
mod grave;
mod lines;
mod partition;
mod samples;
mod series;
mod sessions;
mod values;
mod window;

pub(crate) use grave::unseen;
pub(crate) use partition::Context;
pub use partition::DetectPartition;
#[cfg(test)]
pub(crate) use partition::layouts;
pub(crate) use partition::signals_partition;
pub(crate) use window::shorten;
