//! Text from strangers: which characters a terminal would obey or hide, and the same text without them.
//!
//! Log lines, labels and names come from whoever can write a line. Shown as they are they could move the cursor, set
//! a window's title, forge a line above, or (with bidirectional overrides) read differently from what they are.
//!
//! Cost: one pass over the bytes; only text that holds such a character allocates.

use std::borrow::Cow;

/// What is shown in place of a character that must not be.
pub const REPLACEMENT: char = '\u{fffd}';

/// Whether a terminal would act on this character or show the text in another order: control characters (line ends and tabs
/// too), and Unicode's line and paragraph separators and bidirectional controls.
#[must_use]
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with white space for line ends and tabs, and U+FFFD for everything else that [`is_unprintable`]: fit for
/// one line of a terminal.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let shown = text.chars().map(|c| match c {
        '\n' | '\r' | '\t' => ' ',
        c if is_unprintable(c) => REPLACEMENT,
        c => c,
    });
    Cow::Owned(shown.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_terminal_obeys_is_left() {
        let cases = [
            ("plain é 漢", "plain é 漢"),
            ("a\tb\r\nc", "a b  c"),
            ("\u{1b}]0;title\u{7}x", "\u{fffd}]0;title\u{fffd}x"),
            ("\u{9b}31m", "\u{fffd}31m"),
            ("user\u{202e}gnp.exe", "user\u{fffd}gnp.exe"),
            ("a\u{2028}b\u{7f}\0", "a\u{fffd}b\u{fffd}\u{fffd}"),
        ];
        for (text, expected) in cases {
            assert_eq!(printable(text), expected, "{text:?}");
        }
        assert!(matches!(printable("plain"), Cow::Borrowed(_)));
    }
}
