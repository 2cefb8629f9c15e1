//! A range of a topic as history: each partition by itself, from a first record to an end that is known at the start.
//!
//! Committed records only, outside any group; nothing is written. The end of a partition is the high watermark when it was
//! opened, so a topic that is still written to ends too. Where a transaction is open then, its partition ends before it.
//!
//! Times are the records' own, which a partition need not hold in order: reading starts at the first record of the start or
//! later, and what is not in the range is passed over. Where the brokers stamp the records, it ends with the first that is past it.
//!
//! Cost: one client for all partitions, and at most some 4 MiB of records ahead in it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use foreshock_domain::Timestamp;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use crate::reader::partitions_of;
use crate::settings::ConnectionSettings;

/// For one question to the brokers.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Without a record or an end for so long, the brokers are gone.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Between two looks at what the client has to say.
const NAP: Duration = Duration::from_millis(100);

/// Where a range begins or ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bound {
    /// With the first record, or the last that is there when it is opened.
    #[default]
    Open,
    /// At this offset of every partition; the end is not read itself.
    Offset(i64),
    /// At the first record of this time or later; the end is not read itself.
    Time(Timestamp),
}

/// A record of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeRecord {
    /// Its offset.
    pub offset: i64,
    /// Its own time: the producer's or the broker's.
    pub at: Option<Timestamp>,
    /// Key bytes; empty where there is none.
    pub key: Vec<u8>,
    /// Value bytes.
    pub payload: Vec<u8>,
}

/// Why a range can't be read.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    /// Brokers, rights or topics.
    #[error("topic {topic:?}: {what}: {error}")]
    Broker {
        /// Which topic.
        topic: String,
        /// What was tried.
        what: &'static str,
        /// What the client says.
        error: KafkaError,
    },
    /// The records are no longer there.
    #[error("partition {partition} of topic {topic:?} begins at offset {low}, and the range at {from}")]
    Gone {
        /// Which topic.
        topic: String,
        /// Which partition.
        partition: i32,
        /// Its first offset.
        low: i64,
        /// The first that was asked for.
        from: i64,
    },
    /// Nothing comes any more.
    #[error("topic {topic:?}, partition {partition}: no record and no end for {} s: {reason}", SILENCE_MAX.as_secs())]
    Silent {
        /// Which topic.
        topic: String,
        /// Which partition.
        partition: i32,
        /// The last that the client said.
        reason: String,
    },
}

/// Keeps what the client says, for the error that may follow.
#[derive(Default)]
struct Told(Mutex<String>);

impl rdkafka::ClientContext for Told {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client");
        reason.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl rdkafka::consumer::ConsumerContext for Told {}

/// What a partition brings.
enum Came {
    Record {
        record: RangeRecord,
        has_value: bool,
        /// Whether its time is the broker's, so that no later record has an earlier one.
        is_broker_time: bool,
    },
    End,
}

impl Came {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let stamp = message.timestamp();
        Self::Record {
            record: RangeRecord {
                offset: message.offset(),
                at: stamp.to_millis().map(Timestamp::from_millis),
                key: message.key().unwrap_or_default().to_vec(),
                payload: message.payload().unwrap_or_default().to_vec(),
            },
            has_value: message.payload().is_some(),
            is_broker_time: matches!(stamp, rdkafka::Timestamp::LogAppendTime(_)),
        }
    }
}

/// One partition of a range, from its first record on. After an error it ends.
pub struct PartitionRange {
    topic: String,
    partition: i32,
    consumer: Arc<BaseConsumer<Told>>,
    queue: PartitionQueue<Told>,
    /// What came before the partition had a queue of its own.
    early: VecDeque<Came>,
    /// Records of another time are not in the range.
    from_time: Option<Timestamp>,
    to_time: Option<Timestamp>,
    start: i64,
    /// The first offset that is not read.
    end: i64,
    /// The next offset that may come.
    next: i64,
    ended: bool,
}

/// Opens every partition of a topic from `from` to `to`. Partitions without a record in it are there too, and at their end.
///
/// # Errors
/// When the brokers can't be asked, the topic is not there, or offsets were asked for that are deleted.
pub fn open_range(
    connection: &ConnectionSettings,
    topic: &str,
    from: Bound,
    to: Bound,
) -> Result<Vec<PartitionRange>, RangeError> {
    let failed = |what| {
        let topic = topic.to_owned();
        move |error| RangeError::Broker { topic, what, error }
    };
    let mut config = connection.client();
    config
        .set("group.id", "foreshock-history")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        // What is gone must be said and not jumped over.
        .set("auto.offset.reset", "error")
        .set("queued.min.messages", "1000")
        .set("queued.max.messages.kbytes", "4096")
        .set("fetch.wait.max.ms", "50");
    let consumer: BaseConsumer<Told> = config
        .create_with_context(Told::default())
        .map_err(failed("the client can't be set up"))?;
    let partitions = partitions_of(&consumer, topic).map_err(failed("can't be seen"))?;
    let first = first_offsets(&consumer, topic, &partitions, from).map_err(failed("can't be asked for its times"))?;
    let mut spans = Vec::new();
    for (place, partition) in partitions.into_iter().enumerate() {
        let (low, high) = consumer
            .fetch_watermarks(topic, partition, CALL_TIMEOUT)
            .map_err(failed("can't be asked for its offsets"))?;
        let start = match (from, &first) {
            (Bound::Offset(from), _) if from < low => {
                let topic = topic.to_owned();
                return Err(RangeError::Gone {
                    topic,
                    partition,
                    low,
                    from,
                });
            }
            (Bound::Offset(from), _) => from,
            (_, Some(first)) => first[place].unwrap_or(high),
            _ => low,
        };
        let end = if let Bound::Offset(to) = to { high.min(to) } else { high };
        spans.push((partition, start.max(low).min(end.max(low)), end));
    }
    let mut list = TopicPartitionList::new();
    for (partition, start, end) in &spans {
        if start < end {
            list.add_partition_offset(topic, *partition, Offset::Offset(*start))
                .map_err(failed("can't be read"))?;
        }
    }
    consumer.assign(&list).map_err(failed("can't be read"))?;
    let consumer = Arc::new(consumer);
    let time = |bound| if let Bound::Time(at) = bound { Some(at) } else { None };
    let mut ranges = Vec::new();
    for (partition, start, end) in spans {
        let queue = consumer
            .split_partition_queue(topic, partition)
            .ok_or(KafkaError::Canceled)
            .map_err(failed("can't be read"))?;
        ranges.push(PartitionRange {
            topic: topic.to_owned(),
            partition,
            consumer: consumer.clone(),
            queue,
            early: VecDeque::new(),
            from_time: time(from),
            to_time: time(to),
            start,
            end,
            next: start,
            ended: start >= end,
        });
    }
    let mut early = early(&consumer, topic)?;
    for range in &mut ranges {
        range.early = early.remove(&range.partition).unwrap_or_default();
    }
    Ok(ranges)
}

