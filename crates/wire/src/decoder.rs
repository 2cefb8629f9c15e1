use foreshock_domain::{Input, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::DecodeError;
use crate::fields::Lines;
use crate::format::Format;
use crate::labels::Label;
use crate::log_auto::{self, Whole};
use crate::outlet::Outlet;
use crate::{
    cri, incident_json, limits, log_json, log_text, logfmt, otlp_json, otlp_proto, plain_json, syslog, telegraf_json,
};

/// What a record held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Samples, lines or incidents that were handed to the sink.
    pub items: usize,
    /// Values that have no place in a metric or a line: string fields, nested values under a tag, a time of a log line
    /// that can't be read. Keys that no format knows are not counted.
    pub skipped: usize,
    /// Lines whose bytes were not UTF-8; each bad sequence became U+FFFD.
    pub replaced: usize,
    /// Messages that were cut at [`limits::MESSAGE_BYTES_MAX`].
    pub cut: usize,
    /// Messages out of which terminal escapes or control characters were taken.
    pub cleaned: usize,
    /// Log lines with nothing in them, which are left out.
    pub empty: usize,
    /// Log lines without a time that can be read; the log's own counts.
    pub untimed: usize,
    /// Lines that were not in the format and were taken as raw text.
    pub unlike: usize,
    /// Pieces that were joined to a line before them.
    pub joined: usize,
}

/// What the log says of a record beside its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The record's key: pieces of a line are joined only under the same.
    pub key: &'a [u8],
    /// About when the line was written, for times that name no year.
    pub near: Option<Near>,
}

/// A time near that of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Near {
    /// The log's own timestamp of the record: no line is much later.
    Record(Timestamp),
    /// The time of a line before, or of its file: a line may be later by any length of time.
    Before(Timestamp),
}

impl Near {
    /// The time.
    #[must_use]
    pub const fn at(self) -> Timestamp {
        match self {
            Self::Record(at) | Self::Before(at) => at,
        }
    }
}

/// What a decoder must remember from one record to the next: lines whose ends have not come. Part of a partition's state;
/// empty for nearly all formats, and bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pieces: cri::Pieces,
}

/// Reads the records of one input topic.
///
/// Keeps its scratch space from one record to the next, so that a decoder that has seen a topic's usual record allocates
/// nothing for the next one, except for strings with escapes in them.
///
/// ```
/// use foreshock_domain::Input;
/// use foreshock_wire::{Decoder, Format};
///
/// let mut decoder = Decoder::new(Format::TelegrafJson);
/// let record = br#"{"fields":{"usage_idle":97.1},"name":"cpu","tags":{"host":"a"},"timestamp":1458229140}"#;
/// let decoded = decoder.decode(record, &mut |input| {
///     assert_eq!(input.label("host"), Some("a"));
///     let Input::Sample(sample) = input else { return };
///     assert_eq!((sample.name, sample.value), ("cpu_usage_idle", 97.1));
/// })?;
/// assert_eq!(decoded.items, 1);
///
/// let refused = decoder.decode(br#"{"fields":{"usage_idle":97.1}}"#, &mut |_| unreachable!());
/// assert_eq!(refused.unwrap_err().to_string(), "missing field `name` at line 1 byte 30");
/// # Ok::<(), foreshock_wire::DecodeError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    format: Format,
    payload_bytes_max: usize,
    scratch: Scratch,
    memory: Memory,
}

