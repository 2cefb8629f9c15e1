//! One shop and its customers as child processes, under the limit.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::procfs::{self, Usage};
use super::telegraf::Probe;
use crate::http::Client;
use crate::shop::stats::Snapshot;

/// Answers that take longer count as none.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Longest log line that is taken, in bytes.
const LINE_BYTES_MAX: u64 = 16 << 10;

/// How a shop is started.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name, `shop-1`.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Folder for its journal.
    pub folder: PathBuf,
    /// Seed of it and of its customers.
    pub seed: u64,
    /// Limit of its address space in KiB, as `ulimit -v` takes it.
    pub memory_limit_kib: u64,
    /// When it begins to leak, in seconds from its start.
    pub leak_after_s: Option<u64>,
    /// Share of expired sessions that leak.
    pub leak_rate: f64,
}

/// A running shop, or what is left of it.
#[derive(Debug)]
pub struct Instance {
    /// How it was started.
    pub plan: Plan,
    shop: Child,
    dead: bool,
}

/// A child that dies with this process, because its standard input is a pipe that only this process holds.
///
/// # Errors
/// Where the program cannot be started.
pub fn spawn(command: &mut Command) -> Result<Child> {
    command
        .stdin(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))
}

impl Instance {
    /// Starts the shop; its log lines go to `lines` from then on.
    ///
    /// # Errors
    /// Where the process or the threads that read its log cannot be started.
    pub fn start(plan: Plan, lines: &SyncSender<String>) -> Result<Self> {
        std::fs::create_dir_all(&plan.folder).with_context(|| format!("cannot make {}", plan.folder.display()))?;
        let program = std::env::current_exe().context("cannot find this program")?;
        // One arena: each further one would reserve 64 MiB of the very address space that is limited. A fixed threshold: else
        // the headroom that the cache asks for is found in the heap, where threads cannot put their stacks.
        let script = format!(
            "ulimit -c 0; ulimit -v {}; export RUST_BACKTRACE=0 MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=131072; exec \"$0\" \"$@\"",
            plan.memory_limit_kib
        );
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(script)
            .arg(program)
            .args(["serve", "--die-with-parent"]);
        command.args([
            "--name",
            &plan.name,
            "--listen",
            &plan.address.to_string(),
            "--seed",
            &plan.seed.to_string(),
        ]);
        command.arg("--folder").arg(&plan.folder);
        if let Some(after_s) = plan.leak_after_s {
            command.args([
                "--leak-after-s",
                &after_s.to_string(),
                "--leak-rate",
                &plan.leak_rate.to_string(),
            ]);
        }
        let mut shop = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let stdout = shop.stdout.take().context("no standard output")?;
        let stderr = shop.stderr.take().context("no standard error")?;
        let tail = Tail {
            host: plan.name.clone(),
            lines: lines.clone(),
        };
        let tail_of_stderr = tail.clone();
        spawn_thread(move || tail.forward(stdout, |line, _| Some(line)))?;
        spawn_thread(move || tail_of_stderr.forward(stderr, |line, host| wrap(&line, host)))?;
        Ok(Self {
            plan,
            shop,
            dead: false,
        })
    }

    /// How the shop ended, once, when it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.dead {
            return None;
        }
        let status = self.shop.try_wait().ok().flatten()?;
        self.dead = true;
        Some(status)
    }

    /// Whether the shop has ended.
    pub const fn is_dead(&self) -> bool {
        self.dead
    }

    /// What the system says of the shop's process; `None` where there is none.
    pub fn usage(&self) -> Option<Usage> {
        if self.dead {
            None
        } else {
            procfs::usage(self.shop.id()).ok()
        }
    }

    /// What the shop says of itself; `None` where it does not answer.
    pub fn stats(&self) -> Option<Snapshot> {
        let response = Client::connect(self.plan.address, TIMEOUT)
            .and_then(|mut c| c.request("GET", "/stats"))
            .ok()?;
        if response.status == 200 {
            serde_json::from_slice(&response.body).ok()
        } else {
            None
        }
    }

    /// Whether the shop does its job, seen from outside.
    pub fn probe(&self) -> Probe {
        let began = Instant::now();
        let answer = Client::connect(self.plan.address, TIMEOUT).and_then(|mut c| c.request("GET", "/health"));
        let up = u8::from(answer.is_ok_and(|a| a.status == 200));
        let micros = began.elapsed().as_micros().min(u128::from(u32::MAX)) as u32;
        Probe {
            up,
            response_time: f64::from(micros) / 1e6,
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It may be dead already, and then there is nothing to do.
        let _ = self.shop.kill();
        let _ = self.shop.wait();
    }
}

