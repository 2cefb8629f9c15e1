//! Rendered product pages with a checksum each. While the fault is on, a share of what is stored is damaged.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a page is good.
const TTL: Duration = Duration::from_secs(20);

/// The pages.
#[derive(Debug, Default)]
pub struct Cache(Mutex<HashMap<u64, Entry>>);

#[derive(Debug)]
struct Entry {
    page: Vec<u8>,
    sum: u64,
    stored: Instant,
}

/// What a look into the cache gives.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// A page whose checksum is right.
    Page(Vec<u8>),
    /// A page whose checksum is wrong; it is no longer in the cache.
    Corrupt,
    /// Nothing, or something too old.
    Nothing,
}

/// FNV-1a: enough to see damage.
fn checksum(page: &[u8]) -> u64 {
    page.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Cache {
    /// Looks for the page of `product`.
    pub fn find(&self, product: u64) -> Found {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match entries.get(&product) {
            None => Found::Nothing,
            Some(entry) if checksum(&entry.page) != entry.sum => {
                entries.remove(&product);
                Found::Corrupt
            }
            Some(entry) if entry.stored.elapsed() > TTL => Found::Nothing,
            Some(entry) => Found::Page(entry.page.clone()),
        }
    }

    /// Stores a page, damaged where `damaged`.
    pub fn store(&self, product: u64, mut page: Vec<u8>, damaged: bool) {
        let sum = checksum(&page);
        if damaged && let Some(byte) = page.first_mut() {
            *byte ^= 1;
        }
        let stored = Instant::now();
        let entry = Entry { page, sum, stored };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(product, entry);
    }

    /// Pages in it.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_seen_once_and_then_gone() {
        let cache = Cache::default();
        assert_eq!(cache.find(1), Found::Nothing);
        cache.store(1, b"page".to_vec(), false);
        cache.store(2, b"page".to_vec(), true);
        assert_eq!(cache.len(), 2);
        assert_eq!(cache.find(1), Found::Page(b"page".to_vec()));
        assert_eq!((cache.find(2), cache.find(2)), (Found::Corrupt, Found::Nothing));
    }
}
