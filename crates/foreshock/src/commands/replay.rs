//! Dumps into topics, in event time: the merging and the reading are in `foreshock_history::dump`, here are pace and sending.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use foreshock_domain::{ENTITY_LABELS, Millis, Timestamp};
use foreshock_history::dump::{Dump, merge};
use foreshock_history::dump_shift::{is_movable, shift};
use foreshock_kafka::{ConnectionSettings, Sender, look};
use foreshock_wire::Format;
use indicatif::ProgressBar;

use super::dumps::{of_dump, open_each};
use crate::config;
use crate::error::{CommandError, Exit};
use crate::interrupt;
use crate::screen::{bytes_bar, duration, note};

/// What is on its way when the dumps end has this long to arrive.
const FLUSH: Duration = Duration::from_secs(60);
/// Longest nap between two looks at the clock and at Ctrl-C.
const NAP: Duration = Duration::from_millis(50);

/// Arguments of `foreshock replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  foreshock replay --brokers localhost:9092 --topic metrics --format telegraf_json metrics.jsonl.zst
  foreshock replay --brokers localhost:9092 --speed 60 --shift-to-now \\
      --input metrics=metrics.jsonl.zst:telegraf_json --input logs=logs.jsonl.zst:log_json
  zcat app.log.gz | foreshock replay --config foreshock.toml --topic logs --format log_text --speed max -

A dump is a file, a folder, a pattern, - for standard input, or a range of a topic of the same brokers, kafka:TOPIC@FROM..TO. Files are
lines, one record each: JSON Lines or raw log lines; or as plain_json a CSV or Parquet of metrics, as log_json Parquet of log lines;
plain, .gz or .zst. Several dumps are merged by event time.
A record's timestamp is its event time, its key the entity. Ctrl-C ends with what was sent.")]
pub struct ReplayArgs {
    /// Brokers, `host:port` with commas between
    #[arg(
        long,
        value_name = "LIST",
        required_unless_present = "config",
        conflicts_with = "config"
    )]
    brokers: Option<String>,

    /// Configuration file to take the connection from
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Topic that the files go to
    #[arg(long, value_name = "TOPIC", requires = "files")]
    topic: Option<String>,

    /// Format of files that do not say their own
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    format: Option<Format>,

    /// Dumps for --topic; `-` is standard input
    #[arg(value_name = "DUMP", requires = "topic")]
    files: Vec<PathBuf>,

    /// Another dump and its topic; may be given many times
    #[arg(long = "input", value_name = "TOPIC=DUMP[:FORMAT]")]
    inputs: Vec<String>,

    /// How many times faster than it happened, or `max`
    #[arg(long, default_value = "1", value_name = "N|max", value_parser = speed)]
    speed: Speed,

    /// Labels that name the record's key, the one to prefer first
    #[arg(long, value_name = "LABEL")]
    key_label: Vec<String>,

    /// Move all times, those inside the records too, so that the first record happens now
    #[arg(long)]
    shift_to_now: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Speed {
    Times(f64),
    Max,
}

fn speed(text: &str) -> Result<Speed, String> {
    match text.parse::<f64>() {
        _ if text == "max" => Ok(Speed::Max),
        Ok(x) if (0.001..=1e6).contains(&x) => Ok(Speed::Times(x)),
        _ => Err("expected `max` or a number from 0.001 to 1000000".into()),
    }
}

fn format(text: &str) -> Result<Format, String> {
    text.parse().map_err(|e: foreshock_wire::UnknownFormat| e.to_string())
}

/// One file and where it goes.
#[derive(Debug, PartialEq, Eq)]
struct Input {
    topic: String,
    path: PathBuf,
    format: Format,
}

/// What was done.
#[derive(Default)]
struct Sent {
    records: u64,
    bytes: u64,
}

