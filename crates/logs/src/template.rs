use std::fmt;

use serde::{Deserialize, Serialize};

/// 64-bit hash of a template's level, length and constant tokens, with a fixed seed: the same template has the same id
/// everywhere, after a restart and in another process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TemplateId(pub u64);

impl TemplateId {
    /// All templates together for which a bounded table has no room; counts still sum up.
    pub const OVERFLOW: Self = Self(0);
}

impl fmt::Display for TemplateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
