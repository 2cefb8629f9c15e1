//! Caps on what one record may hold. A record past a cap of shape is refused whole; text past a cap of length is cut where
//! cutting loses only words (messages, summaries) and refused where it would make two names one (series, labels).

/// Largest record that is looked at, in bytes. A decoder can be told otherwise.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Samples, lines or incidents in one record.
pub const ITEMS_MAX: usize = 10_000;

/// Labels of one sample.
pub const LABELS_MAX: usize = 64;

/// Bytes of a metric name, a label's key, a label's value or an entity.
pub const NAME_BYTES_MAX: usize = 256;

/// Bytes of a log message; what is longer is cut at a character and counted.
pub const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// Bytes of an incident's summary; what is longer is cut at a character.
pub const SUMMARY_BYTES_MAX: usize = 1 << 10;

/// The longest prefix of `text` that is at most `bytes_max` bytes and ends at a character.
#[must_use]
pub fn prefix(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
