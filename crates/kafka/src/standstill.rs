//! Partitions that stand still before a batch that can't be read: which they are, and where they go on.
//!
//! A batch that is damaged, or unpacks to more than 100 MB, is fetched again and again, and the client library tells at most that it
//! can't read something. So it is watched whether each partition moves while there is something to read. Where one does not, a client
//! of its own reads from there. If that finds a batch which can't be read, it looks for the first offset that is not of this batch: each
//! batch is one stretch of offsets, and the error names its first, so doubling the steps and then halving them finds its end, and
//! no record of another batch is passed over, whatever gaps a log has.
//!
//! Whoever writes one such batch may write more. So where there was one lately, the client's complaint alone is enough for a look, and the
//! next costs a second.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use foreshock_engine::TopicPartition;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::first::{Came, first};
use crate::reader::Quiet;
use crate::settings::ConnectionSettings;

/// A partition that moves by itself after all, or of which nothing is found out, is not looked at again for so long.
const LEFT_ALONE: Duration = Duration::from_secs(30);
/// For what the client says first. It needs a connection, and the brokers may be busy.
const FIRST_MAX: Duration = Duration::from_secs(5);
/// Brokers that are away for a while let partitions stand still too. It is told when nothing is found out so often in a row.
const UNCLEAR_TOLD: u32 = 3;
/// A partition that had such a batch is looked at on the client's word for so long.
const SUSPECTED: Duration = Duration::from_secs(600);
/// Between two looks on its word.
const ALARM_EVERY: Duration = Duration::from_secs(1);
/// For where a partition ends.
const ENDS_MAX: Duration = Duration::from_secs(5);
/// For all that one look finds; where there is more the next one goes on.
const LOOK_MAX: Duration = Duration::from_secs(60);
/// Likewise.
const STRETCHES_MAX: usize = 1_000;

/// How far a partition is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// The next offset that is asked for. It passes gaps and the markers of transactions, which no record tells of.
    pub(crate) next: i64,
    /// The first offset that can't be read yet: the end, or an open transaction.
    pub(crate) stable: i64,
}

/// The next record of each partition, as far as they were handed over.
#[derive(Debug, Default)]
struct Positions {
    all: BTreeMap<TopicPartition, i64>,
    /// Records come in runs of one partition; the run that goes on is not looked up for each.
    run: Option<(TopicPartition, i64)>,
}

impl Positions {
    fn handed(&mut self, of: TopicPartition, offset: i64) {
        match &mut self.run {
            Some((running, next)) if *running == of => *next = offset + 1,
            _ => {
                self.settle();
                self.run = Some((of, offset + 1));
            }
        }
    }

    fn settle(&mut self) {
        if let Some((of, next)) = self.run.take() {
            self.all.insert(of, next);
        }
    }
}

/// A partition that does not move.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Still {
    of: TopicPartition,
    topic: String,
    /// The next record that was waited for.
    from: i64,
    /// The first offset that can't be read yet; `None` where the brokers have to be asked.
    stable: Option<i64>,
}

/// Offsets of a batch that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) from: i64,
    /// The first offset behind it.
    pub(crate) to: i64,
    pub(crate) reason: String,
}

/// What was found out of one: what can't be read, one batch after the other. Nothing, where it can be read after all.
type Looked = (Still, Result<Vec<Stretch>, String>);

/// What comes first from somewhere on: the first offset of a batch that can't be read, and why; `None` where reading goes on.
type First = Option<(i64, String)>;

/// Watches all partitions of a member.
#[derive(Debug, Default)]
pub(crate) struct Standstill {
    positions: Positions,
    seen: BTreeMap<TopicPartition, (Fetched, i64)>,
    /// Until when, and how often in a row nothing was found out.
    left_alone: BTreeMap<TopicPartition, (Instant, u32)>,
    /// Partitions that had such a batch, and since when.
    suspects: BTreeMap<TopicPartition, Instant>,
    alarmed: Option<Instant>,
    looking: Option<Receiver<Looked>>,
}

impl Standstill {
    /// A partition is read from here on.
    pub(crate) fn came(&mut self, of: TopicPartition, start: i64) {
        self.went(of);
        self.positions.all.insert(of, start);
    }

    /// A partition is not read any more.
    pub(crate) fn went(&mut self, of: TopicPartition) {
        self.positions.settle();
        self.positions.all.remove(&of);
        self.seen.remove(&of);
        self.left_alone.remove(&of);
    }

    /// A record was handed over.
    pub(crate) fn handed(&mut self, of: TopicPartition, offset: i64) {
        self.positions.handed(of, offset);
    }

