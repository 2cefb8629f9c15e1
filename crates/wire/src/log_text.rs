//! Raw log lines: one line a record, or several separated by `\n`.
//!
//! Of the envelope only what is plainly there is taken: a time at the very start of the line (`YYYY-MM-DD HH:MM:SS` with
//! fraction and zone if given, also in brackets) and a level among the first tokens. Both are taken out of the message
//! where they stand at its start; everything else is left to the template miner, which is made for it.
//!
//! Fails on times in the writer's local zone without a zone (taken as UTC) and on formats such as `Jan 31 12:00:00` that name
//! no year: those lines count at the log's own timestamp.
//!
//! Cost: one pass over the line; only bytes that are not UTF-8 allocate (each bad sequence becomes U+FFFD and the line is counted).

use foreshock_domain::{Level, Timestamp};

use crate::level::parse_level;
use crate::outlet::Outlet;
use crate::time;

/// How many tokens are looked at for a level: host, process, thread and logger may stand before it.
const TOKENS_MAX: usize = 6;

/// Reads one line and hands it on.
pub(crate) fn line(bytes: &[u8], out: &mut Outlet<'_>) {
    let text = out.text(bytes);
    out.peeled(None, None, &text, &[]);
}

/// A line taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    pub(crate) at: Option<Timestamp>,
    pub(crate) level: Option<Level>,
    pub(crate) message: &'a str,
}

/// Takes a line apart.
pub(crate) fn split(line: &str) -> Parts<'_> {
    let (at, rest) = take_time(line);
    let mut tail = rest;
    for i in 0..TOKENS_MAX {
        let Some((token, after)) = next_token(tail) else { break };
        if let Some(level) = token_level(token) {
            // At the start it is envelope; further in, cutting it out would tear the message apart.
            let message = if i == 0 && !after.trim_start().is_empty() {
                after.trim_start_matches(is_separator)
            } else {
                rest
            };
            return Parts {
                at,
                level: Some(level),
                message,
            };
        }
        if is_prose(token) {
            break;
        }
        tail = after;
    }
    Parts {
        at,
        level: None,
        message: rest,
    }
}

/// The time at the start of the line, and what follows. A line that is nothing but a time keeps it as its message.
fn take_time(line: &str) -> (Option<Timestamp>, &str) {
    let inner = line.strip_prefix('[').unwrap_or(line);
    let Some(found) = time::leading(inner) else {
        return (None, line);
    };
    let mut rest = &inner[found.bytes..];
    if inner.len() < line.len() {
        let Some(closed) = rest.strip_prefix(']') else {
            return (None, line);
        };
        rest = closed;
    }
    let rest = rest.trim_start_matches(is_separator);
    if rest.is_empty() {
        (Some(found.at), line)
    } else {
        (Some(found.at), rest)
    }
}

const fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '\t' | '-' | '|' | ':' | ',')
}

/// The next word, or all of a bracketed group, and what follows.
fn next_token(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', '\t', '|']);
    let end = match text.chars().next()? {
        '[' => text.find(']').map(|i| i + 1),
        '(' => text.find(')').map(|i| i + 1),
        '<' => text.find('>').map(|i| i + 1),
        _ => None,
    };
    let end = end.or_else(|| text.find([' ', '\t', '|'])).unwrap_or(text.len());
    Some(text.split_at(end))
}

/// A level, if the token is plainly one: in capitals, in brackets, or before a colon, so that prose such as `no error`
/// or `alert users` is not taken for one.
fn token_level(token: &str) -> Option<Level> {
    let bare = token.trim_matches(|c: char| !c.is_ascii_alphabetic());
    let word = bare.strip_prefix("level=").unwrap_or(bare);
    let level = parse_level(word)?;
    let capitals = word.bytes().all(|b| b.is_ascii_uppercase());
    let bracketed = token.starts_with(['[', '<', '(']);
    let keyed = word.len() < bare.len();
    let announced = token.ends_with(':') && !word.eq_ignore_ascii_case("alert") && !word.eq_ignore_ascii_case("config");
    (capitals || bracketed || keyed || announced).then_some(level)
}

