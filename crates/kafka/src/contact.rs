use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

use crate::settings::ConnectionSettings;

/// Brokers that do not answer in this time are not there.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// One question; between two the client tells what it heard.
const QUESTION: Duration = Duration::from_millis(500);
/// For what the client has to say between two questions: with less time a poll tells one thing only.
const LISTENING: Duration = Duration::from_millis(50);
/// What is heard for so long is no broker that only just starts.
const CERTAIN: Duration = Duration::from_secs(2);

/// Why brokers and this program do not come together, the gravest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Nobody answers.
    Silence,
    /// One side speaks TLS or SASL and the other does not.
    Protocol,
    /// The brokers' certificate is not believed.
    Certificate,
    /// The brokers do not believe ours, or miss it.
    OwnCertificate,
    /// User name, password or mechanism.
    Credentials,
}

impl Cause {
    /// What the client's words come to: its codes tell little.
    fn of(error: &KafkaError, reason: &str) -> Self {
        let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::UnsupportedSASLMechanism,
            ) => Self::Credentials,
            // Its own guess at which listener it met, TLS that reads something else, or a listener that hangs up on the first words because
            // they are TLS, or are not.
            _ if says(&[
                "security.protocol",
                "listener?",
                "wrong version number",
                "packet length too long",
            ]) =>
            {
                Self::Protocol
            }
            _ if says(&["Disconnected"]) && says(&["APIVERSION_QUERY", "SSL_HANDSHAKE"]) => Self::Protocol,
            _ if says(&["alert"]) && says(&["certificate", "unknown ca"]) => Self::OwnCertificate,
            Some(RDKafkaErrorCode::SSL) => Self::Certificate,
            _ => Self::Silence,
        }
    }

    /// What is wrong, in words.
    const fn what(self) -> &'static str {
        match self {
            Self::Silence => "no broker answers",
            Self::Protocol => "the brokers speak another protocol",
            Self::Certificate => "the brokers' certificate is not believed",
            Self::OwnCertificate => "the brokers do not believe the client's certificate, or miss it",
            Self::Credentials => "the brokers refuse user name and password",
        }
    }

    /// What to do.
    #[must_use]
    pub const fn help(self) -> &'static str {
        match self {
            Self::Silence => {
                "`kafka.brokers` names brokers that this machine can reach, with `kafka.security` as their listener has it"
            }
            Self::Protocol => {
                "`kafka.security` is what the listener of this port has: \"plaintext\", \"ssl\", \"sasl_plaintext\" or \"sasl_ssl\""
            }
            Self::Certificate => {
                "`kafka.tls.ca_file` holds the authority that signed it, and `kafka.brokers` the host names that stand in it"
            }
            Self::OwnCertificate => {
                "`kafka.tls.certificate_file` and `key_file` hold a pair that an authority of the brokers' trust store signed"
            }
            Self::Credentials => "`kafka.sasl` has the user, its password and a mechanism that the listener offers",
        }
    }
}

/// Why brokers can't be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreached {
    /// Of what kind.
    pub cause: Cause,
    /// The client's own words.
    pub reason: String,
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cause.what(), self.reason)
    }
}

impl std::error::Error for Unreached {}

impl From<KafkaError> for Unreached {
    fn from(error: KafkaError) -> Self {
        let reason = error.to_string();
        Self {
            cause: Cause::of(&error, &reason),
            reason,
        }
    }
}

/// Keeps the gravest that a client says, the first of its kind.
#[derive(Default)]
pub(crate) struct Heard(Mutex<Option<Unreached>>);

impl Heard {
    fn gravest(&self) -> Option<Unreached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hear(&self, cause: Cause, reason: &str) {
        let mut gravest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if gravest.as_ref().is_none_or(|before| cause > before.cause) {
            *gravest = Some(Unreached {
                cause,
                reason: reason.to_owned(),
            });
        }
    }
}

