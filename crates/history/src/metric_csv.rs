//! Metric files as CSV, row by row: `timestamp` and one column a metric (wide), or `timestamp,series,value` (long); in either, columns
//! of agreed names may be labels.
//!
//! One row is in memory at a time. What cannot be read is an error that names line, column and what was expected; nothing
//! is guessed and nothing skipped.

use std::io::{self, BufRead};

use csv::{ByteRecord, Reader, ReaderBuilder, Trim};
use foreshock_domain::Timestamp;

/// Most columns of a wide file.
const COLUMNS_MAX: usize = 100_000;
/// Longest piece of a field that an error quotes, in characters.
const QUOTED_MAX: usize = 60;

/// How a metric file is laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `timestamp`, then one column a metric; the names of the metrics.
    Wide(Vec<String>),
    /// `timestamp,series,value`.
    Long,
}

/// What is wrong with a metric file, and where.
#[derive(Debug, thiserror::Error)]
pub enum MetricCsvError {
    /// The bytes can't be read, or their compression is damaged.
    #[error("line {line}: {source}")]
    Read {
        /// Line near which reading failed, counted from 1.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// The bytes are not what they should be.
    #[error("line {line}, column {column}: {expected}, found {found}")]
    Data {
        /// Line, counted from 1.
        line: u64,
        /// Column, by name where it has one, else by number counted from 1.
        column: String,
        /// What was expected, as "expected …".
        expected: String,
        /// What was found instead, shortened.
        found: String,
    },
}

/// Reads one metric file.
pub struct MetricCsv<R> {
    reader: Reader<R>,
    layout: Layout,
    /// Names of all columns, and which of them are labels.
    names: Vec<String>,
    labels: Vec<usize>,
    /// Place in a record of each metric of a wide file; of a long one that of `series` and `value`.
    places: Vec<usize>,
    record: ByteRecord,
    line: u64,
}

/// One row, borrowed until the next.
pub struct MetricRow<'a, R> {
    csv: &'a MetricCsv<R>,
    /// Event time.
    pub at: Timestamp,
}

