//! Dumps as records in event time: one line is one record, and several dumps merge into one stream.
//!
//! A line is sent as it is; it is decoded only to learn when it happened and whom it is about. A line without a time of its own
//! (the rest of a stack trace) has the time of the line before. Merging looks at the head of each dump alone, so dumps must be
//! nearly in order, as recorders write them; a line from the past comes where it stands.
//!
//! A CSV of metrics is a dump too: each row becomes one record of plain JSON, its label columns the labels of its series. So are JSON
//! Lines whose first is a row, a Parquet file of metrics or of log lines, and each partition of a topic.
//!
//! Cost: one line of each dump in memory; per record one decoding, one allocation for the line and one for the key, and
//! `log2(dumps)` comparisons.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foreshock_domain::{Input, Timestamp, is_label_column};
use foreshock_wire::{Decoder, Format, Near, Origin, limits};

pub use crate::dump_error::DumpError;
use crate::dump_parquet::{self, DumpParquet};
use crate::dump_topic::{TopicRecord, TopicRecords};
pub use crate::merged::{Merged, merge};
use crate::metric_csv::{Layout, MetricCsv, MetricCsvError, MetricRow};
use crate::metric_json;
use crate::metric_record::MetricRecord;
use crate::open::{LineRead, Opened, STDIN, open};
use crate::parquet_rows::ParquetRows;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// How a Parquet file begins.
const PARQUET: &[u8] = b"PAR1";
/// Enough to tell what a file is.
const PEEK_BYTES: usize = 16;
/// Packed Parquet larger than this has to be unpacked by hand.
const COPY_BYTES_MAX: u64 = 64 << 30;
/// What an offset of a topic counts in the progress.
const OFFSET_BYTES: u64 = 256;

/// One record of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedRecord {
    /// Event time.
    pub at: Timestamp,
    /// The entity, by the first label that the record has; empty where it has none.
    pub key: String,
    /// The line, without its end.
    pub payload: Vec<u8>,
}

/// A dump being read, record by record. After an error it ends.
pub struct Dump {
    path: PathBuf,
    format: Format,
    reading: Reading,
    taken: Arc<AtomicU64>,
    bytes_total: Option<u64>,
    decoder: Decoder,
    key_labels: Vec<String>,
    line: u64,
    /// Whether its lines are rows of a table of metrics; known from the first.
    is_table: Option<bool>,
    /// Of a topic, the last that was read.
    offset: i64,
    last_at: Option<Timestamp>,
    /// When the file was last written to, where it is one.
    written_at: Option<Timestamp>,
    ended: bool,
}

enum Reading {
    Lines(Opened),
    Csv(Box<MetricCsv<Opened>>),
    Parquet(Box<DumpParquet>),
    Topic(Box<dyn TopicRecords>),
}

impl Dump {
    /// Opens a dump: JSON Lines or raw log lines, a CSV of metrics (by its name or its header), or Parquet (by its name or its
    /// first bytes); plain, `.gz` or `.zst`; `-` is standard input. Parquet has to be read at any place, so what is packed or
    /// comes through a pipe is written to a nameless file for the temporary ones first.
    ///
    /// # Errors
    /// When it can't be opened, or it is a table and not one that fits `format`.
    pub fn open(path: &Path, format: Format) -> Result<Self, DumpError> {
        let failed = |source| DumpError::Open {
            path: path.into(),
            source,
        };
        let mut opened = open(path).map_err(failed)?;
        let first = opened.peek(PEEK_BYTES).map_err(|source| DumpError::Read {
            path: path.into(),
            line: 1,
            source,
        })?;
        let mut dump = if first.starts_with(PARQUET) || is_named(path, "parquet") {
            Self::parquet(path, format, opened)?
        } else if is_named(path, "csv") || (format == Format::PlainJson && is_csv_header(&first)) {
            Self::csv(path, format, opened)?
        } else {
            Self::new(path, format, opened)
        };
        // Times without a year are of the year before the file was last written to.
        let written = std::fs::metadata(path).and_then(|m| m.modified()).ok();
        let since = written.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        dump.written_at = since
            .and_then(|since| i64::try_from(since.as_millis()).ok())
            .map(Timestamp::from_millis);
        Ok(dump)
    }

