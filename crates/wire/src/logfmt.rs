//! logfmt lines: `ts=… level=info msg="a message" key=value`, as Go services write them.
//!
//! Keys mean what they mean in JSON ([`crate::fields`]). A line without a message is its own message, less its time, level and
//! labels. Pairs beside a message are read over.
//!
//! Fails on values with spaces that are not in quotes: what follows the space is a key without a value. A line without
//! any pair is raw text and counted.
//!
//! Cost: one pass over the line; only values with escapes and lines without a message allocate.

use std::borrow::Cow;

use foreshock_domain::{Level, Timestamp};

use crate::fields::{Found, Slot, place_dotted};
use crate::json::Scalar;
use crate::labels::Label;
use crate::outlet::Outlet;

/// Pairs of one line that are looked at.
const PAIRS_MAX: usize = 256;

/// A line taken apart.
pub(crate) struct Parsed<'a> {
    pub(crate) at: Option<Timestamp>,
    pub(crate) level: Option<Level>,
    pub(crate) message: Cow<'a, str>,
    pub(crate) skipped: usize,
}

/// Reads one line and hands it on.
pub(crate) fn line(bytes: &[u8], out: &mut Outlet<'_>) {
    let text = out.text(bytes);
    let text = text.trim_ascii();
    if Pairs(text).take(PAIRS_MAX).any(|pair| pair.value.is_some()) {
        let mut labels = Vec::new();
        let parsed = read(text, &mut labels);
        out.decoded.skipped += parsed.skipped;
        out.line(parsed.at, parsed.level, &parsed.message, &labels);
    } else {
        out.decoded.unlike += 1;
        out.peeled(None, None, text, &[]);
    }
}

/// Whether a text is plainly logfmt: it begins with a pair, and has a message or a level and another pair.
pub(crate) fn is_line(text: &str) -> bool {
    // The common case, prose, is told by its first word.
    let head = text.as_bytes();
    let key = head.iter().take(64).position(|b| !is_key(*b));
    if key.is_none_or(|end| end == 0 || head[end] != b'=') {
        return false;
    }
    let mut pairs = 0;
    let (mut message, mut level) = (false, false);
    for pair in Pairs(text).take(8) {
        pairs += usize::from(pair.value.is_some());
        match place_dotted(pair.key) {
            Some((Slot::Message, _)) => message |= pair.value.is_some(),
            Some((Slot::Level, _)) => level |= pair.value.is_some(),
            _ => {}
        }
    }
    message || (level && pairs >= 2)
}

/// Takes a line apart.
pub(crate) fn read<'a>(text: &'a str, labels: &mut Vec<Label<'a>>) -> Parsed<'a> {
    let mut found = Found::default();
    let mut taken = false;
    for pair in Pairs(text).take(PAIRS_MAX) {
        if let (Some((slot, rank)), Some(value)) = (place_dotted(pair.key), pair.value)
            && !value.is_empty()
        {
            taken = true;
            found.take(slot, rank, Scalar::Text(value));
        }
    }
    let message = match found.message.take() {
        Some((_, message)) => message,
        None if taken => rest_of(text),
        None => Cow::Borrowed(text),
    };
    let parsed = Parsed {
        at: found.at.map(|(_, at)| at),
        level: found.level.map(|(_, level)| level),
        message,
        skipped: found.skipped,
    };
    found.labels_into(labels);
    parsed
}

/// The line without the pairs that are of use elsewhere; all of it where nothing else is there.
fn rest_of(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    for pair in Pairs(text) {
        if pair.value.is_none() || place_dotted(pair.key).is_none() {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(pair.text);
        }
    }
    if out.is_empty() {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(out)
    }
}

const fn is_key(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@' | b'/')
}

/// One pair, or a word without a value.
struct Pair<'a> {
    key: &'a str,
    value: Option<Cow<'a, str>>,
    /// As it stands in the line.
    text: &'a str,
}

/// The pairs of a line.
struct Pairs<'a>(&'a str);

impl<'a> Iterator for Pairs<'a> {
    type Item = Pair<'a>;

