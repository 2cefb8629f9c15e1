//! `foreshock score`: a metric file in, one row of surprises per row out.
//!
//! Strictly causal: the output of a row depends on no later row, so a truncated input gives a truncated output, byte for
//! byte. A wide file is one entity: beside its series' own models one
//! looks at how the first 64 of them move together and which regimes they work in. Memory is one model per series (some
//! 2 kB), at most 34 kB for that, and one row, however long the file is. The output appears under its
//! name only when it is complete.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use foreshock_domain::{Detector, Learning};
use foreshock_metrics::{Point, SeriesModel};

use crate::alert_rule::{AlertRule, Alerts, Scored};
use crate::entity_bank::{EntityBank, RowScore};
use crate::metric_csv::{Layout, MetricCsv, MetricCsvError, MetricRow};
use crate::open::{Opened, open};

/// Rows between two reports of progress.
const PROGRESS_ROWS: u64 = 4_096;
/// Most series of a long file: 200 MB of models.
const SERIES_MAX: usize = 100_000;
/// What to read and where to write.
#[derive(Clone, Debug)]
pub struct ScoreOptions {
    /// Metric file as CSV, plain, `.gz` or `.zst`; `-` is standard input.
    pub input: PathBuf,
    /// CSV to write: `timestamp,score,alert_score`, one row per row of the input, in order.
    pub output: PathBuf,
    /// Adds one score column per metric of a wide file; of a long file, whose rows have one series each, the column
    /// `series` that says which.
    pub per_series: bool,
}

/// What was scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScoreSummary {
    /// Rows read and written.
    pub rows: u64,
    /// Series among them.
    pub series: u64,
    /// Events that opened or escalated.
    pub alerts: u64,
    /// Values that were missing.
    pub missing: u64,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    /// The input is not what it should be: file, line, column and what was expected.
    #[error("{path}: {source}", path = path.display())]
    Data {
        /// Input.
        path: PathBuf,
        /// Where and what.
        source: MetricCsvError,
    },
    /// The input holds more series than there is room for.
    #[error("{path}: line {line}, column series: expected at most {SERIES_MAX} series", path = path.display())]
    TooManySeries {
        /// Input.
        path: PathBuf,
        /// Line of the first that is too many, counted from 1.
        line: u64,
    },
    /// A file can't be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Input or output.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ScoreError {
    /// Whether the input is at fault, and not the machine.
    #[must_use]
    pub fn is_bad_data(&self) -> bool {
        !matches!(self, Self::Io { .. })
    }
}

/// Scores a file. `progress` is told how many bytes of the input were taken so far, as they lie there (compressed ones
/// count compressed), every few thousand rows.
///
/// # Errors
/// When the input is no metric file, or a file can't be read or written; then there is no output, and no partial one.
pub fn score(options: &ScoreOptions, progress: &mut dyn FnMut(u64)) -> Result<ScoreSummary, ScoreError> {
    let input_failed = |source| ScoreError::Io {
        path: options.input.clone(),
        source,
    };
    let opened = open(&options.input).map_err(input_failed)?;
    let partial = Partial::beside(&options.output);
    let output_failed = |source| ScoreError::Io {
        path: options.output.clone(),
        source,
    };
    let file = File::create(&partial.path).map_err(output_failed)?;
    let mut out = Output {
        csv: csv::Writer::from_writer(BufWriter::new(file)),
        buffer: String::new(),
    };
    let summary = score_rows(options, opened, &mut out, progress)?;
    out.finish().map_err(output_failed)?;
    fs::rename(&partial.path, &options.output).map_err(output_failed)?;
    Ok(summary)
}

fn score_rows(
    options: &ScoreOptions,
    opened: Opened,
    out: &mut Output,
    progress: &mut dyn FnMut(u64),
) -> Result<ScoreSummary, ScoreError> {
    let taken = opened.bytes_taken_handle();
    let taken = || taken.load(std::sync::atomic::Ordering::Relaxed);
    let bad = |source| match source {
        MetricCsvError::Read { line, source } => {
            let source = io::Error::new(source.kind(), format!("line {line}: {source}"));
            ScoreError::Io {
                path: options.input.clone(),
                source,
            }
        }
        source @ MetricCsvError::Data { .. } => ScoreError::Data {
            path: options.input.clone(),
            source,
        },
    };
    let unwritten = |source| ScoreError::Io {
        path: options.output.clone(),
        source,
    };
    let mut csv = MetricCsv::new(opened).map_err(bad)?;
    let mut bank = Bank::new(csv.layout());
    out.header(csv.layout(), options.per_series).map_err(unwritten)?;
    let mut summary = ScoreSummary::default();
    while let Some(row) = csv.next_row().map_err(bad)? {
        let Some(scored) = bank.score(&row, &mut summary).map_err(bad)? else {
            return Err(ScoreError::TooManySeries {
                path: options.input.clone(),
                line: summary.rows + 2,
            });
        };
        summary.rows += 1;
        summary.alerts += u64::from(scored.alert > 0.0);
        out.row(&row, scored, options.per_series.then_some(&bank))
            .map_err(unwritten)?;
        if summary.rows.is_multiple_of(PROGRESS_ROWS) {
            progress(taken());
        }
    }
    progress(taken());
    summary.series = bank.series();
    Ok(summary)
}

