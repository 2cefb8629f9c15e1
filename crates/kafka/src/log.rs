use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foreshock_domain::Timestamp;
use foreshock_engine::{Assignment, Destination, Epoch, Log, Output, Polled, Record, Saved, TopicId, TopicPartition};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::util::Timeout;
use rdkafka::{Offset, TopicPartitionList};

use crate::error::{LogError, broker, is_denied};
use crate::member::{Hooks, Lag, Member, Rebalanced, topic_id};
use crate::pulse::{Pulse, during};
use crate::reader::partitions_of;
use crate::settings::{Delivery, LogSettings};
use crate::state::{Saver, StateError, StateRecord};

/// Records handed over by one poll; between polls the loop looks at the clock.
const BATCH: usize = 2_000;
/// Longest wait for a record.
const WAIT: Duration = Duration::from_millis(50);
/// A transaction that a killed process left is aborted by the brokers after this long, and its readers wait so long.
const TRANSACTION_TIMEOUT_MS: &str = "15000";
/// For the last snapshot, of the 25 seconds in which the service must be gone.
const FINISH: Duration = Duration::from_secs(15);
/// For calls to the brokers that are retried inside.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A call that can be taken up again is left so often to show that this thread is alive.
const SLICE: Duration = Duration::from_secs(1);

fn of_state(error: StateError) -> LogError {
    match error {
        StateError::Kafka(error) => broker("partitions can't be taken up")(error),
        newer @ StateError::Newer { .. } => LogError::State(newer),
    }
}

/// One member of the group and its transactional producer; see the crate.
pub struct KafkaLog {
    settings: LogSettings,
    consumer: BaseConsumer<Member>,
    producer: Arc<ThreadedProducer<DefaultProducerContext>>,
    saver: Saver,
    /// Blocks of states are sent ahead of the epoch that they are committed with, while records are read.
    has_begun: Arc<AtomicBool>,
    /// Where partitions that came last began, for when their snapshots turn out to be unreadable.
    began: BTreeMap<TopicPartition, i64>,
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
        let producer = Arc::new(producer(&settings)?);
        if settings.delivery == Delivery::ExactlyOnce {
            during(&pulse, || producer.init_transactions(CALL_TIMEOUT))
                .map_err(broker("the producer can't take up its transactions"))?;
        }
        let has_begun = Arc::new(AtomicBool::new(false));
        let hooks = Hooks {
            pulse: Arc::clone(&pulse),
            // Restoring may take longer than a transaction may stay open.
            settle: {
                let (producer, has_begun) = (Arc::clone(&producer), Arc::clone(&has_begun));
                Box::new(move || match has_begun.swap(false, Ordering::Relaxed) {
                    true => producer.commit_transaction(Timeout::Never),
                    false => Ok(()),
                })
            },
        };
        let consumer = consumer(&settings, lag, hooks)?;
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
            saver: Saver::new(state_partitions).map_err(LogError::Snapshot)?,
            has_begun,
            began: BTreeMap::new(),
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
            Some(Rebalanced::Came(came)) => {
                let take_up = |(assignment, kept): (Assignment, _)| {
                    let start = assignment.snapshot.as_ref().map_or(0, |s| s.offset);
                    self.began.insert(assignment.of, start);
                    self.saver.take_up(assignment.of, kept);
                    assignment
                };
                return Ok(Some(Polled::Assigned(came.into_iter().map(take_up).collect())));
            }
            Some(Rebalanced::Went(partitions)) => {
                partitions.iter().for_each(|of| self.saver.give_up(*of));
                return Ok(Some(Polled::Revoked(partitions)));
            }
            Some(Rebalanced::Failed(error)) => return Err(of_state(error)),
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
            // The next begins when the last is written, however long that takes.
            let snapshot = now >= self.next_snapshot && !self.saver.is_saving();
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

    fn send_state(&self, records: &[StateRecord]) -> Result<(), LogError> {
        for r in records {
            let topic = &self.settings.topics.state;
            self.send(topic, Some(r.home), Some(r.key.as_bytes()), r.value.as_deref(), None)?;
        }
        Ok(())
    }

    /// Sends the next blocks of states, to be committed with the next epoch.
    fn save_ahead(&mut self, patience: Duration) -> Result<Saved, LogError> {
        if !self.saver.is_saving() {
            return Ok(Saved::default());
        }
        let (records, saved) = self.saver.step(patience).map_err(LogError::Snapshot)?;
        if !records.is_empty() {
            self.begin()?;
            self.send_state(&records)?;
        }
        Ok(saved)
    }

