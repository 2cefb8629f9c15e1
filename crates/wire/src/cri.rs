//! Lines as Kubernetes container runtimes write them: `2026-01-31T12:00:00.123456789Z stdout F message`.
//!
//! A long line comes in pieces, each with `P` in place of `F` but the last. Pieces of one source (record key and stream) are
//! joined until the `F` comes. What waits is bounded: in size by that of a message, in sources by [`WAITING_MAX`] (the one that
//! waited longest then goes out as it is), and in time by [`PIECES_APART_MS`] between two pieces.
//!
//! Fails on keys that several containers share: pieces that interleave are joined to one line. What is no such line is taken as
//! raw text and counted.
//!
//! Cost: a few dozen bytes looked at a line; a copy only of lines in pieces.

use foreshock_domain::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

use crate::limits::{MESSAGE_BYTES_MAX, NAME_BYTES_MAX, prefix};
use crate::outlet::Outlet;
use crate::time;

/// Lines in pieces that may wait for their end at a time.
const WAITING_MAX: usize = 64;
/// Pieces further apart are of different lines: the writer of the first died.
const PIECES_APART_MS: Millis = 10_000;

/// One line taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    pub(crate) at: Timestamp,
    pub(crate) is_error_stream: bool,
    pub(crate) is_partial: bool,
    pub(crate) content: &'a str,
}

/// Whether a text begins as such a line.
pub(crate) fn is_line(text: &str) -> bool {
    let b = text.as_bytes();
    // Enough to send most others away before the time is read.
    b.len() >= 28 && b[4] == b'-' && (b[10] == b'T') && split(text).is_some()
}

/// Takes a line apart.
pub(crate) fn split(text: &str) -> Option<Parts<'_>> {
    let (at, rest) = text.split_once(' ')?;
    let at = time::parse_rfc3339(at)?;
    let (stream, rest) = rest.split_once(' ')?;
    let is_error_stream = match stream {
        "stdout" => false,
        "stderr" => true,
        _ => return None,
    };
    // Tags are separated by colons; only the first is defined so far.
    let (tags, content) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_partial = match tags.split(':').next()? {
        "P" => true,
        "F" => false,
        _ => return None,
    };
    Some(Parts {
        at,
        is_error_stream,
        is_partial,
        content,
    })
}

/// A line whose end has not come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    key: Box<[u8]>,
    is_error_stream: bool,
    first_at: Timestamp,
    last_at: Timestamp,
    text: String,
    is_cut: bool,
}

/// Lines whose ends have not come, oldest first: state, since records that came made it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pieces {
    waiting: Vec<Waiting>,
}

impl Pieces {
    /// Reads one line of the source `key` and hands on what is whole.
    pub(crate) fn line(&mut self, bytes: &[u8], key: &[u8], out: &mut Outlet<'_>) {
        let text = out.text(bytes);
        let Some(parts) = split(&text) else {
            out.decoded.unlike += 1;
            out.peeled(None, None, &text, &[]);
            return;
        };
        self.take(parts, key, out);
    }

    /// Takes a line that was taken apart.
    pub(crate) fn take(&mut self, parts: Parts<'_>, key: &[u8], out: &mut Outlet<'_>) {
        let key = &key[..key.len().min(NAME_BYTES_MAX)];
        let own = |w: &Waiting| w.is_error_stream == parts.is_error_stream && *w.key == *key;
        let mut known = if self.waiting.is_empty() {
            None
        } else {
            self.waiting.iter().position(own)
        };
        if let Some(i) = known
            && (parts.at - self.waiting[i].last_at).abs() > PIECES_APART_MS
        {
            let stale = self.waiting.remove(i);
            stale.emit(out);
            known = None;
        }
        match (known, parts.is_partial) {
            (None, false) => out.body(Some(parts.at), None, parts.content, &[]),
            (None, true) => {
                if self.waiting.len() >= WAITING_MAX {
                    let oldest = self.waiting.remove(0);
                    oldest.emit(out);
                }
                let mut fresh = Waiting {
                    key: key.into(),
                    is_error_stream: parts.is_error_stream,
                    first_at: parts.at,
                    last_at: parts.at,
                    text: String::new(),
                    is_cut: false,
                };
                fresh.push(parts);
                self.waiting.push(fresh);
            }
            (Some(i), is_partial) => {
                out.decoded.joined += 1;
                self.waiting[i].push(parts);
                if !is_partial {
                    let whole = self.waiting.remove(i);
                    whole.emit(out);
                }
            }
        }
    }
}