/// The models of a file.
enum Bank {
    /// One entity: its metrics are judged together.
    Wide {
        bank: Box<EntityBank>,
        values: Vec<f64>,
        alerts: Box<Alerts>,
    },
    /// Each row is one series, judged alone.
    Long {
        series: BTreeMap<Box<[u8]>, (SeriesModel, Alerts)>,
    },
}

impl Bank {
    fn new(layout: &Layout) -> Self {
        match layout {
            Layout::Wide(names) => Self::Wide {
                bank: Box::new(EntityBank::new(names.len())),
                values: Vec::with_capacity(names.len()),
                alerts: Box::default(),
            },
            Layout::Long => Self::Long {
                series: BTreeMap::new(),
            },
        }
    }

    fn series(&self) -> u64 {
        match self {
            Self::Wide { bank, .. } => bank.len() as u64,
            Self::Long { series } => series.len() as u64,
        }
    }

    /// Scores a row, then learns it; `None` when it is of a series too many.
    fn score<R: io::BufRead>(
        &mut self,
        row: &MetricRow<'_, R>,
        summary: &mut ScoreSummary,
    ) -> Result<Option<Scored>, MetricCsvError> {
        match self {
            Self::Wide { bank, values, alerts } => {
                values.clear();
                for column in 0..bank.len() {
                    let value = row.wide_value(column)?;
                    summary.missing += u64::from(value.is_nan());
                    values.push(value);
                }
                Ok(Some(alerts.score(&AlertRule::default(), bank.step(row.at, values))))
            }
            Self::Long { series } => {
                let (name, value) = row.long_value()?;
                summary.missing += u64::from(value.is_nan());
                if !series.contains_key(name) {
                    if series.len() >= SERIES_MAX {
                        return Ok(None);
                    }
                    series.insert(name.into(), (SeriesModel::new(None), Alerts::default()));
                }
                let Some((model, alerts)) = series.get_mut(name) else {
                    return Ok(None);
                };
                let verdict = model.score_learn(&Point { at: row.at, value }, Learning::Normal);
                let scored = verdict.map(|verdict| RowScore {
                    score: verdict.score.surprise(),
                    novelty: model.novelty().surprise(),
                });
                Ok(Some(alerts.score(&AlertRule::default(), scored)))
            }
        }
    }
}

/// The output file being written.
struct Output {
    csv: csv::Writer<BufWriter<File>>,
    buffer: String,
}

impl Output {
    fn header(&mut self, layout: &Layout, per_series: bool) -> io::Result<()> {
        let mut names = vec!["timestamp", "score", "alert_score"];
        match layout {
            _ if !per_series => {}
            Layout::Wide(metrics) => names.extend(metrics.iter().map(String::as_str)),
            Layout::Long => names.push("series"),
        }
        self.csv.write_record(names)?;
        Ok(())
    }

    fn row<R: io::BufRead>(&mut self, row: &MetricRow<'_, R>, scored: Scored, bank: Option<&Bank>) -> io::Result<()> {
        self.csv.write_field(row.time_text())?;
        self.number(scored.score)?;
        self.number(scored.alert)?;
        match bank {
            None => {}
            Some(Bank::Wide { bank, .. }) => {
                for &surprise in bank.surprises() {
                    self.number(surprise)?;
                }
            }
            Some(Bank::Long { .. }) => {
                let (series, _) = row.long_value().map_err(io::Error::other)?;
                self.csv.write_field(series)?;
            }
        }
        // Ends the row.
        self.csv.write_record(None::<&[u8]>)?;
        Ok(())
    }

    /// The shortest digits that read back as the same number.
    fn number(&mut self, x: f64) -> io::Result<()> {
        use std::fmt::Write as _;
        self.buffer.clear();
        // Writing to a string can't fail.
        let _ = write!(self.buffer, "{x}");
        self.csv.write_field(&self.buffer)?;
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        let buffered = self.csv.into_inner().map_err(csv::IntoInnerError::into_error)?;
        buffered
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .sync_all()
    }
}

/// A file beside the output that goes away whatever happens, unless it was renamed.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn beside(output: &Path) -> Self {
        let mut name = OsString::from(".");
        name.push(output.file_name().unwrap_or_default());
        name.push(".scores.partial");
        Self {
            path: output.with_file_name(name),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already when it was renamed or never made; and if it can't be removed there is nobody to tell.
        let _ = fs::remove_file(&self.path);
    }
}
