//! What people see: colours where they are wanted, lines on standard output, and a progress bar on a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::CommandError;

/// How a word is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// All is well.
    Good,
    /// Look at it.
    Doubtful,
    /// It won't do.
    Bad,
    /// Stands out.
    Strong,
}

/// Colours, or none: not into files and pipes, and not where `NO_COLOR` is set.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    colours: bool,
}

impl Paint {
    /// For standard output.
    #[must_use]
    pub fn for_stdout() -> Self {
        Self {
            colours: io::stdout().is_terminal() && colours_wanted(),
        }
    }

    /// For standard error.
    #[must_use]
    pub fn for_stderr() -> Self {
        Self {
            colours: io::stderr().is_terminal() && colours_wanted(),
        }
    }

    /// Whether there are colours.
    #[must_use]
    pub const fn colours(self) -> bool {
        self.colours
    }

    /// `text` in a style.
    #[must_use]
    pub fn with(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Good => "32",
            Style::Doubtful => "33",
            Style::Bad => "1;31",
            Style::Strong => "1",
        };
        if self.colours {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// <https://no-color.org>: set and not empty means no; a terminal that calls itself dumb can't.
fn colours_wanted() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Writes to standard output at once.
///
/// # Errors
/// When it can't be written; a reader that went away ends the command quietly.
pub fn print(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| CommandError::stdout(&error))
}

/// A line on standard error, for a person who waits; nobody's script depends on it.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Bytes of a dump that are done; shown only where standard error is a terminal.
#[must_use]
pub fn bytes_bar(name: &str, bytes_total: Option<u64>) -> ProgressBar {
    let (bar, shape) = match bytes_total {
        Some(total) => (
            ProgressBar::new(total),
            "{msg:>16} {bar:40} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}",
        ),
        None => (ProgressBar::no_length(), "{msg:>16} {spinner} {bytes} {bytes_per_sec}"),
    };
    // indicatif draws nothing where standard error is not a terminal.
    bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
    if let Ok(style) = ProgressStyle::with_template(shape) {
        bar.set_style(style);
    }
    bar.set_message(name.to_owned());
    bar
}

/// A bar of steps whose number is told later, on standard error where that is a terminal.
#[must_use]
pub fn steps_bar(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:>16} {bar:40} {pos}/{len} eta {eta}");
    let bar = ProgressBar::no_length().with_message(name.to_owned());
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A length of time for people: `850 ms`, `12.3 s`, `4 min 10 s`.
#[must_use]
pub fn duration(d: Duration) -> String {
    match d.as_secs() {
        0 => format!("{} ms", d.as_millis()),
        1..120 => format!("{:.1} s", d.as_secs_f64()),
        s @ 120..7_200 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{} h {} min", s / 3_600, s / 60 % 60),
    }
}

/// Rows under a header, each column as wide as its widest cell; the last is left as it is.
#[must_use]
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line += cell;
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_and_do_not_trail_spaces() {
        let cell = |text: &str| text.to_owned();
        let rows = [
            vec![cell("topic"), cell("n")],
            vec![cell("é"), cell("10")],
            vec![cell("only")],
        ];
        assert_eq!(table(&rows), "topic  n\né      10\nonly\n");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn durations_are_readable() {
        let cases = [
            (0.85, "850 ms"),
            (12.34, "12.3 s"),
            (250.0, "4 min 10 s"),
            (7_300.0, "2 h 1 min"),
        ];
        for (s, expected) in cases {
            assert_eq!(duration(Duration::from_secs_f64(s)), expected);
        }
    }
}
