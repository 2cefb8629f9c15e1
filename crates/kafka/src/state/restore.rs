use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use foreshock_engine::state::EncodedBlock;
use foreshock_engine::{STATE_VERSION, Snapshot};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::key::{Key, home};
use super::manifest::{Manifest, Unread};
use super::saver::Kept;
use crate::error::is_denied;
use crate::reader::{Quiet, partitions_of};
use crate::settings::ConnectionSettings;
use crate::standstill::unreadable;

/// When nothing at all came for so long, the brokers are lost. However much there is to read, as long as it comes it is waited
/// for.
const STALLED: Duration = Duration::from_secs(60);
/// After so long it is looked whether what comes next can be read at all.
const LOOKED: Duration = Duration::from_secs(5);
/// For where a partition begins and ends.
const ENDS_MAX: Duration = Duration::from_secs(10);

/// Why states can't be read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Brokers, rights or topics.
    #[error("{0}")]
    Kafka(#[from] KafkaError),
    /// A program newer than this one wrote it.
    #[error(
        "the snapshot of {topic}/{partition} was written by a newer version (format {format}, state version {version}; this \
         program reads up to {STATE_VERSION}): upgrade, or delete the records {topic}/{partition}/manifest-0 and -1 of the state \
         topic, and the partition is rebuilt from its log"
    )]
    Newer {
        /// Topic of the partition.
        topic: String,
        /// Its number.
        partition: i32,
        /// Of the manifest.
        format: u16,
        /// Of the state.
        version: u16,
    },
}

/// What was found of a partition.
#[derive(Debug)]
pub struct Found {
    /// Its newest whole state.
    pub snapshot: Option<Snapshot>,
    /// What is wrong with what was found beside it, or instead.
    pub complaints: Vec<String>,
}

/// As [`Found`], and what a writer must know.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) complaints: Vec<String>,
    /// How many partitions the partition's own topic and the signals topic had when the state was written.
    pub(crate) partitions: Option<(u32, u32)>,
    pub(crate) kept: Kept,
}

/// Records of one partition of an input or of the signals topic, by key, with the partition of the state topic they stand in.
type Records = BTreeMap<(i32, Key), Vec<u8>>;

/// What is looked for: the name of a topic and the number of a partition.
pub(crate) type Wanted = (String, i32);

/// Finds the newest whole snapshots of these partitions (topic name and number), in their order. Reads their part of the state
/// topic once, committed records only, and changes nothing: `group`, which it does not join, only names it to brokers that grant rights
/// by group.
///
/// # Errors
/// When the brokers can't be reached, the state topic is not there, nothing comes for a minute, or a newer version wrote one.
pub fn newest(
    connection: &ConnectionSettings,
    group: &str,
    state_topic: &str,
    wanted: &[(String, i32)],
) -> Result<Vec<Found>, StateError> {
    let found = restore((connection, group), state_topic, wanted, None, &|| ())?;
    Ok(found
        .into_iter()
        .map(|r| Found {
            snapshot: r.snapshot,
            complaints: r.complaints,
        })
        .collect())
}

/// As [`newest`]. `below`: states of this offset or later are left aside. `alive` is called while it goes on.
pub(crate) fn restore(
    (connection, group): (&ConnectionSettings, &str),
    state_topic: &str,
    wanted: &[Wanted],
    below: Option<i64>,
    alive: &dyn Fn(),
) -> Result<Vec<Restored>, StateError> {
    let consumer = consumer(connection, group)?;
    let partitions = partitions_of(&consumer, state_topic)?.len();
    let mut records: BTreeMap<Wanted, Records> = wanted.iter().map(|w| (w.clone(), Records::new())).collect();
    let homes: BTreeSet<i32> = wanted.iter().map(|(t, p)| home(t, *p, partitions)).collect();
    let reader = Reader {
        connection,
        consumer: &consumer,
        topic: state_topic,
        alive,
    };
    reader.read(&homes, &mut records)?;
    // A topic can only be given more partitions: where there is no manifest at home, it stands where it was at home before.
    let is_homeless = |(_, found): &(&Wanted, &Records)| !found.keys().any(|(_, key)| matches!(key, Key::Manifest(_)));
    let earlier = records.iter().filter(is_homeless);
    let earlier: BTreeSet<i32> = earlier
        .flat_map(|((topic, p), _)| (1..partitions).map(move |n| home(topic, *p, n)))
        .filter(|h| !homes.contains(h))
        .collect();
    if !earlier.is_empty() {
        reader.read(&earlier, &mut records)?;
    }
    let mut all = Vec::new();
    for (topic, partition) in wanted {
        let found = records.remove(&(topic.clone(), *partition)).unwrap_or_default();
        all.push(choose(
            topic,
            *partition,
            home(topic, *partition, partitions),
            found,
            below,
        )?);
    }
    Ok(all)
}

