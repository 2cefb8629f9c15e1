//! `/livez`, `/readyz` and `/metrics` over HTTP/1.1, on a thread of its own so that a busy pipeline does not silence it.
//!
//! Bounded: at most [`CONNECTIONS_MAX`] connections at a time, each closed after [`CONNECTION_LIFE`] whatever it does, a request's
//! head of at most [`HEAD_BYTES_MAX`] bytes that is there within [`HEAD_TIME`]; bodies are never read. Without a password on
//! purpose: it listens on this machine alone unless told otherwise, and tells numbers and names of topics, never data.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use crate::vitals::Vitals;

/// More wait in the system's queue.
const CONNECTIONS_MAX: usize = 64;
/// Long enough for a scrape over a bad line, short enough that idle and trickling connections can't starve a probe.
const CONNECTION_LIFE: Duration = Duration::from_secs(10);
/// A head of request that is not whole by then never will be.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Of request line and headers together: a browser with all its cookies sends less.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// For answers that are on their way when the service stops.
const SHUTDOWN: Duration = Duration::from_secs(2);
/// After the system gave no connection, for want of file handles.
const RESPITE: Duration = Duration::from_millis(200);

/// A running server; dropped, it stops.
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The three pages.
pub fn router(vitals: Arc<Vitals>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(vitals)
}

async fn livez(State(vitals): State<Arc<Vitals>>) -> impl IntoResponse {
    verdict(vitals.is_alive(), "alive\n", "a worker's loop hangs\n")
}

async fn readyz(State(vitals): State<Arc<Vitals>>) -> impl IntoResponse {
    verdict(
        vitals.is_ready(),
        "ready\n",
        "partitions are not assigned or not restored yet\n",
    )
}

fn verdict(good: bool, yes: &'static str, no: &'static str) -> (StatusCode, &'static str) {
    if good {
        (StatusCode::OK, yes)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, no)
    }
}

async fn metrics(State(vitals): State<Arc<Vitals>>) -> impl IntoResponse {
    let kind = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    ([kind], vitals.prometheus())
}

impl Server {
    /// Listens and serves until dropped. Port 0 takes any that is free.
    ///
    /// # Errors
    /// When the address can't be taken.
    pub fn start(listen: SocketAddr, router: Router) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let socket = runtime.block_on(TcpListener::bind(listen))?;
        let address = socket.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("http".into()).spawn(move || {
            runtime.block_on(async {
                let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
                tokio::select! {
                    () = accept(&socket, router, &free) => {}
                    // Either the word or the end of the sender means stop.
                    _ = stopped => {}
                }
                drop(socket);
                let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
                let _ = timeout(SHUTDOWN, free.acquire_many(all)).await;
            });
        })?;
        Ok(Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        // Connections end by themselves within their life; nobody waits for the slowest of them.
        drop(self.thread.take());
    }
}

/// Lets connections in, so many at a time, for ever.
async fn accept(socket: &TcpListener, router: Router, free: &Arc<Semaphore>) {
    // It is never closed: only then would there be no permit to be had.
    while let Ok(permit) = free.clone().acquire_owned().await {
        match socket.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    serve(stream, router).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no HTTP connection can be taken");
                sleep(RESPITE).await;
            }
        }
    }
}

