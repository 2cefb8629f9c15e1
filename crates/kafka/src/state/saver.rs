use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use foreshock_engine::state::{EncodedBlock, FrozenBlock, Packer};
use foreshock_engine::{Frozen, Saved, TopicPartition};

use super::RECORD_BYTES;
use super::key::{Key, home};
use super::manifest::{Manifest, Stored};

/// Bytes handed over for one transaction: 40 ms of a slow disk.
pub(crate) const STEP_BYTES: usize = 8 << 20;

/// One record of the state topic; a value of `None` deletes the key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StateRecord {
    /// Partition of the state topic.
    pub(crate) home: i32,
    pub(crate) key: String,
    pub(crate) value: Option<Vec<u8>>,
}

/// What the state topic holds of a partition.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Name of its topic.
    pub(super) topic: String,
    pub(super) topic_partitions: u32,
    pub(super) signals_partitions: u32,
    /// The newest whole state, and in which of the two places its manifest stands.
    pub(super) current: Option<(u8, Manifest)>,
    /// The one before.
    pub(super) previous: Option<Manifest>,
    /// Records that nobody needs, to be deleted when the next manifest is written.
    pub(super) garbage: Vec<(i32, Key)>,
    /// A state was not taken on, so what has changed since the one before it is not known.
    pub(super) is_behind: bool,
    /// Records in another partition of the state topic, from when it had fewer; to be deleted when two states stand in the
    /// present one.
    pub(super) elsewhere: Vec<(i32, Key)>,
}

impl Kept {
    /// How many partitions the partition's own topic and the signals topic have.
    pub(crate) fn counted(&mut self, (topic, signals): (u32, u32)) {
        (self.topic_partitions, self.signals_partitions) = (topic, signals);
    }
}

/// A state that is being written.
struct Unfinished {
    /// Which of the states that were ever begun.
    job: u64,
    manifest: Manifest,
    /// Blocks that are not packed yet.
    left: usize,
}

/// Writes states to the state topic, a part with every epoch.
pub(crate) struct Saver {
    state_partitions: usize,
    kept: BTreeMap<TopicPartition, Kept>,
    unfinished: BTreeMap<TopicPartition, Unfinished>,
    begun: u64,
    jobs: Sender<Job>,
    packed: Receiver<Packed>,
}

/// A block and the state it is of.
type Job = (TopicPartition, u64, FrozenBlock);
type Packed = (TopicPartition, u64, std::io::Result<EncodedBlock>);

impl Saver {
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn new(state_partitions: usize) -> std::io::Result<Self> {
        let (jobs, todo) = mpsc::channel();
        // Packing does not wait for writing, which may take longer than a window: a block that is packed takes a sixth of what it is, and one
        // that is not is copied as a whole when its window closes.
        let (done, packed) = mpsc::channel();
        // Ends when the saver is dropped.
        std::thread::Builder::new()
            .name("snapshots".into())
            .spawn(move || pack(&todo, &done))?;
        Ok(Self {
            state_partitions,
            kept: BTreeMap::new(),
            unfinished: BTreeMap::new(),
            begun: 0,
            jobs,
            packed,
        })
    }

    /// A partition came.
    pub(crate) fn take_up(&mut self, of: TopicPartition, kept: Kept) {
        self.unfinished.remove(&of);
        self.kept.insert(of, kept);
    }

    /// A partition went; its new owner clears away what was begun.
    pub(crate) fn give_up(&mut self, of: TopicPartition) {
        self.unfinished.remove(&of);
        self.kept.remove(&of);
    }

