//! Customers of one shop: Poisson arrivals whose rate follows a short "day", slow noise and one burst.
//!
//! The load is open: customers come whether or not the shop keeps up, as real ones do. At most eight are served at once
//! and sixty-four wait; more than that walk away.

use std::collections::VecDeque;
use std::f64::consts::TAU;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;

use crate::http::Client;
use crate::random::Random;
use crate::shop::PRODUCTS;

const CLIENTS: u64 = 8;
const WAITING_MAX: usize = 64;
/// Requests on one connection before it is opened anew, as browsers come and go.
const REQUESTS_PER_CONNECTION: u32 = 50;
/// Customers that are in the shop at the same time; older ones have left.
const CUSTOMERS_MAX: usize = 400;
const NOISE_STEP_S: f64 = 5.0;

/// What the load is like.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Address of the shop
    #[arg(long)]
    target: SocketAddr,
    /// Seed of arrivals and customers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Mean requests a second
    #[arg(long, default_value_t = 40.0)]
    rate: f64,
    /// Length of the compressed day in seconds
    #[arg(long, default_value_t = 900.0)]
    day_s: f64,
    /// When the burst begins, in seconds from the start
    #[arg(long, default_value_t = f64::INFINITY)]
    burst_after_s: f64,
    /// How long the burst lasts in seconds
    #[arg(long, default_value_t = 60.0)]
    burst_for_s: f64,
    /// By what the burst multiplies the rate
    #[arg(long, default_value_t = 2.2)]
    burst_factor: f64,
    /// End when standard input closes
    #[arg(long)]
    die_with_parent: bool,
}

/// Sends requests until the process is ended.
///
/// # Errors
/// Where a client thread cannot be started.
pub fn run(options: &Options) -> Result<()> {
    if options.die_with_parent {
        crate::exit_when_stdin_closes().context("cannot watch standard input")?;
    }
    let (arrivals, queue) = sync_channel(WAITING_MAX);
    let queue = Arc::new(Mutex::new(queue));
    let customers = Arc::new(Mutex::new(Customers::default()));
    for n in 0..CLIENTS {
        let (queue, customers) = (Arc::clone(&queue), Arc::clone(&customers));
        let (target, random) = (options.target, Random::new(options.seed.wrapping_mul(1_000) + n));
        std::thread::Builder::new()
            .name(format!("client-{n}"))
            .spawn(move || serve_arrivals(target, &queue, &customers, random))
            .context("cannot start a client")?;
    }
    arrive(options, &arrivals);
    Ok(())
}

/// The arrival process: exponential gaps at the rate of the moment.
fn arrive(options: &Options, arrivals: &SyncSender<()>) {
    let mut random = Random::new(options.seed);
    let mut noise = 0.0;
    let mut noise_until_s = 0.0;
    let start = Instant::now();
    let mut next_s = 0.0;
    loop {
        if next_s >= noise_until_s {
            // First-order autoregression, memory about a minute, standard deviation near 0.16.
            noise = 0.92 * noise + 0.065 * random.normal();
            noise_until_s = next_s + NOISE_STEP_S;
        }
        next_s += random.exponential() / rate_at(options, next_s, noise);
        let wait_s = next_s - start.elapsed().as_secs_f64();
        if wait_s > 0.0 {
            std::thread::sleep(Duration::from_secs_f64(wait_s));
        }
        // A full queue is a customer who walks away.
        let _ = arrivals.try_send(());
    }
}

/// Requests a second at `t_s` seconds: a day with a lesser wave inside it, times log-normal noise, times the burst.
fn rate_at(options: &Options, t_s: f64, noise: f64) -> f64 {
    let day = t_s / options.day_s * TAU;
    let wave = 1.0 + 0.38 * (day - 1.2).sin() + 0.12 * (2.7 * day + 0.4).sin();
    let in_burst = (options.burst_after_s..options.burst_after_s + options.burst_for_s).contains(&t_s);
    let burst = if in_burst { options.burst_factor } else { 1.0 };
    (options.rate * wave * burst * noise.exp()).max(0.5)
}

