use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the bytes of an input topic are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Telegraf's `json` serialiser: one metric with fields and tags, or a batch under `metrics`.
    TelegrafJson,
    /// `timestamp`, `name`, `value`, `labels`: also what prometheus-kafka-adapter writes.
    PlainJson,
    /// Raw log lines, one or many a record.
    LogText,
    /// One JSON object a log line: Filebeat, Fluent Bit, Vector, loggers that write JSON.
    LogJson,
    /// Syslog, RFC 3164 and RFC 5424.
    Syslog,
    /// `key=value` lines, as Go services write them.
    Logfmt,
    /// Lines of Kubernetes container runtimes: time, stream, `P` or `F`, message.
    Cri,
    /// OpenTelemetry logs as JSON.
    OtlpJson,
    /// OpenTelemetry logs as protobuf.
    OtlpProto,
    /// Any of the log formats, told line by line.
    Log,
    /// Failures declared by somebody else: `entity`, `class`, `onset`, `end`, `summary`.
    IncidentJson,
}

impl Format {
    /// Every format, in the order of the documentation.
    pub const ALL: [Self; 11] = [
        Self::TelegrafJson,
        Self::PlainJson,
        Self::LogText,
        Self::LogJson,
        Self::Syslog,
        Self::Logfmt,
        Self::Cri,
        Self::OtlpJson,
        Self::OtlpProto,
        Self::Log,
        Self::IncidentJson,
    ];

    /// The name that configuration files use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TelegrafJson => "telegraf_json",
            Self::PlainJson => "plain_json",
            Self::LogText => "log_text",
            Self::LogJson => "log_json",
            Self::Syslog => "syslog",
            Self::Logfmt => "logfmt",
            Self::Cri => "cri",
            Self::OtlpJson => "otlp_json",
            Self::OtlpProto => "otlp_proto",
            Self::Log => "log",
            Self::IncidentJson => "incident_json",
        }
    }

    /// Whether a record is lines of text, of which any will do: what is not in the format is taken as raw text.
    #[must_use]
    pub const fn is_lenient(self) -> bool {
        matches!(
            self,
            Self::LogText | Self::Syslog | Self::Logfmt | Self::Cri | Self::Log
        )
    }

    /// Whether records are lines of a text file; the others are bytes that may hold line ends.
    #[must_use]
    pub const fn is_text(self) -> bool {
        !matches!(self, Self::OtlpProto)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No format has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown format, expected telegraf_json, plain_json, log_text, log_json, syslog, logfmt, cri, otlp_json, otlp_proto, log or incident_json"
)]
pub struct UnknownFormat;

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.into_iter().find(|f| f.name() == name).ok_or(UnknownFormat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_text_and_in_serde() {
        for format in Format::ALL {
            assert_eq!(format.name().parse(), Ok(format));
            assert_eq!(serde_json::to_string(&format).unwrap(), format!("\"{format}\""));
        }
        assert_eq!("Telegraf".parse::<Format>(), Err(UnknownFormat));
        assert_eq!("".parse::<Format>(), Err(UnknownFormat));
    }
}
