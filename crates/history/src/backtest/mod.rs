//! `foreshock backtest`: labelled history through the same engine as `run`, and what it comes to.
//!
//! Records go by event time through [`crate::dump_log::DumpLog`]; nothing of the future is known to the engine, and labels are
//! looked at by the evaluation alone. Memory is the engine's state, one epoch, and what is kept of each episode and failure;
//! it does not grow with the length of the dumps.

mod chance;
mod chart;
pub mod collect;
pub mod evaluate;
pub mod figures;
mod html;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foreshock_domain::{Grade, Timestamp};
use foreshock_engine::{
    Counters, Destination, Engine, EngineConfig, EpochReport, Moment, Observe, Output, TopicId, run,
};

use serde::Serialize;

use crate::dump::{Dump, DumpError};
use crate::dump_log::DumpLog;
use crate::labels::{Label, Labels};
use crate::train::judge::{self, RowFigures};
use crate::train::rows::{FailureSpans, Known};
use collect::{Collected, Collector};
use evaluate::{Figures, Outcome, Terms, evaluate};

/// What to replay and how to judge it.
pub struct Backtest<'a> {
    /// The engine as `run` would have it.
    pub config: Arc<EngineConfig>,
    /// Dumps and the topic each stands for.
    pub dumps: Vec<(TopicId, Dump)>,
    /// Failures that happened; `None`: those that the engine's own rules see.
    pub labels: Option<Labels>,
    /// What counts.
    pub terms: Terms,
    /// Records of this time or later are not read.
    pub until: Timestamp,
    /// Gets every event as it would be produced, one a line.
    pub events: Option<&'a mut dyn Write>,
    /// Gets every prediction as CSV: `entity,timestamp,horizon_s,probability`.
    pub predictions: Option<&'a mut dyn Write>,
}

/// What came out.
#[derive(Debug)]
pub struct Backtested {
    /// The evaluation: of warnings where a model is asked, of all precursors otherwise.
    pub figures: Figures,
    /// Of all precursors, where a model is asked.
    pub unusual: Option<Figures>,
    /// Of precursors of grade `watch` and above.
    pub watched: Figures,
    /// What the predictions of single windows were worth, where a model is asked.
    pub calibration: Option<RowFigures>,
    /// What the engine counted: late, dropped, refused and all else.
    pub counters: Counters,
    labels: Vec<Label>,
    collected: Collected,
    outcomes: Vec<Outcome>,
    horizon_ms: i64,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum BacktestError {
    /// A dump can't be read.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// Events or predictions can't be written.
    #[error("{source}")]
    Write {
        /// Which of them.
        sink: Sink,
        /// Why.
        source: io::Error,
    },
    /// Somebody stopped it.
    #[error("stopped before the end of the dumps")]
    Stopped,
}

/// What is written while a backtest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Events.
    Events,
    /// Predictions.
    Predictions,
}

impl Sink {
    fn failed(self, source: impl Into<io::Error>) -> BacktestError {
        BacktestError::Write {
            sink: self,
            source: source.into(),
        }
    }
}

