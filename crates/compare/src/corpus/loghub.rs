//! Log lines with the template that each is known to be of: the `NAME_2k.csv` files of loghub.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Lines of one system.
#[derive(Clone, Debug)]
pub struct LogSet {
    /// Name of the system.
    pub name: String,
    /// Messages, without time stamps and levels.
    pub messages: Vec<String>,
    /// The known template of each, as a number.
    pub truth: Vec<usize>,
}

/// All sets of a folder, by name.
///
/// # Errors
/// When the folder or a file can't be read, lacks a column or there is none.
pub fn read(folder: &Path) -> Result<Vec<LogSet>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "csv") {
            paths.push(path);
        }
    }
    paths.sort();
    ensure!(!paths.is_empty(), "{}: no NAME_2k.csv in it", folder.display());
    paths.iter().map(|path| read_set(path)).collect()
}

fn read_set(path: &Path) -> Result<LogSet> {
    let shown = || path.display().to_string();
    let mut reader = csv::Reader::from_path(path).with_context(shown)?;
    let headers = reader.headers().with_context(shown)?.clone();
    let column = |name: &str| {
        let found = headers.iter().position(|h| h == name);
        found.with_context(|| format!("{}: no column {name}", shown()))
    };
    let (content, event) = (column("Content")?, column("EventId")?);
    let (mut messages, mut truth, mut numbers) = (Vec::new(), Vec::new(), HashMap::new());
    for record in reader.records() {
        let record = record.with_context(shown)?;
        let field = |i| record.get(i).unwrap_or_default().to_owned();
        messages.push(field(content));
        let next = numbers.len();
        truth.push(*numbers.entry(field(event)).or_insert(next));
    }
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    Ok(LogSet {
        name: name.trim_end_matches("_2k").to_owned(),
        messages,
        truth,
    })
}
