//! Lines of any format: each record, and in text each line, is looked at by itself.
//!
//! OTLP as protobuf and as JSON, JSON lines, container runtime lines, syslog and logfmt are told by how they begin; all else is raw
//! text. Nothing is remembered: what a line is follows from the line, so a source that changes its format, or a topic
//! where several are mixed, is read right from the first line on, and there is no wrong guess to live with. (Remembering
//! would save some 20 ns a line.)
//!
//! Fails where a line of raw text begins as another format does: that line alone is then read as such.
//!
//! Cost: a few bytes looked at; a record of JSON that breaks off is parsed twice.

use crate::cri::{self, Pieces};
use crate::decoder::Near;
use crate::fields::Lines;
use crate::labels::Label;
use crate::outlet::Outlet;
use crate::{log_json, logfmt, otlp_json, otlp_proto, syslog};

/// Longest part of a JSON record in which the name of OTLP's outermost list is looked for.
const OTLP_KEY_BYTES: usize = 64;

/// What a record as a whole is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    /// Lines of text, each by itself.
    Text,
    Json,
    OtlpJson,
    OtlpProto,
}

/// What a record looks like as a whole; whether it is that, only reading tells.
pub(crate) fn whole(payload: &[u8]) -> Whole {
    let text = payload.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(payload);
    let text = text.trim_ascii_start();
    match text.first() {
        Some(b'{' | b'[') => {
            let head = &text[..text.len().min(OTLP_KEY_BYTES)];
            let has = |key: &[u8]| head.windows(key.len()).any(|w| w == key);
            if has(b"\"resourceLogs\"") || has(b"\"resource_logs\"") {
                Whole::OtlpJson
            } else {
                Whole::Json
            }
        }
        // Field 1 with a length: also a line end, so that a text may begin with it; but a text's next byte is no length.
        _ if payload.first() == Some(&0x0a) && payload.len() > 2 => Whole::OtlpProto,
        _ => Whole::Text,
    }
}

/// Reads a record that is one of the structured ones; `false` where it is not after all.
pub(crate) fn structured<'a>(whole: Whole, payload: &'a [u8], lines: &mut Lines<'a>) -> bool {
    let read = match whole {
        Whole::Text => return false,
        Whole::Json => log_json::read(payload, lines),
        Whole::OtlpJson => otlp_json::read(payload, lines),
        Whole::OtlpProto => otlp_proto::read(payload, lines),
    };
    // An empty export is one; but text that happens to be readable and has no line in it is text.
    read.is_ok() && (lines.len() > 0 || whole == Whole::OtlpJson)
}

/// Reads one line of text.
pub(crate) fn line(
    bytes: &[u8],
    key: &[u8],
    near: Option<Near>,
    pieces: &mut Pieces,
    labels: &mut Vec<Label<'static>>,
    out: &mut Outlet<'_>,
) {
    let start = bytes.trim_ascii_start();
    match start.first() {
        Some(b'0'..=b'9' | b'<' | b'A'..=b'Z') if syslog::is_line(start) => {
            syslog::line(start, near, labels, out);
        }
        Some(b'0'..=b'9') => {
            let text = out.text(bytes);
            match cri::split(&text) {
                Some(parts) => pieces.take(parts, key, out),
                None => out.peeled(None, None, &text, &[]),
            }
        }
        _ => {
            let text = out.text(bytes);
            if start.first() != Some(&b'{') && logfmt::is_line(&text) {
                logfmt::line(text.as_bytes(), out);
            } else {
                out.body(None, None, &text, &[]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::decoder::decode_to_text;
    use crate::format::Format;

    #[test]
    fn each_line_is_read_as_what_it_is() {
        let cases: [(&str, &str, &[&str]); 13] = [
            (
                "text",
                "2026-01-31 12:00:00 ERROR it broke",
                &["1769860800000 Error {} it broke"],
            ),
            ("json", r#"{"level":"warn","msg":"m"}"#, &["- Warning {} m"]),
            ("json array", r#"[{"msg":"a"},{"msg":"b"}]"#, &["- - {} a", "- - {} b"]),
            ("json over lines", "{\n \"msg\": \"m\"\n}", &["- - {} m"]),
            ("syslog", "<11>1 - h a - - - m", &["- Error {host=h,service=a} m"]),
            ("old syslog", "Jan 31 12:00:00 h a[1]: m", &["- - {host=h,service=a} m"]),
            (
                "framed syslog",
                "19 <11>1 - h a - - - m",
                &["- Error {host=h,service=a} m"],
            ),
            (
                "cri",
                "2026-01-31T12:00:00Z stdout F level=info msg=m",
                &["1769860800000 Info {} m"],
            ),
            ("logfmt", "level=info msg=m", &["- Info {} m"]),
            (
                "otlp",
                r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"m"}}]}]}]}"#,
                &["- - {} m"],
            ),
            (
                "mixed",
                "{\"msg\":\"a\"}\nb\n<11>c: d\nlevel=info msg=e\n\n{\"msg\":",
                &[
                    "- - {} a",
                    "- - {} b",
                    "- Error {service=c} d",
                    "- Info {} e",
                    "- - {} {\"msg\":",
                ],
            ),
            ("json without a message", r#"{"a":1}"#, &[r#"- - {} {"a":1}"#]),
            ("begins as protobuf", "\n\u{3}abc", &["- - {} abc"]),
        ];
        for (name, payload, expected) in cases {
            let (_, items) = decode_to_text(Format::Log, payload.as_bytes()).unwrap();
            assert_eq!(items, expected, "{name}");
        }
        let proto = b"\x0a\x09\x12\x07\x12\x05\x2a\x03\x0a\x01m";
        assert_eq!(decode_to_text(Format::Log, proto).unwrap().1, ["- - {} m"]);
    }

    #[test]
    fn nothing_refuses_a_record_of_text() {
        let megabyte = vec![b'x'; 1 << 20];
        let cases: [(&str, &[u8], usize); 6] = [
            ("empty", b"", 0),
            ("one line of 1 MiB", &megabyte, 1),
            ("not UTF-8", b"\xff\xfe\x80", 1),
            ("control characters", b"\x00\x01\x02\x1b\x7f", 0),
            ("deep JSON", &b"[".repeat(100_000), 1),
            ("only ends", b"\n\r\n\n", 0),
        ];
        for format in Format::ALL.into_iter().filter(|f| f.is_lenient()) {
            for (name, payload, items) in cases {
                assert_eq!(
                    decode_to_text(format, payload).unwrap().0.items,
                    items,
                    "{format}: {name}"
                );
            }
        }
    }
}
