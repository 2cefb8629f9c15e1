//! Where the variables of templates stand, for those who look at what stands there. See [`crate::LineValue`].

use super::Miner;
use crate::TemplateId;
use crate::showing::WILD_TEXT;
use crate::tokens::Tokens;

impl Miner {
    /// The tokens of the line that was mined last.
    pub(crate) fn scanned(&self) -> &Tokens {
        &self.scratch
    }

    /// Positions, as bits, at which merging made a variable of words in a template; 0 where it is not known.
    #[must_use]
    pub fn word_places(&self, id: TemplateId) -> u64 {
        self.form(id.0).map_or(0, |form| form.wild)
    }

    /// Whether a template has any variable, as far as its text goes.
    #[must_use]
    pub fn has_variables(&self, id: TemplateId) -> bool {
        self.form(id.0).is_some_and(|form| form.text.contains(WILD_TEXT))
    }
}
