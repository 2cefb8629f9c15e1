//! Dumps as records in event time: one line is one record, and several dumps merge into one stream.
//!
//! A line is sent as it is; it is decoded only to learn when it happened and whom it is about. A line without a time of its own
//! (the rest of a stack trace) has the time of the line before. Merging looks at the head of each dump alone, so dumps must be
//! nearly in order, as recorders write them; a line from the past comes where it stands.
//!
//! A CSV of metrics is a dump too: each row becomes one record of plain JSON, its label columns the labels of its series.
//!
//! Cost: one line of each dump in memory; per record one decoding, one allocation for the line and one for the key, and
//! `log2(dumps)` comparisons.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foreshock_domain::{ENTITY_LABEL, Input, Timestamp, is_label_column};
use foreshock_wire::{DecodeError, Decoder, Format, Near, Origin, limits};

use crate::metric_csv::{Layout, MetricCsv, MetricCsvError, MetricRow};
use crate::open::{LineRead, Opened, open};


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

/// Why a dump can't be read on.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// It can't be opened.
    #[error("{} can't be opened: {source}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It can't be read on, or its compression is damaged.
    #[error("{} line {line} can't be read: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// A line is not what the format says.
    #[error("{} line {line} is no {format}: {reason}", path.display())]
    Record {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What was expected.
        format: Format,
        /// What is wrong with it.
        reason: DecodeError,
    },
    /// A line is longer than any record may be.
    #[error("{} line {line} is longer than {} bytes", path.display(), limits::PAYLOAD_BYTES_MAX)]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: u64,
    },
    /// A CSV is not one of metrics: line, column and what was expected.
    #[error("{}: {source}", path.display())]
    Csv {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        source: MetricCsvError,
    },
    /// A CSV for a source whose records are written otherwise.
    #[error("{} is a CSV of metrics, and its source is {format}, expected a source of plain_json", path.display())]
    CsvFormat {
        /// Which file.
        path: PathBuf,
        /// Format of the source.
        format: Format,
    },
    /// The first lines have no time, so that nobody knows when to send them.
    #[error("{} line {line} has no time, and none before it has", path.display())]
    NoTime {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: u64,
    },
}

impl DumpError {
    /// Whether the data is wrong, and not the file system.
    #[must_use]
    pub fn is_bad_data(&self) -> bool {
        match self {
            Self::Open { .. } => false,
            // What decompressors say of damage.
            Self::Read { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof
            ),
            Self::Csv {
                source: MetricCsvError::Read { source, .. },
                ..
            } => !matches!(source.kind(), io::ErrorKind::Other | io::ErrorKind::NotFound),
            Self::Csv { .. }
            | Self::CsvFormat { .. }
            | Self::Record { .. }
            | Self::TooLong { .. }
            | Self::NoTime { .. } => true,
        }
    }
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
    last_at: Option<Timestamp>,
    /// When the file was last written to, where it is one.
    written_at: Option<Timestamp>,
    ended: bool,
}

enum Reading {
    Lines(Opened),
    Csv(Box<MetricCsv<Opened>>),
}

impl Dump {
    /// Opens a dump: JSON Lines, raw log lines, or by its name a CSV of metrics; plain, `.gz` or `.zst`; `-` is standard input.
    ///
    /// # Errors
    /// When it can't be opened, or it is a CSV and not one of metrics or `format` not plain JSON.
    pub fn open(path: &Path, format: Format) -> Result<Self, DumpError> {
        let opened = open(path).map_err(|source| DumpError::Open {
            path: path.into(),
            source,
        })?;
        let mut dump = if is_csv(path) {
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
            let path = path.into();
            return Err(DumpError::CsvFormat { path, format });
        }
        let size = (opened.bytes_taken_handle(), opened.bytes_total());
        let csv = MetricCsv::with_labels(opened, &is_label_column).map_err(|source| DumpError::Csv {
            path: path.into(),
            source,
        })?;
        Ok(Self::of(path, format, Reading::Csv(Box::new(csv)), size))
    }

    /// Takes the key from the first of these labels that a record has; `namespace+pod` joins two with `/`.
    #[must_use]
    pub fn keyed_by<S: AsRef<str>>(mut self, labels: &[S]) -> Self {
        self.key_labels = labels.iter().map(|l| l.as_ref().to_owned()).collect();
        self
    }

