//! One store with a fault that grows in five seconds: it serves, and then it really fails.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The status of an answer; `None` where there was none within a second.
fn request(to: SocketAddr, method: &str, path: &str) -> Option<u16> {
    let timeout = Some(Duration::from_secs(1));
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(timeout).ok()?;
    write!(stream, "{method} {path} HTTP/1.1\r\nConnection: close\r\n\r\n").ok()?;
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status).ok()?;
    status.split(' ').nth(1)?.parse().ok()
}

/// A payment provider that takes everything.
fn provider() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1_024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    address
}

/// Ends the store however the test ends.
struct Store(Child);

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(limit_s: u64, what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(limit_s);
    while !is_so() {
        assert!(Instant::now() < end, "{what} did not happen within {limit_s} s");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_store_that_leaks_files_runs_out_of_them_and_says_so() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("store-fd-leak");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = held.local_addr().expect("an address");
    drop(held);
    let mut command = Command::new("prlimit");
    command.args(["--nofile=64", env!("CARGO_BIN_EXE_foreshock-lab"), "store", "--listen"]);
    command.args([&address.to_string(), "--payment", &provider().to_string(), "--folder"]);
    let mut store = Store(
        command
            .arg(&folder)
            .stdout(Stdio::piped())
            .spawn()
            .expect("prlimit is there"),
    );
    let log = store.0.stdout.take().expect("a log");
    let log = std::thread::spawn(move || BufReader::new(log).lines().map_while(Result::ok).collect::<Vec<_>>());

    until(5, "a good probe", || request(address, "GET", "/health") == Some(200));
    assert_eq!(
        request(address, "POST", "/control/fault/fd-leak/linear/4000"),
        Some(200)
    );
    assert_eq!(
        request(address, "POST", "/control/fault/no-such/linear/4000"),
        Some(400)
    );
    let mut failed = 0;
    until(12, "three failed probes in a row", || {
        let good = request(address, "GET", "/health").is_some_and(|status| status < 500);
        failed = if good { 0 } else { failed + 1 };
        failed >= 3
    });
    drop(store);
    let log = log.join().expect("its lines");
    let is_told = |line: &String| line.contains("Too many open files") || line.contains("unable to open database file");
    assert!(log.iter().any(is_told), "{log:?}");
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}
