//! The customers of one store: an open load whose rate follows a short day, slow noise, bursts, and batch hours with
//! another mix of requests. They count what they got, which is what the store's failures are told by.

use std::f64::consts::TAU;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::http::Client;
use crate::random::Random;
use crate::record::instance::spawn_thread;

const CLIENTS: u64 = 6;
const WAITING_MAX: usize = 24;
const TIMEOUT: Duration = Duration::from_secs(2);
const REQUESTS_PER_CONNECTION: u32 = 40;
const NOISE_STEP_S: f64 = 5.0;

/// What the customers of a store share.
#[derive(Debug)]
pub struct Customers {
    target: SocketAddr,
    rate: f64,
    day_s: f64,
    phase: f64,
    good: AtomicU64,
    failed: AtomicU64,
    /// Whether twice as many come.
    pub burst: AtomicBool,
    /// Whether it is the batch hour.
    pub batch: AtomicBool,
    /// Whether none come, because the store is being deployed and its balancer knows.
    pub away: AtomicBool,
}

impl Customers {
    /// Lets them come, for as long as this process lives.
    ///
    /// # Errors
    /// Where a thread cannot be had.
    pub fn start(target: SocketAddr, seed: u64, rate: f64, day_s: f64) -> Result<Arc<Self>> {
        let mut random = Random::new(seed);
        let all = Arc::new(Self {
            target,
            rate,
            day_s,
            phase: random.unit() * TAU,
            good: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            burst: AtomicBool::new(false),
            batch: AtomicBool::new(false),
            away: AtomicBool::new(false),
        });
        let (arrivals, queue) = sync_channel(WAITING_MAX);
        let queue = Arc::new(Mutex::new(queue));
        for n in 0..CLIENTS {
            let (all, queue) = (Arc::clone(&all), Arc::clone(&queue));
            let random = Random::new(seed.wrapping_mul(1_000) + n);
            spawn_thread(move || all.visit(&queue, random))?;
        }
        let arriving = Arc::clone(&all);
        spawn_thread(move || arriving.arrive(&arrivals, random))?;
        Ok(all)
    }

    /// Requests that went well and that failed, since the last call.
    pub fn take(&self) -> (u64, u64) {
        (
            self.good.swap(0, Ordering::Relaxed),
            self.failed.swap(0, Ordering::Relaxed),
        )
    }

    /// The arrival process: exponential gaps at the rate of the moment.
    fn arrive(&self, arrivals: &SyncSender<()>, mut random: Random) {
        let (mut noise, mut noise_until_s, mut next_s) = (0.0, 0.0, 0.0);
        let start = Instant::now();
        loop {
            if next_s >= noise_until_s {
                // First-order autoregression, memory about a minute, standard deviation near 0.16.
                noise = 0.92 * noise + 0.065 * random.normal();
                noise_until_s = next_s + NOISE_STEP_S;
            }
            next_s += random.exponential() / self.rate_at(next_s, noise);
            let wait_s = next_s - start.elapsed().as_secs_f64();
            if wait_s > 0.0 {
                std::thread::sleep(Duration::from_secs_f64(wait_s));
            }
            if !self.away.load(Ordering::Relaxed) && arrivals.try_send(()).is_err() {
                self.failed.fetch_add(1, Ordering::Relaxed); // nobody waits behind so many others
            }
        }
    }

    fn rate_at(&self, t_s: f64, noise: f64) -> f64 {
        let wave = 1.0 + 0.4 * (t_s / self.day_s * TAU + self.phase).sin();
        let burst = if self.burst.load(Ordering::Relaxed) { 2.0 } else { 1.0 };
        (self.rate * wave * burst * noise.exp()).max(0.5)
    }

    fn visit(&self, queue: &Mutex<Receiver<()>>, mut random: Random) {
        let mut connection: Option<Client> = None;
        let mut requests_left = 0;
        loop {
            let arrival = queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv_timeout(Duration::from_secs(4));
            match arrival {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => {
                    connection = None; // an idle browser hangs up
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if requests_left == 0 {
                connection = None;
                requests_left = REQUESTS_PER_CONNECTION;
            }
            requests_left -= 1;
            let (method, path) = pick(self.batch.load(Ordering::Relaxed), &mut random);
            let ask = |mut client: Client| {
                let response = client.request(method, &path)?;
                Ok((client, response))
            };
            let anew = || Client::connect(self.target, TIMEOUT).and_then(ask);
            let answer = match connection.take().map(ask) {
                // As browsers do: a kept connection that the store has closed meanwhile says nothing about the store.
                Some(Err(error)) if is_closed(&error) => anew(),
                Some(answer) => answer,
                None => anew(),
            };
            let good = answer.as_ref().is_ok_and(|(_, response)| response.status < 500);
            let counter = if good { &self.good } else { &self.failed };
            counter.fetch_add(1, Ordering::Relaxed);
            connection = answer
                .ok()
                .and_then(|(client, response)| (!response.close).then_some(client));
        }
    }
}

/// Whether the other side has closed the connection.
fn is_closed(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}

/// A request of a customer, or of the back office in the batch hours.
fn pick(batch: bool, random: &mut Random) -> (&'static str, String) {
    let product = random.below(200);
    let choice = random.unit();
    match (batch, choice) {
        (false, ..0.62) | (true, ..0.2) => ("GET", format!("/product/{product}")),
        (false, ..0.84) => ("POST", format!("/cart/{product}")),
        (true, ..0.7) => ("GET", format!("/export/{product}")),
        _ => ("POST", format!("/checkout/{product}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customers_mostly_look_and_the_back_office_exports() {
        let mut random = Random::new(3);
        for (batch, looks, exports) in [(false, 570..670, 0..1), (true, 180..230, 460..540)] {
            let paths: Vec<String> = (0..1_000).map(|_| pick(batch, &mut random).1).collect();
            let count = |what: &str| paths.iter().filter(|p| p.starts_with(what)).count();
            assert!(looks.contains(&count("/product")), "{}", count("/product"));
            assert!(exports.contains(&count("/export")), "{}", count("/export"));
        }
    }
}
