//! Failures as somebody wrote them down: CSV or JSON Lines of `entity,class,onset,end`, where `end` may be empty, and where known
//! `lead_s`, the least lead in seconds that would have been worth something for this failure.
//!
//! Order does not matter. Rows of one entity that overlap are one failure: it began with the first, and has the class of the
//! first; how many were merged is counted.

use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use foreshock_domain::{Entity, Millis, Timestamp};
use foreshock_wire::time;
use serde::Deserialize;

use crate::open::{LineRead, Opened, open};

/// Most failures of a file; more is no list of failures.
const FAILURES_MAX: usize = 1_000_000;
/// Longest line of a file of failures.
const LINE_BYTES_MAX: usize = 64 << 10;
/// Longest piece of a value that an error quotes, in characters.
const QUOTED_MAX: usize = 60;
const COLUMNS: [&str; 5] = ["entity", "class", "onset", "end", "lead_s"];
const HEADER: &str = "a header `entity,class,onset,end`, and `lead_s` if there is one";

/// One failure that did happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// What failed.
    pub entity: Entity,
    /// Its class, in the user's words.
    pub class: Box<str>,
    /// When it began, which is what lead times count to.
    pub onset: Timestamp,
    /// When it was over; `None` where nobody wrote it down.
    pub end: Option<Timestamp>,
    /// Least lead that would have been worth something, in milliseconds; `None`: as for all.
    pub lead_ms: Option<Millis>,
}

impl Label {
    /// Its least lead, or that of all.
    #[must_use]
    pub fn lead_or(&self, of_all: Millis) -> Millis {
        self.lead_ms.unwrap_or(of_all)
    }
}

/// Failures in order of onset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// No two of one entity overlap.
    pub failures: Vec<Label>,
    /// Rows that were part of another failure.
    pub merged: usize,
}

/// What is wrong with a file of failures, and where.
#[derive(Debug, thiserror::Error)]
pub enum LabelsError {
    /// It can't be read, or its compression is damaged.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A row is not what was expected.
    #[error("{} line {line}, column {column}: expected {expected}, found {found:?}", path.display())]
    Data {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// Column or key.
        column: &'static str,
        /// What may stand there.
        expected: &'static str,
        /// What stands there, shortened.
        found: String,
    },
}

impl LabelsError {
    /// Whether the data is wrong, and not the file system.
    #[must_use]
    pub fn is_bad_data(&self) -> bool {
        matches!(self, Self::Data { .. })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRow {
    entity: String,
    class: String,
    onset: serde_json::Value,
    #[serde(default)]
    end: serde_json::Value,
    #[serde(default)]
    lead_s: serde_json::Value,
    #[serde(default, rename = "summary")]
    _summary: Option<String>,
}

/// A row before it is checked.
struct Row<'a> {
    line: u64,
    entity: &'a str,
    class: &'a str,
    onset: &'a str,
    end: &'a str,
    lead_s: &'a str,
}

impl Labels {
    /// Reads a file, plain, `.gz` or `.zst`.
    ///
    /// # Errors
    /// With the line and column that is wrong, or where the file can't be read.
    pub fn read(path: &Path) -> Result<Self, LabelsError> {
        let failed = |source| LabelsError::Io {
            path: path.into(),
            source,
        };
        let mut opened = open(path).map_err(failed)?;
        let is_json = opened
            .fill_buf()
            .map_err(failed)?
            .iter()
            .find(|b| !b.is_ascii_whitespace())
            == Some(&b'{');
        let rows = if is_json {
            read_json(path, &mut opened)?
        } else {
            read_csv(path, opened)?
        };
        Ok(Self::settle(rows))
    }

