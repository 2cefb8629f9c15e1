//! What it takes to save and to restore a partition's state: how long the pipeline stands still, how long packing and reading
//! take, how many bytes there are, and how much memory it needs, without a broker.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use foreshock_engine::state::{EncodedBlock, Packer};
use foreshock_engine::{
    Assignment, Engine, EngineConfig, Epoch, Frozen, Record, STATE_VERSION, Snapshot, SourceConfig, TopicId,
    TopicPartition,
};
use foreshock_failure::{FailureConfig, Rules};
use foreshock_wire::Format;

use super::{Noise, plain};
use crate::error::{CommandError, Exit};
use crate::memory;

/// Windows that every series has lived when its state is saved. A model's size is fixed; older ones compress less.
const WINDOWS: usize = 16;
/// Series of a host.
const HOST: usize = 20;
/// Windows that are read at most while a state is packed.
const PATIENCE: u32 = 100;
/// The series of one host in so many move before the second snapshot.
const MOVING: usize = 100;

/// What was measured of one size.
pub(super) struct Measured {
    pub(super) series: usize,
    pub(super) partitions: usize,
    /// How long the pipeline stood still for it.
    pub(super) freeze: Duration,
    /// All samples of one window, and closing the one before, while nothing is saved and while a state is.
    pub(super) calm: Duration,
    pub(super) busy: Duration,
    /// The longest that one record took in each.
    pub(super) calm_longest: Duration,
    pub(super) busy_longest: Duration,
    /// Until all blocks were packed, beside the pipeline.
    pub(super) pack: Duration,
    pub(super) raw_bytes: usize,
    pub(super) packed_bytes: usize,
    /// Packed bytes of a later snapshot, when the series of one host in [`MOVING`] moved since the one before.
    pub(super) next_bytes: usize,
    pub(super) restore: Duration,
    /// Most memory while the pipeline ran and a state was saved, and while it was restored.
    pub(super) peak_saving: Option<u64>,
    pub(super) peak_restoring: Option<u64>,
}

struct Pipeline {
    engine: Engine,
    partitions: usize,
    noise: Noise,
    offset: i64,
}

impl Pipeline {
    fn new(config: &Arc<EngineConfig>, partitions: usize) -> Result<Self, CommandError> {
        let mut engine = Engine::new(Arc::clone(config));
        for partition in 0..partitions {
            let assignment = Assignment {
                of: of(partition),
                snapshot: None,
                committed: 0,
                first: 0,
            };
            engine.assign(assignment).map_err(|e| failed(&e))?;
        }
        Ok(Self {
            engine,
            partitions,
            noise: Noise(3),
            offset: 0,
        })
    }

    /// Samples of these series in this window, the first of which close the one before. How long it took without making the
    /// records, and how long the longest.
    fn read(&mut self, window: usize, series: impl Iterator<Item = usize>) -> (Duration, Duration) {
        let (mut all, mut longest) = (Duration::ZERO, Duration::ZERO);
        for i in series {
            let payload = plain(i, window, self.noise.value());
            let record = Record {
                // Hosts stay together, as with any sensible key.
                from: of(i / HOST % self.partitions),
                offset: self.offset,
                timestamp: None,
                key: None,
                payload: Some(&payload),
            };
            let began = Instant::now();
            self.engine.apply(&record);
            let took = began.elapsed();
            all += took;
            longest = longest.max(took);
            self.offset += 1;
        }
        (all, longest)
    }

    /// An epoch, whose outputs are thrown away, and how long it took.
    fn epoch(&mut self, with_states: bool) -> (Epoch, Duration) {
        let began = Instant::now();
        let (mut epoch, _) = self.engine.take_epoch(with_states);
        let took = began.elapsed();
        epoch.outputs.clear();
        (epoch, took)
    }
}

fn of(partition: usize) -> TopicPartition {
    TopicPartition {
        topic: TopicId(1),
        partition: i32::try_from(partition).unwrap_or(i32::MAX),
    }
}

fn failed(e: &dyn std::fmt::Display) -> CommandError {
    CommandError::new(Exit::Data, e.to_string())
}

fn config(series: usize) -> Result<Arc<EngineConfig>, CommandError> {
    let rules = Rules::new(&FailureConfig::default()).map_err(|e| failed(&e))?;
    let source = SourceConfig::new("metrics", Format::PlainJson, &["host"]);
    let mut config = EngineConfig::new(vec![source], rules);
    config.limits.series = config.limits.series.max(series);
    config.limits.entities = config.limits.entities.max(series);
    Ok(Arc::new(config))
}

