//! From 9 to 10: when oddness is over, what of it came before a failure, and grave lines of kinds never seen.

use foreshock_domain::Timestamp;

use super::Step;
use super::v8::begins;
use crate::state::pack;

pub(super) const STEP: Step = Step {
    from: 9,
    layout: include_str!("layouts/9.txt"),
    changes: &[
        // As if it had been odd just now: what is over is over twelve windows later.
        begins("Lasting", "quiet", || pack(&0_u8)),
        // A week of the budget is left, as in a new deployment, and how common such lines are is counted from here on.
        begins("Fleet", "news", || pack(&(0.0_f64, NEVER, 0.0_f64, 0.0_f64, NEVER))),
        begins("DetectState", "unseen", || pack(&crate::detect::unseen())),
        // No template: a trace that goes on belongs to a line from before.
        begins("EntitySlot", "head", || pack(&0_u64)),
        begins("TemplateTally", "grave", || pack(&false)),
    ],
};

const NEVER: Option<Timestamp> = None;
