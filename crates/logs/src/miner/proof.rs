//! The miner's part in what may be shown: it sees which words vary and which contents come. See [`crate::showing`].

use std::sync::Arc;

use super::{Evidence, Miner, evidence_key};
use crate::form::Form;
use crate::showing::Showing;
use crate::tokens::{BYTES_MAX, Tokens};

impl Miner {
    /// What stands in lines for what users masked ([`crate::Masks::placeholders`]); it is shown always. Snapshots do not hold it.
    pub fn set_placeholders(&mut self, placeholders: Arc<[Box<str>]>) {
        self.placeholders = placeholders;
    }

    /// Which texts are kept and given out; a miner begins with all. Takes back what was shown and may be no more; what is
    /// hidden and may be shown comes back with the next line of each template.
    pub fn set_showing(&mut self, showing: Showing) {
        let names = Arc::clone(&self.placeholders);
        if self.showing == Showing::All && showing == Showing::Proven {
            let ids: Vec<u64> = self.settled.iter().chain(self.trial.iter()).map(|(id, _)| id).collect();
            for id in ids {
                let Some(form) = self.form(id) else { continue };
                let has_others = |i: &usize| {
                    let filed = evidence_key(form.with_wild(id, 1 << i), *i);
                    self.evidence.peek(filed).is_some_and(|e| !e.rest.is_empty())
                };
                let varied = (1..form.shares.len())
                    .filter(has_others)
                    .fold(0, |bits, i| bits | 1 << i);
                if let Some(form) = self.form_mut(id) {
                    form.vary(varied, &names);
                    form.hide(&names);
                }
                let root = self.root(id);
                if let Some(root) = self.form_mut(root) {
                    root.vary(varied, &names);
                }
            }
        }
        self.showing = showing;
    }

    /// Takes a line as evidence that the words of its template are constants, until it is proven.
    pub(super) fn prove(&mut self, template: u64, source: u64, message: &str, tokens: &Tokens) {
        let showing = self.showing;
        let Some(form) = self.form_mut(template) else { return };
        if form.proof.is_done {
            return;
        }
        if showing == Showing::All || form.proof.add(counted(message), source) {
            let names = Arc::clone(&self.placeholders);
            if let Some(form) = self.form_mut(template) {
                form.tell(message, tokens, showing, &names);
            }
        }
    }

    /// Notes that a form is one of several that differ at a position.
    pub(super) fn vary(&mut self, id: u64, position: usize) {
        if self.showing == Showing::All {
            return;
        }
        let names = Arc::clone(&self.placeholders);
        for id in [id, self.root(id)] {
            if let Some(form) = self.form_mut(id) {
                form.vary(1 << position, &names);
            }
        }
    }

    /// Whether others differ from a form at the positions that merging leaves alone: such a word may be a name all the same.
    pub(super) fn compare_fixed(&mut self, node: u64, form: &Form) {
        if self.showing == Showing::All {
            return;
        }
        let mut fixed = form.fixed();
        while fixed != 0 {
            let position = fixed.trailing_zeros() as usize;
            fixed &= fixed - 1;
            let filed = evidence_key(form.with_wild(node, 1 << position), position);
            let other = match self.evidence.touch(filed) {
                None => {
                    let (first, rest) = (node, Vec::new());
                    self.evidence.insert(filed, Evidence { first, rest });
                    continue;
                }
                Some(evidence) => evidence.first,
            };
            // Which they are does not matter: two are enough, and the place is not to grow.
            if other != node {
                self.vary(other, position);
                self.vary(node, position);
            }
        }
    }
}

/// The part of a message that counts.
fn counted(message: &str) -> &[u8] {
    let bytes = message.as_bytes();
    bytes.get(..BYTES_MAX).unwrap_or(bytes)
}