    /// Orders failures and merges those of one entity that overlap.
    #[must_use]
    pub fn settle(mut rows: Vec<Label>) -> Self {
        rows.sort_by(|a, b| (&a.entity, a.onset).cmp(&(&b.entity, b.onset)));
        let before = rows.len();
        let mut failures: Vec<Label> = Vec::with_capacity(before);
        for row in rows {
            match failures.last_mut() {
                Some(last) if last.entity == row.entity && row.onset <= last.end.unwrap_or(last.onset) => {
                    last.end = last.end.max(row.end);
                }
                _ => failures.push(row),
            }
        }
        failures.sort_by(|a, b| (a.onset, &a.entity).cmp(&(b.onset, &b.entity)));
        Self {
            merged: before - failures.len(),
            failures,
        }
    }
}

fn read_json(path: &Path, opened: &mut Opened) -> Result<Vec<Label>, LabelsError> {
    let (mut line, mut bytes, mut rows) = (0, Vec::new(), Vec::new());
    loop {
        line += 1;
        let read = opened
            .read_line(&mut bytes, LINE_BYTES_MAX)
            .map_err(|source| LabelsError::Io {
                path: path.into(),
                source,
            })?;
        match read {
            LineRead::End => return Ok(rows),
            LineRead::Line if bytes.trim_ascii().is_empty() => continue,
            LineRead::Line | LineRead::TooLong => {}
        }
        let wrong = |column, expected, found: &str| data(path, line, column, expected, found);
        let row: JsonRow = serde_json::from_slice(&bytes)
            .map_err(|e| wrong("entity", "an object with entity, class, onset and end", &e.to_string()))?;
        let text = |value: &serde_json::Value| match value {
            serde_json::Value::Null => String::new(),
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let (onset, end, lead_s) = (text(&row.onset), text(&row.end), text(&row.lead_s));
        let row = Row {
            line,
            entity: &row.entity,
            class: &row.class,
            onset: &onset,
            end: &end,
            lead_s: &lead_s,
        };
        rows.push(checked(path, &row, rows.len())?);
    }
}

fn read_csv(path: &Path, opened: impl Read) -> Result<Vec<Label>, LabelsError> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(opened);
    let (mut record, mut rows, mut is_header) = (csv::StringRecord::new(), Vec::new(), true);
    let mut columns = COLUMNS.len();
    loop {
        let more = reader.read_record(&mut record);
        let line = record.position().map_or(1, csv::Position::line);
        let wrong = |column, expected, found: &str| data(path, line, column, expected, found);
        let more = more.map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(source) => LabelsError::Io {
                path: path.into(),
                source,
            },
            _ => wrong("entity", "text in UTF-8", ""),
        })?;
        if !more {
            return if is_header {
                Err(data(path, 1, "entity", HEADER, ""))
            } else {
                Ok(rows)
            };
        }
        let field = |i: usize| record.get(i).unwrap_or_default();
        if std::mem::take(&mut is_header) {
            // Spreadsheets write a byte order mark.
            let first = field(0).trim_start_matches('\u{feff}');
            columns = record.len();
            let is_right =
                first == COLUMNS[0] && (4..=5).contains(&columns) && (1..columns).all(|i| field(i) == COLUMNS[i]);
            if !is_right {
                let found: Vec<&str> = record.iter().collect();
                return Err(wrong("entity", HEADER, &found.join(",")));
            }
            continue;
        }
        if !(3..=columns).contains(&record.len()) {
            return Err(wrong(
                "end",
                "as many fields as the header has",
                &format!("{} fields", record.len()),
            ));
        }
        let row = Row {
            line,
            entity: field(0),
            class: field(1),
            onset: field(2),
            end: field(3),
            lead_s: field(4),
        };
        rows.push(checked(path, &row, rows.len())?);
    }
}

fn checked(path: &Path, row: &Row<'_>, read: usize) -> Result<Label, LabelsError> {
    const TIME: &str = "a time such as 2026-01-31T10:00:00Z or an epoch number";
    let wrong = |column, expected, found: &str| data(path, row.line, column, expected, found);
    if read >= FAILURES_MAX {
        return Err(wrong("entity", "at most a million failures", row.entity));
    }
    if row.entity.is_empty() {
        return Err(wrong("entity", "the name of what failed", ""));
    }
    if row.class.is_empty() {
        return Err(wrong("class", "a class of failures, such as crash", ""));
    }
    let onset = time::parse(row.onset).ok_or_else(|| wrong("onset", TIME, row.onset))?;
    let end = match row.end {
        "" => None,
        text => Some(time::parse(text).ok_or_else(|| wrong("end", TIME, text))?),
    };
    if end.is_some_and(|end| end < onset) {
        return Err(wrong("end", "a time that is not before onset", row.end));
    }
    let lead_ms = match row.lead_s {
        "" => None,
        text => Some(milliseconds(text).ok_or_else(|| wrong("lead_s", "seconds, such as 90 or 0.5", text))?),
    };
    Ok(Label {
        entity: Entity::new(row.entity),
        class: row.class.into(),
        onset,
        end,
        lead_ms,
    })
}

/// Of seconds that are a plausible lead.
#[allow(clippy::cast_possible_truncation)] // a year
fn milliseconds(seconds: &str) -> Option<Millis> {
    let seconds: f64 = seconds.parse().ok()?;
    (0.0..=366.0 * 86_400.0)
        .contains(&seconds)
        .then_some((seconds * 1e3) as Millis)
}