impl rdkafka::ClientContext for Heard {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client");
        // That all are down follows from what was heard of each.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            self.hear(Cause::of(&error, reason), reason);
        }
    }

    /// Some of what fails is only in its log. It tells of each once, and whoever asks tells of the gravest.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::debug!(target: "librdkafka", ?level, facility, "{line}");
        if facility == "FAIL" {
            let is_tls = line.contains("SSL") || line.contains("certificate");
            let code = if is_tls {
                RDKafkaErrorCode::SSL
            } else {
                RDKafkaErrorCode::BrokerTransportFailure
            };
            // Behind the name of the client's own thread.
            let reason = line.split_once("]: ").map_or(line, |(_, reason)| reason);
            self.hear(Cause::of(&KafkaError::Global(code), reason), reason);
        }
    }
}

impl ConsumerContext for Heard {}

/// Asks for a topic, or for all that may be seen, and says why where no answer comes. A client that is let in stays open.
///
/// # Errors
/// When no broker answers within 15 s; at once where it is certain that none will.
pub(crate) fn ask(
    connection: &ConnectionSettings,
    topic: Option<&str>,
) -> Result<(BaseConsumer<Heard>, Metadata), Unreached> {
    let mut config = connection.client();
    // Connections that the other side closes are told at this level.
    config.set_log_level(RDKafkaLogLevel::Info);
    let consumer: BaseConsumer<Heard> = config.create_with_context(Heard::default())?;
    let began = Instant::now();
    loop {
        let error = match consumer.fetch_metadata(topic, QUESTION) {
            Ok(metadata) if !metadata.brokers().is_empty() => return Ok((consumer, metadata)),
            Ok(_) => KafkaError::MetadataFetch(RDKafkaErrorCode::BrokerNotAvailable),
            Err(error) => error,
        };
        // Nothing is assigned, so that a poll brings no record: it waits, and meanwhile tells all that the client has to say.
        drop(consumer.poll(LISTENING));
        let heard = consumer.context().gravest();
        let is_certain = heard.as_ref().is_some_and(|h| h.cause != Cause::Silence) && began.elapsed() > CERTAIN;
        if is_certain || began.elapsed() > ANSWER_MAX {
            return Err(heard.unwrap_or_else(|| error.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of the client as they were seen.
    #[test]
    fn words_come_to_a_cause() {
        let heard = |code, reason: &str| Cause::of(&KafkaError::Global(code), reason);
        let down = RDKafkaErrorCode::BrokerTransportFailure;
        let cases = [
            (
                RDKafkaErrorCode::Authentication,
                "SASL authentication error: Authentication failed",
                Cause::Credentials,
            ),
            (
                RDKafkaErrorCode::SSL,
                "SSL handshake failed: error:0A00010B:SSL routines::wrong version number",
                Cause::Protocol,
            ),
            (
                RDKafkaErrorCode::SSL,
                "certificate verify failed: broker certificate could not be verified",
                Cause::Certificate,
            ),
            (
                RDKafkaErrorCode::SSL,
                "tlsv13 alert certificate required: SSL alert number 116",
                Cause::OwnCertificate,
            ),
            (
                down,
                "Disconnected: connecting to a SSL listener? (after 3ms in state APIVERSION_QUERY)",
                Cause::Protocol,
            ),
            (
                down,
                "Receive failed: error:0A000412:SSL routines::ssl/tls alert bad certificate: SSL alert number 42",
                Cause::OwnCertificate,
            ),
            (
                down,
                "Disconnected: connection closed by peer: receive 0 after POLLIN (after 15ms in state APIVERSION_QUERY)",
                Cause::Protocol,
            ),
            (
                down,
                "Disconnected: SSL connection closed by peer (after 1ms in state SSL_HANDSHAKE)",
                Cause::Protocol,
            ),
            (
                down,
                "Connect to ipv4#127.0.0.1:1 failed: Connection refused",
                Cause::Silence,
            ),
        ];
        for (code, reason, cause) in cases {
            assert_eq!(heard(code, reason), cause, "{reason}");
        }
    }

    #[test]
    fn the_gravest_is_kept() {
        use rdkafka::ClientContext;
        let heard = Heard::default();
        let tell = |code, reason| heard.error(KafkaError::Global(code), reason);
        tell(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        tell(RDKafkaErrorCode::Authentication, "no");
        tell(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        let gravest = heard.gravest().unwrap();
        assert_eq!((gravest.cause, gravest.reason.as_str()), (Cause::Credentials, "no"));
    }
}
