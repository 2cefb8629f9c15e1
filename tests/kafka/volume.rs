//! Disks that fill up: small file systems in memory, which only root may mount.
//!
//! `FORESHOCK_SKIP_FULL_DISK=1` leaves out the tests that need one, and says so.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system, gone when dropped.
#[derive(Debug)]
pub struct Volume(PathBuf);

impl Volume {
    /// Mounts it at a folder whose name begins so.
    ///
    /// # Panics
    /// Where it can't be mounted, with what to do.
    pub fn mount(name: &Path, kib: u64) -> Self {
        let mut folder = name.as_os_str().to_owned();
        folder.push(format!("-{}", std::process::id()));
        let folder = PathBuf::from(folder);
        fs::create_dir_all(&folder).expect("a folder to mount at");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "foreshock-test"]);
        let mount = command.arg(&folder).output().expect("mount runs");
        assert!(
            mount.status.success(),
            "a small file system can't be mounted, which only root may: {}; run this as root, or set FORESHOCK_SKIP_FULL_DISK=1",
            String::from_utf8_lossy(&mount.stderr)
        );
        Self(folder)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Leaves so much room and no more.
    ///
    /// # Panics
    /// Where the room can't be seen.
    pub fn fill(&self, room_kib: u64) {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.filler())
            .expect("a file");
        while self.room_kib() > room_kib + 4 {
            let chunk = vec![7; (self.room_kib() - room_kib) as usize >> 2 << 12];
            // Whoever else writes meanwhile may be faster; then it is full all the same.
            if file.write_all(&chunk).is_err() {
                break;
            }
        }
    }

    /// Makes room again.
    ///
    /// # Panics
    /// Where it was not filled.
    pub fn free(&self) {
        fs::remove_file(self.filler()).expect("what fills it");
    }

    fn room_kib(&self) -> u64 {
        let df = Command::new("df")
            .args(["--output=avail", "-k"])
            .arg(&self.0)
            .output()
            .expect("df runs");
        let text = String::from_utf8_lossy(&df.stdout).into_owned();
        let number = text.lines().nth(1).and_then(|n| n.trim().parse().ok());
        number.expect("a number of KiB")
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Where something holds it still it goes when that ends.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

/// Whether the user asked to leave these tests out; said on the real standard error, which the test harness does not catch.
pub fn is_skipped() -> bool {
    let skipped = std::env::var("FORESHOCK_SKIP_FULL_DISK").is_ok_and(|v| v == "1");
    if skipped {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: FORESHOCK_SKIP_FULL_DISK=1, so no disk is filled up"
        );
    }
    skipped
}