fn consumer(connection: &ConnectionSettings, group: &str) -> Result<BaseConsumer<Quiet>, KafkaError> {
    let mut config = connection.client();
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "50")
        .set("fetch.message.max.bytes", "8388608")
        // Read ahead no more than is worth it: what is read is kept, packed, until it is known which of it is needed.
        .set("queued.max.messages.kbytes", "32768");
    config.create_with_context(Quiet)
}

/// Reads the state topic.
struct Reader<'a> {
    connection: &'a ConnectionSettings,
    consumer: &'a BaseConsumer<Quiet>,
    topic: &'a str,
    alive: &'a dyn Fn(),
}

impl Reader<'_> {
    /// Reads partitions from their beginning to their end.
    fn read(&self, partitions: &BTreeSet<i32>, into: &mut BTreeMap<Wanted, Records>) -> Result<(), KafkaError> {
        self.assign(partitions.iter().map(|partition| (*partition, Offset::Beginning)))?;
        // The partitions that have not come to their end, and how far they are.
        let mut open: BTreeMap<i32, Option<i64>> = partitions.iter().map(|p| (*p, None)).collect();
        let (mut heard, mut looked) = (Instant::now(), false);
        while !open.is_empty() {
            (self.alive)();
            if heard.elapsed() > STALLED {
                return Err(KafkaError::Global(rdkafka::types::RDKafkaErrorCode::OperationTimedOut));
            }
            let message = match self.consumer.poll(Duration::from_millis(100)) {
                None => None,
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                    continue;
                }
                Some(Err(error)) if is_denied(&error) => return Err(error),
                Some(Err(error)) => {
                    tracing::debug!(%error, "reading snapshots goes on after an error");
                    None
                }
                Some(Ok(message)) => Some(message),
            };
            let Some(message) = message else {
                if heard.elapsed() > LOOKED && !looked {
                    looked = true;
                    if self.pass_unreadable(&mut open)? {
                        (heard, looked) = (Instant::now(), false);
                    }
                }
                continue;
            };
            (heard, looked) = (Instant::now(), false);
            open.insert(message.partition(), Some(message.offset() + 1));
            let key = message
                .key()
                .and_then(|k| std::str::from_utf8(k).ok())
                .and_then(Key::parse);
            let Some((topic, partition, key)) = key else { continue };
            let Some(records) = into.get_mut(&(topic.to_owned(), partition)) else {
                continue;
            };
            match message.payload() {
                Some(value) => records.insert((message.partition(), key), value.to_vec()),
                None => records.remove(&(message.partition(), key)),
            };
        }
        Ok(())
    }

    fn assign(&self, starts: impl Iterator<Item = (i32, Offset)>) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        for (partition, start) in starts {
            list.add_partition_offset(self.topic, partition, start)?;
        }
        self.consumer.assign(&list)
    }

    /// Goes on behind batches that can't be unpacked, if it is them that reading waits for. A state that a part of is missing of gives way
    /// to the one before, as any that is damaged.
    fn pass_unreadable(&self, open: &mut BTreeMap<i32, Option<i64>>) -> Result<bool, KafkaError> {
        let mut passed = false;
        for (partition, next) in &mut *open {
            (self.alive)();
            let Ok((low, stable)) = self.consumer.fetch_watermarks(self.topic, *partition, ENDS_MAX) else {
                continue;
            };
            let from = next.unwrap_or(low);
            let found = unreadable(self.connection, (self.topic, *partition), from, Some(stable)).unwrap_or_default();
            for stretch in &found {
                tracing::error!(
                    topic = self.topic,
                    partition,
                    first_offset = stretch.from,
                    last_offset = stretch.to - 1,
                    reason = stretch.reason,
                    advice = "look whether a broker's disk is damaged; what can't be used of a state gives way to the one before",
                    "a batch of the state topic can't be unpacked and is passed over"
                );
            }
            if let Some(last) = found.last() {
                (*next, passed) = (Some(last.to), true);
            }
        }
        if passed {
            self.assign(
                open.iter()
                    .map(|(p, next)| (*p, next.map_or(Offset::Beginning, Offset::Offset))),
            )?;
        }
        Ok(passed)
    }
}

