//! Remembers which templates were ever seen after they had to be forgotten, so that an old one is not told as new again.
//! Two Bloom filters take turns: when the younger has its fill, the older is wiped and becomes the younger.
//!
//! Fails: one in about a thousand new templates is taken for an old one; what was evicted more than two fills ago is new
//! again. Cost: 6 bit probes per question and filter; 32 KiB in all. Bloom, CACM 13(7), 1970; the rotation as in
//! Chang, Feng, Li, "Approximate caches for packet classification", INFOCOM 2004.

use serde::{Deserialize, Serialize};

const WORDS: usize = 2_048;
const BITS: u64 = WORDS as u64 * 64;
/// 16 bits an entry with 6 probes: false positives below 0.1 % at the fill, over both filters.
const FILL: u32 = 8_192;
const PROBES: u64 = 6;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tombstones {
    /// Empty until the first eviction, then `WORDS` long.
    younger: Vec<u64>,
    older: Vec<u64>,
    count: u32,
}

impl Tombstones {
    pub(crate) fn insert(&mut self, hash: u64) {
        if self.count >= FILL {
            self.older = std::mem::take(&mut self.younger);
            self.count = 0;
        }
        if self.younger.len() != WORDS {
            self.younger = vec![0; WORDS];
        }
        for bit in probes(hash) {
            if let Some(word) = self.younger.get_mut(bit / 64) {
                *word |= 1 << (bit % 64);
            }
        }
        self.count += 1;
    }

    /// Remembers what another remembered as well, the younger with the younger.
    pub(crate) fn absorb(&mut self, other: &Self) {
        for (mine, theirs) in [(&mut self.younger, &other.younger), (&mut self.older, &other.older)] {
            if mine.is_empty() {
                mine.clone_from(theirs);
            }
            for (mine, theirs) in mine.iter_mut().zip(theirs) {
                *mine |= theirs;
            }
        }
        self.count = self.count.saturating_add(other.count).min(FILL);
    }

    pub(crate) fn contains(&self, hash: u64) -> bool {
        holds(&self.younger, hash) || holds(&self.older, hash)
    }

    pub(crate) fn state_bytes(&self) -> usize {
        (self.younger.len() + self.older.len()) * 8
    }
}

fn holds(filter: &[u64], hash: u64) -> bool {
    !filter.is_empty() && probes(hash).all(|bit| filter.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1))
}

/// Double hashing (Kirsch, Mitzenmacher, 2006): the two halves of a 64-bit hash stand for as many hashes as needed.
fn probes(hash: u64) -> impl Iterator<Item = usize> {
    let (a, b) = (hash & 0xffff_ffff, (hash >> 32) | 1);
    (0..PROBES).map(move |i| usize::try_from(a.wrapping_add(i.wrapping_mul(b)) % BITS).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(i: u64) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&i.to_le_bytes())
    }

    #[test]
    fn what_went_in_is_found_and_little_else() {
        let mut stones = Tombstones::default();
        assert!(!stones.contains(hash(1)));
        for i in 0..u64::from(FILL) {
            stones.insert(hash(i));
        }
        assert!((0..u64::from(FILL)).all(|i| stones.contains(hash(i))));
        let false_positives = (1_000_000..1_100_000).filter(|&i| stones.contains(hash(i))).count();
        assert!(false_positives < 200, "{false_positives} of 100000");
    }

    #[test]
    fn a_flood_rotates_but_keeps_the_last_fill() {
        let mut stones = Tombstones::default();
        for i in 0..10 * u64::from(FILL) {
            stones.insert(hash(i));
        }
        assert!((9 * u64::from(FILL)..10 * u64::from(FILL)).all(|i| stones.contains(hash(i))));
        assert_eq!(stones.state_bytes(), 2 * WORDS * 8);
    }
}
