use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foreshock_domain::Timestamp;
use foreshock_engine::{Destination, Epoch, Log, Output, Polled, Record, Snapshot, TopicId, TopicPartition};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::error::{LogError, broker};
use crate::member::{Lag, Member, Rebalanced, topic_id};
use crate::pulse::{Pulse, during};
use crate::reader::partitions_of;
use crate::settings::{Delivery, LogSettings};
use crate::state;

/// Records handed over by one poll; between polls the loop looks at the clock.
const BATCH: usize = 2_000;
/// Longest wait for a record.
const WAIT: Duration = Duration::from_millis(50);
/// A transaction that a killed process left is aborted by the brokers after this long, and its readers wait so long.
const TRANSACTION_TIMEOUT_MS: &str = "15000";
/// For calls to the brokers that are retried inside.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A call that can be taken up again is left so often to show that this thread is alive.
const SLICE: Duration = Duration::from_secs(1);

/// One member of the group and its transactional producer; see the crate.
pub struct KafkaLog {
    settings: LogSettings,
    consumer: BaseConsumer<Member>,
    producer: ThreadedProducer<DefaultProducerContext>,
    state_partitions: usize,
    /// Chunks of the last snapshot of each partition.
    chunks: BTreeMap<TopicPartition, u32>,
    clock: Box<dyn Fn() -> Timestamp + Send>,
    pulse: Pulse,
    stop: Arc<AtomicBool>,
    /// A record that came along with a rebalance and waits until that was told.
    waiting: Option<OwnedMessage>,
    /// Whether records were asked for since the clock last had its way: however slow commits are, reading goes on.
    has_read: bool,
    next_epoch: Instant,
    next_snapshot: Instant,
    next_tick: Instant,
}

impl KafkaLog {
    /// Fences what an earlier process of this instance left open, then joins the group. `clock` is what ticks say; `pulse` is
    /// told while brokers are waited for; `stop` ends the log.
    ///
    /// # Errors
    /// When settings are wrong, brokers can't be reached, or the state topic is not there.
    pub fn join(
        settings: LogSettings,
        clock: Box<dyn Fn() -> Timestamp + Send>,
        pulse: Pulse,
        stop: Arc<AtomicBool>,
        lag: Lag,
    ) -> Result<Self, LogError> {
        let producer = producer(&settings)?;
        if settings.delivery == Delivery::ExactlyOnce {
            during(&pulse, || producer.init_transactions(CALL_TIMEOUT))
                .map_err(broker("the producer can't take up its transactions"))?;
        }
        let consumer = consumer(&settings, lag, Arc::clone(&pulse))?;
        let state_partitions = during(&pulse, || partitions_of(&consumer, &settings.topics.state))
            .map_err(broker("the state topic can't be seen"))?
            .len();
        let topics = &settings.topics;
        let names: Vec<&str> = topics
            .inputs
            .iter()
            .map(String::as_str)
            .chain(std::iter::once(topics.signals.as_str()))
            .collect();
        consumer
            .subscribe(&names)
            .map_err(broker("the topics can't be subscribed to"))?;
        let now = Instant::now();
        Ok(Self {
            next_epoch: now + settings.cadence.epoch,
            // The first snapshot comes early: without one a restart would have to read everything again.
            next_snapshot: now + settings.cadence.snapshot.min(Duration::from_secs(10)),
            next_tick: now,
            settings,
            consumer,
            producer,
            state_partitions,
            chunks: BTreeMap::new(),
            clock,
            pulse,
            stop,
            waiting: None,
            has_read: false,
        })
    }

    /// Anything that is due now, if something is.
    fn due(&mut self) -> Result<Option<Polled>, LogError> {
        match self.consumer.context().next_event() {
            Some(Rebalanced::Came(assignments)) => return Ok(Some(Polled::Assigned(assignments))),
            Some(Rebalanced::Went(partitions)) => return Ok(Some(Polled::Revoked(partitions))),
            Some(Rebalanced::Failed(error)) => return Err(broker("partitions can't be taken up")(error)),
            None => {}
        }
        if self.stop.load(Ordering::Relaxed) {
            return Ok(Some(Polled::End));
        }
        if !self.has_read {
            return Ok(None);
        }
        let now = Instant::now();
        if now >= self.next_tick {
            self.has_read = false;
            self.next_tick = now + self.settings.cadence.tick;
            return Ok(Some(Polled::Tick((self.clock)())));
        }
        if now >= self.next_epoch {
            self.has_read = false;
            self.next_epoch = now + self.settings.cadence.epoch;
            let snapshot = now >= self.next_snapshot;
            if snapshot {
                self.next_snapshot = now + self.settings.cadence.snapshot;
            }
            return Ok(Some(Polled::Due { snapshot }));
        }
        Ok(None)
    }

