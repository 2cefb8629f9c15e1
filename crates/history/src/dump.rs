//! Dumps as records in event time: one line is one record, and several dumps merge into one stream.
//!
//! A line is sent as it is; it is decoded only to learn when it happened and whom it is about. A line without a time of its own
//! (the rest of a stack trace) has the time of the line before. Merging looks at the head of each dump alone, so dumps must be
//! nearly in order, as recorders write them; a line from the past comes where it stands.
//!
//! Cost: one line of each dump in memory; per record one decoding, one allocation for the line and one for the key, and
//! `log2(dumps)` comparisons.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::path::{Path, PathBuf};

use foreshock_domain::{Input, Timestamp};
use foreshock_wire::{DecodeError, Decoder, Format, Near, Origin, limits};

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
            Self::Record { .. } | Self::TooLong { .. } | Self::NoTime { .. } => true,
        }
    }
}

/// A dump being read, record by record. After an error it ends.
pub struct Dump {
    path: PathBuf,
    format: Format,
    opened: Opened,
    decoder: Decoder,
    key_labels: Vec<String>,
    line: u64,
    last_at: Option<Timestamp>,
    /// When the file was last written to, where it is one.
    written_at: Option<Timestamp>,
    ended: bool,
}

impl Dump {
    /// Opens a dump: JSON Lines or raw log lines, plain, `.gz` or `.zst`; `-` is standard input.
    ///
    /// # Errors
    /// When it can't be opened.
    pub fn open(path: &Path, format: Format) -> Result<Self, DumpError> {
        let opened = open(path).map_err(|source| DumpError::Open {
            path: path.into(),
            source,
        })?;
        let mut dump = Self::new(path, format, opened);
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
        Self {
            path: path.into(),
            format,
            opened,
            decoder: Decoder::new(format),
            key_labels: Vec::new(),
            line: 0,
            last_at: None,
            written_at: None,
            ended: false,
        }
    }

    /// Takes the key from the first of these labels that a record has; `namespace+pod` joins two with `/`.
    #[must_use]
    pub fn keyed_by<S: AsRef<str>>(mut self, labels: &[S]) -> Self {
        self.key_labels = labels.iter().map(|l| l.as_ref().to_owned()).collect();
        self
    }

    /// What is being read, for progress.
    #[must_use]
    pub const fn opened(&self) -> &Opened {
        &self.opened
    }

    /// The format of its lines.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    fn read(&mut self) -> Result<Option<TimedRecord>, DumpError> {
        let mut payload = Vec::new();
        loop {
            self.line += 1;
            let (path, line) = (&self.path, self.line);
            let read = self.opened.read_line(&mut payload, limits::PAYLOAD_BYTES_MAX);
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
    let joined = |label: &String| {
        let parts: Option<Vec<&str>> = label.split('+').map(|part| input.label(part.trim())).collect();
        parts.map(|parts| parts.join("/"))
    };
    labels.iter().find_map(joined).unwrap_or_default()
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
