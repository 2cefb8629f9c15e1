//! What a command line names as dumps: files, folders, patterns, standard input, and ranges of topics
//! (`kafka:topic@from..to`), opened.

use std::path::Path;
use std::time::Duration;

use foreshock_domain::ENTITY_LABELS;
use foreshock_engine::TopicId;
use foreshock_history::dump::{Dump, DumpError};
use foreshock_history::dump_topic::{TopicFault, TopicRecord, TopicRecords};
use foreshock_history::inputs::{InputsError, expand};
use foreshock_history::labels::Labels;
use foreshock_kafka::{Bound, ConnectionSettings, PartitionRange, RangeError, open_range};
use foreshock_wire::Format;

use super::backtest::time;
use crate::config::{self, Config};
use crate::error::{CommandError, Exit};

/// Endings of dumps in a folder, without what says how they are compressed.
pub(super) const ENDINGS: [&str; 7] = ["csv", "jsonl", "ndjson", "json", "log", "txt", "parquet"];
/// What a range of a topic begins with.
const KAFKA: &str = "kafka:";

/// What may be asked for brokers, once a topic is named.
pub(super) type Connect<'a> = &'a dyn Fn() -> Result<ConnectionSettings, CommandError>;

/// The failures of a file.
pub(super) fn labels(path: &Path) -> Result<Labels, CommandError> {
    Labels::read(path).map_err(|error| {
        let exit = if error.is_bad_data() { Exit::Data } else { Exit::Io };
        CommandError::new(exit, error.to_string())
    })
}

/// A warning must have time to come.
pub(super) fn leaves_room(lead: Duration, horizon: Duration) -> Result<(), CommandError> {
    if horizon > lead {
        return Ok(());
    }
    Err(CommandError::new(Exit::Usage, "--horizon is not longer than --lead")
        .expected("a horizon that leaves room for warnings"))
}

pub(super) fn of_dump(error: &DumpError) -> CommandError {
    let exit = if error.is_bad_data() { Exit::Data } else { Exit::Io };
    let command = CommandError::new(exit, error.to_string());
    match error {
        DumpError::NoTime { .. } => command.expected("a time in the first line of the dump"),
        _ => command,
    }
}

/// Every dump and the topic of the source it belongs to.
pub(super) fn dumps(
    metrics: &[String],
    logs: &[String],
    path_of_config: &Path,
    config: &Config,
) -> Result<Vec<(TopicId, Dump)>, CommandError> {
    let mut dumps = Vec::new();
    let kinds = [("metrics", metrics, true), ("logs", logs, false)];
    let connect = || Ok(config::load_connection(path_of_config)?);
    for (kind, named, is_metrics) in kinds {
        for text in named {
            let sources = &config.engine.sources;
            let by_topic = text
                .split_once('=')
                .and_then(|(topic, path)| Some((sources.iter().position(|s| *s.topic == *topic)?, path)));
            let first = || {
                let place = sources.iter().position(|s| fits(s.format, is_metrics))?;
                Some((place, text.as_str()))
            };
            let Some((place, path)) = by_topic.or_else(first) else {
                return Err(
                    CommandError::new(Exit::Config, format!("no source of {kind} is configured"))
                        .at(path_of_config.display().to_string())
                        .expected(format!("a [[source]] whose format is one of {kind}")),
                );
            };
            let topic = TopicId(u16::try_from(place + 1).unwrap_or(u16::MAX));
            let opened = open_each(Path::new(path), sources[place].format, &ENTITY_LABELS, &connect)?;
            dumps.extend(opened.into_iter().map(|dump| (topic, dump)));
        }
    }
    if dumps.is_empty() {
        return Err(CommandError::new(Exit::Usage, "there is nothing to read").expected("--metrics or --logs"));
    }
    Ok(dumps)
}

fn fits(format: Format, is_metrics: bool) -> bool {
    match format {
        Format::TelegrafJson | Format::PlainJson => is_metrics,
        Format::IncidentJson => false,
        _ => !is_metrics,
    }
}

/// Opens all that one word names: a file, what is in a folder, what a pattern matches, the partitions of a topic.
///
/// # Errors
/// 64 where nothing is named, 65 where a table is not what it should be, 74 where files or brokers fail.
pub(super) fn open_each<S: AsRef<str>>(
    named: &Path,
    format: Format,
    key_labels: &[S],
    connect: Connect<'_>,
) -> Result<Vec<Dump>, CommandError> {
    if let Some(range) = named.to_str().and_then(TopicRange::of) {
        let dumps = range?.open(format, &connect()?)?;
        return Ok(dumps.into_iter().map(|dump| dump.keyed_by(key_labels)).collect());
    }
    if !format.is_text() {
        let what = format!("{} can't be read line by line: its format is {format}", named.display());
        return Err(CommandError::new(Exit::Usage, what)
            .expected("a format of text lines, such as otlp_json, or a range of a topic"));
    }
    let found = expand(&[named.to_path_buf()], &ENDINGS, Path::new("")).map_err(|error| {
        let exit = match error {
            InputsError::Io { .. } => Exit::Io,
            InputsError::Empty { .. } => Exit::Usage,
        };
        CommandError::new(exit, error.to_string())
    })?;
    let open = |path: &Path| Dump::open(path, format).map(|dump| dump.keyed_by(key_labels));
    found.iter().map(|i| open(&i.path).map_err(|e| of_dump(&e))).collect()
}

