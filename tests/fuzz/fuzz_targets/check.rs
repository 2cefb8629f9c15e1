// Included by the target of each log format: what must hold of any record whatever.

use foreshock_domain::text::is_unprintable;
use foreshock_domain::{Input, Timestamp};
use foreshock_wire::{Decoder, Format, Near, Origin, limits};

/// What a record came to, as text.
fn read(decoder: &mut Decoder, payload: &[u8], origin: Origin<'_>) -> Vec<String> {
    let mut items = Vec::new();
    let decoded = decoder.decode_from(payload, origin, &mut |input| {
        let Input::Line(line) = &input else {
            panic!("a log format that gives {input:?}");
        };
        assert!(!line.message.trim_ascii().is_empty(), "an empty message");
        assert!(
            line.message.len() <= limits::MESSAGE_BYTES_MAX,
            "a message of {} bytes",
            line.message.len()
        );
        let bare = |c: char| is_unprintable(c) && c != '\n' && c != '\t';
        assert!(
            !line.message.contains(bare),
            "a control character in {:?}",
            line.message
        );
        assert!(
            line.labels.is_sorted_by(|a, b| a.0 < b.0),
            "labels out of order: {:?}",
            line.labels
        );
        assert!(line.labels.len() <= limits::LABELS_MAX, "{} labels", line.labels.len());
        for (key, value) in line.labels {
            assert!(
                !key.contains(is_unprintable) && !value.contains(is_unprintable),
                "{key:?}={value:?}"
            );
            assert!(key.len().max(value.len()) <= 3 * limits::NAME_BYTES_MAX, "a long label");
        }
        assert!(line.at.is_none_or(Timestamp::is_plausible), "a time out of all bounds");
        items.push(format!("{:?}", line));
    });
    match decoded {
        Ok(decoded) => assert_eq!(decoded.items, items.len(), "the count is the number of calls"),
        Err(error) => {
            assert!(items.is_empty(), "a refused record gave {items:?}");
            assert!(error.to_string().len() <= 300, "a reason that floods");
        }
    }
    items
}

fn check(format: Format, data: &[u8]) {
    // The first byte says what the log says of the record.
    let Some((first, payload)) = data.split_first() else {
        return;
    };
    let near = Timestamp::from_millis(1_769_860_800_000 + i64::from(*first) * 86_400_000);
    let origin = Origin {
        key: &[*first & 1],
        near: (first & 2 == 0).then_some(if first & 4 == 0 {
            Near::Record(near)
        } else {
            Near::Before(near)
        }),
    };
    let mut decoder = Decoder::new(format);
    let once = read(&mut decoder, payload, origin);
    let memory = decoder.memory().clone();
    let again = read(&mut Decoder::new(format), payload, origin);
    assert_eq!(once, again, "two readings of one record");
    // A decoder that goes on and one that was restored agree.
    let mut restored = Decoder::new(format).remembering(memory);
    assert_eq!(
        read(&mut decoder, payload, origin),
        read(&mut restored, payload, origin)
    );
    assert_eq!(decoder.memory(), restored.memory());
}
