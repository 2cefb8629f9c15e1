//! What of a template's text may be shown. A word that never varied is a constant of the program, or a secret that was always the
//! same so far: a name, a password in free text. It is shown only when it is proven to be a constant.
//!
//! **Proof.** A template is proven when it was seen with [`VALUES_MIN`] different contents (that many different words also make
//! a position a variable), or from [`SOURCES_MIN`] sources. A word in it is then shown, unless another word was ever seen in its place,
//! or it stands where names and secrets do. Words of software ([`is_plain`]) are always shown. Until then nothing but hashes of 16
//! bits is kept, and the text is taken from the line that completes the proof: what is not proven is in no snapshot.
//!
//! Fails on a secret that is repeated with contents that differ elsewhere (`attempt 1` … `attempt 5`) and does not stand after a
//! word such as `password` or `for`. Hashes that collide delay a proof and never make one. Cost: a hash of the message
//! a line until the proof, nothing after it; 24 bytes a form.

use foreshock_domain::text::printable;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::MiningRules;
use crate::tokens::Tokens;
use crate::words::is_plain;

/// Different contents that prove a template.
const VALUES_MIN: usize = 5;
/// Different sources that prove a template, whatever its contents.
const SOURCES_MIN: usize = 3;
/// Tokens after `password` or `user` that may be a secret or a name: `password is hunter`, `user Mary Smith`.
const REACH: usize = 2;
/// Bytes of a text; longer ones are cut at a token.
pub(crate) const TEXT_BYTES_MAX: usize = 256;
/// How a variable is shown.
pub(crate) const WILD_TEXT: &str = "<*>";
/// How a word is shown that is not proven to be a constant.
pub(crate) const HIDDEN_TEXT: &str = "<?>";

/// Which texts a miner keeps and gives out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Showing {
    /// Whole ones, as they were written.
    #[default]
    All,
    /// Only what is proven to be constant; the rest is `<?>`.
    Proven,
}

/// How far a template is proven. Zeros are places that are free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proof {
    values: [u16; VALUES_MIN - 1],
    sources: [u16; SOURCES_MIN - 1],
    pub(crate) is_done: bool,
}

impl Proof {
    pub(crate) const DONE: Self = Self {
        values: [0; VALUES_MIN - 1],
        sources: [0; SOURCES_MIN - 1],
        is_done: true,
    };

    /// Takes in a line. True when it completes the proof.
    pub(crate) fn add(&mut self, message: &[u8], source: u64) -> bool {
        let value = folded(xxh3_64(message));
        let source = folded(xxh3_64(&source.to_le_bytes()));
        // Both, whatever the first says.
        self.is_done = !note(&mut self.values, value) | !note(&mut self.sources, source);
        self.is_done
    }
}

#[allow(clippy::cast_possible_truncation)] // that is what is wanted
fn folded(hash: u64) -> u16 {
    (hash as u16).max(1)
}

/// False where one is new and there is no place for it.
fn note(known: &mut [u16], one: u16) -> bool {
    for place in known {
        if *place == 0 {
            *place = one;
        }
        if *place == one {
            return true;
        }
    }
    false
}

/// Text of the line of these tokens: `wild` positions are variables, `varied` ones are hidden, and the rest where it is not
/// `proven`. `names` are what users put in the place of what they masked.
pub(crate) fn text(
    message: &str,
    tokens: &Tokens,
    (wild, varied): (u64, u64),
    proven: bool,
    names: &[Box<str>],
) -> String {
    let bytes = message.as_bytes();
    let mut text = String::new();
    let mut reach = 0;
    for (i, token) in tokens.tokens.iter().enumerate() {
        if text.len() >= TEXT_BYTES_MAX {
            break;
        }
        text.push_str(if i > 0 { " " } else { "" });
        if (wild >> i) & 1 == 1 {
            text.push_str(WILD_TEXT);
            continue;
        }
        let word = token.kept(bytes);
        if !word.is_empty() {
            let is_shown = proven && reach == 0 && (varied >> i) & 1 == 0;
            push_word(&mut text, word, is_shown || is_known(word, names));
            reach = if introduces(word) {
                REACH
            } else {
                reach.saturating_sub(1)
            };
        }
        text.push_str(if token.variable { WILD_TEXT } else { "" });
    }
    text
}

/// Whether a word says nothing but words of software and names of masks.
fn is_known(word: &[u8], names: &[Box<str>]) -> bool {
    if is_plain(word) {
        return true;
    }
    let Ok(word) = std::str::from_utf8(word) else {
        return false;
    };
    let rest = names
        .iter()
        .fold(word.to_owned(), |rest, name| rest.replace(&**name, ""));
    rest.len() < word.len() && is_plain(rest.as_bytes())
}

/// A word for people, or what stands for it.
pub(crate) fn push_word(text: &mut String, word: &[u8], is_shown: bool) {
    if is_shown {
        let word = String::from_utf8_lossy(word.get(..TEXT_BYTES_MAX).unwrap_or(word));
        // Templates are shown to people: nothing in them may speak to a terminal.
        text.push_str(&printable(&word));
    } else {
        text.push_str(HIDDEN_TEXT);
    }
}

