use foreshock_domain::Input;

use crate::error::DecodeError;
use crate::format::Format;
use crate::{incident_json, limits, log_json, log_text, plain_json, telegraf_json};

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
}

/// Reads the records of one input topic.
///
/// Keeps its scratch space from one record to the next, so that a decoder that has seen a topic's usual record allocates
/// nothing for the next one, except for strings with escapes in them.
#[derive(Debug)]
pub struct Decoder {
    format: Format,
    payload_bytes_max: usize,
    scratch: Scratch,
}

/// What a format keeps between records: always empty, only capacity.
#[derive(Debug)]
enum Scratch {
    Telegraf(telegraf_json::Metrics<'static>),
    Plain(plain_json::Points<'static>),
    LogText(log_text::Text),
    LogJson(log_json::Lines<'static>),
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
            Format::LogText => Scratch::LogText(log_text::Text),
            Format::LogJson => Scratch::LogJson(log_json::Lines::default()),
            Format::IncidentJson => Scratch::Incident(incident_json::Incidents::default()),
        };
        Self {
            format,
            payload_bytes_max: bytes,
            scratch,
        }
    }

    /// What it reads.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Calls `sink` once per item of the record, in the order of the record.
    ///
    /// # Errors
    /// All or nothing: when the record is refused the sink was not called. Nothing of a refused record is remembered.
    pub fn decode(&mut self, payload: &[u8], sink: &mut dyn FnMut(Input<'_>)) -> Result<Decoded, DecodeError> {
        if payload.len() > self.payload_bytes_max {
            let (found, max) = (payload.len(), self.payload_bytes_max);
            return Err(DecodeError::new(&format!(
                "record of {found} bytes, expected at most {max}"
            )));
        }
        match &mut self.scratch {
            Scratch::Telegraf(metrics) => telegraf_json::decode(metrics, payload, sink),
            Scratch::Plain(points) => plain_json::decode(points, payload, sink),
            Scratch::LogText(text) => text.decode(payload, sink),
            Scratch::LogJson(lines) => log_json::decode(lines, payload, sink),
            Scratch::Incident(incidents) => incidents.decode_record(payload, sink),
        }
    }
}
