//! The session cache, and the fault: each product keeps a list of who looked at it, which holds a reference to their
//! sessions. The periodic sweep drops expired sessions from the index and from those lists; while the fault is on, it
//! forgets the lists, so expired sessions are never freed. It is the commonest leak of managed and counted memory.
//!
//! A session's page is reserved fallibly, so that a refused allocation is an answer and not yet the end; and only while
//! there is headroom for the short-lived buffers of running requests, which cannot be refused.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::PRODUCTS;

/// Viewers that a product remembers while the cache is healthy.
const VIEWERS_MAX: usize = 16;

/// Memory that has to be left when a session takes its page.
const HEADROOM_BYTES: usize = 1 << 20;

/// One customer's session.
#[derive(Debug)]
pub struct Session {
    seen_ms: AtomicU64,
    /// Products in the cart.
    pub cart: AtomicU64,
    page: Vec<u8>,
    held_bytes: Arc<AtomicUsize>,
}

impl Session {
    /// The start page rendered for this customer.
    pub fn page(&self) -> &[u8] {
        &self.page
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.held_bytes.fetch_sub(self.page.capacity(), Ordering::Relaxed);
    }
}

/// The system refused this many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub usize);

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Sessions in the index before.
    pub before: usize,
    /// Sessions removed from the index.
    pub removed: usize,
    /// Of those, how many are still referenced and so not freed.
    pub kept: usize,
}

#[derive(Debug)]
struct Inner {
    sessions: HashMap<u64, Arc<Session>>,
    viewers: Vec<Vec<Arc<Session>>>,
    next_id: u64,
}

/// All sessions of one shop.
#[derive(Debug)]
pub struct SessionCache {
    inner: Mutex<Inner>,
    held_bytes: Arc<AtomicUsize>,
    start: Instant,
    leak_from: Option<Instant>,
    /// Of a thousand expired sessions, how many stay referenced while the fault is on.
    leak_permille: u64,
}

impl SessionCache {
    /// An empty cache; from `leak_after` on, `leak_rate` (0 to 1) of the expired sessions are never freed.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped
    pub fn new(leak_after: Option<Duration>, leak_rate: f64, first_id: u64) -> Self {
        let start = Instant::now();
        Self {
            inner: Mutex::new(Inner {
                sessions: HashMap::new(),
                viewers: (0..PRODUCTS).map(|_| Vec::new()).collect(),
                next_id: first_id,
            }),
            held_bytes: Arc::default(),
            start,
            leak_from: leak_after.and_then(|after| start.checked_add(after)),
            leak_permille: (leak_rate.clamp(0.0, 1.0) * 1_000.0) as u64,
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn leaking(&self) -> bool {
        self.leak_permille > 0 && self.leak_from.is_some_and(|from| Instant::now() >= from)
    }

    /// Opens a session with a page of `page_bytes`, filled by `render`.
    ///
    /// # Errors
    /// Where the system refuses the memory; the cache is then as before.
    pub fn open(&self, page_bytes: usize, render: impl FnOnce(&mut Vec<u8>)) -> Result<(u64, Arc<Session>), Refused> {
        let mut headroom = Vec::<u8>::new();
        headroom
            .try_reserve_exact(HEADROOM_BYTES)
            .map_err(|_| Refused(page_bytes))?;
        drop(std::hint::black_box(headroom)); // or the compiler takes the pair of calls away
        let mut page = Vec::new();
        page.try_reserve_exact(page_bytes).map_err(|_| Refused(page_bytes))?;
        render(&mut page);
        self.held_bytes.fetch_add(page.capacity(), Ordering::Relaxed);
        let session = Arc::new(Session {
            seen_ms: AtomicU64::new(self.now_ms()),
            cart: AtomicU64::new(0),
            page,
            held_bytes: Arc::clone(&self.held_bytes),
        });
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let index_bytes = inner.sessions.capacity() * size_of::<(u64, Arc<Session>)>() * 2;
        inner.sessions.try_reserve(1).map_err(|_| Refused(index_bytes))?;
        let id = inner.next_id;
        inner.next_id += 1;
        inner.sessions.insert(id, Arc::clone(&session));
        Ok((id, session))
    }

    /// The session of this id, now seen again; `None` where it never was or has expired.
    pub fn find(&self, id: u64) -> Option<Arc<Session>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let session = inner.sessions.get(&id)?;
        session.seen_ms.store(self.now_ms(), Ordering::Relaxed);
        Some(Arc::clone(session))
    }

    /// Notes that `session` looked at `product`.
    ///
    /// # Errors
    /// Where the system refuses to let the list grow.
    pub fn view(&self, product: usize, session: &Arc<Session>) -> Result<(), Refused> {
        let leaking = self.leaking();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(viewers) = inner.viewers.get_mut(product) else {
            return Ok(());
        };
        if viewers.len() >= VIEWERS_MAX && !leaking {
            viewers.remove(0);
        }
        viewers
            .try_reserve(1)
            .map_err(|_| Refused(viewers.capacity() * size_of::<Arc<Session>>() * 2))?;
        viewers.push(Arc::clone(session));
        Ok(())
    }

    /// Drops sessions that were not seen for `ttl`; looks at every session and every list once.
    pub fn sweep(&self, ttl: Duration) -> Swept {
        let leaking = self.leaking();
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let deadline_ms = self.now_ms().saturating_sub(ttl_ms);
        let expired = |s: &Session| s.seen_ms.load(Ordering::Relaxed) < deadline_ms;
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for viewers in &mut inner.viewers {
            // The fault. Which sessions stay depends on their page, so that a session stays in all lists or in none.
            let forgotten =
                |s: &Session| leaking && (s.page.capacity() as u64).wrapping_mul(7_919) % 1_000 < self.leak_permille;
            viewers.retain(|s| !expired(s) || forgotten(s));
        }
        let before = inner.sessions.len();
        let mut kept = 0;
        inner.sessions.retain(|_, s| {
            let gone = expired(s);
            kept += usize::from(gone && Arc::strong_count(s) > 1);
            !gone
        });
        Swept {
            before,
            removed: before - inner.sessions.len(),
            kept,
        }
    }

    /// Sessions in the index.
    pub fn len(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).sessions.len()
    }

