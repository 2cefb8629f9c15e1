//! Which methods a command runs.

use clap::Args;

use crate::rivals::Method;

/// Ours alone is quick enough to tune with; rivals take minutes.
#[derive(Clone, Debug, Default, Args)]
pub struct Selection {
    /// Runs every rival beside ours, which takes minutes
    #[arg(long)]
    pub rivals: bool,
    /// Only these methods, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "rivals")]
    pub methods: Vec<Method>,
}

impl Selection {
    /// The methods, in the order of the tables.
    #[must_use]
    pub fn methods(&self) -> Vec<Method> {
        let chosen = |method: &&Method| match self.methods.as_slice() {
            [] => self.rivals || matches!(method, Method::Foreshock | Method::Chance),
            some => some.contains(method),
        };
        Method::ALL.iter().filter(chosen).copied().collect()
    }
}
