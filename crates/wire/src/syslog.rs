//! Syslog lines: RFC 5424 (`<34>1 2026-01-31T12:00:00Z host app …`) and what RFC 3164 describes (`<34>Jan 31 12:00:00 host app:
//! …`), told apart by the version after the priority. A record holds one line, several separated by line ends, or frames with
//! their length before them (RFC 6587, 3.4.1).
//!
//! Times without a year take the year in which they are nearest to the log's own time, so that the last lines of December
//! that arrive in January are not a year late. They are local times of nobody knows where, taken as UTC; one that lies
//! ahead of the log by more than clocks differ comes from the east, and whole half-hours are taken off.
//!
//! Fails on local times west of Greenwich (they are hours behind, all of a host alike) and on writers that leave out the host
//! and have a space in the tag. What is no syslog line is taken as raw text and counted.
//!
//! Cost: one pass over the line; labels borrow from it but for parameters with escapes.

use std::borrow::Cow;

use foreshock_domain::{Level, Timestamp};

use crate::decoder::Near;
use crate::json::recycle;
use crate::labels::{Label, settle};
use crate::limits::{LABELS_MAX, NAME_BYTES_MAX};
use crate::outlet::Outlet;
use crate::time;

/// Parameters of structured data that become labels; host and service are beside them.
const PARAMS_MAX: usize = LABELS_MAX / 2;

/// Frames of a record: lines, or what a length before them says.
pub(crate) struct Frames<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let ends = |b: &u8| matches!(b, b'\n' | b'\r' | 0);
        let start = self.0.iter().position(|b| !ends(b))?;
        let rest = &self.0[start..];
        if let Some((frame, after)) = counted(rest) {
            self.0 = after;
            return Some(frame);
        }
        let end = rest.iter().position(|b| matches!(b, b'\n' | 0)).unwrap_or(rest.len());
        self.0 = &rest[end..];
        Some(rest[..end].trim_ascii_end())
    }
}

/// A frame with its length before it, and what follows. A length that is not true is read over.
fn counted(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let digits = rest.iter().take(8).take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 || digits == 8 || rest.get(digits) != Some(&b' ') || rest.get(digits + 1) != Some(&b'<') {
        return None;
    }
    let bytes: usize = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    let body = &rest[digits + 1..];
    match body.split_at_checked(bytes) {
        Some((frame, after)) if after.is_empty() || after[0].is_ascii_digit() || after[0].is_ascii_whitespace() => {
            Some((frame, after))
        }
        _ => {
            let end = body.iter().position(|b| *b == b'\n').unwrap_or(body.len());
            Some(body.split_at(end))
        }
    }
}

/// Reads one frame and hands it on.
pub(crate) fn line(bytes: &[u8], near: Option<Near>, scratch: &mut Vec<Label<'static>>, out: &mut Outlet<'_>) {
    let text = out.text(bytes);
    let mut labels = recycle(std::mem::take(scratch));
    match parse(&text, near, &mut labels) {
        Some(parsed) => {
            settle(&mut labels, 0);
            out.decoded.skipped += parsed.skipped;
            // The cookie of structured messages (CEE, rsyslog) says only that JSON follows.
            let message = parsed.message.trim_ascii_start();
            let message = message
                .strip_prefix("@cee:")
                .map_or(parsed.message, str::trim_ascii_start);
            out.body(parsed.at, parsed.level, message, &labels);
        }
        None => {
            out.decoded.unlike += 1;
            out.peeled(None, None, &text, &[]);
        }
    }
    *scratch = recycle(labels);
}

/// Whether a text begins as a syslog line does, well enough to say so of an unknown source.
pub(crate) fn is_line(text: &[u8]) -> bool {
    let rest = counted(text).map_or(text, |(frame, _)| frame);
    let Ok(head) =
        std::str::from_utf8(&rest[..rest.len().min(40)]).or_else(|e| std::str::from_utf8(&rest[..e.valid_up_to()]))
    else {
        return false;
    };
    match priority(head) {
        Some((_, after)) => after.starts_with(|c: char| c.is_ascii_alphanumeric()),
        None => time::leading_yearless(head, None).is_some(),
    }
}

/// A line taken apart; its labels are beside it.
#[derive(Debug)]
struct Parsed<'a> {
    at: Option<Timestamp>,
    level: Option<Level>,
    message: &'a str,
    skipped: usize,
}

