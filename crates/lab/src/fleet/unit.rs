//! One store as a child process under limits: its user, its volume, its address space, files and threads.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::http::Client;
use crate::record::instance::{Tail, spawn, spawn_thread, wrap};
use crate::record::procfs::{self, Usage};
use crate::record::telegraf::Probe;

/// Probes that take longer count as failed.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
const STATS_TIMEOUT: Duration = Duration::from_millis(500);
/// The users that stores run as come after this one; the limit of threads binds none that is root.
const USERS_AFTER: usize = 100_000;
/// Stores of one recording; each recording has users of its own, because threads are counted by user.
const UNITS_MAX: usize = 64;

/// Limits of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Address space in MiB.
    pub memory_mib: u64,
    /// Open files.
    pub files: u64,
    /// Threads.
    pub threads: u64,
    /// Size of its volume in KiB.
    pub volume_kib: u64,
}

impl std::str::FromStr for Limits {
    type Err = String;

    /// `memory=128,files=96,threads=64,volume=4096`, in MiB, files, threads and KiB.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |name: &str| {
            let value = text
                .split(',')
                .find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            let value = value.ok_or_else(|| format!("{name}= is missing"))?;
            let value = value.parse().ok().filter(|n| *n > 0);
            value.ok_or_else(|| format!("{name}= needs a number above 0"))
        };
        let limits = Self {
            memory_mib: number("memory")?,
            files: number("files")?,
            threads: number("threads")?,
            volume_kib: number("volume")?,
        };
        match text.split(',').count() {
            4 => Ok(limits),
            n => Err(format!("4 limits are needed, not {n}")),
        }
    }
}

/// Where and how a store runs.
#[derive(Debug)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    user: usize,
    payment: SocketAddr,
    folder: PathBuf,
    limits: Limits,
    lines: SyncSender<String>,
    child: Option<Child>,
}

