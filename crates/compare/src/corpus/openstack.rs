//! Fault injection into OpenStack: `index.csv` (test, outcome, fault, times) and the logs of each test's two rounds, a faulty and
//! a control one, as `<test>/{faulty,control}/<service>.log`.
//!
//! Of a line the envelope is taken off (`time pid LEVEL logger [request] message`), and the request's id becomes its trace; a line without one
//! continues the last, as in a traceback. Times are moved so that rounds follow each other with a pause between, in the order in which they were recorded.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::json;

/// One line of a round as a record.
#[derive(Debug)]
pub struct Line {
    /// Event time, ms.
    pub at: i64,
    /// JSON, as a log shipper would write it.
    pub payload: Vec<u8>,
    /// Written as an error, or with a traceback.
    pub is_error: bool,
    /// Written as a warning or worse.
    pub is_warning: bool,
}

/// Lines of one round in time order, and the time in which the workload ran.
#[derive(Debug)]
pub struct Round {
    /// Lines.
    pub lines: Vec<Line>,
    /// When the workload began and ended, ms.
    pub from: i64,
    /// End.
    pub until: i64,
}

/// One test.
#[derive(Debug)]
pub struct Test {
    /// Its name.
    pub name: String,
    /// What was injected.
    pub fault: String,
    /// When the fault became active, ms.
    pub activated_at: i64,
    /// When a user first saw an error; `None` where none did.
    pub error_at: Option<i64>,
    /// With the fault.
    pub faulty: Round,
    /// Without.
    pub control: Round,
}

#[derive(Deserialize)]
struct Row {
    test: String,
    fault_type: String,
    fault_activated_at: String,
    first_user_visible_error_at: String,
    workload_start: String,
    workload_end: String,
    control_start: String,
    control_end: String,
}

/// Reads all tests.
///
/// # Errors
/// When a file is missing or is not what it should be.
pub fn read(index: &Path, logs: &Path) -> Result<Vec<Test>> {
    let mut csv = csv::Reader::from_path(index).with_context(|| index.display().to_string())?;
    csv.deserialize()
        .map(|row| {
            let row: Row = row?;
            let time = |text: &str| time(text).with_context(|| format!("{}: not a time: {text}", row.test));
            let error_at = &row.first_user_visible_error_at;
            Ok(Test {
                activated_at: time(&row.fault_activated_at)?,
                error_at: if error_at.is_empty() {
                    None
                } else {
                    Some(time(error_at)?)
                },
                faulty: read_round(
                    &logs.join(&row.test).join("faulty"),
                    time(&row.workload_start)?,
                    time(&row.workload_end)?,
                )?,
                control: read_round(
                    &logs.join(&row.test).join("control"),
                    time(&row.control_start)?,
                    time(&row.control_end)?,
                )?,
                name: row.test.clone(),
                fault: row.fault_type,
            })
        })
        .collect()
}

fn read_round(folder: &Path, from: i64, until: i64) -> Result<Round> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    let mut lines: Vec<Line> = Vec::new();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "log")) {
        let service = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = fs::read(file).with_context(|| file.display().to_string())?;
        let mut of_file: Vec<Enveloped> = Vec::new();
        for text in String::from_utf8_lossy(&bytes).lines() {
            if let Some(line) = Enveloped::new(text) {
                of_file.push(line);
            } else if let Some(last) = of_file.last_mut() {
                last.message.push('\n');
                last.message.push_str(text);
            }
        }
        lines.extend(of_file.into_iter().map(|line| line.ship(&service)));
    }
    if lines.is_empty() {
        bail!("{}: expected log files", folder.display());
    }
    lines.sort_by_key(|line| line.at);
    Ok(Round { lines, from, until })
}

/// A line without its envelope.
struct Enveloped {
    at: i64,
    level: String,
    request: Option<String>,
    message: String,
}

impl Enveloped {
    /// Takes the envelope off; `None` for a line without one.
    fn new(text: &str) -> Option<Self> {
        let at = time(text.get(..23)?)?;
        let mut words = text.get(23..)?.trim_start().splitn(4, ' ');
        let (_process, level, _logger, message) =
            (words.next()?, words.next()?, words.next()?, words.next().unwrap_or(""));
        if !matches!(level, "TRACE" | "DEBUG" | "INFO" | "WARNING" | "ERROR" | "CRITICAL") {
            return None;
        }
        let (context, message) = match message.strip_prefix('[') {
            Some(rest) if rest.starts_with("req-") || rest.starts_with("-]") => rest
                .split_once(']')
                .map_or((rest, ""), |(context, m)| (context, m.trim_start())),
            _ => ("", message),
        };
        let request = context.split(' ').next().filter(|id| id.starts_with("req-"));
        Some(Self {
            at,
            level: level.to_owned(),
            request: request.map(str::to_owned),
            message: message.to_owned(),
        })
    }

    /// As a record, with the lines that continue it, as shippers join them.
    fn ship(self, service: &str) -> Line {
        let Self {
            at,
            level,
            request,
            message,
        } = self;
        let is_error = matches!(level.as_str(), "ERROR" | "CRITICAL") || message.contains("Traceback");
        let is_warning = is_error || level == "WARNING";
        // Without the time, which the record says: so that it can be moved.
        let payload = json!({"service": service, "level": level, "message": message, "trace_id": request});
        Line {
            at,
            payload: payload.to_string().into_bytes(),
            is_error,
            is_warning,
        }
    }
}

/// `YYYY-MM-DD HH:MM:SS.fff…` as ms, UTC.
fn time(text: &str) -> Option<i64> {
    let at = foreshock_wire::time::parse(text.trim())?;
    Some(at.as_millis())
}
