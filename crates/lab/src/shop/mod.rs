//! A small web shop: sessions in a cache, a catalogue with recommendations, orders in a journal.
//!
//! It fails when the session cache leaks and the process meets its limit of address space: allocations are refused, each
//! is tried again, an emergency sweep finds nothing to free, and after too many refusals the shop logs a fatal line and
//! aborts. Where an allocation that cannot be refused fails first, the runtime aborts it just the same.

mod cache;
mod handler;
mod journal;
pub mod log;
pub mod stats;

use std::io::BufReader;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;

use crate::http;
use handler::Shop;
use log::Level;

/// Products in the catalogue.
pub const PRODUCTS: usize = 500;

/// A connection needs a thread, and threads are bounded.
const CONNECTIONS_MAX: u64 = 48;
/// Address space of a connection's thread.
const STACK_BYTES: usize = 128 << 10;
const IDLE_MAX: Duration = Duration::from_secs(6);

/// What the shop is like.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Name of this instance, in its logs
    #[arg(long, default_value = "shop-1")]
    name: String,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: std::net::SocketAddr,
    /// Folder of the order journal
    #[arg(long)]
    folder: PathBuf,
    /// Seed of page contents, of payments and of session numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds after which a session that was not seen expires
    #[arg(long, default_value_t = 120)]
    session_ttl_s: u64,
    /// Seconds between two cache sweeps
    #[arg(long, default_value_t = 30)]
    sweep_every_s: u64,
    /// Seconds after which the cache begins to leak; never where absent
    #[arg(long)]
    leak_after_s: Option<u64>,
    /// Share of the expired sessions that are never freed while the cache leaks
    #[arg(long, default_value_t = 1.0)]
    leak_rate: f64,
    /// End when standard input closes
    #[arg(long)]
    die_with_parent: bool,
}

/// Serves until the process ends.
///
/// # Errors
/// Where the address is taken, or the journal or a thread cannot be had.
pub fn serve(options: Options) -> Result<()> {
    if options.die_with_parent {
        crate::exit_when_stdin_closes().context("cannot watch standard input")?;
    }
    let shop = Arc::new(Shop::open(&options)?);
    let listener = TcpListener::bind(options.listen).with_context(|| format!("cannot listen on {}", options.listen))?;
    let address = listener.local_addr().context("listener has no address")?;
    shop.log.write(
        Level::Info,
        format_args!("shop {} started, listening on port {}", options.name, address.port()),
    );
    let keeper = Arc::clone(&shop);
    std::thread::Builder::new()
        .name("sweeper".into())
        .stack_size(STACK_BYTES)
        .spawn(move || sweep_forever(&keeper, &options))
        .context("cannot start the sweeper")?;
    for stream in listener.incoming().flatten() {
        accept(&shop, stream);
    }
    Ok(())
}

fn accept(shop: &Arc<Shop>, stream: TcpStream) {
    let open = shop.stats.connections.fetch_add(1, Ordering::Relaxed);
    let refused = if open >= CONNECTIONS_MAX {
        Some(format!("{open} connections are open"))
    } else {
        let shop = Arc::clone(shop);
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let connection = move || {
            // A broken connection is the client's affair.
            let _ = converse(&shop, stream);
            shop.stats.connections.fetch_sub(1, Ordering::Relaxed);
        };
        thread.spawn(connection).err().map(|error| error.to_string())
    };
    if let Some(why) = refused {
        shop.stats.connections.fetch_sub(1, Ordering::Relaxed);
        shop.log.write(Level::Error, format_args!("connection refused: {why}"));
    }
}

fn converse(shop: &Shop, stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(IDLE_MAX))?;
    stream.set_write_timeout(Some(IDLE_MAX))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(2 << 10, stream);
    while let Some(request) = http::read_request(&mut reader)? {
        let began = Instant::now();
        let answer = shop.answer(&request);
        let sent = http::write_response(reader.get_mut(), answer.status, &answer.body, request.close);
        shop.note(&request, answer.status, began.elapsed());
        sent?;
        if request.close {
            break;
        }
    }
    Ok(())
}

fn sweep_forever(shop: &Shop, options: &Options) {
    let every = Duration::from_secs(options.sweep_every_s.max(1));
    for round in 1u64.. {
        std::thread::sleep(every);
        shop.sweep(Duration::from_secs(options.session_ttl_s));
        if round % 10 == 0 {
            shop.refresh_catalogue();
        }
    }
}
