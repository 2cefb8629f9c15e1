//! The network between detectors and brokers: a TCP proxy that can cut connections, slow them, and hold everything back as a
//! cable that was pulled does.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How the network is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Nothing goes through, either way; connections stay, and what was sent arrives later.
    pub holds: bool,
    /// What each piece waits before it goes on.
    pub latency: Duration,
    /// Of each connection and direction.
    pub bytes_per_s: Option<u32>,
}

/// A proxy, closed when dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    ports: Vec<u16>,
}

#[derive(Default)]
struct Shared {
    weather: Mutex<Weather>,
    changed: Condvar,
    open: Mutex<BTreeMap<u64, [TcpStream; 2]>>,
    next: AtomicU64,
    closed: AtomicBool,
}

impl Proxy {
    /// Listens on the first port of each route and passes on to the second.
    ///
    /// # Panics
    /// Where a port is taken.
    pub fn start(routes: &[(u16, u16)]) -> Self {
        let shared = Arc::new(Shared::default());
        for (port, behind) in routes.iter().copied() {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the proxy's port");
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    if shared.closed.load(Ordering::Relaxed) {
                        return;
                    }
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || shared.join(&client, behind));
                }
            });
        }
        Self {
            shared,
            ports: routes.iter().map(|(port, _)| *port).collect(),
        }
    }

    /// `host:port` of each route.
    pub fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// From now on the network is so.
    pub fn set(&self, weather: Weather) {
        *locked(&self.shared.weather) = weather;
        self.shared.changed.notify_all();
    }

    /// Ends all connections, and says how many there were.
    pub fn cut(&self) -> usize {
        let open = locked(&self.shared.open);
        open.values().for_each(end);
        open.len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        self.set(Weather::default());
        self.cut();
        for port in &self.ports {
            // Wakes the listener, so that it sees that it is over.
            let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, *port));
        }
    }
}

impl Shared {
    fn join(self: Arc<Self>, client: &TcpStream, behind: u16) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, behind));
        // A broker that is away refuses, and then the client is refused by the end of its connection.
        let Ok(broker) = TcpStream::connect_timeout(&address, CONNECT_MAX) else {
            return;
        };
        let _ = client.set_nodelay(true);
        let _ = broker.set_nodelay(true);
        let copies = || Some([client.try_clone().ok()?, broker.try_clone().ok()?]);
        let (Some(forth), Some(back), Some(kept)) = (copies(), copies(), copies()) else {
            return;
        };
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        locked(&self.open).insert(n, kept);
        let other = Arc::clone(&self);
        let [from, to] = forth;
        let thread = thread::spawn(move || other.pump(from, to));
        let [to, from] = back;
        self.pump(from, to);
        let _ = thread.join();
        locked(&self.open).remove(&n);
    }

    /// Passes bytes on until either side ends, then ends both.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n) = from.read(&mut buffer) {
            if n == 0 {
                break;
            }
            let mut weather = locked(&self.weather);
            while weather.holds {
                weather = self.changed.wait(weather).unwrap_or_else(PoisonError::into_inner);
            }
            let Weather {
                latency, bytes_per_s, ..
            } = *weather;
            drop(weather);
            let passage = bytes_per_s.map_or(0.0, |rate| n as f64 / f64::from(rate.max(1)));
            thread::sleep(latency + Duration::from_secs_f64(passage));
            if to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        end(&[from, to]);
    }
}

fn end(streams: &[TcpStream; 2]) {
    for stream in streams {
        // It may have ended by itself.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn the_proxy_passes_slows_holds_and_cuts() {
    use std::time::Instant;

    use crate::broker::free_ports;

    let echo = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let behind = echo.local_addr().expect("its address").port();
    thread::spawn(move || {
        for mut stream in echo.incoming().flatten() {
            thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            });
        }
    });
    let [port] = free_ports();
    let proxy = Proxy::start(&[(port, behind)]);
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
    let mut turn = |byte: u8| {
        let began = Instant::now();
        client.write_all(&[byte]).expect("sent");
        let mut back = [0];
        client.read_exact(&mut back).map(|()| {
            assert_eq!(back[0], byte);
            began.elapsed()
        })
    };
    turn(1).expect("passed");
    proxy.set(Weather {
        latency: Duration::from_millis(100),
        ..Weather::default()
    });
    assert!(turn(2).expect("slowly") >= Duration::from_millis(200), "either way");
    proxy.set(Weather {
        holds: true,
        ..Weather::default()
    });
    thread::scope(|scope| {
        let held = scope.spawn(|| turn(3));
        thread::sleep(Duration::from_millis(300));
        assert!(!held.is_finished(), "nothing goes through");
        proxy.set(Weather::default());
        held.join()
            .expect("a turn")
            .expect("it arrives when the weather is good");
    });
    assert_eq!(proxy.cut(), 1);
    turn(4).expect_err("the connection is gone");
}
