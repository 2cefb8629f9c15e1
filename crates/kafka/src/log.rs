use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foreshock_domain::Timestamp;
use foreshock_engine::{Assignment, Destination, Epoch, Log, Output, Polled, Record, Saved, TopicId, TopicPartition};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::clients::{Writer, consumer, producer};
use crate::error::{LogError, broker, is_denied};
use crate::farewell::Farewell;
use crate::member::{Hooks, Lag, Member, Rebalanced, record_of};
use crate::orphans::Orphans;
use crate::pulse::{Pulse, Wait, during, leaving, patiently};
use crate::reader::partitions_of;
use crate::settings::{Delivery, LogSettings};
use crate::state::{Saver, StateRecord};

/// Records handed over by one poll; between polls the loop looks at the clock.
const BATCH: usize = 2_000;
/// Bytes of values likewise: what is refused goes to dead letters, and the loop must get to commit them.
const BATCH_BYTES: usize = 16 << 20;
/// A batch that can't be unpacked is told this often.
const PACKED_EVERY: Duration = Duration::from_secs(60);
/// Longest wait for a record.
const WAIT: Duration = Duration::from_millis(50);
/// For the last snapshot, of the 25 seconds in which the service must be gone.
const FINISH: Duration = Duration::from_secs(15);
/// For calls that are retried inside.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A call that can be taken up again is left so often to show that this thread is alive.
const SLICE: Duration = Duration::from_secs(1);
/// For a commit. Brokers abort the transaction long before, unless they have begun to commit it; then it is them who finish it, whoever
/// asks. So to give up is to lose time only: the next producer waits until its outcome is known, and what is to be read next is read
/// from the brokers.
const COMMIT_MAX: Duration = Duration::from_secs(60);
/// Who was given no partition for so long tells of it.
const UNGIVEN: Duration = Duration::from_secs(60);

/// One member of the group and its transactional producer; see the crate.
pub struct KafkaLog {
    settings: LogSettings,
    consumer: Arc<BaseConsumer<Member>>,
    producer: Arc<Writer>,
    saver: Saver,
    /// Blocks of states are sent ahead of the epoch that they are committed with, while records are read.
    has_begun: Arc<AtomicBool>,
    /// The partitions it has, and where they began, for when their snapshots turn out to be unreadable.
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
    /// Until when a batch that can't be unpacked is not told again.
    packed_until: Option<Instant>,
    /// Since when it has no partition, until that was told.
    ungiven: Option<Instant>,
    _orphans: Orphans,
    /// The last field: it ends the clients.
    _farewell: Farewell,
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
        let mut farewell = Farewell::new(Arc::clone(&pulse));
        let producer = Arc::new(producer(&settings)?);
        farewell.hold(Arc::clone(&producer));
        if settings.delivery == Delivery::ExactlyOnce {
            let what = "the end of this instance's last transaction";
            during(&pulse, what, || producer.init_transactions(CALL_TIMEOUT))
                .map_err(broker("the producer can't take up its transactions"))?;
        }
        let has_begun = Arc::new(AtomicBool::new(false));
        let hooks = Hooks {
            pulse: Arc::clone(&pulse),
            // Restoring may take longer than a transaction may stay open.
            settle: {
                let (producer, has_begun, pulse) = (Arc::clone(&producer), Arc::clone(&has_begun), Arc::clone(&pulse));
                Box::new(move || match has_begun.swap(false, Ordering::Relaxed) {
                    true => patiently(&pulse, "a commit before partitions are taken up", COMMIT_MAX, |_| {
                        producer.commit_transaction(SLICE)
                    }),
                    false => Ok(()),
                })
            },
        };
        let consumer = Arc::new(consumer(&settings, lag, hooks)?);
        farewell.hold(Arc::clone(&consumer));
        let seen = during(&pulse, "the state topic", || {
            partitions_of(&consumer, &settings.topics.state)
        });
        let state_partitions = seen.map_err(broker("the state topic can't be seen"))?.len();
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
        let orphans = Orphans::watch(&settings, &consumer).map_err(LogError::Thread)?;
        let now = Instant::now();
        Ok(Self {
            next_epoch: now + settings.cadence.epoch,
            // The first snapshot comes early: without one a restart would have to read everything again.
            next_snapshot: now + settings.cadence.snapshot.min(Duration::from_secs(10)),
            next_tick: now,
            packed_until: None,
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
            ungiven: Some(now),
            _orphans: orphans,
            _farewell: farewell,
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
                let came: Vec<Assignment> = came.into_iter().map(take_up).collect();
                if !self.began.is_empty() {
                    self.ungiven = None;
                }
                return Ok(Some(Polled::Assigned(came)));
            }
            Some(Rebalanced::Went(partitions)) => {
                for of in &partitions {
                    self.saver.give_up(*of);
                    self.began.remove(of);
                }
                if self.began.is_empty() {
                    self.ungiven = Some(Instant::now());
                }
                return Ok(Some(Polled::Revoked(partitions)));
            }
            Some(Rebalanced::Failed(error)) => return Err(error.into()),
            None => {}
        }
        if self.stop.load(Ordering::Relaxed) {
            return Ok(Some(Polled::End));
        }
        if !self.has_read {
            return Ok(None);
        }
        self.tell_if_ungiven();
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

