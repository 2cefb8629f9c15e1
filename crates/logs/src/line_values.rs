//! The values in a line: what stands at the variable places of its template, with the key before each.
//!
//! A **place** is the position of a token and, where neighbouring variables are one token (`/a 200 12 ms`), the number of the value in it; a
//! template that merges keeps its token count, so places stay. A word stands at a place where merging made a variable of words.
//! Fails where a list has now more and now fewer members: the places of all behind it move, and the next stage finds that they are
//! nothing it can track. Cost: a second look at the bytes of the variables, some 10 ns each; only for lines of templates
//! that are watched.

use crate::miner::Miner;
use crate::number::{Number, Unit, bare};
use crate::tokens::{BYTES_MAX, Token};
use crate::words::is_plain;

/// Values of one token that are told apart.
const PARTS_MAX: usize = 8;
/// Bytes of a key that is kept.
const KEY_BYTES_MAX: usize = 32;

/// One value in a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LineValue<'a> {
    /// Where it stands.
    pub place: u16,
    /// The key of `key=value`, or the word before; may be empty.
    pub key: &'a [u8],
    /// What stands there, without brackets and stops around it.
    pub text: &'a [u8],
    /// The number that it is.
    pub number: Option<Number>,
}

impl LineValue<'_> {
    /// Whether its key says that it names something, or is a secret: an id, a port, a password; neither amount nor kind. What has a
    /// unit is no name.
    #[must_use]
    pub fn is_name(&self) -> bool {
        self.number.is_none_or(|n| n.unit == Unit::None) && key_words(self.key).any(is_naming)
    }

    /// The key as far as it may be shown: words of software, or any where `all` is shown.
    #[must_use]
    pub fn shown_key(&self, all: bool) -> Option<Box<str>> {
        let is_shown = !self.key.is_empty() && self.key.len() <= KEY_BYTES_MAX && (all || is_plain(self.key));
        let key = std::str::from_utf8(self.key).ok().filter(|_| is_shown)?;
        Some(foreshock_domain::text::printable(key).into())
    }
}

impl Miner {
    /// Hands out the values of the line that was mined last, which is `message`. `words`: the positions at which words are values,
    /// see [`Miner::word_places`].
    pub fn each_value<'a>(&self, message: &'a str, words: u64, mut take: impl FnMut(LineValue<'a>)) {
        let bytes = message.as_bytes();
        let bytes = bytes.get(..BYTES_MAX).unwrap_or(bytes);
        let tokens = &self.scanned().tokens;
        let mut before: &[u8] = &[];
        for (position, token) in tokens.iter().enumerate() {
            let kept = token.kept(bytes);
            if token.variable {
                let end = tokens.get(position + 1).map_or(bytes.len(), |next| next.start as usize);
                let region = bytes.get(token.kept as usize..end).unwrap_or_default();
                let key = if token.is_wild() { before } else { kept };
                parts(position, bare_key(key), region, &mut take);
            } else if (words >> position) & 1 == 1 {
                take(LineValue {
                    place: place(position, 0),
                    key: bare_key(before),
                    text: bare(kept),
                    number: None,
                });
            }
            before = if is_word(*token) { kept } else { &[] };
        }
    }
}

fn is_word(token: Token) -> bool {
    !token.variable
}

fn place(position: usize, part: usize) -> u16 {
    u16::try_from(position * PARTS_MAX + part).unwrap_or(u16::MAX)
}

/// The position of a token, in a place.
#[must_use]
pub fn position_of(place: u16) -> usize {
    usize::from(place) / PARTS_MAX
}

/// Which of the values of its token it is, in a place.
#[must_use]
pub fn part_of(place: u16) -> usize {
    usize::from(place) % PARTS_MAX
}

/// The values of one token.
fn parts<'a>(position: usize, key: &'a [u8], region: &'a [u8], take: &mut impl FnMut(LineValue<'a>)) {
    let mut words = Words(region).peekable();
    let mut part = 0;
    while let Some(word) = words.next() {
        if part == PARTS_MAX {
            return;
        }
        // Of what is written in one piece, each value has its own key: `200,"took":12}`.
        let (own, value) = split_key(word);
        let text = bare(value);
        let number = Number::read(text, words.peek().copied());
        if number.is_some_and(|(_, unit_follows)| unit_follows) {
            words.next();
        }
        take(LineValue {
            place: place(position, part),
            key: match own {
                Some(own) => bare_key(own),
                None if part == 0 => key,
                None => &[],
            },
            text,
            number: number.map(|(number, _)| number),
        });
        part += 1;
    }
}

/// Words between white space, and between commas and semicolons unless a digit follows.
struct Words<'a>(&'a [u8]);

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.0.iter().position(|b| !is_end(*b))?;
        let rest = self.0.get(start..)?;
        let ends = |(i, b): (usize, &u8)| {
            b.is_ascii_whitespace()
                || matches!(b, b',' | b';' | b'&') && !rest.get(i + 1).is_some_and(u8::is_ascii_digit)
        };
        let length = rest
            .iter()
            .enumerate()
            .position(|(i, b)| ends((i, b)))
            .unwrap_or(rest.len());
        self.0 = rest.get(length..).unwrap_or_default();
        rest.get(..length)
    }
}

fn is_end(b: u8) -> bool {
    b.is_ascii_whitespace() || matches!(b, b',' | b';' | b'&')
}

