//! Tells variables from words by their look alone: numbers, hexadecimal ids, addresses, paths, hosts, values of secrets. Of
//! `key=value`, `key:value` and `call(value)` the key stays.
//!
//! Fails where a variable looks like a word (a user's name), which is the business of the miner's merging, and where a word
//! holds a digit (`ssh2`), which then distinguishes nothing. Cost: a few passes over the bytes of a suspicious token, none
//! over others; no state. Masking before clustering as in He et al., "Drain", ICWS 2017, section III.B. `Differs:` no
//! regular expressions, so no bytes can make it slow.

use crate::MiningRules;

pub(crate) const DIGIT: u8 = 1;
pub(crate) const HEX_LETTER: u8 = 2;
pub(crate) const LETTER: u8 = 4;
pub(crate) const DOT: u8 = 8;
pub(crate) const SLASH: u8 = 16;
pub(crate) const AT: u8 = 32;
pub(crate) const KEY_END: u8 = 64;
pub(crate) const SPACE: u8 = 128;
/// Without one of these, and short or with a letter beyond `f`, a token is a word.
const SUSPICIOUS: u8 = DIGIT | DOT | SLASH | AT | KEY_END;

static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[allow(clippy::cast_possible_truncation)] // byte < 256
        let b = byte as u8;
        table[byte] = match b {
            b'0'..=b'9' => DIGIT,
            b'a'..=b'f' | b'A'..=b'F' => HEX_LETTER,
            // Bytes beyond ASCII are parts of letters in every script that logs are written in.
            b'g'..=b'z' | b'G'..=b'Z' | 0x80.. => LETTER,
            b'.' => DOT,
            b'/' | b'\\' => SLASH,
            b'@' => AT,
            b'=' | b':' | b'(' => KEY_END,
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => SPACE,
            _ => 0,
        };
        byte += 1;
    }
    table
}

/// What a byte can be a part of.
pub(crate) fn class(byte: u8) -> u8 {
    CLASS[byte as usize]
}

fn is_alphanumeric(byte: u8) -> bool {
    class(byte) & (DIGIT | HEX_LETTER | LETTER) != 0
}

fn is_letter(byte: u8) -> bool {
    class(byte) & (HEX_LETTER | LETTER) != 0
}

/// Whether a token is a variable, and then how many of its first bytes are a key that stays (5 of `size=12`); `seen` is
/// the union of its bytes' classes.
pub(crate) fn variable(rules: &MiningRules, token: &[u8], seen: u8) -> Option<usize> {
    if seen & SUSPICIOUS == 0 && (token.len() < rules.hex_min || seen & (LETTER | HEX_LETTER) != HEX_LETTER) {
        return None;
    }
    let is_variable = seen & DIGIT != 0
        || has_hex(token, rules.hex_min)
        || (seen & AT != 0 && is_address(token))
        || (seen & SLASH != 0 && rules.paths && is_path(token))
        || (seen & DOT != 0 && rules.hosts && is_host(token))
        || (seen & KEY_END != 0 && is_secret(token));
    is_variable.then(|| match dot_leader(token) {
        Some(length) => length,
        None if rules.keys || seen & KEY_END != 0 && is_secret(token) => key_length(token),
        None => 0,
    })
}

fn has_hex(token: &[u8], least: usize) -> bool {
    token
        .split(|&b| !is_alphanumeric(b))
        .any(|word| word.len() >= least && word.iter().all(|&b| class(b) & (DIGIT | HEX_LETTER) != 0))
}

fn is_address(token: &[u8]) -> bool {
    token
        .windows(3)
        .any(|w| matches!(w, [a, b'@', b] if is_alphanumeric(*a) && is_alphanumeric(*b)))
}

fn is_path(token: &[u8]) -> bool {
    let slashes = token.iter().filter(|&&b| class(b) == SLASH).count();
    slashes >= 2 || (token.len() > 1 && token.first() == Some(&b'/'))
}

