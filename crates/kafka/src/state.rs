//! Snapshots in a compacted topic.
//!
//! A snapshot is one compressed blob in chunks and a manifest behind them, all written in the transaction of the epoch whose
//! state they hold. Keys are `topic/partition/0`, `…/1`, … and `topic/partition/manifest`, so compaction keeps the newest of each,
//! and since a transaction is whole, the newest manifest always finds its own chunks. Chunks name the blob's hash; what does not
//! match is not used.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use foreshock_engine::Snapshot;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::log::is_denied;
use crate::reader::{Quiet, partitions_of};
use crate::settings::ConnectionSettings;

/// Below the brokers' usual limit of 1 MiB a record, with room for the envelope.
const CHUNK_BYTES: usize = 768 * 1024;
/// A restore that takes longer than this has lost its brokers.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(120);
/// A blob larger than this when unpacked is not one of ours.
const STATE_BYTES_MAX: usize = 4 << 30;

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    offset: i64,
    chunks: u32,
    bytes: usize,
    xxh3: String,
}

/// One record of the state topic; `None` deletes what an older, longer snapshot left.
pub(crate) struct StateRecord {
    pub(crate) key: String,
    pub(crate) value: Option<Vec<u8>>,
}

/// Which partition of the state topic holds the snapshots of a partition.
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // a remainder of a small number
pub(crate) fn home(topic: &str, partition: i32, of: usize) -> i32 {
    (xxh3_64(format!("{topic}/{partition}").as_bytes()) % of.max(1) as u64) as i32
}

/// The records that store a snapshot, and how many chunks it took. `chunks_before` is what the last one took.
pub(crate) fn records(
    topic: &str,
    partition: i32,
    snapshot: &Snapshot,
    chunks_before: u32,
) -> std::io::Result<(Vec<StateRecord>, u32)> {
    let blob = zstd::bulk::compress(&snapshot.state, 1)?;
    let xxh3 = format!("{:016x}", xxh3_64(&blob));
    let mut records = Vec::new();
    let mut chunks = 0;
    for chunk in blob.chunks(CHUNK_BYTES) {
        let mut value = xxh3.clone().into_bytes();
        value.extend_from_slice(chunk);
        records.push(StateRecord {
            key: format!("{topic}/{partition}/{chunks}"),
            value: Some(value),
        });
        chunks += 1;
    }
    for stale in chunks..chunks_before {
        records.push(StateRecord {
            key: format!("{topic}/{partition}/{stale}"),
            value: None,
        });
    }
    let manifest = Manifest {
        format: 1,
        offset: snapshot.offset,
        chunks,
        bytes: snapshot.state.len(),
        xxh3,
    };
    let value = serde_json::to_vec(&manifest)?;
    records.push(StateRecord {
        key: format!("{topic}/{partition}/manifest"),
        value: Some(value),
    });
    Ok((records, chunks))
}

/// Puts a snapshot together from the newest record of each key; `None` where there is none or it does not fit.
fn assemble(topic: &str, partition: i32, newest: &BTreeMap<String, Vec<u8>>) -> Option<Snapshot> {
    let manifest: Manifest = serde_json::from_slice(newest.get(&format!("{topic}/{partition}/manifest"))?).ok()?;
    if manifest.format != 1 || manifest.bytes > STATE_BYTES_MAX {
        tracing::warn!(
            topic,
            partition,
            format = manifest.format,
            "a snapshot in a format unknown here is left aside"
        );
        return None;
    }
    let mut blob = Vec::new();
    for i in 0..manifest.chunks {
        let chunk = newest.get(&format!("{topic}/{partition}/{i}"))?;
        blob.extend_from_slice(chunk.strip_prefix(manifest.xxh3.as_bytes())?);
    }
    if format!("{:016x}", xxh3_64(&blob)) != manifest.xxh3 {
        tracing::warn!(topic, partition, "a damaged snapshot is left aside");
        return None;
    }
    let state = zstd::bulk::decompress(&blob, manifest.bytes).ok()?;
    Some(Snapshot {
        offset: manifest.offset,
        state,
    })
}

