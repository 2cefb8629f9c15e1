//! The last step of every log format: a line as its envelope gave it becomes one that is safe to mine and to show.
//!
//! In this order: an empty message is counted and left out; one that is JSON, logfmt or a container runtime's line itself is
//! opened; a long one is cut; terminal escapes and control characters are taken out; a time and a level that stand at its
//! start are taken where the envelope has none.
//!
//! Fails on envelopes deeper than that: what is left of them stays in the message.
//!
//! Cost: one vectorised pass over message and labels that finds nothing in the usual case, and a look at the first bytes.

use std::borrow::Cow;

use foreshock_domain::text::{is_unprintable, printable};
use foreshock_domain::{Input, LabelPairs, Level, LogLine, Timestamp};

use crate::decoder::Decoded;
use crate::labels::{Label, settle};
use crate::limits::{MESSAGE_BYTES_MAX, prefix};
use crate::{cri, log_json, log_text, logfmt};

/// Envelopes inside a message that are opened: a container runtime's line, and what the program wrote.
const DEPTH_MAX: u8 = 2;

/// Where lines leave a record.
pub(crate) struct Outlet<'s> {
    sink: &'s mut dyn FnMut(Input<'_>),
    pub(crate) decoded: Decoded,
}

impl<'s> Outlet<'s> {
    pub(crate) fn new(sink: &'s mut dyn FnMut(Input<'_>)) -> Self {
        Self {
            sink,
            decoded: Decoded::default(),
        }
    }

    /// Bytes as text; a bad sequence becomes U+FFFD, and the line is counted.
    pub(crate) fn text<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, str> {
        let text = String::from_utf8_lossy(bytes);
        self.decoded.replaced += usize::from(matches!(text, Cow::Owned(_)));
        text
    }

    /// A line out of an envelope; its message may be an envelope itself.
    pub(crate) fn body(&mut self, at: Option<Timestamp>, level: Option<Level>, message: &str, labels: &LabelPairs<'_>) {
        self.open(at, level, message, labels, DEPTH_MAX);
    }

    fn open(&mut self, at: Option<Timestamp>, level: Option<Level>, message: &str, labels: &LabelPairs<'_>, depth: u8) {
        let message = message.trim_ascii_end();
        let first = message.trim_ascii_start().as_bytes().first();
        match first {
            None => self.decoded.empty += 1,
            Some(_) if depth == 0 => self.peeled(at, level, message, labels),
            Some(b'{') => {
                if let Some(mut inner) = log_json::nested(message) {
                    let at = at.or(inner.at.map(|(_, at)| at));
                    // What wrote the line knows its level better than what carried it.
                    let level = inner.level.map(|(_, level)| level).or(level);
                    let message = inner.message.take();
                    let mut own = Vec::new();
                    inner.labels_into(&mut own);
                    let message = message.as_ref().map_or("", |(_, text)| text);
                    self.with_own(at, level, message, labels, own);
                } else {
                    self.line(at, level, message, labels);
                }
            }
            Some(b'0'..=b'9') if cri::is_line(message) => {
                let Some(inner) = cri::split(message) else { return };
                self.open(at.or(Some(inner.at)), level, inner.content, labels, depth - 1);
            }
            Some(_) if logfmt::is_line(message) => {
                let mut own = Vec::new();
                let inner = logfmt::read(message, &mut own);
                self.decoded.skipped += inner.skipped;
                let (at, level) = (at.or(inner.at), inner.level.or(level));
                let message = inner.message;
                self.with_own(at, level, &message, labels, own);
            }
            Some(_) => self.peeled(at, level, message, labels),
        }
    }

    /// A line whose message may begin with a time and a level, as programs write them that know of no envelope.
    pub(crate) fn peeled(
        &mut self,
        at: Option<Timestamp>,
        level: Option<Level>,
        message: &str,
        labels: &LabelPairs<'_>,
    ) {
        if at.is_some() && level.is_some() {
            return self.line(at, level, message, labels);
        }
        let message = self.shortened(message);
        let message = self.cleaned(message);
        let parts = log_text::split(&message);
        self.hand_on(at.or(parts.at), level.or(parts.level), parts.message, labels);
    }

    /// A line whose message is nothing but that.
    pub(crate) fn line(&mut self, at: Option<Timestamp>, level: Option<Level>, message: &str, labels: &LabelPairs<'_>) {
        let message = self.shortened(message);
        let message = self.cleaned(message);
        self.hand_on(at, level, &message, labels);
    }

    /// A line whose message had labels in it: they stand for those of the envelope.
    fn with_own<'a>(
        &mut self,
        at: Option<Timestamp>,
        level: Option<Level>,
        message: &str,
        labels: &'a LabelPairs<'a>,
        own: Vec<Label<'a>>,
    ) {
        if own.is_empty() {
            return self.line(at, level, message, labels);
        }
        let mut all: Vec<Label<'_>> = labels.to_vec();
        all.extend(own);
        settle(&mut all, 0);
        self.line(at, level, message, &all);
    }

    fn shortened<'a>(&mut self, message: &'a str) -> &'a str {
        let kept = prefix(message, MESSAGE_BYTES_MAX);
        self.decoded.cut += usize::from(kept.len() < message.len());
        kept
    }

    fn cleaned<'a>(&mut self, message: &'a str) -> Cow<'a, str> {
        let clean = clean(message);
        self.decoded.cleaned += usize::from(matches!(clean, Cow::Owned(_)));
        clean
    }

    fn hand_on(&mut self, at: Option<Timestamp>, level: Option<Level>, message: &str, labels: &LabelPairs<'_>) {
        let message = message.trim_ascii_end();
        if message.trim_ascii_start().is_empty() {
            self.decoded.empty += 1;
            return;
        }
        self.decoded.items += 1;
        self.decoded.untimed += usize::from(at.is_none());
        let mut send = |labels: &LabelPairs<'_>| {
            (self.sink)(Input::Line(LogLine {
                at,
                message,
                level,
                labels,
            }));
        };
        let dirty = labels
            .iter()
            .any(|(k, v)| may_be_unprintable(k, true) || may_be_unprintable(v, true));
        if dirty {
            let mut shown: Vec<Label<'_>> = labels.iter().map(|(k, v)| (printable(k), printable(v))).collect();
            settle(&mut shown, 0);
            send(&shown);
        } else {
            send(labels);
        }
    }
}

