//! `/livez`, `/readyz` and `/metrics` over HTTP/1.1, on a thread of its own so that a busy pipeline does not silence it.
//!
//! Bounded: at most [`CONNECTIONS_MAX`] connections at a time, each closed after [`CONNECTION_LIFE`] whatever it does, and
//! headers of at most a few hundred kilobytes (hyper's own limit); bodies are never read. Without a password on purpose:
//! it listens on this machine alone unless told otherwise, and tells numbers, never data.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Sleep;

use crate::vitals::Vitals;

/// More wait in the system's queue.
const CONNECTIONS_MAX: usize = 64;
/// Long enough for a scrape over a bad line, short enough that idle and trickling connections can't starve a probe.
const CONNECTION_LIFE: Duration = Duration::from_secs(10);
/// For answers that are on their way when the service stops.
const SHUTDOWN: Duration = Duration::from_secs(2);

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
        let bounded = Bounded {
            socket,
            free: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        };
        let thread = std::thread::Builder::new().name("http".into()).spawn(move || {
            runtime.block_on(async {
                // Either the word or the end of the sender means stop.
                let asked = async {
                    let _ = stopped.await;
                };
                if let Err(error) = axum::serve(bounded, router).with_graceful_shutdown(asked).await {
                    tracing::error!(%error, "the HTTP server ended");
                }
            });
            runtime.shutdown_timeout(SHUTDOWN);
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

/// A listener that lets in so many at a time.
struct Bounded {
    socket: TcpListener,
    free: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let Ok(permit) = self.free.clone().acquire_owned().await else {
                // It is never closed; if it were, nobody could be let in any more.
                std::future::pending::<()>().await;
                continue;
            };
            let (stream, from) = Listener::accept(&mut self.socket).await;
            let connection = Connection {
                stream,
                end: Box::pin(tokio::time::sleep(CONNECTION_LIFE)),
                _permit: permit,
            };
            return (connection, from);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// A connection that reads as ended when its life is over: an answer on its way is finished, nothing new begins.
struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buf) {
            return Poll::Ready(read);
        }
        ready!(self.end.as_mut().poll(cx));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(cx, bytes) {
            return Poll::Ready(written);
        }
        // A reader that does not read.
        ready!(self.end.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
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

    #[test]
    fn hostile_requests_are_refused() {
        let (server, _) = server();
        let headers = (0..200).map(|i| format!("x{i}: y\r\n")).collect::<String>();
        let cases = [
            ("not http", "\u{16}\u{3}\u{1}\r\n\r\n".to_owned()),
            ("too many headers", format!("GET /livez HTTP/1.1\r\n{headers}\r\n")),
            (
                "too large a header",
                format!("GET /livez HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(2 << 20)),
            ),
        ];
        for (name, request) in cases {
            let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
            // The server may hang up before all is written.
            let _ = stream.write_all(request.as_bytes());
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            assert!(!answer.starts_with(b"HTTP/1.1 2"), "{name}");
        }
        assert!(ask(server.address(), "/livez").starts_with("HTTP/1.1 200"));
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
