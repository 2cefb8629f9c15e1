//! What the store does with a request.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rusqlite::{Connection, TransactionBehavior};

use super::cache::{Cache, Found};
use super::pool::{self, Pool};
use super::queue::Queue;
use super::stats::Stats;
use crate::fault::{Fault, Growing};
use crate::http::{Client, Request};
use crate::random::Random;
use crate::shop::log::{Level, Log};
use crate::shop::stats::count;

/// Products in the catalogue.
const PRODUCTS: u64 = 200;
/// One request in so many is logged.
const SAMPLED: u64 = 20;
const SLOW: Duration = Duration::from_millis(300);
const POOL_WAIT: Duration = Duration::from_millis(700);
const POOL_WAIT_WORTH_A_LINE: Duration = Duration::from_millis(50);
const PAYMENT_TIMEOUT: Duration = Duration::from_millis(1_500);
const PAYMENT_WORTH_A_LINE: Duration = Duration::from_millis(400);
/// Attempts to get a page whose checksum is right.
const CACHE_ATTEMPTS: u32 = 3;
/// The journal is a saw: a quarter of the volume, then nothing again.
const JOURNAL_BYTES_MAX: u64 = 1 << 20;
/// What is written down of an order.
const ORDER_BYTES: usize = 2 << 10;
/// Images are kept until there are so many; so a healthy store's memory is a saw too.
const IMAGES_MAX: usize = 120;
const IMAGE_BYTES: usize = 96 << 10;
/// One page view in so many brings a new image.
const VIEWS_PER_IMAGE: u64 = 5;
/// Orders that stay in the database.
const ORDERS_KEPT: i64 = 1_000;

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
        let body = body.into();
        Self { status, body }
    }
}

/// One instance.
#[derive(Debug)]
pub struct Store {
    /// Its log.
    pub log: Arc<Log>,
    /// Its counters.
    pub stats: Stats,
    /// Its database connections.
    pub pool: Pool,
    /// Its jobs.
    pub queue: Queue,
    /// Its rendered pages.
    pub cache: Cache,
    /// Where database, journal and traces lie.
    pub folder: PathBuf,
    payment: SocketAddr,
    journal: Mutex<File>,
    images: Mutex<Vec<Vec<u8>>>,
    random: Mutex<Random>,
    fault: Mutex<Option<Growing>>,
}

impl Store {
    /// Fills the database and opens the journal.
    ///
    /// # Errors
    /// Where either cannot be had.
    pub fn open(folder: &Path, payment: SocketAddr, seed: u64, log: Arc<Log>) -> Result<Self> {
        let path = folder.join("shop.db");
        let mut db = pool::open(&path)?;
        fill(&mut db).context("cannot fill the database")?;
        let journal = File::options()
            .create(true)
            .append(true)
            .open(folder.join("orders.journal"));
        Ok(Self {
            stats: Stats::default(),
            pool: Pool::open(&path)?,
            queue: Queue::default(),
            cache: Cache::default(),
            folder: folder.to_owned(),
            payment,
            journal: Mutex::new(journal.context("cannot open the journal")?),
            images: Mutex::default(),
            random: Mutex::new(Random::new(seed)),
            fault: Mutex::default(),
            log,
        })
    }

    /// Draws from the store's random numbers.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The fault that it has, if any.
    pub fn growing(&self) -> Option<Growing> {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How severe `fault` is now; 0 where the store does not have it.
    pub fn severity(&self, fault: Fault) -> f64 {
        self.growing()
            .filter(|g| g.fault == fault)
            .map_or(0.0, |g| g.severity())
    }

    /// Lets a fault begin.
    pub fn begin(&self, growing: Growing) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(growing);
    }

