//! Records that could not be read: topic `foreshock.dead-letters`. The value is the original bytes, untouched; where they
//! came from and why they were refused is in headers, so that they can be sent again once the cause is mended. Of what is too large
//! for a topic at its defaults there is the beginning: a letter that brokers refuse would hold up its partition for ever.
//! Of a batch that nobody can unpack there are no bytes at all: one letter says which offsets were skipped.

use std::ops::RangeInclusive;

use foreshock_domain::text::is_unprintable;
use foreshock_domain::{Timestamp, Upstream};

use crate::error::DecodeError;
use crate::limits::prefix;

/// Header: topic that the record was read from.
pub const SOURCE_TOPIC: &str = "source_topic";
/// Header: partition of it, decimal.
pub const SOURCE_PARTITION: &str = "source_partition";
/// Header: offset in it, decimal.
pub const SOURCE_OFFSET: &str = "source_offset";
/// Header: the record's own timestamp, milliseconds since 1970, decimal; left out where the record had none.
pub const SOURCE_TIMESTAMP: &str = "source_timestamp";
/// Header: why it was refused, at most about 200 bytes.
pub const ERROR: &str = "error";

/// Header: last offset of those that were skipped, decimal; only where a batch could not be unpacked, so that there is no record to keep.
pub const SOURCE_LAST_OFFSET: &str = "source_last_offset";
/// Header: bytes of the value as it was, decimal; only where it is cut.
pub const SOURCE_VALUE_BYTES: &str = "source_value_bytes";
/// Header: bytes of the key as it was, decimal; only where it is cut.
pub const SOURCE_KEY_BYTES: &str = "source_key_bytes";

/// Bytes that are kept of why a batch can't be unpacked.
const REASON_BYTES_MAX: usize = 160;

/// Bytes that are kept of a value. With key and headers it goes through brokers at their default of 1 MiB a batch, however badly
/// it compresses.
pub const VALUE_BYTES_MAX: usize = 768 << 10;
/// Bytes that are kept of a key.
pub const KEY_BYTES_MAX: usize = 64 << 10;

/// Key and value as a dead letter has them, and the headers that say so where one is cut.
#[must_use]
pub fn kept<'a>(key: &'a [u8], value: &'a [u8]) -> (&'a [u8], &'a [u8], Vec<(&'static str, String)>) {
    let parts = [
        (SOURCE_KEY_BYTES, key.len(), KEY_BYTES_MAX),
        (SOURCE_VALUE_BYTES, value.len(), VALUE_BYTES_MAX),
    ];
    let cut = parts.into_iter().filter(|(_, bytes, most)| bytes > most);
    let headers = cut.map(|(name, bytes, _)| (name, bytes.to_string())).collect();
    (
        &key[..key.len().min(KEY_BYTES_MAX)],
        &value[..value.len().min(VALUE_BYTES_MAX)],
        headers,
    )
}

/// The headers of a dead letter.
#[must_use]
pub fn headers(
    upstream: &Upstream,
    offset: i64,
    timestamp: Option<Timestamp>,
    error: &DecodeError,
) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        (SOURCE_TOPIC, upstream.topic.to_string()),
        (SOURCE_PARTITION, upstream.partition.to_string()),
        (SOURCE_OFFSET, offset.to_string()),
        (ERROR, error.to_string()),
    ];
    if let Some(at) = timestamp {
        headers.push((SOURCE_TIMESTAMP, at.as_millis().to_string()));
    }
    headers
}

/// The headers of the one dead letter for a batch that can't be unpacked: these offsets were skipped.
#[must_use]
pub fn skipped(upstream: &Upstream, offsets: &RangeInclusive<i64>, reason: &str) -> Vec<(&'static str, String)> {
    let printable = |c| if is_unprintable(c) { ' ' } else { c };
    let reason: String = prefix(reason, REASON_BYTES_MAX).chars().map(printable).collect();
    vec![
        (SOURCE_TOPIC, upstream.topic.to_string()),
        (SOURCE_PARTITION, upstream.partition.to_string()),
        (SOURCE_OFFSET, offsets.start().to_string()),
        (SOURCE_LAST_OFFSET, offsets.end().to_string()),
        (ERROR, format!("a batch that can't be unpacked was skipped: {reason}")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_say_where_and_why() {
        let upstream = Upstream {
            topic: "metrics".into(),
            partition: 3,
        };
        let error = DecodeError::at("missing field `name`", 2, 7);
        let expected = [
            ("source_topic", "metrics"),
            ("source_partition", "3"),
            ("source_offset", "42"),
            ("error", "missing field `name` at line 2 byte 7"),
            ("source_timestamp", "1000"),
        ];
        let got = headers(&upstream, 42, Some(Timestamp::from_secs(1)), &error);
        assert_eq!(got.iter().map(|(k, v)| (*k, v.as_str())).collect::<Vec<_>>(), expected);
        assert_eq!(headers(&upstream, 42, None, &error).len(), 4);
    }

    #[test]
    fn what_was_skipped_says_from_where_to_where() {
        let upstream = Upstream {
            topic: "metrics".into(),
            partition: 3,
        };
        let expected = [
            ("source_topic", "metrics"),
            ("source_partition", "3"),
            ("source_offset", "42"),
            ("source_last_offset", "44"),
            ("error", "a batch that can't be unpacked was skipped: no zstd "),
        ];
        let got = skipped(&upstream, &(42..=44), "no zstd\n");
        assert_eq!(got.iter().map(|(k, v)| (*k, v.as_str())).collect::<Vec<_>>(), expected);
        assert!(skipped(&upstream, &(1..=1), &"x".repeat(10_000))[4].1.len() < 240);
    }

    #[test]
    fn what_is_too_large_is_cut_and_says_so() {
        let whole = kept(b"k", &[7; VALUE_BYTES_MAX]);
        assert_eq!(
            (whole.0, whole.1.len(), whole.2),
            (&b"k"[..], VALUE_BYTES_MAX, Vec::new())
        );
        let (key, value, headers) = kept(&[1; KEY_BYTES_MAX + 1], &[7; 10 << 20]);
        assert_eq!((key.len(), value.len()), (KEY_BYTES_MAX, VALUE_BYTES_MAX));
        let expected = [("source_key_bytes", "65537"), ("source_value_bytes", "10485760")];
        assert_eq!(
            headers.iter().map(|(k, v)| (*k, v.as_str())).collect::<Vec<_>>(),
            expected
        );
        assert!(
            key.len() + value.len() + 1_024 < 1 << 20,
            "a topic at its defaults takes it"
        );
    }
}
