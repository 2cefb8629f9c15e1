//! `cmapss`: engines that run to failure (NASA C-MAPSS FD001 and FD003), through `train` and `backtest`: P(remaining life ≤ 30 cycles).
//!
//! A cycle is an hour, and engines run one after the other, five hours apart, so that history has an order. Learned are the engines of
//! the training file; judged are those of the test file, which end some time before they fail: when is told by the file of remaining
//! lives. Beside it the unsupervised deviation: the sum over sensors of how far their middle averages are from the engine's own mean.
//!
//! **Data:** A. Saxena et al., *Damage propagation modeling for aircraft engine run-to-failure simulation*, PHM 2008.

use std::fmt::Write as _;
use std::io::{BufRead, Cursor};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use foreshock_domain::{Entity, Millis, Timestamp};
use foreshock_engine::{
    Destination, Engine, EngineConfig, Moment, Observe, Output, SourceConfig, TopicId, Windows, run,
};
use foreshock_failure::{FailureConfig, Rules};
use foreshock_history::backtest::Backtest;
use foreshock_history::backtest::evaluate::Terms;
use foreshock_history::dump::Dump;
use foreshock_history::dump_log::DumpLog;
use foreshock_history::labels::{Label, Labels};
use foreshock_history::open::{Opened, open};
use foreshock_history::train::Training;
use foreshock_history::train::judge::{RowFigures, average_precision};
use foreshock_history::train::rows::{FailureSpans, Known};
use foreshock_wire::Format;
use serde::Serialize;

use crate::table::Table;

const HOUR_MS: Millis = 3_600_000;
/// Remaining life, in cycles, that is to be foreseen. An engine fails half a cycle after the end of its last.
const LIFE: i64 = 30;
const APART_HOURS: i64 = 5;
const START_MS: Millis = 1_577_836_800_000;
const COLUMNS: usize = 24;
/// Place of the middle distance in a series' features.
const MIDDLE: usize = 2;

/// Options of `cmapss`.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder with train_FD001.txt.gz, test_FD001.txt.gz, RUL_FD001.txt.gz, and the same of FD003
    pub folder: PathBuf,
}

/// Figures of one set.
#[derive(Debug, Serialize)]
pub struct CmapssResult {
    /// `FD001` or `FD003`.
    pub set: &'static str,
    /// The examination at the end of training: the last fifth of the training engines.
    pub examined: RowFigures,
    /// The engines of the test file.
    pub test: RowFigures,
    /// Average precision of the unsupervised deviation there.
    pub deviation: f64,
}

/// Engines as text of a dump, and their failures.
struct History {
    csv: String,
    failures: Vec<Label>,
    end: i64,
}

impl History {
    /// Engines from an hour on; `left` says how many cycles each has left when its rows end, and is 0 without.
    fn read(path: &Path, prefix: &str, left: &[i64], mut hour: i64) -> Result<Self> {
        let mut csv = String::from("timestamp,entity");
        for k in 0..COLUMNS {
            let _ = write!(csv, ",v{k:02}");
        }
        csv.push('\n');
        let (mut failures, mut unit, mut cycle) = (Vec::new(), 0, 0);
        let mut end_of = |unit: usize, hour: i64| {
            let onset = (hour + 1 + left.get(unit - 1).copied().unwrap_or(0)) * HOUR_MS + HOUR_MS / 2;
            failures.push(Label {
                entity: Entity::new(&format!("{prefix}-{unit:03}")),
                class: "wear".into(),
                onset: Timestamp::from_millis(START_MS + onset),
                end: None,
                lead_ms: None,
            });
        };
        for line in open(path).with_context(|| path.display().to_string())?.lines() {
            let line = line?;
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            if fields.is_empty() {
                continue;
            }
            if fields.len() != COLUMNS + 2 {
                bail!("{}: {} columns, expected {}", path.display(), fields.len(), COLUMNS + 2);
            }
            let of: usize = fields[0].parse().context("unit")?;
            if of != unit {
                if unit > 0 {
                    end_of(unit, hour - 1);
                    hour += APART_HOURS;
                }
                (unit, cycle) = (of, 0);
            }
            cycle += 1;
            let at = START_MS + hour * HOUR_MS;
            let _ = writeln!(csv, "{at},{prefix}-{unit:03},{}", fields[2..].join(","));
            hour += 1;
        }
        if cycle > 0 {
            end_of(unit, hour - 1);
        }
        Ok(Self {
            csv,
            failures,
            end: hour,
        })
    }

    fn dump(&self) -> Result<Vec<(TopicId, Dump)>> {
        let opened = Opened::new(Cursor::new(self.csv.clone().into_bytes()), None)?;
        let dump = Dump::csv(Path::new("engines.csv"), Format::PlainJson, opened)?;
        Ok(vec![(TopicId(1), dump.keyed_by(&["entity"]))])
    }
}

fn config() -> Result<EngineConfig> {
    let source = SourceConfig::new("engines", Format::PlainJson, &["entity"]);
    let mut config = EngineConfig::new(vec![source], Rules::new(&FailureConfig::default())?);
    config.windows = Windows {
        width_ms: HOUR_MS,
        lateness_ms: HOUR_MS,
    };
    Ok(config)
}