    fn next(&mut self) -> Option<Pair<'a>> {
        let text = self.0.trim_ascii_start();
        if text.is_empty() {
            return None;
        }
        let bytes = text.as_bytes();
        let key_end = bytes
            .iter()
            .position(|b| *b == b'=' || b.is_ascii_whitespace())
            .unwrap_or(bytes.len());
        let key = &text[..key_end];
        let (value, end) = match bytes.get(key_end) {
            Some(b'=') if key_end > 0 => {
                let (value, bytes) = value(&text[key_end + 1..]);
                (Some(value), key_end + 1 + bytes)
            }
            // A stray sign: it and what follows is a word.
            Some(b'=') => (None, 1),
            _ => (None, key_end),
        };
        self.0 = &text[end..];
        Some(Pair {
            key,
            value,
            text: &text[..end],
        })
    }
}

/// A value, in quotes or up to the next space, and its length in the line.
fn value(text: &str) -> (Cow<'_, str>, usize) {
    let bytes = text.as_bytes();
    let bare = || {
        let end = bytes.iter().position(u8::is_ascii_whitespace).unwrap_or(bytes.len());
        (Cow::Borrowed(&text[..end]), end)
    };
    if bytes.first() != Some(&b'"') {
        return bare();
    }
    let (mut escaped, mut any) = (false, false);
    for (i, b) in bytes.iter().enumerate().skip(1) {
        match b {
            _ if escaped => escaped = false,
            b'\\' => (escaped, any) = (true, true),
            b'"' => {
                let inner = &text[1..i];
                let inner = if any { unescaped(inner) } else { Cow::Borrowed(inner) };
                return (inner, i + 1);
            }
            _ => {}
        }
    }
    // Cut off by somebody: what is there is the value.
    (Cow::Borrowed(&text[1..]), text.len())
}

fn unescaped(text: &str) -> Cow<'_, str> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some(c @ ('"' | '\\')) => out.push(c),
            Some(c) => out.extend(['\\', c]),
            None => out.push('\\'),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::decode_to_text;
    use crate::format::Format;

    #[test]
    fn lines() {
        let cases = [
            (
                "docker daemon",
                r#"time="2026-01-31T12:00:00.053580605Z" level=info msg="GET /containers/json""#,
                "1769860800053 Info {} GET /containers/json",
            ),
            (
                "go kit",
                "ts=2026-01-31T12:00:00Z caller=main.go:1 level=warn component=tsdb msg=slow",
                "1769860800000 Warning {} slow",
            ),
            (
                "labels",
                "level=error host=a app=b pod=c trace_id=d msg=m",
                "- Error {host=a,pod=c,service=b,trace_id=d} m",
            ),
            (
                "escapes",
                r#"level=error msg="a \"b\" \\ \n\tc""#,
                "- Error {} a \"b\" \\ \n\tc",
            ),
            (
                "no message",
                "ts=1 level=info method=GET path=/x status=500 dur=1.5ms",
                "1000 Info {} method=GET path=/x status=500 dur=1.5ms",
            ),
            ("only known keys", "level=info ts=1", "1000 Info {} level=info ts=1"),
            ("unknown keys only", "a=1 b", "- - {} a=1 b"),
            ("cut off", r#"level=info msg="and then"#, "- Info {} and then"),
            ("empty values", "level= msg=m host=\"\"", "- - {} m"),
            (
                "no pair",
                "2026-01-31 12:00:00 ERROR plain",
                "1769860800000 Error {} plain",
            ),
            ("stray signs", "= =x ==", "- - {} = =x =="),
        ];
        for (name, line, expected) in cases {
            let (_, items) = decode_to_text(Format::Logfmt, line.as_bytes()).unwrap();
            assert_eq!(items, [expected], "{name}");
        }
    }

    #[test]
    fn only_what_is_plainly_logfmt_is_told_to_be() {
        for yes in [
            "level=info msg=x",
            "msg=x",
            "ts=1 level=info a=b",
            "time=\"x\" level=info",
        ] {
            assert!(is_line(yes), "{yes}");
        }
        for no in [
            "",
            "a=1",
            "GET / level=info msg=x",
            "x==y",
            "=msg=",
            "level=info",
            "é=1 msg=x",
            "key: a=b msg=c",
        ] {
            assert!(!is_line(no), "{no}");
        }
    }
}
