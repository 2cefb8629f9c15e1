/// A failure rule that can't be used: where it stands in the configuration, what is wrong, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {what}, expected {expected}")]
pub struct RuleError {
    /// Path of the key, such as `failure.slo[0].objective`.
    pub key: String,
    /// What was found.
    pub what: String,
    /// What may stand there.
    pub expected: String,
}

impl RuleError {
    pub(crate) fn new(key: impl Into<String>, what: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            what: what.into(),
            expected: expected.into(),
        }
    }
}