impl Waiting {
    fn push(&mut self, parts: Parts<'_>) {
        let room = MESSAGE_BYTES_MAX - self.text.len().min(MESSAGE_BYTES_MAX);
        // Once something is cut, what follows has no place to stand.
        let kept = if self.is_cut { "" } else { prefix(parts.content, room) };
        self.is_cut |= kept.len() < parts.content.len();
        self.text.push_str(kept);
        self.last_at = parts.at;
    }

    fn emit(self, out: &mut Outlet<'_>) {
        out.decoded.cut += usize::from(self.is_cut);
        out.body(Some(self.first_at), None, &self.text, &[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::{Decoder, Origin};
    use crate::format::Format;

    fn read(records: &[(&str, String)]) -> (Vec<String>, usize) {
        let mut decoder = Decoder::new(Format::Cri);
        let (mut items, mut joined) = (Vec::new(), 0);
        for (key, payload) in records {
            let origin = Origin {
                key: key.as_bytes(),
                near: None,
            };
            let decoded = decoder.decode_from(payload.as_bytes(), origin, &mut |input| {
                let foreshock_domain::Input::Line(line) = input else {
                    return;
                };
                let ms = line.at.map_or(-1, |at| at.as_millis() - 1_769_860_800_000);
                items.push(format!("{ms} {}", line.message));
            });
            joined += decoded.unwrap().joined;
            // As if the partition moved to another instance after every record.
            decoder = Decoder::new(Format::Cri).remembering(decoder.memory().clone());
        }
        (items, joined)
    }

    fn at(seconds: u32, rest: &str) -> String {
        format!("2026-01-31T12:00:{seconds:02}Z {rest}")
    }

    #[test]
    fn pieces_are_joined_by_source_and_stream() {
        let records = [
            ("a", at(0, "stdout P one ")),
            ("b", at(0, "stdout F other")),
            ("a", at(1, "stderr F error")),
            ("a", at(1, "stdout P two ")),
            ("a", format!("{}\n{}", at(2, "stdout F three"), at(3, "stdout F four"))),
        ];
        let expected = ["0 other", "1000 error", "0 one two three", "3000 four"];
        assert_eq!(read(&records), (expected.map(str::to_owned).to_vec(), 2));
    }

    #[test]
    fn what_waits_is_bounded() {
        let long = "x".repeat(MESSAGE_BYTES_MAX - 1);
        let records = [
            ("a", at(0, &format!("stdout P {long}"))),
            ("a", at(0, "stdout P yz")),
            ("a", at(0, "stdout F z")),
        ];
        assert_eq!(read(&records).0, [format!("0 {long}y")], "in size");
        let records = [("a", at(0, "stdout P one")), ("a", at(11, "stdout F two"))];
        assert_eq!(read(&records).0, ["0 one", "11000 two"], "in time");
        let keys: Vec<String> = (0..=WAITING_MAX).map(|i| format!("k{i}")).collect();
        let records: Vec<_> = keys
            .iter()
            .map(|k| (k.as_str(), at(0, &format!("stdout P {k}"))))
            .collect();
        assert_eq!(read(&records).0, ["0 k0"], "in sources");
    }

    #[test]
    fn lines() {
        let cases = [
            (
                "2026-01-31T12:00:00.5+01:00 stderr F ERROR it broke",
                "-3599500 it broke",
            ),
            ("2026-01-31T12:00:00Z stdout F:tag x", "0 x"),
            ("2026-01-31T12:00:00Z stdout F {\"msg\":\"m\"}", "0 m"),
            (
                "2026-01-31T12:00:00Z stdout F \tat a.B(C.java:1)",
                "0 \tat a.B(C.java:1)",
            ),
            ("2026-01-31T12:00:00Z stdlog F x", "0 stdlog F x"),
            ("2026-01-31T12:00:00Z stdout Q x", "0 stdout Q x"),
            ("hello", "-1 hello"),
        ];
        for (line, expected) in cases {
            assert_eq!(read(&[("k", line.to_owned())]).0, [expected], "{line}");
        }
        assert!(
            read(&[("k", "2026-01-31T12:00:00Z stdout F ".to_owned())]).0.is_empty(),
            "an empty line is none"
        );
    }
}