    /// A dump that is open already; `path` is its name in errors.
    #[must_use]
    pub fn new(path: &Path, format: Format, opened: Opened) -> Self {
        let size = (opened.bytes_taken_handle(), opened.bytes_total());
        Self::of(path, format, Reading::Lines(opened), size)
    }

    fn of(path: &Path, format: Format, reading: Reading, size: (Arc<AtomicU64>, Option<u64>)) -> Self {
        Self {
            path: path.into(),
            format,
            reading,
            taken: size.0,
            bytes_total: size.1,
            decoder: Decoder::new(format),
            key_labels: Vec::new(),
            line: 0,
            is_table: None,
            offset: -1,
            last_at: None,
            written_at: None,
            ended: false,
        }
    }

    /// A CSV of metrics that is open already.
    ///
    /// # Errors
    /// When it is none, or `format` is not plain JSON.
    pub fn csv(path: &Path, format: Format, opened: Opened) -> Result<Self, DumpError> {
        if format != Format::PlainJson {
            return Err(DumpError::TableFormat {
                path: path.into(),
                table: "CSV of metrics",
                format,
                expected: "plain_json",
            });
        }
        let size = (opened.bytes_taken_handle(), opened.bytes_total());
        let csv = MetricCsv::with_labels(opened, &is_label_column).map_err(|source| DumpError::Csv {
            path: path.into(),
            source,
        })?;
        if let Some(error) = csv.repeated_name() {
            let path = path.into();
            return Err(DumpError::Csv { path, source: error });
        }
        Ok(Self::of(path, format, Reading::Csv(Box::new(csv)), size))
    }

    /// A Parquet file that is open already.
    ///
    /// # Errors
    /// When it is none, or one that does not fit `format`.
    pub fn parquet(path: &Path, format: Format, opened: Opened) -> Result<Self, DumpError> {
        if !dump_parquet::is_fitting(format) {
            return Err(DumpError::TableFormat {
                path: path.into(),
                table: "Parquet file",
                format,
                expected: "plain_json, log_json or log",
            });
        }
        let file = seekable(path, opened).map_err(|source| DumpError::Read {
            path: path.into(),
            line: 1,
            source,
        })?;
        let read = ParquetRows::new(file).and_then(|rows| DumpParquet::new(rows, format));
        let read = read.map_err(|source| DumpError::Parquet {
            path: path.into(),
            source,
        })?;
        let (taken, total) = read.rows().progress();
        Ok(Self::of(
            path,
            format,
            Reading::Parquet(Box::new(read)),
            (taken, Some(total)),
        ))
    }

    /// A partition of a topic; `name` is its name in errors.
    #[must_use]
    pub fn topic(name: &str, format: Format, records: Box<dyn TopicRecords>) -> Self {
        let (_, total) = records.progress();
        let size = (Arc::default(), Some(total.saturating_mul(OFFSET_BYTES)));
        Self::of(Path::new(name), format, Reading::Topic(records), size)
    }

    /// Takes the key from the first of these labels that a record has; `namespace+pod` joins two with `/`.
    #[must_use]
    pub fn keyed_by<S: AsRef<str>>(mut self, labels: &[S]) -> Self {
        self.key_labels = labels.iter().map(|l| l.as_ref().to_owned()).collect();
        self
    }

    /// Reads so many records and drops them.
    ///
    /// # Errors
    /// When they can't be read, or there are fewer.
    pub fn pass_over(&mut self, records: u64) -> Result<(), DumpError> {
        for passed in 0..records {
            if self.next().transpose()?.is_none() {
                let path = self.path.clone();
                return Err(DumpError::Shorter { path, passed, records });
            }
        }
        Ok(())
    }