/// Whether a byte is there that may be part of a character that no terminal should see; line ends and tabs, where asked for.
fn may_be_unprintable(text: &str, line_ends: bool) -> bool {
    // No early exit: this way the compiler looks at 16 or 32 bytes at once. 0xC2 begins the C1 controls, 0xD8 and 0xE2 the
    // bidirectional ones.
    text.as_bytes().iter().fold(false, |found, &b| {
        found
            | ((b < 0x20) & (line_ends | ((b != b'\n') & (b != b'\t'))))
            | (b == 0x7f)
            | (b == 0xc2)
            | (b == 0xd8)
            | (b == 0xe2)
    })
}

/// The text without terminal escapes (colours, titles, links) and control characters. Line ends and tabs stay: the joiner of
/// traces needs them.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let kept = |c: char| c == '\n' || c == '\t';
    if !may_be_unprintable(text, false) || !text.contains(|c| is_unprintable(c) && !kept(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut ends = Ends::default();
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '\u{1b}' => escape(after, &mut ends),
            '\u{9b}' => control_sequence(after),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => control_string(after, &mut ends),
            '\r' => {
                // Alone it moves to the start of the line, which progress bars use.
                if !after.starts_with('\n') && !after.is_empty() {
                    out.push(' ');
                }
                after
            }
            c => {
                if kept(c) || !is_unprintable(c) {
                    out.push(c);
                }
                after
            }
        };
    }
    Cow::Owned(out)
}

/// Whether the rest of a text can still end a control string: it is searched to its end at most once in vain.
#[derive(Default)]
struct Ends {
    none_left: bool,
}

/// What follows the escape that an ESC began.
fn escape<'a>(after: &'a str, ends: &mut Ends) -> &'a str {
    match after.as_bytes().first() {
        Some(b'[') => control_sequence(&after[1..]),
        Some(b']' | b'P' | b'X' | b'^' | b'_') => control_string(&after[1..], ends),
        // Character sets and the like: intermediate bytes and a final one.
        Some(0x20..=0x2f) => {
            let end = after.bytes().position(|b| !(0x20..=0x2f).contains(&b));
            match end {
                Some(end) if after.as_bytes()[end].is_ascii_graphic() => &after[end + 1..],
                Some(end) => &after[end..],
                None => "",
            }
        }
        Some(0x30..=0x7e) => &after[1..],
        _ => after,
    }
}

