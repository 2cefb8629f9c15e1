//! From 9 to 10: when oddness is over, and what of it came before a failure.

use super::Step;
use super::v8::begins;
use crate::state::pack;

pub(super) const STEP: Step = Step {
    from: 9,
    layout: include_str!("layouts/9.txt"),
    changes: &[
        // As if it had been odd just now: what is over is over twelve windows later.
        begins("Lasting", "quiet", || pack(&0_u8)),
    ],
};
