//! A process under test: started, watched over HTTP, asked to end or killed, and never left behind.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const REQUEST_MAX: Duration = Duration::from_secs(5);

/// A running `foreshock run`; killed when dropped.
#[derive(Debug)]
pub struct Foreshock {
    child: Child,
    http: SocketAddr,
    stderr: PathBuf,
}

impl Foreshock {
    /// Starts `program run --config CONFIG`. `http_port` is where the configuration makes it serve HTTP on loopback.
    /// Standard error goes to the file `stderr`, after what is in it already.
    ///
    /// # Panics
    /// Where the program cannot be started.
    pub fn start(program: &Path, config: &Path, http_port: u16, stderr: &Path) -> Self {
        let file = File::options()
            .create(true)
            .append(true)
            .open(stderr)
            .expect("a file for standard error");
        let mut command = Command::new(program);
        command.args(["run", "--config"]).arg(config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().expect("the program starts");
        Self {
            child,
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, http_port)),
            stderr: stderr.to_owned(),
        }
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Panics
    /// Where it ends before, or is not ready `within` that time; with the end of its standard error.
    pub fn wait_ready(&mut self, within: Duration) {
        let until = Instant::now() + within;
        while self.get("/readyz").is_none_or(|(status, _)| status != 200) {
            let ended = self.child.try_wait().expect("a child to wait for");
            assert!(
                ended.is_none(),
                "ended ({ended:?}) before it was ready:\n{}",
                self.last_stderr()
            );
            assert!(
                Instant::now() < until,
                "not ready within {within:?}:\n{}",
                self.last_stderr()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Status and body of a GET; `None` where nobody answers, or not in HTTP.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.http, REQUEST_MAX).ok()?;
        stream.set_read_timeout(Some(REQUEST_MAX)).ok()?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.http
        )
        .ok()?;
        let mut response = Vec::new();
        stream.read_to_end(&mut response).ok()?;
        parse(&String::from_utf8_lossy(&response))
    }

    /// Sends a signal, such as `STOP` or `CONT`.
    ///
    /// # Panics
    /// Where there is nobody to get it.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(sent.success(), "nobody to signal:\n{}", self.last_stderr());
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// Where the system does not say.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child to wait for")
    }

    /// Whether it has not ended.
    pub fn is_running(&self) -> bool {
        // Until it is asked for its exit status it stays as a zombie.
        fs::read_to_string(format!("/proc/{}/stat", self.id())).is_ok_and(|stat| !stat.contains(") Z "))
    }

    /// The value of one of its metrics without labels; `None` where it does not answer or has none of that name.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics")?;
        let line = text.lines().find(|l| l.starts_with(&format!("{name} ")))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    ///
    /// # Panics
    /// Where the system refuses.
    pub fn kill(mut self) {
        self.child.kill().expect("a child to kill");
        self.child.wait().expect("a child to wait for");
    }

    /// Asks it to end, as a supervisor does, and gives how it ended.
    ///
    /// # Panics
    /// Where it has not ended `within` that time; with the end of its standard error.
    pub fn terminate(mut self, within: Duration) -> ExitStatus {
        self.signal("TERM");
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child to wait for") {
                return status;
            }
            assert!(
                Instant::now() < until,
                "still there {within:?} after SIGTERM:\n{}",
                self.last_stderr()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        fs::read(&self.stderr)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Where it writes its standard error.
    pub fn stderr_file(&self) -> PathBuf {
        self.stderr.clone()
    }

    /// The end of its standard error.
    pub fn last_stderr(&self) -> String {
        let all = self.stderr();
        let lines: Vec<&str> = all.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Foreshock {
    fn drop(&mut self) {
        // It may have ended already, and then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status and body of a response that ends with the connection; chunks are joined.
fn parse(response: &str) -> Option<(u16, String)> {
    let (head, body) = response.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let is_chunked = head
        .lines()
        .any(|l| l.eq_ignore_ascii_case("transfer-encoding: chunked"));
    let body = if is_chunked {
        join_chunks(body.as_bytes())?
    } else {
        body.to_owned()
    };
    Some((status, body))
}

fn join_chunks(mut rest: &[u8]) -> Option<String> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?.trim(), 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return String::from_utf8(body).ok();
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

#[test]
fn responses_are_understood_or_none() {
    type Case<'a> = (&'a str, &'a str, Option<(u16, &'a str)>);
    let cases: &[Case<'_>] = &[
        ("empty", "", None),
        (
            "length",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            Some((200, "ok")),
        ),
        ("no body", "HTTP/1.1 503 Service Unavailable\r\n\r\n", Some((503, ""))),
        (
            "chunks",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            Some((200, "abc")),
        ),
        (
            "cut chunks",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nab",
            None,
        ),
        ("no http", "SSH-2.0-x\r\n\r\n", None),
    ];
    for (name, response, expected) in cases {
        assert_eq!(parse(response), expected.map(|(s, b)| (s, b.to_owned())), "{name}");
    }
}
