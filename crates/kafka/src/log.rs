use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foreshock_domain::Timestamp;
use foreshock_engine::{Assignment, Epoch, Log, Polled, Record, Saved, TopicPartition, Unreadable};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message, OwnedMessage};
use rdkafka::producer::Producer;
use rdkafka::{Offset, TopicPartitionList};

use crate::clients::{Writer, consumer, producer};
use crate::error::{LogError, broker, is_denied, is_unreadable};
use crate::farewell::Farewell;
use crate::member::{Hooks, Member, Rebalanced, record_of};
use crate::orphans::Orphans;
use crate::pulse::{Pulse, during, leaving, patiently};
use crate::reader::partitions_of;
use crate::settings::{Delivery, LogSettings};
use crate::standstill::Standstill;
use crate::state::Saver;
use crate::tally::Tally;

mod send;

/// Records handed over by one poll; between polls the loop looks at the clock.
const BATCH: usize = 2_000;
/// Bytes of values likewise: what is refused goes to dead letters, and the loop must get to commit them.
const BATCH_BYTES: usize = 16 << 20;
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
    /// Finds what can't be read, and where reading goes on.
    standstill: Standstill,
    /// Since when it has no partition, until that was told.
    ungiven: Option<Instant>,
    _orphans: Orphans,
    /// The last field: it ends the clients.
    _farewell: Farewell,
}

impl KafkaLog {
    /// Fences what an earlier process of this instance left open, then joins the group. `clock` is what ticks say; `pulse` is
    /// told while brokers are waited for; `stop` ends the log; `tally` is what it shows of itself.
    ///
    /// # Errors
    /// When settings are wrong, brokers can't be reached, or the state topic is not there.
    pub fn join(
        settings: LogSettings,
        clock: Box<dyn Fn() -> Timestamp + Send>,
        pulse: Pulse,
        stop: Arc<AtomicBool>,
        tally: Tally,
    ) -> Result<Self, LogError> {
        let mut farewell = Farewell::new(Arc::clone(&pulse), Arc::clone(&tally.clients_left));
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
        let consumer = Arc::new(consumer(&settings, tally.lag, hooks)?);
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
        let orphans = Orphans::watch(&settings, &consumer, tally.group_repairs).map_err(LogError::Thread)?;
        let now = Instant::now();
        Ok(Self {
            next_epoch: now + settings.cadence.epoch,
            // The first snapshot comes early: without one a restart would have to read everything again.
            next_snapshot: now + settings.cadence.snapshot.min(Duration::from_secs(10)),
            next_tick: now,
            standstill: Standstill::default(),
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
                    self.standstill.came(assignment.of, start.max(assignment.first));
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
                    self.standstill.went(*of);
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
        if let Some(unreadable) = self.skip_unreadable()? {
            return Ok(Some(Polled::Unreadable(unreadable)));
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

    /// Goes on behind what can't be read, where a partition stands before it.
    fn skip_unreadable(&mut self) -> Result<Option<Vec<Unreadable>>, LogError> {
        if let Some(fetched) = self.consumer.context().fetched() {
            let topics = &self.settings.topics;
            let name = |of: TopicPartition| topics.name(of.topic).to_owned();
            self.standstill.note(fetched, name, &self.settings.connection);
        }
        // A record that waits comes before.
        if self.waiting.is_some() {
            return Ok(None);
        }
        let Some((of, stretches)) = self.standstill.found() else {
            return Ok(None);
        };
        let Some(behind) = stretches.last().map(|s| s.to) else {
            return Ok(None);
        };
        let topic = self.settings.topics.name(of.topic);
        let on = || self.read_from(topic, of.partition, Offset::Offset(behind));
        during(&self.pulse, "a partition to be read from behind a batch", on)?;
        self.standstill.came(of, behind);
        let told = stretches.into_iter().map(|s| {
            tracing::error!(
                topic, partition = of.partition, first_offset = s.from, last_offset = s.to - 1, reason = s.reason,
                advice = "the records of this batch are lost to this service, and a dead letter says so: look who writes such batches, \
                          and whether a broker's disk is damaged",
                "a batch can't be unpacked and is skipped"
            );
            Unreadable {
                of,
                from: s.from,
                to: s.to,
                reason: s.reason,
            }
        });
        Ok(Some(told.collect()))
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

    /// Reads a partition from there on, wherever it is read now. It may have been assigned so lately that the client does not read it yet.
    fn read_from(&self, topic: &str, partition: i32, start: Offset) -> Result<(), LogError> {
        let deadline = Instant::now() + CALL_TIMEOUT;
        loop {
            match self.consumer.seek(topic, partition, start, CALL_TIMEOUT) {
                Err(error)
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::State) && Instant::now() < deadline =>
                {
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => return other.map_err(broker("a partition can't be read from elsewhere")),
            }
        }
    }

    fn offsets(&self, epoch: &Epoch) -> Result<TopicPartitionList, LogError> {
        let mut offsets = TopicPartitionList::new();
        for (of, next) in &epoch.reached {
            offsets
                .add_partition_offset(self.settings.topics.name(of.topic), of.partition, Offset::Offset(*next))
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
            self.standstill.handed(record.from, record.offset);
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
                    if is_unreadable(&error) {
                        let topics = &self.settings.topics;
                        let name = |of: TopicPartition| topics.name(of.topic).to_owned();
                        self.standstill.alarm(name, &self.settings.connection);
                    } else {
                        tracing::warn!(%error, "reading goes on after an error");
                    }
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
                self.standstill.handed(record.from, record.offset);
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
        let topic = self.settings.topics.name(of.topic).to_owned();
        let below = self.began.get(&of).copied();
        let (start, assignment, kept) = during(&self.pulse, "an earlier state", || {
            self.consumer.context().take_up(&self.consumer, &topic, of, below)
        })?;
        let back = || self.read_from(&topic, of.partition, start);
        during(&self.pulse, "a partition to be read from further back", back)?;
        self.waiting
            .take_if(|m| m.topic() == topic && m.partition() == of.partition);
        let start = assignment.snapshot.as_ref().map_or(0, |s| s.offset);
        self.began.insert(of, start);
        self.standstill.came(of, start.max(assignment.first));
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
