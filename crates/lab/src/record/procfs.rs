//! What the system knows of a process: `/proc/PID`, see proc(5).

use std::fs;
use std::io;

use serde::Serialize;

/// Ticks a second in `/proc/PID/stat`: 100 on every Linux that people run.
const TICKS_PER_S: f64 = 100.0;

/// One look at a process. Times and counts go up from its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Resident memory in bytes.
    pub memory_rss: u64,
    /// Address space in bytes, which is what the limit is on.
    pub memory_vms: u64,
    /// Seconds of CPU in user mode.
    pub cpu_time_user: f64,
    /// Seconds of CPU in the kernel.
    pub cpu_time_system: f64,
    /// Threads.
    pub num_threads: u64,
    /// Open file descriptors.
    pub num_fds: u64,
    /// Page faults served without the disk.
    pub minor_faults: u64,
    /// Page faults that needed the disk.
    pub major_faults: u64,
    /// Times it gave the CPU away.
    pub voluntary_context_switches: u64,
    /// Times the CPU was taken from it.
    pub involuntary_context_switches: u64,
}

/// Looks at the process `pid`.
///
/// # Errors
/// Where it is gone, or is a zombie, which has no memory to speak of.
pub fn usage(pid: u32) -> io::Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let fds = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    parse(&stat, &status, fds as u64).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no living process"))
}

#[allow(clippy::cast_precision_loss)] // ticks of any process are far below 2^53
fn parse(stat: &str, status: &str, num_fds: u64) -> Option<Usage> {
    // The second field is the name in parentheses and may hold anything; what follows starts with field 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let line = |key: &str| {
        let rest = status.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))?;
        rest.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Usage {
        memory_rss: line("VmRSS")? * 1_024,
        memory_vms: line("VmSize")? * 1_024,
        cpu_time_user: field(14)? as f64 / TICKS_PER_S,
        cpu_time_system: field(15)? as f64 / TICKS_PER_S,
        num_threads: field(20)?,
        num_fds,
        minor_faults: field(10)?,
        major_faults: field(12)?,
        voluntary_context_switches: line("voluntary_ctxt_switches")?,
        involuntary_context_switches: line("nonvoluntary_ctxt_switches")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "7 (a) b) S 1 7 7 0 -1 4194560 151 0 12 0 250 75 0 0 20 0 9 0 1000 5 6 7";
    const STATUS: &str = "Name:\ta\nVmSize:\t  2048 kB\nVmRSS:\t 1024 kB\nThreads:\t9\n\
                          voluntary_ctxt_switches:\t31\nnonvoluntary_ctxt_switches:\t4\n";

    #[test]
    fn fields_are_those_of_the_manual_page() {
        let expected = Usage {
            memory_rss: 1 << 20,
            memory_vms: 2 << 20,
            cpu_time_user: 2.5,
            cpu_time_system: 0.75,
            num_threads: 9,
            num_fds: 3,
            minor_faults: 151,
            major_faults: 12,
            voluntary_context_switches: 31,
            involuntary_context_switches: 4,
        };
        assert_eq!(parse(STAT, STATUS, 3), Some(expected));
    }

    #[test]
    fn zombies_and_nonsense_have_no_usage() {
        let zombie = STATUS.replace("VmRSS", "Was");
        for (name, stat, status) in [
            ("empty", "", ""),
            ("no name", "7 a S 1", STATUS),
            ("cut", "7 (a) S 1 7", STATUS),
            ("zombie", STAT, &zombie),
        ] {
            assert_eq!(parse(stat, status, 0), None, "{name}");
        }
    }

    #[test]
    fn this_process_has_usage() {
        let usage = usage(std::process::id()).expect("/proc is there");
        assert!(usage.memory_rss > 0 && usage.memory_vms >= usage.memory_rss && usage.num_threads > 0);
    }
}
