//! What a user knows to be variable: patterns of a source, each replaced by its name before a line is mined, as `<order>`.
//!
//! All patterns are one alternation, so a line is searched once however many there are; where they meet, the first in the list
//! wins. Fails where a pattern matches what tells kinds of lines apart: those become one template. Cost: one search of the
//! first 4 KiB of a message, which takes linear time whatever the pattern; only a line that matches is copied, into memory that
//! is used again.

use std::sync::Arc;

use regex::{CaptureLocations, Regex};

use crate::pattern;

/// Patterns of one source.
pub const MASKS_MAX: usize = 64;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 32;
/// Bytes that all patterns of a source may take when compiled.
const PROGRAM_BYTES_MAX: usize = 4 << 20;

/// Which part of a mask is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskPart {
    /// Its name.
    Name,
    /// Its pattern.
    Pattern,
}

/// Why masks can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskError {
    /// Place in the list.
    pub index: usize,
    /// What of it.
    pub part: MaskPart,
    /// What is wrong with it.
    pub what: String,
}

/// Patterns, compiled once per source.
#[derive(Clone, Debug)]
pub struct Masks {
    any: Regex,
    /// Number of each pattern's group in `any`.
    groups: Vec<usize>,
    /// `<name>` of each pattern.
    placeholders: Arc<[Box<str>]>,
}

/// Memory that is used again for every line.
#[derive(Clone, Debug, Default)]
pub struct Masking {
    text: String,
    found: Option<CaptureLocations>,
}

impl Masks {
    /// Names and patterns; the name of a mask is letters, `_` and `-`.
    ///
    /// # Errors
    /// The first that is wrong: a pattern that is none, matches the empty string, or with which all together are too large.
    pub fn new(masks: &[(&str, &str)]) -> Result<Self, MaskError> {
        let error = |index, part, what: &str| MaskError {
            index,
            part,
            what: what.to_owned(),
        };
        let (mut all, mut groups, mut next) = (String::new(), Vec::new(), 1);
        let mut any = None;
        for (index, (name, pattern)) in masks.iter().enumerate() {
            if index >= MASKS_MAX {
                return Err(error(index, MaskPart::Name, "more than 64 masks"));
            }
            let is_name = |b: u8| b.is_ascii_alphabetic() || b == b'_' || b == b'-';
            if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_name) {
                return Err(error(index, MaskPart::Name, &format!("{name:?}")));
            }
            let alone =
                pattern::compile(pattern, PROGRAM_BYTES_MAX).map_err(|what| error(index, MaskPart::Pattern, &what))?;
            if alone.is_match("") {
                return Err(error(index, MaskPart::Pattern, "it matches the empty string"));
            }
            all.push_str(if index > 0 { "|(" } else { "(" });
            all.push_str(pattern);
            all.push(')');
            // Each time, so that the error names the pattern with which it begins.
            any =
                Some(pattern::compile(&all, PROGRAM_BYTES_MAX).map_err(|what| error(index, MaskPart::Pattern, &what))?);
            groups.push(next);
            next += alone.captures_len();
        }
        let Some(any) = any else {
            return Err(error(0, MaskPart::Pattern, "there is none"));
        };
        let placeholders = masks.iter().map(|(name, _)| format!("<{name}>").into()).collect();
        Ok(Self {
            any,
            groups,
            placeholders,
        })
    }

    /// What stands for the matches of each mask.
    #[must_use]
    pub fn placeholders(&self) -> Arc<[Box<str>]> {
        Arc::clone(&self.placeholders)
    }
}

impl Masking {
    /// The message with what matches replaced; what is past its first 4 KiB, which count for nothing, is left out then.
    ///
    /// ```
    /// use foreshock_logs::{Masking, Masks};
    /// let masks = Masks::new(&[("order", r"ORD-\w+"), ("name", "Mrs? [A-Z][a-z]+")]).unwrap();
    /// let mut masking = Masking::default();
    /// assert_eq!(masking.apply(&masks, "ORD-x of Mr Smith shipped"), "<order> of <name> shipped");
    /// ```
    pub fn apply<'a>(&'a mut self, masks: &Masks, message: &'a str) -> &'a str {
        let searched = pattern::searched(message);
        let found = self.found.get_or_insert_with(|| masks.any.capture_locations());
        if found.len() != masks.any.captures_len() {
            *found = masks.any.capture_locations(); // of another source
        }
        self.text.clear();
        let mut at = 0;
        while let Some(whole) = masks.any.captures_read_at(found, searched, at) {
            let mut named = masks.groups.iter().zip(masks.placeholders.iter());
            let name = named.find(|(group, _)| found.get(**group).is_some());
            self.text.push_str(searched.get(at..whole.start()).unwrap_or_default());
            self.text.push_str(name.map_or("<*>", |(_, name)| name));
            // Matches are never empty, but an assertion such as `\b` may make one so in some place.
            at = whole.end();
            if whole.is_empty() {
                break;
            }
        }
        if at == 0 {
            return message;
        }
        self.text.push_str(searched.get(at..).unwrap_or_default());
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_by_case() {
        let list = [
            ("order", r"\bORD-(\w+)-(\d+)"),
            ("customer", "(?i)customer [a-z]+ [a-z]+"),
            ("any-order", "ORD-x"),
        ];
        let masks = Masks::new(&list).unwrap();
        let mut masking = Masking::default();
        for (message, expected) in [
            ("", ""),
            ("nothing here", "nothing here"),
            ("ORD-a-1", "<order>"),
            ("ORD-a-1,ORD-b-2", "<order>,<order>"),
            (
                "order=ORD-a-1 of Customer Mary Smith shipped",
                "order=<order> of <customer> shipped",
            ),
            ("ORD-x-1 and ORD-x", "<order> and <any-order>"),
            ("größe ORD-a-1 ñ", "größe <order> ñ"),
        ] {
            assert_eq!(masking.apply(&masks, message), expected, "{message}");
        }
        // Memory of one source is none of another's.
        let other = Masks::new(&[("word", "h[a-z]+")]).unwrap();
        assert_eq!(masking.apply(&other, "hunter left"), "<word> left");
    }

    #[test]
    fn what_can_not_be_used_is_named() {
        use MaskPart::{Name, Pattern};
        let ok = ("ok", "x+");
        let large = r"\w{1,1000}{1,1000}";
        for (masks, index, part) in [
            (vec![], 0, Pattern),
            (vec![ok, ("", "x")], 1, Name),
            (vec![("order 1", "x")], 0, Name),
            (vec![("<b>", "x")], 0, Name),
            (vec![ok, ok, ("a", "x*")], 2, Pattern),
            (vec![ok, ("a", "(")], 1, Pattern),
            (vec![("a", large)], 0, Pattern),
            (vec![("a", "(?<n>x)"), ("b", "(?<n>y)")], 1, Pattern),
            (vec![ok; 65], 64, Name),
        ] {
            let error = Masks::new(&masks).unwrap_err();
            assert_eq!((error.index, error.part), (index, part), "{error:?}");
        }
    }

    #[test]
    fn long_messages_are_searched_up_to_a_bound() {
        let masks = Masks::new(&[("order", "ORD")]).unwrap();
        let mut masking = Masking::default();
        let long = format!("{} ORD", "ñ".repeat(4_000));
        assert_eq!(masking.apply(&masks, &long), long);
        assert_eq!(
            masking.apply(&masks, &format!("ORD{long}")).len(),
            "<order>".len() + crate::tokens::BYTES_MAX - 3 - 1
        );
    }
}
