//! `foreshock.toml`: read once at the start, checked as a whole, and only then used.
//!
//! [`file`] says how the file is written, this module what it means. Brokers and one source are enough; every other value
//! has a default that needs no tuning. `docs/configuration.md` documents each key, and a test reads its example.

mod connection;
mod error;
mod file;
mod objectives;
mod secret;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use foreshock_domain::ENTITY_LABELS;
use foreshock_engine::config::LATENESS_WINDOWS_MAX;
use foreshock_engine::{
    AlarmConfig, EngineConfig, Limits, LogConfig, SESSION_IDLE_MS, SessionConfig, SourceConfig, Windows,
};
use foreshock_failure::{ExhaustionConfig, Rules};
use foreshock_kafka::{Cadence, ConnectionSettings, Delivery, LogSettings, Topics};
use foreshock_logs::{MaskError, MaskPart, Masks, SessionIds};
use foreshock_stats::AlarmBudget;

pub use error::ConfigError;
use error::Text;
pub use objectives::Objectives;
pub use secret::Secrets;

/// Larger than any configuration that a person wrote.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Each worker is a thread with a consumer and a producer.
const WORKERS_MAX: usize = 256;
/// The brokers' own bound, `group.max.session.timeout.ms`.
const SESSION_TIMEOUT_MAX: Duration = Duration::from_secs(1_800);
/// Narrower windows hold too few samples, wider ones tell too late.
const WIDTH_MS: std::ops::RangeInclusive<i64> = 100..=3_600_000;
/// A unit of work that is silent for longer is over, or nobody waits for it.
const SESSION_IDLE_RANGE_MS: std::ops::RangeInclusive<i64> = 1_000..=86_400_000;
/// Furthest ahead that the end of a resource is looked for, in seconds.
const EXHAUSTION_HORIZON_S_MAX: u64 = 366 * 86_400;
/// Series or entities of one partition: what fits into the largest machines.
const HELD_MAX: usize = 50_000_000;
/// Brokers refuse longer names.
const TOPIC_BYTES_MAX: usize = 249;

/// A checked configuration.
#[derive(Debug)]
pub struct Config {
    /// How to reach the brokers.
    pub connection: ConnectionSettings,
    /// Consumer group, and prefix of transactional ids.
    pub group: String,
    /// Name of this process in the group; its workers are `<instance>-0`, `<instance>-1`, …
    pub instance: String,
    /// Threads, each a member of the group.
    pub workers: usize,
    /// How long the group waits for a silent member.
    pub session_timeout: Duration,
    /// Exactly once, or at least once.
    pub delivery: Delivery,
    /// Names of the topics.
    pub topics: Topics,
    /// What the engine must be told. The number of signals partitions is 1 here, and filled in from the brokers.
    pub engine: EngineConfig,
    /// Folder of the model that was learned from failures; read by [`crate::model::of_config`].
    pub model: Option<PathBuf>,
    /// What was taken of files of objectives.
    pub objectives: Vec<Objectives>,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub listen: SocketAddr,
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub fn load(path: &Path, secrets: Secrets) -> Result<Self, ConfigError> {
        Self::parse(path, &read(path)?, secrets)
    }

    /// Checks the text of a configuration. `path` is for messages, and where the files that it names are looked for.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub fn parse(path: &Path, text: &str, secrets: Secrets) -> Result<Self, ConfigError> {
        let text = Text { file: path, text };
        let mut file: file::File = toml::from_str(text.text).map_err(|e| text.refused(&e))?;
        let objectives = objectives::take(&text, &mut file.failure)?;
        let topics = topics(&text, &file)?;
        let engine = engine(&text, &file)?;
        Ok(Self {
            connection: connection::settings(&text, &file.kafka, secrets)?,
            instance: instance(&text, &file.kafka)?,
            workers: workers(&text, &file.kafka)?,
            session_timeout: session_timeout(&text, &file.kafka)?,
            delivery: match file.kafka.delivery {
                file::Delivery::ExactlyOnce => Delivery::ExactlyOnce,
                file::Delivery::AtLeastOnce => Delivery::AtLeastOnce,
            },
            group: name(&text, "kafka.group", &file.kafka.group)?,
            topics,
            engine,
            // Relative to the file that names it, wherever one is when one runs it.
            model: file
                .predict
                .model
                .as_ref()
                .map(|m| path.parent().unwrap_or(Path::new("")).join(m)),
            objectives,
            listen: file.http.listen.0,
        })
    }

    /// Settings of one worker's log.
    #[must_use]
    pub fn log_settings(&self, worker: usize) -> LogSettings {
        LogSettings {
            connection: self.connection.clone(),
            group: self.group.clone(),
            instance: format!("{}-{worker}", self.instance),
            session_timeout: self.session_timeout,
            topics: self.topics.clone(),
            cadence: Cadence::default(),
            delivery: self.delivery,
        }
    }
}

