//! States of versions before, read block by block.
//!
//! The layout of each version stands in `layouts/`. A block goes from one version to the next field by field and variant by variant, by name:
//! what is in both is kept, what is gone is left out, and a list, a text or an option that is new begins empty. The rest is said by the
//! version's [`Step`], in a file of its own: what a new number begins with, what is to be made anew. A state that is some versions old takes one
//! step after the other.
//!
//! To change a layout: raise [`super::STATE_VERSION`] to `n` and run `UPDATE_LAYOUT=1 cargo test -p foreshock-engine layout`, which writes
//! `layouts/n.txt`; point [`PRESENT`] at it; give the version before a file here, with a [`Step`], and add that to [`STEPS`]. The tests say what
//! new fields want a value.
//!
//! Fails when: a variant that states hold is gone; tables change the number of entries of a block, or where their entries stand. Versions
//! before such a change are taken off [`STEPS`], and their partitions are rebuilt from the log.
//!
//! Cost: a block is read once more per step; what is laid out alike is copied.

mod plan;
#[cfg(test)]
mod tests;
mod v8;
mod v9;

use std::collections::BTreeMap;

use self::plan::{Change, Changes, Plan};
use super::Part;
use super::layout::{Layout, Torn, parts};

/// The way from each version that can be read to the one after it, the oldest first.
const STEPS: &[Step] = &[v8::STEP, v9::STEP];

/// The layout of [`super::STATE_VERSION`].
const PRESENT: &str = include_str!("layouts/10.txt");

/// Which of the two stages a state is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Detect,
    Correlate,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Detect => "detect",
            Self::Correlate => "correlate",
        }
    }
}

/// From one version to the next.
struct Step {
    from: u16,
    layout: &'static str,
    /// What names do not say.
    changes: &'static [Change],
}

/// Whether there is a way from a version to this one.
pub(super) fn leads_from(version: u16) -> bool {
    steps_from(version).is_some()
}

/// The steps to take from a version, each with the layout that it leads to; `None` where there is no way.
fn steps_from(version: u16) -> Option<impl Iterator<Item = (&'static Step, &'static str)>> {
    let first = STEPS.iter().position(|step| step.from == version)?;
    let next = |place: usize| STEPS.get(place + 1).map_or(PRESENT, |step| step.layout);
    Some((first..STEPS.len()).filter_map(move |place| Some((STEPS.get(place)?, next(place)))))
}

/// What makes blocks of this version out of those of an earlier one.
pub(super) struct Migration {
    steps: Vec<BTreeMap<Part, Plan>>,
}

impl Migration {
    /// From a version; `None` where there is no way.
    pub(super) fn find(stage: Stage, version: u16) -> Option<Self> {
        let mut steps = Vec::new();
        for (step, next) in steps_from(version)? {
            match plans(stage, step, next, &mut Changes::new(step.changes)) {
                Ok(plans) => steps.push(plans),
                // A test has it that there is none.
                Err(error) => {
                    tracing::error!(version, error, "no way from an earlier version");
                    return None;
                }
            }
        }
        Some(Self { steps })
    }

    /// The block as this version would have written it.
    pub(super) fn apply(&self, part: Part, mut raw: Vec<u8>) -> Result<Vec<u8>, Torn> {
        for plans in &self.steps {
            let plan = plans.get(&part).ok_or(Torn)?;
            if !matches!(plan, Plan::Keep(_)) {
                let mut migrated = Vec::with_capacity(raw.len() + raw.len() / 8);
                let mut rest = &*raw;
                plan.apply(&mut rest, &mut migrated)?;
                if !rest.is_empty() {
                    return Err(Torn);
                }
                raw = migrated;
            }
        }
        Ok(raw)
    }
}

/// For each kind of block, how it becomes one of the next version.
fn plans(stage: Stage, step: &Step, next: &str, changes: &mut Changes) -> Result<BTreeMap<Part, Plan>, String> {
    let mut next = tables(stage, next)?;
    let mut plans = BTreeMap::new();
    for (part, (size, layout)) in tables(stage, step.layout)? {
        let (next_size, next) = next.remove(&part).ok_or(format!("{part:?} is gone"))?;
        if next_size != size {
            return Err(format!("{part:?} has blocks of another size"));
        }
        plans.insert(part, Plan::new(&layout, &next, changes)?);
    }
    match next.keys().next() {
        None => Ok(plans),
        Some(part) => Err(format!("{part:?} is new")),
    }
}

/// By table of a stage, how many entries a block has, and its layout.
fn tables(stage: Stage, text: &str) -> Result<BTreeMap<Part, (usize, Layout)>, String> {
    let mut lines = text.lines().peekable();
    let all = parts(0, &mut lines).ok_or("no layout")?;
    if let Some(line) = lines.next() {
        return Err(format!("no layout: {line}"));
    }
    let mut tables = BTreeMap::new();
    for (heading, layout) in all {
        let words: Vec<&str> = heading.split(' ').collect();
        let [of_stage, name, "of", size] = *words else {
            return Err(format!("no table: {heading}"));
        };
        let part = Part::ALL
            .iter()
            .find(|(_, n)| *n == name)
            .ok_or(format!("no table: {name}"))?
            .0;
        let size = size.parse().map_err(|_| format!("no size: {size}"))?;
        if of_stage == stage.name() {
            tables.insert(part, (size, layout));
        }
    }
    Ok(tables)
}
