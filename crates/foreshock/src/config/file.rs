//! `foreshock.toml` as it is written: shapes and types only. What the values mean together is checked in [`super`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use foreshock_failure::{ExhaustionConfig, FailureConfig};
use foreshock_wire::Format;
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Unexpected, Visitor};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) kafka: Kafka,
    #[serde(default)]
    pub(super) topics: TopicNames,
    #[serde(default)]
    pub(super) source: Vec<Source>,
    #[serde(default)]
    pub(super) windows: Windows,
    #[serde(default)]
    pub(super) alarms: Alarms,
    #[serde(default)]
    pub(super) failure: FailureConfig,
    #[serde(default)]
    pub(super) exhaustion: ExhaustionConfig,
    #[serde(default)]
    pub(super) predict: Predict,
    #[serde(default)]
    pub(super) http: Http,
    #[serde(default)]
    pub(super) limits: Limits,
}

/// Table `predict`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Predict {
    pub(super) model: Option<PathBuf>,
}

/// What `replay` needs of a file: the connection. Other tables may be there and are not looked at.
#[derive(Debug, Deserialize)]
pub(super) struct ConnectionFile {
    pub(super) kafka: Kafka,
}

/// Table `kafka`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kafka {
    pub(super) brokers: Brokers,
    #[serde(default = "group_default")]
    pub(super) group: String,
    pub(super) instance: Option<String>,
    pub(super) workers: Option<usize>,
    #[serde(default = "session_timeout_default")]
    pub(super) session_timeout: Span,
    #[serde(default)]
    pub(super) delivery: Delivery,
    #[serde(default)]
    pub(super) security: Security,
    pub(super) sasl: Option<Sasl>,
    pub(super) tls: Option<Tls>,
    #[serde(default)]
    pub(super) properties: BTreeMap<String, String>,
}

/// What a reader of the events may rely on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Delivery {
    #[default]
    ExactlyOnce,
    AtLeastOnce,
}

/// How the connection is secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Security {
    #[default]
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

impl Security {
    /// Name of librdkafka's `security.protocol`.
    pub(super) const fn protocol(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }

    pub(super) const fn has_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    pub(super) const fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}

/// How brokers prove who we are, of those that need no further library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Mechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Mechanism {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Table `kafka.sasl`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sasl {
    pub(super) mechanism: Mechanism,
    pub(super) username: String,
    pub(super) password_file: Option<PathBuf>,
    pub(super) password_env: Option<String>,
}

/// Table `kafka.tls`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) ca_file: Option<PathBuf>,
    pub(super) certificate_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) key_password_file: Option<PathBuf>,
    pub(super) key_password_env: Option<String>,
}

/// Table `topics`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TopicNames {
    pub(super) anomalies: String,
    pub(super) failures: String,
    pub(super) signals: String,
    pub(super) ledger: String,
    pub(super) dead_letters: String,
    pub(super) state: String,
}

impl Default for TopicNames {
    fn default() -> Self {
        Self {
            anomalies: "anomalies".into(),
            failures: "failures".into(),
            signals: "foreshock.signals".into(),
            ledger: "foreshock.ledger".into(),
            dead_letters: "foreshock.dead-letters".into(),
            state: "foreshock.state".into(),
        }
    }
}

/// One of the tables `source`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    pub(super) topic: String,
    pub(super) format: Format,
    pub(super) entity: Option<Vec<String>>,
    pub(super) session: Option<Session>,
    #[serde(default)]
    pub(super) log_text: LogText,
    #[serde(default)]
    pub(super) masks: Vec<Mask>,
}

/// One of the tables `masks` of a source.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mask {
    pub(super) name: String,
    pub(super) pattern: String,
}

/// What may leave of the text of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LogText {
    #[default]
    Redacted,
    Raw,
}

/// Table `session` of a source.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Session {
    pub(super) labels: Vec<String>,
    pub(super) pattern: Option<String>,
    pub(super) end: Option<String>,
    pub(super) idle: Option<Span>,
}

/// Table `windows`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Windows {
    pub(super) width: Option<Span>,
    pub(super) lateness: Option<Span>,
}

/// Table `alarms`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Alarms {
    pub(super) false_alarms_per_day: Option<f64>,
}

/// Table `http`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Http {
    pub(super) listen: Listen,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: Listen(SocketAddr::from(([127, 0, 0, 1], 9464))),
        }
    }
}

/// Table `limits`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) series: Option<usize>,
    pub(super) entities: Option<usize>,
}

fn group_default() -> String {
    "foreshock".into()
}

const fn session_timeout_default() -> Span {
    Span(Duration::from_secs(10))
}

/// A length of time as people write it: a whole number and `ms`, `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl Span {
    /// Longer is a slip of the finger.
    const MS_MAX: u64 = 366 * 86_400_000;

    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let ms_each = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let ms = number.parse::<u64>().ok()?.checked_mul(ms_each)?;
        (ms <= Self::MS_MAX).then_some(Self(Duration::from_millis(ms)))
    }

    /// Milliseconds; bounded, so that this never loses any.
    pub(super) fn as_millis(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "a length of time such as \"500ms\", \"10s\", \"5m\", \"1h\" or \"7d\"";
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &EXPECTED))
            }
        }
        d.deserialize_any(Text)
    }
}

/// Where the HTTP server listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listen(pub(super) SocketAddr);

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "an address and a port such as \"127.0.0.1:9464\" or \"[::1]:9464\"";
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Listen;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Listen, E> {
                let address = text.parse();
                address
                    .map(Listen)
                    .map_err(|_| E::invalid_value(Unexpected::Str(text), &EXPECTED))
            }
        }
        d.deserialize_any(Text)
    }
}

/// One text with commas, or a list.
#[derive(Clone, Debug)]
pub(super) struct Brokers(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Brokers {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Brokers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"host:port\" or [\"host:port\", …]")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Brokers, E> {
                Ok(Brokers(text.split(',').map(|b| b.trim().to_owned()).collect()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Brokers, A::Error> {
                let mut brokers = Vec::new();
                while let Some(broker) = list.next_element::<String>()? {
                    brokers.push(broker.trim().to_owned());
                }
                Ok(Brokers(brokers))
            }
        }
        d.deserialize_any(OneOrMany)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        let cases = [
            ("500ms", Some(500)),
            ("10s", Some(10_000)),
            ("0s", Some(0)),
            ("5m", Some(300_000)),
            ("1h", Some(3_600_000)),
            ("366d", Some(u128::from(Span::MS_MAX))),
            ("367d", None),
            ("10", None),
            ("s", None),
            ("", None),
            ("-1s", None),
            ("1.5s", None),
            ("10 s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615d", None),
        ];
        for (text, expected) in cases {
            let found = Span::parse(text).map(|s| s.0.as_millis());
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
