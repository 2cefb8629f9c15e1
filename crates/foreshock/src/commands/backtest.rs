//! Labelled history through the engine of `run`: the replay and the evaluation are in `foreshock_history::backtest`, here are
//! arguments, what belongs to which source, and what is said at the end.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use foreshock_domain::Timestamp;
use foreshock_domain::text::printable;
use foreshock_engine::TopicId;
use foreshock_history::backtest::evaluate::{Figures, Share, Terms};
use foreshock_history::backtest::{Backtest, BacktestError, Backtested, Sink, whole};
use foreshock_history::dump::Dump;
use foreshock_history::labels::Labels;
use foreshock_history::train::judge::RowFigures;

use super::dumps::{dumps, labels, leaves_room, of_dump};
use crate::config::{Config, Secrets};
use crate::error::{CommandError, Exit};
use crate::interrupt;
use crate::model;
use crate::screen::{Paint, Style, bytes_bar, duration, note, print, table};

/// Arguments of `foreshock backtest`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  foreshock backtest --config foreshock.toml --metrics metrics.jsonl.zst --logs logs.jsonl.zst --failures failures.csv \\
      --report out.html --json out.json
  foreshock backtest --config foreshock.toml --metrics dumps/ --failures failures.csv --from 2026-02-01 --lead 5m --horizon 6h
  foreshock backtest --config foreshock.toml --logs app.log --events events.jsonl      failures by the configured rules
  foreshock backtest --config foreshock.toml --metrics kafka:metrics@2026-01-01..2026-02-01 --failures failures.csv

Dumps are files, folders, patterns, or - for standard input; plain, .gz or .zst: JSON Lines or raw log lines in the format of the
source they belong to; CSV or Parquet of metrics for a source of plain_json (timestamp, label columns such as host or entity, one
column a metric; or series,value); Parquet of log lines for one of log_json. Or a range of a topic, kafka:TOPIC@FROM..TO, each side
an offset, a time or nothing. They go to the first source of their kind in the configuration, or with TOPIC= to that one. Failures
are CSV or JSON Lines: entity,class,onset,end (`end` may be empty).

A failure is foretold where a precursor of its entity opens or grows from --horizon to --lead before its onset. A precursor is
false where no failure of its entity follows within --horizon. Nothing is point-adjusted.")]
pub struct BacktestArgs {
    /// Configuration, as for `run`; brokers are asked for ranges of topics alone
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Model that `train` wrote, and whose warnings are judged; without, that of the configuration, if it names one
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// Dumps of metrics
    #[arg(long, value_name = "[TOPIC=]DUMP", num_args = 1..)]
    metrics: Vec<String>,

    /// Dumps of logs
    #[arg(long, value_name = "[TOPIC=]DUMP", num_args = 1..)]
    logs: Vec<String>,

    /// Failures that happened; without, those that the configured rules see
    #[arg(long, value_name = "FILE")]
    failures: Option<PathBuf>,

    /// Page to write, in HTML
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// The same figures to write, in JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Every event to write as it would be produced, one a line
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,

    /// Every prediction of the model to write, in CSV: entity,timestamp,horizon_s,probability
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,

    /// Score from this time on; what came before is learned from
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Timestamp>,

    /// Read up to this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,

    /// Least lead that is worth something
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = crate::config::duration)]
    lead: Duration,

    /// How far ahead a warning counts
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = crate::config::duration)]
    horizon: Duration,

    /// Class of failures that nobody can foretell: shown apart, and in no total; may be given many times
    #[arg(long, value_name = "CLASS")]
    apart: Vec<String>,
}

pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    let day = format!("{text} 00:00:00");
    let parsed = foreshock_wire::time::parse(text).or_else(|| foreshock_wire::time::parse(&day));
    parsed.ok_or_else(|| "expected a time such as 2026-01-31, 2026-01-31T10:00:00Z or an epoch number".into())
}

/// The command.
///
/// # Errors
/// 64 where it is not said what to read, 65 where a dump or the failures are not what they should be, 74 where files fail, 78
/// where the configuration is wrong. Nothing is left half-written.
pub fn execute(args: &BacktestArgs) -> Result<(), CommandError> {
    leaves_room(args.lead, args.horizon)?;
    let mut config = Config::load(&args.config, Secrets::Leave)?;
    let labels = args.failures.as_deref().map(labels).transpose()?;
    let dumps = dumps(&args.metrics, &args.logs, &args.config, &config)?;
    config.model = args.model.clone().or(config.model);
    model::of_config(&mut config)?;
    if config.engine.predictor.is_none() && args.predictions.is_some() {
        return Err(CommandError::new(Exit::Usage, "--predictions without --model").expected("a model that predicts"));
    }
    let millis = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
    let terms = Terms {
        lead_ms: millis(args.lead),
        horizon_ms: millis(args.horizon),
        from: args.from.unwrap_or(Timestamp::MIN),
        apart: args.apart.clone(),
        budget_per_day: config.engine.alarms.budget.false_alarms_per_day,
    };
    let began = Instant::now();
    let done = with_sink(args.events.as_deref(), |events| {
        with_sink(args.predictions.as_deref(), |predictions| {
            replay(args, &config, dumps, labels, terms, Sinks { events, predictions })
        })
    })?;
    if let Some(path) = &args.json {
        done.write_json(path).map_err(|e| CommandError::io(path.display(), e))?;
    }
    if let Some(path) = &args.report {
        done.write_html(path).map_err(|e| CommandError::io(path.display(), e))?;
    }
    for (what, n) in done.oddities() {
        note(&format!("{n} {what}"));
    }
    print(&summary(&done, began.elapsed(), Paint::for_stdout()))
}