    /// Bytes taken so far, as they lie there.
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
                LineRead::Line if payload.trim_ascii().is_empty() => {}
                LineRead::Line => break,
            }
        }
        let (mut first_at, mut key) = (None, None);
        let labels = &self.key_labels;
        let sink = &mut |input: Input<'_>| {
            first_at = first_at.or(time_of(&input));
            key.get_or_insert_with(|| key_of(&input, labels));
        };
        let (path, line) = (&self.path, self.line);
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

/// Whether the name without `.gz` or `.zst` ends in `.csv`.
fn is_csv(path: &Path) -> bool {
    let is = |path: &Path, ending: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending));
    let packed = is(path, "gz") || is(path, "zst");
    is(path, "csv") || (packed && path.file_stem().is_some_and(|stem| is(Path::new(stem), "csv")))
}

/// One row as plain JSON: an array with a point for each metric.
fn record_of(row: &MetricRow<'_, Opened>, key_labels: &[String]) -> Result<TimedRecord, MetricCsvError> {
    let labels: BTreeMap<&str, std::borrow::Cow<'_, str>> = row.labels().collect();
    let key = joined_key(key_labels, &|name| labels.get(name).map(AsRef::as_ref));
    let key = key.or_else(|| labels.get(ENTITY_LABEL).map(|l| l.clone().into_owned()));
    // As text, since a number's unit is told by its size, which is wrong near 1970.
    let at = foreshock_wire::time::format_rfc3339(row.at);
    let point = |name: &str, value: f64| {
        // What is missing is null in JSON, and NaN has no other form there.
        serde_json::json!({"timestamp": at, "name": name, "value": value, "labels": labels})
    };
    let points = match row.layout() {
        Layout::Wide(names) => {
            let points = names
                .iter()
                .enumerate()
                .map(|(i, name)| Ok(point(name, row.wide_value(i)?)));
            points.collect::<Result<Vec<_>, MetricCsvError>>()?
        }
        Layout::Long => {
            let (series, value) = row.long_value()?;
            vec![point(&String::from_utf8_lossy(series), value)]
        }
    };
    Ok(TimedRecord {
        at: row.at,
        key: key.unwrap_or_default(),
        payload: serde_json::Value::Array(points).to_string().into_bytes(),
    })
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
fn joined_key<'v>(labels: &[String], value: &dyn Fn(&str) -> Option<&'v str>) -> Option<String> {
    let joined = |label: &String| {
        let parts: Option<Vec<&str>> = label.split('+').map(|part| value(part.trim())).collect();
        parts.map(|parts| parts.join("/"))
    };
    labels.iter().find_map(joined)
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

/// Several dumps as one, by event time; see [`merge`].
pub struct Merged<I> {
    dumps: Vec<I>,
    /// Times of the heads and whose they are; the earliest first, the first dump where they are equal.
    heads: BinaryHeap<Reverse<(Timestamp, usize)>>,
    records: Vec<Option<TimedRecord>>,
    /// Dumps whose next record is not known yet.
    unread: Vec<usize>,
}

/// Merges dumps by event time. Each record comes with the place of its dump; records of one dump keep their order. The first
/// error of any dump is handed on, and that dump has ended.
pub fn merge<I>(dumps: Vec<I>) -> Merged<I>
where
    I: Iterator<Item = Result<TimedRecord, DumpError>>,
{
    Merged {
        heads: BinaryHeap::with_capacity(dumps.len()),
        records: dumps.iter().map(|_| None).collect(),
        unread: (0..dumps.len()).rev().collect(),
        dumps,
    }
}

impl<I> Merged<I> {
    /// The dumps, in the order they were given.
    #[must_use]
    pub fn dumps(&self) -> &[I] {
        &self.dumps
    }
}

impl<I> Iterator for Merged<I>
where
    I: Iterator<Item = Result<TimedRecord, DumpError>>,
{
    type Item = Result<(usize, TimedRecord), DumpError>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(place) = self.unread.pop() {
            match self.dumps[place].next() {
                None => {}
                Some(Err(error)) => return Some(Err(error)),
                Some(Ok(record)) => {
                    self.heads.push(Reverse((record.at, place)));
                    self.records[place] = Some(record);
                }
            }
        }
        let Reverse((_, place)) = self.heads.pop()?;
        self.unread.push(place);
        self.records[place].take().map(|record| Ok((place, record)))
    }
}

#[cfg(test)]
#[path = "dump_tests.rs"]
mod tests;
