//! A form: the masked tokens of a line, or of many lines that merging found to be one template.

use serde::{Deserialize, Serialize};

use crate::mask::{introduces_name, is_anchor};
use crate::showing::{self, Proof, Showing, TEXT_BYTES_MAX, WILD_TEXT, push_word};
use crate::tokens::{Tokens, wild_share};

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
    /// Positions, as bits, where other words were seen, merged or not; kept only where not all is shown.
    pub(crate) varied: u64,
    /// Whether `text` is as whole as it will be.
    pub(crate) proof: Proof,
    /// For people, tokens joined by one space; holds nothing that must not be shown.
    pub(crate) text: Box<str>,
}

impl Form {
    pub(crate) fn new(message: &str, tokens: &Tokens, showing: Showing, placeholders: &[Box<str>]) -> Self {
        let bytes = message.as_bytes();
        let (mut open, mut names) = (0, 0);
        let mut before: &[u8] = &[];
        for (i, token) in tokens.tokens.iter().enumerate() {
            let word = token.kept(bytes);
            if i > 0 && !token.is_wild() && !is_anchor(word) {
                open |= 1 << i;
                names |= u64::from(introduces_name(before)) << i;
            }
            before = word;
        }
        let (text, proof) = match showing {
            Showing::All => (whole_text(message, tokens, 0), Proof::DONE),
            Showing::Proven => (
                showing::text(message, tokens, (0, 0), false, placeholders),
                Proof::default(),
            ),
        };
        Self {
            shares: tokens.shares.as_slice().into(),
            frame: tokens.frame,
            open,
            names,
            wild: 0,
            varied: 0,
            parent: tokens.signature,
            proof,
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
        // Nor does what stands here announce a name any more.
        form.names &= !(3 << position);
        form.parent = key;
        let words = form
            .text
            .split(' ')
            .enumerate()
            .map(|(i, word)| if i == position { WILD_TEXT } else { word });
        form.text = words.collect::<Vec<_>>().join(" ").into();
        form
    }

    /// Another word was seen at these positions: it is a variable that looks like a constant.
    pub(crate) fn vary(&mut self, positions: u64, names: &[Box<str>]) {
        let new = positions & !self.varied & !self.wild;
        if new != 0 {
            self.varied |= new;
            self.text = showing::hidden(&self.text, new, names).into();
        }
    }

    /// Takes the text from a line of this form or template.
    pub(crate) fn tell(&mut self, message: &str, tokens: &Tokens, showing: Showing, names: &[Box<str>]) {
        self.proof = Proof::DONE;
        let text = match showing {
            Showing::All => whole_text(message, tokens, self.wild),
            Showing::Proven => showing::text(message, tokens, (self.wild, self.varied), true, names),
        };
        self.text = text.into();
    }

    /// Hides what is not plain, until it is proven again.
    pub(crate) fn hide(&mut self, names: &[Box<str>]) {
        self.proof = Proof::default();
        self.text = showing::hidden(&self.text, u64::MAX, names).into();
        // Nobody noted whether the first words varied.
        self.varied |= 1;
    }

    /// Positions, as bits, whose words are constants that merging can't take out.
    pub(crate) fn fixed(&self) -> u64 {
        let masked = |i: &usize| self.shares.get(*i) == Some(&wild_share(*i));
        let words = (0..self.shares.len())
            .filter(|i| !masked(i))
            .fold(0, |bits, i| bits | 1 << i);
        words & !self.open & !self.wild
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

fn whole_text(message: &str, tokens: &Tokens, wild: u64) -> String {
    let mut text = String::new();
    for (i, token) in tokens.tokens.iter().enumerate() {
        if text.len() >= TEXT_BYTES_MAX {
            break;
        }
        text.push_str(if i > 0 { " " } else { "" });
        let is_wild = (wild >> i) & 1 == 1;
        if !is_wild {
            push_word(&mut text, token.kept(message.as_bytes()), true);
        }
        text.push_str(if is_wild || token.variable { WILD_TEXT } else { "" });
    }
    text
}
