//! Stack traces: which lines belong to the line before them, and which line of a message stands for the whole.
//!
//! One [`TraceJoiner`] a source (an entity of a partition). Nothing waits: the first line of a trace is mined when it comes, and what
//! follows is told to be the rest of it, so a trace never holds anything back, and what is decided of a line follows from
//! the lines before it alone. The line that names the error in a bare Python traceback is mined as well, for the first line is the same
//! for all errors.
//!
//! Rest of a trace is: a line that begins with white space, `at …(…)`, `Caused by:`, `Suppressed:`, `... 12 more`; Python's
//! `Traceback` after a line of level warning or worse, what is between chained ones, and the line of the error that ends it;
//! `goroutine 1 [running]:` and the frames below it.
//!
//! Fails where writers of one source interleave: a frame then belongs to the wrong line, which changes no template; and on
//! text that is indented for other reasons within [`SPAN_MS`] after a line of the same source.
//!
//! Cost: a look at the first bytes of a line; 32 bytes of state a source.

use foreshock_domain::{Level, Millis, Timestamp};
use serde::{Deserialize, Serialize};

/// Lines that one trace may have; the next begins another.
const LINES_MAX: u32 = 1_024;
/// Bytes that one trace may have.
const BYTES_MAX: u32 = 1 << 20;
/// Event time from the first line of a trace to its last.
const SPAN_MS: Millis = 10_000;
/// Lines of a message in which a trace is looked for.
const LOOK_LINES: usize = 8;

/// What a line is to its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinePlace {
    /// A line of its own, to be mined.
    Head,
    /// The rest of a trace, of which the head was mined.
    Rest,
}

/// How the frames look that are expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Tongue {
    /// Any; told by each line.
    #[default]
    Any,
    /// In a Python traceback that belongs to a line before it.
    Python,
    /// In one that stands alone.
    PythonBare,
    /// Below `goroutine`.
    Go,
}

/// Tells the lines of one source apart. The default has seen none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceJoiner {
    /// When the head came; `None` before the first line.
    head_at: Option<Timestamp>,
    lines: u32,
    bytes: u32,
    tongue: Tongue,
    /// The head is a warning or worse.
    is_grave: bool,
}

impl TraceJoiner {
    /// What the next line of the source is.
    pub fn place(&mut self, message: &str, level: Option<Level>, at: Timestamp) -> LinePlace {
        let bytes = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let fits = self.head_at.is_some_and(|head| (0..=SPAN_MS).contains(&(at - head)))
            && self.lines < LINES_MAX
            && self.bytes.saturating_add(bytes) <= BYTES_MAX;
        let place = if fits { self.next(message) } else { LinePlace::Head };
        match place {
            LinePlace::Rest => {
                self.lines += 1;
                self.bytes = self.bytes.saturating_add(bytes);
            }
            LinePlace::Head => {
                *self = Self {
                    head_at: Some(at),
                    lines: 1,
                    bytes,
                    tongue: if is_traceback(message) {
                        Tongue::PythonBare
                    } else {
                        Tongue::Any
                    },
                    is_grave: level >= Some(Level::Warning),
                };
            }
        }
        place
    }

    fn next(&mut self, message: &str) -> LinePlace {
        let first = first_line(message);
        if is_traceback(first) {
            if self.is_grave || self.tongue != Tongue::Any {
                if self.tongue == Tongue::Any {
                    self.tongue = Tongue::Python;
                }
                return LinePlace::Rest;
            }
            return LinePlace::Head;
        }
        if is_rest(first) {
            if is_goroutine(first) {
                self.tongue = Tongue::Go;
            }
            return LinePlace::Rest;
        }
        match self.tongue {
            Tongue::Go if is_go_frame(first) => LinePlace::Rest,
            Tongue::Python if is_python_error(first) => {
                // Another may be chained to it; until then it is over.
                self.tongue = Tongue::Any;
                self.is_grave = true;
                LinePlace::Rest
            }
            Tongue::Python | Tongue::PythonBare if is_python_chain(first) => LinePlace::Rest,
            Tongue::Any if self.is_grave && is_python_chain(first) => {
                self.tongue = Tongue::Python;
                LinePlace::Rest
            }
            _ => LinePlace::Head,
        }
    }
}

