//! `foreshock train`: dumps through the engine of `run`, its features as rows, failures as labels, a hazard fitted and judged by time.
//!
//! Time is cut into five parts, chronological, each with a fifth of the failures. A model of all parts before predicts each part from
//! the third on, so every prediction that anything is chosen by was made without knowledge of its time: which kind of
//! model, its calibration, and what warnings are worth at each threshold. Rows whose horizon reaches into a part are not learned
//! from before it (purge), rows inside failures are none, and means and spreads are those of the rows learned from. The last part
//! is the examination: kind, calibration and threshold come from the parts before. The model that is kept is then fitted
//! to everything, with the calibration of all parts that were predicted.
//!
//! **Fails** with few failures: the intervals in the figures say how much they are worth. Classes that never happened are not
//! foreseen, and are left to the unsupervised models. **Cost:** one replay; memory of the rows kept ([`rows`]), their matrix twice.

mod card;
pub mod fit;
mod fitting;
pub mod judge;
pub mod paired;
pub mod registry;
pub mod resume;
pub mod rows;

use std::cell::RefCell;
use std::sync::Arc;

use foreshock_domain::{Millis, Timestamp};
use foreshock_engine::{Destination, Engine, EngineConfig, Moment, Observe, Output, TopicId, run};
use foreshock_failure::predict::HazardModel;
use serde::{Deserialize, Serialize};

use crate::backtest::evaluate::Share;
use crate::dump::{Dump, DumpError};
use crate::dump_log::DumpLog;
use crate::labels::Labels;
pub use fitting::Fitting;
use judge::{RowFigures, Scored};
use resume::{Keeper, Resume, Stopped};
use rows::Rows;

/// Failures below which there is nothing to learn from.
pub const FAILURES_MIN: usize = 6;

/// What to learn from, and what for.
pub struct Training {
    /// The engine as `run` would have it; a predictor in it is not asked.
    pub config: EngineConfig,
    /// Dumps and the topic each stands for.
    pub dumps: Vec<(TopicId, Dump)>,
    /// Failures that happened.
    pub labels: Labels,
    /// Classes that nobody can foretell.
    pub apart: Vec<String>,
    /// How far ahead to look.
    pub horizon_ms: Millis,
    /// Least lead that is worth something.
    pub lead_ms: Millis,
    /// Records of this time or later are not read.
    pub until: Timestamp,
    /// Where it is written down how far reading got, and what an earlier run left there.
    pub resume: Option<(Resume, Option<Stopped>)>,
}

/// Why nothing was learned.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A dump can't be read.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// Somebody stopped it.
    #[error("stopped before the end of the dumps")]
    Stopped,
    /// Too few failures in the data.
    #[error(
        "{found} failures to learn from, expected at least {FAILURES_MIN} of entities in the data, after its beginning and before its end"
    )]
    TooFew {
        /// How many there were.
        found: usize,
    },
    /// There are failures, and yet no part of time in which a model could be fitted.
    #[error(
        "too little was recorded around the failures, expected windows before them in which their entities were not failing"
    )]
    TooLittle,
}

/// Where in a training something is.
pub enum Progress<'a> {
    /// Reading: dumps as they stand.
    Reading(&'a [Dump]),
    /// Fitting: fits done and all.
    Fitting(usize, usize),
}

/// What was learned and what it is worth.
#[derive(Debug)]
pub struct Trained {
    /// The model, of all the data.
    pub model: HazardModel,
    /// What an examination said.
    pub figures: TrainFigures,
    /// Predictions of the last part by the model of the parts before: for a paired test against another model.
    pub examined: Vec<Scored>,
    /// Rows, for the same.
    pub rows: Rows,
    /// When the last part begins.
    pub examined_from: Timestamp,
}

/// Figures of a training, as they stand in the manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainFigures {
    /// First and last window in RFC 3339.
    pub data: (String, String),
    /// Windows seen of all entities.
    pub windows: u64,
    /// Rows kept of them.
    pub rows: usize,
    /// Entities.
    pub entities: usize,
    /// Failures to learn from, and those of classes that nobody can foretell.
    pub failures: usize,
    /// As said.
    pub failures_apart: usize,
    /// Series and templates the model looks at.
    pub series: usize,
    /// `linear`, `trees` or `mean`.
    pub kind: String,
    /// Negative log likelihood a row of each kind, on the parts before the last.
    pub log_loss: Vec<(String, f64)>,
    /// Beginnings of the parts in RFC 3339.
    pub parts: Vec<String>,
    /// The examination by row.
    pub by_row: RowFigures,
    /// And by warning, at the threshold that the parts before gave.
    pub warnings: Option<WarningFigures>,
}

/// The examination by warning.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WarningFigures {
    /// At which threshold, chosen on the parts before.
    pub threshold: f64,
    /// Failures foretold in time.
    pub recall: Share,
    /// Warnings that came true.
    pub precision: Share,
    /// Wrong warnings a day and entity.
    pub false_per_entity_day: f64,
    /// Median lead of failures foretold, in seconds.
    pub lead_s: f64,
}

impl Training {
    /// Replays, fits and examines. `progress` is asked now and then; where it says false, all ends.
    ///
    /// # Errors
    /// When a dump can't be read, it was stopped, or there is too little to learn from.
    pub fn run(self, progress: &mut dyn FnMut(Progress<'_>) -> bool) -> Result<Trained, TrainError> {
        let window_ms = self.config.windows.width_ms;
        let budget = self.config.budget_of_warnings();
        let terms = Fitting {
            horizon_ms: self.horizon_ms,
            lead_ms: self.lead_ms,
            window_ms,
            false_a_day: budget,
        };
        let rows = self.rows(progress)?;
        terms.train(rows, progress)
    }

    /// One replay; the rows it gives.
    fn rows(self, progress: &mut dyn FnMut(Progress<'_>) -> bool) -> Result<Rows, TrainError> {
        let mut config = self.config;
        (config.observe, config.predictor) = (Observe::Features, None);
        let cooldown_ms = config.rules.cooldown_ms();
        let (resume, left) = self.resume.map_or((None, None), |(resume, left)| (Some(resume), left));
        let (rows, mark) = match left {
            Some(left) => (
                left.rows.with_failures(&self.labels.failures, &self.apart),
                Some(left.mark),
            ),
            None => (
                Rows::new(&self.labels.failures, &self.apart, self.horizon_ms, cooldown_ms),
                None,
            ),
        };
        let rows = RefCell::new(rows);
        let mut written = |output: &Output| {
            if output.to == Destination::Moments {
                // The engine's own bytes.
                if let Ok(moment) = Moment::decode(&output.value) {
                    rows.borrow_mut().take(moment);
                }
            }
        };
        let mut stopped = false;
        let mut reading = |dumps: &[Dump]| {
            let goes_on = progress(Progress::Reading(dumps));
            stopped |= !goes_on;
            goes_on
        };
        let mut keeper = resume.as_ref().map(|resume| Keeper::new(resume, &rows));
        let mut log = DumpLog::new(self.dumps, config.tick_every_ms, &mut written, &mut reading).until(self.until);
        if let Some(keeper) = &mut keeper {
            log = log.marking(keeper);
        }
        if let Some(mark) = mark {
            log = log.from_mark(mark)?;
        }
        run(&mut log, &mut Engine::new(Arc::new(config)), &mut |_| {})?;
        drop(log);
        let rows = rows.into_inner();
        if stopped { Err(TrainError::Stopped) } else { Ok(rows) }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
