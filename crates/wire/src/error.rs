use std::fmt;

use foreshock_domain::text::is_unprintable;

use crate::limits::prefix;

/// Longest part of a reason that may repeat bytes of the record.
const ECHO_BYTES_MAX: usize = 64;
/// Longest part of a reason that says what was expected.
const EXPECTED_BYTES_MAX: usize = 96;

/// Why a record was refused: what was found, what was expected, and where. At most about 200 bytes, of which at most 64
/// come from the record, so that it can travel in a header and in a log without leaking or flooding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct DecodeError {
    reason: Box<str>,
    /// From 1; 0 where no place can be named.
    line: usize,
    column: usize,
}

impl DecodeError {
    /// A reason without a place. Control characters are taken out and the length is bounded.
    pub(crate) fn new(reason: &str) -> Self {
        Self {
            reason: bounded(reason),
            line: 0,
            column: 0,
        }
    }

    /// A reason at a line and a column, both from 1.
    pub(crate) fn at(reason: &str, line: usize, column: usize) -> Self {
        Self {
            reason: bounded(reason),
            line,
            column,
        }
    }

    /// What the JSON parser says of a document that starts at this line and byte of the record, both from 1.
    pub(crate) fn json(error: &serde_json::Error, start: (usize, usize)) -> Self {
        let text = error.to_string();
        // The parser appends the place to the text; it is kept as numbers instead.
        let reason = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]);
        let (line, column) = match error.line() {
            0 => (0, 0),
            1 => (start.0, error.column() + start.1 - 1),
            later => (start.0 + later - 1, error.column()),
        };
        Self::at(reason, line, column)
    }

    /// What was found and what was expected.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Line of the record and byte of that line, both from 1, where a place can be named.
    #[must_use]
    pub fn place(&self) -> Option<(usize, usize)> {
        (self.line > 0).then_some((self.line, self.column))
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if self.line > 0 {
            write!(f, " at line {} byte {}", self.line, self.column)?;
        }
        Ok(())
    }
}

/// Cuts what may repeat the record, keeps what says what was expected, and takes out control characters.
fn bounded(reason: &str) -> Box<str> {
    let (found, expected) = match reason.rfind(", expected ") {
        Some(at) => reason.split_at(at),
        None => (reason, ""),
    };
    let mut out = String::with_capacity(reason.len().min(ECHO_BYTES_MAX + EXPECTED_BYTES_MAX + 3));
    for (part, bytes_max) in [(found, ECHO_BYTES_MAX), (expected, EXPECTED_BYTES_MAX)] {
        let kept = prefix(part, bytes_max);
        out.extend(kept.chars().map(|c| if is_unprintable(c) { ' ' } else { c }));
        if kept.len() < part.len() {
            out.push('…');
        }
    }
    out.into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_bounded_and_keep_what_was_expected() {
        let long = "x".repeat(10_000);
        let cases = [
            ("short", "empty payload".to_owned(), "empty payload".to_owned()),
            (
                "echo is cut",
                format!("invalid type: string \"{long}\", expected a number"),
                format!("invalid type: string \"{}…, expected a number", "x".repeat(42)),
            ),
            (
                "control characters",
                "bad \u{1b}[31m\n".to_owned(),
                "bad  [31m ".to_owned(),
            ),
            ("cut at a character", "é".repeat(100), format!("{}…", "é".repeat(32))),
        ];
        for (name, reason, expected) in cases {
            assert_eq!(DecodeError::new(&reason).reason(), expected, "{name}");
        }
    }
}