/// Whether the message has begun: a word of letters alone.
fn is_prose(token: &str) -> bool {
    token.len() > 1 && token.bytes().all(|b| b.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use crate::decoder::{Decoded, decode_to_text};
    use crate::format::Format;
    use crate::limits::{ITEMS_MAX, MESSAGE_BYTES_MAX};

    #[test]
    fn lines() {
        let cases = [
            ("plain", "all is well", "- - {} all is well"),
            (
                "time and level",
                "2015-07-29 17:41:44,747 - INFO  [main:Server@1] - started",
                "1438191704747 Info {} [main:Server@1] - started",
            ),
            (
                "rfc 3339",
                "2026-01-31T12:00:00Z warn: disk slow",
                "1769860800000 Warning {} disk slow",
            ),
            ("offset", "2026-01-31T13:00:00.5+01:00 x", "1769860800500 - {} x"),
            (
                "in brackets",
                "[2026-01-31 12:00:00] [error] no route",
                "1769860800000 Error {} no route",
            ),
            (
                "level after the process",
                "2017-05-16 00:00:00.008 25746 INFO nova.api [req-1] GET",
                "1494892800008 Info {} 25746 INFO nova.api [req-1] GET",
            ),
            (
                "level after foreign time",
                "081109 203615 148 INFO dfs.DataNode: got it",
                "- Info {} 081109 203615 148 INFO dfs.DataNode: got it",
            ),
            ("level at the start", "ERROR: it broke", "- Error {} it broke"),
            ("level alone", "ERROR", "- Error {} ERROR"),
            ("level in prose", "no error was found", "- - {} no error was found"),
            ("capitals in prose", "the FATAL flaw", "- - {} the FATAL flaw"),
            (
                "alert in prose",
                "alert: users signed in",
                "- - {} alert: users signed in",
            ),
            ("go panic", "panic: runtime error", "- Fatal {} runtime error"),
            ("key and value", "level=warn ts=1 msg=x", "- Warning {} ts=1 msg=x"),
            (
                "only a time",
                "2026-01-31 12:00:00",
                "1769860800000 - {} 2026-01-31 12:00:00",
            ),
            ("no such day", "2026-02-30 12:00:00 x", "- - {} 2026-02-30 12:00:00 x"),
            ("open bracket", "[INFO and no end", "- Info {} and no end"),
            ("carriage return", "windows\r", "- - {} windows"),
        ];
        for (name, line, expected) in cases {
            let (_, items) = decode_to_text(Format::LogText, line.as_bytes()).unwrap();
            assert_eq!(items, [expected], "{name}");
        }
    }

    #[test]
    fn records() {
        let long = "é".repeat(MESSAGE_BYTES_MAX);
        let cases: [(&str, &[u8], Decoded); 6] = [
            ("empty", b"", Decoded::default()),
            ("blank lines", b"\n \r\n\t\n", Decoded::default()),
            (
                "three lines",
                b"a\n\nb\nc\n",
                Decoded {
                    items: 3,
                    untimed: 3,
                    ..Decoded::default()
                },
            ),
            (
                "not UTF-8",
                b"a\xFFb\nc",
                Decoded {
                    items: 2,
                    untimed: 2,
                    replaced: 1,
                    ..Decoded::default()
                },
            ),
            (
                "NUL",
                b"\0\0",
                Decoded {
                    cleaned: 1,
                    empty: 1,
                    ..Decoded::default()
                },
            ),
            (
                "long",
                long.as_bytes(),
                Decoded {
                    items: 1,
                    untimed: 1,
                    cut: 1,
                    ..Decoded::default()
                },
            ),
        ];
        for (name, payload, expected) in cases {
            assert_eq!(decode_to_text(Format::LogText, payload).unwrap().0, expected, "{name}");
        }
        assert_eq!(
            decode_to_text(Format::LogText, b"a\xFFb").unwrap().1,
            ["- - {} a\u{fffd}b"]
        );
        let error = decode_to_text(Format::LogText, "x\n".repeat(ITEMS_MAX + 1).as_bytes()).unwrap_err();
        assert_eq!(error.reason(), "too many lines, expected at most 10000 a record");
    }
}
