//! A recorded incident through the real pipeline, in one process: an embedded broker, the same workers as `run`, and a reader that
//! prints the events as they come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use foreshock_domain::text::printable;
use foreshock_domain::{Event, EventAction, EventKind, Resolution, Timestamp};
use foreshock_kafka::{Cadence, ConnectionSettings, EmbeddedBroker, Received, Sender, TopicReader};
use foreshock_wire::{event, time};

use crate::commands::recording::{Recorded, Recording};
use crate::config::{Config, Secrets};
use crate::error::{CommandError, Exit};
use crate::interrupt;
use crate::screen::{Paint, Style, print};
use crate::service::{Plan, Workers};
use crate::vitals::Vitals;

/// After the last record was sent, the pipeline has this long to say something more.
const QUIET: Duration = Duration::from_secs(4);
/// The first member of a group waits for others; a broker gives it its partitions after some seconds.
const JOIN_MAX: Duration = Duration::from_secs(30);
/// Partitions of each input topic.
const PARTITIONS: i32 = 2;

/// Arguments of `foreshock demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  foreshock demo                    the whole recording, about half a minute
  foreshock demo --speed 30         slower, to watch it
  foreshock demo --duration 10s     no longer than that

Needs nothing installed: the Kafka broker is inside this process. Ends by itself; exit code 0 when a precursor was told
before the failure, 1 when not.")]
pub struct DemoArgs {
    /// How many times faster than it happened
    #[arg(long, default_value_t = 120.0, value_parser = speed)]
    pub speed: f64,

    /// End after this much time even if the recording is not over, such as 30s or 2m
    #[arg(long, value_name = "TIME", value_parser = crate::config::duration)]
    pub duration: Option<Duration>,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if (1.0..=1_000.0).contains(&x) => Ok(x),
        _ => Err("expected a number from 1 to 1000".into()),
    }
}