/// The command.
///
/// # Errors
/// 64 where it is not said what goes where, 65 where a dump is not what its format says, 74 where files or brokers fail.
pub fn execute(args: &ReplayArgs) -> Result<(), CommandError> {
    let inputs = inputs(args)?;
    let connection = connection(args)?;
    let labels: Vec<String> = if args.key_label.is_empty() {
        ENTITY_LABELS.map(str::to_owned).to_vec()
    } else {
        args.key_label.clone()
    };
    let mut dumps = Vec::new();
    // Folders, patterns and topics are many dumps of one input.
    let mut inputs_of: Vec<&Input> = Vec::new();
    for input in &inputs {
        let opened = open_each(&input.path, input.format, &labels, &|| Ok(connection.clone()))?;
        inputs_of.extend(opened.iter().map(|_| input));
        dumps.extend(opened);
    }
    topics_exist(&connection, &inputs)?;
    let sender = Sender::new(&connection).map_err(|e| CommandError::new(Exit::Config, e.to_string()))?;

    let sizes: Option<u64> = dumps.iter().map(|d| d.bytes_total()).sum();
    let bar = bytes_bar("replay", sizes);
    let stop = interrupt::flag();
    let began = Instant::now();
    let mut sent = Sent::default();
    let ended = send(args, &inputs_of, dumps, &sender, &bar, &stop, &mut sent);
    bar.finish_and_clear();
    let flushed = sender.flush(FLUSH);
    let how = if stop.load(Ordering::Relaxed) { "stopped: " } else { "" };
    let elapsed = began.elapsed();
    note(&format!(
        "{how}{} records, {} bytes in {}",
        sent.records,
        sent.bytes,
        duration(elapsed)
    ));
    ended?;
    flushed.map_err(|e| CommandError::io("not everything arrived", e))
}

fn inputs(args: &ReplayArgs) -> Result<Vec<Input>, CommandError> {
    let no_format = |path: &Path| {
        let names: Vec<&str> = Format::ALL.iter().map(|f| f.name()).collect();
        CommandError::new(Exit::Usage, format!("the format of {} is not known", path.display()))
            .expected(format!("--format with one of {}", names.join(", ")))
    };
    let mut inputs = Vec::new();
    for path in &args.files {
        inputs.push(Input {
            topic: args.topic.clone().unwrap_or_default(),
            path: path.clone(),
            format: args.format.ok_or_else(|| no_format(path))?,
        });
    }
    for text in &args.inputs {
        let Some((topic, rest)) = text
            .split_once('=')
            .filter(|(topic, rest)| !topic.is_empty() && !rest.is_empty())
        else {
            return Err(CommandError::new(Exit::Usage, format!("{text:?} is no input"))
                .expected("TOPIC=FILE or TOPIC=FILE:FORMAT"));
        };
        let own = rest
            .rsplit_once(':')
            .and_then(|(path, name)| Some((path, name.parse().ok()?)));
        let (path, format) = match own {
            Some((path, format)) => (PathBuf::from(path), format),
            None => {
                let path = PathBuf::from(rest);
                let format = args.format.ok_or_else(|| no_format(&path))?;
                (path, format)
            }
        };
        inputs.push(Input {
            topic: topic.to_owned(),
            path,
            format,
        });
    }
    if inputs.is_empty() {
        return Err(CommandError::new(Exit::Usage, "there is nothing to send")
            .expected("--topic TOPIC FILE…, or --input TOPIC=FILE:FORMAT"));
    }
    if let Some(raw) = inputs.iter().find(|i| args.shift_to_now && !is_movable(i.format)) {
        return Err(CommandError::new(
            Exit::Usage,
            format!(
                "the times in {} can't be moved: it is {}",
                raw.path.display(),
                raw.format
            ),
        )
        .expected("--shift-to-now with telegraf_json, plain_json, log_json and incident_json alone"));
    }
    Ok(inputs)
}

fn connection(args: &ReplayArgs) -> Result<ConnectionSettings, CommandError> {
    match (&args.config, &args.brokers) {
        (Some(file), _) => Ok(config::load_connection(file)?),
        (None, Some(brokers)) => Ok(ConnectionSettings::plain(brokers)),
        (None, None) => Err(CommandError::new(Exit::Usage, "no brokers are named").expected("--brokers or --config")),
    }
}

