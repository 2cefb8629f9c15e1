//! Deterministic ids: hashes of what caused something, so that a replay gives the same.

use foreshock_domain::{EventAction, EventId, EventKind, IncidentId, SourcePosition, Timestamp};
use xxhash_rust::xxh3::Xxh3Default;

/// Fields go in with their length, so that no two different lists of fields make the same bytes.
struct Fields(Xxh3Default);

impl Fields {
    fn new() -> Self {
        Self(Xxh3Default::new())
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    fn number(self, n: i64) -> Self {
        self.bytes(&n.to_le_bytes())
    }

    fn position(self, p: Option<&SourcePosition>) -> Self {
        match p {
            None => self.number(0),
            Some(p) => self
                .number(1)
                .bytes(p.upstream.topic.as_bytes())
                .number(p.upstream.partition.into())
                .number(p.offset_first)
                .number(p.offset_last),
        }
    }
}

/// Of an incident: what it is about and the records that opened it. `ordinal` counts the incidents of an entity, for those that
/// no record opened (an absence has none).
pub(crate) fn incident(
    kind: EventKind,
    entity: &str,
    onset: Timestamp,
    position: Option<&SourcePosition>,
    ordinal: u64,
) -> IncidentId {
    let kind = match kind {
        EventKind::Precursor => b"precursor".as_slice(),
        EventKind::Failure => b"failure".as_slice(),
    };
    let fields = Fields::new()
        .bytes(kind)
        .bytes(entity.as_bytes())
        .number(onset.as_millis())
        .position(position);
    IncidentId(fields.bytes(&ordinal.to_le_bytes()).0.digest128())
}

/// Of one event of an incident.
pub(crate) fn event(incident: IncidentId, action: EventAction, seq: u32) -> EventId {
    let action = match action {
        EventAction::Open => 0,
        EventAction::Update => 1,
        EventAction::Resolve => 2,
    };
    EventId(
        Fields::new()
            .bytes(&incident.0.to_le_bytes())
            .number(action)
            .number(seq.into())
            .0
            .digest128(),
    )
}

#[cfg(test)]
mod tests {
    use foreshock_domain::Upstream;

    use super::*;

    fn at(offset: i64) -> SourcePosition {
        let upstream = Upstream {
            topic: "metrics".into(),
            partition: 3,
        };
        SourcePosition {
            upstream,
            offset_first: offset,
            offset_last: offset + 9,
        }
    }

    #[test]
    fn ids_depend_on_every_field_and_on_nothing_else() {
        let t = Timestamp::from_secs(1);
        let id = incident(EventKind::Precursor, "a", t, Some(&at(5)), 0);
        assert_eq!(id, incident(EventKind::Precursor, "a", t, Some(&at(5)), 0));
        let others = [
            incident(EventKind::Failure, "a", t, Some(&at(5)), 0),
            incident(EventKind::Precursor, "b", t, Some(&at(5)), 0),
            incident(EventKind::Precursor, "a", t + 1, Some(&at(5)), 0),
            incident(EventKind::Precursor, "a", t, Some(&at(6)), 0),
            incident(EventKind::Precursor, "a", t, None, 0),
            incident(EventKind::Precursor, "a", t, Some(&at(5)), 1),
        ];
        for other in others {
            assert_ne!(id, other);
        }
    }

    /// Consumers drop duplicates by these ids across versions: they may not change.
    #[test]
    fn ids_are_pinned() {
        let id = incident(
            EventKind::Failure,
            "web-1",
            Timestamp::from_secs(1_700_000_000),
            None,
            1,
        );
        assert_eq!(id.to_string(), "fbbf9ee9f12e54167f1a2400bd813594");
        assert_eq!(
            event(id, EventAction::Open, 0).to_string(),
            "df7b13c70928de4f2ada52d21e280166"
        );
    }
}