    pub(crate) fn is_saving(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Takes a state on. One of a partition whose last is still being written is left out.
    pub(crate) fn begin(&mut self, of: TopicPartition, frozen: Frozen) {
        let Some(kept) = self.kept.get_mut(&of) else { return };
        let was_behind = std::mem::replace(&mut kept.is_behind, true);
        if self.unfinished.contains_key(&of) {
            return;
        }
        let mut manifest = Manifest {
            offset: frozen.offset,
            topic_partitions: kept.topic_partitions,
            signals_partitions: kept.signals_partitions,
            blocks: BTreeMap::new(),
        };
        self.begun += 1;
        let (job, mut left) = (self.begun, 0);
        for block in frozen.blocks {
            let id = block.id();
            let known = kept.current.as_ref().and_then(|(_, m)| m.blocks.get(&id));
            match known.filter(|_| !block.has_changed() && !was_behind) {
                Some(stored) => _ = manifest.blocks.insert(id, *stored),
                None => {
                    left += 1;
                    if self.jobs.send((of, job, block)).is_err() {
                        tracing::error!("no snapshot: the thread that packs states has ended");
                        return;
                    }
                }
            }
        }
        kept.is_behind = false;
        self.unfinished.insert(of, Unfinished { job, manifest, left });
    }

    /// The next records to write, for one transaction. `patience` is how long to wait for the first.
    ///
    /// # Errors
    /// When a state can't be packed.
    pub(crate) fn step(&mut self, patience: Duration) -> std::io::Result<(Vec<StateRecord>, Saved)> {
        let (mut records, mut saved, mut wait) = (Vec::new(), Saved::default(), patience);
        while saved.written_bytes < STEP_BYTES as u64 && self.is_saving() {
            let (of, job, packed) = match self.packed.recv_timeout(wait) {
                Ok(packed) => packed,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(std::io::Error::other("the thread that packs states has ended"));
                }
            };
            wait = Duration::ZERO;
            let block = packed?;
            let Some(unfinished) = self.unfinished.get_mut(&of).filter(|u| u.job == job) else {
                continue;
            };
            let Some(kept) = self.kept.get(&of) else { continue };
            let at = unfinished.manifest.offset;
            let home = home(&kept.topic, of.partition, self.state_partitions);
            let fresh = Stored::new(&block, at);
            let known = kept.current.as_ref().and_then(|(_, m)| m.blocks.get(&block.id));
            let same = known.filter(|k| (k.xxh3, k.raw_bytes) == (fresh.xxh3, fresh.raw_bytes));
            unfinished.manifest.blocks.insert(block.id, *same.unwrap_or(&fresh));
            unfinished.left -= 1;
            if same.is_none() {
                for (key, part) in fresh.keys(block.id).zip(block.bytes.chunks(RECORD_BYTES)) {
                    saved.written_bytes += part.len() as u64;
                    records.push(StateRecord {
                        home,
                        key: key.of(&kept.topic, of.partition),
                        value: Some(part.to_vec()),
                    });
                }
            }
            if unfinished.left == 0 {
                self.complete(of, home, &mut records, &mut saved)?;
            }
        }
        Ok((records, saved))
    }

    /// The manifest, and what is not needed any more.
    fn complete(
        &mut self,
        of: TopicPartition,
        home: i32,
        records: &mut Vec<StateRecord>,
        saved: &mut Saved,
    ) -> std::io::Result<()> {
        let (Some(unfinished), Some(kept)) = (self.unfinished.remove(&of), self.kept.get_mut(&of)) else {
            return Ok(());
        };
        let manifest = unfinished.manifest;
        let slot = kept.current.as_ref().map_or(0, |(slot, _)| 1 - slot);
        let value = manifest.encode()?;
        if value.len() > RECORD_BYTES {
            return Err(std::io::Error::other(
                "a state has more blocks than a manifest can list",
            ));
        }
        saved.snapshots += 1;
        saved.state_bytes += manifest.raw_bytes() as u64;
        saved.written_bytes += value.len() as u64;
        let mut record = |home, key: Key, value| {
            records.push(StateRecord {
                home,
                key: key.of(&kept.topic, of.partition),
                value,
            });
        };
        record(home, Key::Manifest(slot), Some(value));
        let older = kept.current.take().map(|(_, m)| m);
        let mut needed: BTreeSet<(i32, Key)> = manifest.keys().map(|k| (home, k)).collect();
        needed.extend(older.iter().flat_map(Manifest::keys).map(|k| (home, k)));
        needed.extend([0, 1].map(|slot| (home, Key::Manifest(slot))));
        let mut garbage = std::mem::take(&mut kept.garbage);
        if older.is_some() {
            garbage.append(&mut kept.elsewhere);
        }
        garbage.extend(kept.previous.iter().flat_map(Manifest::keys).map(|k| (home, k)));
        for (home, key) in garbage {
            if !needed.contains(&(home, key)) {
                record(home, key, None);
            }
        }
        kept.previous = older;
        kept.current = Some((slot, manifest));
        Ok(())
    }
}

fn pack(todo: &Receiver<Job>, done: &Sender<Packed>) {
    let mut packer = Packer::new();
    for (of, job, block) in todo {
        let packed = match &mut packer {
            Ok(packer) => block.encode(packer),
            Err(error) => Err(std::io::Error::new(error.kind(), error.to_string())),
        };
        if done.send((of, job, packed)).is_err() {
            return;
        }
    }
}
