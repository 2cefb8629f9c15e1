//! Learning from dumps and failures: the work is in `foreshock_history::train`, here are arguments, the registry, and what is said
//! at the end.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use foreshock_domain::Timestamp;
use foreshock_failure::predict::key_of;
use foreshock_history::dump::DumpError;
use foreshock_history::train::paired::paired;
use foreshock_history::train::registry::{self, Manifest};
use foreshock_history::train::resume::{Resume, Stopped};
use foreshock_history::train::{Progress, TrainError, Trained, Training};
use foreshock_wire::time::format_rfc3339;

use super::backtest::{share, time};
use super::dumps::{ENDINGS, dumps, labels, leaves_room, of_dump};
use crate::config::{Config, Secrets};
use crate::error::{CommandError, Exit};
use crate::interrupt;
use crate::model::of_registry;
use crate::screen::{Paint, Style, bytes_bar, duration, note, print, steps_bar, table};

/// Arguments of `foreshock train`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  foreshock train --config foreshock.toml --metrics metrics.jsonl.zst --logs logs.jsonl.zst \\
      --failures failures.csv --lead 5m --horizon 1h --output models/shop
  foreshock train --config foreshock.toml --metrics dumps/ --failures failures.csv \\
      --until 2026-03-01 --output models/shop
  foreshock backtest --config foreshock.toml --model models/shop --metrics dumps/ \\
      --failures failures.csv --from 2026-03-01

Learns how probable a failure is within --horizon, from the history of metrics, logs or both, and
ends with an examination: the last fifth of the failures, foreseen by a model of the time before.
Dumps and failures are named as for `backtest`.

OUTPUT/1, OUTPUT/2, ... are versions: model.json, manifest.json, MODEL_CARD.md. OUTPUT/current names
the version in use: the first, and later ones that were better on what neither had seen. To go back,
write the number before into it.

Ctrl-C stops it and keeps how far it got, as does a crash by at most two minutes; the same command
goes on there.")]
pub struct TrainArgs {
    /// Configuration, as for `run`; brokers are asked for ranges of topics alone
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Dumps of metrics
    #[arg(long, value_name = "[TOPIC=]DUMP", num_args = 1..)]
    metrics: Vec<String>,

    /// Dumps of logs
    #[arg(long, value_name = "[TOPIC=]DUMP", num_args = 1..)]
    logs: Vec<String>,

    /// Failures that happened: CSV or JSON Lines of entity,class,onset,end
    #[arg(long, value_name = "FILE")]
    failures: PathBuf,

    /// Folder of the model's versions
    #[arg(long, value_name = "DIR")]
    output: PathBuf,

    /// See nothing of this time or later
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,

    /// Least lead that is worth something
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = crate::config::duration)]
    lead: Duration,

    /// How far ahead to look
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = crate::config::duration)]
    horizon: Duration,

    /// Class of failures that nobody can foretell: not learned from; may be given many times
    #[arg(long, value_name = "CLASS")]
    apart: Vec<String>,

    /// Begin anew where the same training was stopped before
    #[arg(long)]
    anew: bool,

    /// Put the new version into use even where it was not found to be better
    #[arg(long)]
    promote: bool,
}

/// The command.
///
/// # Errors
/// 64 where it is not said what to read, 65 where dumps or failures are not what they should be or too few to learn from, 74 where
/// files fail, 78 where the configuration is wrong, 130 where it was stopped. Nothing is left half-written.
pub fn execute(args: &TrainArgs) -> Result<(), CommandError> {
    leaves_room(args.lead, args.horizon)?;
    let config = Config::load(&args.config, Secrets::Leave)?;
    let mut labels = labels(&args.failures)?;
    if let Some(until) = args.until {
        // What happened later is not known yet.
        labels.failures.retain(|f| f.onset < until);
    }
    let merged = labels.merged;
    let dumps = dumps(&args.metrics, &args.logs, &args.config, &config)?;
    let millis = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
    let training = Training {
        config: config.engine,
        dumps,
        labels,
        apart: args.apart.clone(),
        horizon_ms: millis(args.horizon),
        lead_ms: millis(args.lead),
        until: args.until.unwrap_or(Timestamp::LATEST),
        resume: Some(left_before(args)?),
    };
    let began = Instant::now();
    let trained = learn(training, &args.output)?;
    let in_use = registry::current(&args.output).map_err(|e| of_registry(&e))?;
    let compared = in_use
        .map(|version| compare(&args.output, version, &trained))
        .transpose()?;
    let manifest = manifest(args, &trained, compared.flatten());
    let version = registry::add(&args.output, &trained.model, &manifest).map_err(|e| of_registry(&e))?;
    let is_better = manifest.paired.is_some_and(|p| p.low > 0.0);
    let promotes = args.promote || in_use.is_none() || is_better;
    // The model is written; a file that stays behind is of no harm.
    let _ = Resume::new(&args.output, String::new()).done();
    if promotes {
        registry::promote(&args.output, version).map_err(|e| of_registry(&e))?;
    }
    if merged > 0 {
        note(&format!("{merged} labels were part of another failure"));
    }
    print(&summary(&manifest, &trained, began.elapsed(), Paint::for_stdout()))?;
    let dir = args.output.display();
    print(&match (promotes, in_use, manifest.paired) {
        (true, None, _) => format!("{dir}/{version} is written and in use\n"),
        (true, Some(old), _) => format!("{dir}/{version} is written and in use instead of {old}\n"),
        (false, Some(old), Some(p)) => format!(
            "{dir}/{version} is written; {old} stays in use: on what neither had seen the new one gains {:.4} nats a window (95 %: \
             {:.4} to {:.4})\n",
            p.gain, p.low, p.high
        ),
        (false, old, _) => format!(
            "{dir}/{version} is written; {} stays in use: too little that neither has seen to compare them; --promote puts the new one \
             into use\n",
            old.unwrap_or(0)
        ),
    })
}

