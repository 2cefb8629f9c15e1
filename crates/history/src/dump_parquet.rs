//! A Parquet file as a dump: of metrics for a source of plain JSON, of log lines for one of JSON lines.
//!
//! Metrics: a time, label columns (text, and the names that are labels everywhere), and one column a metric; or `series` and
//! `value`. Log lines: each row becomes one JSON line of its columns, so that the names of columns are those of JSON lines.

use std::borrow::Cow;

use foreshock_domain::{Timestamp, is_label_column};
use foreshock_wire::{Format, time};

use crate::dump::{TimedRecord, joined_key};
use crate::metric_record::MetricRecord;
use crate::parquet_columns::{Kind, Value};
use crate::parquet_rows::{ParquetFault, ParquetRows};

/// Names of the column with the time, the one to prefer first.
const TIME_COLUMNS: [&str; 4] = ["timestamp", "@timestamp", "time", "ts"];
/// Names of the column with the line.
const MESSAGE_COLUMNS: [&str; 4] = ["message", "msg", "log", "body"];
/// Longest piece of a value that an error quotes, in characters.
const QUOTED_MAX: usize = 60;

/// Whether rows of a Parquet file can be records of a source of this format.
#[must_use]
pub const fn is_fitting(format: Format) -> bool {
    matches!(format, Format::PlainJson | Format::LogJson | Format::Log)
}

enum Rows {
    /// Columns of the metrics.
    Wide(Vec<usize>),
    /// Columns of the name and the value.
    Long(usize, usize),
    /// Columns of a line, without that of the time.
    Lines(Vec<usize>),
}

/// Reads one file, row by row.
pub(crate) struct DumpParquet {
    rows: ParquetRows,
    time: usize,
    labels: Vec<usize>,
    meant: Rows,
}

impl DumpParquet {
    /// Tells by names and types what each column is.
    pub(crate) fn new(rows: ParquetRows, format: Format) -> Result<Self, ParquetFault> {
        let columns = rows.columns();
        let place = |name: &str| columns.iter().position(|c| c.name == name);
        let none = |column: &str, expected: &str| ParquetFault::Column {
            column: column.to_owned(),
            expected: expected.to_owned(),
            found: "none".to_owned(),
        };
        let time = TIME_COLUMNS
            .iter()
            .find_map(|name| place(name))
            .ok_or_else(|| none(TIME_COLUMNS[0], "expected a column with the time"))?;
        let others = || (0..columns.len()).filter(|i| *i != time);
        if format != Format::PlainJson {
            let message = MESSAGE_COLUMNS.iter().find_map(|name| place(name));
            message.ok_or_else(|| none(MESSAGE_COLUMNS[0], "expected a column with the line"))?;
            let (labels, meant) = (Vec::new(), Rows::Lines(others().collect()));
            return Ok(Self {
                rows,
                time,
                labels,
                meant,
            });
        }
        let long = place("series").zip(place("value")).filter(|(series, value)| {
            let is_other = |i: &usize| i != series && i != value && columns[*i].kind.is_number();
            columns[*series].kind == Kind::Text && others().filter(is_other).all(|i| is_label_column(&columns[i].name))
        });
        let is_series = |i: usize| long.is_some_and(|(series, value)| i == series || i == value);
        let (labels, metrics): (Vec<usize>, Vec<usize>) = others()
            .filter(|i| !is_series(*i))
            .partition(|i| columns[*i].kind == Kind::Text || is_label_column(&columns[*i].name));
        if let Some(odd) = metrics
            .iter()
            .chain(long.as_ref().map(|(_, v)| v))
            .find(|i| !columns[**i].kind.is_number())
        {
            return Err(ParquetFault::Column {
                column: columns[*odd].name.clone(),
                expected: "expected a metric in numbers".into(),
                found: format!("{:?}", columns[*odd].kind),
            });
        }
        let meant = match long {
            Some((series, value)) => Rows::Long(series, value),
            None if metrics.is_empty() => {
                let column = columns.last().map_or("", |c| c.name.as_str());
                return Err(none(
                    column,
                    "expected at least one column of numbers beside time and labels",
                ));
            }
            None => Rows::Wide(metrics),
        };
        Ok(Self {
            rows,
            time,
            labels,
            meant,
        })
    }

    /// The rows, for their progress.
    pub(crate) const fn rows(&self) -> &ParquetRows {
        &self.rows
    }