/// The command.
///
/// # Errors
/// When nothing was foretold, or this machine gives no port or thread.
pub fn execute(args: &DemoArgs) -> Result<(), CommandError> {
    let stop = interrupt::flag();
    let recording = Recording::load()?;
    let mut config = Config::parse("foreshock.toml".as_ref(), recording.config, Secrets::Leave)?;
    let broker = start_broker(&config).map_err(|e| CommandError::io("the embedded broker can't start", e))?;
    config.connection = ConnectionSettings::plain(&broker.bootstrap_servers());
    let paint = Paint::for_stdout();
    introduce(&recording, args.speed, paint)?;

    // Event time as the recording has it, so that ticks fit the records.
    let now = Arc::new(AtomicI64::new(recording.first().as_millis()));
    let vitals = Arc::new(Vitals::new(1));
    let workers = start_workers(&config, &vitals, &now, args.speed)?;
    let reader = TopicReader::new(&config.connection, &[&config.topics.anomalies, &config.topics.failures])
        .map_err(|e| CommandError::io("the embedded broker can't be read", e))?;
    let sender = Sender::new(&config.connection).map_err(|e| CommandError::io("the embedded broker", e))?;
    wait_until_ready(&vitals, &stop)?;
    let sent = Arc::new(AtomicBool::new(false));
    let replay = {
        let (stop, sent, records, speed) = (Arc::clone(&stop), Arc::clone(&sent), recording.records, args.speed);
        thread::spawn(move || {
            let done = replay(&records, &sender, &now, speed, &stop);
            sent.store(true, Ordering::Relaxed);
            done
        })
    };
    let told = watch(&reader, &stop, &sent, args.duration, paint);
    let interrupted = stop.load(Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    let replayed = replay.join();
    tracing::debug!(vitals = vitals.prometheus(), "has replayed");
    let _ = workers.stop(Duration::from_secs(10));
    let told = told?;
    if let Ok(Err(error)) = replayed {
        return Err(CommandError::io("the recording can't be replayed", error));
    }
    if interrupted {
        return Err(CommandError::new(
            Exit::Interrupted,
            "stopped before the recording was over",
        ));
    }
    conclude(&told, paint)
}

fn start_broker(config: &Config) -> Result<EmbeddedBroker, foreshock_kafka::KafkaError> {
    let t = &config.topics;
    let inputs = t.inputs.iter().map(|name| (name.as_str(), PARTITIONS));
    let own = [
        (&t.signals, 2),
        (&t.anomalies, 1),
        (&t.failures, 1),
        (&t.ledger, 1),
        (&t.dead_letters, 1),
        (&t.state, 1),
    ];
    let topics: Vec<(&str, i32)> = inputs.chain(own.map(|(name, n)| (name.as_str(), n))).collect();
    EmbeddedBroker::start(&topics)
}

/// One worker, whose intervals are as much shorter as the replay is faster.
fn start_workers(
    config: &Config,
    vitals: &Arc<Vitals>,
    now: &Arc<AtomicI64>,
    speed: f64,
) -> Result<Workers, CommandError> {
    let mut settings = config.log_settings(0);
    let faster = |d: Duration| d.div_f64(speed).max(Duration::from_millis(40));
    settings.cadence = Cadence {
        epoch: faster(settings.cadence.epoch),
        tick: faster(settings.cadence.tick),
        snapshot: settings.cadence.snapshot,
    };
    let now = Arc::clone(now);
    let clock = Arc::new(move || Timestamp::from_millis(now.load(Ordering::Relaxed)));
    let plan = Plan {
        engine: config.engine.clone(),
        logs: vec![settings],
        clock,
    };
    Workers::start(plan, vitals).map_err(|e| CommandError::io("no thread can be started", e))
}

/// Replaying faster than life, a few seconds before the pipeline listens would be half an hour of records.
fn wait_until_ready(vitals: &Vitals, stop: &AtomicBool) -> Result<(), CommandError> {
    let began = Instant::now();
    while !vitals.is_ready() && !stop.load(Ordering::Relaxed) {
        if began.elapsed() > JOIN_MAX {
            return Err(CommandError::new(
                Exit::Io,
                "the pipeline did not get its partitions from the embedded broker",
            )
            .help("this machine seems to be very busy; try again"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Sends every record when its time has come.
fn replay(
    records: &[Recorded],
    sender: &Sender,
    now: &AtomicI64,
    speed: f64,
    stop: &AtomicBool,
) -> Result<(), foreshock_kafka::KafkaError> {
    let Some(first) = records.first() else { return Ok(()) };
    let began = Instant::now();
    for record in records {
        let due = began + Duration::from_secs_f64((record.at.as_secs_f64() - first.at.as_secs_f64()) / speed);
        while let Some(wait) = due.checked_duration_since(Instant::now()) {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            thread::sleep(wait.min(Duration::from_millis(20)));
        }
        now.fetch_max(record.at.as_millis(), Ordering::Relaxed);
        sender.send(record.topic, record.key.as_bytes(), &record.payload, Some(record.at))?;
    }
    sender.flush(Duration::from_secs(10))
}

fn introduce(recording: &Recording, speed: f64, paint: Paint) -> Result<(), CommandError> {
    let span = Duration::from_secs_f64(recording.last().as_secs_f64() - recording.first().as_secs_f64());
    print(&format!(
        "{}\n{} Replayed {speed} times faster through the real pipeline; the Kafka broker is inside this process.\n\
         It has seen nothing before: what is normal is learned from the first record on.\n\n{}\n",
        paint.with(Style::Strong, "Foreshock demo"),
        recording.what,
        paint.with(
            Style::Strong,
            &format!("{} minutes of records, times in UTC", (span.as_secs() + 30) / 60)
        ),
    ))
}

/// Prints events until the recording is over and nothing more comes.
fn watch(
    reader: &TopicReader,
    stop: &AtomicBool,
    sent: &AtomicBool,
    limit: Option<Duration>,
    paint: Paint,
) -> Result<Vec<Event>, CommandError> {
    let began = Instant::now();
    let (mut told, mut last_heard) = (Vec::new(), Instant::now());
    loop {
        if let Some(received) = reader.next(Duration::from_millis(50)) {
            last_heard = Instant::now();
            told.extend(show(&received, paint)?);
        }
        if !sent.load(Ordering::Relaxed) {
            last_heard = last_heard.max(Instant::now() - Duration::from_millis(1));
        }
        let over = last_heard.elapsed() > QUIET || limit.is_some_and(|limit| began.elapsed() > limit);
        if over || stop.load(Ordering::Relaxed) {
            return Ok(told);
        }
    }
}

fn clock(at: Timestamp) -> String {
    time::format_rfc3339(at).get(11..19).unwrap_or_default().to_owned()
}

fn minutes(seconds: f64) -> String {
    let whole = seconds.round().max(0.0);
    format!("{} min {} s", (whole / 60.0).floor(), whole % 60.0)
}

fn show(received: &Received, paint: Paint) -> Result<Option<Event>, CommandError> {
    let Ok(event) = event::decode(&received.payload) else {
        return Err(CommandError::new(
            Exit::Data,
            "an event that can't be read came out of the pipeline",
        ));
    };
    print(&said(&event, paint))?;
    Ok(Some(event))
}

/// An event as one line. What strangers wrote, a log line in the reason and the entity's name, can't speak to the terminal.
fn said(event: &Event, paint: Paint) -> String {
    let action = match event.action {
        EventAction::Open => "opens",
        EventAction::Update => "grows",
        EventAction::Resolve => "ends",
    };
    let head = match event.kind {
        EventKind::Precursor => paint.with(Style::Doubtful, &format!("PRECURSOR {action:<6}")),
        EventKind::Failure => paint.with(Style::Bad, &format!("FAILURE   {action:<6}")),
    };
    let detail = match (&event.precursor, &event.failure) {
        (Some(p), _) if event.action == EventAction::Resolve => match p.resolution {
            Some(Resolution::Confirmed) => {
                format!("confirmed: the failure came {} later", minutes(p.lead_s.unwrap_or(0.0)))
            }
            Some(Resolution::Symptom) => "the failure had begun before".to_owned(),
            Some(Resolution::Mitigated) => "planned work began".to_owned(),
            Some(Resolution::Silent) => "nothing heard any more".to_owned(),
            Some(Resolution::Quiet) | None => "back to normal".to_owned(),
        },
        (Some(_), _) => format!("surprise {:.1}: {}", event.score.surprise(), event.why),
        (None, Some(_)) if event.action == EventAction::Resolve => "it does its job again".to_owned(),
        (None, _) => event.why.clone(),
    };
    let entity = paint.with(Style::Strong, &printable(event.entity.as_str()));
    let detail = printable(&detail);
    format!("{}  {head} {entity}  {detail}\n", clock(event.observed_at))
}

/// What it comes to: was the failure foretold, and what was a false alarm?
fn conclude(told: &[Event], paint: Paint) -> Result<(), CommandError> {
    let opened = |kind: EventKind| {
        told.iter()
            .filter(move |e| e.kind == kind && e.action == EventAction::Open)
    };
    let mut foretold = false;
    let mut text = String::from("\n");
    for failure in opened(EventKind::Failure) {
        let before = failure.failure.as_ref().and_then(|f| f.preceded_by.first());
        let name = paint.with(Style::Strong, &printable(failure.entity.as_str()));
        match before {
            Some(warning) => {
                foretold = true;
                let ahead = paint.with(Style::Good, &format!("{} before", minutes(warning.lead_s)));
                let (warned, failed) = (clock(warning.warned_at), clock(failure.started_at));
                text += &format!("{name} failed at {failed}. Foreshock warned at {warned}: {ahead}.\n");
            }
            None => {
                text += &format!(
                    "{name} failed at {}, and nothing foretold it.\n",
                    clock(failure.started_at)
                );
            }
        }
    }
    let failed: Vec<_> = opened(EventKind::Failure).map(|e| &e.entity).collect();
    let others = opened(EventKind::Precursor)
        .filter(|e| !failed.contains(&&e.entity))
        .count();
    text += &match others {
        0 => "No alarm about the instances that stayed healthy.\n".to_owned(),
        1 => "One alarm about an instance that stayed healthy.\n".to_owned(),
        n => format!("{n} alarms about the instances that stayed healthy.\n"),
    };
    print(&text)?;
    if foretold {
        return Ok(());
    }
    Err(CommandError::new(Exit::NotFound, "no failure was foretold")
        .help("without --duration the whole recording is replayed; a very busy machine may need a lower --speed"))
}

#[cfg(test)]
mod tests {
    use foreshock_domain::text::is_unprintable;
    use foreshock_domain::{Entity, EventId, IncidentId, Score, Severity};

    use super::*;

    #[test]
    fn what_strangers_wrote_does_not_speak_to_the_terminal() {
        let hostile = "\u{1b}]0;owned\u{7}\u{1b}[2J\nFAILURE opens db\u{9b}1A\u{202e}";
        let at = Timestamp::from_secs(1_769_860_800);
        let paint = Paint::for_stdout();
        for action in [EventAction::Open, EventAction::Update, EventAction::Resolve] {
            for kind in [EventKind::Precursor, EventKind::Failure] {
                let event = Event {
                    kind,
                    action,
                    incident_id: IncidentId(1),
                    event_id: EventId(1),
                    seq: 0,
                    entity: Entity::new(hostile),
                    started_at: at,
                    observed_at: at,
                    ended_at: None,
                    severity: Severity::Warning,
                    score: Score::ZERO,
                    contributors: Vec::new(),
                    position: None,
                    why: format!("1 line: {hostile}"),
                    precursor: None,
                    failure: None,
                };
                let said = said(&event, paint);
                let line = said.strip_suffix('\n').expect("a line");
                // Colours are ours; a test has no terminal, and so none.
                assert!(!line.contains(is_unprintable), "{line:?}");
            }
        }
    }
}