impl Unit {
    /// Mounts the volume. The store is not started yet.
    ///
    /// # Errors
    /// Where it cannot be mounted, as it is where this is not run by root.
    pub fn new(
        number: usize,
        addresses: (SocketAddr, SocketAddr),
        scratch: &Path,
        limits: Limits,
        lines: SyncSender<String>,
    ) -> Result<Self> {
        let name = format!("shop-{:02}", number + 1);
        let folder = scratch.join(&name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let user = USERS_AFTER + std::process::id() as usize * UNITS_MAX + number;
        let size = format!("size={}k,uid={user},gid={user},mode=0700", limits.volume_kib);
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "foreshock-lab"])
            .arg(&folder)
            .output()
            .context("cannot run mount")?;
        if !mount.status.success() {
            let why = String::from_utf8_lossy(&mount.stderr).trim().to_owned();
            bail!("cannot mount a small volume for {name}, which only root may: {why}");
        }
        Ok(Self {
            name,
            address: addresses.0,
            user,
            payment: addresses.1,
            folder,
            limits,
            lines,
            child: None,
        })
    }

    /// Starts the store on an empty volume, or lets it try to where `bad` is its configuration.
    ///
    /// # Errors
    /// Where the process cannot be started.
    pub fn start(&mut self, seed: u64, bad: bool) -> Result<()> {
        self.stop();
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            // What stays is in the way of nobody.
            let _ = std::fs::remove_file(entry.path());
        }
        let user = self.user.to_string();
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            &user,
            "--regid",
            &user,
            "--clear-groups",
            "prlimit",
            "--core=0",
        ]);
        command.arg(format!("--as={}", self.limits.memory_mib << 20));
        command.arg(format!("--nofile={}", self.limits.files));
        command.arg(format!("--nproc={}", self.limits.threads));
        command
            .arg(program)
            .args(["store", "--die-with-parent", "--name", &self.name]);
        let payment = if bad {
            "payments.internal:".into()
        } else {
            self.payment.to_string()
        };
        command.args(["--listen", &self.address.to_string(), "--payment", &payment]);
        command
            .args(["--seed", &seed.to_string()])
            .arg("--folder")
            .arg(&self.folder);
        // One arena: each further one would reserve 64 MiB of the very address space that is limited. A fixed threshold: else
        // what is given back stays in the heap, and the process never shrinks.
        command.envs([
            ("MALLOC_ARENA_MAX", "1"),
            ("MALLOC_MMAP_THRESHOLD_", "65536"),
            ("RUST_BACKTRACE", "0"),
        ]);
        let mut child = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let stderr = child.stderr.take().context("no standard error")?;
        self.child = Some(child);
        let tail = Tail {
            host: self.name.clone(),
            lines: self.lines.clone(),
        };
        let tail_of_stderr = tail.clone();
        spawn_thread(move || tail.forward(stdout, |line, _| Some(line)))?;
        spawn_thread(move || tail_of_stderr.forward(stderr, |line, host| wrap(&line, host)))
    }

    /// Ends the store by SIGKILL.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may be dead already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Kills the store and leaves it to [`Self::has_died`] to find out.
    pub fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
        }
    }

    /// True once, where the store has ended by itself.
    pub fn has_died(&mut self) -> bool {
        let died = self.child.as_mut().is_some_and(|c| matches!(c.try_wait(), Ok(Some(_))));
        if died {
            self.child = None;
        }
        died
    }

    /// Asks the store for something that only the recorder asks for; whether it agreed.
    pub fn control(&self, what: &str) -> bool {
        let answer = Client::connect(self.address, PROBE_TIMEOUT)
            .and_then(|mut c| c.request("POST", &format!("/control/{what}")));
        answer.is_ok_and(|a| a.status == 200)
    }

    /// Asks it to end and waits a moment for that.
    pub fn quit(&mut self) {
        self.control("quit");
        let until = Instant::now() + Duration::from_secs(1);
        while self.child.is_some() && !self.has_died() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.stop();
    }

    /// What the system says of the process.
    pub fn usage(&self) -> Option<Usage> {
        procfs::usage(self.child.as_ref()?.id()).ok()
    }

    /// What the store says of itself.
    pub fn stats(&self) -> Option<serde_json::Value> {
        self.child.as_ref()?;
        let answer = Client::connect(self.address, STATS_TIMEOUT)
            .and_then(|mut c| c.request("GET", "/stats"))
            .ok()?;
        serde_json::from_slice(&answer.body).ok()
    }

    /// Whether a customer would be served.
    pub fn probe(&self) -> Probe {
        let began = Instant::now();
        let answer = Client::connect(self.address, PROBE_TIMEOUT).and_then(|mut c| c.request("GET", "/health"));
        let took = began.elapsed();
        // The time-out is one of each read; the probe's is one of all.
        let up = u8::from(took <= PROBE_TIMEOUT && answer.is_ok_and(|a| a.status < 500));
        let response_time = (took.as_secs_f64() * 1e6).round() / 1e6;
        Probe { up, response_time }
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        self.stop();
        // A volume that is still in use goes when it no longer is.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_or_refused() {
        let good = "memory=128,files=96,threads=64,volume=4096".parse();
        let expected = Limits {
            memory_mib: 128,
            files: 96,
            threads: 64,
            volume_kib: 4_096,
        };
        assert_eq!(good, Ok(expected));
        for (text, why) in [
            ("", "memory= is missing"),
            ("memory=1,files=2,threads=3", "volume= is missing"),
            ("memory=0,files=2,threads=3,volume=4", "memory= needs a number above 0"),
            ("memory=1,files=x,threads=3,volume=4", "files= needs a number above 0"),
            (
                "memory=1,files=2,threads=3,volume=4,cpu=5",
                "4 limits are needed, not 5",
            ),
        ] {
            assert_eq!(text.parse::<Limits>(), Err(why.to_owned()), "{text}");
        }
    }
}