fn parse<'a>(text: &'a str, near: Option<Near>, labels: &mut Vec<Label<'a>>) -> Option<Parsed<'a>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (level, rest) = match priority(text) {
        Some((level, rest)) => (Some(level), rest),
        None => (None, text),
    };
    if let (Some(level), Some(fields)) = (level, rest.strip_prefix("1 ")) {
        return Some(parse_5424(level, fields, labels));
    }
    let rest = rest.trim_ascii_start();
    let (at, after) = match time::leading_yearless(rest, near) {
        Some(found) => (found.at, rest.get(found.bytes..)?),
        None => match time::leading(rest) {
            Some(found) => (Some(found.at), rest.get(found.bytes..)?),
            None if level.is_some() => (None, rest),
            None => return None,
        },
    };
    let after = after.strip_prefix(':').unwrap_or(after).trim_ascii_start();
    // Without a time there is no host either: the C library writes the tag alone.
    let timed = after.len() < rest.len();
    let (first, others) = token(after);
    // A word with a colon that is no tag is the message's: no host ends so.
    let message = if timed && !first.is_empty() && !first.ends_with(':') && tag(first).is_none() && !others.is_empty() {
        push(labels, "host", first);
        let (second, others_of_second) = token(others);
        match tag_of(second, others_of_second, others) {
            Some((name, message)) => {
                push(labels, "service", name);
                message
            }
            None => others,
        }
    } else {
        match tag_of(first, others, after) {
            Some((name, message)) => {
                push(labels, "service", name);
                message
            }
            None => after,
        }
    };
    Some(Parsed {
        at,
        level,
        message,
        skipped: 0,
    })
}

fn parse_5424<'a>(level: Level, fields: &'a str, labels: &mut Vec<Label<'a>>) -> Parsed<'a> {
    let mut skipped = 0;
    let (time_text, rest) = token(fields);
    let at = time::parse_rfc3339(time_text);
    skipped += usize::from(at.is_none() && time_text != "-");
    let (host, rest) = token(rest);
    let (app, rest) = token(rest);
    let (_process, rest) = token(rest);
    let (_kind, rest) = token(rest);
    for (name, value) in [("host", host), ("service", app)] {
        if value != "-" {
            skipped += usize::from(!push(labels, name, value));
        }
    }
    let message = match rest.strip_prefix('-') {
        Some(after) if after.is_empty() || after.starts_with(' ') => after,
        _ => structured(rest, labels, &mut skipped),
    };
    let message = message.strip_prefix(' ').unwrap_or(message);
    Parsed {
        at,
        level: Some(level),
        message: message.strip_prefix('\u{feff}').unwrap_or(message),
        skipped,
    }
}

/// Reads structured data, `[id name="value" …]…`, into labels `id.name`, and gives back what follows. Where it breaks off, the
/// rest is message.
fn structured<'a>(mut text: &'a str, labels: &mut Vec<Label<'a>>, skipped: &mut usize) -> &'a str {
    let mut params = 0;
    while let Some(element) = text.strip_prefix('[') {
        let Some(end) = element.find([' ', ']']) else {
            return text;
        };
        let (id, mut rest) = element.split_at(end);
        loop {
            rest = rest.trim_start_matches(' ');
            if let Some(after) = rest.strip_prefix(']') {
                text = after;
                break;
            }
            let Some((name, value, after)) = param(rest) else {
                *skipped += 1;
                return text;
            };
            params += 1;
            let fits = id.len() + 1 + name.len() <= NAME_BYTES_MAX && value.len() <= NAME_BYTES_MAX;
            if params <= PARAMS_MAX && fits && !value.is_empty() {
                labels.push((Cow::Owned(format!("{id}.{name}")), value));
            } else {
                *skipped += 1;
            }
            rest = after;
        }
    }
    text
}

/// `name="value"`, with `\"`, `\\` and `\]` in the value, and what follows.
fn param(text: &str) -> Option<(&str, Cow<'_, str>, &str)> {
    let (name, rest) = text.split_once("=\"")?;
    if name.is_empty() || name.contains([' ', ']', '"']) {
        return None;
    }
    let mut escaped = false;
    let mut any = false;
    for (i, b) in rest.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => (escaped, any) = (true, true),
            b'"' => {
                let value = &rest[..i];
                let value = if any { unescaped(value) } else { Cow::Borrowed(value) };
                return Some((name, value, &rest[i + 1..]));
            }
            _ => {}
        }
    }
    None
}