    fn topic_name(&self, topic: TopicId) -> &str {
        match usize::from(topic.0).checked_sub(1) {
            None => &self.settings.topics.signals,
            Some(place) => self.settings.topics.inputs.get(place).map_or("", String::as_str),
        }
    }

    fn send_output(&self, output: &Output) -> Result<(), LogError> {
        let topics = &self.settings.topics;
        let (topic, partition) = match output.to {
            Destination::Signals(partition) => (&topics.signals, Some(partition)),
            Destination::Anomalies => (&topics.anomalies, None),
            Destination::Failures => (&topics.failures, None),
            Destination::Ledger => (&topics.ledger, None),
            Destination::DeadLetters => (&topics.dead_letters, None),
            // Nobody asks for them live: they are what a predictor is learned from.
            Destination::Moments => return Ok(()),
        };
        let headers = (!output.headers.is_empty()).then(|| {
            let empty = OwnedHeaders::new_with_capacity(output.headers.len());
            output.headers.iter().fold(empty, |all, (key, value)| {
                all.insert(Header {
                    key,
                    value: Some(value),
                })
            })
        });
        let key = (!output.key.is_empty()).then_some(&output.key[..]);
        self.send(topic, partition, key, Some(&output.value), headers)
    }

    /// Queues a record, and waits while the queue is full.
    fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        headers: Option<OwnedHeaders>,
    ) -> Result<(), LogError> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        (record.partition, record.key, record.payload, record.headers) = (partition, key, payload, headers);
        let deadline = Instant::now() + CALL_TIMEOUT;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if Instant::now() < deadline =>
                {
                    (self.pulse)();
                    std::thread::sleep(Duration::from_millis(2));
                    record = back;
                }
                Err((error, _)) => return Err(broker("a record can't be written")(error)),
            }
        }
    }

    fn send_snapshot(&mut self, of: TopicPartition, snapshot: &Snapshot) -> Result<(), LogError> {
        let topic = self.topic_name(of.topic).to_owned();
        let before = self.chunks.get(&of).copied().unwrap_or(0);
        let (records, chunks) = state::records(&topic, of.partition, snapshot, before).map_err(LogError::Snapshot)?;
        let home = state::home(&topic, of.partition, self.state_partitions);
        for r in &records {
            let state = &self.settings.topics.state;
            self.send(state, Some(home), Some(r.key.as_bytes()), r.value.as_deref(), None)?;
        }
        self.chunks.insert(of, chunks);
        Ok(())
    }

    fn send_all(&mut self, epoch: &Epoch) -> Result<(), LogError> {
        for output in &epoch.outputs {
            self.send_output(output)?;
        }
        for (of, snapshot) in &epoch.snapshots {
            self.send_snapshot(*of, snapshot)?;
        }
        Ok(())
    }

    fn offsets(&self, epoch: &Epoch) -> Result<TopicPartitionList, LogError> {
        let mut offsets = TopicPartitionList::new();
        for (of, next) in &epoch.reached {
            offsets
                .add_partition_offset(self.topic_name(of.topic), of.partition, Offset::Offset(*next))
                .map_err(broker("an offset can't be named"))?;
        }
        Ok(offsets)
    }

    /// Events, snapshots and offsets in one transaction. On any error the caller gives up this log; the next one's producer
    /// aborts what is left open here.
    fn commit_transaction(&mut self, epoch: &Epoch) -> Result<(), LogError> {
        self.producer
            .begin_transaction()
            .map_err(broker("a transaction can't begin"))?;
        self.send_all(epoch)?;
        if !epoch.reached.is_empty() {
            let group = self.consumer.group_metadata().ok_or(LogError::Broker {
                what: "the group can't be named",
                error: KafkaError::Canceled,
            })?;
            let offsets = self.offsets(epoch)?;
            let until = Instant::now() + CALL_TIMEOUT;
            self.patiently(Some(until), || {
                self.producer.send_offsets_to_transaction(&offsets, &group, 5 * SLICE)
            })
            .map_err(broker("offsets can't join the transaction"))?;
        }
        // Without a limit: to leave it in the middle would leave it unknown whether the transaction went through.
        self.patiently(None, || self.producer.commit_transaction(SLICE))
            .map_err(broker("the transaction can't be committed"))
    }

    /// Makes a call again for as long as it only says that it was not done in its time, and shows that this thread is alive.
    fn patiently(
        &self,
        until: Option<Instant>,
        mut call: impl FnMut() -> Result<(), KafkaError>,
    ) -> Result<(), KafkaError> {
        loop {
            let error = match call() {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let goes_on = match &error {
                KafkaError::Flush(code) => *code == RDKafkaErrorCode::OperationTimedOut,
                KafkaError::Transaction(error) => error.is_retriable(),
                _ => false,
            };
            if !goes_on || until.is_some_and(|until| Instant::now() > until) {
                return Err(error);
            }
            (self.pulse)();
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn commit_at_least_once(&mut self, epoch: &Epoch) -> Result<(), LogError> {
        self.send_all(epoch)?;
        let until = Instant::now() + CALL_TIMEOUT;
        self.patiently(Some(until), || self.producer.flush(SLICE))
            .map_err(broker("records can't be written"))?;
        if epoch.reached.is_empty() {
            return Ok(());
        }
        let offsets = self.offsets(epoch)?;
        during(&self.pulse, || self.consumer.commit(&offsets, CommitMode::Sync))
            .map_err(broker("offsets can't be committed"))
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        // Leaving takes partitions back one last time, and nobody wants their state any more.
        self.consumer.context().leave();
    }
}

fn record_of<'a, M: Message>(settings: &LogSettings, message: &'a M) -> Option<Record<'a>> {
    let topic = topic_id(&settings.topics, message.topic())?;
    Some(Record {
        from: TopicPartition {
            topic,
            partition: message.partition(),
        },
        offset: message.offset(),
        timestamp: message.timestamp().to_millis().map(Timestamp::from_millis),
        key: message.key(),
        payload: message.payload(),
    })
}

