use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use foreshock_engine::TopicId;
use rdkafka::ClientConfig;

/// How to reach the brokers: librdkafka's own property names, secrets among them.
#[derive(Clone, Default)]
pub struct ConnectionSettings {
    /// `bootstrap.servers`, `security.protocol`, `sasl.mechanisms`, `ssl.ca.location`, …
    pub properties: BTreeMap<String, String>,
}

/// Secrets must not reach a log by way of `{:?}`.
impl fmt::Debug for ConnectionSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = |k: &str| k.contains("password") || k.contains("secret") || k.ends_with(".pem");
        let shown = self
            .properties
            .iter()
            .map(|(k, v)| (k, if secret(k) { "***" } else { v.as_str() }));
        f.debug_map().entries(shown).finish()
    }
}

impl ConnectionSettings {
    /// Without security, for a broker on this machine.
    #[must_use]
    pub fn plain(bootstrap_servers: &str) -> Self {
        Self {
            properties: BTreeMap::from([("bootstrap.servers".into(), bootstrap_servers.into())]),
        }
    }

    /// Where to begin, as a command line takes it.
    #[must_use]
    pub fn servers(&self) -> &str {
        self.properties
            .get("bootstrap.servers")
            .map_or("localhost:9092", String::as_str)
    }

    /// Whom the brokers see: the user of SASL. Under TLS alone it is the certificate's subject, which only its owner can tell,
    /// and without both it is nobody.
    #[must_use]
    pub fn principal(&self) -> String {
        let has_certificate = self.properties.contains_key("ssl.certificate.location");
        match self.properties.get("sasl.username") {
            Some(user) => format!("User:{user}"),
            None if has_certificate => "User:<subject of the certificate>".into(),
            None => "User:ANONYMOUS".into(),
        }
    }

    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "foreshock");
        for (k, v) in &self.properties {
            config.set(k, v);
        }
        config
    }
}

/// Names of the topics. The place of an input here plus one is its [`foreshock_engine::TopicId`].
#[derive(Clone, Debug)]
pub struct Topics {
    /// Inputs, in the order of the engine's sources.
    pub inputs: Vec<String>,
    /// The internal topic between the stages.
    pub signals: String,
    /// Precursors.
    pub anomalies: String,
    /// Hard failures.
    pub failures: String,
    /// What became of precursors.
    pub ledger: String,
    /// Records that could not be read.
    pub dead_letters: String,
    /// Snapshots; compacted.
    pub state: String,
}

impl Topics {
    /// The name of what the engine knows by its id.
    pub(crate) fn name(&self, topic: TopicId) -> &str {
        match usize::from(topic.0).checked_sub(1) {
            None => &self.signals,
            Some(place) => self.inputs.get(place).map_or("", String::as_str),
        }
    }
}

/// How often things happen, in wall time.
#[derive(Clone, Copy, Debug)]
pub struct Cadence {
    /// Between commits.
    pub epoch: Duration,
    /// Between snapshots.
    pub snapshot: Duration,
    /// Between ticks.
    pub tick: Duration,
}

impl Default for Cadence {
    fn default() -> Self {
        Self {
            epoch: Duration::from_millis(500),
            snapshot: Duration::from_secs(60),
            tick: Duration::from_secs(5),
        }
    }
}

/// What a reader of the events may rely on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Events and offsets in one transaction.
    #[default]
    ExactlyOnce,
    /// Events first, offsets after; a crash between repeats events under the same ids.
    AtLeastOnce,
}

/// One member of the group.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// How to reach the brokers.
    pub connection: ConnectionSettings,
    /// Consumer group, and prefix of the transactional id.
    pub group: String,
    /// Name of this member, unique in the group and the same after a restart: its partitions wait for it.
    pub instance: String,
    /// How long the group waits for a silent member before its partitions go to others.
    pub session_timeout: Duration,
    /// Topics.
    pub topics: Topics,
    /// How often things happen.
    pub cadence: Cadence,
    /// Exactly once, or at least once.
    pub delivery: Delivery,
}