/// What an earlier run of the same training left when it was stopped.
fn left_before(args: &TrainArgs) -> Result<(Resume, Option<Stopped>), CommandError> {
    let resume = Resume::new(&args.output, what_it_is_of(args)?);
    if args.anew {
        return Ok((resume, None));
    }
    let left = match resume.find() {
        Ok(left) => left,
        Err(error) => {
            note(&format!(
                "what a stopped training left in {} can't be read ({error}): it begins anew",
                args.output.display()
            ));
            None
        }
    };
    if let Some(left) = &left {
        note(&format!(
            "goes on where it was stopped, after {} records; --anew begins anew",
            left.records()
        ));
    }
    Ok((resume, left))
}

/// All that makes this training what it is: arguments, configuration, failures, and each file by its size and when it was written.
fn what_it_is_of(args: &TrainArgs) -> Result<String, CommandError> {
    let text = |path: &Path| {
        std::fs::read(path).map_err(|e| CommandError::new(Exit::Io, format!("{} can't be read: {e}", path.display())))
    };
    let mut of = format!(
        "{} {:?} {:?} {:?} {:?} {:?} {:?}",
        env!("CARGO_PKG_VERSION"),
        args.metrics,
        args.logs,
        args.until,
        args.lead,
        args.horizon,
        args.apart
    );
    for path in [&args.config, &args.failures] {
        of += &format!(" {:016x}", key_of(&String::from_utf8_lossy(&text(path)?)));
    }
    for file in files(&args.metrics).chain(files(&args.logs)) {
        if let Ok(about) = std::fs::metadata(&file) {
            let written = about.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            of += &format!(" {file}:{}:{}", about.len(), written.unwrap_or_default().as_nanos());
        }
    }
    Ok(of)
}

/// What may be files, with the topic before it and without.
fn files(named: &[String]) -> impl Iterator<Item = String> {
    let paths = named.iter().flat_map(|text| {
        let after = text.split_once('=').map(|(_, path)| path);
        [Some(text.as_str()), after].into_iter().flatten()
    });
    let inside = paths.flat_map(|path| {
        let found = foreshock_history::inputs::expand(&[PathBuf::from(path)], &ENDINGS, Path::new(""));
        found
            .unwrap_or_default()
            .into_iter()
            .map(|i| i.path.display().to_string())
    });
    inside.collect::<Vec<_>>().into_iter()
}