/// A length of time on the command line, written as in the file: `500ms`, `10s`, `5m`, `1h`, `7d`.
///
/// # Errors
/// What was expected.
pub fn duration(text: &str) -> Result<Duration, String> {
    let span = file::Span::parse(text).ok_or("expected a length of time such as 500ms, 10s, 5m, 1h or 7d")?;
    Ok(span.0)
}

/// Reads only the connection out of a configuration: no source has to be there.
///
/// # Errors
/// The first mistake, with its place.
pub fn load_connection(path: &Path) -> Result<ConnectionSettings, ConfigError> {
    let text = read(path)?;
    let text = Text {
        file: path,
        text: &text,
    };
    let file: file::ConnectionFile = toml::from_str(text.text).map_err(|e| text.refused(&e))?;
    connection::settings(&text, &file.kafka, Secrets::Read)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let text = read_capped(path).map_err(|error| {
        ConfigError::of_file(path, format!("the configuration can't be read: {error}"))
            .expected("a readable text file in TOML")
    })?;
    text.ok_or_else(|| {
        ConfigError::of_file(path, "the file is too large").expected(format!("at most {FILE_BYTES_MAX} bytes"))
    })
}

/// The text of a file; `None` where it is larger than anything that a person wrote.
fn read_capped(path: &Path) -> io::Result<Option<String>> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    Ok((text.len() as u64 <= FILE_BYTES_MAX).then_some(text))
}

/// Names that go into ids which brokers store.
fn name(text: &Text<'_>, key: &str, name: &str) -> Result<String, ConfigError> {
    if name.is_empty() || name.len() > TOPIC_BYTES_MAX || name.contains(char::is_control) {
        return Err(text
            .wrong(key, format!("{name:?} is no name"))
            .expected(format!("1 to {TOPIC_BYTES_MAX} bytes without control characters")));
    }
    Ok(name.to_owned())
}

fn instance(text: &Text<'_>, kafka: &file::Kafka) -> Result<String, ConfigError> {
    if let Some(instance) = &kafka.instance {
        return name(text, "kafka.instance", instance);
    }
    let host = hostname::get().ok().and_then(|h| h.into_string().ok());
    host.filter(|h| !h.is_empty()).ok_or_else(|| {
        text.wrong("kafka.instance", "this host has no name to take instead")
            .expected("a name that is the same after a restart and unique in the group")
    })
}

fn workers(text: &Text<'_>, kafka: &file::Kafka) -> Result<usize, ConfigError> {
    let cores = || {
        std::thread::available_parallelism()
            .map_or(1, NonZero::get)
            .min(WORKERS_MAX)
    };
    match kafka.workers {
        None => Ok(cores()),
        Some(n) if (1..=WORKERS_MAX).contains(&n) => Ok(n),
        Some(n) => Err(text
            .wrong("kafka.workers", n.to_string())
            .expected(format!("1 to {WORKERS_MAX}; left out, one for each core"))),
    }
}

fn session_timeout(text: &Text<'_>, kafka: &file::Kafka) -> Result<Duration, ConfigError> {
    let found = kafka.session_timeout.0;
    if (Duration::from_secs(1)..=SESSION_TIMEOUT_MAX).contains(&found) {
        return Ok(found);
    }
    Err(text
        .wrong("kafka.session_timeout", format!("{found:?}"))
        .expected("\"1s\" to \"30m\", inside what the brokers allow (usually \"6s\" to \"30m\")"))
}

