use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use foreshock_history::score::{ScoreOptions, score};

use crate::error::{CommandError, Exit};
use crate::screen::{bytes_bar, duration, note};

/// Arguments of `foreshock score`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  foreshock score cpu.csv --output scores.csv
  foreshock score metrics.csv.zst --output scores.csv --per-series
  foreshock score day-1.csv day-2.csv --output scores/        a folder, one file for each
  kubectl logs exporter | foreshock score - --output scores.csv

Input: the first column is `timestamp` (RFC 3339, `YYYY-MM-DD HH:MM:SS` in UTC, or an epoch number); every other column is a
metric, or the columns are `series` and `value`. Empty cells, NaN and Inf are missing values. Plain, .gz or .zst.

Output: one row for each row of the input: `timestamp,score,alert_score`. A score is the surprise, -log10 p: on normal data a
row passes 3 one time in a thousand. `alert_score` is the score of rows where an event opens or escalates, else 0. The row for
time t depends on rows up to t alone.")]
pub struct ScoreArgs {
    /// CSV files; `-` is standard input
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,

    /// CSV to write; with several inputs a folder
    #[arg(short, long, value_name = "OUTPUT")]
    output: PathBuf,

    /// One more column for each metric
    #[arg(long)]
    per_series: bool,
}

/// The command.
///
/// # Errors
/// 65 where an input is not what was expected, 74 where files can't be read or written; no output is left half-written.
pub fn execute(args: &ScoreArgs) -> Result<(), CommandError> {
    for (input, output) in pairs(args)? {
        let options = ScoreOptions {
            input,
            output,
            per_series: args.per_series,
        };
        let began = Instant::now();
        let bar = bytes_bar(&options.input.to_string_lossy(), size(&options.input));
        let scored = score(&options, &mut |bytes| bar.set_position(bytes));
        bar.finish_and_clear();
        let s = scored.map_err(|error| {
            let exit = if error.is_bad_data() { Exit::Data } else { Exit::Io };
            CommandError::new(exit, error.to_string())
        })?;
        note(&format!(
            "{}: {} rows, {} series, {} alerts, {} missing values in {}",
            options.output.display(),
            s.rows,
            s.series,
            s.alerts,
            s.missing,
            duration(began.elapsed())
        ));
    }
    Ok(())
}

/// Each input and where its scores go.
fn pairs(args: &ScoreArgs) -> Result<Vec<(PathBuf, PathBuf)>, CommandError> {
    if let [input] = &args.inputs[..]
        && !args.output.is_dir()
    {
        return Ok(vec![(input.clone(), args.output.clone())]);
    }
    let mut pairs: Vec<(PathBuf, PathBuf)> = Vec::new();
    for input in &args.inputs {
        let output = args.output.join(plain_name(input)?);
        if pairs.iter().any(|(_, other)| *other == output) {
            return Err(
                CommandError::new(Exit::Usage, "two inputs would be written to the same file")
                    .at(output.display().to_string())
                    .expected("inputs of different names"),
            );
        }
        pairs.push((input.clone(), output));
    }
    let folder = &args.output;
    std::fs::create_dir_all(folder)
        .map_err(|e| CommandError::io(format!("{} can't be made a folder", folder.display()), e))?;
    Ok(pairs)
}

/// The name without what says how it is compressed.
fn plain_name(input: &Path) -> Result<String, CommandError> {
    let name = input.file_name().and_then(|n| n.to_str()).filter(|n| *n != "-");
    let Some(name) = name else {
        return Err(CommandError::new(
            Exit::Usage,
            format!("{} has no name to write to in a folder", input.display()),
        )
        .expected("files, or one input and one output"));
    };
    let name = name
        .strip_suffix(".gz")
        .or_else(|| name.strip_suffix(".zst"))
        .unwrap_or(name);
    Ok(name.to_owned())
}

/// Size of a file, for its progress bar.
pub(super) fn size(path: &Path) -> Option<u64> {
    std::fs::metadata(path)
        .ok()
        .filter(std::fs::Metadata::is_file)
        .map(|m| m.len())
}
