//! Why a dump can't be read: which file, where in it, and what was expected.

use std::io;
use std::path::PathBuf;

use foreshock_wire::{DecodeError, Format, limits};

use crate::dump_topic::TopicFault;
use crate::metric_csv::MetricCsvError;
use crate::parquet_rows::ParquetFault;

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
    /// A line is no row of a table of metrics, as the first is.
    #[error("{} line {line} is no row of metrics: {reason}", path.display())]
    JsonRow {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What was expected, and what was found.
        reason: String,
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
    /// A Parquet file is not one of metrics or lines: row, column and what was expected.
    #[error("{}: {source}", path.display())]
    Parquet {
        /// Which file.
        path: PathBuf,
        /// Where and what.
        source: ParquetFault,
    },
    /// A table for a source whose records are written otherwise.
    #[error("{} is a {table}, and its source is {format}, expected a source of {expected}", path.display())]
    TableFormat {
        /// Which file.
        path: PathBuf,
        /// What it is.
        table: &'static str,
        /// Format of the source.
        format: Format,
        /// Formats of sources that it would fit.
        expected: &'static str,
    },
    /// A topic can't be read on.
    #[error("{} offset {offset} can't be read: {source}", path.display())]
    Topic {
        /// Which topic and partition.
        path: PathBuf,
        /// The last offset that was read, or -1.
        offset: i64,
        /// Why.
        source: TopicFault,
    },
    /// The first lines have no time, so that nobody knows when to send them.
    #[error("{} line {line} has no time, and none before it has", path.display())]
    NoTime {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: u64,
    },
    /// It holds less than when its reading was stopped.
    #[error("{} has {passed} records, expected at least the {records} that were read before", path.display())]
    Shorter {
        /// Which file.
        path: PathBuf,
        /// Records it has.
        passed: u64,
        /// Records that were read.
        records: u64,
    },
    /// How far reading got can't be written down.
    #[error("how far reading got can't be written down: {0}")]
    Mark(io::Error),
}

impl DumpError {
    /// Whether the data is wrong, and not the file system.
    #[must_use]
    pub fn is_bad_data(&self) -> bool {
        match self {
            Self::Open { .. } | Self::Topic { .. } | Self::Mark(_) => false,
            Self::Parquet { source, .. } => !source.is_io(),
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
            | Self::TableFormat { .. }
            | Self::Shorter { .. }
            | Self::JsonRow { .. }
            | Self::Record { .. }
            | Self::TooLong { .. }
            | Self::NoTime { .. } => true,
        }
    }
}
