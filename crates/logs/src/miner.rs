use foreshock_domain::Level;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::recency::Recency;
use crate::tokens::{Tokens, wild_share};
use crate::tombstones::Tombstones;
use crate::{TemplateCount, TemplateId};

const TRIAL_MAX: usize = 2_048;
const SETTLED_MAX: usize = 6_144;
const EVIDENCE_MAX: usize = 32_768;
const VALUES_MIN: usize = 5;
const TEXT_BYTES_MAX: usize = 256;
const CLOSURE_STEPS_MAX: usize = 64;
const MASKS_MAX: usize = 64;

/// What the miner says of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinedLine {
    /// Template of the line.
    pub id: TemplateId,
    /// Never seen by this miner, not even before it was evicted.
    pub first_seen: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Form {
    shares: Box<[u64]>,
    frame: u64,
    /// Positions that may become wild.
    open: u64,
    /// Positions that merging made wild.
    wild: u64,
    parent: u64,
    text: Box<str>,
}

/// Finds templates.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Miner {
    settled: Recency<Form>,
    trial: Recency<Form>,
    evidence: Recency<Vec<u64>>,
    tombstones: Tombstones,
    merges: u64,
    #[serde(skip)]
    masks: FxHashMap<u64, Vec<u64>>,
    #[serde(skip)]
    scratch: Tokens,
}

impl Default for Miner {
    fn default() -> Self {
        Self::new()
    }
}

impl Miner {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            settled: Recency::new(SETTLED_MAX),
            trial: Recency::new(TRIAL_MAX),
            evidence: Recency::new(EVIDENCE_MAX),
            tombstones: Tombstones::default(),
            merges: 0,
            masks: FxHashMap::default(),
            scratch: Tokens::default(),
        }
    }

    /// Mines.
    pub fn mine(&mut self, message: &str, level: Option<Level>) -> MinedLine {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.scan(message, level);
        let signature = scratch.signature;
        let line = if let Some(form) = self.settled.touch(signature) {
            let parent = form.parent;
            MinedLine {
                id: TemplateId(self.root(parent)),
                first_seen: false,
            }
        } else if let Some(form) = self.trial.remove(signature) {
            let parent = form.parent;
            self.settle(signature, form);
            MinedLine {
                id: TemplateId(self.root(parent)),
                first_seen: false,
            }
        } else {
            self.admit(message, &scratch)
        };
        self.scratch = scratch;
        line
    }

    fn settle(&mut self, hash: u64, form: Form) {
        if let Some((gone, _)) = self.settled.insert(hash, form)
            && gone != hash
        {
            self.tombstones.insert(gone);
        }
    }

    fn root(&mut self, mut id: u64) -> u64 {
        for _ in 0..64 {
            match self.settled.touch(id) {
                Some(f) if f.parent != id => id = f.parent,
                _ => break,
            }
        }
        id
    }

    fn root_peek(&self, mut id: u64) -> u64 {
        for _ in 0..64 {
            match self.settled.peek(id).or_else(|| self.trial.peek(id)) {
                Some(f) if f.parent != id => id = f.parent,
                _ => break,
            }
        }
        id
    }

    fn form_mut(&mut self, id: u64) -> Option<&mut Form> {
        if self.settled.peek(id).is_some() {
            self.settled.peek_mut(id)
        } else {
            self.trial.peek_mut(id)
        }
    }

    fn rank(&self, id: u64) -> (u32, std::cmp::Reverse<u64>) {
        let wild = self
            .settled
            .peek(id)
            .or_else(|| self.trial.peek(id))
            .map_or(0, |f| f.wild.count_ones());
        (wild, std::cmp::Reverse(id))
    }

    fn union(&mut self, a: u64, b: u64) {
        let (a, b) = (self.root_peek(a), self.root_peek(b));
        if a == b {
            return;
        }
        let (winner, loser) = if self.rank(a) >= self.rank(b) { (a, b) } else { (b, a) };
        if let Some(f) = self.form_mut(loser) {
            f.parent = winner;
            self.merges += 1;
        }
    }

    fn admit(&mut self, message: &str, tokens: &Tokens) -> MinedLine {
        let signature = tokens.signature;
        let mut first_seen = !self.tombstones.contains(signature);
        let form = Form {
            shares: tokens.shares.as_slice().into(),
            frame: tokens.frame,
            open: open_positions(message, tokens),
            wild: 0,
            parent: signature,
            text: text_of(message, tokens).into(),
        };
        if let Some((gone, _)) = self.trial.insert(signature, form)
            && gone != signature
        {
            self.tombstones.insert(gone);
        }
        let mut work = vec![signature];
        let mut steps = 0;
        while let Some(node) = work.pop() {
            steps += 1;
            if steps > CLOSURE_STEPS_MAX {
                break;
            }
            let Some(form) = self.settled.peek(node).or_else(|| self.trial.peek(node)).cloned() else {
                continue;
            };
            for mask in self.masks.get(&bucket(&form)).cloned().unwrap_or_default() {
                let key = with_wild(&form, node, mask);
                if key != node && self.settled.peek(key).is_some_and(|p| p.wild != 0) {
                    first_seen = false;
                    self.union(node, key);
                }
            }
            let mut open = form.open;
            while open != 0 {
                let i = open.trailing_zeros() as usize;
                open &= open - 1;
                let key = with_wild(&form, node, 1 << i);
                if self.settled.peek(key).is_some_and(|p| p.wild != 0) {
                    continue;
                }
                if self.file(key, node) {
                    self.evidence.remove(key);
                    self.generalise(key, &form, i);
                    first_seen = false;
                    work.push(key);
                }
            }
        }
        let id = TemplateId(self.root_peek(signature));
        MinedLine { id, first_seen }
    }

    /// Whether the position now has enough values.
    fn file(&mut self, key: u64, node: u64) -> bool {
        if let Some(members) = self.evidence.touch(key) {
            if !members.contains(&node) {
                members.push(node);
            }
            return members.len() >= VALUES_MIN;
        }
        self.evidence.insert(key, vec![node]);
        false
    }

    fn generalise(&mut self, key: u64, example: &Form, position: usize) {
        let mut pattern = example.clone();
        pattern.shares[position] = wild_share(position);
        pattern.open &= !(1 << position);
        pattern.wild |= 1 << position;
        pattern.parent = key;
        pattern.text = pattern
            .text
            .split(' ')
            .enumerate()
            .map(|(i, t)| if i == position { "<*>" } else { t })
            .collect::<Vec<_>>()
            .join(" ")
            .into();
        let matching: Vec<u64> = self
            .settled
            .iter()
            .chain(self.trial.iter())
            .filter(|(_, f)| covers(&pattern, f))
            .map(|(k, _)| k)
            .collect();
        let masks = self.masks.entry(bucket(&pattern)).or_default();
        if masks.len() < MASKS_MAX && !masks.contains(&pattern.wild) {
            masks.push(pattern.wild);
        }
        if let Some(native) = self.trial.remove(key).or_else(|| self.settled.remove(key)) {
            // a masked line already has this shape
            pattern.parent = native.parent;
        }
        self.settle(key, pattern);
        for m in matching {
            self.union(m, key);
        }
    }

    /// The id that this template has now.
    #[must_use]
    pub fn canonical(&self, id: TemplateId) -> TemplateId {
        TemplateId(self.root_peek(id.0))
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
            }
            same
        });
    }

    /// Grows whenever templates merge, so that others know when to ask for [`Miner::canonical`] ids again.
    #[must_use]
    pub fn merges(&self) -> u64 {
        self.merges
    }

    /// Bytes of state, about.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        self.tombstones.state_bytes()
    }

    /// Text.
    #[must_use]
    pub fn template(&self, id: TemplateId) -> Option<String> {
        self.settled
            .peek(id.0)
            .or_else(|| self.trial.peek(id.0))
            .map(|f| f.text.to_string())
    }

    /// Number of forms.
    #[must_use]
    pub fn len(&self) -> usize {
        self.settled.len() + self.trial.len()
    }

    /// Whether nothing was mined.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn bucket(form: &Form) -> u64 {
    form.frame.wrapping_add(form.shares.first().copied().unwrap_or(0))
}

