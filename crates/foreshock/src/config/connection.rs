//! Table `kafka` to the client's own properties.

use std::collections::BTreeMap;
use std::path::Path;

use foreshock_kafka::ConnectionSettings;

use super::error::{ConfigError, Text};
use super::file::{Kafka, Sasl, Tls};
use super::secret::{self, Secrets};

/// Properties that have a key of their own, and that key.
const NAMED: [(&str, &str); 15] = [
    ("bootstrap.servers", "kafka.brokers"),
    ("metadata.broker.list", "kafka.brokers"),
    ("group.id", "kafka.group"),
    ("group.instance.id", "kafka.instance"),
    ("session.timeout.ms", "kafka.session_timeout"),
    ("security.protocol", "kafka.security"),
    ("sasl.mechanism", "kafka.sasl.mechanism"),
    ("sasl.mechanisms", "kafka.sasl.mechanism"),
    ("sasl.username", "kafka.sasl.username"),
    ("sasl.password", "kafka.sasl.password_file"),
    ("ssl.ca.location", "kafka.tls.ca_file"),
    ("ssl.certificate.location", "kafka.tls.certificate_file"),
    ("ssl.key.location", "kafka.tls.key_file"),
    ("ssl.key.password", "kafka.tls.key_password_file"),
    ("transactional.id", "kafka.instance"),
];

/// Properties on which exactly-once and the way through the log rest.
const OURS: [&str; 14] = [
    "acks",
    "auto.offset.reset",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.protocol",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.in.flight.requests.per.connection",
    "partition.assignment.strategy",
    "request.required.acks",
    "transaction.timeout.ms",
    "message.send.max.retries",
];

/// Words in the names of properties that hold secrets in the clear.
const SECRET_WORDS: [&str; 4] = ["password", "secret", ".pem", "oauthbearer.config"];

/// How to reach the brokers.
pub(super) fn settings(text: &Text<'_>, kafka: &Kafka, secrets: Secrets) -> Result<ConnectionSettings, ConfigError> {
    let mut properties = BTreeMap::new();
    properties.insert("bootstrap.servers".to_owned(), brokers(text, kafka)?);
    properties.insert("security.protocol".to_owned(), kafka.security.protocol().to_owned());
    match (&kafka.sasl, kafka.security.has_sasl()) {
        (Some(sasl), true) => add_sasl(text, sasl, secrets, &mut properties)?,
        (None, true) => {
            return Err(text
                .wrong("kafka.security", "there is no table `kafka.sasl`")
                .expected("sasl = { mechanism = \"SCRAM-SHA-512\", username = \"…\", password_file = \"…\" }"));
        }
        (Some(_), false) => {
            return Err(text
                .wrong("kafka.sasl", "it would not be used")
                .expected("security = \"sasl_ssl\" or \"sasl_plaintext\" beside it"));
        }
        (None, false) => {}
    }
    match (&kafka.tls, kafka.security.has_tls()) {
        (Some(tls), true) => add_tls(text, tls, secrets, &mut properties)?,
        (Some(_), false) => {
            return Err(text
                .wrong("kafka.tls", "it would not be used")
                .expected("security = \"ssl\" or \"sasl_ssl\" beside it"));
        }
        (None, _) => {}
    }
    for (name, value) in &kafka.properties {
        check_property(text, name)?;
        properties.insert(name.clone(), value.clone());
    }
    Ok(ConnectionSettings { properties })
}

fn brokers(text: &Text<'_>, kafka: &Kafka) -> Result<String, ConfigError> {
    let brokers = &kafka.brokers.0;
    let odd = brokers.iter().find(|b| {
        let (host, port) = b.rsplit_once(':').unwrap_or((b, "9092"));
        host.is_empty() || port.parse::<u16>().is_err() || b.contains([',', ' ', '/'])
    });
    match odd {
        None if !brokers.is_empty() => Ok(brokers.join(",")),
        _ => Err(text
            .wrong(
                "kafka.brokers",
                format!("{:?} is no broker", odd.map_or("", String::as_str)),
            )
            .expected("\"host:port\", several with commas between or as a list")),
    }
}

fn check_property(text: &Text<'_>, name: &str) -> Result<(), ConfigError> {
    let key = "kafka.properties";
    if let Some((_, own)) = NAMED.iter().find(|(property, _)| *property == name) {
        return Err(text
            .wrong(key, format!("`{name}` has a key of its own"))
            .expected(format!("`{own}`")));
    }
    if OURS.contains(&name) {
        return Err(text
            .wrong(
                key,
                format!("`{name}` can't be changed: what is promised of the events rests on it"),
            )
            .expected("other librdkafka properties"));
    }
    if SECRET_WORDS.iter().any(|word| name.contains(word)) {
        return Err(text
            .wrong(key, format!("`{name}` would put a secret into this file"))
            .expected("`kafka.sasl.password_file`, `kafka.tls.key_password_file` or their `_env`"));
    }
    Ok(())
}

fn add_sasl(
    text: &Text<'_>,
    sasl: &Sasl,
    secrets: Secrets,
    properties: &mut BTreeMap<String, String>,
) -> Result<(), ConfigError> {
    let (file, variable) = (sasl.password_file.as_deref(), sasl.password_env.as_deref());
    let Some(password) = secret::read(text, secrets, "kafka.sasl", "password", file, variable)? else {
        return Err(text
            .wrong("kafka.sasl", "there is no password")
            .expected("`password_file` or `password_env`"));
    };
    properties.insert("sasl.mechanisms".into(), sasl.mechanism.name().into());
    properties.insert("sasl.username".into(), sasl.username.clone());
    properties.insert("sasl.password".into(), password);
    Ok(())
}

fn add_tls(
    text: &Text<'_>,
    tls: &Tls,
    secrets: Secrets,
    properties: &mut BTreeMap<String, String>,
) -> Result<(), ConfigError> {
    let files = [
        ("ca_file", "ssl.ca.location", &tls.ca_file),
        ("certificate_file", "ssl.certificate.location", &tls.certificate_file),
        ("key_file", "ssl.key.location", &tls.key_file),
    ];
    for (key, property, file) in files {
        if let Some(file) = file {
            properties.insert(property.into(), readable(text, secrets, key, file)?);
        }
    }
    if tls.certificate_file.is_some() != tls.key_file.is_some() {
        return Err(text
            .wrong("kafka.tls", "a certificate and its key go together")
            .expected("both `certificate_file` and `key_file`, or neither"));
    }
    let (file, variable) = (tls.key_password_file.as_deref(), tls.key_password_env.as_deref());
    if let Some(password) = secret::read(text, secrets, "kafka.tls", "key_password", file, variable)? {
        properties.insert("ssl.key.password".into(), password);
    }
    Ok(())
}

fn readable(text: &Text<'_>, secrets: Secrets, key: &str, file: &Path) -> Result<String, ConfigError> {
    if secrets == Secrets::Read
        && let Err(error) = std::fs::File::open(file)
    {
        return Err(text
            .wrong(
                format!("kafka.tls.{key}"),
                format!("can't read {}: {error}", file.display()),
            )
            .expected("a readable PEM file"));
    }
    let path = file.to_str().ok_or_else(|| {
        text.wrong(format!("kafka.tls.{key}"), "the path is not UTF-8")
            .expected("a path that the Kafka client can take")
    })?;
    Ok(path.to_owned())
}
