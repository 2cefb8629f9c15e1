//! One JSON line an occurrence on standard output, as services in containers write them.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use jiff::Timestamp;

/// Level words, as the shop writes them.
#[derive(Clone, Copy, Debug)]
pub enum Level {
    /// Normal operation.
    Info,
    /// Unusual.
    Warn,
    /// Something failed.
    Error,
    /// The shop can't go on.
    Fatal,
}

/// Writes the log of one shop. Lines are built in a buffer on the stack, because the gravest ones are written when there
/// is no memory left.
#[derive(Debug)]
pub struct Log {
    host: String,
}

/// A line of fixed capacity; what does not fit is cut.
struct Line {
    bytes: [u8; 1024],
    len: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for c in s.chars() {
            let mut utf8 = [0; 4];
            let c = c.encode_utf8(&mut utf8).as_bytes();
            // Room is left for the closing quote, brace and newline.
            let Some(to) = self
                .bytes
                .get_mut(self.len..self.len + c.len())
                .filter(|_| self.len + c.len() <= 1_000)
            else {
                return Ok(());
            };
            to.copy_from_slice(c);
            self.len += c.len();
        }
        Ok(())
    }
}

/// Escapes what it is given for a JSON string.
struct Escaped<'a>(&'a mut Line);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for c in s.chars() {
            match c {
                '"' | '\\' => write!(self.0, "\\{c}")?,
                c if c < ' ' => self.0.write_str(" ")?,
                c => self.0.write_char(c)?,
            }
        }
        Ok(())
    }
}

impl Log {
    /// The log of the shop called `host`.
    pub fn new(host: &str) -> Self {
        Self { host: host.to_owned() }
    }

    /// Writes one line, stamped with the present time.
    pub fn write(&self, level: Level, message: fmt::Arguments<'_>) {
        let line = self.line(Timestamp::now(), level, message);
        // Where standard output is gone nobody is left to read it.
        let _ = std::io::stdout().lock().write_all(&line.bytes[..line.len]);
    }

    fn line(&self, at: Timestamp, level: Level, message: fmt::Arguments<'_>) -> Line {
        let mut line = Line {
            bytes: [0; 1024],
            len: 0,
        };
        let level = match level {
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Fatal => "fatal",
        };
        // Writing into the line cannot fail: it is cut instead.
        let _ = write!(line, r#"{{"@timestamp":"{at:.3}","level":"{level}","host":""#);
        let _ = write!(Escaped(&mut line), "{}", self.host);
        let _ = write!(line, r#"","service":"shop","message":""#);
        let _ = write!(Escaped(&mut line), "{message}");
        let backslashes = line.bytes[..line.len].iter().rev().take_while(|b| **b == b'\\').count();
        line.len -= backslashes % 2; // an escape that was cut in two
        let end = line.len.min(1_000);
        line.bytes[end..end + 3].copy_from_slice(b"\"}\n");
        line.len = end + 3;
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_json() {
        let long = "ä".repeat(2_000);
        let quotes = "\"".repeat(2_000);
        let cases: &[(&str, &str, Option<&str>)] = &[
            ("plain", "cache sweep", Some("cache sweep")),
            ("quotes", "a \"b\" \\ c", Some("a \"b\" \\ c")),
            ("controls", "a\nb\tc", Some("a b c")),
            ("empty", "", Some("")),
            ("long", &long, None),
            ("long quotes", &quotes, None),
        ];
        for (name, message, expected) in cases {
            let line = Log::new("shop-1").line(Timestamp::UNIX_EPOCH, Level::Fatal, format_args!("{message}"));
            let line: serde_json::Value = serde_json::from_slice(&line.bytes[..line.len]).expect(name);
            assert_eq!(line["@timestamp"], "1970-01-01T00:00:00.000Z", "{name}");
            assert_eq!(line["level"], "fatal", "{name}");
            let got = line["message"].as_str().expect(name);
            match expected {
                Some(expected) => assert_eq!(got, *expected, "{name}"),
                None => assert!(got.len() > 400 && message.starts_with(got), "{name}"),
            }
        }
    }
}