    /// Takes how far the partitions are fetched by now. Those that did not move since the last time, with something to read before them,
    /// are looked at on a thread of its own.
    pub(crate) fn note(
        &mut self,
        fetched: BTreeMap<TopicPartition, Fetched>,
        topic_name: impl Fn(TopicPartition) -> String,
        connection: &ConnectionSettings,
    ) {
        let still = self.still(fetched, topic_name);
        self.look(still, connection);
    }

    /// The client says that something can't be read. It does not say what, so those that had such a batch lately are looked at.
    pub(crate) fn alarm(&mut self, topic_name: impl Fn(TopicPartition) -> String, connection: &ConnectionSettings) {
        if self.alarmed.is_none_or(|at| at.elapsed() >= ALARM_EVERY) {
            self.alarmed = Some(Instant::now());
            let suspected = self.suspected(topic_name);
            self.look(suspected, connection);
        }
    }

    fn suspected(&mut self, topic_name: impl Fn(TopicPartition) -> String) -> Vec<Still> {
        self.positions.settle();
        self.suspects.retain(|_, since| since.elapsed() < SUSPECTED);
        let still = |of: &TopicPartition| {
            Some(Still {
                of: *of,
                topic: topic_name(*of),
                from: *self.positions.all.get(of)?,
                stable: None,
            })
        };
        self.suspects.keys().filter_map(still).collect()
    }

    fn look(&mut self, still: Vec<Still>, connection: &ConnectionSettings) {
        if still.is_empty() || self.looking.is_some() {
            return;
        }
        let (answers, looking) = mpsc::channel();
        let connection = connection.clone();
        let started = thread::Builder::new().name("standstill".into()).spawn(move || {
            for one in still {
                let found = unreadable(&connection, (&one.topic, one.of.partition), one.from, one.stable);
                // Whoever began anew meanwhile does not want to know.
                if answers.send((one, found)).is_err() {
                    return;
                }
            }
        });
        // Without a thread they are looked at another time.
        self.looking = started.is_ok().then_some(looking);
    }

    fn still(
        &mut self,
        fetched: BTreeMap<TopicPartition, Fetched>,
        topic_name: impl Fn(TopicPartition) -> String,
    ) -> Vec<Still> {
        self.positions.settle();
        let mut still = Vec::new();
        for (of, fetched) in fetched {
            let Some(&from) = self.positions.all.get(&of) else {
                continue;
            };
            let before = self.seen.insert(of, (fetched, from));
            let has_more = |f: Fetched| f.next >= from && f.next < f.stable;
            let has_stood = before.is_some_and(|(f, at)| has_more(f) && f.next == fetched.next && at == from);
            let is_left_alone = self
                .left_alone
                .get(&of)
                .is_some_and(|(until, _)| Instant::now() < *until);
            if has_stood && has_more(fetched) && !is_left_alone {
                still.push(Still {
                    of,
                    topic: topic_name(of),
                    from,
                    stable: Some(fetched.stable),
                });
            }
        }
        still
    }

    /// What can't be read, of one partition that stands before it still.
    pub(crate) fn found(&mut self) -> Option<(TopicPartition, Vec<Stretch>)> {
        loop {
            let (still, found) = match self.looking.as_ref()?.try_recv() {
                Ok(looked) => looked,
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => {
                    self.looking = None;
                    return None;
                }
            };
            self.positions.settle();
            if self.positions.all.get(&still.of) != Some(&still.from) {
                continue;
            }
            let unclear = match found {
                Ok(found) if !found.is_empty() => {
                    self.suspects.insert(still.of, Instant::now());
                    return Some((still.of, found));
                }
                // On its word alone a look may come too early, before all that is fetched was handed over.
                Ok(_) if still.stable.is_none() => continue,
                Ok(_) => 0,
                Err(reason) => {
                    let times = 1 + self.left_alone.get(&still.of).map_or(0, |(_, times)| *times);
                    if times >= UNCLEAR_TOLD {
                        tell_unclear(&still, &reason);
                    }
                    times
                }
            };
            self.left_alone.insert(still.of, (Instant::now() + LEFT_ALONE, unclear));
        }
    }
}

fn tell_unclear(still: &Still, reason: &str) {
    tracing::error!(
        topic = still.topic,
        partition = still.of.partition,
        offset = still.from,
        reason,
        advice = "look at the leader of this partition, which may be away or unable to read it; if its copies are damaged, stop this \
                  group, set the partition's offset past the damage (kafka-consumer-groups.sh --reset-offsets) and start again",
        "a partition stands still, and it can't be seen why"
    );
}

