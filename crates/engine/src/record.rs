use std::borrow::Cow;
use std::ops::RangeInclusive;

use foreshock_domain::{Timestamp, Upstream};
use foreshock_wire::{DecodeError, dead_letter};
use serde::{Deserialize, Serialize};

/// A topic by its place: 0 is the signals topic, then the sources in the order of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicId(pub u16);

impl TopicId {
    /// The internal topic between the stages.
    pub const SIGNALS: Self = Self(0);
}

/// One partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// Which topic.
    pub topic: TopicId,
    /// Which partition of it.
    pub partition: i32,
}

/// One record as a log hands it over.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Where it stands.
    pub from: TopicPartition,
    /// Its place in the partition.
    pub offset: i64,
    /// The log's own timestamp.
    pub timestamp: Option<Timestamp>,
    /// Key bytes.
    pub key: Option<&'a [u8]>,
    /// Value bytes; `None` for a tombstone.
    pub payload: Option<&'a [u8]>,
}

/// A stretch of a partition that can't be read: records of a batch that is damaged, or unpacks to more than the log takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Where it stands.
    pub of: TopicPartition,
    /// Its first offset.
    pub from: i64,
    /// The first offset behind it.
    pub to: i64,
    /// What the log says of it.
    pub reason: String,
}

/// Where an output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// The internal topic, to this partition.
    Signals(i32),
    /// Precursors.
    Anomalies,
    /// Hard failures.
    Failures,
    /// What became of precursors.
    Ledger,
    /// Records that could not be read.
    DeadLetters,
    /// [`crate::Moment`]s, where [`crate::EngineConfig::observe`] asks for them: what a predictor is learned from and judged by.
    Moments,
}

/// One record to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// The partition whose records made it; it is written only if that partition's progress is.
    pub from: TopicPartition,
    /// Where to.
    pub to: Destination,
    /// Key bytes.
    pub key: Vec<u8>,
    /// Value bytes.
    pub value: Vec<u8>,
    /// Headers in order.
    pub headers: Vec<(Cow<'static, str>, Vec<u8>)>,
}

impl Output {
    /// A record that could not be read, as it was, with the reason; its beginning where it is too large for the topic.
    pub(crate) fn dead_letter(upstream: &Upstream, record: &Record<'_>, error: &DecodeError) -> Self {
        let (key, value) = (record.key.unwrap_or_default(), record.payload.unwrap_or_default());
        let (key, value, cut) = dead_letter::kept(key, value);
        let mut headers = dead_letter::headers(upstream, record.offset, record.timestamp, error);
        headers.extend(cut);
        Self::letter(record.from, (key, value), headers)
    }

    /// Says which offsets were skipped, and why.
    pub(crate) fn skipped(
        upstream: &Upstream,
        of: TopicPartition,
        offsets: &RangeInclusive<i64>,
        reason: &str,
    ) -> Self {
        Self::letter(of, (&[], &[]), dead_letter::skipped(upstream, offsets, reason))
    }

    fn letter(from: TopicPartition, (key, value): (&[u8], &[u8]), headers: Vec<(&'static str, String)>) -> Self {
        Self {
            from,
            to: Destination::DeadLetters,
            key: key.to_vec(),
            value: value.to_vec(),
            headers: headers
                .into_iter()
                .map(|(k, v)| (Cow::Borrowed(k), v.into_bytes()))
                .collect(),
        }
    }
}
