//! Topics of one test: created under a prefix of their own, written, and read back the way a careful consumer does.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::broker::Broker;

/// Longer than any broker that lives needs for one call.
const CALL_MAX: Duration = Duration::from_secs(60);

/// A record to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Partition; by the key's hash where `None`.
    pub partition: Option<i32>,
    /// Milliseconds since the epoch; the present where `None`.
    pub timestamp_ms: Option<i64>,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Outgoing {
    /// A record of this key and value, and nothing else.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self {
            key: Some(key.into()),
            value: Some(value.into()),
            ..Self::default()
        }
    }
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Topic, with the test's prefix.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Incoming {
    /// The first header of this name as text; `None` where there is none or it is no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(n, _)| n == name)?;
        std::str::from_utf8(value).ok()
    }

    fn from_message(message: &impl Message<Headers = impl Headers>) -> Self {
        let header = |h: Header<'_, &[u8]>| (h.key.to_owned(), h.value.unwrap_or_default().to_vec());
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: message
                .headers()
                .map(|h| h.iter().map(header).collect())
                .unwrap_or_default(),
        }
    }
}

/// The topics of one test.
#[derive(Debug)]
pub struct Topics<'a> {
    broker: &'a Broker,
    prefix: String,
}

impl<'a> Topics<'a> {
    /// Topics whose names begin with the test's name and something that no other run has.
    pub fn new(broker: &'a Broker, test: &str) -> Self {
        let since = std::time::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_millis();
        Self {
            broker,
            prefix: format!("{test}-{}-{since}.", std::process::id()),
        }
    }

    /// Topics that are there already, under this prefix.
    pub fn with_prefix(broker: &'a Broker, prefix: &str) -> Self {
        Self {
            broker,
            prefix: prefix.to_owned(),
        }
    }

    /// The prefix, for consumer groups and transactional ids.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The full name of the topic `name`, whether or not it exists.
    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Creates the topic `name` with topic settings such as `("cleanup.policy", "compact")`, and gives its full name.
    ///
    /// # Panics
    /// Where the broker refuses.
    pub fn create(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
        let name = self.name(name);
        let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(self.broker.replication()));
        let topic = settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
        let admin: AdminClient<DefaultClientContext> = self.broker.client().create().expect("a client");
        let options = AdminOptions::new()
            .operation_timeout(Some(CALL_MAX))
            .request_timeout(Some(CALL_MAX));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let created = runtime
            .block_on(admin.create_topics([&topic], &options))
            .expect("an answer");
        assert!(created.iter().all(Result::is_ok), "{created:?}");
        name
    }

    /// Writes records to the topic of this full name, and returns when the broker has them all.
    ///
    /// # Panics
    /// Where the broker does not take them within a minute.
    pub fn produce(&self, topic: &str, records: &[Outgoing]) {
        let mut config = self.broker.client();
        config.set("enable.idempotence", "true").set("linger.ms", "5");
        // The murmur hash puts a key where Java's producers put it.
        config
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.messages", "1000000");
        let producer: BaseProducer = config.create().expect("a producer");
        for record in records {
            send(&producer, topic, record);
        }
        producer.flush(CALL_MAX).expect("all records delivered");
    }

    /// Everything that is committed in the topic of this full name, by partition and offset.
    ///
    /// # Panics
    /// Where the broker does not answer within a minute.
    pub fn read_committed(&self, topic: &str) -> Vec<Incoming> {
        Reader::new(self.broker, &[topic]).to_end()
    }
}

/// Hands one record to a producer, waiting while its queue is full; inside a transaction where the producer has one open.
///
/// # Panics
/// Where the record is refused.
pub fn send(producer: &BaseProducer, topic: &str, record: &Outgoing) {
    let headers = record
        .headers
        .iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(value),
            })
        });
    let mut next = BaseRecord::<[u8], [u8]>::to(topic).headers(headers);
    next.partition = record.partition;
    next.timestamp = record.timestamp_ms;
    next.key = record.key.as_deref();
    next.payload = record.value.as_deref();
    while let Err((error, refused)) = producer.send(next) {
        let is_full = matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
        assert!(is_full, "{topic} refuses a record: {error}");
        producer.poll(Duration::from_millis(10));
        next = refused;
    }
}