fn data(path: &Path, line: u64, column: &'static str, expected: &'static str, found: &str) -> LabelsError {
    LabelsError::Data {
        path: path.into(),
        line,
        column,
        expected,
        found: found.chars().take(QUOTED_MAX).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Labels, LabelsError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Labels::read(file.path())
    }

    #[test]
    fn the_least_lead_of_a_failure_may_be_its_own() {
        let csv = read("entity,class,onset,end,lead_s\na,crash,1767225600,,90.5\nb,crash,1767225600,,\n").unwrap();
        let leads: Vec<Option<Millis>> = csv.failures.iter().map(|f| f.lead_ms).collect();
        assert_eq!(leads, [Some(90_500), None]);
        assert_eq!(csv.failures[1].lead_or(7), 7);
        let json = read(r#"{"entity":"a","class":"crash","onset":1767225600,"lead_s":90.5}"#).unwrap();
        assert_eq!(json.failures[0], csv.failures[0]);
    }

    #[test]
    fn csv_and_json_say_the_same() {
        let csv =
            "entity,class,onset,end\nb,crash,2026-01-01T00:10:00Z,\na,slo,2026-01-01T00:00:00Z,2026-01-01T00:01:00Z\n";
        let json = concat!(
            r#"{"entity":"b","class":"crash","onset":"2026-01-01T00:10:00Z","end":null}"#,
            "\n\n",
            r#"{"entity":"a","class":"slo","onset":1767225600,"end":"2026-01-01 00:01:00","summary":"x"}"#
        );
        let of_csv = read(csv).unwrap();
        assert_eq!(of_csv, read(json).unwrap());
        let order: Vec<&str> = of_csv.failures.iter().map(|f| f.entity.as_str()).collect();
        assert_eq!(order, ["a", "b"], "by onset");
        assert_eq!(of_csv.failures[1].end, None);
    }

    #[test]
    fn rows_that_overlap_are_one_failure() {
        let rows = [
            ("a", 0, 60),
            ("a", 30, 90),
            ("a", 90, 95),
            ("a", 200, 210),
            ("b", 40, 50),
        ];
        let text: String = rows
            .iter()
            .fold("entity,class,onset,end\n".into(), |text, (e, from, to)| {
                format!("{text}{e},crash,{},{}\n", 1_767_225_600 + from, 1_767_225_600 + to)
            });
        let labels = read(&text).unwrap();
        let spans: Vec<(&str, f64)> = labels
            .failures
            .iter()
            .map(|f| (f.entity.as_str(), f.end.unwrap().as_secs_f64() - f.onset.as_secs_f64()))
            .collect();
        assert_eq!((spans, labels.merged), (vec![("a", 95.0), ("b", 10.0), ("a", 10.0)], 2));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let cases = [
            ("", "line 1, column entity: expected a header"),
            ("a,b\n", "line 1, column entity: expected a header"),
            ("entity,class,onset,end\n,crash,0,\n", "line 2, column entity"),
            (
                "entity,class,onset,end,lead_s\na,crash,0,,soon\n",
                "line 2, column lead_s",
            ),
            ("entity,class,onset,end,lead\na,crash,0,,1\n", "line 1, column entity"),
            ("entity,class,onset,end\na,crash,0,,1\n", "line 2, column end"),
            ("entity,class,onset,end\na,,1767225600,\n", "line 2, column class"),
            (
                "entity,class,onset,end\na,crash,1767225600,\na,crash,soon,\n",
                "line 3, column onset: expected a time such as 2026-01-31T10:00:00Z or an epoch number, found \"soon\"",
            ),
            (
                "entity,class,onset,end\na,crash,1767225600,1767225599\n",
                "line 2, column end: expected a time that is not before onset",
            ),
            (
                "entity,class,onset,end\na,crash\n",
                "line 2, column end: expected as many fields",
            ),
            ("{\"entity\":\"a\"}\n", "line 1, column entity: expected an object"),
            (
                "{\"entity\":\"a\",\"class\":\"c\",\"onset\":[]}\n",
                "line 1, column onset",
            ),
        ];
        for (text, expected) in cases {
            let error = read(text).unwrap_err();
            assert!(error.is_bad_data());
            assert!(error.to_string().contains(expected), "{text:?}: {error}");
        }
        assert!(!Labels::read(Path::new("/nowhere")).unwrap_err().is_bad_data());
        assert_eq!(
            read("entity,class,onset,end\n").unwrap(),
            Labels::default(),
            "none is fine"
        );
    }
}
