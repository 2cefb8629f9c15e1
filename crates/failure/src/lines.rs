//! Log lines that are a failure by themselves: the user's patterns, and what a dying process or kernel writes.
//!
//! Fails on lines that only quote such words at the start of their message; switch `fatal_lines` off where a writer uses FATAL
//! for less. ERROR alone is not a failure.
//!
//! Cost: two passes of a multi-pattern automaton over at most 4 KiB of the message (linear in it), no allocation in the
//! usual case that nothing matches.

use foreshock_domain::Level;
use regex::{RegexSet, RegexSetBuilder};

use crate::config::LogRule;
use crate::error::RuleError;

/// Name of the built-in rule for fatal lines.
pub const FATAL_LINE: &str = "fatal_line";

/// Version of the built-in patterns; changes when [`FATAL_PATTERNS`] does, so that labels can be told apart.
pub const FATAL_PATTERNS_VERSION: u32 = 1;

/// What the dying write, whatever level their line has. Anchored where the words are also used in prose.
const FATAL_PATTERNS: [&str; 9] = [
    r"^panic: ",
    r"^thread '[^']*' (?:\(\d+\) )?panicked at ",
    r"^fatal error: ",
    r"Kernel panic - not syncing",
    r"Out of memory: Kill(?:ed)? process \d+",
    r"Memory cgroup out of memory: Kill(?:ed)? process \d+",
    r"^A fatal error has been detected by the Java Runtime Environment",
    r"segfault at [0-9a-f]+ ip [0-9a-f]+",
    r"^terminate called (?:after throwing|without an active exception)",
];

/// Bytes of a message that are searched.
const SEARCH_BYTES_MAX: usize = 4 << 10;
/// Bytes that the compiled patterns may take.
const PROGRAM_BYTES_MAX: usize = 4 << 20;

/// The user's patterns and the built-in ones, compiled.
#[derive(Clone, Debug)]
pub(crate) struct LineMatcher {
    names: Vec<Box<str>>,
    levels: Vec<Option<Level>>,
    patterns: RegexSet,
    fatal: Option<RegexSet>,
}

impl LineMatcher {
    /// # Errors
    /// A pattern that is none, or too large; `key` is the path of the list.
    pub(crate) fn new(rules: &[LogRule], fatal_lines: bool, key: &str) -> Result<Self, RuleError> {
        for (i, rule) in rules.iter().enumerate() {
            let invalid = |what: String| RuleError::new(format!("{key}[{i}].pattern"), what, "a regular expression");
            if rule.pattern.is_empty() {
                return Err(invalid("an empty pattern, which matches every line".to_owned()));
            }
            compile([rule.pattern.as_str()]).map_err(|e| invalid(first_line(&e)))?;
        }
        let together =
            |e: regex::Error| RuleError::new(key, first_line(&e), "patterns of less than 4 MiB when compiled");
        let fatal = if fatal_lines {
            Some(compile(FATAL_PATTERNS).map_err(together)?)
        } else {
            None
        };
        Ok(Self {
            names: rules.iter().map(|r| r.name.as_str().into()).collect(),
            levels: rules.iter().map(|r| r.level).collect(),
            patterns: compile(rules.iter().map(|r| r.pattern.as_str())).map_err(together)?,
            fatal,
        })
    }

    /// Name of the first rule, in the order of the configuration, that this line fires; fatal lines come last.
    pub(crate) fn rule(&self, level: Option<Level>, message: &str) -> Option<&str> {
        let message = prefix(message, SEARCH_BYTES_MAX);
        // `is_match` stops at the first hit and, unlike `matches`, allocates nothing.
        if !self.patterns.is_empty() && self.patterns.is_match(message) {
            let serious = |i: &usize| self.levels[*i].is_none_or(|least| level.is_some_and(|l| l >= least));
            if let Some(i) = self.patterns.matches(message).into_iter().find(serious) {
                return Some(&self.names[i]);
            }
        }
        let fatal = self.fatal.as_ref()?;
        (level == Some(Level::Fatal) || fatal.is_match(message)).then_some(FATAL_LINE)
    }
}

