//! What the shop does with a request.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::cache::{Refused, Session, SessionCache};
use super::journal::{Journal, Order};
use super::log::{Level, Log};
use super::stats::{Stats, count};
use super::{Options, PRODUCTS};
use crate::http::Request;
use crate::random::Random;

/// One request in so many is logged.
const SAMPLED: u64 = 25;
const SLOW: Duration = Duration::from_millis(250);
/// Attempts after the first, for memory and for the journal.
const RETRIES: u32 = 3;
const RETRY_WAIT: Duration = Duration::from_millis(40);
/// Refused allocations, less granted sessions, after which the shop gives up.
const REFUSED_MAX: u64 = 400;
const EMERGENCY_EVERY_MS: u64 = 10_000;
const EMERGENCY_TTL: Duration = Duration::from_secs(60);
/// Expired sessions still referenced that are worth a line; a few are always in the hands of a running request.
const KEPT_WORTH_A_LINE: usize = 100;

/// The answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            body: body.into(),
        }
    }
}

/// One instance of the shop.
#[derive(Debug)]
pub struct Shop {
    /// Its log.
    pub log: Arc<Log>,
    /// Its counters.
    pub stats: Stats,
    cache: SessionCache,
    catalogue: RwLock<Vec<[f32; 8]>>,
    journal: Journal,
    random: Mutex<Random>,
    start: Instant,
    orders: AtomicU64,
    /// A leaky bucket: up by one with each refused allocation, down by one with each session that was granted.
    refused: AtomicU64,
    emergency_ms: AtomicU64,
}