/// What follows a control sequence (ECMA-48, 5.4): parameters, intermediates, one final byte.
fn control_sequence(after: &str) -> &str {
    let end = after.bytes().position(|b| !(0x20..=0x3f).contains(&b));
    match end {
        Some(end) if (0x40..=0x7e).contains(&after.as_bytes()[end]) => &after[end + 1..],
        Some(end) => &after[end..],
        None => "",
    }
}

/// What follows a control string (a title, a link), which BEL or ST ends. One without an end hides nothing: only its start is
/// taken out.
fn control_string<'a>(after: &'a str, ends: &mut Ends) -> &'a str {
    if ends.none_left {
        return after;
    }
    for (i, c) in after.char_indices() {
        match c {
            '\u{7}' | '\u{9c}' => return &after[i + c.len_utf8()..],
            '\u{1b}' if after[i + 1..].starts_with('\\') => return &after[i + 2..],
            // Any other control character: this one was never ended.
            c if c.is_control() => return after,
            _ => {}
        }
    }
    ends.none_left = true;
    after
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_and_controls_are_taken_out() {
        let cases = [
            ("plain\tand\nlines", "plain\tand\nlines"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}[1;38;5;196mred\u{1b}[m", "red"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}]52;c;aGk=\u{9c}x", "x"),
            ("\u{9d}0;t\u{9c}x\u{9b}2Jy", "xy"),
            ("\u{1b}]0;no end of it", "0;no end of it"),
            ("\u{1b}]0;a\nb", "0;a\nb"),
            ("\u{1b}(Bx\u{1b}cy\u{1b}", "xy"),
            ("\u{1b}[", ""),
            ("a\0b\u{7f}c\u{8}d", "abcd"),
            ("10%\r50%\r100%\r\ndone\r", "10% 50% 100%\ndone"),
            ("user\u{202e}txt", "usertxt"),
            ("é ¡ — “quoted” 漢", "é ¡ — “quoted” 漢"),
        ];
        for (text, expected) in cases {
            assert_eq!(clean(text), expected, "{text:?}");
        }
    }

    #[test]
    fn text_without_controls_is_not_copied() {
        for text in ["plain", "", "é ¡ — “quoted” 漢", "a\tb\nc"] {
            assert!(matches!(clean(text), Cow::Borrowed(_)), "{text:?}");
        }
    }

    #[test]
    fn labels_are_one_line_of_plain_characters() {
        let cases: [(&str, &[u8]); 3] = [
            (
                r#"{"message":"m","host":"a\nb\tc","pod":"\u001b[31mp"}"#,
                b"{host=a b c,pod=\xef\xbf\xbd[31mp}",
            ),
            (r#"{"message":"m","host":"a\u202eb"}"#, b"{host=a\xef\xbf\xbdb}"),
            (r#"{"message":"m","host":"caf\u00e9"}"#, "{host=café}".as_bytes()),
        ];
        for (payload, labels) in cases {
            let (_, items) = crate::decoder::decode_to_text(crate::Format::LogJson, payload.as_bytes()).unwrap();
            assert_eq!(
                items,
                [format!("- - {} m", String::from_utf8_lossy(labels))],
                "{payload}"
            );
        }
    }

    #[test]
    fn many_strings_without_an_end_are_not_quadratic() {
        let text = "\u{1b}]".repeat(500_000);
        assert_eq!(clean(&text), "");
        let text = format!("{}\n", "\u{9d}x".repeat(500_000));
        assert_eq!(clean(&text).len(), 500_001);
    }

    proptest! {
        #[test]
        fn what_is_left_is_printable(text in "[\\x00-\\x20\\x7f-\\u{9f}a-z\\[\\];0-9\\\\\\u{200e}\\u{202e}é]{0,60}") {
            let clean = clean(&text);
            prop_assert!(!clean.contains(|c| is_unprintable(c) && c != '\n' && c != '\t'), "{clean:?}");
        }
    }
}
