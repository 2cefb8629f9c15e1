//! A web shop with what real ones hang on: a database behind a connection pool, a payment provider, a queue with
//! workers, a cache, a journal on a small volume. It can be told to have one of the [faults](crate::fault), and then
//! wears out something that the system really limits.
//!
//! Differs from the shop of `serve` in that its faults begin by a request to `/control`, while it runs; the recorder
//! sends it, as nothing but the recorder knows when.

mod cache;
mod handler;
mod limits;
mod pool;
mod queue;
mod stats;
mod wear;

use std::io::BufReader;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::http;
use crate::shop::log::{Level, Log};
use handler::Store;

/// A connection needs a thread, and threads are bounded.
const CONNECTIONS_MAX: u64 = 40;
/// Stack of each thread; SQLite's parser needs some.
const STACK_BYTES: usize = 256 << 10;
const IDLE_MAX: Duration = Duration::from_secs(6);
/// An accept that failed is told so often and no oftener.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// What the store is like.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Name of this instance, in its logs
    #[arg(long, default_value = "shop-1")]
    name: String,
    /// Address to listen on
    #[arg(long)]
    listen: SocketAddr,
    /// Address of the payment provider
    #[arg(long)]
    payment: String,
    /// Folder of database and journal, best a small volume of its own
    #[arg(long)]
    folder: PathBuf,
    /// Seed of what is left to chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// End when standard input closes
    #[arg(long)]
    die_with_parent: bool,
}

/// Serves until the process ends.
///
/// # Errors
/// Where the configuration is bad, the address is taken, or a file or thread cannot be had.
pub fn serve(options: &Options) -> Result<()> {
    if options.die_with_parent {
        crate::exit_when_stdin_closes().context("cannot watch standard input")?;
    }
    let log = Arc::new(Log::new(&options.name));
    let Ok(payment) = options.payment.parse() else {
        let message = format_args!(
            "invalid configuration: payment.address: {:?}, giving up",
            options.payment
        );
        log.write(Level::Fatal, message);
        bail!("invalid configuration");
    };
    let store = Arc::new(Store::open(&options.folder, payment, options.seed, Arc::clone(&log))?);
    let listener = TcpListener::bind(options.listen).with_context(|| format!("cannot listen on {}", options.listen))?;
    log.write(
        Level::Info,
        format_args!(
            "shop {} started, listening on port {}",
            options.name,
            options.listen.port()
        ),
    );
    wear::start(&store)?;
    let mut told: Option<Instant> = None;
    for stream in listener.incoming() {
        let refused = match stream {
            Ok(stream) => accept(&store, stream),
            Err(error) => {
                std::thread::sleep(Duration::from_millis(20)); // or it would spin until a file is closed
                Some(format!("accept failed: {error}"))
            }
        };
        if let Some(why) = refused
            && told.is_none_or(|told| told.elapsed() > TELL_EVERY)
        {
            told = Some(Instant::now());
            log.write(Level::Error, format_args!("{why}"));
        }
    }
    Ok(())
}

/// Starts a thread of the usual stack.
fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name(name.into()).stack_size(STACK_BYTES);
    thread.spawn(run).map(drop)
}

/// Serves a connection; why not, where not.
fn accept(store: &Arc<Store>, stream: TcpStream) -> Option<String> {
    let open = store.stats.connections.fetch_add(1, Ordering::Relaxed);
    let refused = if open >= CONNECTIONS_MAX {
        Some(format!("connection refused: {open} connections are open"))
    } else {
        let served = Arc::clone(store);
        let connection = move || {
            // A broken connection is the client's affair.
            let _ = converse(&served, stream);
            served.stats.connections.fetch_sub(1, Ordering::Relaxed);
        };
        let spawned = spawn("connection", connection);
        spawned
            .err()
            .map(|error| format!("cannot start connection thread: {error}"))
    };
    if refused.is_some() {
        store.stats.connections.fetch_sub(1, Ordering::Relaxed);
    }
    refused
}

fn converse(store: &Arc<Store>, stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(IDLE_MAX))?;
    stream.set_write_timeout(Some(IDLE_MAX))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(2 << 10, stream);
    while let Some(request) = http::read_request(&mut reader)? {
        let began = Instant::now();
        let answer = store.answer(&request);
        store.note(&request, answer.status, began.elapsed());
        http::write_response(reader.get_mut(), answer.status, &answer.body, request.close)?;
        if request.close {
            break;
        }
    }
    Ok(())
}
