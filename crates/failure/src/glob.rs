use std::fmt;

use serde::{Deserialize, Serialize};

/// A pattern for names: `*` is any run of characters, `?` any one; everything else is itself. Matches whole names.
///
/// Cost: linear in the name for one star, name × pattern at worst; no recursion, no allocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Glob(Box<str>);

impl Glob {
    /// A pattern.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self(pattern.into())
    }

    /// Whether the whole of `name` matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (mut pattern, mut text) = (self.0.chars(), name.chars());
        // Where to go on when a star has to take one more character.
        let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
        loop {
            let here = text.clone();
            match (pattern.next(), text.next()) {
                (None, None) => return true,
                (Some('*'), _) => {
                    text = here;
                    retry = Some((pattern.clone(), text.clone()));
                }
                (Some('?'), Some(_)) => {}
                (Some(p), Some(t)) if p == t => {}
                _ => {
                    let Some((after_star, taken)) = retry.as_mut() else {
                        return false;
                    };
                    if taken.next().is_none() {
                        return false;
                    }
                    pattern = after_star.clone();
                    text = taken.clone();
                }
            }
        }
    }

    /// The pattern's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names() {
        let cases = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("db-*", "db-1", true),
            ("db-*", "xdb-1", false),
            ("*-1", "db-1-1", true),
            ("d?-1", "db-1", true),
            ("d?-1", "d-1", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("é?", "éé", true),
            ("***", "x", true),
            ("?", "", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(Glob::new(pattern).matches(name), expected, "{pattern} on {name}");
        }
    }
}