    /// Nothing to do is no fault where there are more members than partitions, and looks the same where one member keeps the group.
    fn tell_if_ungiven(&mut self) {
        if self.ungiven.take_if(|since| since.elapsed() > UNGIVEN).is_some() {
            tracing::warn!(
                group = self.settings.group,
                instance = self.settings.instance,
                advice = "look at the group with `kafka-consumer-groups.sh --describe --group … --members`: either it has more members \
                          than partitions, or a member that takes long to come up keeps the others waiting",
                "waits for the group to give partitions"
            );
        }
    }

    /// An error of the consumer after which reading goes on. A batch that can't be unpacked comes again at once, and for ever.
    fn note_unread(&mut self, error: &KafkaError) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::BadCompression) {
            tracing::warn!(%error, "reading goes on after an error");
            return;
        }
        if self.packed_until.is_none_or(|until| Instant::now() > until) {
            self.packed_until = Some(Instant::now() + PACKED_EVERY);
            tracing::error!(
                %error,
                advice = "stop this group, set the partition's offset past the batch (kafka-consumer-groups.sh --reset-offsets; its lag \
                          says which it is), start again, and look who writes such batches",
                "a batch is damaged, or unpacks to more than 100 MB: its partition stands still before it"
            );
        }
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
        let mut wait = Wait::new("room for records that are to be written");
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if Instant::now() < deadline =>
                {
                    (self.pulse)();
                    wait.look();
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
            let group = Arc::new(group);
            let offsets = self.offsets(epoch)?;
            // The client waits for a coordinator that is away for as long as it is away.
            let call = || {
                let (producer, group, offsets) = (Arc::clone(&self.producer), Arc::clone(&group), offsets.clone());
                move || producer.send_offsets_to_transaction(&offsets, &group, 5 * SLICE)
            };
            patiently(&self.pulse, "offsets to join their transaction", CALL_TIMEOUT, |wait| {
                leaving(&self.pulse, wait, CALL_TIMEOUT, call())
            })
            .map_err(broker("offsets can't join the transaction"))?;
        }
        patiently(&self.pulse, "the commit of a transaction", COMMIT_MAX, |_| {
            self.producer.commit_transaction(SLICE)
        })
        .map_err(broker("the transaction can't be committed"))?;
        self.has_begun.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn commit_at_least_once(&mut self, epoch: &Epoch) -> Result<(), LogError> {
        for output in &epoch.outputs {
            self.send_output(output)?;
        }
        patiently(&self.pulse, "records to be written", CALL_TIMEOUT, |_| {
            self.producer.flush(SLICE)
        })
        .map_err(broker("records can't be written"))?;
        if epoch.reached.is_empty() {
            return Ok(());
        }
        let offsets = self.offsets(epoch)?;
        let commit = || self.consumer.commit(&offsets, CommitMode::Sync);
        during(&self.pulse, "the commit of offsets", commit).map_err(broker("offsets can't be committed"))
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        // Leaving takes partitions back one last time, and nobody wants their state any more.
        self.consumer.context().leave();
    }
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
            && let Some(record) = record_of(&self.settings.topics, &message)
        {
            sink(record);
            read += 1;
        }
        let next = self
            .next_epoch
            .min(self.next_tick)
            .saturating_duration_since(Instant::now());
        let mut wait = next.min(WAIT);
        let mut bytes = 0;
        while read < BATCH && bytes < BATCH_BYTES {
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
                    self.note_unread(&error);
                    continue;
                }
            };
            if self.consumer.context().has_event() {
                // Partitions came or went during this very poll; the record may be of one the engine does not own yet.
                self.waiting = Some(message.detach());
                break;
            }
            if let Some(record) = record_of(&self.settings.topics, &message) {
                bytes += record.payload.map_or(0, <[u8]>::len);
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
        let (start, assignment, kept) = during(&self.pulse, "an earlier state", || {
            self.consumer.context().take_up(&self.consumer, &topic, of, below)
        })?;
        let back = || self.go_back(&topic, of.partition, start);
        during(&self.pulse, "a partition to be read from further back", back)?;
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

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