/// Answers one connection until it ends or its life is over. What a client does wrong is its own affair.
async fn serve(stream: TcpStream, router: Router) {
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES_MAX);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let _ = timeout(CONNECTION_LIFE, connection).await;
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use foreshock_engine::{EpochReport, TopicId, TopicPartition};

    use super::*;

    fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn server() -> (Server, Arc<Vitals>) {
        let vitals = Arc::new(Vitals::new(1));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        (Server::start(any, router(vitals.clone())).unwrap(), vitals)
    }

    #[test]
    fn pages_over_a_socket() {
        let (server, vitals) = server();
        let at = server.address();
        assert!(ask(at, "/livez").starts_with("HTTP/1.1 200"));
        assert!(ask(at, "/readyz").starts_with("HTTP/1.1 503"));
        let of = TopicPartition {
            topic: TopicId::SIGNALS,
            partition: 0,
        };
        vitals.observe(0, EpochReport::Owned(vec![of]));
        vitals.observe(0, EpochReport::Restored(true));
        assert!(ask(at, "/readyz").starts_with("HTTP/1.1 200"));
        let metrics = ask(at, "/metrics");
        assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
        assert!(metrics.contains("\nforeshock_restored 1\n"), "{metrics}");
        assert!(ask(at, "/").starts_with("HTTP/1.1 404"));
        drop(server);
        let gone = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            std::net::TcpStream::connect(at).is_err()
        });
        assert!(gone, "nobody listens after the drop");
    }

    /// What comes back for these bytes, to the end of the connection.
    fn answer(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        // The server may hang up before all is written.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[test]
    fn hostile_requests_are_refused() {
        let (server, _) = server();
        let headers = (0..200).map(|i| format!("x{i}: y\r\n")).collect::<String>();
        let close = "Host: x\r\nConnection: close\r\n\r\n";
        let large = |bytes: usize| {
            format!(
                "GET /livez HTTP/1.1\r\nConnection: close\r\nx: {}\r\n\r\n",
                "y".repeat(bytes)
            )
        };
        let cases = [
            ("not http", "\u{16}\u{3}\u{1}\r\n\r\n".to_owned(), "400"),
            (
                "too many headers",
                format!("GET /livez HTTP/1.1\r\n{headers}\r\n"),
                "431",
            ),
            ("too large a header", large(2 << 20), "431"),
            ("just too large a header", large(HEAD_BYTES_MAX), "431"),
            ("a large one that fits", large(HEAD_BYTES_MAX / 2), "200"),
            (
                "too long a path",
                format!("GET /{} HTTP/1.1\r\n{close}", "a".repeat(HEAD_BYTES_MAX)),
                "4",
            ),
            (
                "unknown path",
                format!("GET /metrics/../etc/passwd HTTP/1.1\r\n{close}"),
                "404",
            ),
            ("unknown method", format!("BREW /metrics HTTP/1.1\r\n{close}"), "405"),
            (
                "a method that writes",
                format!("DELETE /metrics HTTP/1.1\r\n{close}"),
                "405",
            ),
            (
                "a body without end",
                "POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nabc".into(),
                "405",
            ),
            ("an old version", "GET /livez HTTP/1.0\r\n\r\n".into(), "200"),
        ];
        for (name, request, status) in cases {
            let answer = answer(server.address(), request.as_bytes());
            let found = answer.split(' ').nth(1).unwrap_or_default();
            // A client that is still writing when the server hangs up may lose the answer, never get another.
            let is_lost = found.is_empty() && status.starts_with('4') && request.len() > HEAD_BYTES_MAX;
            assert!(found.starts_with(status) || is_lost, "{name}: {answer}");
        }
        assert!(ask(server.address(), "/livez").starts_with("HTTP/1.1 200"));
    }

    /// A client that sends a byte at a time holds its connection for a few seconds and no longer, and a hundred of them keep nobody out.
    #[test]
    fn slow_clients_are_cut_off() {
        let (server, _) = server();
        let at = server.address();
        let began = std::time::Instant::now();
        let slow: Vec<_> = (0..100)
            .map(|_| {
                std::thread::spawn(move || {
                    let mut stream = std::net::TcpStream::connect(at).unwrap();
                    stream.write_all(b"GET /livez HTTP/1.1\r\nx: ").unwrap();
                    // Writing fails some time after the other side hung up, and reading ends at once.
                    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                    let mut byte = [0];
                    loop {
                        match stream.read(&mut byte) {
                            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                            Ok(0) | Err(_) => return began.elapsed(),
                            // The answer 408.
                            Ok(_) => {}
                        }
                        if stream.write_all(b"y").is_err() {
                            return began.elapsed();
                        }
                    }
                })
            })
            .collect();
        assert!(
            ask(at, "/livez").starts_with("HTTP/1.1 200"),
            "waits for their end and no longer"
        );
        let waited = began.elapsed();
        // Two rounds of connections, each of which is cut off in time.
        let longest = slow.into_iter().map(|t| t.join().unwrap()).max().unwrap();
        assert!(longest < 3 * CONNECTION_LIFE, "held for {longest:?}");
        assert!(waited < 2 * CONNECTION_LIFE, "answered after {waited:?}");
    }

    /// One that asks without end and never lets the line rest is cut off too.
    #[test]
    fn a_client_that_never_rests_is_cut_off() {
        let (server, _) = server();
        let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
        let mut reading = stream.try_clone().unwrap();
        // What came before the end counts, also where the end is a reset.
        let reader = std::thread::spawn(move || {
            let (mut read, mut some) = (0, [0; 4_096]);
            while let Ok(n @ 1..) = reading.read(&mut some) {
                read += n;
            }
            read
        });
        let began = std::time::Instant::now();
        let requests = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n".repeat(64);
        while stream.write_all(&requests).is_ok() {
            assert!(began.elapsed() < 3 * CONNECTION_LIFE, "it goes on for ever");
        }
        assert!(reader.join().unwrap() > 0, "it was answered before");
    }

    #[test]
    fn loopback_is_the_default() {
        let text = "[kafka]\nbrokers = \"b:9092\"\n[[source]]\ntopic = \"m\"\nformat = \"plain_json\"\n";
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("foreshock.toml");
        std::fs::write(&path, text).unwrap();
        let config = crate::config::Config::load(&path, crate::config::Secrets::Leave).unwrap();
        assert!(config.listen.ip().is_loopback(), "{}", config.listen);
    }

    #[test]
    fn idle_connections_do_not_starve_a_probe() {
        let (server, _) = server();
        let idle: Vec<_> = (0..CONNECTIONS_MAX + 10)
            .map(|_| std::net::TcpStream::connect(server.address()).unwrap())
            .collect();
        assert!(
            ask(server.address(), "/livez").starts_with("HTTP/1.1 200"),
            "waits for their end and no longer"
        );
        drop(idle);
    }
}
