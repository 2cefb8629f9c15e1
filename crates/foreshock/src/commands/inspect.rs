//! What the stored state of each partition holds. States are read by the engine itself, so what is shown is what a restart
//! would find.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use foreshock_domain::text::printable;
use foreshock_engine::{Assignment, Engine, EngineConfig, Snapshot, SourceConfig, TopicId, TopicPartition};
use foreshock_failure::{FailureConfig, Rules};
use foreshock_history::backtest::evaluate::Share;
use foreshock_history::train::registry;
use foreshock_kafka::{look, newest_snapshots};
use foreshock_wire::Format;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Secrets};
use crate::error::{CommandError, Exit};
use crate::model::of_registry;
use crate::screen::{print, table};

/// A saved state larger than this was not written by [`save`].
const FILE_BYTES_MAX: u64 = 4 << 30;
/// Raised whenever the bytes of a saved state change beyond what the state's own version says.
const FILE_VERSION: u32 = 2;
/// First line of a saved state, in bytes.
const HEADER_BYTES_MAX: usize = 4_096;

/// Arguments of `foreshock inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  foreshock inspect --config foreshock.toml               newest snapshot of every partition
  foreshock inspect --config foreshock.toml --json
  foreshock inspect --config foreshock.toml --save states/
  foreshock inspect states/metrics-0.state
  foreshock inspect models/shop                           versions of a model, and what each was worth

Reads and changes nothing; the service may run meanwhile. Partitions of inputs hold series, those of the signals topic
entities.")]
pub struct InspectArgs {
    /// A model that `train` wrote, or a state that --save wrote
    #[arg(
        value_name = "MODEL|STATE",
        required_unless_present = "config",
        conflicts_with = "config"
    )]
    file: Option<PathBuf>,

    /// Configuration file: reads the state topic from the brokers
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// One JSON object a partition
    #[arg(long)]
    json: bool,

    /// Also write each state into this folder
    #[arg(long, value_name = "FOLDER", requires = "config")]
    save: Option<PathBuf>,
}

/// What the state of one partition holds.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Held {
    topic: String,
    partition: i32,
    /// The next record to apply; none where there is no snapshot.
    offset: Option<i64>,
    /// Of the state; an older one is migrated when the partition is taken up.
    version: Option<u16>,
    /// Of the state, before compression.
    bytes: usize,
    series: usize,
    entities: usize,
    /// Why it can't be read, where it can't, or why a newer one can't.
    error: Option<String>,
}

/// First line of a saved state.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    foreshock_state: u32,
    topic: String,
    partition: i32,
    offset: i64,
    /// Whether it is of the signals topic.
    signals: bool,
}

/// The command.
///
/// # Errors
/// 65 where a state can't be read, 74 where brokers or files can't, 78 where the configuration is wrong.
pub fn execute(args: &InspectArgs) -> Result<(), CommandError> {
    if let Some(dir) = args.file.as_deref().filter(|f| f.is_dir()) {
        return of_model(dir, args.json);
    }
    let all = match (&args.config, &args.file) {
        (Some(config), _) => from_brokers(config, args.save.as_deref())?,
        (None, Some(file)) => vec![from_file(file)?],
        (None, None) => return Err(CommandError::new(Exit::Usage, "nothing to inspect").expected("--config or a file")),
    };
    print(&if args.json { json(&all)? } else { show(&all) })?;
    match all.iter().find_map(|held| held.error.as_ref()) {
        None => Ok(()),
        Some(error) => Err(CommandError::new(Exit::Data, error.clone())
            .help("the service goes back to the snapshot before it, or rebuilds the partition from its first record")),
    }
}

/// The versions of a model, or one of them.
fn of_model(dir: &Path, as_json: bool) -> Result<(), CommandError> {
    let resolved = registry::resolve(dir).map_err(|e| of_registry(&e))?;
    let of = |dir: &Path| registry::manifest(dir).map_err(|e| of_registry(&e));
    if as_json {
        let text = serde_json::to_string_pretty(&of(dir)?).map_err(|e| CommandError::new(Exit::Data, e.to_string()))?;
        return print(&format!("{text}\n"));
    }
    let row = |dir: &Path, name: String| -> Result<Vec<String>, CommandError> {
        let m = of(dir)?;
        let warned = m.figures.warnings.as_ref();
        let share = |s: Option<Share>| s.map_or_else(|| "-".into(), |s| format!("{} of {}", s.hits, s.of));
        Ok(vec![
            name,
            m.figures.data.1.clone(),
            m.figures.failures.to_string(),
            m.figures.kind.clone(),
            format!("{:.3}", m.figures.by_row.average_precision),
            share(warned.map(|w| w.recall)),
            share(warned.map(|w| w.precision)),
        ])
    };
    let head = [
        "version",
        "learned until",
        "failures",
        "kind",
        "average precision",
        "warned of",
        "came true",
    ];
    let mut rows = vec![head.map(String::from).to_vec()];
    if resolved == dir {
        rows.push(row(
            dir,
            dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        )?);
    } else {
        for version in registry::versions(dir).map_err(|e| of_registry(&e))? {
            let path = dir.join(version.to_string());
            let mark = if path == resolved { " (in use)" } else { "" };
            rows.push(row(&path, format!("{version}{mark}"))?);
        }
    }
    print(&table(&rows))
}

