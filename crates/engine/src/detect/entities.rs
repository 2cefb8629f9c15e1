use foreshock_domain::{Entity, Timestamp};
use foreshock_logs::{SessionModel, TemplateBank, TemplateId, TraceJoiner};
use serde::{Deserialize, Serialize};

use super::values::EntityValues;
use crate::slots::{Keyed, Slots};

/// Entities in a block of the stored state; those that write lines take up to a few hundred kB each.
const ENTITY_BLOCK: usize = 16;

/// One entity as a partition of an input topic knows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EntitySlot {
    pub(crate) name: Entity,
    /// Rates and novelty of its log templates; `None` until its first line.
    pub(crate) templates: Option<Box<TemplateBank>>,
    /// Tells the lines of a stack trace from lines of their own.
    pub(crate) trace: TraceJoiner,
    /// Which templates it writes together in one window; `None` until its first line, and where lines name their sessions.
    pub(crate) windows: Option<Box<SessionModel>>,
    /// What stands inside its lines; `None` until a template of it is frequent.
    pub(crate) values: Option<Box<EntityValues>>,
    /// Nothing is learned in windows that start before this: the entity shows a failure.
    pub(crate) paused_until: Timestamp,
    /// End of the last window it was heard in.
    pub(crate) heard: Timestamp,
    /// Template of its last line that was mined, which a trace that follows belongs to.
    pub(crate) head: u64,
}

impl Keyed for EntitySlot {
    type Key = Entity;

    fn key(&self) -> Entity {
        self.name.clone()
    }
}

/// All entities of a partition.
pub(crate) type EntityTable = Slots<EntitySlot, ENTITY_BLOCK>;

impl EntityTable {
    /// Where an entity stands; a new one is taken in while there are fewer than `cap`. A known one costs no allocation.
    pub(crate) fn place_or_insert(&mut self, name: &str, cap: usize) -> Option<usize> {
        if let Some(place) = self.place(name) {
            return Some(place);
        }
        if self.len() >= cap {
            return None;
        }
        Some(self.insert(EntitySlot {
            name: Entity::new(name),
            templates: None,
            trace: TraceJoiner::default(),
            windows: None,
            values: None,
            paused_until: Timestamp::MIN,
            heard: Timestamp::MIN,
            head: TemplateId::OVERFLOW.0,
        }))
    }
}
