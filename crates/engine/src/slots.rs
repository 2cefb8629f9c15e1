use std::borrow::Borrow;
use std::hash::Hash;

use rustc_hash::FxHashMap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::state::{Blocks, FrozenBlock, LoadError, Loading, Part};

/// Something that a table finds by a key of its own.
pub(crate) trait Keyed {
    /// What it is found by.
    type Key: Eq + Hash + Clone;

    /// Its key; never changes.
    fn key(&self) -> Self::Key;
}

/// A table whose entries keep their place for life, so that what is written follows the log's order and never a hash's. It is
/// stored in blocks of `N` places.
///
/// Cost: one hash look-up to find a place by key, an index after that; no allocation for what is known, but for a copy of the
/// block where a frozen state holds it.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Slots<T: Keyed, const N: usize> {
    slots: Blocks<Option<T>, N>,
    /// Freed places, reused last first; part of the state, since they decide where a new entry goes.
    free: Vec<u32>,
    /// Not part of the state: [`Self::load`] finds it again.
    #[serde(skip)]
    places: FxHashMap<T::Key, u32>,
}

impl<T: Keyed, const N: usize> Default for Slots<T, N> {
    fn default() -> Self {
        Self {
            slots: Blocks::default(),
            free: Vec::new(),
            places: FxHashMap::default(),
        }
    }
}

/// Tables are capped far below 2^32 places.
pub(crate) fn place_u32(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

impl<T: Keyed + Clone, const N: usize> Slots<T, N> {
    /// Where the entry of this key stands.
    pub(crate) fn place<Q>(&self, key: &Q) -> Option<usize>
    where
        T::Key: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.places.get(key).map(|place| *place as usize)
    }

    /// Entries held.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Highest place ever used, plus one.
    pub(crate) fn places(&self) -> usize {
        self.slots.len()
    }

    /// All entries, by place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }

    pub(crate) fn get(&self, place: usize) -> Option<&T> {
        self.slots.get(place).and_then(Option::as_ref)
    }

    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.slots.get_mut(place).and_then(Option::as_mut)
    }

    /// Puts an entry at a freed place, or a new one.
    pub(crate) fn insert(&mut self, entry: T) -> usize {
        let key = entry.key();
        let freed = self
            .free
            .pop()
            .map(|place| place as usize)
            .filter(|place| *place < self.slots.len());
        let place = freed.unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        if let Some(slot) = self.slots.get_mut(place) {
            *slot = Some(entry);
        }
        self.places.insert(key, place_u32(place));
        place
    }

    /// Frees a place.
    pub(crate) fn remove(&mut self, place: usize) {
        if let Some(entry) = self.slots.get_mut(place).and_then(Option::take) {
            self.places.remove(&entry.key());
            self.free.push(place_u32(place));
        }
    }
}

impl<T, const N: usize> Slots<T, N>
where
    T: Keyed + Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// Adds its blocks to a frozen state.
    pub(crate) fn freeze(&mut self, part: Part, into: &mut Vec<FrozenBlock>) {
        self.slots.freeze(part, 0, into);
    }

    /// Reads its blocks and finds the entries again.
    pub(crate) fn load(&mut self, part: Part, from: &mut Loading) -> Result<(), LoadError> {
        from.fill(&mut self.slots, part, 0)?;
        let held = self.slots.iter().enumerate();
        self.places = held
            .filter_map(|(place, e)| Some((e.as_ref()?.key(), place_u32(place))))
            .collect();
        Ok(())
    }
}

#[cfg(test)]
impl<T: Keyed + DeserializeOwned, const N: usize> Slots<T, N> {
    /// How many places a block has, and its layout.
    pub(crate) fn layout() -> (usize, crate::state::layout::Layout) {
        Blocks::<Option<T>, N>::layout()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Frozen, Stage};

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Name(String);

    impl Keyed for Name {
        type Key = String;
        fn key(&self) -> String {
            self.0.clone()
        }
    }

    #[test]
    fn entries_keep_their_place_and_freed_places_are_reused() {
        let mut slots: Slots<Name, 2> = Slots::default();
        let places: Vec<usize> = ["a", "b", "c"].map(|n| slots.insert(Name(n.into()))).to_vec();
        assert_eq!(places, [0, 1, 2]);
        slots.remove(1);
        assert_eq!((slots.place("b"), slots.len(), slots.places()), (None, 2, 3));
        assert_eq!(slots.insert(Name("d".into())), 1);
        assert_eq!(slots.insert(Name("e".into())), 3);
        assert_eq!(slots.get(slots.place("c").unwrap()), Some(&Name("c".into())));
    }

    #[test]
    fn a_table_is_the_same_after_loading_and_a_damaged_one_does_not_panic() {
        let mut slots: Slots<Name, 2> = Slots::default();
        for n in ["a", "b", "c"] {
            slots.insert(Name(n.into()));
        }
        slots.remove(0);
        let mut blocks = Vec::new();
        slots.freeze(Part::Series, &mut blocks);
        let snapshot = Frozen { offset: 0, blocks }.encode().unwrap();
        let mut loaded: Slots<Name, 2> = postcard::from_bytes(&postcard::to_stdvec(&slots).unwrap()).unwrap();
        loaded
            .load(Part::Series, &mut Loading::new(snapshot, Stage::Detect).unwrap())
            .unwrap();
        assert_eq!((loaded.place("c"), loaded.len()), (Some(2), 2));
        assert_eq!(loaded.insert(Name("x".into())), slots.insert(Name("x".into())));
        loaded.free.push(99);
        assert_eq!(loaded.insert(Name("y".into())), 3);
    }
}