/// The line of a message that stands for all of it: the first where the others are a trace, the error's where the first only says that
/// a traceback follows. A message of several lines that is no trace stands for itself. Beside it, how many lines it
/// stands for.
#[must_use]
pub fn telling_line(message: &str) -> (&str, usize) {
    if !message.contains('\n') {
        return (message, 1);
    }
    let message = message.trim_start_matches('\n');
    let mut lines = message.lines();
    let Some(first) = lines.next() else { return (message, 1) };
    let is_trace = lines
        .take(LOOK_LINES)
        .any(|line| (line.starts_with([' ', '\t']) && line.trim_start().starts_with("at ")) || begins_trace(line));
    if is_traceback(first) {
        let error = message.lines().rev().find(|line| is_python_error(line));
        return (error.unwrap_or(first), message.lines().count());
    }
    // Indented lines alone may be anything: a query, a table.
    if is_trace {
        (first, message.lines().count())
    } else {
        (message, 1)
    }
}

/// Whether a line that is the rest of another shows that this one carries a stack trace, and is not merely indented.
#[must_use]
pub fn shows_trace(line: &str) -> bool {
    begins_trace(first_line(line).trim_start())
}

fn first_line(message: &str) -> &str {
    message.split('\n').next().unwrap_or(message)
}

/// Whether a line can only be the rest of something.
fn is_rest(line: &str) -> bool {
    line.starts_with([' ', '\t']) || (!is_traceback(line) && begins_trace(line))
}

/// Whether a line is plainly part of a trace, wherever it stands.
fn begins_trace(line: &str) -> bool {
    match line.as_bytes().first() {
        Some(b'a') => {
            // `at com.example.A.b(A.java:12)`, `at f (/x.js:1:2)`, `at A.B() in C:\x.cs:line 5`.
            line.strip_prefix("at ")
                .is_some_and(|frame| frame.ends_with(|c: char| c == ')' || c == ']' || c.is_ascii_digit()))
        }
        Some(b'C') => line.starts_with("Caused by: "),
        Some(b'S') => line.starts_with("Suppressed: "),
        Some(b'F') => line.starts_with("File \"") && line.contains("\", line "),
        Some(b'.') => {
            let rest = line.strip_prefix("...").unwrap_or_default().trim_start();
            rest.starts_with(|c: char| c.is_ascii_digit()) && (rest.ends_with("more") || rest.ends_with("omitted"))
        }
        Some(b'T') => is_traceback(line),
        Some(b'g') => is_goroutine(line),
        _ => false,
    }
}

fn is_traceback(line: &str) -> bool {
    line.starts_with("Traceback (most recent call last)")
}

fn is_goroutine(line: &str) -> bool {
    line.strip_prefix("goroutine ")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains('['))
}

/// `main.run(0x1, …)`, `created by main.main in goroutine 1`, `exit status 2`.
fn is_go_frame(line: &str) -> bool {
    line.starts_with("created by ")
        || line.starts_with("exit status ")
        || (line.ends_with(')') && line.find('(').is_some_and(|i| i > 0 && !line[..i].contains(' ')))
}

/// `ValueError: no such thing`, `requests.exceptions.Timeout`, `KeyboardInterrupt`.
fn is_python_error(line: &str) -> bool {
    let name = line.split(':').next().unwrap_or_default();
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.')
}

