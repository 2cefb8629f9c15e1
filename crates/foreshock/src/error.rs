//! How a command ends when it does not succeed: an exit code that scripts can rely on, and for people what was found, where,
//! what was expected and what helps.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use foreshock_domain::text::is_unprintable;
use foreshock_kafka::{Cause, ConnectionSettings, Unreached};

use crate::screen::{Paint, Style};

/// What to do about a full disk. Every command writes beside the name of its output, and renames.
const FULL: &str =
    "make room there, or write to another disk, and run it again; nothing half-written has the name of the output";
/// How the system's words for a full disk end, and for a user's share of it that is used up.
const NO_SPACE: &str = "(os error 28)";
const OVER_QUOTA: &str = "(os error 122)";

/// Exit codes, after `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Nobody reads standard output any more: no fault of ours.
    Closed = 0,
    /// It ran to its end and did not find what it was to show.
    NotFound = 1,
    /// The command line is wrong.
    Usage = 64,
    /// The data is wrong.
    Data = 65,
    /// Files or brokers can't be read or written.
    Io = 74,
    /// The configuration is wrong.
    Config = 78,
    /// Ctrl-C ended it before its time, as a shell reports a process that SIGINT ended.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError {
    exit: Exit,
    what: String,
    place: Option<String>,
    expected: Option<String>,
    help: Option<String>,
}

impl CommandError {
    /// What went wrong, in one line.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        let what = what.into();
        // Libraries between keep the words and lose the kind.
        let is_full = [NO_SPACE, OVER_QUOTA].iter().any(|code| what.ends_with(code));
        Self {
            exit,
            what,
            place: None,
            expected: None,
            help: is_full.then(|| FULL.to_owned()),
        }
    }

    /// Files or brokers: what was tried, and what the system says.
    pub fn io(what: impl fmt::Display, error: impl fmt::Display) -> Self {
        Self::new(Exit::Io, format!("{what}: {error}"))
    }

    /// Brokers that do not answer, or do not let this program in: then the configuration must change.
    pub fn unreached(connection: &ConnectionSettings, error: &Unreached) -> Self {
        let exit = if error.cause == Cause::Silence {
            Exit::Io
        } else {
            Exit::Config
        };
        Self::new(exit, format!("{}: {error}", connection.servers())).expected(error.cause.help())
    }

    /// What writing to standard output ended with. A reader that went away (`| head`) is no error.
    pub fn stdout(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::new(Exit::Closed, "")
        } else {
            Self::io("standard output can't be written", error)
        }
    }

    /// File, line, key.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// What may stand there.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The exit code.
    #[cfg(test)]
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// Says it on standard error, and gives the exit code.
    pub fn report(&self) -> ExitCode {
        if self.exit != Exit::Closed {
            let paint = Paint::for_stderr();
            let mut lines = format!("{} {}\n", paint.with(Style::Bad, "error:"), one_line(&self.what));
            let parts = [
                ("where", &self.place),
                ("expected", &self.expected),
                ("help", &self.help),
            ];
            for (name, text) in parts {
                if let Some(text) = text {
                    lines += &format!(
                        "  {} {}\n",
                        paint.with(Style::Strong, &format!("{name}:")),
                        one_line(text)
                    );
                }
            }
            // Where standard error is closed there is nobody left to tell.
            let _ = io::stderr().write_all(lines.as_bytes());
        }
        self.exit.into()
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(place) = &self.place {
            write!(f, " ({place})")?;
        }
        if let Some(expected) = &self.expected {
            write!(f, ", expected {expected}")?;
        }
        Ok(())
    }
}

impl std::error::Error for CommandError {}

/// What comes from files and brokers can't be trusted with the terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if is_unprintable(c) { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_a_quiet_success() {
        let closed = CommandError::stdout(&io::ErrorKind::BrokenPipe.into());
        assert_eq!(closed.exit(), Exit::Closed);
        assert_eq!(
            CommandError::stdout(&io::ErrorKind::StorageFull.into()).exit(),
            Exit::Io
        );
    }

    #[test]
    fn a_full_disk_says_what_to_do() {
        for code in [28, 122] {
            let full = CommandError::io("/out/events.jsonl", io::Error::from_raw_os_error(code));
            assert_eq!((full.exit(), full.help.as_deref()), (Exit::Io, Some(FULL)));
        }
        assert_eq!(CommandError::io("/out", io::Error::from_raw_os_error(13)).help, None);
    }

    #[test]
    fn the_terminal_is_not_for_control_characters() {
        assert_eq!(one_line("a\u{1b}[31m\nb\u{202e}c"), "a [31m b c");
    }
}