    /// Bytes taken so far, as they lie there; of a topic, whose size brokers don't tell, 256 for each offset.
    #[must_use]
    pub fn bytes_taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Size of the file, where it is one.
    #[must_use]
    pub const fn bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }

    /// The format of its lines.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    fn read(&mut self) -> Result<Option<TimedRecord>, DumpError> {
        let opened = match &mut self.reading {
            Reading::Lines(opened) => opened,
            Reading::Csv(csv) => {
                let failed = |source| DumpError::Csv {
                    path: self.path.clone(),
                    source,
                };
                let row = csv.next_row().map_err(failed)?;
                return row
                    .map(|row| record_of(&row, &self.key_labels))
                    .transpose()
                    .map_err(failed);
            }
            Reading::Parquet(rows) => {
                return rows.next_record(&self.key_labels).map_err(|source| DumpError::Parquet {
                    path: self.path.clone(),
                    source,
                });
            }
            Reading::Topic(records) => {
                let read = records.next().transpose();
                let taken = records.progress().0.saturating_mul(OFFSET_BYTES);
                self.taken.store(taken, Ordering::Relaxed);
                return match read {
                    Ok(record) => Ok(record.map(|record| self.of_topic(record))),
                    Err(source) => Err(DumpError::Topic {
                        path: self.path.clone(),
                        offset: self.offset,
                        source,
                    }),
                };
            }
        };
        let mut payload = Vec::new();
        loop {
            self.line += 1;
            let (path, line) = (&self.path, self.line);
            let read = opened.read_line(&mut payload, limits::PAYLOAD_BYTES_MAX);
            match read.map_err(|source| DumpError::Read {
                path: path.clone(),
                line,
                source,
            })? {
                LineRead::End => return Ok(None),
                LineRead::TooLong => {
                    return Err(DumpError::TooLong {
                        path: path.clone(),
                        line,
                    });
                }
                LineRead::Line => {
                    // Some editors write a byte order mark.
                    if line == 1 && payload.starts_with(BYTE_ORDER_MARK) {
                        payload.drain(..BYTE_ORDER_MARK.len());
                    }
                    if !payload.trim_ascii().is_empty() {
                        break;
                    }
                }
            }
        }
        let (path, line) = (&self.path, self.line);
        if *self
            .is_table
            .get_or_insert_with(|| self.format == Format::PlainJson && metric_json::is_row(&payload))
        {
            let read = metric_json::record(&payload, &self.key_labels);
            return read.map(Some).map_err(|reason| DumpError::JsonRow {
                path: path.clone(),
                line,
                reason,
            });
        }
        let (mut first_at, mut key) = (None, None);
        let labels = &self.key_labels;
        let sink = &mut |input: Input<'_>| {
            first_at = first_at.or(time_of(&input));
            key.get_or_insert_with(|| key_of(&input, labels));
        };
        let origin = Origin {
            key: b"",
            near: self.last_at.or(self.written_at).map(Near::Before),
        };
        self.decoder
            .decode_from(&payload, origin, sink)
            .map_err(|reason| DumpError::Record {
                path: path.clone(),
                line,
                format: self.format,
                reason,
            })?;
        let Some(at) = first_at.or(self.last_at) else {
            return Err(DumpError::NoTime {
                path: path.clone(),
                line,
            });
        };
        self.last_at = Some(at);
        Ok(Some(TimedRecord {
            at,
            key: key.unwrap_or_default(),
            payload,
        }))
    }
}

/// Whether the name without `.gz` or `.zst` ends in this.
fn is_named(path: &Path, ending: &str) -> bool {
    let is = |path: &Path, ending: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending));
    let packed = is(path, "gz") || is(path, "zst");
    is(path, ending) || (packed && path.file_stem().is_some_and(|stem| is(Path::new(stem), ending)))
}

/// Whether this is how a CSV of metrics begins, and no JSON ever does.
fn is_csv_header(first: &[u8]) -> bool {
    let first = first.strip_prefix(BYTE_ORDER_MARK).unwrap_or(first).trim_ascii_start();
    first.starts_with(b"timestamp,") || first.starts_with(b"\"timestamp\",")
}

