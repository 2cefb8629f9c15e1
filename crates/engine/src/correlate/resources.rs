//! Bounded resources of one entity and when they run out.

use std::collections::BTreeMap;

use foreshock_domain::{EntityWindow, Exhaustion, SeriesId};
use foreshock_failure::Course;
use serde::{Deserialize, Serialize};

use crate::config::EngineConfig;

/// Bounded series of an entity; further ones are not followed.
const BOUNDED_MAX: usize = 32;

/// The courses of an entity's bounded series, as far as their names came.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Resources {
    of: BTreeMap<SeriesId, (Box<str>, Course)>,
}

impl Resources {
    /// Takes the windows of one end, in which the entity does its job. What runs out soonest within the horizon, if anything does.
    #[allow(clippy::cast_precision_loss)] // milliseconds of a horizon
    pub(crate) fn take(&mut self, config: &EngineConfig, windows: &[EntityWindow]) -> Option<Exhaustion> {
        let (width_ms, horizon_ms) = (config.windows.width_ms, config.exhaustion.horizon_ms());
        let mut soonest: Option<Exhaustion> = None;
        for entry in windows.iter().flat_map(|w| &w.vector) {
            if let Some(name) = &entry.name
                && self.of.len() < BOUNDED_MAX
                && !self.of.contains_key(&entry.series)
                && let Some(limit) = config.exhaustion.limit(name)
            {
                self.of.insert(entry.series, (name.clone(), Course::new(limit)));
            }
            let Some((name, course)) = self.of.get_mut(&entry.series) else {
                continue;
            };
            let value = f64::from(entry.value);
            let Some(left_ms) = course.step(value, width_ms, horizon_ms) else {
                continue;
            };
            let in_s = left_ms as f64 / 1e3;
            if soonest.as_ref().is_none_or(|s| in_s < s.in_s) {
                soonest = Some(Exhaustion {
                    name: name.clone(),
                    value,
                    limit: course.limit(),
                    in_s,
                });
            }
        }
        soonest
    }

    /// The entity fails: what led there must not become usual.
    pub(crate) fn failed(&mut self) {
        for (_, course) in self.of.values_mut() {
            course.failed();
        }
    }
}
