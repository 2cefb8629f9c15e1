//! The store's own counters and gauges, served at `/stats`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Requests over which latency quantiles are taken.
const LATENCIES: usize = 64;

/// Counters since the start, and the latest durations.
#[derive(Debug, Default)]
pub struct Stats {
    /// Requests answered.
    pub requests: AtomicU64,
    /// Of those, with a status of 500 or above.
    pub errors: AtomicU64,
    /// Attempts that were repeated inside a request.
    pub retries: AtomicU64,
    /// Pages found in the cache.
    pub cache_hits: AtomicU64,
    /// Pages not found.
    pub cache_misses: AtomicU64,
    /// Pages found with a wrong checksum.
    pub cache_corrupt: AtomicU64,
    /// Orders taken.
    pub orders: AtomicU64,
    /// Payments declined.
    pub declined: AtomicU64,
    /// Jobs done by the workers.
    pub jobs: AtomicU64,
    /// Queries that found the database locked for too long.
    pub db_busy: AtomicU64,
    /// Connections open now.
    pub connections: AtomicU64,
    /// Bytes in the journal's file.
    pub journal_bytes: AtomicU64,
    /// Durations of requests.
    pub latency: Ring,
    /// Waits for a connection and for the database.
    pub db_wait: Ring,
    /// Durations of payments.
    pub dependency: Ring,
}

/// The latest durations.
#[derive(Debug, Default)]
pub struct Ring(Mutex<Vec<u32>>, AtomicU64);

impl Ring {
    /// Adds one.
    pub fn note(&self, took: Duration) {
        let us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let written = self.1.fetch_add(1, Ordering::Relaxed);
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if values.len() < LATENCIES {
            values.push(us);
        } else if let Some(slot) = values.get_mut(usize::try_from(written).unwrap_or(0) % LATENCIES) {
            *slot = us;
        }
    }

    /// A quantile in ms, 0 before the first.
    pub fn quantile_ms(&self, permille: usize) -> f64 {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        values.sort_unstable();
        let at = values.len().saturating_sub(1) * permille / 1_000;
        values.get(at).map_or(0.0, |us| f64::from(*us) / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_latest() {
        let ring = Ring::default();
        assert!(ring.quantile_ms(500).abs() < 1e-9);
        (0..1_000).for_each(|_| ring.note(Duration::from_secs(9)));
        (0..LATENCIES as u64).for_each(|n| ring.note(Duration::from_millis(n)));
        assert!((ring.quantile_ms(500) - 31.0).abs() < 1e-9 && (ring.quantile_ms(1_000) - 63.0).abs() < 1e-9);
    }
}
