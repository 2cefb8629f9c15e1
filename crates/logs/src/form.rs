//! A form: the masked tokens of a line, or of many lines that merging found to be one template.

use foreshock_domain::text::printable;
use serde::{Deserialize, Serialize};

use crate::mask::{introduces_name, is_anchor};
use crate::tokens::{Tokens, wild_share};

/// Bytes of a form's text; longer ones are cut at a token.
const TEXT_BYTES_MAX: usize = 256;
/// How a variable is shown.
const WILD_TEXT: &str = "<*>";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Form {
    /// Each token's share in the signature, by position.
    pub(crate) shares: Box<[u64]>,
    /// Level and count of tokens.
    pub(crate) frame: u64,
    /// Positions, as bits, whose token may turn out to be a variable: not the first, no word of what went wrong.
    pub(crate) open: u64,
    /// Positions, as bits, where a name is likely.
    pub(crate) names: u64,
    /// Positions, as bits, that merging made wild: those where the form covers others.
    pub(crate) wild: u64,
    /// The form this one was merged into, at last the template; its own signature where it is the template.
    pub(crate) parent: u64,
    /// For people, tokens joined by one space.
    pub(crate) text: Box<str>,
}

impl Form {
    pub(crate) fn new(message: &str, tokens: &Tokens) -> Self {
        let bytes = message.as_bytes();
        let (mut open, mut names) = (0, 0);
        let mut text = String::new();
        let mut before: &[u8] = &[];
        for (i, token) in tokens.tokens.iter().enumerate() {
            let word = token.kept(bytes);
            if i > 0 && !token.is_wild() && !is_anchor(word) {
                open |= 1 << i;
                names |= u64::from(introduces_name(before)) << i;
            }
            before = word;
            if text.len() < TEXT_BYTES_MAX {
                text.push_str(if i > 0 { " " } else { "" });
                let word = String::from_utf8_lossy(word.get(..TEXT_BYTES_MAX).unwrap_or(word));
                // Templates are shown to people: nothing in them may speak to a terminal.
                text.push_str(&printable(&word));
                text.push_str(if token.variable { WILD_TEXT } else { "" });
            }
        }
        Self {
            shares: tokens.shares.as_slice().into(),
            frame: tokens.frame,
            open,
            names,
            wild: 0,
            parent: tokens.signature,
            text: text.into(),
        }
    }

    /// The form with one position wild, whose signature is `key`.
    pub(crate) fn generalised(&self, position: usize, key: u64) -> Self {
        let mut form = self.clone();
        if let Some(share) = form.shares.get_mut(position) {
            *share = wild_share(position);
        }
        form.open &= !(1 << position);
        form.names &= !(1 << position);
        form.parent = key;
        let words = form
            .text
            .split(' ')
            .enumerate()
            .map(|(i, word)| if i == position { WILD_TEXT } else { word });
        form.text = words.collect::<Vec<_>>().join(" ").into();
        form
    }

    /// What forms that may be merged with this one have in common: level, count of tokens and first token.
    pub(crate) fn bucket(&self) -> u64 {
        self.frame.wrapping_add(self.shares.first().copied().unwrap_or(0))
    }

    /// Whether a position is a variable by its look, and not yet by merging.
    pub(crate) fn is_masked(&self, position: usize) -> bool {
        self.shares.get(position) == Some(&wild_share(position)) && (self.wild >> position) & 1 == 0
    }

    /// Signature of this form, which is `signature`, with more positions wild.
    pub(crate) fn with_wild(&self, signature: u64, mut positions: u64) -> u64 {
        let mut key = signature;
        while positions != 0 {
            let i = positions.trailing_zeros() as usize;
            positions &= positions - 1;
            if let Some(share) = self.shares.get(i) {
                key = key.wrapping_sub(*share).wrapping_add(wild_share(i));
            }
        }
        key
    }

    /// Whether this form may become wild at all of these positions, or is.
    pub(crate) fn may_be_wild(&self, mut positions: u64) -> bool {
        positions &= !self.open;
        while positions != 0 {
            let i = positions.trailing_zeros() as usize;
            positions &= positions - 1;
            if self.shares.get(i) != Some(&wild_share(i)) {
                return false;
            }
        }
        true
    }

    /// Whether every line of `other` is also one of this form, and says nothing that must not be taken out.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let same = |(i, (a, b)): (usize, (&u64, &u64))| a == b || (self.wild & other.open) >> i & 1 == 1;
        self.frame == other.frame
            && self.shares.len() == other.shares.len()
            && self.shares.iter().zip(other.shares.iter()).enumerate().all(same)
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val(self.shares.as_ref()) + self.text.len()
    }
}
