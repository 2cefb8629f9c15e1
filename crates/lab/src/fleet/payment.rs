//! The payment provider: a server that answers after a while, one for each store so that each can be slowed by itself.

use std::io::BufReader;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::http;
use crate::random::Random;

/// The provider of one store.
#[derive(Clone, Debug)]
pub struct Payment {
    /// Where it listens.
    pub address: SocketAddr,
    slow_ms: Arc<AtomicU64>,
}

impl Payment {
    /// Starts it; it lives as long as this process.
    ///
    /// # Errors
    /// Where no port or thread is to be had.
    pub fn start(seed: u64) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
        let address = listener.local_addr().context("listener has no address")?;
        let slow_ms = Arc::new(AtomicU64::new(0));
        let slow = Arc::clone(&slow_ms);
        let random = Arc::new(Mutex::new(Random::new(seed)));
        crate::record::instance::spawn_thread(move || {
            for stream in listener.incoming().flatten() {
                let (slow, random) = (Arc::clone(&slow), Arc::clone(&random));
                // A payment that no thread can be had for is one that the provider did not take.
                let _ = crate::record::instance::spawn_thread(move || {
                    let _ = answer(stream, &slow, &random);
                });
            }
        })?;
        Ok(Self { address, slow_ms })
    }

    /// Adds so many ms to each answer.
    pub fn slow_down(&self, ms: u64) {
        self.slow_ms.store(ms, Ordering::Relaxed);
    }
}

fn answer(stream: TcpStream, slow_ms: &AtomicU64, random: &Mutex<Random>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(stream);
    while http::read_request(&mut reader)?.is_some() {
        let (luck, wave) = {
            let mut random = random.lock().unwrap_or_else(PoisonError::into_inner);
            (random.unit(), (0.3 * random.normal()).exp())
        };
        let ms = 8.0 * wave + slow_ms.load(Ordering::Relaxed) as f64 * (0.85 + 0.15 * wave);
        std::thread::sleep(Duration::from_secs_f64(ms / 1_000.0));
        // Providers decline some and are now and then away.
        let status = if luck < 0.004 {
            503
        } else if luck < 0.03 {
            402
        } else {
            200
        };
        http::write_response(reader.get_mut(), status, b"", false)?;
    }
    Ok(())
}