fn from_brokers(path: &Path, folder: Option<&Path>) -> Result<Vec<Held>, CommandError> {
    let config = Config::load(path, Secrets::Read)?;
    let topics: Vec<&str> = std::iter::once(&config.topics.signals)
        .chain(&config.topics.inputs)
        .map(String::as_str)
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CommandError::io("brokers can't be asked", e))?;
    let view = runtime
        .block_on(look(&config.connection, &topics))
        .map_err(|e| CommandError::unreached(&config.connection, &e))?;
    let mut wanted = Vec::new();
    let mut ids = Vec::new();
    for (place, topic) in view.topics.iter().enumerate() {
        let partitions = topic.partitions.as_ref().map_err(|why| {
            CommandError::new(Exit::Io, format!("topic {:?}: {why}", topic.name))
                .help("`foreshock check` says what is missing")
        })?;
        for partition in 0..i32::try_from(*partitions).unwrap_or(i32::MAX) {
            // The signals topic comes first here, as in the engine's numbering.
            let topic_id = TopicId(u16::try_from(place).unwrap_or(u16::MAX));
            ids.push(TopicPartition {
                topic: topic_id,
                partition,
            });
            wanted.push((topic.name.clone(), partition));
        }
    }
    let snapshots = newest_snapshots(&config.connection, &config.group, &config.topics.state, &wanted)
        .map_err(|e| CommandError::io(format!("topic {:?} can't be read", config.topics.state), e))?;
    let engine = Arc::new(config.engine);
    let mut all = Vec::new();
    for ((of, (topic, _)), found) in ids.into_iter().zip(wanted).zip(snapshots) {
        if let (Some(folder), Some(snapshot)) = (folder, &found.snapshot) {
            save(folder, &topic, of, snapshot)?;
        }
        let mut held = held(&engine, topic, of, found.snapshot);
        let complaints = found.complaints.join("; ");
        held.error = held.error.or_else(|| (!complaints.is_empty()).then_some(complaints));
        all.push(held);
    }
    Ok(all)
}

/// Lets an engine of its own take the state up, and asks what it holds.
fn held(engine: &Arc<EngineConfig>, topic: String, of: TopicPartition, snapshot: Option<Snapshot>) -> Held {
    let mut held = Held {
        topic,
        partition: of.partition,
        offset: snapshot.as_ref().map(|s| s.offset),
        version: snapshot.as_ref().map(|s| s.version),
        bytes: snapshot.as_ref().map_or(0, Snapshot::raw_bytes),
        series: 0,
        entities: 0,
        error: None,
    };
    if snapshot.is_some() {
        let mut engine = Engine::new(Arc::clone(engine));
        let taken = engine.assign(Assignment {
            of,
            snapshot,
            committed: 0,
            first: 0,
        });
        held.error = taken.err().map(|error| error.to_string());
        (held.series, held.entities) = engine.held();
    }
    held
}

fn file_name(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}.state")
}

/// Writes a state beside its name and renames it, so that it is there whole or not at all.
fn save(folder: &Path, topic: &str, of: TopicPartition, snapshot: &Snapshot) -> Result<(), CommandError> {
    let path = folder.join(file_name(topic, of.partition));
    let header = Header {
        foreshock_state: FILE_VERSION,
        topic: topic.to_owned(),
        partition: of.partition,
        offset: snapshot.offset,
        signals: of.topic == TopicId::SIGNALS,
    };
    let write = || {
        std::fs::create_dir_all(folder)?;
        let partial = path.with_extension("state.partial");
        let mut file = File::create(&partial)?;
        serde_json::to_writer(&mut file, &header)?;
        file.write_all(b"\n")?;
        file.write_all(&postcard::to_stdvec(snapshot).map_err(std::io::Error::other)?)?;
        file.sync_all()?;
        std::fs::rename(&partial, &path)
    };
    write().map_err(|error| CommandError::io(path.display(), error))
}