fn compile<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<RegexSet, regex::Error> {
    RegexSetBuilder::new(patterns)
        .size_limit(PROGRAM_BYTES_MAX)
        .dfa_size_limit(PROGRAM_BYTES_MAX)
        .build()
}

/// The last line of the error is the one that says what is wrong; those before it draw an arrow.
fn first_line(error: &regex::Error) -> String {
    error
        .to_string()
        .lines()
        .last()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_owned()
}

/// The longest prefix of at most `bytes_max` bytes that ends at a character.
pub(crate) fn prefix(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, pattern: &str, level: Option<Level>) -> LogRule {
        LogRule {
            name: name.into(),
            pattern: pattern.into(),
            level,
        }
    }

    #[test]
    fn lines_that_fire() {
        let rules = [
            rule("disk", "I/O error", Some(Level::Error)),
            rule("corrupt", "(?i)corrupt", None),
            rule("any", "I/O", None),
        ];
        let matcher = LineMatcher::new(&rules, true, "failure.log").unwrap();
        let cases = [
            ("plain", None, "all is well", None),
            ("empty", None, "", None),
            (
                "error alone is not a failure",
                Some(Level::Error),
                "request failed",
                None,
            ),
            (
                "pattern and level",
                Some(Level::Error),
                "I/O error on sda",
                Some("disk"),
            ),
            (
                "pattern and a graver level",
                Some(Level::Fatal),
                "I/O error on sda",
                Some("disk"),
            ),
            (
                "level too low, next rule",
                Some(Level::Info),
                "I/O error on sda",
                Some("any"),
            ),
            ("no level, next rule", None, "I/O error on sda", Some("any")),
            ("any level", None, "Corrupted block", Some("corrupt")),
            ("fatal level", Some(Level::Fatal), "giving up", Some(FATAL_LINE)),
            (
                "go panic",
                None,
                "panic: runtime error: index out of range",
                Some(FATAL_LINE),
            ),
            ("panic in prose", None, "do not panic: all is well", None),
            (
                "rust panic",
                None,
                "thread 'main' panicked at src/main.rs:1:1:",
                Some(FATAL_LINE),
            ),
            (
                "oom",
                None,
                "[1.0] Out of memory: Killed process 12 (java)",
                Some(FATAL_LINE),
            ),
            ("kernel", None, "Kernel panic - not syncing: VFS", Some(FATAL_LINE)),
            (
                "segfault",
                None,
                "app[7]: segfault at 0 ip 00007f sp 00007f error 4",
                Some(FATAL_LINE),
            ),
        ];
        for (name, level, message, expected) in cases {
            assert_eq!(matcher.rule(level, message), expected, "{name}");
        }
        let far = format!("{}corrupt", "é".repeat(SEARCH_BYTES_MAX));
        assert_eq!(matcher.rule(None, &far), None, "only the first 4 KiB are searched");
    }

    #[test]
    fn fatal_lines_can_be_switched_off() {
        let matcher = LineMatcher::new(&[], false, "failure.log").unwrap();
        assert_eq!(matcher.rule(Some(Level::Fatal), "panic: x"), None);
    }

    #[test]
    fn bad_patterns_are_named() {
        let cases = [
            ("(", "failure.log[1].pattern"),
            ("", "failure.log[1].pattern"),
            ("\\w{1000}{1000}", "failure.log[1].pattern"),
        ];
        for (pattern, key) in cases {
            let error = LineMatcher::new(
                &[rule("a", "fine", None), rule("b", pattern, None)],
                true,
                "failure.log",
            )
            .unwrap_err();
            assert_eq!(error.key, key, "{pattern}: {error}");
        }
    }
}