/// A client that writes to a topic which is not there says so only to itself, so it is asked for before.
fn topics_exist(connection: &ConnectionSettings, inputs: &[Input]) -> Result<(), CommandError> {
    let names: Vec<&str> = inputs.iter().map(|i| i.topic.as_str()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CommandError::io("brokers can't be asked", e))?;
    let view = runtime
        .block_on(look(connection, &names))
        .map_err(|e| CommandError::unreached(connection, &e))?;
    for topic in &view.topics {
        if let Err(why) = &topic.partitions {
            return Err(CommandError::new(Exit::Io, format!("topic {:?}: {why}", topic.name))
                .expected("a topic that is there; none is made on the way"));
        }
    }
    Ok(())
}

/// When a record is due.
struct Pace {
    speed: Speed,
    /// Where event time and this machine's time met.
    met: Option<(Timestamp, Instant)>,
}

impl Pace {
    /// Waits until the record of `at` is due; false when it was told to stop.
    fn wait(&mut self, at: Timestamp, stop: &AtomicBool) -> bool {
        if let Speed::Times(times) = self.speed {
            let (first, began) = *self.met.get_or_insert_with(|| (at, Instant::now()));
            let due = after(began, at - first, times);
            while !stop.load(Ordering::Relaxed) {
                let left = due.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                std::thread::sleep(left.min(NAP));
            }
        }
        !stop.load(Ordering::Relaxed)
    }
}

#[allow(clippy::cast_precision_loss)] // milliseconds between real times are below 2^53
fn after(began: Instant, event_ms: Millis, times: f64) -> Instant {
    let wait = Duration::try_from_secs_f64(event_ms.max(0) as f64 / 1_000.0 / times);
    wait.ok().and_then(|wait| began.checked_add(wait)).unwrap_or(began)
}

fn send(
    args: &ReplayArgs,
    inputs: &[&Input],
    dumps: Vec<Dump>,
    sender: &Sender,
    bar: &ProgressBar,
    stop: &AtomicBool,
    sent: &mut Sent,
) -> Result<(), CommandError> {
    let mut pace = Pace {
        speed: args.speed,
        met: None,
    };
    let mut by: Option<Millis> = None;
    let mut merged = merge(dumps);
    while let Some(record) = merged.next() {
        let (place, record) = record.map_err(|e| of_dump(&e))?;
        let input = inputs[place];
        if !pace.wait(record.at, stop) {
            break;
        }
        let (mut at, mut payload) = (record.at, record.payload);
        if args.shift_to_now {
            // Whole seconds, because that is what some formats write.
            let by = *by.get_or_insert_with(|| (now() - record.at).div_euclid(1_000) * 1_000);
            at = at + by;
            payload = shift(&payload, input.format, by).unwrap_or(payload);
        }
        sender
            .send(&input.topic, record.key.as_bytes(), &payload, Some(at))
            .map_err(|e| CommandError::io(format!("topic {:?} can't be written", input.topic), e))?;
        sent.records += 1;
        sent.bytes += payload.len() as u64;
        if sent.records.is_multiple_of(256) || args.speed != Speed::Max {
            bar.set_position(merged.dumps().iter().map(|d| d.bytes_taken()).sum());
        }
    }
    Ok(())
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds() {
        let cases = [
            ("1", Some(Speed::Times(1.0))),
            ("0.5", Some(Speed::Times(0.5))),
            ("max", Some(Speed::Max)),
        ];
        for (text, expected) in cases {
            assert_eq!(speed(text).ok(), expected, "{text}");
        }
        for text in ["0", "-1", "nan", "inf", "", "Max"] {
            assert!(speed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn records_are_due_by_their_distance_from_the_first() {
        let began = Instant::now();
        let cases = [(60_000, 60.0, 1_000), (0, 1.0, 0), (-5_000, 1.0, 0), (10, 0.5, 20)];
        for (event_ms, times, wall_ms) in cases {
            assert_eq!(
                after(began, event_ms, times) - began,
                Duration::from_millis(wall_ms),
                "{event_ms} at {times}"
            );
        }
        assert_eq!(after(began, i64::MAX, 0.001), began, "what can't be waited for is not");
    }
}
