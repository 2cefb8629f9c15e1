/// What the miner takes for a variable. There is one configuration for everything, the default; the others exist so that it
/// can be measured how far the choice carries over to systems on which it was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MiningRules {
    /// Different words that make a position a variable.
    pub words_min: usize,
    /// The same, after a word such as `user`.
    pub names_min: usize,
    /// The same, where a variable was seen at the position. (Drain: a masked token is a wildcard from the start.)
    pub words_beside_variable_min: usize,
    /// Shorter runs of hexadecimal letters are words: `dead`, `facade`.
    pub hex_min: usize,
    /// Whether units, days and months belong to the number beside them.
    pub units: bool,
    /// Whether of `key=value` the key stays.
    pub keys: bool,
    /// Whether `/a/path` is a variable.
    pub paths: bool,
    /// Whether a name with two dots is a variable.
    pub hosts: bool,
}

impl Default for MiningRules {
    fn default() -> Self {
        Self {
            words_min: 5,
            names_min: 3,
            words_beside_variable_min: 1,
            hex_min: 8,
            units: true,
            keys: true,
            paths: true,
            hosts: true,
        }
    }
}