fn is_host(token: &[u8]) -> bool {
    let inner = |w: &&[u8]| matches!(w, [a, b'.', b] if is_alphanumeric(*a) && is_alphanumeric(*b));
    token.windows(3).filter(inner).count() >= 2
}

/// Length of `key=`, `key:` or `call(` at the head of a variable, 0 where there is none.
fn key_length(token: &[u8]) -> usize {
    let Some(end) = token
        .iter()
        .position(|&b| class(b) & (KEY_END | DIGIT | SLASH | AT) != 0)
    else {
        return 0;
    };
    let named = token.iter().take(end).any(|&b| is_letter(b));
    let ended = token.get(end).is_some_and(|&b| class(b) == KEY_END);
    if named && ended && end + 1 < token.len() {
        end + 1
    } else {
        0
    }
}

/// Length of `key.....` at the head of a variable: tables in prose are drawn with dots.
fn dot_leader(token: &[u8]) -> Option<usize> {
    let at = token.windows(3).position(|w| w == b"...")?;
    let named = at >= 2 && token.iter().take(at).all(|&b| is_letter(b));
    let dots = token.iter().skip(at).take_while(|&&b| b == b'.').count();
    (named && at + dots < token.len()).then_some(at + dots)
}

/// `password=hunter` and its like: what must not be kept, whatever it looks like.
fn is_secret(token: &[u8]) -> bool {
    token
        .iter()
        .position(|&b| class(b) == KEY_END)
        .is_some_and(|end| end + 1 < token.len() && token.get(..=end).is_some_and(ends_secret_key))
}

/// Whether a token is the key of a secret whose value comes next: `password:`.
pub(crate) fn ends_secret_key(token: &[u8]) -> bool {
    const SECRETS: [&[u8]; 10] = [
        b"password",
        b"passwd",
        b"passphrase",
        b"pwd",
        b"secret",
        b"token",
        b"apikey",
        b"api_key",
        b"access_key",
        b"authorization",
    ];
    let Some((last, key)) = token.split_last() else {
        return false;
    };
    class(*last) == KEY_END
        && SECRETS.iter().any(|s| {
            key.len()
                .checked_sub(s.len())
                .and_then(|at| key.get(at..))
                .is_some_and(|end| end.eq_ignore_ascii_case(s))
        })
}

fn without_punctuation(token: &[u8]) -> &[u8] {
    let start = token.iter().position(|&b| is_alphanumeric(b)).unwrap_or(token.len());
    let end = token
        .iter()
        .rposition(|&b| is_alphanumeric(b))
        .map_or(start, |last| last + 1);
    token.get(start..end).unwrap_or_default()
}

/// What belongs to the number before it: units, the half of the day, time zones.
pub(crate) fn follows_number(token: &[u8]) -> bool {
    token.len() <= 6
        && matches!(
            without_punctuation(token),
            b"bytes"
                | b"B"
                | b"kB"
                | b"KB"
                | b"MB"
                | b"GB"
                | b"TB"
                | b"KiB"
                | b"MiB"
                | b"GiB"
                | b"TiB"
                | b"Hz"
                | b"kHz"
                | b"MHz"
                | b"GHz"
                | b"ns"
                | b"us"
                | b"ms"
                | b"s"
                | b"sec"
                | b"secs"
                | b"min"
                | b"C"
                | b"V"
                | b"W"
                | b"AM"
                | b"PM"
                | b"UTC"
                | b"GMT"
                | b"EST"
                | b"EDT"
                | b"PST"
                | b"PDT"
                | b"CET"
                | b"CEST"
        )
}

