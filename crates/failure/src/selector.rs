//! Which series a rule is about, in the words of Prometheus: `name`, `name{label="value"}`, with the operators `=`, `!=`,
//! `=~` and `!~`. Regular expressions match whole values and take linear time; a label that a series lacks is the empty text.

use std::fmt;

use foreshock_domain::LabelPairs;
use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest selector, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;

/// Which series a rule is about. Read from and written as its text.
#[derive(Clone, Debug)]
pub struct Selector {
    text: Box<str>,
    name: Box<str>,
    matchers: Vec<Matcher>,
}

#[derive(Clone, Debug)]
struct Matcher {
    label: Box<str>,
    test: Test,
    /// Whether the test must fail.
    negated: bool,
}

#[derive(Clone, Debug)]
enum Test {
    Equal(Box<str>),
    Pattern(Regex),
}

/// A text that is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at} of the selector, expected name or name{{label=\"value\"}} with =, !=, =~ or !~")]
pub struct SelectorError {
    /// What is wrong.
    pub what: &'static str,
    /// Where, from 0.
    pub at: usize,
}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// Where the text is none; says where.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(SelectorError {
                what: "more than 1024 bytes",
                at: TEXT_BYTES_MAX,
            });
        }
        let mut rest = Cursor { text, at: 0 };
        rest.spaces();
        let name = rest.take_while(|c| !c.is_whitespace() && !"{}\"=,".contains(c));
        if name.is_empty() {
            return Err(rest.error("no metric name"));
        }
        rest.spaces();
        let mut matchers = Vec::new();
        if rest.take("{") {
            loop {
                rest.spaces();
                if rest.take("}") {
                    break;
                }
                matchers.push(rest.matcher()?);
                rest.spaces();
                if !rest.take(",") {
                    rest.spaces();
                    if !rest.take("}") {
                        return Err(rest.error("no comma and no closing brace"));
                    }
                    break;
                }
            }
            rest.spaces();
        }
        if rest.at < text.len() {
            return Err(rest.error("something after the end"));
        }
        Ok(Self {
            text: text.into(),
            name: name.into(),
            matchers,
        })
    }

    /// Whether it selects a series. Labels as decoders give them, sorted or not.
    #[must_use]
    pub fn matches(&self, name: &str, labels: &LabelPairs<'_>) -> bool {
        *self.name == *name
            && self.matchers.iter().all(|m| {
                let value = labels
                    .iter()
                    .find(|(k, _)| **k == *m.label)
                    .map_or("", |(_, v)| v.as_ref());
                let holds = match &m.test {
                    Test::Equal(expected) => **expected == *value,
                    Test::Pattern(pattern) => pattern.is_match(value),
                };
                holds != m.negated
            })
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Selector {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Selector {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// The rest of a selector's text.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error(&self, what: &'static str) -> SelectorError {
        SelectorError { what, at: self.at }
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn spaces(&mut self) {
        self.take_while(char::is_whitespace);
    }

    fn matcher(&mut self) -> Result<Matcher, SelectorError> {
        let label = self.take_while(|c| !c.is_whitespace() && !"{}\"=!~,".contains(c));
        if label.is_empty() {
            return Err(self.error("no label"));
        }
        self.spaces();
        let (negated, pattern) = match () {
            () if self.take("=~") => (false, true),
            () if self.take("!~") => (true, true),
            () if self.take("!=") => (true, false),
            () if self.take("=") => (false, false),
            () => return Err(self.error("no operator")),
        };
        self.spaces();
        let start = self.at;
        let value = self.quoted()?;
        let test = if pattern {
            let invalid = |_| SelectorError {
                what: "invalid regular expression",
                at: start,
            };
            // Alone first: `a)|(b` is none, but would be one inside the anchors.
            Regex::new(&value).map_err(invalid)?;
            Test::Pattern(Regex::new(&format!("^(?:{value})$")).map_err(invalid)?)
        } else {
            Test::Equal(value.into())
        };
        Ok(Matcher {
            label: label.into(),
            test,
            negated,
        })
    }

    /// Text in quotes, as Prometheus writes it: in double or single ones a backslash keeps the quote or backslash after it, in
    /// backticks everything is itself.
    fn quoted(&mut self) -> Result<String, SelectorError> {
        let quote = self.rest().chars().next().filter(|c| matches!(c, '"' | '\'' | '`'));
        let Some(quote) = quote else {
            return Err(self.error("no quoted value"));
        };
        self.at += quote.len_utf8();
        let mut value = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.at += i + 1;
                    return Ok(value);
                }
                '\\' if quote != '`' => match chars.next() {
                    Some((_, kept)) if kept == quote || kept == '\\' => value.push(kept),
                    // Kept as written, so that `\d` needs no second backslash.
                    Some((_, other)) => value.extend(['\\', other]),
                    None => break,
                },
                _ => value.push(c),
            }
        }
        Err(self.error("no closing quote"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels: Vec<_> = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Selector::parse(selector).unwrap().matches("up", &labels)
    }

    #[test]
    fn selects_as_prometheus_does() {
        let web = [("code", "503"), ("job", "web")];
        let cases = [
            ("up", true),
            ("down", false),
            ("up{}", true),
            (" up { job = \"web\" , } ", true),
            ("up{job=\"db\"}", false),
            ("up{job!=\"db\"}", true),
            ("up{job!=\"web\"}", false),
            ("up{code=~\"5..\"}", true),
            ("up{code=~\"5.\"}", false), // whole values only
            ("up{code!~\"5..\"}", false),
            ("up{code=~\"\\d+\"}", true),
            ("up{code=~\"4..|5..\",job=\"web\"}", true),
            ("up{missing=\"\"}", true),
            ("up{missing!=\"\"}", false),
            ("up{missing=~\".+\"}", false),
            ("up{job='web',code=~`\\d+`}", true),
        ];
        for (selector, expected) in cases {
            assert_eq!(matches(selector, &web), expected, "{selector}");
        }
        assert!(matches("up{a=\"q\\\"\\\\\"}", &[("a", "q\"\\")]));
        assert!(matches("up{a='q\"\\''}", &[("a", "q\"'")]));
    }

    #[test]
    fn refuses_and_says_where() {
        let cases = [
            ("", "no metric name", 0),
            ("{job=\"web\"}", "no metric name", 0),
            ("up{job}", "no operator", 6),
            ("up{=\"x\"}", "no label", 3),
            ("up{job=web}", "no quoted value", 7),
            ("up{job=\"web}", "no closing quote", 8),
            ("up{job='web\"}", "no closing quote", 8),
            ("up{job=\"web\"", "no comma and no closing brace", 12),
            ("up{job=\"web\"} > 1", "something after the end", 14),
            ("up > 1", "something after the end", 3),
            ("up{job=~\"(\"}", "invalid regular expression", 8),
            ("up{job=~\"a)|(b\"}", "invalid regular expression", 8),
        ];
        for (text, what, at) in cases {
            assert_eq!(Selector::parse(text).unwrap_err(), SelectorError { what, at }, "{text}");
        }
        assert!(Selector::parse(&"x".repeat(2_000)).is_err());
    }
}