impl Backtest<'_> {
    /// Replays and evaluates. `progress` is asked every few thousand records; where it says false the replay ends.
    ///
    /// # Errors
    /// When a dump can't be read, events can't be written, or it was stopped.
    pub fn run(self, progress: &mut dyn FnMut(&[Dump]) -> bool) -> Result<Backtested, BacktestError> {
        let is_labelled = self.labels.is_some();
        let labels = self.labels.unwrap_or_default();
        let mut collector = Collector::new(&labels.failures, self.terms.horizon_ms);
        let (mut failed, mut stopped) = (None, false);
        // A full disk is no reason to read to the end first.
        let writes = Cell::new(true);
        let mut sinks = Sinks::new(self.events, self.predictions, &self.config)?;
        let mut written = |output: &Output| {
            collector.take(output);
            if failed.is_none() {
                failed = sinks.write(output).err();
                writes.set(failed.is_none());
            }
        };
        let mut progress = |dumps: &[Dump]| {
            let goes_on = progress(dumps);
            stopped |= !goes_on;
            goes_on && writes.get()
        };
        let tick_every_ms = self.config.tick_every_ms;
        let mut log = DumpLog::new(self.dumps, tick_every_ms, &mut written, &mut progress).until(self.until);
        let mut counters = Counters::default();
        let mut config = self.config;
        let asks = config.predictor.is_some();
        if asks {
            Arc::make_mut(&mut config).observe = Observe::Predictions;
        }
        run(&mut log, &mut Engine::new(config), &mut |report| {
            if let EpochReport::Committed { counters: of_epoch, .. } = report {
                counters += *of_epoch;
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        if stopped {
            return Err(BacktestError::Stopped);
        }
        sinks.finish()?;
        let mut collected = collector.finish();
        let (failures, merged) = if is_labelled {
            (labels.failures, labels.merged)
        } else {
            let own = own_failures(&collected);
            collected.before = vec![collect::Before::default(); own.failures.len()];
            (own.failures, own.merged)
        };
        let calibration = asks.then(|| calibration(&self.terms, &failures, &collected.predictions));
        let (mut figures, mut outcomes) = evaluate(&self.terms, &failures, merged, &collected);
        let watched = collected.at_least(Grade::Watch);
        let watched = evaluate(&self.terms, &failures, merged, &watched).0;
        let mut unusual = None;
        if asks {
            let mut warnings = collected.at_least(Grade::Warning);
            warnings.predictions = std::mem::take(&mut collected.predictions);
            collected = warnings;
            unusual = Some(figures);
            (figures, outcomes) = evaluate(&self.terms, &failures, merged, &collected);
            figures.ranked_by = "probability";
        }
        Ok(Backtested {
            figures,
            unusual,
            watched,
            calibration,
            counters,
            labels: failures,
            collected,
            outcomes,
            horizon_ms: self.terms.horizon_ms,
        })
    }
}

/// Where a replay writes to as it goes.
struct Sinks<'a> {
    events: Option<&'a mut dyn Write>,
    predictions: Option<csv::Writer<&'a mut dyn Write>>,
    horizon_s: String,
}

impl<'a> Sinks<'a> {
    fn new(
        events: Option<&'a mut dyn Write>,
        predictions: Option<&'a mut dyn Write>,
        config: &EngineConfig,
    ) -> Result<Self, BacktestError> {
        let mut predictions = predictions.map(csv::Writer::from_writer);
        if let Some(out) = &mut predictions {
            let head = out.write_record(["entity", "timestamp", "horizon_s", "probability"]);
            head.map_err(|e| Sink::Predictions.failed(e))?;
        }
        #[allow(clippy::cast_precision_loss)] // milliseconds of a horizon
        let horizon_s = config.predictor.as_ref().map_or(0.0, |m| m.horizon_ms as f64 / 1e3);
        Ok(Self {
            events,
            predictions,
            horizon_s: horizon_s.to_string(),
        })
    }

    fn write(&mut self, output: &Output) -> Result<(), BacktestError> {
        match output.to {
            Destination::Anomalies | Destination::Failures => {
                if let Some(out) = &mut self.events {
                    let line = out.write_all(&output.value).and_then(|()| out.write_all(b"\n"));
                    line.map_err(|e| Sink::Events.failed(e))?;
                }
            }
            Destination::Moments => {
                if let Some(out) = &mut self.predictions
                    && let Ok(moment) = Moment::decode(&output.value)
                    && let Some(probability) = moment.probability
                {
                    let at = foreshock_wire::time::format_rfc3339(moment.at);
                    let p = probability.to_string();
                    let row = out.write_record([moment.entity.as_str(), &at, &self.horizon_s, &p]);
                    row.map_err(|e| Sink::Predictions.failed(e))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A writer that is dropped keeps to itself what it could not write.
    fn finish(&mut self) -> Result<(), BacktestError> {
        match &mut self.predictions {
            Some(out) => out.flush().map_err(|e| Sink::Predictions.failed(e)),
            None => Ok(()),
        }
    }
}

/// What the predictions of the scored part were worth by window.
fn calibration(terms: &Terms, failures: &[Label], predictions: &collect::Predictions) -> RowFigures {
    let spans = FailureSpans::new(failures, &terms.apart);
    let mut last = vec![Timestamp::MIN; predictions.entities.len()];
    for (entity, at, _) in &predictions.rows {
        let last = &mut last[*entity as usize];
        *last = (*last).max(*at);
    }
    let until = spans.known_until(last.iter().copied().max().unwrap_or(Timestamp::MIN));
    let known: Vec<(f64, bool, f64)> = predictions
        .rows
        .iter()
        .filter(|r| r.1 >= terms.from)
        .filter_map(|(entity, at, p)| {
            let place = *entity as usize;
            let seen = last[place];
            let known = Known { seen, until };
            let target = spans.target(&predictions.entities[place], *at, terms.horizon_ms, known);
            Some((f64::from(*p), target.came()?, 1.0))
        })
        .collect();
    judge::of_known(&known)
}

/// What the engine saw, as labels.
fn own_failures(collected: &Collected) -> Labels {
    let label = |seen: &collect::Seen| Label {
        entity: seen.entity.clone(),
        class: seen.class.as_str().into(),
        onset: seen.onset,
        end: seen.end,
        lead_ms: None,
    };
    Labels::settle(collected.seen.iter().map(label).collect())
}

impl Backtested {
    /// The figures as JSON.
    ///
    /// # Errors
    /// When the file can't be written; then there is none under its name.
    pub fn write_json(&self, path: &Path) -> io::Result<()> {
        whole(path, |out| {
            let report = Report {
                figures: &self.figures,
                calibration: self.calibration.as_ref(),
                all_precursors: self.unusual.as_ref(),
                watched: &self.watched,
                counters: self.counters.entries().into_iter().collect(),
            };
            serde_json::to_writer_pretty(&mut *out, &report)?;
            out.write_all(b"\n")
        })
    }

    /// The same for people: one page without anything from elsewhere.
    ///
    /// # Errors
    /// When the file can't be written; then there is none under its name.
    pub fn write_html(&self, path: &Path) -> io::Result<()> {
        whole(path, |out| out.write_all(html::page(self).into_string().as_bytes()))
    }

    /// What was left out of the input or stood in it twice: name and how many, of those that happened.
    #[must_use]
    pub fn oddities(&self) -> Vec<(&'static str, u64)> {
        let c = &self.counters;
        let told = [
            ("records that can't be read", c.dead_letters),
            ("samples or lines that came too late", c.late),
            ("from a clock far ahead", c.future),
            ("from before 1970 or after 9999", c.implausible),
            ("samples of the same time as the one before", c.duplicates),
        ];
        told.into_iter().filter(|(_, n)| *n > 0).collect()
    }
}

/// The JSON report.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    figures: &'a Figures,
    #[serde(skip_serializing_if = "Option::is_none")]
    calibration: Option<&'a RowFigures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    all_precursors: Option<&'a Figures>,
    watched: &'a Figures,
    counters: BTreeMap<&'static str, u64>,
}

/// Writes beside and renames, so that nothing half-written has the name.
///
/// # Errors
/// What `write` or the file system say.
pub fn whole(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let beside = PathBuf::from(name);
    let done = File::create(&beside).and_then(|file| {
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&beside, path)
    });
    if done.is_err() {
        // It may not even have been made.
        let _ = std::fs::remove_file(&beside);
    }
    done
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
