//! A map from 64-bit hashes to values that holds at most so many: when full, the entry that was not touched for longest goes.
//!
//! Fails only in what it is for: what a flood pushes out is gone. Cost: O(1) per operation, one hash lookup; the value plus
//! 24 bytes per entry. A slab with links, as in any least-recently-used cache; nothing is allocated once it is full.

use rustc_hash::FxHashMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Slot<V> {
    key: u64,
    older: u32,
    newer: u32,
    value: V,
}

/// Least-recently-used map of bounded size. Serialises as its entries from the oldest to the newest, so that a copy
/// behaves as the original does.
#[derive(Clone, Debug)]
pub(crate) struct Recency<V> {
    slots: Vec<Slot<V>>,
    index: FxHashMap<u64, u32>,
    oldest: u32,
    newest: u32,
    capacity: usize,
}

impl<V> Recency<V> {
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.clamp(1, NONE as usize - 1);
        Self {
            slots: Vec::new(),
            index: FxHashMap::default(),
            oldest: NONE,
            newest: NONE,
            capacity,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn peek(&self, key: u64) -> Option<&V> {
        self.index.get(&key).map(|&at| &self.slots[at as usize].value)
    }

    pub(crate) fn peek_mut(&mut self, key: u64) -> Option<&mut V> {
        let at = *self.index.get(&key)?;
        Some(&mut self.slots[at as usize].value)
    }

    /// Finds an entry and makes it the newest.
    pub(crate) fn touch(&mut self, key: u64) -> Option<&mut V> {
        let at = *self.index.get(&key)?;
        if at != self.newest {
            self.unlink(at);
            self.link_newest(at);
        }
        Some(&mut self.slots[at as usize].value)
    }

    /// Puts an entry in as the newest; gives back what had to go for it: the former value of the key, or the oldest entry.
    pub(crate) fn insert(&mut self, key: u64, value: V) -> Option<(u64, V)> {
        if let Some(present) = self.touch(key) {
            return Some((key, std::mem::replace(present, value)));
        }
        if self.slots.len() < self.capacity {
            let at = u32::try_from(self.slots.len()).unwrap_or(NONE); // capacity is below NONE
            self.slots.push(Slot {
                key,
                older: NONE,
                newer: NONE,
                value,
            });
            self.index.insert(key, at);
            self.link_newest(at);
            return None;
        }
        let at = self.oldest;
        self.unlink(at);
        let slot = &mut self.slots[at as usize];
        let evicted = (
            std::mem::replace(&mut slot.key, key),
            std::mem::replace(&mut slot.value, value),
        );
        self.index.remove(&evicted.0);
        self.index.insert(key, at);
        self.link_newest(at);
        Some(evicted)
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<V> {
        let at = self.index.remove(&key)?;
        self.unlink(at);
        let removed = self.slots.swap_remove(at as usize);
        // The last slot moved into the hole: whoever pointed at its old place must follow.
        if let Some(moved) = self.slots.get(at as usize) {
            let (moved_key, older, newer) = (moved.key, moved.older, moved.newer);
            self.index.insert(moved_key, at);
            match older {
                NONE => self.oldest = at,
                older => self.slots[older as usize].newer = at,
            }
            match newer {
                NONE => self.newest = at,
                newer => self.slots[newer as usize].older = at,
            }
        }
        Some(removed.value)
    }

    /// Entries from the oldest to the newest.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        let mut at = self.oldest;
        std::iter::from_fn(move || {
            let slot = self.slots.get(at as usize)?;
            at = slot.newer;
            Some((slot.key, &slot.value))
        })
    }

    fn unlink(&mut self, at: u32) {
        let (older, newer) = {
            let slot = &self.slots[at as usize];
            (slot.older, slot.newer)
        };
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let before = self.newest;
        let slot = &mut self.slots[at as usize];
        slot.older = before;
        slot.newer = NONE;
        match before {
            NONE => self.oldest = at,
            before => self.slots[before as usize].newer = at,
        }
        self.newest = at;
    }
}

impl<V: Serialize> Serialize for Recency<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entries: Vec<(u64, &V)> = self.iter().collect();
        (self.capacity as u64, entries).serialize(serializer)
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Recency<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (capacity, entries) = <(u64, Vec<(u64, V)>)>::deserialize(deserializer)?;
        let mut map = Self::new(usize::try_from(capacity).unwrap_or(usize::MAX));
        for (key, value) in entries {
            map.insert(key, value);
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64, u8),
        Touch(u64),
        Remove(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..12_u64, any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
            (0..12_u64).prop_map(Step::Touch),
            (0..12_u64).prop_map(Step::Remove),
        ]
    }

    proptest! {
        /// Against a plain list that is searched from end to end.
        #[test]
        fn behaves_as_a_list_with_the_newest_last(
            capacity in 1..6_usize,
            steps in prop::collection::vec(step(), 0..80),
        ) {
            let mut map = Recency::new(capacity);
            let mut list: Vec<(u64, u8)> = Vec::new();
            for step in steps {
                let place = |list: &[(u64, u8)], key| list.iter().position(|(k, _)| *k == key);
                match step {
                    Step::Insert(key, value) => {
                        let full = list.len() == capacity;
                        let gone = place(&list, key).or(full.then_some(0)).map(|at| list.remove(at));
                        list.push((key, value));
                        prop_assert_eq!(map.insert(key, value), gone);
                    }
                    Step::Touch(key) => {
                        let found = place(&list, key).map(|at| list.remove(at));
                        list.extend(found);
                        prop_assert_eq!(map.touch(key).copied(), found.map(|(_, value)| value));
                    }
                    Step::Remove(key) => {
                        let found = place(&list, key).map(|at| list.remove(at));
                        prop_assert_eq!(map.remove(key), found.map(|(_, value)| value));
                    }
                }
                prop_assert_eq!(map.iter().map(|(key, value)| (key, *value)).collect::<Vec<_>>(), list.clone());
                let copy: Recency<u8> =
                    postcard::from_bytes(&postcard::to_stdvec(&map).expect("encodes")).expect("decodes");
                prop_assert!(copy.iter().eq(map.iter()));
            }
        }
    }
}