/// All topics, each legal and each for one purpose.
fn topics(text: &Text<'_>, file: &file::File) -> Result<Topics, ConfigError> {
    if file.source.is_empty() {
        return Err(text
            .wrong("source", "there is no source")
            .expected("at least one [[source]] with `topic` and `format`"));
    }
    if file.source.len() >= usize::from(u16::MAX) {
        return Err(text
            .wrong("source", "there are too many sources")
            .expected("fewer than 65535"));
    }
    let names = &file.topics;
    let outputs = [
        ("topics.anomalies", &names.anomalies),
        ("topics.failures", &names.failures),
        ("topics.signals", &names.signals),
        ("topics.ledger", &names.ledger),
        ("topics.dead_letters", &names.dead_letters),
        ("topics.state", &names.state),
    ];
    let outputs = outputs.into_iter().map(|(key, topic)| (key.to_owned(), topic));
    let sources = file
        .source
        .iter()
        .enumerate()
        .map(|(i, s)| (format!("source[{i}].topic"), &s.topic));
    let mut owners: BTreeMap<&str, String> = BTreeMap::new();
    for (key, topic) in outputs.chain(sources) {
        check_topic(text, &key, topic)?;
        if let Some(owner) = owners.get(topic.as_str()) {
            let own = if key.starts_with("source") && !owner.starts_with("source") {
                ": Foreshock would read what it writes"
            } else {
                ""
            };
            return Err(text
                .wrong(key, format!("topic {topic:?} is `{owner}` already{own}"))
                .expected("a topic of its own for each purpose"));
        }
        owners.insert(topic, key);
    }
    Ok(Topics {
        inputs: file.source.iter().map(|s| s.topic.clone()).collect(),
        signals: names.signals.clone(),
        anomalies: names.anomalies.clone(),
        failures: names.failures.clone(),
        ledger: names.ledger.clone(),
        dead_letters: names.dead_letters.clone(),
        state: names.state.clone(),
    })
}

fn check_topic(text: &Text<'_>, key: &str, topic: &str) -> Result<(), ConfigError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=TOPIC_BYTES_MAX).contains(&topic.len()) && topic.chars().all(legal) && topic != "." && topic != ".." {
        return Ok(());
    }
    Err(text
        .wrong(key, format!("{topic:?} can't be the name of a topic"))
        .expected(format!(
            "1 to {TOPIC_BYTES_MAX} characters of a-z, A-Z, 0-9, `.`, `_` and `-`"
        )))
}

fn engine(text: &Text<'_>, file: &file::File) -> Result<EngineConfig, ConfigError> {
    let rules = Rules::new(&file.failure).map_err(|e| text.wrong(e.key, e.what).expected(e.expected))?;
    let sources = file.source.iter().enumerate();
    let sources: Result<_, _> = sources.map(|(i, source)| source_config(text, i, source)).collect();
    let mut engine = EngineConfig::new(sources?, rules);
    engine.signals_topic = file.topics.signals.as_str().into();
    engine.windows = windows(text, &file.windows)?;
    engine.alarms = alarms(text, &file.alarms)?;
    engine.limits = limits(text, &file.limits)?;
    engine.exhaustion = exhaustion(text, &file.exhaustion)?;
    Ok(engine)
}

fn source_config(text: &Text<'_>, index: usize, source: &file::Source) -> Result<SourceConfig, ConfigError> {
    let entity: Vec<Box<str>> = match &source.entity {
        None => ENTITY_LABELS.map(Into::into).to_vec(),
        Some(labels) => {
            let empty = |label: &String| label.split('+').any(|part| part.trim().is_empty());
            if labels.is_empty() || labels.iter().any(empty) {
                return Err(text
                    .wrong(format!("source[{index}].entity"), format!("{labels:?}"))
                    .expected("label names, the one to prefer first; `namespace+pod` joins two"));
            }
            labels.iter().map(|label| label.as_str().into()).collect()
        }
    };
    Ok(SourceConfig {
        topic: source.topic.as_str().into(),
        format: source.format,
        entity,
        sessions: sessions(text, index, source.session.as_ref())?,
        log: LogConfig {
            raw_text: source.log_text == file::LogText::Raw,
            masks: masks(text, index, &source.masks)?,
        },
    })
}

fn masks(text: &Text<'_>, index: usize, masks: &[file::Mask]) -> Result<Option<Masks>, ConfigError> {
    if masks.is_empty() {
        return Ok(None);
    }
    let all: Vec<(&str, &str)> = masks.iter().map(|m| (m.name.as_str(), m.pattern.as_str())).collect();
    let wrong = |error: MaskError| {
        let (leaf, expected) = match error.part {
            MaskPart::Name => ("name", "1 to 32 letters, `_` or `-`, and at most 64 masks"),
            MaskPart::Pattern => ("pattern", "a regular expression that matches no empty text"),
        };
        let key = format!("source[{index}].masks[{}].{leaf}", error.index);
        text.wrong(key, error.what).expected(expected)
    };
    Masks::new(&all).map(Some).map_err(wrong)
}

