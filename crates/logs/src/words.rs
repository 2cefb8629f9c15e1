//! Words of software: what no one minds to have shown, since the logs of all kinds of programs say it.
//!
//! Fails where a name or a password is such a word (`Page`, `master`), and on software that does not write English: its words
//! are then shown only once they are proven. Cost: a hash and a look-up for each part of a token.

use std::sync::LazyLock;

use rustc_hash::FxHashSet;

/// In alphabetical order. Words that are also given names or parts of hexadecimal ids are left out.
static WORDS: LazyLock<FxHashSet<&'static str>> =
    LazyLock::new(|| include_str!("words.txt").split_ascii_whitespace().collect());
/// Longest word in the list.
const WORD_BYTES_MAX: usize = 16;
/// A longer token is nobody's word.
const TOKEN_BYTES_MAX: usize = 64;
/// Longest token without a letter: more could be a password.
const MARKS_MAX: usize = 3;

/// Whether a token says nothing but words of software: `timeout,`, `read/write`, `java.io.IOException:`, `->`.
pub(crate) fn is_plain(token: &[u8]) -> bool {
    if token.len() > TOKEN_BYTES_MAX || !token.is_ascii() || token.iter().any(u8::is_ascii_digit) {
        return false;
    }
    if !token.iter().any(u8::is_ascii_alphabetic) {
        return token.len() <= MARKS_MAX || token.windows(2).all(|w| matches!(w, [a, b] if a == b));
    }
    // Single letters are what is left of `can't` and `I/O`; more of them could spell anything.
    let mut letters = 0;
    let runs = token.split(|b| !b.is_ascii_alphabetic()).filter(|run| !run.is_empty());
    runs.flat_map(humps).all(|word| {
        letters += usize::from(word.len() == 1);
        letters <= 2 && (word.len() == 1 || is_word(word))
    })
}

fn is_word(word: &[u8]) -> bool {
    let mut lower = [0; WORD_BYTES_MAX];
    let Some(lower) = lower.get_mut(..word.len()) else {
        return false;
    };
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).is_ok_and(|word| WORDS.contains(word))
}

/// The words of `dataNodeFailed` and `IOException`.
fn humps(run: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = run;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let upper = rest.iter().take_while(|b| b.is_ascii_uppercase()).count();
        let lower = rest.iter().skip(upper).take_while(|b| b.is_ascii_lowercase()).count();
        // Of `IOException` the last capital begins the next word.
        let length = if upper > 1 && lower > 0 {
            upper - 1
        } else {
            upper + lower
        };
        let (word, after) = rest.split_at(length);
        rest = after;
        Some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order_and_fits() {
        let words: Vec<&str> = include_str!("words.txt").split_ascii_whitespace().collect();
        assert!(words.is_sorted(), "not in alphabetical order");
        assert_eq!(words.len(), WORDS.len(), "a word is there twice");
        for word in words {
            let fits = (2..=WORD_BYTES_MAX).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_lowercase());
            assert!(fits, "{word}");
        }
    }

    #[test]
    fn plain_by_case() {
        for (token, expected) in [
            ("failed", true),
            ("Failed,", true),
            ("TIMEOUT", true),
            ("read/write", true),
            ("can't", true),
            ("I/O", true),
            ("java.io.IOException:", true),
            ("dataReadFailed", true),
            ("->", true),
            ("----------", true),
            ("", true),
            ("alice", false),
            ("failed_alice", false),
            ("hunter", false),
            ("failedhunter", false),
            ("f-a-i-l", false),
            ("#$%&!", false),
            ("fehlgeschlagen", false),
            ("größe", false),
            ("me@open", false),
            ("error7", false),
            ("Will", false),
            ("responsibilitiesX", false),
        ] {
            assert_eq!(is_plain(token.as_bytes()), expected, "{token}");
        }
        assert!(!is_plain("error".repeat(20).as_bytes()));
    }
}