/// What belongs to the number after it: days of the week and months.
pub(crate) fn precedes_number(token: &[u8]) -> bool {
    token.len() <= 4
        && matches!(
            without_punctuation(token),
            b"Mon"
                | b"Tue"
                | b"Wed"
                | b"Thu"
                | b"Fri"
                | b"Sat"
                | b"Sun"
                | b"Jan"
                | b"Feb"
                | b"Mar"
                | b"Apr"
                | b"May"
                | b"Jun"
                | b"Jul"
                | b"Aug"
                | b"Sep"
                | b"Oct"
                | b"Nov"
                | b"Dec"
        )
}

/// Words that say something went wrong, or how grave it is. They are what a template is about, so merging never takes them out.
pub(crate) fn is_anchor(word: &[u8]) -> bool {
    const ANCHORS: [&[u8]; 16] = [
        b"abort",
        b"corrupt",
        b"critical",
        b"denied",
        b"error",
        b"exception",
        b"exceeded",
        b"fail",
        b"fatal",
        b"killed",
        b"lost",
        b"panic",
        b"refused",
        b"timed",
        b"timeout",
        b"unreachable",
    ];
    let level = matches!(
        without_punctuation(word),
        b"TRACE" | b"DEBUG" | b"INFO" | b"NOTICE" | b"WARN" | b"WARNING" | b"SEVERE" | b"ALERT" | b"EMERGENCY"
    );
    level
        || ANCHORS
            .iter()
            .any(|anchor| word.windows(anchor.len()).any(|w| w.eq_ignore_ascii_case(anchor)))
}

/// Words after which a name comes: three different ones are enough to know a variable.
pub(crate) fn introduces_name(word: &[u8]) -> bool {
    matches!(word, b"user" | b"User" | b"username" | b"login")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(token: &str) -> String {
        let seen = token.bytes().fold(0, |seen, b| seen | class(b));
        match variable(&MiningRules::default(), token.as_bytes(), seen) {
            None => token.to_owned(),
            Some(key) => format!("{}<*>", String::from_utf8_lossy(&token.as_bytes()[..key])),
        }
    }

    #[test]
    fn masks_by_case() {
        for (token, expected) in [
            ("word", "word"),
            ("facade", "facade"),
            ("deadbeef", "<*>"),
            ("defaced.", "defaced."),
            ("mask=ffffffff", "mask=<*>"),
            ("10.0.0.1:8080", "<*>"),
            ("size=12,", "size=<*>"),
            ("size:", "size:"),
            ("=5", "<*>"),
            ("wait(12ms)", "wait(<*>"),
            ("a1=b2", "<*>"),
            ("/var/log", "<*>"),
            ("/", "/"),
            ("read/write", "read/write"),
            ("C:\\Windows\\Temp", "C:<*>"),
            ("www.example.org", "<*>"),
            ("end...", "end..."),
            ("example.org", "example.org"),
            ("me@example.org", "<*>"),
            ("@", "@"),
            ("instruction......0", "instruction......<*>"),
            ("password=hunter", "password=<*>"),
            ("Password:", "Password:"),
            ("naïve", "naïve"),
            ("größe=3", "größe=<*>"),
            ("", ""),
        ] {
            assert_eq!(masked(token), expected, "{token}");
        }
    }

    #[test]
    fn neighbours_of_numbers_by_case() {
        for (token, expected) in [
            ("KB,", true),
            ("ms.", true),
            ("bytes", true),
            ("files", false),
            ("", false),
            ("UTC]", true),
        ] {
            assert_eq!(follows_number(token.as_bytes()), expected, "{token}");
        }
        for (token, expected) in [
            ("Mon,", true),
            ("[Mon", true),
            ("[", false),
            ("May", true),
            ("March", false),
            ("", false),
        ] {
            assert_eq!(precedes_number(token.as_bytes()), expected, "{token}");
        }
    }

    #[test]
    fn anchors_by_case() {
        for (word, expected) in [
            ("Failed", true),
            ("IOException:", true),
            ("ok", false),
            ("INFO:", true),
            ("info", false),
            ("", false),
        ] {
            assert_eq!(is_anchor(word.as_bytes()), expected, "{word}");
        }
    }
}
