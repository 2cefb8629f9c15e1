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
    if out.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(out) }
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