/// What a format keeps between records: always empty, only capacity.
#[derive(Debug)]
enum Scratch {
    Telegraf(telegraf_json::Metrics<'static>),
    Plain(plain_json::Points<'static>),
    /// The formats whose lines are structured.
    Structured(Lines<'static>),
    /// The formats of text lines; structured lines are for [`Format::Log`].
    Text(Vec<Label<'static>>, Lines<'static>),
    Incident(incident_json::Incidents),
}

impl Decoder {
    /// A decoder with the default cap on a record's size.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self::with_payload_bytes_max(format, limits::PAYLOAD_BYTES_MAX)
    }

    /// A decoder that refuses records of more than `bytes` bytes.
    #[must_use]
    pub fn with_payload_bytes_max(format: Format, bytes: usize) -> Self {
        let scratch = match format {
            Format::TelegrafJson => Scratch::Telegraf(telegraf_json::Metrics::default()),
            Format::PlainJson => Scratch::Plain(plain_json::Points::default()),
            Format::LogText | Format::Syslog | Format::Logfmt | Format::Cri | Format::Log => {
                Scratch::Text(Vec::new(), Lines::default())
            }
            Format::LogJson | Format::OtlpJson | Format::OtlpProto => Scratch::Structured(Lines::default()),
            Format::IncidentJson => Scratch::Incident(incident_json::Incidents::default()),
        };
        Self {
            format,
            payload_bytes_max: bytes,
            scratch,
            memory: Memory::default(),
        }
    }

    /// The same with what another decoder of this format remembered.
    #[must_use]
    pub fn remembering(mut self, memory: Memory) -> Self {
        self.memory = memory;
        self
    }

    /// What it remembers of the records so far.
    #[must_use]
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// What it reads.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// As [`Self::decode_from`], of a record of which nothing but the value is known.
    ///
    /// # Errors
    /// See there.
    pub fn decode(&mut self, payload: &[u8], sink: &mut dyn FnMut(Input<'_>)) -> Result<Decoded, DecodeError> {
        self.decode_from(payload, Origin::default(), sink)
    }

    /// Calls `sink` once per item of the record, in the order of the record.
    ///
    /// # Errors
    /// All or nothing: when the record is refused the sink was not called. Nothing of a refused record is remembered.
    pub fn decode_from(
        &mut self,
        payload: &[u8],
        origin: Origin<'_>,
        sink: &mut dyn FnMut(Input<'_>),
    ) -> Result<Decoded, DecodeError> {
        if payload.len() > self.payload_bytes_max {
            let (found, max) = (payload.len(), self.payload_bytes_max);
            return Err(DecodeError::new(&format!(
                "record of {found} bytes, expected at most {max}"
            )));
        }
        match &mut self.scratch {
            Scratch::Telegraf(metrics) => telegraf_json::decode(metrics, payload, sink),
            Scratch::Plain(points) => plain_json::decode(points, payload, sink),
            Scratch::Structured(lines) => structured(self.format, lines, payload, sink),
            Scratch::Text(labels, lines) => {
                let mut out = Outlet::new(sink);
                text(self.format, labels, lines, &mut self.memory, payload, origin, &mut out)?;
                Ok(out.decoded)
            }
            Scratch::Incident(incidents) => incidents.decode_record(payload, sink),
        }
    }
}

/// Reads a record of structured lines.
fn structured(
    format: Format,
    scratch: &mut Lines<'static>,
    payload: &[u8],
    sink: &mut dyn FnMut(Input<'_>),
) -> Result<Decoded, DecodeError> {
    let read_as = |payload, lines: &mut _| match format {
        Format::OtlpJson => otlp_json::read(payload, lines),
        Format::OtlpProto => otlp_proto::read(payload, lines),
        _ => log_json::read(payload, lines),
    };
    let repaired: String;
    let mut lines: Lines<'_> = std::mem::take(scratch).recycle();
    let mut read = read_as(payload, &mut lines);
    let mut out = Outlet::new(sink);
    if read.is_err() && format != Format::OtlpProto && std::str::from_utf8(payload).is_err() {
        // Collectors pass on what programs wrote: a line with a bad byte is still worth having.
        repaired = String::from_utf8_lossy(payload).into_owned();
        lines = lines.recycle();
        read = read_as(repaired.as_bytes(), &mut lines);
        out.decoded.replaced += 1;
    }
    if read.is_ok() {
        lines.emit(&mut out);
    }
    *scratch = lines.recycle();
    read.map(|()| out.decoded)
}

/// Reads a record of text lines. Only too many of them refuse it.
fn text(
    format: Format,
    labels: &mut Vec<Label<'static>>,
    scratch: &mut Lines<'static>,
    memory: &mut Memory,
    payload: &[u8],
    origin: Origin<'_>,
    out: &mut Outlet<'_>,
) -> Result<(), DecodeError> {
    if format == Format::Log {
        let whole = log_auto::whole(payload);
        if whole != Whole::Text {
            let mut lines: Lines<'_> = std::mem::take(scratch).recycle();
            let is_read = log_auto::structured(whole, payload, &mut lines);
            if is_read {
                lines.emit(out);
            }
            *scratch = lines.recycle();
            if is_read {
                return Ok(());
            }
        }
    }
    let payload = payload.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(payload);
    // Frames that say their length are syslog's alone: a number before a `<` is nothing in other text.
    if format == Format::Syslog || (format == Format::Log && syslog::is_line(payload)) {
        if syslog::Frames(payload).nth(limits::ITEMS_MAX).is_some() {
            return Err(too_many_lines());
        }
        for frame in syslog::Frames(payload) {
            if format == Format::Syslog || syslog::is_line(frame) {
                syslog::line(frame, origin.near, labels, out);
            } else {
                log_auto::line(frame, origin.key, origin.near, &mut memory.pieces, labels, out);
            }
        }
        return Ok(());
    }
    // White space at an end stays: a piece of a line may end with it.
    let lines = || {
        payload
            .split(|b| *b == b'\n')
            .filter(|line| !line.trim_ascii().is_empty())
    };
    if lines().nth(limits::ITEMS_MAX).is_some() {
        return Err(too_many_lines());
    }
    for bytes in lines() {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        match format {
            Format::Logfmt => logfmt::line(bytes, out),
            Format::Cri => memory.pieces.line(bytes, origin.key, out),
            Format::Log => log_auto::line(bytes, origin.key, origin.near, &mut memory.pieces, labels, out),
            _ => log_text::line(bytes, out),
        }
    }
    Ok(())
}

fn too_many_lines() -> DecodeError {
    DecodeError::new(&format!(
        "too many lines, expected at most {} a record",
        limits::ITEMS_MAX
    ))
}

/// Decodes a record and writes each item as one line, for case tables.
#[cfg(test)]
pub(crate) fn decode_to_text(format: Format, payload: &[u8]) -> Result<(Decoded, Vec<String>), DecodeError> {
    use foreshock_domain::Timestamp;
    let time = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| at.as_millis().to_string());
    let labels = |all: &foreshock_domain::LabelPairs<'_>| {
        assert!(all.is_sorted_by(|a, b| a.0 < b.0), "labels are sorted, each key once");
        all.iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    let mut items = Vec::new();
    let decoded = Decoder::new(format).decode(payload, &mut |input| {
        items.push(match input {
            Input::Sample(s) => {
                let kind = s.kind.map_or_else(String::new, |kind| format!(" {kind:?}"));
                format!("{}{{{}}} {} at {}{kind}", s.name, labels(s.labels), s.value, time(s.at))
            }
            Input::Line(l) => {
                let level = l.level.map_or_else(|| "-".to_owned(), |level| format!("{level:?}"));
                format!("{} {level} {{{}}} {}", time(l.at), labels(l.labels), l.message)
            }
            Input::Incident(i) => {
                let summary = i.summary.as_deref().unwrap_or("-");
                format!(
                    "{} {} {} {} {summary}",
                    i.entity,
                    i.class,
                    time(Some(i.onset)),
                    time(i.end)
                )
            }
        });
    })?;
    assert_eq!(decoded.items, items.len(), "the count is the number of calls");
    Ok((decoded, items))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn large_records_are_refused_unread() {
        let mut decoder = Decoder::with_payload_bytes_max(Format::LogText, 10);
        assert_eq!(decoder.decode(b"0123456789", &mut |_| {}).unwrap().items, 1);
        let error = decoder.decode(b"0123456789a", &mut |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "record of 11 bytes, expected at most 10");
    }

    #[test]
    fn a_refused_record_leaves_nothing_behind() {
        for format in Format::ALL {
            let mut decoder = Decoder::new(format);
            // Good items first, so that there is something to leave behind.
            let bad: &[u8] = match format {
                Format::OtlpJson => {
                    br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"m"}}]}]}]}{"resourceLogs":7}"#
                }
                Format::OtlpProto => b"\x0a\x09\x12\x07\x12\x05\x2a\x03\x0a\x01m\x0a\xff",
                _ => br#"[{"name":"a","value":1,"fields":{"x":1},"message":"m","entity":"e","onset":1000000000},7]"#,
            };
            let refused = decoder.decode(bad, &mut |_| assert!(format.is_lenient(), "all or nothing"));
            assert_eq!(refused.is_err(), !format.is_lenient(), "{format}");
            let good: &[u8] = match format {
                Format::OtlpJson => {
                    br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"m"}}]}]}]}"#
                }
                Format::OtlpProto => b"\x0a\x09\x12\x07\x12\x05\x2a\x03\x0a\x01m",
                _ => br#"{"name":"b","value":2,"fields":{"x":1},"message":"m","entity":"e","onset":1000000000}"#,
            };
            assert_eq!(decoder.decode(good, &mut |_| {}).unwrap().items, 1, "{format}");
        }
    }

    #[test]
    fn hostile_records_have_a_defined_outcome() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        let deep_value = format!("{{\"x\":{deep}}}");
        let cases: [(&str, &[u8], &str); 12] = [
            ("empty", b"", "empty record, expected a JSON object"),
            ("white space", b" \r\n\t ", "empty record, expected a JSON object"),
            (
                "only a byte order mark",
                b"\xEF\xBB\xBF",
                "empty record, expected a JSON object",
            ),
            ("cut short", b"{\"name\":", "EOF while parsing a value at line 1 byte 8"),
            ("not JSON", b"\x00\x00\x00\x01", "expected value at line 1 byte 1"),
            (
                "not UTF-8",
                b"{\"\xFF\":1}",
                "invalid bytes, expected UTF-8 at line 1 byte 3",
            ),
            (
                "a number",
                b"42",
                "invalid type: integer `42`, expected an object or an array of objects at line 1 byte 2",
            ),
            (
                "an array of numbers",
                b"[\n1]",
                "invalid type: integer `1`, expected an object at line 2 byte 1",
            ),
            (
                "huge number",
                b"{\"x\":[1e999]}{\"timestamp\":1e999}",
                "number out of range at line 1 byte 31",
            ),
            (
                "second document on its line",
                b"\n{}\n{]",
                "key must be a string at line 3 byte 2",
            ),
            (
                "nested arrays",
                deep.as_bytes(),
                "invalid type: sequence, expected an object at line 1 byte 1",
            ),
            ("nested without end", deep_value.as_bytes(), "recursion limit exceeded"),
        ];
        for format in [
            Format::TelegrafJson,
            Format::PlainJson,
            Format::LogJson,
            Format::IncidentJson,
        ] {
            for (name, payload, expected) in cases {
                let mut decoder = Decoder::new(format);
                let outcome = decoder.decode(payload, &mut |_| panic!("{name}: all or nothing"));
                let error = outcome.unwrap_err().to_string();
                assert!(error.len() <= 240, "{name}: {error}");
                // A required key may be missed before the later mistake is met.
                let missed = error.starts_with("missing field") || error.starts_with("no message");
                assert!(missed || error.starts_with(expected), "{format}, {name}: {error}");
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            for format in Format::ALL {
                let _ = Decoder::new(format).decode(&payload, &mut |_| {});
            }
        }

        #[test]
        fn almost_json_never_panics(payload in r#"[\[\]{}",:0-9.eE+\-a-z@_\\ \n]{0,120}"#) {
            for format in Format::ALL {
                let _ = Decoder::new(format).decode(payload.as_bytes(), &mut |_| {});
            }
        }

        #[test]
        fn damaged_records_are_whole_or_refused(at in 0usize..200, byte in any::<u8>(), cut in 0usize..200) {
            let record = br#"{"timestamp":"2026-01-31T12:00:00Z","name":"up","value":"1","labels":{"job":"web"},"fields":{"x":1},"tags":{"a":"b"},"message":"m","level":"info","entity":"e","class":"c","onset":1000000000,"end":null}"#;
            let mut damaged = record.to_vec();
            if let Some(b) = damaged.get_mut(at) { *b = byte; }
            damaged.truncate(record.len() - cut.min(record.len()));
            for format in Format::ALL {
                let mut calls = 0;
                let outcome = Decoder::new(format).decode(&damaged, &mut |_| calls += 1);
                prop_assert_eq!(outcome.map_or(0, |d| d.items), calls);
            }
        }
    }
}
