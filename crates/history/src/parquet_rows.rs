//! A Parquet file row by row.
//!
//! One row group is open at a time, and of each of its columns one page and one batch of values are in memory. The file's own
//! word is checked and not believed: a group that says it has more or fewer rows than its columns is an error.
//!
//! Fails on nested columns, and on files that are encrypted.
//!
//! Cost: per value one copy; at most [`BATCH_VALUES`] values and one page a column in memory.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::column::reader::ColumnReader;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, Length};
use parquet::file::serialized_reader::SerializedFileReader;

use crate::parquet_columns::{self, Kind, Value};

/// Values of all columns together that are in memory.
const BATCH_VALUES: usize = 1 << 16;
/// Most columns of a file.
const COLUMNS_MAX: usize = 10_000;

/// What is wrong with a Parquet file, and where.
#[derive(Debug, thiserror::Error)]
pub enum ParquetFault {
    /// It is none, or damaged before its first row.
    #[error("is no Parquet file that can be read: {0}")]
    File(ParquetError),
    /// It is damaged further on.
    #[error("row {row}, column {column}: can't be read: {source}")]
    Read {
        /// The row near which reading failed, counted from 1.
        row: u64,
        /// Column, by name.
        column: String,
        /// Why.
        source: ParquetError,
    },
    /// A column is not what it should be.
    #[error("column {column}: {expected}, found {found}")]
    Column {
        /// Column, by name.
        column: String,
        /// What was expected, as "expected …".
        expected: String,
        /// What was found instead.
        found: String,
    },
    /// A value is not what it should be.
    #[error("row {row}, column {column}: {expected}, found {found}")]
    Value {
        /// Row, counted from 1.
        row: u64,
        /// Column, by name.
        column: String,
        /// What was expected, as "expected …".
        expected: String,
        /// What was found instead, shortened.
        found: String,
    },
}

impl ParquetFault {
    /// Whether the file system failed, and not the data.
    #[must_use]
    pub fn is_io(&self) -> bool {
        let (Self::File(ParquetError::External(source))
        | Self::Read {
            source: ParquetError::External(source),
            ..
        }) = self
        else {
            return false;
        };
        source
            .downcast_ref::<io::Error>()
            .is_some_and(|e| !matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput))
    }
}

/// The file, read at any place.
#[derive(Clone)]
struct Source {
    file: Arc<Mutex<File>>,
    bytes: u64,
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Source {
    type T = BufReader<Reader>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        let file = self.file.clone();
        Ok(BufReader::new(Reader { file, at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        // Before anything is set aside for it.
        if start.checked_add(length as u64).is_none_or(|end| end > self.bytes) {
            let what = format!("{length} bytes at {start}, and the file has {}", self.bytes);
            return Err(ParquetError::EOF(what));
        }
        let mut buffer = vec![0; length];
        self.get_read(start)?.read_exact(&mut buffer)?;
        Ok(buffer.into())
    }
}

/// The file from a place on; several share one handle.
pub(crate) struct Reader {
    file: Arc<Mutex<File>>,
    at: u64,
}

impl Read for Reader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.at))?;
        let n = file.read(buf)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// A column: its name and how its values are meant.
#[derive(Clone, Debug)]
pub struct Column {
    /// Name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
}

/// Reads one file.
pub struct ParquetRows {
    file: SerializedFileReader<Source>,
    columns: Vec<Column>,
    bytes: u64,
    taken: Arc<AtomicU64>,
    rows_total: u64,
    /// The group that comes after the open one.
    next_group: usize,
    readers: Vec<ColumnReader>,
    /// Rows of the open group that are not read yet, as it says.
    left: u64,
    /// Values of the columns, of `batch` rows each.
    values: Vec<Vec<Value>>,
    batch: usize,
    /// The row that is current, in the batch, and counted from 1 in the file.
    place: usize,
    row: u64,
}

/// The decoders of damaged pages are not ours, and a panic of one is damage like any other.
fn guarded<T>(act: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| Err(ParquetError::General("the page is damaged".into())))
}