fn unescaped(value: &str) -> Cow<'_, str> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some('"' | '\\' | ']')) => out.extend(chars.next()),
            _ => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// `<0>` to `<191>`: the level of the priority, and what follows.
fn priority(text: &str) -> Option<(Level, &str)> {
    let rest = text.strip_prefix('<')?;
    let end = rest.as_bytes().iter().take(4).position(|b| *b == b'>')?;
    let digits = &rest[..end];
    let number: u8 = digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| digits.parse().ok())??;
    let level = match number % 8 {
        0..=2 => Level::Fatal,
        3 => Level::Error,
        4 => Level::Warning,
        5 | 6 => Level::Info,
        _ => Level::Debug,
    };
    (number <= 191).then_some((level, &rest[end + 1..]))
}

/// The next word and what follows one space after it.
fn token(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

/// The program's name, if a word is a tag: `name:`, `name[pid]:`, `name[pid]`.
fn tag(word: &str) -> Option<&str> {
    let word = word
        .strip_suffix(':')
        .map_or_else(|| word.ends_with(']').then_some(word), Some)?;
    let name = word.find('[').map_or(word, |i| &word[..i]);
    let fits = !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./@".contains(&b));
    fits.then_some(name)
}

/// The program's name and the message after it. `all` is the word and what follows.
fn tag_of<'a>(word: &'a str, after: &'a str, all: &'a str) -> Option<(&'a str, &'a str)> {
    if let Some(name) = tag(word) {
        return Some((name, after));
    }
    // A tag whose message follows without a space: `kernel:oops`, `app[7]:{"a":1}`.
    let end = word.find("]:").map(|i| i + 2)?;
    tag(&word[..end]).map(|name| (name, &all[end..]))
}

