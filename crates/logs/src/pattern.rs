//! Patterns that users write: compiled under a bound, and searched in the beginning of a message alone.

use regex::{Regex, RegexBuilder};

use crate::tokens::BYTES_MAX;

/// The part of a message that is searched, as much as the tokenizer reads, cut where a character ends.
pub(crate) fn searched(message: &str) -> &str {
    let end = (0..=BYTES_MAX.min(message.len()))
        .rev()
        .find(|i| message.is_char_boundary(*i));
    message.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// Compiles a pattern into at most so many bytes.
///
/// # Errors
/// With what is wrong with it, in one line.
pub(crate) fn compile(pattern: &str, bytes_max: usize) -> Result<Regex, String> {
    let built = RegexBuilder::new(pattern).size_limit(bytes_max).build();
    built.map_err(|e| {
        let text = e.to_string();
        text.lines()
            .last()
            .unwrap_or("not a regular expression")
            .trim()
            .to_owned()
    })
}
