//! Cuts a message at white space, masks what looks like a variable, and hashes what is left, with its order, its count and
//! the level, into the line's **signature**. Neighbouring variables count as one, so that a list is a list of any length.
//!
//! Fails on messages whose kind is told by what is past the first [`BYTES_MAX`] bytes or [`TOKENS_MAX`] tokens. Cost: one pass
//! over the bytes, some nanoseconds a token more; nothing is allocated once the scratch has grown. Token count and first
//! token as the first levels of the search, as in He et al., "Drain", ICWS 2017, section III.C.

use foreshock_domain::Level;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::MiningRules;
use crate::mask::{SPACE, class, ends_secret_key, follows_number, precedes_number, variable};

/// Bytes of a message that count; the rest of a long one (a dump, a trace) says nothing more of its kind.
pub(crate) const BYTES_MAX: usize = 4_096;
/// Tokens that count; each has a bit in a `u64`.
pub(crate) const TOKENS_MAX: usize = 64;
/// Part of every hash: a change of the masking rules changes ids, and must change this.
const VERSION: u64 = 2;
/// What stands for a variable in hashes.
const WILD: u64 = 0x5bd1_e995_9d1b_3c4f;

/// One token of the message last scanned; offsets in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) start: u32,
    /// End of what is kept: all of a word, the key of `key=value`, nothing of another variable.
    pub(crate) kept: u32,
    pub(crate) variable: bool,
}

impl Token {
    /// A variable of which nothing is kept.
    pub(crate) fn is_wild(self) -> bool {
        self.variable && self.kept == self.start
    }

    /// The bytes that are kept.
    pub(crate) fn kept<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        message.get(self.start as usize..self.kept as usize).unwrap_or_default()
    }
}

/// The tokens of one message; kept between messages so that nothing is allocated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens {
    pub(crate) tokens: Vec<Token>,
    /// Each token's share in the signature, by position.
    pub(crate) shares: Vec<u64>,
    /// Level and count of tokens, hashed: what can merge has the same.
    pub(crate) frame: u64,
    pub(crate) signature: u64,
}

impl Tokens {
    /// Scans a message; `self` then describes it.
    pub(crate) fn scan(&mut self, rules: &MiningRules, message: &str, level: Option<Level>) {
        self.tokens.clear();
        self.shares.clear();
        let bytes = message.as_bytes();
        let bytes = bytes.get(..BYTES_MAX).unwrap_or(bytes);
        let mut at = 0;
        while self.tokens.len() < TOKENS_MAX {
            let Some((mut token, mut hash)) = next_token(rules, bytes, &mut at) else {
                break;
            };
            let last = self.tokens.last().copied().unwrap_or_default();
            if !token.variable && is_claimed(rules, bytes, last, token) {
                (token.kept, token.variable, hash) = (token.start, true, WILD);
            }
            if token.is_wild() {
                if rules.units {
                    self.claim_date(bytes);
                }
                if self.tokens.last().is_some_and(|last| last.is_wild()) {
                    continue;
                }
            }
            self.shares.push(share(self.tokens.len(), hash));
            self.tokens.push(token);
        }
        self.frame = frame(level, self.tokens.len());
        self.signature = self
            .shares
            .iter()
            .fold(self.frame, |sum, share| sum.wrapping_add(*share));
    }

    /// Takes the days and months before a number into it.
    fn claim_date(&mut self, bytes: &[u8]) {
        while self
            .tokens
            .last()
            .is_some_and(|last| !last.variable && precedes_number(last.kept(bytes)))
        {
            self.tokens.pop();
            self.shares.pop();
        }
    }
}

/// Whether a word belongs to the variable before it, or is a secret.
fn is_claimed(rules: &MiningRules, bytes: &[u8], last: Token, token: Token) -> bool {
    if last.variable {
        rules.units && last.is_wild() && follows_number(token.kept(bytes))
    } else {
        ends_secret_key(last.kept(bytes))
    }
}

fn next_token(rules: &MiningRules, bytes: &[u8], at: &mut usize) -> Option<(Token, u64)> {
    let rest = bytes.get(*at..)?;
    let skipped = rest.iter().position(|&b| class(b) != SPACE)?;
    let rest = rest.get(skipped..)?;
    let mut seen = 0;
    let mut length = rest.len();
    for (i, &b) in rest.iter().enumerate() {
        if class(b) == SPACE {
            length = i;
            break;
        }
        seen |= class(b);
    }
    let start = *at + skipped;
    *at = start + length;
    let word = rest.get(..length)?;
    let token = |kept: usize, variable| Token {
        start: offset(start),
        kept: offset(start + kept),
        variable,
    };
    Some(match variable(rules, word, seen) {
        None => (token(length, false), xxh3_64_with_seed(word, VERSION)),
        Some(0) => (token(0, true), WILD),
        // Another seed: `size=` with a value after it is not the word `size=`.
        Some(key) => (token(key, true), xxh3_64_with_seed(word.get(..key)?, !VERSION)),
    })
}