/// `"took":12` is a key and a value; a clock, an address or a path is none.
fn split_key(word: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let Some(end) = word.iter().position(|b| matches!(b, b'=' | b':' | b'(')) else {
        return (None, word);
    };
    let (key, value) = word.split_at(end);
    let named =
        key.iter().any(u8::is_ascii_alphabetic) && !key.iter().any(|b| matches!(b, b'/' | b'.') || b.is_ascii_digit());
    match value.get(1..) {
        Some(value) if named && !value.is_empty() => (Some(key), value),
        _ => (None, word),
    }
}

fn bare_key(key: &[u8]) -> &[u8] {
    let is_letter = |b: &u8| b.is_ascii_alphanumeric() || *b >= 0x80;
    let start = key.iter().position(is_letter).unwrap_or(key.len());
    let end = key.iter().rposition(is_letter).map_or(start, |last| last + 1);
    key.get(start..end).unwrap_or_default()
}

/// The words of `requestId`, `thread-id` and `pid`.
fn key_words(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    key.split(|b| !b.is_ascii_alphanumeric()).flat_map(|run| {
        let mut rest = run;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let begins = |w: &[u8]| matches!(w, [a, b] if !a.is_ascii_uppercase() && b.is_ascii_uppercase());
            let length = rest.windows(2).position(begins).map_or(rest.len(), |at| at + 1);
            let (word, after) = rest.split_at(length);
            rest = after;
            Some(word)
        })
    })
}

/// Words for what is numbered or named and not measured, and for what is nobody's business.
const NAMING: &str = "account addr address apikey authorization build card client credential credentials customer date epoch fd \
    generation gid hash host id ids index ip job key line login lsn no nonce number offset order owner partition passphrase passwd \
    password phone pid pin port ppid pwd req request revision secret seq sequence serial session shard span ssn task term thread tid \
    timestamp token trace transaction ts txn uid user username uuid version xid zxid";

fn is_naming(word: &[u8]) -> bool {
    NAMING
        .split(' ')
        .any(|known| known.as_bytes().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each value as `key:text`, with its number in front where it is one.
    fn values(message: &str, words: u64) -> Vec<String> {
        let mut miner = Miner::new();
        miner.mine(message, None);
        let mut out = Vec::new();
        miner.each_value(message, words, |v| {
            let number = v
                .number
                .map_or(String::new(), |n| format!("{}{} = ", n.value, n.unit.symbol()));
            let (key, text) = (String::from_utf8_lossy(v.key), String::from_utf8_lossy(v.text));
            out.push(format!("{}: {number}{key} {text}", v.place));
        });
        out
    }

    #[test]
    fn values_by_case() {
        let cases: [(&str, &[&str]); 9] = [
            ("all is well", &[]),
            ("request took 12 ms", &["16: 12ms = took 12"]),
            (
                "done status=404, took=3.5s.",
                &["8: 404 = status 404", "16: 3.5s = took 3.5s"],
            ),
            (
                "GET /a/b 200 1024 bytes 12ms",
                &["8: GET /a/b", "9: 200 =  200", "10: 1024B =  1024", "11: 12ms =  12ms"],
            ),
            (
                "answer {\"status\":200,\"took\":12}",
                &["8: 200 = status 200", "9: 12 = took 12"],
            ),
            (
                "rtt=1.5ms,loss=0.5% seen",
                &["0: 1.5ms = rtt 1.5ms", "1: 0.5% = loss 0.5%"],
            ),
            ("sizes=1,2,3", &["0: sizes 1,2,3"]),
            ("ids 1 2", &["8: 1 = ids 1", "9: 2 =  2"]),
            ("from 10.0.0.1:80 port 51", &["8: from 10.0.0.1:80", "24: 51 = port 51"]),
        ];
        for (message, want) in cases {
            assert_eq!(values(message, 0), want, "{message}");
        }
        assert_eq!(values("state is idle.", 1 << 2), ["16: is idle"]);
        assert_eq!(position_of(16), 2);
    }

    #[test]
    fn no_more_than_eight_values_of_one_token() {
        let many = format!("x {}", "1 ".repeat(100));
        assert_eq!(values(&many, 0).len(), PARTS_MAX);
    }

    #[test]
    fn names_are_told_by_their_keys() {
        let value = |key| LineValue {
            place: 0,
            key,
            text: b"1",
            number: Some(Number {
                value: 1.0,
                unit: Unit::None,
            }),
        };
        for (key, want) in [
            (&b"requestId"[..], true),
            (b"req_id", true),
            (b"pid", true),
            (b"Port", true),
            (b"userName", true),
            (b"user", true),
            (b"took", false),
            (b"duration_ms", false),
            (b"invalid", false),
            (b"sequences", false),
            (b"", false),
        ] {
            assert_eq!(value(key).is_name(), want, "{}", String::from_utf8_lossy(key));
        }
        let mut measured = value(b"request");
        measured.number = Some(Number {
            value: 1.0,
            unit: Unit::Millisecond,
        });
        assert!(!measured.is_name());
        assert_eq!(value(b"timeout").shown_key(false).as_deref(), Some("timeout"));
        assert_eq!(value(b"zorkmid").shown_key(false), None);
        assert_eq!(value(b"zorkmid").shown_key(true).as_deref(), Some("zorkmid"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_values(message in "\\PC*", words: u64) {
            let mut miner = Miner::new();
            miner.mine(&message, None);
            miner.each_value(&message, words, |v| assert!(v.text.len() <= message.len()));
            // A message that is not the one mined gives nonsense, and no panic.
            miner.each_value("x", words, |_| ());
        }
    }
}