/// Adds a label, if it can be one.
fn push<'a>(labels: &mut Vec<Label<'a>>, name: &'static str, value: &'a str) -> bool {
    let fits = !value.is_empty() && value.len() <= NAME_BYTES_MAX;
    if fits {
        labels.push((Cow::Borrowed(name), Cow::Borrowed(value)));
    }
    fits
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
                "rfc 5424",
                "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \u{feff}'su root' failed",
                "1065910455003 Fatal {host=mymachine.example.com,service=su} 'su root' failed",
            ),
            (
                "structured data",
                r#"<165>1 2003-10-11T22:14:15.003Z h evntslog - ID47 [e@32473 iut="3" src="a \"b\" \]c"][x@1 y=""] An event"#,
                r#"1065910455003 Info {e@32473.iut=3,e@32473.src=a "b" ]c,host=h,service=evntslog} An event"#,
            ),
            ("structured data alone", r#"<165>1 - - - - - [a b="c"]"#, ""),
            (
                "broken structured data",
                r#"<165>1 - h a - - [a b="c] x"#,
                r#"- Info {host=h,service=a} [a b="c] x"#,
            ),
            ("all nil", "<15>1 - - - - - - hello", "- Debug {} hello"),
            (
                "broken time",
                "<11>1 yesterday h a - - - hello",
                "- Error {host=h,service=a} hello",
            ),
            (
                "rfc 3164",
                "<13>Feb  5 17:32:18 10.0.0.99 app[77]: Use the BFG!",
                "- Info {host=10.0.0.99,service=app} Use the BFG!",
            ),
            (
                "rfc 3339 time",
                "<12>2026-01-31T13:00:00.5+01:00 h kernel: [12.5] oops",
                "1769860800500 Warning {host=h,service=kernel} [12.5] oops",
            ),
            ("no host", "<13>Feb  5 17:32:18 app[77]: m", "- Info {service=app} m"),
            ("no time", "<10>app: m", "- Fatal {service=app} m"),
            (
                "no tag",
                "<13>Feb  5 17:32:18 h something else",
                "- Info {host=h} something else",
            ),
            (
                "no priority",
                "Feb  5 17:32:18 h sshd[1]: m",
                "- - {host=h,service=sshd} m",
            ),
            (
                "year of cisco",
                "<187>Jan 31 2026 12:00:00.123: %SYS-5-CONFIG_I: Configured",
                "1769860800123 Error {} %SYS-5-CONFIG_I: Configured",
            ),
            (
                "json inside",
                r#"<13>Feb  5 17:32:18 h app[1]:{"level":"error","msg":"m"}"#,
                "- Error {host=h,service=app} m",
            ),
            (
                "cee",
                r#"<13>Feb  5 17:32:18 h app: @cee: {"msg":"m"}"#,
                "- Info {host=h,service=app} m",
            ),
            (
                "priority too high",
                "<192>1 - - - - - - x",
                "- - {} <192>1 - - - - - - x",
            ),
            ("no syslog", "hello", "- - {} hello"),
        ];
        for (name, line, expected) in cases {
            let (_, items) = decode_to_text(Format::Syslog, line.as_bytes()).unwrap();
            assert_eq!(items.first().map_or("", String::as_str), expected, "{name}");
        }
    }

    #[test]
    fn years_come_from_the_log() {
        let at = |text: &str| time::parse(text);
        let cases = [
            (
                "the same day",
                "Jan 31 12:00:00",
                "2026-01-31T12:00:01Z",
                "2026-01-31T12:00:00Z",
            ),
            (
                "after new year",
                "Dec 31 23:59:59",
                "2026-01-01T00:00:30Z",
                "2025-12-31T23:59:59Z",
            ),
            (
                "before new year",
                "Jan  1 00:00:01",
                "2025-12-31T23:59:58Z",
                "2026-01-01T00:00:01Z",
            ),
            (
                "months old",
                "Nov 15 00:00:00",
                "2026-01-31T12:00:00Z",
                "2025-11-15T00:00:00Z",
            ),
            (
                "leap day",
                "Feb 29 12:00:00",
                "2024-03-01T00:00:00Z",
                "2024-02-29T12:00:00Z",
            ),
            ("no such day near", "Feb 29 12:00:00", "2026-03-01T00:00:00Z", "-"),
            (
                "clocks differ",
                "Jan 31 12:04:00",
                "2026-01-31T12:00:00Z",
                "2026-01-31T12:04:00Z",
            ),
            (
                "two hours east",
                "Jan 31 14:00:00",
                "2026-01-31T12:00:01Z",
                "2026-01-31T12:00:00Z",
            ),
            (
                "India",
                "Jan 31 17:30:00.5",
                "2026-01-31T12:00:01Z",
                "2026-01-31T12:00:00.5Z",
            ),
        ];
        for (name, text, log, expected) in cases {
            let found = time::leading_yearless(text, at(log).map(Near::Record)).unwrap();
            assert_eq!(found.at, at(expected), "{name}");
            assert_eq!(found.bytes, text.len(), "{name}");
        }
        assert_eq!(time::leading_yearless("Jan 31 12:00:00", None).unwrap().at, None);
        // After a quiet hour: later than the line before is no sign of a zone.
        let before = at("2026-01-31T12:00:00Z").map(Near::Before);
        let found = time::leading_yearless("Jan 31 13:00:00", before).unwrap();
        assert_eq!(found.at, at("2026-01-31T13:00:00Z"));
        for none in [
            "Jan 32 12:00:00",
            "Foo 31 12:00:00",
            "Jan 31 25:00:00",
            "Jan 31",
            "",
            "Jan 3é 12:00:00",
        ] {
            assert_eq!(time::leading_yearless(none, None), None, "{none}");
        }
    }

    #[test]
    fn frames() {
        let frame = "<13>1 - h a - - - one\ntwo";
        let framed = format!(
            "{} {frame}{} {frame}\n<13>1 - h a - - - three",
            frame.len(),
            frame.len()
        );
        let cases: [(&[u8], &[&str]); 6] = [
            (framed.as_bytes(), &[frame, frame, "<13>1 - h a - - - three"]),
            (b"<13>a\n\n<13>b\0\r\n", &["<13>a", "<13>b"]),
            // A length that is not true is read over.
            (b"999 <13>a\n<13>b", &["<13>a", "<13>b"]),
            (b"3 <13>abc\nx", &["<13>abc", "x"]),
            (b"123456789 <13>a", &["123456789 <13>a"]),
            (b"", &[]),
        ];
        for (payload, expected) in cases {
            let frames: Vec<_> = Frames(payload).map(String::from_utf8_lossy).collect();
            assert_eq!(frames, expected);
        }
    }

    #[test]
    fn structured_data_is_bounded() {
        let many: String = (0..100).map(|i| format!(" p{i}=\"x\"")).collect();
        let line = format!("<13>1 - h a - - [id{many}] m");
        let (decoded, items) = decode_to_text(Format::Syslog, line.as_bytes()).unwrap();
        assert_eq!(items[0].matches("id.p").count(), PARAMS_MAX);
        assert_eq!(decoded.skipped, 100 - PARAMS_MAX);
    }
}