impl<R: BufRead> MetricCsv<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When the bytes can't be read or the header is not that of a metric file.
    pub fn new(inner: R) -> Result<Self, MetricCsvError> {
        Self::with_labels(inner, &|_| false)
    }

    /// Reads the header of a file of which the columns that `is_label` names are labels.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_labels(inner: R, is_label: &dyn Fn(&str) -> bool) -> Result<Self, MetricCsvError> {
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(Trim::All)
            .from_reader(inner);
        let mut csv = Self {
            reader,
            layout: Layout::Long,
            names: Vec::new(),
            labels: Vec::new(),
            places: Vec::new(),
            record: ByteRecord::new(),
            line: 0,
        };
        if !csv.advance()? {
            return Err(csv.data(0, "expected a header that begins with `timestamp`", b""));
        }
        let first = csv.record.get(0).unwrap_or_default();
        // Spreadsheets write a byte order mark.
        if first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first) != b"timestamp" {
            return Err(csv.data(0, "expected the first column to be named `timestamp`", first));
        }
        if csv.record.len() < 2 {
            return Err(csv.data(1, "expected at least one metric beside `timestamp`", b""));
        }
        if csv.record.len() > COLUMNS_MAX {
            let count = csv.record.len().to_string();
            return Err(csv.data(
                COLUMNS_MAX,
                &format!("expected at most {COLUMNS_MAX} columns"),
                count.as_bytes(),
            ));
        }
        let text = |n: &[u8]| String::from_utf8_lossy(n).into_owned();
        csv.names = csv.record.iter().map(text).collect();
        csv.names[0] = "timestamp".into();
        let columns = 1..csv.names.len();
        (csv.labels, csv.places) = columns.partition(|i| is_label(&csv.names[*i]));
        let metrics: Vec<String> = csv.places.iter().map(|i| csv.names[*i].clone()).collect();
        if metrics.is_empty() {
            return Err(csv.data(1, "expected at least one metric beside labels", b""));
        }
        if metrics != ["series", "value"] {
            csv.layout = Layout::Wide(metrics);
        }
        Ok(csv)
    }

    /// What is wrong where two columns have one name.
    #[must_use]
    pub fn repeated_name(&self) -> Option<MetricCsvError> {
        let mut seen = std::collections::BTreeSet::new();
        let column = self.names.iter().position(|name| !seen.insert(name.as_str()))?;
        Some(self.data(column, "expected each name once", self.names[column].as_bytes()))
    }

    /// How the file is laid out.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// When the bytes can't be read, the row has not as many fields as the header, or its time is none.
    pub fn next_row(&mut self) -> Result<Option<MetricRow<'_, R>>, MetricCsvError> {
        if !self.advance()? {
            return Ok(None);
        }
        let fields = self.names.len();
        if self.record.len() != fields {
            let found = format!("{} fields", self.record.len());
            let column = self.record.len().min(fields);
            return Err(self.data(
                column,
                &format!("expected {fields} fields as in the header"),
                found.as_bytes(),
            ));
        }
        let text = &self.record[0];
        let Some(at) = std::str::from_utf8(text).ok().and_then(foreshock_wire::time::parse) else {
            let expected = "expected a time: RFC 3339, YYYY-MM-DD HH:MM:SS or an epoch number from 1970 on";
            return Err(self.data(0, expected, text));
        };
        Ok(Some(MetricRow { csv: self, at }))
    }

    fn advance(&mut self) -> Result<bool, MetricCsvError> {
        let read = self.reader.read_byte_record(&mut self.record);
        self.line = self.record.position().map_or(self.line, csv::Position::line);
        read.map_err(|error| {
            let line = error.position().map_or(self.line + 1, csv::Position::line);
            // Damage must not look like a failing disk: the kind of the error below is kept.
            let source = match error.into_kind() {
                csv::ErrorKind::Io(source) => source,
                other => io::Error::new(io::ErrorKind::InvalidData, format!("{other:?}")),
            };
            MetricCsvError::Read { line, source }
        })
    }

    fn data(&self, column: usize, expected: &str, found: &[u8]) -> MetricCsvError {
        let name = match (self.names.get(column), column) {
            (Some(name), _) => name.clone(),
            (None, 0) => "timestamp".to_owned(),
            (None, 1) if self.names.is_empty() => "series".to_owned(),
            (None, n) => (n + 1).to_string(),
        };
        let found = String::from_utf8_lossy(found);
        let found = if found.is_empty() {
            "nothing".to_owned()
        } else {
            format!("{:?}", found.chars().take(QUOTED_MAX).collect::<String>())
        };
        MetricCsvError::Data {
            line: self.line,
            column: name,
            expected: expected.to_owned(),
            found,
        }
    }
}

