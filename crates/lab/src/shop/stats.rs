//! The shop's own counters, served at `/stats` for the monitoring.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Requests over which latency quantiles are taken.
const LATENCIES: usize = 512;

/// Counters since the start, and the latest latencies.
#[derive(Debug)]
pub struct Stats {
    /// Requests answered.
    pub requests: AtomicU64,
    /// Of those, with a status of 500 or above.
    pub errors: AtomicU64,
    /// Attempts that were repeated inside a request.
    pub retries: AtomicU64,
    /// Requests whose session was in the cache.
    pub cache_hits: AtomicU64,
    /// Requests whose session was not.
    pub cache_misses: AtomicU64,
    /// Orders taken.
    pub orders: AtomicU64,
    /// Connections open now.
    pub connections: AtomicU64,
    /// Duration of the latest cache sweep in µs.
    pub sweep_us: AtomicU64,
    latencies_us: Mutex<Ring>,
}

#[derive(Debug)]
struct Ring {
    values: [u32; LATENCIES],
    written: usize,
}

/// What `/stats` says. Names ending in `_total` only go up.
#[derive(Debug, Deserialize, Serialize)]
pub struct Snapshot {
    /// Requests answered.
    pub requests_total: u64,
    /// Requests answered with 5xx.
    pub errors_total: u64,
    /// Attempts repeated inside a request.
    pub retries_total: u64,
    /// Sessions found.
    pub cache_hits_total: u64,
    /// Sessions not found.
    pub cache_misses_total: u64,
    /// Orders taken.
    pub orders_total: u64,
    /// Open connections.
    pub connections: u64,
    /// Sessions in the index.
    pub cache_entries: u64,
    /// Bytes of pages not freed yet.
    pub cache_bytes: u64,
    /// Duration of the latest sweep in ms.
    pub cache_sweep_ms: f64,
    /// Median latency of the latest requests in ms.
    pub latency_p50_ms: f64,
    /// 99th percentile of the same in ms.
    pub latency_p99_ms: f64,
}

impl Default for Stats {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            requests: zero(),
            errors: zero(),
            retries: zero(),
            cache_hits: zero(),
            cache_misses: zero(),
            orders: zero(),
            connections: zero(),
            sweep_us: zero(),
            latencies_us: Mutex::new(Ring {
                values: [0; LATENCIES],
                written: 0,
            }),
        }
    }
}

/// One more.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[allow(clippy::cast_precision_loss)] // microseconds of a request are far below 2^53
fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

impl Stats {
    /// Notes one answered request.
    pub fn answered(&self, status: u16, took: Duration) {
        count(&self.requests);
        if status >= 500 {
            count(&self.errors);
        }
        let mut ring = self.latencies_us.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = ring.written % LATENCIES;
        ring.values[slot] = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        ring.written += 1;
    }

    /// Median and 99th percentile of the latest requests in ms; zeros before the first.
    fn latency_ms(&self) -> (f64, f64) {
        let (mut values, n) = {
            let ring = self.latencies_us.lock().unwrap_or_else(PoisonError::into_inner);
            (ring.values, ring.written.min(LATENCIES))
        };
        let values = &mut values[..n];
        values.sort_unstable();
        let at = |permille: usize| {
            values
                .get(n.saturating_sub(1) * permille / 1_000)
                .map_or(0.0, |v| ms(u64::from(*v)))
        };
        (at(500), at(990))
    }

    /// All of it, with what the cache says of itself.
    pub fn snapshot(&self, cache_entries: usize, cache_bytes: usize) -> Snapshot {
        let (latency_p50_ms, latency_p99_ms) = self.latency_ms();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            requests_total: read(&self.requests),
            errors_total: read(&self.errors),
            retries_total: read(&self.retries),
            cache_hits_total: read(&self.cache_hits),
            cache_misses_total: read(&self.cache_misses),
            orders_total: read(&self.orders),
            connections: read(&self.connections),
            cache_entries: cache_entries as u64,
            cache_bytes: cache_bytes as u64,
            cache_sweep_ms: ms(read(&self.sweep_us)),
            latency_p50_ms,
            latency_p99_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_latest_requests() {
        let stats = Stats::default();
        assert_eq!(stats.latency_ms(), (0.0, 0.0));
        stats.answered(200, Duration::from_millis(3));
        assert_eq!(stats.latency_ms(), (3.0, 3.0));
        (0..1_000).for_each(|_| stats.answered(200, Duration::from_secs(9)));
        (0..LATENCIES as u64).for_each(|n| stats.answered(503, Duration::from_micros(n * 1_000)));
        assert_eq!(stats.latency_ms(), (255.0, 505.0));
        let snapshot = stats.snapshot(3, 4);
        assert_eq!((snapshot.requests_total, snapshot.errors_total), (1_513, 512));
        assert_eq!((snapshot.cache_entries, snapshot.cache_bytes), (3, 4));
    }
}
