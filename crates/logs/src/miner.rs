//! Gives each log line the id of its template. Lines with the same masked tokens are one form; a position at which five
//! different words, or a word and a number, were seen while all else stayed the same is a variable, and the forms that
//! differ only there become one template.
//!
//! Fails where a template's words vary in two places at once and rarely (it stays split: the safe side, because a template
//! that merges too much hides what is new), and where words of one sentence frame are kinds of events (five states of
//! one machine become one template). Cost: on the known path the scan and two look-ups, about 0.2–0.5 µs a line and no
//! allocation; a new form costs a look-up per token and, when templates merge, two or three scans of all forms (some 50 µs
//! each). State: about 300 bytes a form, at most 8,192 of them unless told otherwise, and 2 MB of evidence.
//!
//! **Identity is content.** A form's signature is a hash of its words, and a template's id is the signature of its most
//! general form, the smallest hash of equals. Merging is the least fixed point of a monotone rule over the *set* of forms, so
//! the ids that a miner ends with do not depend on the order of the lines, within the bounds. Masked positions as in
//! Drain (He et al., ICWS 2017); the evidence rule inverts its similarity threshold; merged masks are looked up as in
//! tuple space search (Srinivasan, Suri, Varghese, SIGCOMM 1999, section 3). `Differs` from Drain: first tokens are never
//! variables, nothing merges across levels, and words such as `failed` are never taken out.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use foreshock_domain::Level;
use serde::{Deserialize, Serialize};

use crate::form::Form;
use crate::recency::Recency;
use crate::showing::Showing;
use crate::tokens::Tokens;
use crate::tombstones::Tombstones;
use crate::{MiningRules, TemplateCount, TemplateId};

/// Forms held, unless told otherwise.
const FORMS_MAX: usize = 8_192;
/// Positions for which words are collected, per form held.
const EVIDENCE_PER_FORM: usize = 4;
/// Merged forms followed up for one line; more only where lines are made to be hostile.
const STEPS_MAX: usize = 256;
/// Sets of wild positions tried per level, token count and first token.
const MASKS_MAX: usize = 64;
/// Merges that a chain of parents can hold: each makes a position wild, and there are as many as tokens.
const CHAIN_MAX: usize = 2 * crate::tokens::TOKENS_MAX;

/// What the miner says of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinedLine {
    /// Template of the line; see [`Miner::canonical`] for what becomes of it.
    pub id: TemplateId,
    /// Never seen by this miner: neither the form nor a template that covers it, even if evicted since.
    pub first_seen: bool,
}

/// Forms that are the same but for the word at one position.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Evidence {
    first: u64,
    /// All but the first; most evidence never has any, and then allocates nothing.
    rest: Vec<u64>,
}

/// Streaming template miner; one per input partition. State is bounded, and `postcard` bytes of it restore it exactly.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Miner {
    settled: Recency<Form>,
    trial: Recency<Form>,
    evidence: Recency<Evidence>,
    /// Wild positions of the merged forms, by [`Form::bucket`].
    masks: BTreeMap<u64, Vec<u64>>,
    tombstones: Tombstones,
    merges: u64,
    evicted: u64,
    showing: Showing,
    /// What users put in the place of what they masked; set anew after loading.
    #[serde(skip)]
    placeholders: Arc<[Box<str>]>,
    #[serde(skip)]
    rules: MiningRules,
    #[serde(skip)]
    scratch: Tokens,
}

impl Default for Miner {
    fn default() -> Self {
        Self::new()
    }
}

impl Miner {
    /// Knows no template yet; holds 8,192 forms, some 5 MB at most for lines of usual length.
    #[must_use]
    pub fn new() -> Self {
        Self::with_forms_max(FORMS_MAX)
    }

