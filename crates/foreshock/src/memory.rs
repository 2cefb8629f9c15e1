//! How much memory this process needed at most, where the system says so.

/// Most bytes that this process held at a time, since it began or since [`forget_peak`]; `None` where the system does not say.
///
/// Linux says it in its own words: `VmHWM:   123456 kB`.
pub fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kb| kb << 10)
}

/// Measures from now on, where the system lets it.
pub fn forget_peak() {
    // Without it the peak is that of the whole life, which is no less.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