/// `kafka:topic@from..to`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TopicRange {
    topic: String,
    from: Bound,
    to: Bound,
}

impl TopicRange {
    /// The range that a word names, or what is wrong with it; `None` where it names a file.
    pub(super) fn of(named: &str) -> Option<Result<Self, CommandError>> {
        let rest = named.strip_prefix(KAFKA)?;
        Some(Self::parse(rest).map_err(|what| {
            CommandError::new(Exit::Usage, format!("{named:?} is no range of a topic: {what}"))
                .expected("kafka:TOPIC, or kafka:TOPIC@FROM..TO with an offset, a time or nothing on either side")
        }))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (topic, range) = text.split_once('@').unwrap_or((text, ".."));
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if topic.is_empty() || !topic.chars().all(is_of_name) {
            return Err(format!("{topic:?} is no name of a topic"));
        }
        let (from, to) = range.split_once("..").ok_or("it has no `..`")?;
        let (from, to) = (bound(from)?, bound(to)?);
        let is_backward = match (from, to) {
            (Bound::Offset(from), Bound::Offset(to)) => from >= to,
            (Bound::Time(from), Bound::Time(to)) => from >= to,
            _ => false,
        };
        if is_backward {
            return Err("it ends before it begins".into());
        }
        let topic = topic.to_owned();
        Ok(Self { topic, from, to })
    }

    fn open(&self, format: Format, connection: &ConnectionSettings) -> Result<Vec<Dump>, CommandError> {
        let partitions = open_range(connection, &self.topic, self.from, self.to).map_err(|error| match error {
            RangeError::Gone { low, .. } => CommandError::new(Exit::Usage, error.to_string())
                .expected(format!("a range from {low} on, or `..` for all that is there")),
            _ => CommandError::new(Exit::Io, error.to_string()),
        })?;
        if partitions.iter().all(|p| p.offsets_total() == 0) {
            return Err(CommandError::new(
                Exit::Usage,
                format!("topic {:?} has no record in the range", self.topic),
            )
            .expected("a range in which the topic has records"));
        }
        let dump = |records: PartitionRange| {
            let name = format!(
                "{KAFKA}{} partition {}",
                self.topic,
                PartitionRange::partition(&records)
            );
            Dump::topic(&name, format, Box::new(Records(records)))
        };
        Ok(partitions.into_iter().map(dump).collect())
    }
}

fn bound(text: &str) -> Result<Bound, String> {
    if text.is_empty() {
        return Ok(Bound::Open);
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        let offset = text.parse().map_err(|_| format!("{text} is no offset"))?;
        return Ok(Bound::Offset(offset));
    }
    let wrong = |_| format!("{text:?} is neither an offset nor a time such as 2026-01-31T10:00:00Z");
    time(text).map(Bound::Time).map_err(wrong)
}

/// What the brokers bring, as history takes it.
struct Records(PartitionRange);

impl Iterator for Records {
    type Item = Result<TopicRecord, TopicFault>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = match self.0.next()? {
            Ok(r) => TopicRecord {
                offset: r.offset,
                at: r.at,
                key: r.key,
                payload: r.payload,
            },
            Err(error) => return Some(Err(error.into())),
        };
        Some(Ok(record))
    }
}

impl TopicRecords for Records {
    fn progress(&self) -> (u64, u64) {
        (self.0.offsets_taken(), self.0.offsets_total())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)] // a test that fails may say so

    use foreshock_domain::Timestamp;

    use super::*;

    #[test]
    fn ranges_by_case() {
        let at = Bound::Time(Timestamp::from_secs(1_769_853_600)); // 2026-01-31T10:00:00Z
        let cases = [
            ("kafka:m", Bound::Open, Bound::Open),
            ("kafka:m@..", Bound::Open, Bound::Open),
            ("kafka:m@7..", Bound::Offset(7), Bound::Open),
            ("kafka:m@0..12", Bound::Offset(0), Bound::Offset(12)),
            ("kafka:m@..2026-01-31T10:00:00Z", Bound::Open, at),
            ("kafka:m@2026-01-31T11:00:00+01:00..", at, Bound::Open),
            (
                "kafka:m@2026-01-31..",
                Bound::Time(Timestamp::from_secs(1_769_817_600)),
                Bound::Open,
            ),
        ];
        for (text, from, to) in cases {
            let topic = "m".to_owned();
            assert_eq!(
                TopicRange::of(text).unwrap().unwrap(),
                TopicRange { topic, from, to },
                "{text}"
            );
        }
        for (text, expected) in [
            ("kafka:", "is no name of a topic"),
            ("kafka:a b", "is no name of a topic"),
            ("kafka:m@", "it has no `..`"),
            ("kafka:m@5", "it has no `..`"),
            ("kafka:m@5..5", "it ends before it begins"),
            ("kafka:m@2026-02-01..2026-01-01", "it ends before it begins"),
            ("kafka:m@soon..", "neither an offset nor a time"),
            ("kafka:m@99999999999999999999..", "is no offset"),
        ] {
            let error = TopicRange::of(text).unwrap().unwrap_err();
            assert_eq!(error.exit(), Exit::Usage, "{text}");
            assert!(format!("{error:?}").contains(expected), "{text}: {error:?}");
        }
        assert!(TopicRange::of("./kafka:m").is_none());
    }
}