    /// Knows no template yet; holds that many forms (at least 64) and four times as much evidence.
    #[must_use]
    pub fn with_forms_max(forms_max: usize) -> Self {
        let forms_max = forms_max.max(64);
        // Forms seen once have their own room, a quarter of all, so that a flood of garbage pushes out garbage.
        let trial_max = forms_max / 4;
        Self {
            settled: Recency::new(forms_max - trial_max),
            trial: Recency::new(trial_max),
            evidence: Recency::new(forms_max.saturating_mul(EVIDENCE_PER_FORM)),
            masks: BTreeMap::new(),
            tombstones: Tombstones::default(),
            merges: 0,
            evicted: 0,
            showing: Showing::All,
            placeholders: Arc::default(),
            rules: MiningRules::default(),
            scratch: Tokens::default(),
        }
    }

    /// A miner under other rules than everybody's, to measure what each rule is good for. Snapshots do not hold the rules.
    #[must_use]
    pub fn with_rules(forms_max: usize, rules: MiningRules) -> Self {
        Self {
            rules,
            ..Self::with_forms_max(forms_max)
        }
    }

    /// Template of a line, which is learned. Any text will do; what is past 4 kB or 64 tokens does not count. Lines of
    /// different levels are never of one template.
    ///
    /// ```
    /// use foreshock_logs::Miner;
    /// let mut miner = Miner::new();
    /// let first = miner.mine("connection from 10.0.0.1 closed", None);
    /// let second = miner.mine("connection from 10.0.0.2 closed", None);
    /// assert!(first.first_seen && !second.first_seen);
    /// assert_eq!(first.id, second.id);
    /// assert_eq!(miner.template(first.id).as_deref(), Some("connection from <*> closed"));
    /// ```
    pub fn mine(&mut self, message: &str, level: Option<Level>) -> MinedLine {
        self.mine_from(0, message, level)
    }

    /// As [`Miner::mine`], of a line of this source: what several sources write is the program's, not a secret.
    pub fn mine_from(&mut self, source: u64, message: &str, level: Option<Level>) -> MinedLine {
        let mut tokens = std::mem::take(&mut self.scratch);
        tokens.scan(&self.rules, message, level);
        let signature = tokens.signature;
        let known = |id| MinedLine {
            id: TemplateId(id),
            first_seen: false,
        };
        let line = if let Some(form) = self.settled.touch(signature) {
            let parent = form.parent;
            known(self.touch_template(signature, parent))
        } else if let Some(form) = self.trial.remove(signature) {
            let parent = form.parent;
            self.settle(signature, form);
            known(self.touch_template(signature, parent))
        } else {
            self.admit(signature, Form::new(message, &tokens, self.showing, &self.placeholders))
        };
        self.prove(line.id.0, source, message, &tokens);
        self.scratch = tokens;
        line
    }

    /// Learns all that another miner has learned: what this one knows then is what one that had seen the lines of both would
    /// know, within the bounds. Costs as much as mining each form of the other once.
    pub fn absorb(&mut self, other: &Self) {
        for (filed, evidence) in other.evidence.iter() {
            if self.evidence.peek(filed).is_none() {
                self.evidence.insert(filed, evidence.clone());
            } else if let Some(mine) = self.evidence.touch(filed) {
                for &word in std::iter::once(&evidence.first).chain(&evidence.rest) {
                    if mine.first != word && !mine.rest.contains(&word) {
                        mine.rest.push(word);
                    }
                }
            }
        }
        self.tombstones.absorb(&other.tombstones);
        let forms = || other.trial.iter().chain(other.settled.iter());
        for (key, form) in forms().filter(|(_, form)| form.wild != 0) {
            for position in 1..form.shares.len() {
                if (form.wild >> position) & 1 == 1 && !self.is_wild(key, 1 << position) {
                    self.generalise(key, position, form);
                }
            }
        }
        for (signature, form) in forms().filter(|(_, form)| form.wild == 0) {
            if let Some(known) = self.trial.remove(signature) {
                self.settle(signature, known);
            } else if self.settled.peek(signature).is_none() {
                let form = Form {
                    parent: signature,
                    ..form.clone()
                };
                if other.settled.peek(signature).is_some() {
                    self.settle(signature, form);
                } else if let Some((evicted, _)) = self.trial.insert(signature, form) {
                    self.bury(evicted);
                }
            }
        }
        // The merged ones as well: what covers one of them here may have come after it.
        for (signature, _) in forms() {
            self.follow(signature);
        }
        self.evicted = self.evicted.saturating_add(other.evicted);
    }