/// Packs what has changed, or everything, on a thread of its own as the service does.
fn packing(
    states: Vec<(TopicPartition, Frozen)>,
    only_changed: bool,
) -> mpsc::Receiver<(Vec<(TopicPartition, Snapshot)>, Duration)> {
    let (done, packed) = mpsc::channel();
    std::thread::spawn(move || {
        let began = Instant::now();
        let Ok(mut packer) = Packer::new() else { return };
        let mut all = Vec::new();
        for (of, frozen) in states {
            let offset = frozen.offset;
            let wanted = frozen.blocks.into_iter().filter(|b| !only_changed || b.has_changed());
            let blocks: Result<Vec<EncodedBlock>, _> = wanted.map(|b| b.encode(&mut packer)).collect();
            let Ok(blocks) = blocks else { return };
            let snapshot = Snapshot {
                offset,
                version: STATE_VERSION,
                blocks,
            };
            all.push((of, snapshot));
        }
        let _ = done.send((all, began.elapsed()));
    });
    packed
}

fn bytes(snapshots: &[(TopicPartition, Snapshot)]) -> usize {
    let blocks = snapshots.iter().flat_map(|(_, s)| &s.blocks);
    blocks.map(|b| b.bytes.len()).sum()
}

/// Fills partitions with so many series, saves them while they go on, and restores them.
pub(super) fn measure(series: usize, partitions: usize) -> Result<Measured, CommandError> {
    let config = config(series)?;
    let gone = || CommandError::new(Exit::Data, "memory ran out while a state was packed");
    let mut pipeline = Pipeline::new(&config, partitions)?;
    let mut calm = (Duration::ZERO, Duration::ZERO);
    for window in 0..WINDOWS {
        calm = pipeline.read(window, 0..series);
        pipeline.epoch(false);
    }
    memory::forget_peak();
    // As in the service: asked for at any time, frozen in the epoch after windows were closed.
    pipeline.engine.want_states();
    let first = (HOST * partitions).min(series);
    pipeline.read(WINDOWS, 0..first);
    let (epoch, freeze) = pipeline.epoch(false);
    // All blocks, as for the first snapshot, which is the largest.
    let packed = packing(epoch.states, false);
    pipeline.read(WINDOWS, first..series);
    let mut window = WINDOWS;
    let (mut busy, mut windows, mut found) = ((Duration::ZERO, Duration::ZERO), 0, None);
    // At least one window closes meanwhile, and records come as fast as they can be taken.
    while found.is_none() || windows == 0 {
        window += 1;
        windows += 1;
        let (all, longest) = pipeline.read(window, 0..series);
        busy = (busy.0 + all, busy.1.max(longest));
        pipeline.epoch(false);
        found = found.or_else(|| packed.try_recv().ok());
        if windows == PATIENCE {
            found = found.or_else(|| packed.recv().ok());
            break;
        }
    }
    let (snapshots, pack) = found.ok_or_else(gone)?;
    let peak_saving = memory::peak();
    // Until the windows that all series were heard in are closed and stored.
    for _ in 0..3 {
        window += 1;
        pipeline.read(window, 0..series.div_ceil(MOVING));
    }
    pipeline.epoch(true);
    pipeline.read(window + 1, 0..series.div_ceil(MOVING));
    let (epoch, _) = pipeline.epoch(true);
    let (next, _) = packing(epoch.states, true).recv().map_err(|_| gone())?;
    let (raw_bytes, packed_bytes, next_bytes) = (
        snapshots.iter().map(|(_, s)| s.raw_bytes()).sum(),
        bytes(&snapshots),
        bytes(&next),
    );
    drop((pipeline, next));
    memory::forget_peak();
    let mut engine = Engine::new(config);
    let began = Instant::now();
    for (of, snapshot) in snapshots {
        let assignment = Assignment {
            of,
            snapshot: Some(snapshot),
            committed: 0,
            first: 0,
        };
        engine.assign(assignment).map_err(|e| failed(&e))?;
    }
    let restore = began.elapsed();
    let held = engine.held().0;
    if held != series {
        return Err(CommandError::new(
            Exit::Data,
            format!("{held} of {series} series came back"),
        ));
    }
    Ok(Measured {
        series,
        partitions,
        freeze,
        calm: calm.0,
        busy: busy.0 / windows,
        calm_longest: calm.1,
        busy_longest: busy.1,
        pack,
        raw_bytes,
        packed_bytes,
        next_bytes,
        restore,
        peak_saving,
        peak_restoring: memory::peak(),
    })
}