impl Shop {
    /// Opens the journal and fills the catalogue.
    ///
    /// # Errors
    /// Where the journal cannot be had.
    pub fn open(options: &Options) -> Result<Self> {
        let log = Arc::new(Log::new(&options.name));
        let mut random = Random::new(options.seed);
        let first_id = 1_000_000 + random.below(8_000_000);
        let leak_after = options.leak_after_s.map(Duration::from_secs);
        let shop = Self {
            stats: Stats::default(),
            cache: SessionCache::new(leak_after, options.leak_rate, first_id),
            catalogue: RwLock::default(),
            journal: Journal::start(&options.folder, Arc::clone(&log))?,
            orders: AtomicU64::new(10_000 + random.below(40_000)),
            random: Mutex::new(random),
            start: Instant::now(),
            refused: AtomicU64::new(0),
            emergency_ms: AtomicU64::new(0),
            log,
        };
        shop.refresh_catalogue();
        Ok(shop)
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Draws the products anew and logs it.
    pub fn refresh_catalogue(&self) {
        let began = Instant::now();
        #[allow(clippy::cast_possible_truncation)] // taste needs no double precision
        let products = self.draw(|r| {
            (0..PRODUCTS)
                .map(|_| std::array::from_fn(|_| r.normal() as f32))
                .collect()
        });
        *self.catalogue.write().unwrap_or_else(PoisonError::into_inner) = products;
        let took_us = began.elapsed().as_micros();
        self.log.write(
            Level::Info,
            format_args!("catalogue refreshed, {PRODUCTS} products in {took_us} us"),
        );
    }

    /// Frees expired sessions and logs it.
    pub fn sweep(&self, ttl: Duration) {
        let began = Instant::now();
        let swept = self.cache.sweep(ttl);
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.stats.sweep_us.store(took_us, Ordering::Relaxed);
        let (removed, before, kept) = (swept.removed, swept.before, swept.kept);
        self.log.write(
            Level::Info,
            format_args!("cache sweep removed {removed} of {before} sessions in {took_us} us"),
        );
        if kept > KEPT_WORTH_A_LINE {
            let message = format_args!("cache sweep left {kept} expired sessions in memory, still referenced");
            self.log.write(Level::Warn, message);
        }
    }

    /// Counts an answered request; logs it where it is sampled or slow.
    pub fn note(&self, request: &Request, status: u16, took: Duration) {
        let path = request.path.split('?').next().unwrap_or_default();
        if path == "/stats" || path == "/health" {
            return;
        }
        self.stats.answered(status, took);
        let (method, took_us) = (&request.method, took.as_micros());
        if took > SLOW {
            let took_ms = took.as_millis();
            self.log.write(
                Level::Warn,
                format_args!("slow request {method} {path} took {took_ms} ms, status {status}"),
            );
        } else if self.draw(|r| r.below(SAMPLED)) == 0 {
            self.log
                .write(Level::Info, format_args!("{method} {path} {status} {took_us} us"));
        }
    }

    /// Answers a request.
    pub fn answer(&self, request: &Request) -> Answer {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let session = query.strip_prefix("session=").and_then(|s| s.parse().ok());
        match (request.method.as_str(), path) {
            ("GET", "/stats") => self.answer_stats(),
            ("GET", "/health") => Answer::new(200, format!("{} sessions", self.cache.len())),
            ("POST", "/login") => self.with_memory(|| self.log_in()),
            ("POST", "/checkout") => self.with_session(session, |s| Ok(self.check_out(s))),
            ("GET", path) => match path.strip_prefix("/product/").and_then(|p| p.parse().ok()) {
                Some(product) => self.with_session(session, |s| self.show(product, s)),
                None => Answer::new(404, "no such page"),
            },
            ("POST", path) if path.starts_with("/cart/") => self.with_session(session, |s| {
                s.cart.fetch_add(1, Ordering::Relaxed);
                Ok(Answer::new(200, "in your cart"))
            }),
            _ => Answer::new(404, "no such page"),
        }
    }

    fn answer_stats(&self) -> Answer {
        let snapshot = self.stats.snapshot(self.cache.len(), self.cache.held_bytes());
        serde_json::to_vec(&snapshot).map_or_else(|e| Answer::new(503, e.to_string()), |json| Answer::new(200, json))
    }

    fn with_session(&self, id: Option<u64>, act: impl Fn(&Arc<Session>) -> Result<Answer, Refused>) -> Answer {
        let Some(session) = id.and_then(|id| self.cache.find(id)) else {
            count(&self.stats.cache_misses);
            return Answer::new(401, "please log in");
        };
        count(&self.stats.cache_hits);
        self.with_memory(|| act(&session))
    }

    /// Runs `act`, again after a pause where memory is refused, and gives up on the request, later on the process.
    fn with_memory(&self, act: impl Fn() -> Result<Answer, Refused>) -> Answer {
        let mut wait = RETRY_WAIT;
        let mut attempt = 0;
        loop {
            let Refused(bytes) = match act() {
                Ok(answer) => return answer,
                Err(refused) => refused,
            };
            let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
            self.relieve();
            if refused > REFUSED_MAX {
                let message = format_args!("out of memory: {refused} allocations refused, aborting");
                self.log.write(Level::Fatal, message);
                std::process::abort();
            }
            attempt += 1;
            if attempt > RETRIES {
                self.log.write(
                    Level::Error,
                    format_args!("allocation of {bytes} bytes refused, giving up on request"),
                );
                return Answer::new(503, "no memory");
            }
            count(&self.stats.retries);
            let message = format_args!("allocation of {bytes} bytes refused, retry {attempt} of {RETRIES}");
            self.log.write(Level::Warn, message);
            std::thread::sleep(wait);
            wait *= 2;
        }
    }

    /// Sweeps harder than usual, at most every ten seconds.
    fn relieve(&self) {
        let now_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last_ms = self.emergency_ms.load(Ordering::Relaxed);
        let due = last_ms == 0 || now_ms.saturating_sub(last_ms) > EMERGENCY_EVERY_MS;
        let order = Ordering::Relaxed;
        if due
            && self
                .emergency_ms
                .compare_exchange(last_ms, now_ms, order, order)
                .is_ok()
        {
            let swept = self.cache.sweep(EMERGENCY_TTL);
            let (removed, kept) = (swept.removed, swept.kept);
            let message = format_args!("emergency sweep removed {removed} sessions, {kept} of them still in memory");
            self.log.write(Level::Error, message);
        }
    }

    fn log_in(&self) -> Result<Answer, Refused> {
        let (page_bytes, taste) = self.draw(|r| (8_192 + r.below(16_384), r.bits()));
        let page_bytes = usize::try_from(page_bytes).unwrap_or(8_192);
        let (id, _) = self.cache.open(page_bytes, |page| {
            let best = self.recommend(taste);
            // The page is rendered until it is full, so that its memory is really used.
            for product in best.iter().cycle() {
                let row = format!("<li>product {product}</li>\n");
                if page.len() + row.len() > page_bytes {
                    break;
                }
                page.extend_from_slice(row.as_bytes());
            }
        })?;
        let order = Ordering::Relaxed;
        // Where the bucket is empty already it stays so.
        let _ = self.refused.fetch_update(order, order, |n| n.checked_sub(1));
        Ok(Answer::new(200, id.to_string()))
    }

    /// The forty products nearest to a taste: the real work of a request.
    fn recommend(&self, taste: u64) -> Vec<usize> {
        let mut random = Random::new(taste);
        #[allow(clippy::cast_possible_truncation)] // taste needs no double precision
        let taste: [f32; 8] = std::array::from_fn(|_| random.normal() as f32);
        let catalogue = self.catalogue.read().unwrap_or_else(PoisonError::into_inner);
        let dot = |product: &[f32; 8]| product.iter().zip(&taste).map(|(a, b)| a * b).sum::<f32>();
        let mut ranked: Vec<(f32, usize)> = catalogue.iter().enumerate().map(|(n, p)| (dot(p), n)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
        ranked.into_iter().take(40).map(|(_, n)| n).collect()
    }

    fn show(&self, product: usize, session: &Arc<Session>) -> Result<Answer, Refused> {
        self.cache.view(product, session)?;
        let mut body = String::new();
        body.try_reserve(6 << 10).map_err(|_| Refused(6 << 10))?;
        for other in self.recommend(product as u64) {
            let _ = writeln!(body, "<li>customers also liked product {other}</li>"); // a String takes everything
        }
        let page = session.page();
        let mut body = body.into_bytes();
        body.extend_from_slice(page.get(..2_048).unwrap_or(page));
        Ok(Answer::new(200, body))
    }

    fn check_out(&self, session: &Session) -> Answer {
        let items = session.cart.swap(0, Ordering::Relaxed);
        if items == 0 {
            return Answer::new(200, "your cart is empty");
        }
        let number = self.orders.fetch_add(1, Ordering::Relaxed);
        let (cents, luck) = self.draw(|r| (items * (499 + r.below(9_000)), r.unit()));
        // The payment provider is a stub that declines some and is now and then away, as providers do.
        if luck < 0.004 {
            self.log.write(
                Level::Error,
                format_args!("payment provider timed out for order {number}"),
            );
            return Answer::new(504, "payment timed out");
        }
        if luck < 0.03 {
            self.log
                .write(Level::Warn, format_args!("payment declined for order {number}"));
            return Answer::new(402, "payment declined");
        }
        let mut order = Order { number, items, cents };
        let mut wait = RETRY_WAIT;
        for attempt in 1..=RETRIES + 1 {
            match self.journal.append(order) {
                Ok(()) => {
                    count(&self.stats.orders);
                    let (euros, cents) = (cents / 100, cents % 100);
                    let message = format_args!("order {number} placed, {items} items, {euros}.{cents:02} EUR");
                    self.log.write(Level::Info, message);
                    return Answer::new(200, number.to_string());
                }
                Err(refused) => order = refused,
            }
            if attempt <= RETRIES {
                count(&self.stats.retries);
                let message = format_args!("journal busy, retry {attempt} of {RETRIES} for order {number}");
                self.log.write(Level::Warn, message);
                std::thread::sleep(wait);
                wait *= 2;
            }
        }
        self.log
            .write(Level::Error, format_args!("order {number} lost, journal still busy"));
        Answer::new(503, "journal busy")
    }
}
