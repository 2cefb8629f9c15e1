//! The files of a recording, which can be read while it goes on.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Serialize;

use crate::record::instance::drain;
use crate::record::telegraf::{self, Tags};

/// A failure as it was seen from outside.
#[derive(Debug)]
pub struct Failure {
    /// Which instance.
    pub entity: String,
    /// What it had.
    pub class: &'static str,
    /// Since when the service was not what it should be.
    pub onset: Timestamp,
    /// The first good probe after the restart.
    pub end: Option<Timestamp>,
    /// Least lead that is worth something, in seconds: a quarter of the fault's growth. `None` for what nobody can foretell.
    pub lead_s: Option<f64>,
}

/// A fault as it was let begin.
#[derive(Debug)]
pub struct FaultRow {
    /// Which instance.
    pub entity: String,
    /// Its name.
    pub fault: &'static str,
    /// Its course; empty for what comes out of the blue.
    pub shape: &'static str,
    /// Since when.
    pub begin: Timestamp,
    /// Planned seconds from the begin to the end of the resource.
    pub growth_s: f64,
    /// The failure it ended in.
    pub failure_onset: Option<Timestamp>,
    /// Whether anything could have shown beforehand.
    pub foreseeable: bool,
}

/// Something harmless.
#[derive(Debug)]
pub struct Event {
    /// Which instance.
    pub entity: String,
    /// What.
    pub kind: &'static str,
    /// From.
    pub start: Timestamp,
    /// To.
    pub end: Timestamp,
}

#[derive(Debug, Default)]
struct Tables {
    failures: Vec<Failure>,
    faults: Vec<FaultRow>,
    events: Vec<Event>,
}

/// All of it.
#[derive(Debug)]
pub struct Output {
    folder: PathBuf,
    metrics: Mutex<BufWriter<File>>,
    tables: Mutex<Tables>,
}

impl Output {
    /// Makes the folder and its files.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).context("cannot make the output folder")?;
        let metrics = File::create(folder.join("metrics.jsonl")).context("cannot write metrics")?;
        let output = Self {
            folder: folder.to_owned(),
            metrics: Mutex::new(BufWriter::new(metrics)),
            tables: Mutex::default(),
        };
        output.change(|_| ())?;
        Ok(output)
    }

    /// Writes log lines as they come, until nobody is left who sends any.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn write_logs(&self, lines: &Receiver<String>) -> Result<()> {
        let mut logs = BufWriter::new(File::create(self.folder.join("logs.jsonl")).context("cannot write logs")?);
        while let Ok(line) = lines.recv() {
            writeln!(logs, "{line}").context("cannot write logs")?;
            drain(lines, &mut logs).context("cannot write logs")?;
            logs.flush().context("cannot write logs")?;
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Writes a measurement.
    ///
    /// # Errors
    /// Where it cannot.
    pub fn metric(&self, name: &str, tags: Tags<'_>, at_s: i64, fields: &impl Serialize) -> Result<()> {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        telegraf::write(&mut *metrics, name, tags, at_s, fields)
            .and_then(|()| if name == "probe" { metrics.flush() } else { Ok(()) })
            .context("cannot write metrics")
    }

    /// Changes the tables and writes them anew; they are small.
    fn change<T>(&self, change: impl FnOnce(&mut Tables) -> T) -> Result<T> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let done = change(&mut tables);
        let write = |name: &str, text: String| {
            std::fs::write(self.folder.join(name), text).with_context(|| format!("cannot write {name}"))
        };
        write("failures.csv", failures_csv(&tables.failures))?;
        write("faults.csv", faults_csv(&tables.faults))?;
        write("events.csv", events_csv(&tables.events))?;
        Ok(done)
    }

    /// Adds a failure; its number.
    ///
    /// # Errors
    /// Where the tables cannot be written, as with all that follow.
    pub fn failure(&self, failure: Failure) -> Result<usize> {
        self.change(|t| {
            t.failures.push(failure);
            t.failures.len() - 1
        })
    }

    /// A failure is over.
    pub fn failure_ends(&self, number: usize, end: Timestamp) -> Result<()> {
        self.change(|t| {
            if let Some(failure) = t.failures.get_mut(number) {
                failure.end = Some(end);
            }
        })
    }

    /// Adds a fault; its number.
    pub fn fault(&self, fault: FaultRow) -> Result<usize> {
        self.change(|t| {
            t.faults.push(fault);
            t.faults.len() - 1
        })
    }

    /// A fault has ended in a failure.
    pub fn fault_failed(&self, number: usize, onset: Timestamp) -> Result<()> {
        self.change(|t| {
            if let Some(fault) = t.faults.get_mut(number) {
                fault.failure_onset = Some(onset);
            }
        })
    }

    /// Adds something harmless.
    pub fn event(&self, event: Event) -> Result<()> {
        self.change(|t| t.events.push(event))
    }
}

fn time(at: Option<Timestamp>) -> String {
    at.map(|at| format!("{at:.3}")).unwrap_or_default()
}

fn failures_csv(failures: &[Failure]) -> String {
    let row = |f: &Failure| {
        let lead_s = f.lead_s.map(|s| format!("{s:.1}")).unwrap_or_default();
        format!("{},{},{:.3},{},{lead_s}\n", f.entity, f.class, f.onset, time(f.end))
    };
    std::iter::once("entity,class,onset,end,lead_s\n".to_owned())
        .chain(failures.iter().map(row))
        .collect()
}

fn faults_csv(faults: &[FaultRow]) -> String {
    let row = |f: &FaultRow| {
        let (onset, begin) = (time(f.failure_onset), f.begin);
        let (entity, fault, shape) = (&f.entity, f.fault, f.shape);
        format!(
            "{entity},{fault},{shape},{begin:.3},{:.1},{onset},{}\n",
            f.growth_s, f.foreseeable
        )
    };
    let head = "entity,fault,shape,begin,growth_s,failure_onset,foreseeable\n".to_owned();
    std::iter::once(head).chain(faults.iter().map(row)).collect()
}

fn events_csv(events: &[Event]) -> String {
    let row = |e: &Event| format!("{},{},{:.3},{:.3}\n", e.entity, e.kind, e.start, e.end);
    std::iter::once("entity,kind,start,end\n".to_owned())
        .chain(events.iter().map(row))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_empty_cells_for_what_did_not_happen() {
        let at = Timestamp::UNIX_EPOCH;
        let failure = |end| Failure {
            entity: "a".into(),
            class: "kill",
            onset: at,
            end,
            lead_s: end.map(|_| 30.0),
        };
        let zero = "1970-01-01T00:00:00.000Z";
        let csv = failures_csv(&[failure(None), failure(Some(at))]);
        assert_eq!(
            csv,
            format!("entity,class,onset,end,lead_s\na,kill,{zero},,\na,kill,{zero},{zero},30.0\n")
        );
        let fault = FaultRow {
            entity: "a".into(),
            fault: "fd-leak",
            shape: "linear",
            begin: at,
            growth_s: 61.25,
            failure_onset: None,
            foreseeable: true,
        };
        let csv = faults_csv(&[fault]);
        assert_eq!(
            csv.lines().nth(1),
            Some(&*format!("a,fd-leak,linear,{zero},61.2,,true"))
        );
    }
}
