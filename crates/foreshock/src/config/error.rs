//! Mistakes in the configuration: file, line and key path, what was found, what may stand there, and the nearest known name.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::error::{CommandError, Exit};

/// A mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: Box<str>,
    /// From 1, where it can be told.
    line: Option<usize>,
    /// Such as `source[1].topic`; empty for the file as a whole.
    key: Box<str>,
    what: Box<str>,
    expected: Option<Box<str>>,
    pub(super) help: Option<Box<str>>,
}

impl ConfigError {
    /// The file as a whole.
    pub fn of_file(file: &Path, what: impl Into<Box<str>>) -> Self {
        Self {
            file: file.display().to_string().into(),
            line: None,
            key: Box::default(),
            what: what.into(),
            expected: None,
            help: None,
        }
    }

    /// What may stand there.
    pub fn expected(mut self, expected: impl Into<Box<str>>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// What to do about it.
    pub fn help(mut self, help: impl Into<Box<str>>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        let mut place = String::from(error.file);
        if let Some(line) = error.line {
            let _ = write!(place, " line {line}");
        }
        if !error.key.is_empty() {
            let _ = write!(place, ", key {}", error.key);
        }
        let mut out = Self::new(Exit::Config, error.what).at(place);
        if let Some(expected) = error.expected {
            out = out.expected(expected);
        }
        if let Some(help) = error.help {
            out = out.help(help);
        }
        out
    }
}

/// The text of a configuration, to find places in it.
pub(super) struct Text<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
}

impl Text<'_> {
    /// What a key's value means is wrong.
    pub(super) fn wrong(&self, key: impl Into<Box<str>>, what: impl Into<Box<str>>) -> ConfigError {
        let key = key.into();
        ConfigError {
            line: self.line_of_key(&key),
            key,
            what: what.into(),
            ..ConfigError::of_file(self.file, "")
        }
    }

    /// What the parser refused.
    pub(super) fn refused(&self, error: &toml::de::Error) -> ConfigError {
        let span = error.span();
        let key = span.as_ref().map(|span| self.key_at(span)).unwrap_or_default();
        let message = error.message().lines().next().unwrap_or_default();
        let (what, expected) = match message.split_once(", expected ") {
            Some((what, expected)) => (what, Some(expected.into())),
            None => (message, None),
        };
        let mut out = ConfigError {
            line: span.map(|span| self.line(span.start)),
            what: what.into(),
            expected,
            key: key.into(),
            ..ConfigError::of_file(self.file, "")
        };
        out.explain();
        out
    }

    fn line(&self, byte: usize) -> usize {
        let before = self.text.as_bytes().get(..byte).unwrap_or(self.text.as_bytes());
        before.iter().filter(|b| **b == b'\n').count() + 1
    }

    /// Path of the innermost key that a place belongs to.
    fn key_at(&self, place: &Range<usize>) -> String {
        let (root, _) = DeTable::parse_recoverable(self.text);
        let mut path = String::new();
        descend(root.get_ref(), place, &mut path);
        path
    }

    /// Line of a key path, or of the longest part of it that is there.
    fn line_of_key(&self, key: &str) -> Option<usize> {
        let (root, _) = DeTable::parse_recoverable(self.text);
        let mut table = root.get_ref();
        let mut found = None;
        for part in key.split('.') {
            let (name, index) = match part.split_once('[') {
                Some((name, rest)) => (name, rest.trim_end_matches(']').parse::<usize>().ok()),
                None => (part, None),
            };
            let Some((spanned, value)) = table.iter().find(|(k, _)| k.get_ref().as_ref() == name) else {
                break;
            };
            let mut value = value;
            found = Some(spanned.span().start);
            if let (Some(index), DeValue::Array(list)) = (index, value.get_ref()) {
                let Some(element) = list.get(index) else { break };
                value = element;
                found = Some(value.span().start);
            }
            let DeValue::Table(inner) = value.get_ref() else { break };
            table = inner;
        }
        found.map(|byte| self.line(byte))
    }
}

/// Whether a place lies in a value or in one of the keys below it. The header of a table and its keys are apart in the text,
/// so the span of a table alone does not tell.
fn holds(value: &DeValue<'_>, span: &Range<usize>, place: &Range<usize>) -> bool {
    let within = |outer: &Range<usize>| outer.start <= place.start && place.end <= outer.end;
    within(span)
        || match value {
            DeValue::Table(table) => table
                .iter()
                .any(|(k, v)| within(&k.span()) || holds(v.get_ref(), &v.span(), place)),
            DeValue::Array(list) => list.iter().any(|v| holds(v.get_ref(), &v.span(), place)),
            _ => false,
        }
}

fn descend(table: &DeTable<'_>, place: &Range<usize>, path: &mut String) {
    for (key, value) in table {
        let on_key = key.span().start <= place.start && place.end <= key.span().end;
        if !on_key && !holds(value.get_ref(), &value.span(), place) {
            continue;
        }
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => descend(inner, place, path),
            DeValue::Array(list) => {
                let element = list
                    .iter()
                    .enumerate()
                    .find(|(_, v)| holds(v.get_ref(), &v.span(), place));
                if let Some((index, element)) = element {
                    let _ = write!(path, "[{index}]");
                    if let DeValue::Table(inner) = element.get_ref() {
                        descend(inner, place, path);
                    }
                }
            }
            _ => {}
        }
        return;
    }
}

/// The part between the first pair of backticks.
fn quoted(text: &str) -> Option<&str> {
    text.split('`').nth(1)
}

impl ConfigError {
    /// Puts the parser's words into a user's: keys instead of fields, the nearest name, and what to do about secrets.
    fn explain(&mut self) {
        let secret = ["kafka.sasl", "kafka.tls"].iter().any(|k| self.key.starts_with(k));
        let name = quoted(&self.what).unwrap_or_default().to_owned();
        if self.what.starts_with("unknown field ") && secret && name.contains("password") {
            self.what = format!("`{name}` would put a secret into this file").into();
            self.expected = Some(format!("`{name}_file` or `{name}_env`").into());
            self.help = Some("write the secret to a file of its own, or pass it in the environment".into());
        } else if self.what.starts_with("unknown field ") {
            self.what = format!("unknown key `{name}`").into();
            self.suggest(&name);
        } else if self.what.starts_with("unknown variant ") {
            self.what = format!("unknown value `{name}`").into();
            self.suggest(&name);
        } else if self.what.starts_with("missing field ") {
            self.what = format!("key `{name}` is missing").into();
            if self.key.is_empty() && name == "kafka" {
                self.help = Some("the least there must be: [kafka] with brokers, and one [[source]]".into());
            }
        } else if secret {
            // What stands in the place of a secret may be one.
            self.what = "wrong kind of value".into();
        }
    }

    fn suggest(&mut self, found: &str) {
        let Some(expected) = &self.expected else { return };
        // Every other part between backticks is a name.
        let names = expected.split('`').skip(1).step_by(2);
        let nearest = names
            .map(|name| (strsim::damerau_levenshtein(found, name), name))
            .min()
            .filter(|(distance, name)| *distance <= 1 + name.len() / 3);
        self.help = nearest.map(|(_, name)| format!("did you mean `{name}`?").into());
    }
}