fn learn(training: Training, output: &Path) -> Result<Trained, CommandError> {
    let sizes: Option<u64> = training.dumps.iter().map(|(_, d)| d.bytes_total()).sum();
    let reading = bytes_bar("read", sizes);
    let fitting = steps_bar("fit");
    let stop = interrupt::flag();
    let trained = training.run(&mut |progress| {
        match progress {
            Progress::Reading(dumps) => reading.set_position(dumps.iter().map(|d| d.bytes_taken()).sum()),
            Progress::Fitting(done, all) => {
                reading.finish_and_clear();
                fitting.set_length(all as u64);
                fitting.set_position(done as u64);
            }
        }
        !stop.load(Ordering::Relaxed)
    });
    reading.finish_and_clear();
    fitting.finish_and_clear();
    if let Err(TrainError::TooFew { .. } | TrainError::TooLittle) = &trained {
        // There is nothing to go on with. The folder goes too, where it holds nothing else.
        let _ = Resume::new(output, String::new()).done();
        let _ = std::fs::remove_dir(output);
    }
    trained.map_err(|error| match error {
        TrainError::Dump(error @ DumpError::Mark(_)) => of_dump(&error).at(output.display().to_string()),
        TrainError::Dump(error) => of_dump(&error),
        TrainError::Stopped => CommandError::new(Exit::Interrupted, error.to_string()).help(format!(
            "no model was written; the same command goes on where it was: {} keeps how far it got",
            output.display()
        )),
        TrainError::TooFew { .. } => CommandError::new(Exit::Data, error.to_string()).help(
            "without failures to learn from `foreshock run` needs no training: it learns what is usual as it goes",
        ),
        TrainError::TooLittle => CommandError::new(Exit::Data, error.to_string()),
    })
}

/// The new model against the one in use, on what neither has seen; `None` where that is too little.
fn compare(output: &Path, version: u32, trained: &Trained) -> Result<Option<registry::Paired>, CommandError> {
    let dir = output.join(version.to_string());
    let (old, manifest) = (
        registry::load(&dir).map_err(|e| of_registry(&e))?,
        registry::manifest(&dir).map_err(|e| of_registry(&e))?,
    );
    let seen_until = foreshock_wire::time::parse(&manifest.figures.data.1).unwrap_or(Timestamp::LATEST);
    Ok(paired(trained, &old, version, seen_until.max(trained.examined_from)))
}

fn manifest(args: &TrainArgs, trained: &Trained, paired: Option<registry::Paired>) -> Manifest {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    let inputs = args.metrics.iter().chain(&args.logs).cloned();
    let model = &trained.model;
    let seconds = |ms: i64| ms as f64 / 1e3;
    Manifest {
        hazard_version: model.version,
        foreshock: env!("CARGO_PKG_VERSION").to_owned(),
        trained_at: format_rfc3339(now),
        inputs: inputs.chain([args.failures.display().to_string()]).collect(),
        schema_hash: format!("{:016x}", model.schema.hash()),
        window_s: seconds(model.window_ms),
        horizon_s: seconds(model.horizon_ms),
        lead_s: seconds(model.lead_ms),
        apart: args.apart.clone(),
        figures: trained.figures.clone(),
        paired,
    }
}

fn summary(manifest: &Manifest, trained: &Trained, took: Duration, paint: Paint) -> String {
    let f = &manifest.figures;
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row(
            "learned from",
            format!(
                "{} failures of {} entities, {} windows, {} series and templates",
                f.failures, f.entities, f.windows, f.series
            ),
        ),
        row("model", format!("{}, at most {}", f.kind, losses(&f.log_loss))),
        row(
            "by window",
            format!(
                "average precision {:.3} (chance {:.3}), Brier score {:.4} (chance {:.4}), reliability error {:.3}",
                f.by_row.average_precision,
                f.by_row.base_rate,
                f.by_row.brier,
                f.by_row.brier_of_base_rate,
                f.by_row.reliability_error
            ),
        ),
    ];
    match &f.warnings {
        Some(w) => rows.extend([
            row("warned of", share(w.recall)),
            row("came true", share(w.precision)),
            row(
                "false warnings",
                format!(
                    "{:.2} a day and entity, where p is at least {}",
                    w.false_per_entity_day, w.threshold
                ),
            ),
            row(
                "lead time",
                format!(
                    "{} median",
                    duration(Duration::try_from_secs_f64(w.lead_s).unwrap_or_default())
                ),
            ),
        ]),
        None => rows.push(row(
            "warnings",
            "none: no threshold kept the budget and was right four times of five before".into(),
        )),
    }
    if trained.model.points.iter().all(|p| p.right == 0) {
        rows.push(row(
            "note",
            "no warning of this model ever came true: it is not worth using".into(),
        ));
    }
    let head = format!(
        "{} to {}, examined from {} on, in {}",
        f.data.0,
        f.data.1,
        f.parts.last().map_or("", String::as_str),
        duration(took)
    );
    format!("{}\n{}\n", paint.with(Style::Strong, &head), table(&rows))
}

/// `mean 0.21, linear 0.23, trees 0.24 nats a window`.
fn losses(of: &[(String, f64)]) -> String {
    let mut of = of.to_vec();
    of.sort_by(|a, b| a.1.total_cmp(&b.1));
    let each: Vec<String> = of.iter().map(|(kind, loss)| format!("{kind} {loss:.3}")).collect();
    format!("{} nats a window", each.join(", "))
}