fn from_file(path: &Path) -> Result<Held, CommandError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| CommandError::io(path.display(), error))?;
    let no_state = || {
        CommandError::new(Exit::Data, "this is no saved state")
            .at(path.display().to_string())
            .expected("a file that `foreshock inspect --save` wrote")
    };
    let end = bytes
        .iter()
        .take(HEADER_BYTES_MAX)
        .position(|b| *b == b'\n')
        .ok_or_else(no_state)?;
    let header: Header = serde_json::from_slice(&bytes[..end]).map_err(|_| no_state())?;
    if header.foreshock_state != FILE_VERSION {
        return Err(no_state());
    }
    let rules = Rules::new(&FailureConfig::default()).map_err(|e| CommandError::new(Exit::Config, e.to_string()))?;
    // What a state holds does not depend on how its records are written.
    let source = SourceConfig {
        log: foreshock_engine::LogConfig::default(),
        topic: header.topic.as_str().into(),
        format: Format::PlainJson,
        entity: Vec::new(),
        sessions: None,
    };
    let engine = Arc::new(EngineConfig::new(vec![source], rules));
    let topic = if header.signals { TopicId::SIGNALS } else { TopicId(1) };
    let of = TopicPartition {
        topic,
        partition: header.partition,
    };
    match postcard::from_bytes::<Snapshot>(bytes.get(end + 1..).unwrap_or_default()) {
        Ok(snapshot) => Ok(held(&engine, header.topic, of, Some(snapshot))),
        Err(error) => {
            let mut held = held(&engine, header.topic, of, None);
            (held.offset, held.error) = (Some(header.offset), Some(format!("it can't be read: {error}")));
            Ok(held)
        }
    }
}

fn json(all: &[Held]) -> Result<String, CommandError> {
    let mut out = String::new();
    for held in all {
        out += &serde_json::to_string(held).map_err(|e| CommandError::io("JSON", e))?;
        out.push('\n');
    }
    Ok(out)
}

fn show(all: &[Held]) -> String {
    let head = [
        "topic",
        "partition",
        "offset",
        "version",
        "bytes",
        "series",
        "entities",
        "",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for held in all {
        rows.push(vec![
            // A saved state comes from anybody.
            printable(&held.topic).into_owned(),
            held.partition.to_string(),
            held.offset.map_or_else(|| "no snapshot".to_owned(), |o| o.to_string()),
            held.version.map_or_else(String::new, |v| v.to_string()),
            held.bytes.to_string(),
            held.series.to_string(),
            held.entities.to_string(),
            printable(held.error.as_deref().unwrap_or_default()).into_owned(),
        ]);
    }
    table(&rows)
}

#[cfg(test)]
mod tests {
    use foreshock_engine::STATE_VERSION;

    use super::*;

    #[test]
    fn a_saved_state_is_read_as_it_was_stored() {
        let folder = tempfile::tempdir().unwrap();
        let rules = Rules::new(&FailureConfig::default()).unwrap();
        let source = SourceConfig::new("metrics", Format::TelegrafJson, &["host"]);
        let mut engine = Engine::new(Arc::new(EngineConfig::new(vec![source], rules)));
        let of = |topic| TopicPartition { topic, partition: 3 };
        for topic in [TopicId::SIGNALS, TopicId(1)] {
            let assignment = Assignment {
                of: of(topic),
                snapshot: None,
                committed: 0,
                first: 0,
            };
            engine.assign(assignment).unwrap();
        }
        let (epoch, _) = engine.take_epoch(true);
        assert_eq!(epoch.states.len(), 2);
        for (of, frozen) in epoch.states {
            let snapshot = frozen.encode().unwrap();
            let topic = if of.topic == TopicId::SIGNALS {
                "signals"
            } else {
                "metrics"
            };
            save(folder.path(), topic, of, &snapshot).unwrap();
            let held = from_file(&folder.path().join(file_name(topic, 3))).unwrap();
            assert_eq!(
                (held.error, held.offset, held.version, held.bytes),
                (None, Some(0), Some(STATE_VERSION), snapshot.raw_bytes())
            );
        }
    }

    #[test]
    fn a_saved_state_of_an_older_version_says_so_and_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let states: &[u8] = include_bytes!("../../../engine/tests/upgrade/8/states");
        let states: Vec<Snapshot> = postcard::from_bytes(states).unwrap();
        let of = TopicPartition {
            topic: TopicId(1),
            partition: 0,
        };
        save(folder.path(), "metrics", of, &states[0]).unwrap();
        let held = from_file(&folder.path().join(file_name("metrics", 0))).unwrap();
        assert_eq!((&held.error, held.version, held.series), (&None, Some(8), 15));
        assert!(show(&[held]).contains(" 8 "));
    }

    #[test]
    fn what_is_no_state_is_bad_data() {
        let folder = tempfile::tempdir().unwrap();
        let cases: [(&str, &[u8]); 4] = [
            ("empty", b""),
            ("no header", b"FSHK\x01\x00"),
            ("other json", b"{\"a\":1}\n"),
            (
                "other version",
                b"{\"foreshock_state\":1,\"topic\":\"a\",\"partition\":0,\"offset\":0,\"signals\":true}\n",
            ),
        ];
        for (name, bytes) in cases {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(from_file(&path).unwrap_err().exit(), Exit::Data, "{name}");
        }
        let cut = folder.path().join("cut");
        std::fs::write(
            &cut,
            b"{\"foreshock_state\":2,\"topic\":\"a\",\"partition\":0,\"offset\":0,\"signals\":true}\nFS",
        )
        .unwrap();
        assert!(from_file(&cut).unwrap().error.is_some());
    }
}