impl ParquetRows {
    /// Reads the description at the end of the file.
    ///
    /// # Errors
    /// When it is no Parquet file, damaged, or has a column that is no flat column of numbers, times or text.
    pub fn new(file: File) -> Result<Self, ParquetFault> {
        let bytes = file.metadata().map_err(|e| ParquetFault::File(e.into()))?.len();
        let file = Arc::new(Mutex::new(file));
        let file = guarded(|| SerializedFileReader::new(Source { file, bytes })).map_err(ParquetFault::File)?;
        let schema = file.metadata().file_metadata().schema_descr();
        if schema.num_columns() > COLUMNS_MAX {
            let (column, found) = ((COLUMNS_MAX + 1).to_string(), schema.num_columns().to_string());
            let expected = format!("expected at most {COLUMNS_MAX} columns");
            return Err(ParquetFault::Column {
                column,
                expected,
                found,
            });
        }
        let mut columns: Vec<Column> = Vec::new();
        for column in schema.columns() {
            let fault = |expected: &str, found| ParquetFault::Column {
                column: column.path().string(),
                expected: expected.to_owned(),
                found,
            };
            let kind =
                Kind::of(column).map_err(|found| fault("expected a flat column of numbers, times or text", found))?;
            let name = column.name().to_owned();
            if columns.iter().any(|c| c.name == name) {
                return Err(fault("expected each name once", "it twice".into()));
            }
            columns.push(Column { name, kind });
        }
        let rows = file.metadata().file_metadata().num_rows();
        let of_groups = file
            .metadata()
            .row_groups()
            .iter()
            .map(|g| i128::from(g.num_rows()))
            .sum::<i128>();
        if of_groups != i128::from(rows) {
            let what = format!("it says {rows} rows, and its row groups {of_groups}");
            return Err(ParquetFault::File(ParquetError::General(what)));
        }
        Ok(Self {
            values: vec![Vec::new(); columns.len()],
            columns,
            bytes,
            taken: Arc::default(),
            rows_total: u64::try_from(rows).unwrap_or(0),
            next_group: 0,
            readers: Vec::new(),
            left: 0,
            batch: 0,
            place: 0,
            row: 0,
            file,
        })
    }

    /// Its columns.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Bytes taken so far, by the share of rows; and the size of the file.
    #[must_use]
    pub fn progress(&self) -> (Arc<AtomicU64>, u64) {
        (self.taken.clone(), self.bytes)
    }

    /// Goes to the next row; false at the end.
    ///
    /// # Errors
    /// When the file is damaged there, or its columns have not as many rows as it says.
    pub fn advance(&mut self) -> Result<bool, ParquetFault> {
        if self.place + 1 < self.batch {
            self.place += 1;
            self.row += 1;
            return Ok(true);
        }
        while self.left == 0 {
            if !self.open_group()? {
                self.taken.store(self.bytes, Ordering::Relaxed);
                return Ok(false);
            }
        }
        self.read_batch()?;
        self.place = 0;
        self.row += 1;
        let share = u128::from(self.bytes) * u128::from(self.row) / u128::from(self.rows_total.max(self.row));
        self.taken
            .store(u64::try_from(share).unwrap_or(self.bytes), Ordering::Relaxed);
        Ok(true)
    }

    /// The value of a column in the current row.
    #[must_use]
    pub fn value(&self, column: usize) -> &Value {
        let value = self.values.get(column).and_then(|values| values.get(self.place));
        value.unwrap_or(&Value::Missing)
    }

    /// The current row, counted from 1.
    #[must_use]
    pub const fn row(&self) -> u64 {
        self.row
    }

    fn open_group(&mut self) -> Result<bool, ParquetFault> {
        if self.next_group >= self.file.num_row_groups() {
            return Ok(false);
        }
        let (row, file, next) = (self.row + 1, &self.file, self.next_group);
        let failed = |column: &str, source| ParquetFault::Read {
            row,
            column: column.to_owned(),
            source,
        };
        let first = self.columns.first().map_or("", |c| c.name.as_str());
        let group = guarded(|| file.get_row_group(next)).map_err(|e| failed(first, e))?;
        let rows = group.metadata().num_rows();
        let rows_u64 = u64::try_from(rows).map_err(|_| failed(first, ParquetError::General(format!("{rows} rows"))))?;
        let mut readers = Vec::with_capacity(self.columns.len());
        for (i, column) in self.columns.iter().enumerate() {
            let chunk = group.metadata().columns().get(i);
            let values = chunk.map_or(-1, parquet::file::metadata::ColumnChunkMetaData::num_values);
            if values != rows {
                let what = format!("{values} values where its row group has {rows} rows");
                return Err(failed(&column.name, ParquetError::General(what)));
            }
            readers.push(guarded(|| group.get_column_reader(i)).map_err(|e| failed(&column.name, e))?);
        }
        self.readers = readers;
        self.left = rows_u64;
        self.next_group += 1;
        Ok(true)
    }

    fn read_batch(&mut self) -> Result<(), ParquetFault> {
        let most = (BATCH_VALUES / self.columns.len().max(1)).max(1);
        let batch = usize::try_from(self.left).map_or(most, |left| left.min(most));
        for ((column, reader), values) in self.columns.iter().zip(&mut self.readers).zip(&mut self.values) {
            values.clear();
            let read = guarded(|| parquet_columns::read(reader, column.kind, batch, values));
            let read = read.and_then(|()| match values.len() {
                n if n == batch => Ok(()),
                n => Err(ParquetError::General(format!(
                    "it ends after {n} of {} values",
                    self.left
                ))),
            });
            read.map_err(|source| ParquetFault::Read {
                row: self.row + 1,
                column: column.name.clone(),
                source,
            })?;
        }
        self.batch = batch;
        self.left -= batch as u64;
        Ok(())
    }
}
