//! Second stage: one partition of the signals topic.
//!
//! Windows of an entity come from several partitions of several topics. They are held until every input has come as far, then
//! taken in event-time order: failure rules first, then, unless the entity is failing, the fused surprise decides whether a
//! precursor opens, escalates or resolves. Time passes by ticks that are records themselves.

mod entity;
mod forecast;
mod incident;
mod joint;
mod judgement;
mod ledger;
mod news;
mod order;
mod partition;
mod resources;
mod sentence;
mod telemetry;
#[cfg(test)]
mod testing;

pub use forecast::Moment;
pub(crate) use partition::Context;
pub use partition::CorrelatePartition;
#[cfg(test)]
pub(crate) use partition::layouts;