/// What the client fetched between the assignment and the splitting of its queue: it stands in the common queue and comes first.
fn early(consumer: &BaseConsumer<Told>, topic: &str) -> Result<BTreeMap<i32, VecDeque<Came>>, RangeError> {
    let mut early: BTreeMap<i32, VecDeque<Came>> = BTreeMap::new();
    let mut quiet = 0;
    // One look may serve only what is no record.
    while quiet < 3 {
        match consumer.poll(Duration::from_millis(1)) {
            None => quiet += 1,
            Some(Ok(message)) => early
                .entry(message.partition())
                .or_default()
                .push_back(Came::of(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => early.entry(partition).or_default().push_back(Came::End),
            Some(Err(error)) if is_passing(&error) => quiet += 1,
            Some(Err(error)) => {
                let (topic, what) = (topic.to_owned(), "can't be read");
                return Err(RangeError::Broker { topic, what, error });
            }
        }
    }
    Ok(early)
}

/// Errors of connections, which the client mends by itself.
fn is_passing(error: &KafkaError) -> bool {
    use rdkafka::error::RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
        )
    )
}

/// The first record of each partition that is of `from` or later, where that is a time.
fn first_offsets(
    consumer: &BaseConsumer<Told>,
    topic: &str,
    partitions: &[i32],
    from: Bound,
) -> Result<Option<Vec<Option<i64>>>, KafkaError> {
    let Bound::Time(from) = from else { return Ok(None) };
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(topic, *partition, Offset::Offset(from.as_millis()))?;
    }
    let found = consumer.offsets_for_times(list, CALL_TIMEOUT)?;
    let first = |partition: &i32| match found.find_partition(topic, *partition).map(|e| e.offset()) {
        Some(Offset::Offset(offset)) => Some(offset),
        // Nothing is so late.
        _ => None,
    };
    Ok(Some(partitions.iter().map(first).collect()))
}

impl PartitionRange {
    /// Which partition.
    #[must_use]
    pub const fn partition(&self) -> i32 {
        self.partition
    }

    /// Offsets in the range, as they were when it was opened.
    #[must_use]
    pub fn offsets_total(&self) -> u64 {
        u64::try_from(self.end - self.start).unwrap_or(0)
    }

    /// Offsets passed so far; all of them at the end.
    #[must_use]
    pub fn offsets_taken(&self) -> u64 {
        let next = if self.ended { self.end } else { self.next.min(self.end) };
        u64::try_from(next - self.start).unwrap_or(0)
    }

    /// What comes next, waiting for it.
    fn wait(&mut self) -> Result<Came, RangeError> {
        if let Some(came) = self.early.pop_front() {
            return Ok(came);
        }
        let began = Instant::now();
        let mut reason = String::new();
        loop {
            // Serves what the client wants to say; records come by the queue.
            if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
                reason = error.to_string();
            }
            match self.queue.poll(NAP) {
                Some(Ok(message)) => return Ok(Came::of(&message)),
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(Came::End),
                Some(Err(error)) if is_passing(&error) => reason = error.to_string(),
                Some(Err(error)) => {
                    let (topic, what) = (self.topic.clone(), "can't be read on");
                    return Err(RangeError::Broker { topic, what, error });
                }
                None => {}
            }
            if began.elapsed() > SILENCE_MAX {
                let told = self.consumer.context().0.lock().unwrap_or_else(PoisonError::into_inner);
                let said = [told.as_str(), reason.as_str()].into_iter().find(|r| !r.is_empty());
                return Err(RangeError::Silent {
                    topic: self.topic.clone(),
                    partition: self.partition,
                    reason: said.unwrap_or("the brokers say nothing").to_owned(),
                });
            }
        }
    }

    fn read(&mut self) -> Result<Option<RangeRecord>, RangeError> {
        while self.next < self.end {
            let Came::Record {
                record,
                has_value,
                is_broker_time,
            } = self.wait()?
            else {
                break;
            };
            if record.offset >= self.end {
                break;
            }
            self.next = record.offset + 1;
            let is_late = self.to_time.is_some_and(|to| record.at.is_some_and(|at| at >= to));
            if is_late && is_broker_time {
                break;
            }
            let is_early = self.from_time.is_some_and(|from| record.at.is_some_and(|at| at < from));
            if has_value && !is_late && !is_early {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}

impl Iterator for PartitionRange {
    type Item = Result<RangeRecord, RangeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let read = self.read();
        self.ended = !matches!(read, Ok(Some(_)));
        read.transpose()
    }
}