/// Does something with a file that has its name only once all is done, or with none.
fn with_sink<T>(
    path: Option<&Path>,
    act: impl FnOnce(Option<&mut BufWriter<File>>) -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    let Some(path) = path else { return act(None) };
    let mut done = None;
    let written = whole(path, |out| {
        done = Some(act(Some(out)));
        // What failed on the way is not left behind as if it were whole.
        match done {
            Some(Ok(_)) => Ok(()),
            _ => Err(std::io::ErrorKind::Interrupted.into()),
        }
    });
    match done {
        Some(Ok(done)) => written.map(|()| done).map_err(|e| CommandError::io(path.display(), e)),
        Some(Err(error)) => Err(error),
        None => {
            let why = written
                .err()
                .map_or_else(|| "not written".to_owned(), |e| e.to_string());
            Err(CommandError::io(path.display(), why))
        }
    }
}

/// What is written while it runs.
struct Sinks<'a> {
    events: Option<&'a mut BufWriter<File>>,
    predictions: Option<&'a mut BufWriter<File>>,
}

fn replay(
    args: &BacktestArgs,
    config: &Config,
    dumps: Vec<(TopicId, Dump)>,
    labels: Option<Labels>,
    terms: Terms,
    sinks: Sinks<'_>,
) -> Result<Backtested, CommandError> {
    let sizes: Option<u64> = dumps.iter().map(|(_, d)| d.bytes_total()).sum();
    let bar = bytes_bar("backtest", sizes);
    let stop = interrupt::flag();
    let backtest = Backtest {
        config: Arc::new(config.engine.clone()),
        dumps,
        labels,
        terms,
        until: args.until.unwrap_or(Timestamp::LATEST),
        events: sinks.events.map(|out| out as &mut dyn Write),
        predictions: sinks.predictions.map(|out| out as &mut dyn Write),
    };
    let done = backtest.run(&mut |dumps| {
        bar.set_position(dumps.iter().map(|d| d.bytes_taken()).sum());
        !stop.load(Ordering::Relaxed)
    });
    bar.finish_and_clear();
    done.map_err(|error| match error {
        BacktestError::Dump(error) => of_dump(&error),
        BacktestError::Write { sink, source } => {
            let path = match sink {
                Sink::Events => args.events.as_deref(),
                Sink::Predictions => args.predictions.as_deref(),
            };
            CommandError::io(path.unwrap_or(Path::new("")).display(), source)
        }
        BacktestError::Stopped => CommandError::new(Exit::Interrupted, error.to_string()).help("nothing was written"),
    })
}

pub(super) fn share(of: Share) -> String {
    match of.share {
        None => "none to count".into(),
        Some(share) => format!(
            "{:.0} %  ({} of {}, 95 %: {:.0} to {:.0} %)",
            share * 100.0,
            of.hits,
            of.of,
            of.low * 100.0,
            of.high * 100.0
        ),
    }
}

fn probabilities(c: &RowFigures) -> String {
    format!(
        "average precision {:.3} (chance {:.3}), Brier score {:.4} (chance {:.4}), reliability error {:.3}",
        c.average_precision, c.base_rate, c.brier, c.brier_of_base_rate, c.reliability_error
    )
}

/// The figures of one kind of precursor are above; this is what others came to.
fn in_short(f: &Figures) -> String {
    format!("{} foretold, {:.2} false a day", share(f.recall), f.false_per_day)
}

fn summary(done: &Backtested, took: Duration, paint: Paint) -> String {
    let f = &done.figures;
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let span = |s: f64| duration(Duration::try_from_secs_f64(s).unwrap_or_default());
    let lead = f.lead_s.map_or_else(
        || "nothing was foretold".to_owned(),
        |(low, median, high)| format!("{} median, 80 % between {} and {}", span(median), span(low), span(high)),
    );
    let mut rows = vec![
        row("foretold", share(f.recall)),
        row(
            "by chance",
            format!("{:.0} %  (p = {:.3})", f.chance_recall * 100.0, f.chance_p),
        ),
        row("precision", share(f.precision)),
        row(
            "false alarms",
            format!("{:.2} a day where {} are asked for", f.false_per_day, f.budget_per_day),
        ),
        row("lead time", lead),
    ];
    rows.extend(
        done.calibration
            .as_ref()
            .map(|c| row("probabilities", probabilities(c))),
    );
    rows.push(row("watch and above", in_short(&done.watched)));
    rows.extend(done.unusual.as_ref().map(|u| row("all precursors", in_short(u))));
    let mut classes = vec![
        ["class", "foretold", "median lead", "seen by own rules"]
            .map(str::to_owned)
            .to_vec(),
    ];
    classes.extend(f.classes.iter().map(|c| {
        let apart = if c.apart { " (apart)" } else { "" };
        vec![
            format!("{}{apart}", printable(&c.class)),
            format!("{} of {}", c.recall.hits, c.recall.of),
            c.lead_s_median.map_or_else(|| "-".into(), span),
            format!("{} of {}", c.seen.hits, c.seen.of),
        ]
    }));
    let mut text = format!(
        "{}\n{}\n{}",
        paint.with(
            Style::Strong,
            &format!(
                "{} to {}, {} entities, in {}",
                f.scored.0,
                f.scored.1,
                f.entities,
                duration(took)
            )
        ),
        table(&rows),
        table(&classes)
    );
    let left = &f.left_out;
    for (n, what) in [
        (
            left.before,
            "from before the scored part or before their entity was seen",
        ),
        (left.after, "from after the data"),
        (left.unknown_count, "of entities that the data does not have"),
        (left.merged, "that were part of another failure"),
    ] {
        if n > 0 {
            text += &format!("left out: {n} labels {what}\n");
        }
    }
    if !left.unknown.is_empty() {
        text += &format!("unknown entities: {}\n", printable(&left.unknown.join(", ")));
    }
    text
}
