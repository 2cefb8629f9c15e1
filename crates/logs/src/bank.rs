use foreshock_domain::{Learning, Level, Timestamp, Verdict};
use serde::{Deserialize, Serialize};

use crate::TemplateId;

/// Templates kept per entity; lines of all others count as [`TemplateId::OVERFLOW`].
pub const TEMPLATES_MAX: usize = 512;
/// Verdicts below this surprise are not given out.
pub const GATE_SURPRISE: f64 = 1.0;

/// Lines of one template in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateCount {
    /// Template.
    pub id: TemplateId,
    /// Lines in the window.
    pub count: u32,
    /// As the miner said of the first of them.
    pub first_seen: bool,
    /// Of its lines.
    pub level: Option<Level>,
}

/// What is odd about one template in one window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TemplateVerdict {
    /// Template.
    pub id: TemplateId,
    /// Lines in the window; 0 for silence.
    pub count: u32,
    /// Since when.
    pub onset: Timestamp,
    /// What the model says.
    pub verdict: Verdict,
}

/// What is normal of the templates of one entity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TemplateBank {
    windows: u64,
}

impl TemplateBank {
    /// Knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds up the statistics of templates that the miner has merged since the last call. To be called before
    /// [`TemplateBank::close_window`]; costs nothing while nothing merges.
    pub fn reconcile(&mut self, _miner: &crate::Miner) {}

    /// Bytes of state, about.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        size_of::<Self>()
    }

    /// Closes a window.
    pub fn close_window(
        &mut self,
        _start: Timestamp,
        _end: Timestamp,
        _counts: &[TemplateCount],
        _learning: Learning,
        _out: &mut Vec<TemplateVerdict>,
    ) -> u32 {
        self.windows += 1;
        0
    }
}
