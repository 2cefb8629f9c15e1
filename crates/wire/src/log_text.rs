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

use foreshock_domain::{Input, Level, LogLine, Timestamp};

use crate::decoder::Decoded;
use crate::error::DecodeError;
use crate::level::parse_level;
use crate::limits::{ITEMS_MAX, MESSAGE_BYTES_MAX, prefix};
use crate::time;

/// How many tokens are looked at for a level: host, process, thread and logger may stand before it.
const TOKENS_MAX: usize = 6;

/// Reads raw text. Keeps nothing between records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text;

impl Text {
    #[allow(clippy::unused_self)] // the same shape as the other formats
    pub(crate) fn decode(self, payload: &[u8], sink: &mut dyn FnMut(Input<'_>)) -> Result<Decoded, DecodeError> {
        let payload = payload.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(payload);
        let lines = || {
            payload
                .split(|b| *b == b'\n')
                .map(<[u8]>::trim_ascii_end)
                .filter(|l| !l.is_empty())
        };
        if lines().nth(ITEMS_MAX).is_some() {
            return Err(DecodeError::new(&format!(
                "too many lines, expected at most {ITEMS_MAX} a record"
            )));
        }
        let mut decoded = Decoded::default();
        for bytes in lines() {
            let text = String::from_utf8_lossy(bytes);
            decoded.replaced += usize::from(matches!(text, std::borrow::Cow::Owned(_)));
            let parts = split(&text);
            let message = prefix(parts.message, MESSAGE_BYTES_MAX);
            decoded.cut += usize::from(message.len() < parts.message.len());
            decoded.items += 1;
            sink(Input::Line(LogLine {
                at: parts.at,
                message,
                level: parts.level,
                labels: &[],
            }));
        }
        Ok(decoded)
    }
}

/// A line taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parts<'a> {
    at: Option<Timestamp>,
    level: Option<Level>,
    message: &'a str,
}

fn split(line: &str) -> Parts<'_> {
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
