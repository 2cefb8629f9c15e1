//! Which labels name an entity: one list for sources, dumps and the predictor.

/// Labels that name an entity where a source does not say: the narrowest thing that can fail on its own first. `a+b` joins two.
pub const ENTITY_LABELS: [&str; 8] = [
    "namespace+pod",
    "pod",
    "host",
    "instance",
    "node",
    "service",
    "container",
    "job",
];

/// The label or column that names the entity outright.
pub const ENTITY_LABEL: &str = "entity";

/// Labels that say where something runs: never a metric, but no entity of their own either.
const PLACE_LABELS: [&str; 5] = ["region", "zone", "cluster", "env", "device"];

/// Whether a label says which entity it is, and not what is measured: `entity` or a part of [`ENTITY_LABELS`].
#[must_use]
pub fn is_entity_label(name: &str) -> bool {
    name == ENTITY_LABEL
        || ENTITY_LABELS
            .iter()
            .any(|label| label.split('+').any(|part| part == name))
}

/// Whether a column of this name in a table of metrics is a label even where nobody says so.
#[must_use]
pub fn is_label_column(name: &str) -> bool {
    is_entity_label(name) || PLACE_LABELS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name() {
        for (name, is_entity, is_label) in [
            ("entity", true, true),
            ("namespace", true, true),
            ("pod", true, true),
            ("job", true, true),
            ("zone", false, true),
            ("namespace+pod", false, false),
            ("cpu", false, false),
            ("", false, false),
        ] {
            assert_eq!(
                (is_entity_label(name), is_label_column(name)),
                (is_entity, is_label),
                "{name}"
            );
        }
    }
}
