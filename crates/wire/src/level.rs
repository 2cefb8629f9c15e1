use foreshock_domain::Level;

use crate::json::Scalar;

/// Level of a word, in any case: the names of syslog, log4j, Python, Go and their abbreviations.
#[must_use]
pub fn parse_level(word: &str) -> Option<Level> {
    /// Longest word below; longer ones need not be looked at.
    const WORD_BYTES_MAX: usize = 13;
    const WORDS: [(&str, Level); 26] = [
        ("info", Level::Info),
        ("error", Level::Error),
        ("warn", Level::Warning),
        ("warning", Level::Warning),
        ("debug", Level::Debug),
        ("trace", Level::Trace),
        ("fatal", Level::Fatal),
        ("critical", Level::Fatal),
        ("notice", Level::Info),
        ("information", Level::Info),
        ("informational", Level::Info),
        ("audit", Level::Info),
        ("verbose", Level::Trace),
        ("fine", Level::Debug),
        ("finer", Level::Trace),
        ("finest", Level::Trace),
        ("config", Level::Info),
        ("err", Level::Error),
        ("severe", Level::Error),
        ("crit", Level::Fatal),
        ("alert", Level::Fatal),
        ("emerg", Level::Fatal),
        ("emergency", Level::Fatal),
        ("panic", Level::Fatal),
        ("dpanic", Level::Fatal),
        ("failure", Level::Error),
    ];
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    WORDS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(word))
        .map(|(_, level)| *level)
}

/// Level of a JSON value: a word, the numbers 0–7 of syslog, or the tens 10–60 of Bunyan and Pino.
pub(crate) fn from_scalar(found: &Scalar<'_>) -> Option<Level> {
    let number = match found {
        Scalar::Text(word) => match word.trim_ascii().parse() {
            Ok(n) => n,
            Err(_) => return parse_level(word.trim_ascii()),
        },
        Scalar::Unsigned(n) => *n,
        Scalar::Signed(n) => u64::try_from(*n).ok()?,
        _ => return None,
    };
    match number {
        0..=2 => Some(Level::Fatal),
        3 => Some(Level::Error),
        4 => Some(Level::Warning),
        5 | 6 => Some(Level::Info),
        7 => Some(Level::Debug),
        10..=19 => Some(Level::Trace),
        20..=29 => Some(Level::Debug),
        30..=39 => Some(Level::Info),
        40..=49 => Some(Level::Warning),
        50..=59 => Some(Level::Error),
        60..=69 => Some(Level::Fatal),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers() {
        let cases = [
            (Scalar::Text("INFO".into()), Some(Level::Info)),
            (Scalar::Text("Warning".into()), Some(Level::Warning)),
            (Scalar::Text(" error ".into()), Some(Level::Error)),
            (Scalar::Text("CRITICAL".into()), Some(Level::Fatal)),
            (Scalar::Text("3".into()), Some(Level::Error)),
            (Scalar::Text("".into()), None),
            (Scalar::Text("informationalx".into()), None),
            (Scalar::Unsigned(0), Some(Level::Fatal)),
            (Scalar::Unsigned(7), Some(Level::Debug)),
            (Scalar::Unsigned(8), None),
            (Scalar::Unsigned(30), Some(Level::Info)),
            (Scalar::Unsigned(60), Some(Level::Fatal)),
            (Scalar::Unsigned(u64::MAX), None),
            (Scalar::Signed(-1), None),
            (Scalar::Float(f64::NAN), None),
            (Scalar::Null, None),
            (Scalar::Nested, None),
        ];
        for (found, expected) in cases {
            assert_eq!(from_scalar(&found), expected, "{found:?}");
        }
    }
}
