//! Cuts a message at white space and masks the tokens that are variables by their look: numbers, hexadecimal ids, paths, hosts,
//! addresses. What is left, with its order, its count and the level, is hashed into the line's **signature**.
//!
//! Fails where a variable looks like a word (a user's name): that is what the miner's merging is for. Only the first
//! [`BYTES_MAX`] bytes and [`TOKENS_MAX`] tokens count. Cost: one pass over the bytes, no allocation once the scratch has
//! grown; about a nanosecond a byte. Masking before clustering as in He et al., "Drain", ICWS 2017, section III.B; no
//! regular expressions, so no bytes can make it slow.

use foreshock_domain::Level;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes of a message that count; the rest of a long one (a dump, a trace) says nothing more of its kind.
pub(crate) const BYTES_MAX: usize = 4_096;
/// Tokens that count; one bit of a `u64` each.
pub(crate) const TOKENS_MAX: usize = 64;
/// Part of every hash: a change of the masking rules changes all ids, and so must change this.
const VERSION: u64 = 1;
/// What stands for a variable in hashes.
const WILD: u64 = 0x5bd1_e995_9d1b_3c4f;

const DIGIT: u8 = 1;
const HEX_LETTER: u8 = 2;
const LETTER: u8 = 4;
const DOT: u8 = 8;
const SLASH: u8 = 16;
const AT: u8 = 32;
const KEY_END: u8 = 64;
const SPACE: u8 = 128;
/// Without one of these, and short or with a letter beyond `f`, a token is a word.
const SUSPICIOUS: u8 = DIGIT | DOT | SLASH | AT | KEY_END;

const CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[allow(clippy::cast_possible_truncation)] // byte < 256
        let b = byte as u8;
        table[byte] = match b {
            b'0'..=b'9' => DIGIT,
            b'a'..=b'f' | b'A'..=b'F' => HEX_LETTER,
            b'g'..=b'z' | b'G'..=b'Z' => LETTER,
            b'.' => DOT,
            b'/' | b'\\' => SLASH,
            b'@' => AT,
            b'=' | b':' => KEY_END,
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => SPACE,
            0x80.. => LETTER,
            _ => 0,
        };
        byte += 1;
    }
    table
}

/// One token of the message last scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) start: u32,
    /// End of what is kept: the whole token of a word, the key of `key=value`, nothing of a variable.
    pub(crate) kept: u32,
    pub(crate) variable: bool,
}

/// The tokens of one message; kept between messages so that nothing is allocated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens {
    pub(crate) tokens: Vec<Token>,
    /// Each token's share in the signature, by position.
    pub(crate) shares: Vec<u64>,
    pub(crate) signature: u64,
    pub(crate) frame: u64,
}

impl Tokens {
    /// Scans a message; `self` then describes it.
    pub(crate) fn scan(&mut self, message: &str, level: Option<Level>) {
        self.tokens.clear();
        self.shares.clear();
        let bytes = message.as_bytes();
        let bytes = bytes.get(..BYTES_MAX).unwrap_or(bytes);
        let mut at = 0;
        let mut sum = 0u64;
        while let Some(token) = next_token(bytes, &mut at) {
            let (token, hash) = token;
            if self.tokens.len() == TOKENS_MAX {
                break;
            }
            let share = share(self.tokens.len(), hash);
            sum = sum.wrapping_add(share);
            self.tokens.push(token);
            self.shares.push(share);
        }
        self.frame = frame(level, self.tokens.len());
        self.signature = self.frame.wrapping_add(sum);
    }
}

/// What all lines of one level and one count of tokens have in common in their signatures.
fn frame(level: Option<Level>, tokens: usize) -> u64 {
    let level = level.map_or(0, |l| l as u64 + 1);
    mix(VERSION << 32 | level << 16 | tokens as u64)
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

/// Finaliser of `SplitMix64` (Steele, Lea, Flood, 2014): every input bit reaches every output bit.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn next_token(bytes: &[u8], at: &mut usize) -> Option<(Token, u64)> {
    let rest = bytes.get(*at..)?;
    let skipped = rest.iter().position(|&b| CLASS[b as usize] & SPACE == 0)?;
    let start = *at + skipped;
    let rest = rest.get(skipped..)?;
    let mut seen = 0u8;
    let mut length = rest.len();
    for (i, &b) in rest.iter().enumerate() {
        let class = CLASS[b as usize];
        if class & SPACE != 0 {
            length = i;
            break;
        }
        seen |= class;
    }
    *at = start + length;
    let token = rest.get(..length)?;
    let kept = if seen & SUSPICIOUS == 0 && (length < 8 || seen & (LETTER | HEX_LETTER) != HEX_LETTER) {
        None
    } else {
        variable(token, seen)
    };
    let place = |kept: usize, variable| Token {
        start: offset(start),
        kept: offset(start + kept),
        variable,
    };
    Some(match kept {
        None => (place(length, false), xxh3_64_with_seed(token, VERSION)),
        Some(0) => (place(0, true), WILD),
        Some(key) => (place(key, true), xxh3_64_with_seed(token.get(..key)?, !VERSION)),
    })
}

#[allow(clippy::cast_possible_truncation)] // offsets are below BYTES_MAX
fn offset(at: usize) -> u32 {
    at as u32
}

/// Whether a token is a variable, and then how many of its first bytes are a key that stays (`size=` of `size=12`).
fn variable(token: &[u8], seen: u8) -> Option<usize> {
    let is_variable = seen & DIGIT != 0
        || (seen & (SUSPICIOUS | LETTER) == 0 && token.len() >= 8)
        || (seen & AT != 0 && is_address(token))
        || (seen & SLASH != 0 && is_path(token))
        || (seen & DOT != 0 && is_host(token));
    is_variable.then(|| key_length(token))
}

fn is_address(token: &[u8]) -> bool {
    token
        .windows(3)
        .any(|w| w[1] == b'@' && is_alphanumeric(w[0]) && is_alphanumeric(w[2]))
}

fn is_path(token: &[u8]) -> bool {
    let slashes = token.iter().filter(|&&b| b == b'/' || b == b'\\').count();
    slashes >= 2 || (slashes == 1 && token.len() > 1 && token[0] == b'/')
}

fn is_host(token: &[u8]) -> bool {
    token
        .windows(3)
        .filter(|w| w[1] == b'.' && is_alphanumeric(w[0]) && is_alphanumeric(w[2]))
        .count()
        >= 2
}

fn is_alphanumeric(b: u8) -> bool {
    CLASS[b as usize] & (DIGIT | HEX_LETTER | LETTER) != 0
}

/// Length of `key=` or `key:` at the head of a variable, 0 where there is none.
fn key_length(token: &[u8]) -> usize {
    let Some(end) = token
        .iter()
        .position(|&b| CLASS[b as usize] & (KEY_END | DIGIT | SLASH | AT) != 0)
    else {
        return 0;
    };
    let named = token[..end]
        .iter()
        .any(|&b| CLASS[b as usize] & (LETTER | HEX_LETTER) != 0);
    if named && CLASS[token[end] as usize] & KEY_END != 0 && end + 1 < token.len() {
        end + 1
    } else {
        0
    }
}