    /// The id that a template has now: merging may have made it part of a more general one since it was given out.
    #[must_use]
    pub fn canonical(&self, id: TemplateId) -> TemplateId {
        TemplateId(self.root(id.0))
    }

    /// Replaces ids by those their templates have now, adds up what became one template, and sorts by id. To be called
    /// on a window's counts before [`crate::TemplateBank::close_window`].
    pub fn canonicalise(&self, counts: &mut Vec<TemplateCount>) {
        for count in counts.iter_mut() {
            count.id = self.canonical(count.id);
        }
        counts.sort_unstable_by_key(|c| (c.id, c.level, c.first_seen, c.count));
        counts.dedup_by(|next, kept| {
            let same = next.id == kept.id;
            if same {
                kept.count = kept.count.saturating_add(next.count);
                kept.first_seen &= next.first_seen;
                kept.level = kept.level.max(next.level);
                kept.first_at = kept.first_at.min(next.first_at);
            }
            same
        });
    }

    /// Grows whenever templates merge: time to ask for [`Miner::canonical`] ids again.
    #[must_use]
    pub fn merges(&self) -> u64 {
        self.merges
    }

    /// Text of a template, variables as `<*>`, cut at about 256 bytes; `None` where it is not known or no more. Where all is shown
    /// ([`Showing`]), names may be among the words, and the values of passwords not.
    #[must_use]
    pub fn template(&self, id: TemplateId) -> Option<String> {
        self.form(id.0).map(|form| form.text.to_string())
    }

