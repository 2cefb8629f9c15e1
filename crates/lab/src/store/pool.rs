//! A pool of SQLite connections. While it leaks, connections that come back are put aside and never lent again.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rusqlite::Connection;

/// Connections of a store.
pub const SIZE: usize = 12;
/// How long SQLite waits for another's lock.
const BUSY: Duration = Duration::from_millis(900);

/// The pool.
#[derive(Debug)]
pub struct Pool {
    free: Mutex<Vec<Connection>>,
    returned: Condvar,
    lost: Mutex<Vec<Connection>>,
    /// How many connections are to be lost by now.
    pub lost_target: AtomicUsize,
}

/// Opens the database at `path` for one connection.
///
/// # Errors
/// Where SQLite cannot.
pub fn open(path: &Path) -> Result<Connection> {
    let db = Connection::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    db.busy_timeout(BUSY)?;
    // The volume is memory, so there is nothing to sync; and each connection shall take little of the address space.
    db.execute_batch("PRAGMA synchronous=OFF; PRAGMA cache_size=-128; PRAGMA journal_mode=DELETE;")?;
    Ok(db)
}

impl Pool {
    /// Opens all connections.
    ///
    /// # Errors
    /// Where one cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let free: Result<Vec<Connection>> = (0..SIZE).map(|_| open(path)).collect();
        Ok(Self {
            free: Mutex::new(free?),
            returned: Condvar::new(),
            lost: Mutex::default(),
            lost_target: AtomicUsize::new(0),
        })
    }

    /// Lends a connection to `act`; `None` where none came free within `wait`. The time waited comes with it.
    pub fn with<T>(&self, wait: Duration, act: impl FnOnce(&mut Connection) -> T) -> (Option<T>, Duration) {
        let began = Instant::now();
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let lent = self
            .returned
            .wait_timeout_while(free, wait, |free| free.is_empty())
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .pop();
        let waited = began.elapsed();
        let done = lent.map(|mut connection| {
            let done = act(&mut connection);
            self.give_back(connection);
            done
        });
        (done, waited)
    }

    fn give_back(&self, connection: Connection) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.len() < self.lost_target.load(Ordering::Relaxed) {
            lost.push(connection);
            return;
        }
        drop(lost);
        self.free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
        self.returned.notify_one();
    }

    /// Connections that are lent, be it for ever.
    pub fn in_use(&self) -> usize {
        SIZE - self.free.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Connections that were never given back.
    pub fn lost(&self) -> usize {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaking_pool_runs_dry_and_a_healthy_one_does_not() {
        let pool = Pool::open(Path::new(":memory:")).expect("memory");
        for _ in 0..50 {
            assert!(pool.with(Duration::ZERO, |_| ()).0.is_some());
        }
        assert_eq!((pool.in_use(), pool.lost()), (0, 0));
        pool.lost_target.store(SIZE, Ordering::Relaxed);
        let lent = (0..50)
            .filter(|_| pool.with(Duration::ZERO, |_| ()).0.is_some())
            .count();
        assert_eq!((lent, pool.in_use(), pool.lost()), (SIZE, SIZE, SIZE));
    }
}