    /// The next row as a record.
    pub(crate) fn next_record(&mut self, key_labels: &[String]) -> Result<Option<TimedRecord>, ParquetFault> {
        if !self.rows.advance()? {
            return Ok(None);
        }
        let at = self.at()?;
        let points = match &self.meant {
            Rows::Lines(columns) => return self.line(at, columns, key_labels).map(Some),
            Rows::Long(series, value) => {
                let name = self.text(*series)?.filter(|name| !name.is_empty());
                let name = name.ok_or_else(|| self.fault(*series, "expected the name of a series"))?;
                vec![(name, self.number(*value))]
            }
            Rows::Wide(metrics) => {
                let point = |i: &usize| (Cow::from(self.name(*i)), self.number(*i));
                metrics.iter().map(point).collect()
            }
        };
        let mut record = MetricRecord {
            at,
            labels: std::collections::BTreeMap::new(),
            points,
        };
        for i in &self.labels {
            if let Some(text) = self.text(*i)?.filter(|text| !text.is_empty()) {
                record.labels.insert(self.name(*i), text);
            }
        }
        Ok(Some(record.to_record(key_labels)))
    }

    fn name(&self, column: usize) -> &str {
        &self.rows.columns()[column].name
    }

    fn at(&self) -> Result<Timestamp, ParquetFault> {
        let found = match self.rows.value(self.time) {
            Value::Time(ms) => Some(Timestamp::from_millis(*ms)).filter(|at| at.is_plausible()),
            Value::Whole(n) => time::from_epoch(*n),
            Value::Number(x) => time::from_epoch_f64(*x),
            Value::Text(text) => std::str::from_utf8(text.data()).ok().and_then(time::parse),
            Value::Missing => None,
        };
        let expected = "expected a time from 1970 to 9999: a timestamp, an epoch number or RFC 3339";
        found.ok_or_else(|| self.fault(self.time, expected))
    }

    /// A number; NaN for what is missing or not finite.
    fn number(&self, column: usize) -> f64 {
        match self.rows.value(column) {
            #[allow(clippy::cast_precision_loss)] // metrics are doubles
            Value::Whole(n) => *n as f64,
            Value::Number(x) if x.is_finite() => *x,
            _ => f64::NAN,
        }
    }

    fn text(&self, column: usize) -> Result<Option<Cow<'_, str>>, ParquetFault> {
        Ok(match self.rows.value(column) {
            Value::Missing => None,
            Value::Text(text) => {
                let text =
                    std::str::from_utf8(text.data()).map_err(|_| self.fault(column, "expected text in UTF-8"))?;
                Some(text.into())
            }
            Value::Whole(n) => Some(n.to_string().into()),
            Value::Number(x) => Some(x.to_string().into()),
            Value::Time(ms) => Some(time::format_rfc3339(Timestamp::from_millis(*ms)).into()),
        })
    }

    fn line(&self, at: Timestamp, columns: &[usize], key_labels: &[String]) -> Result<TimedRecord, ParquetFault> {
        let mut line = serde_json::Map::new();
        line.insert(self.name(self.time).to_owned(), time::format_rfc3339(at).into());
        for i in columns {
            let value = match self.rows.value(*i) {
                Value::Missing => continue,
                Value::Whole(n) => (*n).into(),
                Value::Number(x) => (*x).into(),
                Value::Text(_) | Value::Time(_) => self.text(*i)?.unwrap_or_default().into_owned().into(),
            };
            line.insert(self.name(*i).to_owned(), value);
        }
        if !MESSAGE_COLUMNS.iter().any(|name| line.contains_key(*name)) {
            let place = MESSAGE_COLUMNS
                .iter()
                .find_map(|name| columns.iter().find(|i| self.name(**i) == *name));
            return Err(self.fault(place.copied().unwrap_or(self.time), "expected a line"));
        }
        let key = joined_key(key_labels, &|name| line.get(name).and_then(serde_json::Value::as_str));
        Ok(TimedRecord {
            at,
            key: key.unwrap_or_default(),
            payload: serde_json::Value::Object(line).to_string().into_bytes(),
        })
    }

    fn fault(&self, column: usize, expected: &str) -> ParquetFault {
        let quoted = |text: &str| format!("{:?}", text.chars().take(QUOTED_MAX).collect::<String>());
        ParquetFault::Value {
            row: self.rows.row(),
            column: self.name(column).to_owned(),
            expected: expected.to_owned(),
            found: match self.rows.value(column) {
                Value::Missing => "null".to_owned(),
                Value::Whole(n) => n.to_string(),
                Value::Number(x) => x.to_string(),
                Value::Time(ms) => format!("{ms} ms since 1970"),
                Value::Text(text) => quoted(&String::from_utf8_lossy(text.data())),
            },
        }
    }
}

#[cfg(test)]
#[path = "dump_parquet_tests.rs"]
mod tests;