/// Both sets.
///
/// # Errors
/// Where a file is missing or is not what it should be.
pub fn measure(options: &Options) -> Result<Vec<CmapssResult>> {
    ["FD001", "FD003"]
        .into_iter()
        .map(|set| of_set(&options.folder, set))
        .collect()
}

fn of_set(folder: &Path, set: &'static str) -> Result<CmapssResult> {
    let file = |kind: &str| folder.join(format!("{kind}_{set}.txt.gz"));
    let left: Result<Vec<i64>> = open(&file("RUL"))?
        .lines()
        .map(|line| Ok(line?.trim().parse()?))
        .collect();
    let left = left.with_context(|| file("RUL").display().to_string())?;
    let learned = History::read(&file("train"), "train", &[], 0)?;
    let judged = History::read(&file("test"), "test", &left, learned.end + APART_HOURS)?;
    let horizon_ms = (LIFE + 1) * HOUR_MS;
    let training = Training {
        config: config()?,
        dumps: learned.dump()?,
        labels: Labels::settle(learned.failures),
        apart: Vec::new(),
        horizon_ms,
        lead_ms: 5 * HOUR_MS,
        until: Timestamp::LATEST,
        resume: None,
    };
    let trained = training.run(&mut |_| true)?;
    let mut config_of_test = config()?;
    config_of_test.predictor = Some(Arc::new(trained.model));
    let backtest = Backtest {
        config: Arc::new(config_of_test),
        dumps: judged.dump()?,
        labels: Some(Labels::settle(judged.failures.clone())),
        terms: Terms {
            lead_ms: 5 * HOUR_MS,
            horizon_ms,
            from: Timestamp::MIN,
            apart: Vec::new(),
            budget_per_day: 1.0,
        },
        until: Timestamp::LATEST,
        events: None,
        predictions: None,
    };
    let done = backtest.run(&mut |_| true)?;
    Ok(CmapssResult {
        set,
        examined: trained.figures.by_row,
        test: done.calibration.context("a model was asked")?,
        deviation: deviation(&judged, horizon_ms)?,
    })
}

/// Average precision of how far an engine is from what it was.
fn deviation(judged: &History, horizon_ms: Millis) -> Result<f64> {
    let spans = FailureSpans::new(&judged.failures, &[]);
    let mut moments: Vec<(Entity, Timestamp, f64)> = Vec::new();
    let mut written = |output: &Output| {
        if output.to == Destination::Moments
            && let Ok(m) = Moment::decode(&output.value)
        {
            let far = m.features.iter().map(|(_, f)| f64::from(f[MIDDLE].abs())).sum();
            moments.push((m.entity, m.at, far));
        }
    };
    let mut config = config()?;
    config.observe = Observe::Features;
    let mut goes_on = |_: &[Dump]| true;
    let mut log = DumpLog::new(judged.dump()?, config.tick_every_ms, &mut written, &mut goes_on);
    run(&mut log, &mut Engine::new(Arc::new(config)), &mut |_| {})?;
    let until = spans.known_until(Timestamp::MIN);
    let known: Vec<(f64, bool, f64)> = moments
        .iter()
        .filter_map(|(entity, at, far)| {
            let known = Known { seen: *at, until };
            Some((*far, spans.target(entity, *at, horizon_ms, known).came()?, 1.0))
        })
        .collect();
    Ok(average_precision(&known))
}

/// The table.
#[must_use]
pub fn table(results: &[CmapssResult]) -> String {
    let head = [
        "set",
        "test engines",
        "chance",
        "unsupervised deviation",
        "Brier score",
        "reliability error",
        "examination",
    ];
    let mut table = Table::new(&head);
    for r in results {
        table.row(vec![
            r.set.to_owned(),
            format!("{:.3}", r.test.average_precision),
            format!("{:.3}", r.test.base_rate),
            format!("{:.3}", r.deviation),
            format!("{:.4}", r.test.brier),
            format!("{:.3}", r.test.reliability_error),
            format!("{:.3}", r.examined.average_precision),
        ]);
    }
    format!("Average precision of P(remaining life ≤ {LIFE} cycles).\n\n{table}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_follow_each_other_and_fail_when_the_file_says() {
        let file = tempfile::NamedTempFile::with_suffix(".txt").unwrap();
        let row = |unit: i64, cycle: i64| format!("{unit} {cycle} {}\n", ["1.5"; COLUMNS].join(" "));
        std::fs::write(file.path(), [row(1, 1), row(1, 2), row(2, 1)].concat()).unwrap();
        let history = History::read(file.path(), "test", &[3, 0], 10).unwrap();
        let hours: Vec<f64> = history
            .failures
            .iter()
            .map(|f| (f.onset.as_millis() - START_MS) as f64 / HOUR_MS as f64)
            .collect();
        // Rows at 10 and 11, then at 17; the window of the last row of the first ends at 12, with three cycles left.
        assert_eq!(hours, [15.5, 18.5]);
        assert_eq!(history.end, 18);
        assert_eq!(history.csv.lines().count(), 4);
        let short = tempfile::NamedTempFile::with_suffix(".txt").unwrap();
        std::fs::write(short.path(), "1 1 0.5\n").unwrap();
        assert!(History::read(short.path(), "test", &[], 0).is_err());
    }
}