    /// Begins a transaction, where none is open and there are any.
    fn begin(&mut self) -> Result<(), LogError> {
        if self.settings.delivery == Delivery::ExactlyOnce && !self.has_begun.load(Ordering::Relaxed) {
            self.producer
                .begin_transaction()
                .map_err(broker("a transaction can't begin"))?;
            self.has_begun.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Reads a partition from there on. It may have been assigned so lately that the client does not read it yet.
    fn go_back(&self, topic: &str, partition: i32, start: Offset) -> Result<(), LogError> {
        let deadline = Instant::now() + CALL_TIMEOUT;
        loop {
            match self.consumer.seek(topic, partition, start, CALL_TIMEOUT) {
                Err(error)
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::State) && Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => return other.map_err(broker("a partition can't be read from further back")),
            }
        }
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

    /// Events, blocks of states and offsets in one transaction. On any error the caller gives up this log; the next one's producer
    /// aborts what is left open here.
    fn commit_transaction(&mut self, epoch: &Epoch) -> Result<(), LogError> {
        self.begin()?;
        for output in &epoch.outputs {
            self.send_output(output)?;
        }
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
            .map_err(broker("the transaction can't be committed"))?;
        self.has_begun.store(false, Ordering::Relaxed);
        Ok(())
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
        for output in &epoch.outputs {
            self.send_output(output)?;
        }
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
                Some(Err(error)) if is_denied(&error) => return Err(broker("a topic can't be read")(error)),
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

    fn commit(&mut self, mut epoch: Epoch) -> Result<Saved, LogError> {
        let states = std::mem::take(&mut epoch.states);
        match self.settings.delivery {
            Delivery::ExactlyOnce => self.commit_transaction(&epoch)?,
            Delivery::AtLeastOnce => self.commit_at_least_once(&epoch)?,
        }
        for (of, frozen) in states {
            self.saver.begin(of, frozen);
        }
        self.save_ahead(Duration::ZERO)
    }

    fn is_saving(&self) -> bool {
        self.saver.is_saving() || self.has_begun.load(Ordering::Relaxed)
    }

    fn fall_back(&mut self, of: TopicPartition) -> Result<Assignment, LogError> {
        let topic = self.topic_name(of.topic).to_owned();
        let below = self.began.get(&of).copied();
        let (start, assignment, kept) = self
            .consumer
            .context()
            .take_up(&self.consumer, &topic, of, below)
            .map_err(of_state)?;
        self.go_back(&topic, of.partition, start)?;
        self.waiting
            .take_if(|m| m.topic() == topic && m.partition() == of.partition);
        self.began
            .insert(of, assignment.snapshot.as_ref().map_or(0, |s| s.offset));
        self.saver.take_up(of, kept);
        Ok(assignment)
    }

    /// What is not written in time is not needed: records since the last whole snapshot are replayed.
    fn finish(&mut self) -> Result<Saved, LogError> {
        let deadline = Instant::now() + FINISH;
        let mut all = Saved::default();
        while self.is_saving() && Instant::now() < deadline {
            let saved = self.save_ahead(Duration::from_millis(100))?;
            all.snapshots += saved.snapshots;
            all.state_bytes += saved.state_bytes;
            all.written_bytes += saved.written_bytes;
            match self.settings.delivery {
                Delivery::ExactlyOnce => self.commit_transaction(&Epoch::default())?,
                Delivery::AtLeastOnce => self.commit_at_least_once(&Epoch::default())?,
            }
        }
        if self.saver.is_saving() {
            tracing::warn!("the last snapshot is left unfinished: the next start replays from the one before");
        }
        Ok(all)
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

fn consumer(settings: &LogSettings, lag: Lag, hooks: Hooks) -> Result<BaseConsumer<Member>, LogError> {
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
        // Restoring a large partition happens inside one poll.
        .set("max.poll.interval.ms", session_ms.max(1_800_000).to_string())
        .set("fetch.wait.max.ms", "100")
        .set("fetch.queue.backoff.ms", "20")
        .set("queued.max.messages.kbytes", "65536")
        .set("statistics.interval.ms", "5000");
    config
        .create_with_context(Member::new(settings.clone(), lag, hooks))
        .map_err(LogError::Setup)
}
