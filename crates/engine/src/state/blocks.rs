use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::block::{BlockId, Body, FrozenBlock, Part};

struct Block<T> {
    items: Arc<Vec<T>>,
    /// Written to since the last freeze.
    changed: bool,
}

impl<T> Block<T> {
    fn new() -> Self {
        Self {
            items: Arc::default(),
            changed: true,
        }
    }
}

/// A growing list in blocks of `N` entries that can be frozen.
///
/// As serde sees it, it is its length alone: entries travel block by block. See [`crate::state`].
pub(crate) struct Blocks<T, const N: usize> {
    /// Those beyond `len` are empty, and kept for their memory.
    blocks: Vec<Block<T>>,
    len: usize,
    /// While loading: entries that are to come.
    wanted: usize,
}

impl<T, const N: usize> Default for Blocks<T, N> {
    fn default() -> Self {
        Self {
            blocks: Vec::new(),
            len: 0,
            wanted: 0,
        }
    }
}

impl<T, const N: usize> Blocks<T, N> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, place: usize) -> Option<&T> {
        self.blocks.get(place / N)?.items.get(place % N)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flat_map(|b| b.items.iter())
    }

    /// Empties the list and keeps the memory that nobody else holds.
    pub(crate) fn clear(&mut self) {
        for block in &mut self.blocks {
            match Arc::get_mut(&mut block.items) {
                Some(items) => items.clear(),
                None => block.items = Arc::default(),
            }
            block.changed = true;
        }
        self.len = 0;
    }

    /// Blocks that are to be loaded.
    pub(super) fn blocks_wanted(&self) -> u32 {
        u32::try_from(self.wanted.div_ceil(N)).unwrap_or(u32::MAX)
    }

    /// Takes in the next block that was loaded; false when it has not as many entries as are to come. `changed`: it is not what is
    /// stored under its name.
    pub(super) fn append(&mut self, items: Vec<T>, changed: bool) -> bool {
        let expected = (self.wanted - self.len).min(N);
        let fits = items.len() == expected;
        self.len += expected;
        self.blocks.push(Block {
            items: Arc::new(items),
            changed,
        });
        fits
    }
}

impl<T: Clone, const N: usize> Blocks<T, N> {
    /// Copies the block first where a frozen state holds it.
    pub(crate) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        let block = self.blocks.get_mut(place / N)?;
        if place % N >= block.items.len() {
            return None;
        }
        block.changed = true;
        Arc::make_mut(&mut block.items).get_mut(place % N)
    }

    pub(crate) fn push(&mut self, item: T) {
        let place = self.len / N;
        if place == self.blocks.len() {
            self.blocks.push(Block::new());
        }
        if let Some(block) = self.blocks.get_mut(place) {
            block.changed = true;
            Arc::make_mut(&mut block.items).push(item);
            self.len += 1;
        }
    }

    /// All entries, each copied only where a frozen state holds it.
    pub(crate) fn into_vec(self) -> Vec<T> {
        let mut all = Vec::with_capacity(self.len);
        for block in self.blocks {
            match Arc::try_unwrap(block.items) {
                Ok(items) => all.extend(items),
                Err(items) => all.extend_from_slice(&items),
            }
        }
        all
    }
}

impl<T: Serialize + Send + Sync + 'static, const N: usize> Blocks<T, N> {
    /// Adds every block to a frozen state.
    pub(crate) fn freeze(&mut self, part: Part, of: i64, into: &mut Vec<FrozenBlock>) {
        let used = self.len.div_ceil(N);
        for (number, block) in (0..).zip(self.blocks.iter_mut().take(used)) {
            into.push(FrozenBlock {
                id: BlockId { part, of, number },
                changed: std::mem::take(&mut block.changed),
                body: Body::Shared(Arc::clone(&block.items) as _),
            });
        }
    }
}

#[cfg(test)]
impl<T: serde::de::DeserializeOwned, const N: usize> Blocks<T, N> {
    /// How many entries a block has, and its layout.
    pub(crate) fn layout() -> (usize, super::layout::Layout) {
        (N, super::layout::trace::layout_of::<Vec<T>>())
    }
}

impl<T, const N: usize> Serialize for Blocks<T, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.len as u64).serialize(serializer)
    }
}