/// Sessions of the customers who are in the shop.
#[derive(Debug, Default)]
struct Customers(VecDeque<u64>);

impl Customers {
    fn enter(&mut self, session: u64) {
        if self.0.len() >= CUSTOMERS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(session);
    }

    fn any(&self, random: &mut Random) -> Option<u64> {
        self.0
            .get(usize::try_from(random.below(self.0.len() as u64)).unwrap_or(0))
            .copied()
    }

    fn leave(&mut self, session: u64) {
        self.0.retain(|s| *s != session);
    }
}

fn serve_arrivals(target: SocketAddr, queue: &Mutex<Receiver<()>>, customers: &Mutex<Customers>, mut random: Random) {
    let mut connection = None;
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
        }
        let client = match connection.take() {
            Some(client) => Ok(client),
            None => {
                requests_left = REQUESTS_PER_CONNECTION;
                Client::connect(target, Duration::from_secs(5))
            }
        };
        requests_left -= 1;
        connection = client
            .ok()
            .and_then(|mut client| visit(&mut client, customers, &mut random).then_some(client));
        if connection.is_none() && requests_left > 0 {
            requests_left = 0;
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// One request of one customer; false where the connection is of no more use.
fn visit(client: &mut Client, customers: &Mutex<Customers>, random: &mut Random) -> bool {
    let session = customers.lock().unwrap_or_else(PoisonError::into_inner).any(random);
    let product = random.below(PRODUCTS as u64);
    let choice = random.unit();
    let (method, path) = match session {
        Some(s) if choice < 0.66 => ("GET", format!("/product/{product}?session={s}")),
        Some(s) if choice < 0.80 => ("POST", format!("/cart/{product}?session={s}")),
        Some(s) if choice < 0.84 => ("POST", format!("/checkout?session={s}")),
        _ => ("POST", "/login".to_owned()),
    };
    let Ok(response) = client.request(method, &path) else {
        return false;
    };
    let mut customers = customers.lock().unwrap_or_else(PoisonError::into_inner);
    match (response.status, session) {
        (200, _) if path == "/login" => {
            if let Ok(id) = String::from_utf8_lossy(&response.body).parse() {
                customers.enter(id);
            }
        }
        (401, Some(id)) => customers.leave(id),
        _ => {}
    }
    !response.close
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            target: SocketAddr::from(([127, 0, 0, 1], 1)),
            seed: 1,
            rate: 40.0,
            day_s: 900.0,
            burst_after_s: 100.0,
            burst_for_s: 10.0,
            burst_factor: 2.0,
            die_with_parent: false,
        }
    }

    #[test]
    fn the_rate_has_waves_and_one_burst_and_never_stops() {
        let options = options();
        let day: Vec<f64> = (200..1100).map(|t| rate_at(&options, f64::from(t), 0.0)).collect();
        let mean = day.iter().sum::<f64>() / 900.0;
        assert!((mean - 40.0).abs() < 2.0, "{mean}");
        assert!(day.iter().all(|r| (15.0..65.0).contains(r)));
        let ratio = rate_at(&options, 105.0, 0.0) / rate_at(&options, 111.0, 0.0);
        assert!((ratio - 2.0).abs() < 0.1, "{ratio}");
        assert!(rate_at(&options, 0.0, -1e9) >= 0.5);
    }

    #[test]
    fn customers_are_bounded_and_leave() {
        let mut customers = Customers::default();
        let mut random = Random::new(1);
        assert_eq!(customers.any(&mut random), None);
        (0..1_000).for_each(|s| customers.enter(s));
        assert_eq!(customers.0.len(), CUSTOMERS_MAX);
        customers.leave(999);
        assert!(customers.0.iter().all(|s| (600..999).contains(s)));
    }
}