impl Log for KafkaLog {
    type Error = LogError;

    fn poll(&mut self, sink: &mut dyn FnMut(Record<'_>)) -> Result<Polled, LogError> {
        if let Some(due) = self.due()? {
            return Ok(due);
        }
        self.has_read = true;
        let mut read = 0;
        if let Some(message) = self.waiting.take()
            && let Some(record) = record_of(&self.settings, &message)
        {
            sink(record);
            read += 1;
        }
        let next = self
            .next_epoch
            .min(self.next_tick)
            .saturating_duration_since(Instant::now());
        let mut wait = next.min(WAIT);
        while read < BATCH {
            let polled: Option<Result<BorrowedMessage<'_>, KafkaError>> = self.consumer.poll(wait);
            wait = Duration::ZERO;
            let message = match polled {
                None => break,
                Some(Ok(message)) => message,
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => {
                    return Err(broker("the consumer can't go on")(error));
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "reading goes on after an error");
                    continue;
                }
            };
            if self.consumer.context().has_event() {
                // Partitions came or went during this very poll; the record may be of one the engine does not own yet.
                self.waiting = Some(message.detach());
                break;
            }
            if let Some(record) = record_of(&self.settings, &message) {
                sink(record);
                read += 1;
            }
        }
        Ok(if read == 0 { Polled::Idle } else { Polled::Records(read) })
    }

    fn begin_anew(&mut self, of: TopicPartition) -> Result<(), LogError> {
        let topic = self.topic_name(of.topic).to_owned();
        if let Some(waiting) = &self.waiting
            && waiting.topic() == topic
            && waiting.partition() == of.partition
        {
            self.waiting = None;
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, of.partition, Offset::Beginning)
            .and_then(|()| self.consumer.incremental_unassign(&list))
            .and_then(|()| self.consumer.incremental_assign(&list))
            .map_err(broker("a partition can't be read from its beginning"))
    }

    fn commit(&mut self, epoch: Epoch) -> Result<(), LogError> {
        match self.settings.delivery {
            Delivery::ExactlyOnce => self.commit_transaction(&epoch),
            Delivery::AtLeastOnce => self.commit_at_least_once(&epoch),
        }
    }
}

fn producer(settings: &LogSettings) -> Result<ThreadedProducer<DefaultProducerContext>, LogError> {
    let mut config = settings.connection.client();
    config
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("compression.type", "lz4")
        .set("message.max.bytes", "4194304");
    if settings.delivery == Delivery::ExactlyOnce {
        config
            .set("transactional.id", format!("{}-{}", settings.group, settings.instance))
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS);
    }
    config.create().map_err(LogError::Setup)
}

fn consumer(settings: &LogSettings, lag: Lag, pulse: Pulse) -> Result<BaseConsumer<Member>, LogError> {
    let mut config = settings.connection.client();
    let session_ms = settings.session_timeout.as_millis();
    config
        .set("group.id", &settings.group)
        .set("group.instance.id", &settings.instance)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("session.timeout.ms", session_ms.to_string())
        .set("heartbeat.interval.ms", (session_ms / 4).max(1).to_string())
        .set("max.poll.interval.ms", session_ms.max(300_000).to_string())
        .set("fetch.wait.max.ms", "100")
        .set("fetch.queue.backoff.ms", "20")
        .set("queued.max.messages.kbytes", "65536")
        .set("statistics.interval.ms", "5000");
    config
        .create_with_context(Member::new(settings.clone(), lag, pulse))
        .map_err(LogError::Setup)
}
