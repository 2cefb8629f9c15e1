use foreshock_domain::{Entity, Timestamp};
use foreshock_logs::TemplateBank;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::window::Cells;

/// One entity as a partition of an input topic knows it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EntitySlot {
    pub(crate) name: Entity,
    pub(crate) cells: Cells,
    /// Rates and novelty of its log templates; `None` until its first line.
    pub(crate) templates: Option<Box<TemplateBank>>,
    /// Nothing is learned in windows that start before this: the entity shows a failure.
    pub(crate) paused_until: Timestamp,
    /// End of the last window it was heard in.
    pub(crate) heard: Timestamp,
}

/// All entities of a partition, each at its place for life; see [`super::series::SeriesTable`].
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct EntityTable {
    slots: Vec<Option<EntitySlot>>,
    #[serde(skip)]
    places: FxHashMap<Entity, u32>,
    free: Vec<u32>,
}

impl EntityTable {
    #[allow(clippy::cast_possible_truncation)] // the cap is far below 2^32
    pub(crate) fn place_or_insert(&mut self, name: &str, cap: usize) -> Option<usize> {
        // The map is asked with a borrowed name, so that a known entity costs no allocation.
        if let Some(place) = self.places.get(name) {
            return Some(*place as usize);
        }
        if self.places.len() >= cap {
            return None;
        }
        let slot = EntitySlot {
            name: Entity::new(name),
            cells: Cells::default(),
            templates: None,
            paused_until: Timestamp::MIN,
            heard: Timestamp::MIN,
        };
        let place = if let Some(place) = self.free.pop() {
            self.slots[place as usize] = Some(slot);
            place
        } else {
            self.slots.push(Some(slot));
            (self.slots.len() - 1) as u32
        };
        self.places.insert(Entity::new(name), place);
        Some(place as usize)
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn places(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn get(&self, place: usize) -> Option<&EntitySlot> {
        self.slots.get(place).and_then(Option::as_ref)
    }

    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut EntitySlot> {
        self.slots.get_mut(place).and_then(Option::as_mut)
    }

    #[allow(clippy::cast_possible_truncation)] // as above
    pub(crate) fn remove(&mut self, place: usize) {
        if let Some(slot) = self.slots.get_mut(place).and_then(Option::take) {
            self.places.remove(&slot.name);
            self.free.push(place as u32);
        }
    }

    /// Finds the entities again after loading.
    #[allow(clippy::cast_possible_truncation)] // as above
    pub(crate) fn index(&mut self) {
        self.places = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(i, s)| Some((s.as_ref()?.name.clone(), i as u32)))
            .collect();
    }
}
