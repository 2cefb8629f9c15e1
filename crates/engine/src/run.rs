use foreshock_domain::Timestamp;

use crate::counters::Counters;
use crate::log::{Assignment, Log, Polled, Saved};
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
    /// What happened while there was nothing to commit: a silent replay.
    Counted(Box<Counters>),
    /// An epoch is committed.
    Committed {
        /// What happened in it.
        counters: Box<Counters>,
        /// Series held.
        series: usize,
        /// Entities held by the second stage.
        entities: usize,
        /// What was stored of states.
        saved: Saved,
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
            Polled::Unreadable(stretches) => stretches.iter().for_each(|stretch| engine.skip(stretch)),
            Polled::Assigned(assignments) => {
                for assignment in assignments {
                    take_up(log, engine, assignment)?;
                    observe(EpochReport::Alive);
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
            Polled::Due { snapshot } => {
                if snapshot {
                    engine.want_states();
                }
                commit = Some(false);
            }
            Polled::End => {
                commit = Some(true);
                end = true;
            }
        }
        if engine.is_restored() != restored {
            restored = !restored;
            observe(EpochReport::Restored(restored));
        }
        if let Some(with_states) = commit {
            let (epoch, counters) = engine.take_epoch(with_states);
            if !epoch.is_empty() || log.is_saving() {
                let saved = log.commit(epoch)?;
                report(engine, counters, saved, tick.take(), observe);
            } else if counters != Counters::default() {
                observe(EpochReport::Counted(Box::new(counters)));
            }
        }
        if end {
            let saved = log.finish()?;
            if saved != Saved::default() {
                report(engine, Counters::default(), saved, None, observe);
            }
            return Ok(());
        }
    }
}

/// Takes up a partition from the newest of its snapshots that can be read, or from its first record.
fn take_up<L: Log>(log: &mut L, engine: &mut Engine, assignment: Assignment) -> Result<(), L::Error> {
    let mut next = assignment;
    loop {
        let (of, is_restored) = (next.of, next.snapshot.is_some());
        match engine.assign(next) {
            Ok(()) => return Ok(()),
            Err(error) if is_restored => {
                tracing::error!(%error, "the state before this one is tried");
                next = log.fall_back(of)?;
            }
            Err(error) => {
                tracing::error!(%error, "a partition is left alone");
                return Ok(());
            }
        }
    }
}

fn report(
    engine: &Engine,
    counters: Counters,
    saved: Saved,
    tick: Option<Timestamp>,
    observe: &mut dyn FnMut(EpochReport),
) {
    let (series, entities) = engine.held();
    observe(EpochReport::Committed {
        counters: Box::new(counters),
        series,
        entities,
        saved,
        tick,
    });
}
