//! Records that could not be read: topic `foreshock.dead-letters`. The value is the original bytes, untouched; where they
//! came from and why they were refused is in headers, so that they can be sent again once the cause is mended.

use foreshock_domain::{Timestamp, Upstream};

use crate::error::DecodeError;

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
}