    /// Forms held, those that were merged into a template included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.settled.len() + self.trial.len()
    }

    /// Whether no form is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forms pushed out for want of room so far.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Bytes of state, about. Goes through all forms.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        const LINKS: usize = 40;
        let forms = self.settled.iter().chain(self.trial.iter());
        let forms: usize = forms
            .map(|(_, form)| size_of::<Form>() + LINKS + form.heap_bytes())
            .sum();
        let evidence = self
            .evidence
            .iter()
            .map(|(_, e)| size_of::<Evidence>() + LINKS + 8 * e.rest.capacity());
        let masks = self.masks.values().map(|masks| 40 + 8 * masks.len());
        forms + evidence.sum::<usize>() + masks.sum::<usize>() + self.tombstones.state_bytes()
    }

    fn form(&self, id: u64) -> Option<&Form> {
        self.settled.peek(id).or_else(|| self.trial.peek(id))
    }

    fn form_mut(&mut self, id: u64) -> Option<&mut Form> {
        if self.settled.peek(id).is_some() {
            return self.settled.peek_mut(id);
        }
        self.trial.peek_mut(id)
    }

    fn set_parent(&mut self, id: u64, parent: u64) {
        if let Some(form) = self.form_mut(id) {
            form.parent = parent;
        }
    }

    /// Puts a form under a template, and tells the template what is known to vary.
    fn adopt(&mut self, part: u64, template: u64) {
        self.set_parent(part, template);
        let varied = self.form(part).map_or(0, |form| form.varied);
        let names = Arc::clone(&self.placeholders);
        if let Some(template) = self.form_mut(template) {
            template.vary(varied, &names);
        }
        self.merges += 1;
    }

    /// Follows the parents to the template. One that was evicted is where the chain ends: its id outlives it.
    fn root(&self, mut id: u64) -> u64 {
        for _ in 0..CHAIN_MAX {
            match self.form(id) {
                Some(form) if form.parent != id => id = form.parent,
                _ => break,
            }
        }
        id
    }

    /// As [`Miner::root`], and makes all on the way the newest, so that no form outlives what it was merged into.
    fn touch_template(&mut self, signature: u64, parent: u64) -> u64 {
        let mut id = parent;
        if id == signature {
            return id;
        }
        for _ in 0..CHAIN_MAX {
            match self.settled.touch(id) {
                Some(form) if form.parent != id => id = form.parent,
                _ => break,
            }
        }
        if id != parent {
            self.set_parent(signature, id); // next time the way is short
        }
        id
    }

    fn settle(&mut self, signature: u64, form: Form) {
        if let Some((evicted, _)) = self.settled.insert(signature, form) {
            self.bury(evicted);
        }
    }

    fn bury(&mut self, evicted: u64) {
        self.tombstones.insert(evicted);
        self.evicted = self.evicted.saturating_add(1);
    }

    fn admit(&mut self, signature: u64, form: Form) -> MinedLine {
        let buried = self.tombstones.contains(signature);
        if let Some((evicted, _)) = self.trial.insert(signature, form) {
            self.bury(evicted);
        }
        let covered = self.follow(signature);
        MinedLine {
            id: TemplateId(self.root(signature)),
            first_seen: !covered && !buried,
        }
    }

    /// Follows what a new form implies until nothing more follows. Whether a template covers it that is or was known.
    fn follow(&mut self, signature: u64) -> bool {
        let mut covered = false;
        let mut work = vec![signature];
        for _ in 0..STEPS_MAX {
            let Some(node) = work.pop() else { break };
            let Some(form) = self.form(node).cloned() else { continue };
            covered |= self.join_covering(node, &form);
            self.compare_fixed(node, &form);
            for position in 1..form.shares.len() {
                if form.is_masked(position) {
                    let beside = self
                        .evidence
                        .peek(evidence_key(node, position))
                        .map_or(0, |e| e.rest.len() + 1);
                    if beside >= self.rules.words_beside_variable_min {
                        self.generalise(node, position, &form);
                        covered = true;
                    }
                } else if (form.open >> position) & 1 == 1
                    && let Some(merged) = self.collect(node, &form, position)
                {
                    covered = true;
                    work.push(merged);
                }
            }
        }
        covered
    }

    /// Puts a form under all merged forms that cover it.
    fn join_covering(&mut self, node: u64, form: &Form) -> bool {
        let mut covered = false;
        for mask in self.masks.get(&form.bucket()).cloned().unwrap_or_default() {
            if !form.may_be_wild(mask) {
                continue;
            }
            let key = form.with_wild(node, mask);
            if key != node && self.is_wild(key, mask) {
                self.union(node, key);
                covered = true;
            }
            covered |= self.tombstones.contains(key);
        }
        covered
    }

    /// Whether merging made all of these positions of a form wild.
    fn is_wild(&self, id: u64, positions: u64) -> bool {
        self.settled
            .peek(id)
            .is_some_and(|form| form.wild & positions == positions)
    }

    /// Notes the word of a form at a position. When there are enough, gives back the form in which it is a variable.
    fn collect(&mut self, node: u64, form: &Form, position: usize) -> Option<u64> {
        let key = form.with_wild(node, 1 << position);
        if self.is_wild(key, 1 << position) {
            return None; // `join_covering` has seen to it
        }
        let needed = if self.form(key).is_some() {
            self.rules.words_beside_variable_min
        } else if (form.names >> position) & 1 == 1 {
            self.rules.names_min
        } else {
            self.rules.words_min
        };
        let filed = evidence_key(key, position);
        let mut other = None;
        let words = match self.evidence.touch(filed) {
            Some(evidence) => {
                if evidence.first != node && !evidence.rest.contains(&node) {
                    other = Some(evidence.first);
                    evidence.rest.push(node);
                }
                evidence.rest.len() + 1
            }
            None => {
                self.evidence.insert(
                    filed,
                    Evidence {
                        first: node,
                        rest: Vec::new(),
                    },
                );
                1
            }
        };
        if let Some(other) = other {
            self.vary(other, position);
            self.vary(node, position);
        }
        (words >= needed).then(|| {
            self.generalise(key, position, form);
            key
        })
    }

    /// Makes a position of the form `key` wild, which is `example` but for that position, and puts all under it that it
    /// covers. What covers it covers all that it does, and becomes as wild.
    fn generalise(&mut self, key: u64, position: usize, example: &Form) {
        self.evidence.remove(evidence_key(key, position));
        let known = self.settled.remove(key).or_else(|| self.trial.remove(key));
        let mut merged = known.unwrap_or_else(|| example.generalised(position, key));
        merged.wild |= 1 << position | example.wild;
        self.widen(key, merged);
        let mut work = vec![key];
        for _ in 0..STEPS_MAX {
            let Some(key) = work.pop() else { return };
            let Some(part) = self.form(key).cloned() else { continue };
            let forms = self.settled.iter().chain(self.trial.iter());
            let narrow: Vec<u64> = forms
                .filter(|(_, form)| part.wild & !form.wild != 0 && form.covers(&part))
                .map(|(id, _)| id)
                .collect();
            for id in narrow {
                if let Some(mut form) = self.settled.remove(id).or_else(|| self.trial.remove(id)) {
                    form.wild |= part.wild;
                    self.widen(id, form);
                    work.push(id);
                }
            }
        }
    }

    /// Puts a merged form back that became wilder, and under it all that it covers.
    fn widen(&mut self, key: u64, mut merged: Form) {
        let covered: Vec<u64> = loop {
            let forms = self.settled.iter().chain(self.trial.iter());
            let covered: Vec<(u64, u64)> = forms
                .filter(|(_, form)| merged.covers(form))
                .map(|(id, form)| (id, form.wild))
                .collect();
            let wild = covered.iter().fold(merged.wild, |wild, (_, part)| wild | part);
            if wild == merged.wild {
                break covered.into_iter().map(|(id, _)| id).collect();
            }
            merged.wild = wild;
        };
        self.note_mask(&merged);
        let former = merged.parent;
        self.settle(key, merged);
        // It became more general in place: it may now be the template of what it was merged into.
        let root = self.root(former);
        if root != key && self.generality(key) > self.generality(root) {
            self.set_parent(key, key);
            self.adopt(root, key);
        }
        for id in covered {
            self.union(id, key);
        }
    }

    fn note_mask(&mut self, merged: &Form) {
        if self.masks.len() >= self.settled.capacity() {
            // Only a flood gets here: most of these belong to forms that are gone.
            self.masks.clear();
            let live: Vec<(u64, u64)> = self
                .settled
                .iter()
                .filter(|(_, f)| f.wild != 0)
                .map(|(_, f)| (f.bucket(), f.wild))
                .collect();
            for (bucket, wild) in live {
                push_mask(self.masks.entry(bucket).or_default(), wild);
            }
        }
        push_mask(self.masks.entry(merged.bucket()).or_default(), merged.wild);
    }

    /// The more wild positions, the more general; of equals the smaller hash, so that all miners pick the same.
    fn generality(&self, id: u64) -> (u32, Reverse<u64>) {
        (self.form(id).map_or(0, |form| form.wild.count_ones()), Reverse(id))
    }

    fn union(&mut self, a: u64, b: u64) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            let (template, part) = if self.generality(a) > self.generality(b) {
                (a, b)
            } else {
                (b, a)
            };
            self.adopt(part, template);
        }
    }
}

fn push_mask(masks: &mut Vec<u64>, wild: u64) {
    if masks.len() < MASKS_MAX && !masks.contains(&wild) {
        masks.push(wild);
    }
}

/// Evidence is filed by form and position: the same masked form can be reached from two positions.
fn evidence_key(key: u64, position: usize) -> u64 {
    key ^ (position as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

mod places;
mod proof;
#[cfg(test)]
mod tests;