/// The customers of one shop, until dropped.
#[derive(Debug)]
pub struct Customers(Child);

impl Customers {
    /// Starts them; `burst_after_s` is when their burst comes.
    ///
    /// # Errors
    /// Where the process cannot be started.
    pub fn start(
        target: SocketAddr,
        seed: u64,
        rate: f64,
        day_s: f64,
        burst_after_s: f64,
        burst_for_s: f64,
    ) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command.args(["load", "--die-with-parent"]);
        command.args([
            "--target",
            &target.to_string(),
            "--seed",
            &seed.to_string(),
            "--rate",
            &rate.to_string(),
        ]);
        command.args(["--day-s", &day_s.to_string()]);
        command.args([
            "--burst-after-s",
            &burst_after_s.to_string(),
            "--burst-for-s",
            &burst_for_s.to_string(),
        ]);
        spawn(&mut command).map(Self)
    }
}

impl Drop for Customers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a thread that nobody waits for.
///
/// # Errors
/// Where the system refuses it.
pub fn spawn_thread(run: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new()
        .spawn(run)
        .context("cannot start a thread")?;
    Ok(())
}

/// Reads the output of a shop line by line, as a log shipper does.
#[derive(Clone, Debug)]
pub struct Tail {
    /// Name of the shop.
    pub host: String,
    /// Where its lines go.
    pub lines: SyncSender<String>,
}

impl Tail {
    /// Sends each line, after `wrap` has made what it likes of it, until the output ends.
    pub fn forward(&self, from: impl Read, wrap: impl Fn(String, &str) -> Option<String>) {
        let mut from = BufReader::new(from);
        loop {
            let mut line = Vec::new();
            match (&mut from).take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
                Ok(n) if n > 0 => {}
                _ => return,
            }
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if let Some(text) = wrap(text, &self.host)
                && self.lines.send(text).is_err()
            {
                return;
            }
        }
    }
}

/// A line of standard error as a log shipper would send it: with its own time, and no level.
pub fn wrap(line: &str, host: &str) -> Option<String> {
    let at = format!("{:.3}", jiff::Timestamp::now());
    if line.is_empty() {
        return None;
    }
    let fields = [
        ("@timestamp", at.as_str()),
        ("host", host),
        ("service", "shop"),
        ("stream", "stderr"),
        ("message", line),
    ];
    let text = |s: &str| serde_json::to_string(s).ok();
    let fields: Option<Vec<String>> = fields
        .into_iter()
        .map(|(k, v)| Some(format!("{}:{}", text(k)?, text(v)?)))
        .collect();
    Some(format!("{{{}}}", fields?.join(",")))
}

/// Copies what is new in `lines` to `out`; the number of lines.
///
/// # Errors
/// Where the output fails.
pub fn drain(lines: &Receiver<String>, out: &mut impl Write) -> std::io::Result<u64> {
    let mut n = 0;
    for line in lines.try_iter() {
        writeln!(out, "{line}")?;
        n += 1;
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_error_becomes_json() {
        let line = wrap("memory allocation of 9 \"bytes\" failed", "shop-2").expect("a line");
        let line: serde_json::Value = serde_json::from_str(&line).expect("json");
        assert_eq!(line["message"], "memory allocation of 9 \"bytes\" failed");
        assert_eq!(
            (line["host"].as_str(), line["stream"].as_str()),
            (Some("shop-2"), Some("stderr"))
        );
        assert_eq!(wrap("", "shop-2"), None);
    }

    #[test]
    fn tails_take_any_bytes_and_cut_long_lines() {
        let (lines, read) = std::sync::mpsc::sync_channel(9);
        let tail = Tail {
            host: "h".into(),
            lines,
        };
        let mut bytes = b"one\ntw\xffo\r\n".to_vec();
        bytes.extend(std::iter::repeat_n(b'x', 20 << 10));
        tail.forward(&bytes[..], |line, host| Some(format!("{host} {line}")));
        let got: Vec<String> = read.try_iter().collect();
        assert_eq!(got[..2], ["h one".to_owned(), "h tw\u{fffd}o".to_owned()]);
        assert_eq!((got[2].len(), got[3].len()), ((16 << 10) + 2, (4 << 10) + 2));
    }
}
