use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use foreshock_history::templates::{TemplatesError, TemplatesOptions, templates};
use foreshock_wire::Format;

use super::score::size;
use crate::error::{CommandError, Exit};
use crate::screen::{bytes_bar, duration, note};

/// Arguments of `foreshock templates`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  foreshock templates app.log --output templates.csv
  foreshock templates app.log.gz --output templates.csv
  foreshock templates /var/log/syslog --format log --output templates.csv
  journalctl -o cat | foreshock templates - --output templates.csv

Output: one row for each line: `line,template_id,template`. What varies in a template is <*>. Ids are hashes of the
template's content: the same template has the same id in every file.")]
pub struct TemplatesArgs {
    /// Raw log lines, plain, .gz or .zst; `-` is standard input
    #[arg(value_name = "INPUT")]
    input: PathBuf,

    /// Envelope of the lines, such as `log` or `syslog`: it is taken off, and stack traces are joined
    #[arg(long, value_name = "FORMAT", value_parser = log_format)]
    format: Option<Format>,

    /// CSV to write
    #[arg(short, long, value_name = "OUTPUT")]
    output: PathBuf,
}

fn log_format(text: &str) -> Result<Format, String> {
    let is_of_lines = |format: &Format| {
        format.is_text() && !matches!(format, Format::TelegrafJson | Format::PlainJson | Format::IncidentJson)
    };
    text.parse().ok().filter(is_of_lines).ok_or_else(|| {
        let names: Vec<&str> = Format::ALL
            .iter()
            .filter(|f| is_of_lines(f))
            .map(|f| f.name())
            .collect();
        format!("expected one of {}", names.join(", "))
    })
}

/// The command.
///
/// # Errors
/// 65 where the input is damaged, 74 where files can't be read or written; no output is left half-written.
pub fn execute(args: &TemplatesArgs) -> Result<(), CommandError> {
    let began = Instant::now();
    let options = TemplatesOptions {
        input: args.input.clone(),
        format: args.format,
        output: args.output.clone(),
    };
    let bar = bytes_bar(&args.input.to_string_lossy(), size(&args.input));
    let mined = templates(&options, &mut |bytes| bar.set_position(bytes));
    bar.finish_and_clear();
    let s = mined.map_err(|error| CommandError::new(exit(&error), error.to_string()))?;
    note(&format!(
        "{}: {} lines, {} templates in {}",
        args.output.display(),
        s.lines,
        s.templates,
        duration(began.elapsed())
    ));
    if s.lines_too_long > 0 {
        note(&format!(
            "warning: of {} lines only the first 1 MiB was read",
            s.lines_too_long
        ));
    }
    Ok(())
}

fn exit(error: &TemplatesError) -> Exit {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match error {
        // What decompressors say of damage.
        TemplatesError::Read { source, .. } if matches!(source.kind(), InvalidData | InvalidInput | UnexpectedEof) => {
            Exit::Data
        }
        TemplatesError::Read { .. } | TemplatesError::Write { .. } => Exit::Io,
    }
}