    /// Counts an answered request; logs it where it is sampled or slow.
    pub fn note(&self, request: &Request, status: u16, took: Duration) {
        let path = request.path.split('?').next().unwrap_or_default();
        if path == "/stats" || path == "/health" || path.starts_with("/control") {
            return;
        }
        count(&self.stats.requests);
        if status >= 500 {
            count(&self.stats.errors);
        }
        self.stats.latency.note(took);
        let (method, ms) = (&request.method, took.as_millis());
        if took > SLOW {
            let message = format_args!("slow request {method} {path} took {ms} ms, status {status}");
            self.log.write(Level::Warn, message);
        } else if self.draw(|r| r.below(SAMPLED)) == 0 {
            let us = took.as_micros();
            self.log
                .write(Level::Info, format_args!("{method} {path} {status} {us} us"));
        }
    }

    /// Answers a request.
    pub fn answer(self: &Arc<Self>, request: &Request) -> Answer {
        let path = request.path.split('?').next().unwrap_or_default();
        let number = path.rsplit('/').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) % PRODUCTS;
        let done = match path.split('/').nth(1).unwrap_or_default() {
            "stats" => Ok(self.snapshot()),
            "health" => self.check_health(),
            "control" => Ok(super::wear::control(self, path)),
            "product" => self.show(number).map(|page| {
                self.keep_image();
                let _ = self.queue.push(); // a view that is not counted is no harm
                Answer::new(200, page)
            }),
            "cart" => self.put_in_cart(number),
            "checkout" => self.check_out(number),
            "export" => self.export(number),
            _ => Ok(Answer::new(404, "no such page")),
        };
        done.unwrap_or_else(|failed| failed)
    }

    /// What a customer does, in short: a page, and an order that is paid and written down.
    fn check_health(&self) -> Result<Answer, Answer> {
        self.show(0)?;
        self.check_out(0)
    }

    /// The page of a product, from the cache where it is there and whole.
    fn show(&self, product: u64) -> Result<Vec<u8>, Answer> {
        for attempt in 1..=CACHE_ATTEMPTS {
            match self.cache.find(product) {
                Found::Page(page) => {
                    count(&self.stats.cache_hits);
                    return Ok(page);
                }
                Found::Nothing => count(&self.stats.cache_misses),
                Found::Corrupt => {
                    count(&self.stats.cache_corrupt);
                    let message = format_args!("checksum mismatch in cache entry product:{product}, dropped");
                    self.log.write(Level::Warn, message);
                }
            }
            if attempt > 1 {
                count(&self.stats.retries);
            }
            let page = self.render(product)?;
            let share = self.severity(Fault::CacheCorruption);
            let damaged = share > 0.0 && self.draw(Random::unit) < share;
            self.cache.store(product, page, damaged);
        }
        match self.cache.find(product) {
            Found::Page(page) => Ok(page),
            _ => {
                let message = format_args!(
                    "page of product {product} failed, no valid cache entry after {CACHE_ATTEMPTS} attempts"
                );
                self.log.write(Level::Error, message);
                Err(Answer::new(500, "cache broken"))
            }
        }
    }

    /// Now and then a view brings an image that is kept for the next.
    fn keep_image(&self) {
        if self.draw(|r| r.below(VIEWS_PER_IMAGE)) > 0 {
            return;
        }
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if images.len() >= IMAGES_MAX {
            images.clear();
            let message = format_args!("image cache cleared, {IMAGES_MAX} images dropped");
            self.log.write(Level::Info, message);
        }
        images.push(vec![1; IMAGE_BYTES]);
    }

    fn render(&self, product: u64) -> Result<Vec<u8>, Answer> {
        let (name, cents): (String, i64) = self.query("product", |db| {
            let mut select = db.prepare_cached("SELECT name, cents FROM products WHERE id = ?1")?;
            select.query_row([product], |row| Ok((row.get(0)?, row.get(1)?)))
        })?;
        let mut page = String::with_capacity(1 << 10);
        for n in 0..20 {
            let _ = writeln!(
                page,
                "<p>{name}, {cents} cents, see also {}</p>",
                (product * 7 + n) % PRODUCTS
            );
        }
        Ok(page.into_bytes())
    }

    /// Runs `act` on a connection of the pool; the answer to the customer where that fails.
    fn query<T>(&self, what: &str, act: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, Answer> {
        let began = Instant::now();
        let (done, waited) = self.pool.with(POOL_WAIT, act);
        self.stats.db_wait.note(began.elapsed());
        let waited_ms = waited.as_millis();
        match done {
            Some(Ok(value)) => {
                if waited > POOL_WAIT_WORTH_A_LINE {
                    let message = format_args!("waited {waited_ms} ms for a database connection, query {what}");
                    self.log.write(Level::Warn, message);
                }
                Ok(value)
            }
            Some(Err(error)) => {
                count(&self.stats.db_busy);
                self.log
                    .write(Level::Error, format_args!("query {what} failed: {error}"));
                Err(Answer::new(503, "database failed"))
            }
            None => {
                let message = format_args!("no database connection within {waited_ms} ms, query {what} given up");
                self.log.write(Level::Error, message);
                Err(Answer::new(503, "no connection"))
            }
        }
    }

    fn put_in_cart(&self, product: u64) -> Result<Answer, Answer> {
        self.query("cart", |db| {
            db.prepare_cached("UPDATE products SET carts = carts + 1 WHERE id = ?1")?
                .execute([product])
        })?;
        self.enqueue("cart")?;
        Ok(Answer::new(200, "in your cart"))
    }

    fn check_out(&self, product: u64) -> Result<Answer, Answer> {
        let paid = self.pay()?;
        if !paid {
            count(&self.stats.declined);
            self.log
                .write(Level::Warn, format_args!("payment declined for product {product}"));
            return Ok(Answer::new(402, "payment declined"));
        }
        let number = self.query("order", |db| {
            let order = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            order
                .prepare_cached("INSERT INTO orders (product) VALUES (?1)")?
                .execute([product])?;
            let number = order.last_insert_rowid();
            order
                .prepare_cached("DELETE FROM orders WHERE id <= ?1")?
                .execute([number - ORDERS_KEPT])?;
            order
                .prepare_cached("UPDATE products SET sold = sold + 1 WHERE id = ?1")?
                .execute([product])?;
            order.commit()?;
            Ok(number)
        })?;
        self.write_down(number, product)?;
        self.enqueue("order")?;
        count(&self.stats.orders);
        if number % 10 == 0 {
            self.log
                .write(Level::Info, format_args!("order {number} placed, product {product}"));
        }
        Ok(Answer::new(200, number.to_string()))
    }

    /// Whether the provider took the money.
    fn pay(&self) -> Result<bool, Answer> {
        let began = Instant::now();
        let answer = Client::connect(self.payment, PAYMENT_TIMEOUT).and_then(|mut c| c.request("POST", "/pay"));
        let took = began.elapsed();
        self.stats.dependency.note(took);
        let ms = took.as_millis();
        match answer {
            Ok(answer) if answer.status < 500 => {
                if took > PAYMENT_WORTH_A_LINE {
                    self.log
                        .write(Level::Warn, format_args!("payment provider took {ms} ms"));
                }
                Ok(answer.status == 200)
            }
            Ok(_) => {
                self.log
                    .write(Level::Error, format_args!("payment provider unavailable after {ms} ms"));
                Err(Answer::new(503, "payment provider away"))
            }
            Err(error) => {
                let message = format_args!("payment provider failed after {ms} ms: {error}");
                self.log.write(Level::Error, message);
                Err(Answer::new(504, "payment timed out"))
            }
        }
    }

    /// Appends an order to the journal, which is rotated so that it stays small.
    fn write_down(&self, number: i64, product: u64) -> Result<(), Answer> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let written = writeln!(journal, "{number} {product} {:>ORDER_BYTES$}", "paid");
        let bytes = journal.metadata().map_or(0, |m| m.len());
        self.stats.journal_bytes.store(bytes, Ordering::Relaxed);
        if bytes > JOURNAL_BYTES_MAX && journal.set_len(0).is_ok() {
            self.stats.journal_bytes.store(0, Ordering::Relaxed);
            self.log
                .write(Level::Info, format_args!("journal rotated at {bytes} bytes"));
        }
        drop(journal);
        written.map_err(|error| {
            self.log.write(
                Level::Error,
                format_args!("order {number} lost, journal write failed: {error}"),
            );
            Answer::new(500, "journal failed")
        })
    }

    fn enqueue(&self, what: &str) -> Result<(), Answer> {
        if self.queue.push() {
            return Ok(());
        }
        self.log
            .write(Level::Error, format_args!("job queue full, {what} rejected"));
        Err(Answer::new(503, "queue full"))
    }

    /// A list for the back office, which is what customers of the batch hours are.
    fn export(&self, from: u64) -> Result<Answer, Answer> {
        let rows: Vec<String> = self.query("export", |db| {
            let mut select =
                db.prepare_cached("SELECT id, name, sold, carts FROM products WHERE id >= ?1 ORDER BY sold")?;
            let rows = select.query_map([from], |row| {
                let (id, sold, carts): (i64, i64, i64) = (row.get(0)?, row.get(2)?, row.get(3)?);
                Ok(format!("{id};{};{sold};{carts}\n", row.get::<_, String>(1)?))
            })?;
            rows.collect()
        })?;
        Ok(Answer::new(200, rows.concat()))
    }

    fn snapshot(&self) -> Answer {
        let stats = &self.stats;
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let (queue_depth, oldest) = self.queue.depth();
        let volume = rustix::fs::statvfs(&self.folder).ok();
        let json = serde_json::json!({
            "requests_total": read(&stats.requests),
            "errors_total": read(&stats.errors),
            "retries_total": read(&stats.retries),
            "cache_hits_total": read(&stats.cache_hits),
            "cache_misses_total": read(&stats.cache_misses),
            "cache_corrupt_total": read(&stats.cache_corrupt),
            "cache_entries": self.cache.len(),
            "orders_total": read(&stats.orders),
            "payments_declined_total": read(&stats.declined),
            "jobs_total": read(&stats.jobs),
            "queue_depth": queue_depth,
            "queue_oldest_ms": oldest.as_millis(),
            "db_errors_total": read(&stats.db_busy),
            "db_pool_in_use": self.pool.in_use(),
            "db_wait_p50_ms": stats.db_wait.quantile_ms(500),
            "db_wait_p95_ms": stats.db_wait.quantile_ms(950),
            "payment_p50_ms": stats.dependency.quantile_ms(500),
            "payment_p95_ms": stats.dependency.quantile_ms(950),
            "connections": read(&stats.connections),
            "journal_bytes": read(&stats.journal_bytes),
            "volume_free_bytes": volume.map(|v| v.f_bavail * v.f_frsize),
            "latency_p50_ms": stats.latency.quantile_ms(500),
            "latency_p95_ms": stats.latency.quantile_ms(950),
        });
        Answer::new(200, json.to_string())
    }
}

fn fill(db: &mut Connection) -> rusqlite::Result<()> {
    db.execute_batch(
        "CREATE TABLE IF NOT EXISTS products (id INTEGER PRIMARY KEY, name TEXT, cents INTEGER, carts INTEGER, sold INTEGER);
         CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY AUTOINCREMENT, product INTEGER);",
    )?;
    let all = db.transaction()?;
    for id in 0..PRODUCTS {
        let values = rusqlite::params![id, format!("product {id}"), 499 + id * 37 % 9_000];
        all.execute("INSERT OR IGNORE INTO products VALUES (?1, ?2, ?3, 0, 0)", values)?;
    }
    all.commit()
}