impl<'de, T, const N: usize> Deserialize<'de> for Blocks<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let len = u64::deserialize(deserializer)?;
        Ok(Self {
            wanted: usize::try_from(len).unwrap_or(usize::MAX),
            ..Self::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::{Frozen, Loading};
    use super::super::migrate::Stage;
    use super::*;

    type List = Blocks<String, 4>;

    fn list(n: usize) -> List {
        let mut list = List::default();
        (0..n).for_each(|i| list.push(format!("item {i}")));
        list
    }

    fn frozen(list: &mut List) -> Frozen {
        let mut blocks = Vec::new();
        list.freeze(Part::Series, 7, &mut blocks);
        Frozen { offset: 1, blocks }
    }

    fn changed(frozen: &Frozen) -> Vec<bool> {
        frozen.blocks.iter().map(FrozenBlock::has_changed).collect()
    }

    fn loading(frozen: Frozen) -> Loading {
        Loading::new(frozen.encode().unwrap(), Stage::Detect).unwrap()
    }

    /// A list that expects as many entries, filled from a frozen one.
    fn loaded(len: usize, frozen: Frozen) -> Result<List, super::super::LoadError> {
        let mut list: List = postcard::from_bytes(&postcard::to_stdvec(&(len as u64)).unwrap()).unwrap();
        loading(frozen).fill(&mut list, Part::Series, 7)?;
        Ok(list)
    }

    #[test]
    fn a_frozen_state_does_not_see_what_is_written_after_it() {
        for n in [0, 1, 3, 4, 5, 9] {
            let mut living = list(n);
            let held = frozen(&mut living);
            (0..n).for_each(|i| *living.get_mut(i).unwrap() = "other".into());
            living.push("one more".into());
            let before = loaded(n, held).unwrap();
            assert_eq!(before.into_vec(), list(n).into_vec(), "{n}");
            assert_eq!(living.len(), n + 1);
        }
    }

    #[test]
    fn only_what_was_written_to_has_changed() {
        let mut living = list(10);
        assert_eq!(changed(&frozen(&mut living)), [true; 3]);
        assert_eq!(changed(&frozen(&mut living)), [false; 3]);
        living.get(1);
        assert_eq!(living.get_mut(10), None);
        *living.get_mut(5).unwrap() = "x".into();
        assert_eq!(changed(&frozen(&mut living)), [false, true, false]);
        living.push("y".into());
        assert_eq!(changed(&frozen(&mut living)), [false, false, true]);
        let held = frozen(&mut living);
        let mut again = loaded(11, held).unwrap();
        assert_eq!(
            changed(&frozen(&mut again)),
            [false; 3],
            "what was loaded is stored already"
        );
    }

    #[test]
    fn clearing_leaves_a_frozen_state_as_it_is() {
        let mut living = list(6);
        let held = frozen(&mut living);
        living.clear();
        assert_eq!((living.len(), living.iter().count(), living.get(0)), (0, 0, None));
        living.push("new".into());
        assert_eq!(living.iter().collect::<Vec<_>>(), ["new"]);
        assert_eq!(loaded(6, held).unwrap().into_vec(), list(6).into_vec());
        let held = frozen(&mut living);
        assert_eq!(held.blocks.len(), 1, "empty blocks are not stored");
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_refused() {
        let error = |len, frozen| loaded(len, frozen).err().unwrap().to_string();
        assert!(error(9, frozen(&mut list(8))).contains("missing"));
        assert!(error(7, frozen(&mut list(8))).contains("fewer"));
        let mut damaged = frozen(&mut list(8)).encode().unwrap();
        damaged.blocks[1].bytes[5] ^= 1;
        let mut list: List = postcard::from_bytes(&[8]).unwrap();
        let error = Loading::new(damaged, Stage::Detect)
            .unwrap()
            .fill(&mut list, Part::Series, 7)
            .unwrap_err();
        assert_eq!(error.to_string(), "block series.7.1 does not match its checksum");
    }

    #[test]
    fn names_of_blocks_are_read_as_they_are_written() {
        for id in [
            BlockId::HEAD,
            BlockId {
                part: Part::WindowSeries,
                of: -1_700_000_000_000,
                number: 77,
            },
        ] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in [
            "",
            "head",
            "head.0",
            "head.0.0.0",
            "tail.0.0",
            "series.x.1",
            "series.0.-1",
        ] {
            assert_eq!(text.parse::<BlockId>(), Err(()), "{text}");
        }
    }
}