/// Reads topics from their beginning under `read_committed`, outside of any consumer group.
pub struct Reader {
    consumer: BaseConsumer,
    partitions: usize,
}

impl Reader {
    /// A reader of all partitions of topics given by full name.
    ///
    /// # Panics
    /// Where a topic does not exist.
    pub fn new(broker: &Broker, topics: &[&str]) -> Self {
        let mut config = broker.client();
        config
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true");
        // Without a group nothing is committed, but the library asks for a name all the same.
        config
            .set("group.id", "reader")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "50");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut all = TopicPartitionList::new();
        for topic in topics {
            let metadata = consumer.fetch_metadata(Some(topic), CALL_MAX).expect("metadata");
            let partitions = metadata.topics()[0].partitions();
            assert!(!partitions.is_empty(), "there is no topic {topic}");
            for partition in partitions {
                all.add_partition_offset(topic, partition.id(), Offset::Beginning)
                    .expect("a new partition");
            }
        }
        consumer.assign(&all).expect("an assignment");
        Self {
            consumer,
            partitions: all.count(),
        }
    }

    /// Everything from where it stands to the present end of every partition, by topic, partition and offset.
    ///
    /// # Panics
    /// Where the end is not reached within a minute.
    pub fn to_end(&self) -> Vec<Incoming> {
        let until = Instant::now() + CALL_MAX;
        let mut records = Vec::new();
        let mut ended = 0;
        while ended < self.partitions {
            assert!(
                Instant::now() < until,
                "{ended} of {} partitions read in a minute",
                self.partitions
            );
            match self.consumer.poll(Duration::from_millis(200)) {
                // Each partition tells its end once until something new comes.
                Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
                polled => records.extend(taken(polled)),
            }
        }
        sorted(records)
    }

    /// Reads on until there are `n` records or `within` has passed; more than `n` can come, less where time ran out.
    ///
    /// # Panics
    /// Where the broker reports an error that does not pass.
    pub fn expect(&self, n: usize, within: Duration) -> Vec<Incoming> {
        let until = Instant::now() + within;
        let mut records = Vec::new();
        while records.len() < n && Instant::now() < until {
            records.extend(taken(self.consumer.poll(Duration::from_millis(100))));
        }
        sorted(records)
    }

    /// Reads on until nothing has come for `quiet`, at most until `within` has passed.
    ///
    /// # Panics
    /// Where the broker reports an error that does not pass.
    pub fn until_quiet(&self, quiet: Duration, within: Duration) -> Vec<Incoming> {
        let until = Instant::now() + within;
        let mut heard = Instant::now();
        let mut records = Vec::new();
        while heard.elapsed() < quiet && Instant::now() < until {
            if let Some(record) = taken(self.consumer.poll(Duration::from_millis(50))) {
                records.push(record);
                heard = Instant::now();
            }
        }
        sorted(records)
    }
}

/// The record of a poll, if it brought one. A broker that is away for a while is no error: the library comes back to it.
fn taken(polled: Option<Result<rdkafka::message::BorrowedMessage<'_>, KafkaError>>) -> Option<Incoming> {
    match polled? {
        Ok(message) => Some(Incoming::from_message(&message)),
        Err(KafkaError::PartitionEOF(_)) => None,
        Err(error) => {
            let passes = matches!(
                error.rdkafka_error_code(),
                Some(
                    RDKafkaErrorCode::AllBrokersDown
                        | RDKafkaErrorCode::BrokerTransportFailure
                        | RDKafkaErrorCode::OperationTimedOut
                        | RDKafkaErrorCode::NotLeaderForPartition
                        | RDKafkaErrorCode::LeaderNotAvailable
                )
            );
            assert!(passes, "reading failed: {error}");
            None
        }
    }
}

fn sorted(mut records: Vec<Incoming>) -> Vec<Incoming> {
    records.sort_by(|a, b| (&a.topic, a.partition, a.offset).cmp(&(&b.topic, b.partition, b.offset)));
    records
}