/// The text with the words at these positions hidden, but for plain ones.
pub(crate) fn hidden(text: &str, positions: u64, names: &[Box<str>]) -> String {
    let words = text.split(' ').enumerate().map(|(i, shown)| {
        let (word, value) = match shown.strip_suffix(WILD_TEXT) {
            Some(word) => (word, WILD_TEXT),
            None => (shown, ""),
        };
        let is_shown = word.is_empty() || i >= 64 || (positions >> i) & 1 == 0 || is_known(word.as_bytes(), names);
        format!("{}{value}", if is_shown { word } else { HIDDEN_TEXT })
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A message with nothing but its plain words, variables as `<*>`, all other words as `<?>`; cut at about 256 bytes. For text
/// that no miner has seen.
#[must_use]
pub fn plain_text(message: &str, names: &[Box<str>]) -> String {
    let mut tokens = Tokens::default();
    tokens.scan(&MiningRules::default(), message, None);
    text(message, &tokens, (0, 0), false, names)
}

/// Whether a name or a secret may come next, or next but one.
fn introduces(word: &[u8]) -> bool {
    const WORDS: [&[u8]; 30] = [
        b"account",
        b"apikey",
        b"authorization",
        b"by",
        b"credential",
        b"credentials",
        b"customer",
        b"dear",
        b"dr",
        b"for",
        b"hello",
        b"hi",
        b"key",
        b"login",
        b"mr",
        b"mrs",
        b"ms",
        b"name",
        b"named",
        b"owner",
        b"passphrase",
        b"passwd",
        b"password",
        b"pin",
        b"pwd",
        b"secret",
        b"token",
        b"user",
        b"username",
        b"with",
    ];
    let is_letter = |b: &u8| b.is_ascii_alphabetic();
    // The last word of `api_key=` and `user's`.
    let end = word.iter().rposition(is_letter).map_or(0, |last| last + 1);
    let word = word.get(..end).unwrap_or_default();
    let word = word.strip_suffix(b"'s").unwrap_or(word);
    let start = word.iter().rposition(|b| !is_letter(b)).map_or(0, |at| at + 1);
    let word = word.get(start..).unwrap_or_default();
    WORDS.iter().any(|known| known.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_contents_or_three_sources_prove() {
        let lines = |contents: u64, sources: u64| {
            let mut proof = Proof::default();
            let n = contents.max(sources);
            (0..n).any(|i| proof.add(&(i % contents).to_le_bytes(), i % sources))
        };
        for (contents, sources, expected) in [
            (1, 1, false),
            (4, 1, false),
            (5, 1, true),
            (1, 2, false),
            (1, 3, true),
            (4, 2, false),
        ] {
            assert_eq!(
                lines(contents, sources),
                expected,
                "{contents} contents, {sources} sources"
            );
        }
        let mut proof = Proof::default();
        assert!(
            !(0..100).any(|_| proof.add(b"the same", 7)),
            "repetition proves nothing"
        );
    }

    #[test]
    fn text_by_case() {
        for (message, proven, expected) in [
            ("", false, ""),
            ("request 17 failed", false, "request <*> failed"),
            ("zorkmid 17 failed", false, "<?> <*> failed"),
            ("zorkmid 17 failed", true, "zorkmid <*> failed"),
            ("zorkmid=17", false, "<?><*>"),
            ("zorkmid=17", true, "zorkmid=<*>"),
            ("zorkmid for alice", true, "zorkmid for <?>"),
            ("user Mary Smith left early", true, "user <?> <?> left early"),
            ("the password is hunter", true, "the password is <?>"),
            ("api_key hunter ok", true, "api_key <?> ok"),
            ("user's zorkmid gone", true, "user's <?> gone"),
            ("token expired", true, "token expired"),
            ("a\u{1b}[2J zorkmid", false, "<*> <?>"),
        ] {
            let mut tokens = Tokens::default();
            tokens.scan(&MiningRules::default(), message, None);
            assert_eq!(text(message, &tokens, (0, 0), proven, &[]), expected, "{message:?}");
        }
        assert_eq!(
            plain_text("mail to me@example.org from Bob failed", &[]),
            "mail to <*> from <?> failed"
        );
    }

    #[test]
    fn names_of_masks_are_shown() {
        let names: [Box<str>; 2] = ["<zork>".into(), "<quest>".into()];
        for (message, expected) in [
            ("<zork> failed for <quest>", "<zork> failed for <quest>"),
            ("order=<zork>,<quest>", "order=<zork>,<quest>"),
            ("alice=<zork>", "<?>"),
            ("<alice> zork", "<?> <?>"),
        ] {
            assert_eq!(plain_text(message, &names), expected, "{message}");
            assert_eq!(hidden(message, u64::MAX, &names), expected, "{message}");
        }
    }

    #[test]
    fn what_varies_is_hidden_again() {
        assert_eq!(
            hidden("alice said bob=<*> <*> failed", 0b11111, &[]),
            "<?> <?> <?><*> <*> failed"
        );
        assert_eq!(hidden("alice said bob=<*>", 0b1, &[]), "<?> said bob=<*>");
        assert_eq!(hidden("", u64::MAX, &[]), "");
    }
}