/// Reads from where a partition stands, and finds what can't be read, up to a record that can or to `stable`, where the brokers are asked
/// for the end if it is not known.
pub(crate) fn unreadable(
    connection: &ConnectionSettings,
    of: (&str, i32),
    from: i64,
    stable: Option<i64>,
) -> Result<Vec<Stretch>, String> {
    let mut config = connection.client();
    config
        // Nothing is committed, and no group is joined; the client wants a name all the same.
        .set("group.id", "foreshock-standstill")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error")
        // What is damaged shows whatever the damage is. Not so where the records are read: the client loses its way after a sum that
        // is wrong, and may go on anywhere.
        .set("check.crcs", "true")
        // One batch at a time: brokers send the first in whole.
        .set("max.partition.fetch.bytes", "1")
        .set("fetch.error.backoff.ms", "10")
        .set("fetch.wait.max.ms", "50");
    let consumer: BaseConsumer<Quiet> = config.create_with_context(Quiet).map_err(|error| error.to_string())?;
    let stable = match stable {
        Some(stable) => stable,
        None => {
            let ends = consumer.fetch_watermarks(of.0, of.1, ENDS_MAX);
            ends.map_err(|error| error.to_string())?.1
        }
    };
    let until = Instant::now() + LOOK_MAX;
    stretches(from, stable, |offset| {
        if Instant::now() > until {
            return Err(format!("where it goes on is not found in {} s", LOOK_MAX.as_secs()));
        }
        first_at(&consumer, of, offset)
    })
}

/// What the client says first from an offset on: the batch that it can't read, if there is one.
fn first_at(consumer: &BaseConsumer<Quiet>, (topic, partition): (&str, i32), offset: i64) -> Result<First, String> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset))
        .and_then(|()| consumer.assign(&list))
        .map_err(|error| error.to_string())?;
    let until = Instant::now() + FIRST_MAX;
    let mut last = "nothing is said of it".to_owned();
    while Instant::now() < until {
        match first(consumer, Duration::from_millis(200)) {
            Came::Readable => return Ok(None),
            Came::Unreadable { batch, reason } => return Ok(Some((batch, reason))),
            Came::Error(error) => last = error.to_string(),
            Came::Nothing => {}
        }
    }
    Err(last)
}

/// The batches that can't be read from an offset on, up to a record that can, or to `stable`. `first` is asked what comes first from
/// an offset on.
///
/// Cost: twice the logarithm of a batch's records, in questions.
fn stretches(
    from: i64,
    stable: i64,
    mut first: impl FnMut(i64) -> Result<First, String>,
) -> Result<Vec<Stretch>, String> {
    let mut found = Vec::new();
    let mut at = from;
    let mut unread = first(from)?;
    while let Some((batch, reason)) = unread {
        // Where even its offsets are damaged its end can't be known.
        if batch >= stable {
            return Err(format!(
                "a batch says that it begins at {batch}, behind the end at {stable}: {reason}"
            ));
        }
        let end = end_of(batch, at.max(batch), stable, &mut first);
        let (to, next) = match end {
            Ok(end) => end,
            // What was found before stands.
            Err(_) if !found.is_empty() => break,
            Err(error) => return Err(error),
        };
        found.push(Stretch {
            from: at.max(batch),
            to,
            reason,
        });
        if found.len() >= STRETCHES_MAX {
            break;
        }
        (at, unread) = (to, next);
    }
    Ok(found)
}

/// The first offset behind a batch, of which `inside` is one, and what comes first from there on.
fn end_of(
    batch: i64,
    mut inside: i64,
    stable: i64,
    first: &mut impl FnMut(i64) -> Result<First, String>,
) -> Result<(i64, First), String> {
    let mut ask = |offset: i64| -> Result<Result<(), First>, String> {
        // No batch reaches beyond what is stable, and what is there can't be asked for.
        if offset >= stable {
            return Ok(Err(None));
        }
        let came = first(offset)?;
        Ok(match came {
            Some((of, _)) if of == batch => Ok(()),
            other => Err(other),
        })
    };
    let mut step = 1;
    let (mut behind, mut next) = loop {
        let offset = inside.saturating_add(step).min(stable);
        match ask(offset)? {
            Ok(()) => (inside, step) = (offset, step.saturating_mul(2)),
            Err(other) => break (offset, other),
        }
    };
    while behind - inside > 1 {
        let middle = inside + (behind - inside) / 2;
        match ask(middle)? {
            Ok(()) => inside = middle,
            Err(other) => (behind, next) = (middle, other),
        }
    }
    Ok((behind, next))
}

#[cfg(test)]
#[path = "standstill_tests.rs"]
mod tests;