fn is_python_chain(line: &str) -> bool {
    line.starts_with("During handling of the above exception") || line.starts_with("The above exception was the direct")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `H` and `R` of each line; a line may have a level before a `|`.
    fn places(lines: &[&str]) -> String {
        let mut joiner = TraceJoiner::default();
        let place = |(i, line): (usize, &&str)| {
            let (level, message) = match line.split_once('|') {
                Some(("E", message)) => (Some(Level::Error), message),
                Some(("I", message)) => (Some(Level::Info), message),
                _ => (None, *line),
            };
            match joiner.place(message, level, Timestamp::from_millis(i as i64)) {
                LinePlace::Head => 'H',
                LinePlace::Rest => 'R',
            }
        };
        lines.iter().enumerate().map(place).collect()
    }

    #[test]
    fn traces_of_many_tongues() {
        let cases: [(&str, &[&str], &str); 11] = [
            (
                "java",
                &[
                    "E|request failed",
                    "java.lang.IllegalStateException: no more",
                    "\tat com.example.A.b(A.java:12)",
                    "at com.example.A.c(A.java:13)",
                    "Caused by: java.io.IOException: gone",
                    "\t... 12 more",
                    "... 3 common frames omitted",
                    "I|next request",
                ],
                "HHRRRRRH",
            ),
            (
                "python after its line",
                &[
                    "E|Unhandled exception",
                    "Traceback (most recent call last):",
                    "  File \"/a.py\", line 3, in f",
                    "    g()",
                    "KeyError: 'x'",
                    "During handling of the above exception, another exception occurred:",
                    "Traceback (most recent call last):",
                    "  File \"/a.py\", line 5, in f",
                    "requests.exceptions.Timeout",
                    "I|next",
                ],
                "HRRRRRRRRH",
            ),
            (
                "python alone: the error has a line of its own",
                &[
                    "I|all is well",
                    "Traceback (most recent call last):",
                    "  File \"/a.py\", line 3, in <module>",
                    "ValueError: no such thing",
                    "I|next",
                ],
                "HHRHH",
            ),
            (
                "go",
                &[
                    "panic: runtime error: index out of range",
                    "goroutine 1 [running]:",
                    "main.run(0x1, 0x2)",
                    "\t/src/main.go:12 +0x1d",
                    "created by main.main in goroutine 1",
                    "exit status 2",
                    "started",
                ],
                "HRRRRRH",
            ),
            (
                "node",
                &[
                    "E|TypeError: x is undefined",
                    "    at f (/a.js:1:2)",
                    "at /b.js:10:5",
                    "ready",
                ],
                "HRRH",
            ),
            (".net", &["E|Unhandled", "   at A.B() in C:\\x.cs:line 5"], "HR"),
            ("nothing before it", &["\tat a.B(C.java:1)", "\tat a.B(C.java:2)"], "HR"),
            (
                "prose",
                &["at last it works", "Caused by nothing", "...", "... and more"],
                "HHHH",
            ),
            ("prose after go", &["goroutine leak found", "f(x)"], "HH"),
            ("empty", &["", ""], "HH"),
            ("a second trace", &["E|a", " x", "E|b", " x"], "HRHR"),
        ];
        for (name, lines, expected) in cases {
            assert_eq!(places(lines), expected, "{name}");
        }
    }

    #[test]
    fn traces_are_bounded_in_lines_bytes_and_time() {
        let at = Timestamp::from_millis;
        let mut joiner = TraceJoiner::default();
        let heads = (0..5_000).filter(|_| joiner.place("\tat a.B(C.java:1)", None, at(0)) == LinePlace::Head);
        assert_eq!(heads.count(), 5, "one in 1,024 lines");
        let mut joiner = TraceJoiner::default();
        let long = format!(" {}", "x".repeat(100_000));
        let heads = (0..100).filter(|_| joiner.place(&long, None, at(0)) == LinePlace::Head);
        assert_eq!(heads.count(), 10, "one in ten lines of 100 kB");
        let mut joiner = TraceJoiner::default();
        assert_eq!(joiner.place("head", None, at(0)), LinePlace::Head);
        assert_eq!(joiner.place(" rest", None, at(SPAN_MS)), LinePlace::Rest);
        assert_eq!(joiner.place(" too late", None, at(SPAN_MS + 1)), LinePlace::Head);
        assert_eq!(joiner.place(" from the past", None, at(0)), LinePlace::Head);
    }

    #[test]
    fn one_line_stands_for_a_message() {
        let cases = [
            ("one line", ("one line", 1)),
            ("it broke\n\tat a.B(C.java:1)\n\tat a.B(C.java:2)", ("it broke", 3)),
            ("it broke\njava.lang.X: y\n\tat a.B(C.java:1)", ("it broke", 3)),
            (
                "it broke\nTraceback (most recent call last):\n  File \"a\", line 1\nX: y",
                ("it broke", 4),
            ),
            (
                "Traceback (most recent call last):\n  File \"a\", line 1, in f\n    g()\nX: y",
                ("X: y", 4),
            ),
            ("panic: x\n\ngoroutine 1 [running]:\nmain.f()", ("panic: x", 4)),
            ("query\n  select 1\n  from x", ("query\n  select 1\n  from x", 1)),
            ("\n\nfirst\nCaused by: x", ("first", 2)),
            ("\n", ("", 1)),
        ];
        for (message, expected) in cases {
            assert_eq!(telling_line(message), expected, "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn any_lines_will_do(lines in prop::collection::vec("( |\t|at |Caused by: |Traceback \\(most recent call last\\):|goroutine 1 \\[|\\.\\.\\. 1 more|é|.{0,8}){0,3}", 0..30)) {
            let mut joiner = TraceJoiner::default();
            for (i, line) in lines.iter().enumerate() {
                let place = joiner.place(line, None, Timestamp::from_millis(i as i64));
                prop_assert!(i > 0 || place == LinePlace::Head, "a first line is a head");
                let _ = telling_line(line);
            }
            let message = lines.join("\n");
            prop_assert!(message.contains(telling_line(&message).0));
        }
    }
}