/// The file itself, or a nameless copy of what is packed or comes through a pipe.
fn seekable(path: &Path, opened: Opened) -> io::Result<File> {
    if path.as_os_str() != STDIN && !opened.is_packed() {
        let file = File::open(path)?;
        if file.metadata()?.is_file() {
            return Ok(file);
        }
    }
    let mut copy = tempfile::tempfile()?;
    let copied = io::copy(&mut io::Read::take(opened, COPY_BYTES_MAX), &mut copy)?;
    if copied == COPY_BYTES_MAX {
        let what = format!("more than {COPY_BYTES_MAX} bytes of packed Parquet, expected it unpacked");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    copy.rewind()?;
    Ok(copy)
}

/// One row of a CSV as plain JSON.
fn record_of(row: &MetricRow<'_, Opened>, key_labels: &[String]) -> Result<TimedRecord, MetricCsvError> {
    let points = match row.layout() {
        Layout::Wide(names) => {
            let points = names
                .iter()
                .enumerate()
                .map(|(i, name)| Ok((Cow::from(name.as_str()), row.wide_value(i)?)));
            points.collect::<Result<Vec<_>, MetricCsvError>>()?
        }
        Layout::Long => {
            let (series, value) = row.long_value()?;
            vec![(String::from_utf8_lossy(series), value)]
        }
    };
    let record = MetricRecord {
        at: row.at,
        labels: row.labels().collect(),
        points,
    };
    Ok(record.to_record(key_labels))
}

fn time_of(input: &Input<'_>) -> Option<Timestamp> {
    match input {
        Input::Sample(s) => s.at,
        Input::Line(l) => l.at,
        Input::Incident(i) => Some(i.onset),
    }
}

fn key_of(input: &Input<'_>, labels: &[String]) -> String {
    if let Some(entity) = input.entity() {
        return entity.as_str().to_owned();
    }
    joined_key(labels, &|name| input.label(name)).unwrap_or_default()
}

/// The first of `labels` that is there; `a+b` joins two.
pub(crate) fn joined_key<'v>(labels: &[String], value: &dyn Fn(&str) -> Option<&'v str>) -> Option<String> {
    let joined = |label: &String| {
        let parts: Option<Vec<&str>> = label.split('+').map(|part| value(part.trim())).collect();
        parts.map(|parts| parts.join("/"))
    };
    labels.iter().find_map(joined)
}

impl Dump {
    /// As `run` takes it: with its own time where its value has none, and with its own key.
    fn of_topic(&mut self, record: TopicRecord) -> TimedRecord {
        self.offset = record.offset;
        let (mut first_at, mut key) = (None, None);
        let labels = &self.key_labels;
        let sink = &mut |input: Input<'_>| {
            first_at = first_at.or(time_of(&input));
            key.get_or_insert_with(|| key_of(&input, labels));
        };
        let origin = Origin {
            key: &record.key,
            near: record.at.map(Near::Record),
        };
        // What can't be read is a dead letter there, and the engine says so.
        let _ = self.decoder.decode_from(&record.payload, origin, sink);
        let at = first_at
            .or(record.at)
            .or(self.last_at)
            .unwrap_or(Timestamp::from_millis(0));
        self.last_at = Some(at);
        let own_key = (!record.key.is_empty()).then(|| String::from_utf8_lossy(&record.key).into_owned());
        TimedRecord {
            at,
            key: own_key.or(key).unwrap_or_default(),
            payload: record.payload,
        }
    }
}

impl Iterator for Dump {
    type Item = Result<TimedRecord, DumpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read();
        self.ended = !matches!(read, Ok(Some(_)));
        read.transpose()
    }
}

#[cfg(test)]
#[path = "dump_tests.rs"]
mod tests;
#[cfg(test)]
#[path = "dump_wrong_tests.rs"]
mod wrong_tests;