fn with_wild(form: &Form, hash: u64, mut mask: u64) -> u64 {
    let mut h = hash;
    while mask != 0 {
        let i = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        if let Some(s) = form.shares.get(i) {
            h = h.wrapping_sub(*s).wrapping_add(wild_share(i));
        }
    }
    h
}

fn covers(pattern: &Form, form: &Form) -> bool {
    pattern.frame == form.frame
        && pattern.shares.len() == form.shares.len()
        && pattern
            .shares
            .iter()
            .zip(form.shares.iter())
            .enumerate()
            .all(|(i, (p, f))| p == f || pattern.wild >> i & 1 == 1)
}

fn open_positions(message: &str, tokens: &Tokens) -> u64 {
    let mut open = 0;
    for (i, t) in tokens.tokens.iter().enumerate().skip(1) {
        let word = message
            .as_bytes()
            .get(t.start as usize..t.kept as usize)
            .unwrap_or_default();
        if !t.variable && !is_anchor(word) {
            open |= 1 << i;
        }
    }
    open
}

fn is_anchor(word: &[u8]) -> bool {
    const ANCHORS: [&str; 14] = [
        "error",
        "fail",
        "exception",
        "fatal",
        "critical",
        "panic",
        "abort",
        "refused",
        "denied",
        "timeout",
        "timed",
        "killed",
        "lost",
        "corrupt",
    ];
    let w = String::from_utf8_lossy(word).to_lowercase();
    ANCHORS.iter().any(|a| w.contains(a))
}

fn text_of(message: &str, tokens: &Tokens) -> String {
    let mut out = String::new();
    for (i, t) in tokens.tokens.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        out.push_str(&String::from_utf8_lossy(
            message
                .as_bytes()
                .get(t.start as usize..t.kept as usize)
                .unwrap_or_default(),
        ));
        if t.variable {
            out.push_str("<*>");
        }
        if out.len() > TEXT_BYTES_MAX {
            break;
        }
    }
    out
}