fn sessions(
    text: &Text<'_>,
    index: usize,
    session: Option<&file::Session>,
) -> Result<Option<SessionConfig>, ConfigError> {
    let Some(session) = session else { return Ok(None) };
    let key = |leaf: &str| format!("source[{index}].session{leaf}");
    if session.labels.is_empty() && session.pattern.is_none() {
        return Err(text
            .wrong(key(""), "neither `labels` nor `pattern`")
            .expected("how lines name their sessions, such as `pattern = 'blk_-?\\d+'` or `labels = [\"trace_id\"]`"));
    }
    // Each pattern by itself, so that the message names the one that is wrong.
    let check = |leaf: &str, pattern: Option<&str>| {
        SessionIds::new(&[], pattern, None).map_err(|e| {
            text.wrong(key(leaf), e)
                .expected("a regular expression that matches no empty text")
        })
    };
    check(".end", session.end.as_deref())?;
    check(".pattern", session.pattern.as_deref())?;
    let idle_ms = session.idle.map_or(SESSION_IDLE_MS, file::Span::as_millis);
    if !SESSION_IDLE_RANGE_MS.contains(&idle_ms) {
        return Err(text
            .wrong(key(".idle"), format!("{idle_ms} ms"))
            .expected("\"1s\" to \"24h\""));
    }
    let ids = SessionIds::new(&session.labels, session.pattern.as_deref(), session.end.as_deref());
    let ids = ids.map_err(|e| text.wrong(key(""), e).expected("regular expressions"))?;
    Ok(Some(SessionConfig { ids, idle_ms }))
}

fn windows(text: &Text<'_>, windows: &file::Windows) -> Result<Windows, ConfigError> {
    let default = Windows::default();
    let width_ms = windows.width.map_or(default.width_ms, file::Span::as_millis);
    if !WIDTH_MS.contains(&width_ms) {
        return Err(text
            .wrong("windows.width", format!("{width_ms} ms"))
            .expected("\"100ms\" to \"1h\""));
    }
    let lateness_ms = windows.lateness.map_or(
        default.lateness_ms.min(width_ms * LATENESS_WINDOWS_MAX),
        file::Span::as_millis,
    );
    if lateness_ms > width_ms * LATENESS_WINDOWS_MAX {
        let max = width_ms * LATENESS_WINDOWS_MAX;
        return Err(text
            .wrong("windows.lateness", format!("{lateness_ms} ms"))
            .expected(format!(
                "at most {LATENESS_WINDOWS_MAX} times `windows.width`: {max} ms"
            ))
            .help("make the windows wider, or let what comes later be counted as late"));
    }
    Ok(Windows { width_ms, lateness_ms })
}

fn alarms(text: &Text<'_>, alarms: &file::Alarms) -> Result<AlarmConfig, ConfigError> {
    let mut out = AlarmConfig::default();
    if let Some(false_alarms_per_day) = alarms.false_alarms_per_day {
        if !(false_alarms_per_day > 0.0 && false_alarms_per_day <= 10_000.0) {
            return Err(text
                .wrong("alarms.false_alarms_per_day", false_alarms_per_day.to_string())
                .expected("a number above 0 and at most 10000, such as 1.0"));
        }
        out.budget = AlarmBudget { false_alarms_per_day };
    }
    Ok(out)
}

fn exhaustion(text: &Text<'_>, exhaustion: &ExhaustionConfig) -> Result<ExhaustionConfig, ConfigError> {
    if exhaustion.horizon_s > EXHAUSTION_HORIZON_S_MAX {
        return Err(text
            .wrong("exhaustion.horizon_s", exhaustion.horizon_s.to_string())
            .expected(format!("at most {EXHAUSTION_HORIZON_S_MAX}, a year; 0 for none")));
    }
    for (i, resource) in exhaustion.resource.iter().enumerate() {
        if !resource.limit.is_finite() {
            return Err(text
                .wrong(format!("exhaustion.resource[{i}].limit"), resource.limit.to_string())
                .expected("a number, in the unit of the series"));
        }
    }
    Ok(exhaustion.clone())
}

fn limits(text: &Text<'_>, limits: &file::Limits) -> Result<Limits, ConfigError> {
    let default = Limits::default();
    let held = |key: &str, found: Option<usize>, default: usize| match found {
        None => Ok(default),
        Some(n) if (1..=HELD_MAX).contains(&n) => Ok(n),
        Some(n) => Err(text.wrong(key, n.to_string()).expected(format!("1 to {HELD_MAX}"))),
    };
    Ok(Limits {
        series: held("limits.series", limits.series, default.series)?,
        entities: held("limits.entities", limits.entities, default.entities)?,
        ..default
    })
}

#[cfg(test)]
mod tests;
