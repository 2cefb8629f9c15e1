// Included by the target of each format of samples or incidents: what must hold of any record whatever.

use foreshock_domain::{Input, Timestamp};
use foreshock_wire::{Decoder, Format, limits};

/// Bytes of a reason in an error or a dead letter's header.
const REASON_BYTES_MAX: usize = 300;

/// What a record came to, as text.
fn read(decoder: &mut Decoder, payload: &[u8]) -> Vec<String> {
    let is_incident = decoder.format() == Format::IncidentJson;
    let mut items = Vec::new();
    let decoded = decoder.decode(payload, &mut |input| {
        match &input {
            Input::Sample(sample) => {
                assert!(!is_incident, "a sample out of a declaration");
                assert!(!sample.name.is_empty(), "a series without a name");
                assert!(
                    sample.labels.is_sorted_by(|a, b| a.0 < b.0),
                    "labels out of order: {:?}",
                    sample.labels
                );
                assert!(
                    sample.labels.len() <= limits::LABELS_MAX,
                    "{} labels",
                    sample.labels.len()
                );
                for (key, value) in sample.labels {
                    assert!(key.len().max(value.len()) <= limits::NAME_BYTES_MAX, "a long label");
                }
                assert!(
                    sample.at.is_none_or(Timestamp::is_plausible),
                    "a time out of all bounds"
                );
            }
            Input::Incident(incident) => {
                assert!(is_incident, "a declaration out of samples");
                assert!(!incident.entity.as_str().is_empty(), "an incident of nothing");
                assert!(incident.onset.is_plausible(), "an onset out of all bounds");
                assert!(incident.end.is_none_or(Timestamp::is_plausible), "an end out of all bounds");
                let summary = incident.summary.as_deref().unwrap_or_default();
                assert!(summary.len() <= limits::SUMMARY_BYTES_MAX, "a long summary");
            }
            Input::Line(line) => panic!("a line out of numbers: {line:?}"),
        }
        items.push(format!("{input:?}"));
    });
    assert!(items.len() <= limits::ITEMS_MAX, "{} items", items.len());
    match decoded {
        Ok(decoded) => assert_eq!(decoded.items, items.len(), "the count is the number of calls"),
        Err(error) => {
            assert!(items.is_empty(), "a refused record gave {items:?}");
            assert!(error.to_string().len() <= REASON_BYTES_MAX, "a reason that floods");
        }
    }
    items
}

fn check(format: Format, payload: &[u8]) {
    let mut decoder = Decoder::new(format);
    let once = read(&mut decoder, payload);
    // The scratch space that the first reading left must not show in the second.
    assert_eq!(once, read(&mut decoder, payload), "two readings of one record");
    assert_eq!(once, read(&mut Decoder::new(format), payload), "a decoder that is new");
}
