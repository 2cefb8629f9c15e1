//! Drain3 at its defaults: the Rust crate in this process, and the Python package in one of its own.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use drain3::{Config, Matcher};
use serde::Deserialize;

/// What a miner makes of lines.
#[derive(Clone, Debug, Deserialize)]
pub struct Mined {
    /// One group a line, at the end of the file.
    pub groups: Vec<u64>,
    /// Lines a second.
    pub lines_per_s: f64,
}

/// The crate. A line that it refuses (it has a cap on templates) is of a group of its own.
#[must_use]
pub fn rust(lines: &[String]) -> Mined {
    let mut matcher = Matcher::new(Config::builder().build());
    let began = Instant::now();
    let groups = (0u64..)
        .zip(lines)
        .map(|(i, line)| match matcher.add_log_message(line) {
            Ok(template) => template.id() as u64,
            Err(_) => u64::MAX - i,
        });
    let groups = groups.collect();
    Mined {
        groups,
        lines_per_s: lines.len() as f64 / began.elapsed().as_secs_f64(),
    }
}

/// The package `drain3`, by an interpreter that has it.
///
/// # Errors
/// When the interpreter can't be run or lacks the package.
pub fn python(interpreter: &Path, lines: &[String]) -> Result<Mined> {
    const SCRIPT: &str = include_str!("drain.py");
    let mut child = Command::new(interpreter)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| interpreter.display().to_string())?;
    let mut input = child.stdin.take().context("standard input")?;
    let text = serde_json::to_vec(lines)?;
    // It reads everything before it writes anything.
    input.write_all(&text)?;
    drop(input);
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{}: Drain3 failed; has it the package drain3?",
        interpreter.display()
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}
