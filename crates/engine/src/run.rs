use foreshock_domain::Timestamp;

use crate::counters::Counters;
use crate::log::{Log, Polled};
use crate::machine::Engine;
use crate::record::TopicPartition;

/// What an observer hears of the loop. Nothing here changes what the loop does.
#[derive(Debug)]
pub enum EpochReport {
    /// The loop came round; proof of life.
    Alive,
    /// Partitions came or went; all that are owned now.
    Owned(Vec<TopicPartition>),
    /// Whether everything owned has been restored.
    Restored(bool),
    /// An epoch is committed.
    Committed {
        /// What happened in it.
        counters: Box<Counters>,
        /// Series held.
        series: usize,
        /// Entities held by the second stage.
        entities: usize,
        /// Bytes of the snapshots it carried; 0 without.
        snapshot_bytes: usize,
        /// Time of the last tick, if there was one.
        tick: Option<Timestamp>,
    },
}

/// The one loop: polls, applies, commits, until the log ends. After an error both log and engine are to be thrown away.
///
/// # Errors
/// What the log says.
pub fn run<L: Log>(log: &mut L, engine: &mut Engine, observe: &mut dyn FnMut(EpochReport)) -> Result<(), L::Error> {
    let mut restored = false;
    let mut tick = None;
    loop {
        let polled = log.poll(&mut |record| engine.apply(&record))?;
        observe(EpochReport::Alive);
        let mut commit = engine.epoch_is_full().then_some(false);
        let mut end = false;
        match polled {
            Polled::Records(_) | Polled::Idle => {}
            Polled::Assigned(assignments) => {
                for assignment in &assignments {
                    if let Err(error) = engine.assign(assignment) {
                        tracing::warn!(%error, "the state of a partition is made anew from all records that are still there");
                        log.begin_anew(assignment.of)?;
                    }
                }
                observe(EpochReport::Owned(engine.owned()));
            }
            Polled::Revoked(partitions) => {
                engine.revoke(&partitions);
                observe(EpochReport::Owned(engine.owned()));
            }
            Polled::Tick(at) => {
                engine.tick(at);
                tick = Some(at);
            }
            Polled::Due { snapshot } => commit = Some(snapshot),
            Polled::End => {
                commit = Some(true);
                end = true;
            }
        }
        if engine.is_restored() != restored {
            restored = !restored;
            observe(EpochReport::Restored(restored));
        }
        if let Some(snapshot) = commit {
            let (epoch, counters) = engine.take_epoch(snapshot);
            let snapshot_bytes = epoch.snapshots.iter().map(|(_, s)| s.state.len()).sum();
            if !epoch.is_empty() {
                log.commit(epoch)?;
                let (series, entities) = engine.held();
                observe(EpochReport::Committed {
                    counters: Box::new(counters),
                    series,
                    entities,
                    snapshot_bytes,
                    tick: tick.take(),
                });
            }
        }
        if end {
            return Ok(());
        }
    }
}