    /// Bytes of pages that are not freed yet, whether or not the index knows them.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(cache: &SessionCache, sessions: usize) {
        for n in 0..sessions {
            let (_, session) = cache.open(100 + n, |page| page.push(1)).expect("100 bytes are there");
            cache.view(n % 3, &session).expect("8 bytes are there");
        }
        std::thread::sleep(Duration::from_millis(5));
    }

    #[test]
    fn a_healthy_sweep_frees_what_it_removes_and_a_leaking_one_does_not() {
        let cases = [
            ("healthy", None, 1.0, 0, true),
            ("leak to come", Some(Duration::from_secs(3_600)), 1.0, 0, true),
            ("leak", Some(Duration::ZERO), 1.0, 40, false),
            ("leak of nothing", Some(Duration::ZERO), 0.0, 0, true),
        ];
        for (name, after, rate, kept, freed) in cases {
            let cache = SessionCache::new(after, rate, 1);
            fill(&cache, 40);
            let swept = cache.sweep(Duration::ZERO);
            assert_eq!(
                swept,
                Swept {
                    before: 40,
                    removed: 40,
                    kept
                },
                "{name}"
            );
            assert_eq!(cache.held_bytes() == 0, freed, "{name}");
            assert_eq!(cache.len(), 0, "{name}");
        }
    }

    #[test]
    fn half_a_leak_keeps_about_half() {
        let cache = SessionCache::new(Some(Duration::ZERO), 0.5, 1);
        fill(&cache, 400);
        let kept = cache.sweep(Duration::ZERO).kept;
        assert!((120..280).contains(&kept), "{kept}");
    }

    #[test]
    fn seen_sessions_live_and_unknown_ones_are_not_found() {
        let cache = SessionCache::new(None, 0.0, 5);
        let (id, _) = cache.open(10, |_| {}).expect("10 bytes are there");
        assert_eq!(id, 5);
        assert_eq!(cache.sweep(Duration::from_secs(60)).removed, 0);
        assert!(cache.find(5).is_some() && cache.find(6).is_none());
        assert!(cache.view(PRODUCTS, &cache.find(5).expect("it lives")).is_ok());
    }

    #[test]
    fn a_refused_page_leaves_the_cache_as_it_was() {
        let cache = SessionCache::new(None, 0.0, 1);
        assert_eq!(cache.open(usize::MAX, |_| {}).err(), Some(Refused(usize::MAX)));
        assert_eq!((cache.len(), cache.held_bytes()), (0, 0));
    }
}
