use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use foreshock_history::inputs::{InputsError, expand, is_many};
use foreshock_history::score::{ScoreError, ScoreOptions, ScoreSummary, score};
use indicatif::ProgressBar;

use crate::error::{CommandError, Exit};
use crate::screen::{bytes_bar, duration, note};

/// Arguments of `foreshock score`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  foreshock score cpu.csv --output scores.csv
  foreshock score metrics.csv.zst --output scores.csv --per-series
  foreshock score day-1.csv day-2.csv --output scores/        a folder, one file for each
  foreshock score dumps/ --output scores/                     every .csv below a folder, under the same names
  foreshock score 'dumps/*/cpu-*.csv' --output scores/        a pattern
  kubectl logs exporter | foreshock score - --output scores.csv

Input: the first column is `timestamp` (RFC 3339, `YYYY-MM-DD HH:MM:SS` in UTC, or an epoch number); every other column is a
metric, or the columns are `series` and `value`. Empty cells, NaN and Inf are missing values. Plain, .gz or .zst.

Output: one row for each row of the input: `timestamp,score,alert_score`. A score is the surprise, -log10 p: on normal data a
row passes 3 one time in a thousand. `alert_score` is the score of rows where an event opens or escalates, else 0. The row for
time t depends on rows up to t alone.

Each file has fresh models of its own: its scores are those of a run by itself. A file that can't be scored is reported, and the
others are written all the same.")]
pub struct ScoreArgs {
    /// CSV files, folders or patterns; `-` is standard input
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,

    /// CSV to write; with several inputs a folder
    #[arg(short, long, value_name = "OUTPUT")]
    output: PathBuf,

    /// One more column for each metric
    #[arg(long)]
    per_series: bool,

    /// Files scored at a time [default: the machine's cores]
    #[arg(short, long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
}

/// What became of one file.
type Outcome = (Result<ScoreSummary, ScoreError>, Duration);

/// The command.
///
/// # Errors
/// 64 where inputs can't be told apart, 65 where one is not what was expected, 74 where files can't be read or written; no
/// output is left half-written, and those of other files are whole.
pub fn execute(args: &ScoreArgs) -> Result<(), CommandError> {
    let tasks = tasks(args)?;
    let sizes: Option<Vec<u64>> = tasks.iter().map(|t| size(&t.input)).collect();
    let name = match &tasks[..] {
        [one] => one.input.to_string_lossy().into_owned(),
        many => format!("{} files", many.len()),
    };
    let bar = bytes_bar(&name, sizes.map(|s| s.iter().sum()));
    let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let jobs = args.jobs.unwrap_or_else(cores).get().min(tasks.len());
    let outcomes = score_all(&tasks, jobs, &bar);
    bar.finish_and_clear();
    report(&tasks, outcomes)
}

/// Scores every file, `jobs` at a time, each with models of its own; outcomes stand in the order of the tasks.
fn score_all(tasks: &[ScoreOptions], jobs: usize, bar: &ProgressBar) -> Vec<Option<Outcome>> {
    let outcomes: Mutex<Vec<Option<Outcome>>> = Mutex::new(tasks.iter().map(|_| None).collect());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((i, task)) = tasks.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed)) {
            let (began, mut before) = (Instant::now(), 0);
            let scored = score(task, &mut |bytes| {
                bar.inc(bytes - before);
                before = bytes;
            });
            // A thread that died holding the lock left nothing half-done behind it.
            let mut outcomes = outcomes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            outcomes[i] = Some((scored, began.elapsed()));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs {
            scope.spawn(work);
        }
        work();
    });
    outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Tells what was written and what could not be, in the order of the command line.
fn report(tasks: &[ScoreOptions], outcomes: Vec<Option<Outcome>>) -> Result<(), CommandError> {
    let (mut failed, mut exit) = (Vec::new(), Exit::Data);
    for (task, outcome) in tasks.iter().zip(outcomes) {
        match outcome {
            Some((Ok(s), took)) => note(&format!(
                "{}: {} rows, {} series, {} alerts, {} missing values in {}",
                task.output.display(),
                s.rows,
                s.series,
                s.alerts,
                s.missing,
                duration(took)
            )),
            Some((Err(error), _)) => {
                if !error.is_bad_data() {
                    exit = Exit::Io;
                }
                failed.push(error.to_string());
            }
            // Only after a thread died, which then stops the scope too.
            None => failed.push(format!("{}: not scored", task.input.display())),
        }
    }
    let Some(last) = failed.pop() else { return Ok(()) };
    if tasks.len() == 1 {
        return Err(CommandError::new(exit, last));
    }
    let count = failed.len() + 1;
    for what in failed.into_iter().chain([last]) {
        CommandError::new(exit, what).report();
    }
    let what = format!(
        "{count} of {} files could not be scored; the others are written",
        tasks.len()
    );
    Err(CommandError::new(exit, what))
}

/// Each input and where its scores go.
fn tasks(args: &ScoreArgs) -> Result<Vec<ScoreOptions>, CommandError> {
    let task = |input: &Path, output: PathBuf| ScoreOptions {
        input: input.into(),
        output,
        per_series: args.per_series,
    };
    if let [input] = &args.inputs[..]
        && !args.output.is_dir()
        && !is_many(input)
    {
        return Ok(vec![task(input, args.output.clone())]);
    }
    let found = expand(&args.inputs, &["csv"], &args.output).map_err(|error| {
        let exit = match error {
            InputsError::Io { .. } => Exit::Io,
            InputsError::Empty { .. } => Exit::Usage,
        };
        CommandError::new(exit, error.to_string())
    })?;
    let mut outputs = std::collections::BTreeSet::new();
    let mut tasks = Vec::with_capacity(found.len());
    for input in &found {
        if input.name.as_os_str().is_empty() {
            let what = format!("{} has no name to write to in a folder", input.path.display());
            return Err(CommandError::new(Exit::Usage, what).expected("files, or one input and one output"));
        }
        let output = args.output.join(&input.name);
        if !outputs.insert(output.clone()) {
            return Err(
                CommandError::new(Exit::Usage, "two inputs would be written to the same file")
                    .at(output.display().to_string())
                    .expected("inputs of different names, or the folder that holds both"),
            );
        }
        let folder = output.parent().unwrap_or(&args.output);
        std::fs::create_dir_all(folder)
            .map_err(|e| CommandError::io(format!("{} can't be made a folder", folder.display()), e))?;
        tasks.push(task(&input.path, output));
    }
    Ok(tasks)
}

/// Size of a file, for its progress bar.
pub(super) fn size(path: &Path) -> Option<u64> {
    std::fs::metadata(path)
        .ok()
        .filter(std::fs::Metadata::is_file)
        .map(|m| m.len())
}