/// The newest state that is whole, what stands in the way of newer ones, and what nobody needs.
fn choose(
    topic: &str,
    partition: i32,
    home: i32,
    mut records: Records,
    below: Option<i64>,
) -> Result<Restored, StateError> {
    let mut complaints = Vec::new();
    let mut manifests = Vec::new();
    for ((at, key), value) in &records {
        let Key::Manifest(slot) = key else {
            if *key == Key::OldManifest {
                complaints
                    .push("its snapshot is of an older version, from which there is no way to this one".to_owned());
            }
            continue;
        };
        match Manifest::decode(value) {
            Ok((version, manifest)) => manifests.push((*at, *slot, version, manifest)),
            Err(Unread::Newer(format, version)) => {
                return Err(StateError::Newer {
                    topic: topic.to_owned(),
                    partition,
                    format,
                    version,
                });
            }
            Err(Unread::Older(version)) => complaints.push(format!(
                "its snapshot has state version {version}, from which there is no way to {STATE_VERSION}"
            )),
            Err(Unread::Damaged) => complaints.push(format!("manifest-{slot} is damaged")),
        }
    }
    // What stands at home is newer than what was left elsewhere.
    manifests.sort_by_key(|(at, .., m)| std::cmp::Reverse((*at == home, m.offset)));
    let mut chosen = None;
    while !manifests.is_empty() && chosen.is_none() {
        let (at, slot, version, manifest) = manifests.remove(0);
        if below.is_some_and(|below| manifest.offset >= below) {
            continue;
        }
        match missing(&manifest, at, &records) {
            None => chosen = Some((at, slot, version, manifest)),
            Some(what) => complaints.push(format!("the snapshot at offset {} is damaged: {what}", manifest.offset)),
        }
    }
    let previous = chosen.as_ref().and_then(|(at, ..)| {
        let older = manifests.into_iter().find(|(other, ..)| other == at);
        older.map(|(.., manifest)| manifest)
    });
    let snapshot = chosen
        .as_ref()
        .map(|(at, _, version, manifest)| take(manifest, *version, *at, &mut records));
    let mut kept = Kept {
        topic: topic.to_owned(),
        ..Kept::default()
    };
    let mut needed = BTreeSet::new();
    let partitions = chosen
        .as_ref()
        .map(|(.., m)| (m.topic_partitions, m.signals_partitions));
    if let Some((at, slot, _, manifest)) = chosen {
        if at == home {
            needed.extend(manifest.keys().chain(previous.iter().flat_map(Manifest::keys)));
            (kept.current, kept.previous) = (Some((slot, manifest)), previous);
        } else {
            kept.elsewhere.extend(manifest.keys().map(|key| (at, key)));
        }
    }
    for (at, key) in records.into_keys() {
        let is_needed = at == home && (matches!(key, Key::Manifest(_)) || needed.contains(&key));
        match at == home {
            _ if is_needed => {}
            true => kept.garbage.push((at, key)),
            false => kept.elsewhere.push((at, key)),
        }
    }
    Ok(Restored {
        snapshot,
        complaints,
        partitions,
        kept,
    })
}

/// What a state lacks.
fn missing(manifest: &Manifest, at: i32, records: &Records) -> Option<String> {
    for (id, stored) in &manifest.blocks {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        for key in stored.keys(*id) {
            match records.get(&(at, key)) {
                Some(part) => hash.update(part),
                None => return Some(format!("block {id} is not there")),
            }
        }
        if hash.digest() != stored.xxh3 {
            return Some(format!("block {id} does not match its checksum"));
        }
    }
    None
}

/// Takes a state out of the records: nothing is copied but what stands in several.
fn take(manifest: &Manifest, version: u16, at: i32, records: &mut Records) -> Snapshot {
    let blocks = manifest.blocks.iter().map(|(id, stored)| {
        let mut parts = stored.keys(*id).filter_map(|key| records.remove(&(at, key)));
        let mut bytes = parts.next().unwrap_or_default();
        parts.for_each(|part| bytes.extend_from_slice(&part));
        EncodedBlock {
            id: *id,
            xxh3: stored.xxh3,
            raw_bytes: stored.raw_bytes,
            bytes,
        }
    });
    Snapshot {
        offset: manifest.offset,
        version,
        blocks: blocks.collect(),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