/// Finds the newest snapshots of these partitions (topic name and number), in their order; `None` where there is none. Reads
/// their part of the state topic once, committed records only, and changes nothing: `group`, which it does not join, only
/// names it to brokers that grant rights by group.
///
/// # Errors
/// When the brokers can't be reached, the state topic is not there, or it is not read within two minutes.
pub fn newest(
    connection: &ConnectionSettings,
    group: &str,
    state_topic: &str,
    wanted: &[(String, i32)],
) -> Result<Vec<Option<Snapshot>>, KafkaError> {
    let mut config = connection.client();
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "50")
        .set("fetch.message.max.bytes", "8388608");
    let consumer: BaseConsumer<Quiet> = config.create_with_context(Quiet)?;
    let partitions = partitions_of(&consumer, state_topic)?.len();
    let mut open: BTreeSet<i32> = wanted.iter().map(|(t, p)| home(t, *p, partitions)).collect();
    let mut list = TopicPartitionList::new();
    for partition in &open {
        list.add_partition_offset(state_topic, *partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let prefixes: BTreeSet<String> = wanted.iter().map(|(t, p)| format!("{t}/{p}")).collect();
    let mut newest: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let deadline = Instant::now() + RESTORE_TIMEOUT;
    while !open.is_empty() {
        if Instant::now() > deadline {
            return Err(KafkaError::Global(rdkafka::types::RDKafkaErrorCode::OperationTimedOut));
        }
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(error)) if is_denied(&error) => return Err(error),
            Some(Err(error)) => tracing::debug!(%error, "reading snapshots goes on after an error"),
            Some(Ok(message)) => {
                let Some(key) = message.key().and_then(|k| std::str::from_utf8(k).ok()) else {
                    continue;
                };
                let Some((prefix, _)) = key.rsplit_once('/') else {
                    continue;
                };
                if !prefixes.contains(prefix) {
                    continue;
                }
                match message.payload() {
                    Some(value) => newest.insert(key.to_owned(), value.to_vec()),
                    None => newest.remove(key),
                };
            }
        }
    }
    Ok(wanted.iter().map(|(t, p)| assemble(t, *p, &newest)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(records: Vec<StateRecord>, into: &mut BTreeMap<String, Vec<u8>>) {
        for r in records {
            match r.value {
                Some(value) => into.insert(r.key, value),
                None => into.remove(&r.key),
            };
        }
    }

    fn noise(bytes: usize) -> Vec<u8> {
        let mut x = 1u64;
        std::iter::repeat_with(|| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (x >> 56) as u8
        })
        .take(bytes)
        .collect()
    }

    #[test]
    fn a_snapshot_comes_back_as_it_was_in_one_chunk_or_many() {
        let mut topic = BTreeMap::new();
        let mut chunks = 0;
        for bytes in [0, 10, 3 * CHUNK_BYTES, 100] {
            let snapshot = Snapshot {
                offset: bytes as i64,
                state: noise(bytes),
            };
            let (records, n) = records("in", 7, &snapshot, chunks).unwrap();
            chunks = n;
            stored(records, &mut topic);
            assert_eq!(assemble("in", 7, &topic), Some(snapshot));
            assert_eq!(topic.len(), 1 + chunks as usize, "older chunks are deleted");
        }
        assert_eq!(assemble("in", 8, &topic), None);
    }

    #[test]
    fn a_torn_or_damaged_snapshot_is_left_aside() {
        let (whole, _) = records(
            "in",
            0,
            &Snapshot {
                offset: 1,
                state: noise(2 * CHUNK_BYTES),
            },
            0,
        )
        .unwrap();
        let mut topic = BTreeMap::new();
        stored(whole, &mut topic);
        let mut torn = topic.clone();
        torn.remove("in/0/1");
        assert_eq!(assemble("in", 0, &torn), None);
        let mut damaged = topic.clone();
        damaged.get_mut("in/0/0").unwrap()[100] ^= 1;
        assert_eq!(assemble("in", 0, &damaged), None);
        let mut mixed = topic;
        let (other, _) = records(
            "in",
            0,
            &Snapshot {
                offset: 2,
                state: vec![7; 9],
            },
            0,
        )
        .unwrap();
        mixed.insert("in/0/0".into(), other.into_iter().next().unwrap().value.unwrap());
        assert_eq!(assemble("in", 0, &mixed), None);
    }
}