impl<R: BufRead> MetricRow<'_, R> {
    /// The time as it was written.
    #[must_use]
    pub fn time_text(&self) -> &[u8] {
        &self.csv.record[0]
    }

    /// Value of the `column`-th metric of a wide row, counted from 0; NaN where it is missing.
    ///
    /// # Errors
    /// When it is no number.
    pub fn wide_value(&self, column: usize) -> Result<f64, MetricCsvError> {
        self.number(self.csv.places.get(column).copied().unwrap_or(usize::MAX))
    }

    /// Series and value of a long row; NaN where the value is missing.
    ///
    /// # Errors
    /// When it is no number, or the series has no name.
    pub fn long_value(&self) -> Result<(&[u8], f64), MetricCsvError> {
        let (name, value) = (self.csv.places[0], self.csv.places[1]);
        let series = &self.csv.record[name];
        if series.is_empty() {
            return Err(self.csv.data(name, "expected the name of a series", b""));
        }
        Ok((series, self.number(value)?))
    }

    /// Labels that are not empty, by name, in the order of the columns.
    pub fn labels(&self) -> impl Iterator<Item = (&str, std::borrow::Cow<'_, str>)> {
        let of = |i: &usize| {
            (
                self.csv.names[*i].as_str(),
                String::from_utf8_lossy(&self.csv.record[*i]),
            )
        };
        self.csv.labels.iter().map(of).filter(|(_, value)| !value.is_empty())
    }

    /// Line of the row, counted from 1.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.csv.line
    }

    /// How the file is laid out.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.csv.layout
    }

    /// A number; NaN for what is missing: nothing, `NaN`, `Inf`.
    fn number(&self, column: usize) -> Result<f64, MetricCsvError> {
        let field = self.csv.record.get(column).unwrap_or_default();
        if field.is_empty() {
            return Ok(f64::NAN);
        }
        match std::str::from_utf8(field)
            .ok()
            .and_then(|text| text.parse::<f64>().ok())
        {
            Some(value) if value.is_finite() => Ok(value),
            Some(_) => Ok(f64::NAN),
            None => Err(self.csv.data(
                column,
                "expected a number, or nothing, NaN or Inf where it is missing",
                field,
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(i64, Vec<f64>)>, String> {
        let mut csv = MetricCsv::new(text.as_bytes()).map_err(|e| e.to_string())?;
        let layout = csv.layout().clone();
        let mut rows = Vec::new();
        while let Some(row) = csv.next_row().map_err(|e| e.to_string())? {
            let values: Result<Vec<f64>, _> = match &layout {
                Layout::Wide(names) => (0..names.len()).map(|c| row.wide_value(c)).collect(),
                Layout::Long => row.long_value().map(|(_, v)| vec![v]),
            };
            rows.push((row.at.as_millis(), values.map_err(|e| e.to_string())?));
        }
        Ok(rows)
    }

    #[test]
    fn rows_by_case() {
        type Case<'a> = (&'a str, &'a str, &'a [(i64, &'a [f64])]);
        let good: [Case<'_>; 7] = [
            (
                "epoch seconds",
                "timestamp,a\n1700000000,1\n",
                &[(1_700_000_000_000, &[1.0])],
            ),
            (
                "epoch milliseconds",
                "timestamp,a\n1700000000123,1\n",
                &[(1_700_000_000_123, &[1.0])],
            ),
            (
                "a date taken as UTC",
                "timestamp,a\n1970-01-02 00:00:00,-2.5e3\n",
                &[(86_400_000, &[-2500.0])],
            ),
            ("RFC 3339", "timestamp,a\n1970-01-01T01:00:00+01:00,1\n", &[(0, &[1.0])]),
            (
                "two metrics, Windows line ends",
                "timestamp,a,b\r\n60,1,2\r\n",
                &[(60_000, &[1.0, 2.0])],
            ),
            ("long", "timestamp,series,value\n60,x,3\n", &[(60_000, &[3.0])]),
            ("no rows, byte order mark", "\u{feff}timestamp,a\n", &[]),
        ];
        for (name, text, expected) in good {
            let expected: Vec<(i64, Vec<f64>)> = expected.iter().map(|(at, v)| (*at, v.to_vec())).collect();
            assert_eq!(read(text).expect("is good"), expected, "{name}");
        }
        let missing = read("timestamp,a,b,c,d,e\n60,,NaN,+Inf,-inf, \n").expect("is good");
        assert!(
            missing[0].1.iter().all(|v| v.is_nan()) && missing[0].1.len() == 5,
            "missing values"
        );
    }

    #[test]
    fn errors_say_where_and_what_was_expected() {
        let bad = [
            ("", "line 1, column timestamp: expected a header"),
            (
                "time,a\n",
                "line 1, column timestamp: expected the first column to be named `timestamp`, found \"time\"",
            ),
            ("timestamp\n", "line 1, column series: expected at least one metric"),
            (
                "timestamp,a\n60,1\nyesterday,2\n",
                "line 3, column timestamp: expected a time",
            ),
            ("timestamp,a\n60,x1\n", "line 2, column a: expected a number"),
            (
                "timestamp,a,b\n60,1\n",
                "line 2, column b: expected 3 fields as in the header, found \"2 fields\"",
            ),
            ("timestamp,a\n60,1,2\n", "line 2, column 3: expected 2 fields"),
            (
                "timestamp,series,value\n60,,1\n",
                "line 2, column series: expected the name of a series",
            ),
        ];
        for (text, expected) in bad {
            let error = read(text).expect_err("is bad");
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }
}