#[allow(clippy::cast_possible_truncation)] // offsets are at most BYTES_MAX
fn offset(at: usize) -> u32 {
    at as u32
}

/// What all lines of one level and one count of tokens have in common in their signatures.
fn frame(level: Option<Level>, tokens: usize) -> u64 {
    let level = level.map_or(0, |level| level as u64 + 1);
    mix((VERSION << 32) | (level << 16) | tokens as u64)
}

/// A token's share in the signature. Signatures are sums of shares, so that the signature with one token wild costs two
/// additions and not another pass.
fn share(position: usize, hash: u64) -> u64 {
    mix(hash ^ (position as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The share of a variable at this position.
pub(crate) fn wild_share(position: usize) -> u64 {
    share(position, WILD)
}

/// Finaliser of `SplitMix64` (Steele, Lea, Flood, OOPSLA 2014): every input bit reaches every output bit.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(message: &str) -> String {
        let mut tokens = Tokens::default();
        tokens.scan(&MiningRules::default(), message, None);
        let words: Vec<String> = (tokens.tokens.iter())
            .map(|t| {
                format!(
                    "{}{}",
                    String::from_utf8_lossy(t.kept(message.as_bytes())),
                    if t.variable { "<*>" } else { "" }
                )
            })
            .collect();
        words.join(" ")
    }

    fn signature(message: &str, level: Option<Level>) -> u64 {
        let mut tokens = Tokens::default();
        tokens.scan(&MiningRules::default(), message, level);
        tokens.signature
    }

    #[test]
    fn scans_by_case() {
        for (message, expected) in [
            ("", ""),
            (" \t ", ""),
            ("  took  12 ms ", "took <*>"),
            ("free 1.5 KB, used 3 GB.", "free <*> used <*>"),
            ("close, 451 bytes (1.05 KB) sent", "close, <*> sent"),
            ("close, 451 bytes sent", "close, <*> sent"),
            ("at Thu Aug 11 10:00:00 PDT 2005 from a", "at <*> from a"),
            ("ids 1 2 3 4", "ids <*>"),
            ("a=1 b=2", "a=<*> b=<*>"),
            ("May we?", "May we?"),
            ("password: hunter two", "password: <*> two"),
            ("bad \u{fffd}\u{fffd} bytes", "bad \u{fffd}\u{fffd} bytes"),
        ] {
            assert_eq!(shown(message), expected, "{message:?}");
        }
    }

    #[test]
    fn signatures_tell_words_order_count_and_level() {
        let base = signature("disk full on 7", None);
        assert_eq!(base, signature("disk   full on 12345", None));
        for other in [
            "full disk on 7",
            "disk full on",
            "disk full on 7 now",
            "disc full on 7",
            "",
        ] {
            assert_ne!(base, signature(other, None), "{other}");
        }
        assert_ne!(base, signature("disk full on 7", Some(Level::Error)));
        assert_ne!(signature("size= a", None), signature("size=1 a", None));
    }

    #[test]
    fn identity_is_pinned() {
        // Ids are in users' dashboards and alert rules: a change of this number is a change of all of them.
        assert_eq!(
            signature("Accepted password for root from 10.0.0.1 port 22", Some(Level::Info)),
            PINNED
        );
    }

    const PINNED: u64 = 233_360_007_490_657_562;

    #[test]
    fn only_so_much_of_a_long_line_counts() {
        let long = "word ".repeat(300_000);
        assert_eq!(signature(&long, None), signature(&long[..BYTES_MAX], None));
        assert_eq!(shown(&long).split(' ').count(), TOKENS_MAX);
    }

    proptest::proptest! {
        #[test]
        fn any_text_scans(message in "\\PC*") {
            let mut tokens = Tokens::default();
            tokens.scan(&MiningRules::default(), &message, None);
            proptest::prop_assert!(tokens.tokens.len() <= TOKENS_MAX && tokens.tokens.len() == tokens.shares.len());
        }
    }
}
