//! `fleet`: who foretells the failures of a recorded fleet, ours beside simple rivals, all judged by the code of `backtest`, to the same end.
//!
//! The first 60 % of the failures, or all before `--from`, are what anything may be learned and chosen from; the rest is judged. Rivals
//! give a score a window; a precursor opens where it passes a threshold, and closes after a minute below half of it
//! ([`foreshock_stats::Episode`]). The threshold is chosen on the first part by the rule that the predictor uses: of those within the
//! budget and right four times of five, the one with the largest share of failures foretold less the share of quiet time under warning;
//! where there is none, the one of the best F1, and the table says so. A second table has the other rules, and one that favours rivals.

mod page;
mod rivals;
mod thresholds;
mod windows;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::Args;
use foreshock_domain::{Millis, Timestamp};
use foreshock_engine::{EngineConfig, SourceConfig, TopicId, Windows};
use foreshock_failure::{FailureConfig, Rules};
use foreshock_history::backtest::evaluate::{Figures, Share, Terms, evaluate};
use foreshock_history::backtest::{Backtest, Backtested};
use foreshock_history::dump::Dump;
use foreshock_history::labels::Labels;
use foreshock_history::train::Training;
use foreshock_history::train::judge::RowFigures;
use foreshock_history::train::rows::FailureSpans;
use foreshock_wire::{Format, time};
use serde::Serialize;

pub use page::{table, write};
use rivals::{Limits, Scores};
use thresholds::{Sweep, alarms, by_window, choose};
use windows::Fleet;

const WIDTH_MS: Millis = 5_000;
/// Share of the failures that may be learned from.
const LEARNED: f64 = 0.6;
/// Shares of the budget at which Foreshock is shown besides, with nothing learned.
const OTHER_BUDGETS: [f64; 3] = [0.1, 0.3, 3.0];
/// What the lab gives each store, as its operator knows it: threads, files, queue, connections.
const RESOURCES: &str = r#"[
    {"series": "procstat_num_fds", "limit": 96}, {"series": "procstat_num_threads", "limit": 64},
    {"series": "procstat_memory_vms", "limit": 117440512}, {"series": "shop_queue_depth", "limit": 200},
    {"series": "shop_db_pool_in_use", "limit": 12}]"#;
const LIMITS: Limits = Limits {
    memory: 117_440_512.0,
    volume: 4_194_304.0,
};

/// Options of `fleet`.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder of a recording: metrics.jsonl, logs.jsonl (or .zst) and failures.csv
    pub folder: PathBuf,
    /// Judges from this time on, and learns from what was before; without, from after the first 60 % of the failures
    #[arg(long, value_parser = parse_time)]
    pub from: Option<Timestamp>,
    /// Least lead in seconds that is worth something, where a failure has none of its own
    #[arg(long, default_value_t = 30)]
    pub lead_s: u32,
    /// How far ahead a warning counts, in seconds; chosen for the recorded fleet on the part that is learned from
    #[arg(long, default_value_t = 300)]
    pub horizon_s: u32,
    /// False alarms a day that everybody may have
    #[arg(long, default_value_t = 300.0)]
    pub budget: f64,
    /// Classes that nobody can foretell
    #[arg(long, default_values_t = ["kill".to_owned(), "bad-config".to_owned(), "unplanned".to_owned()])]
    pub apart: Vec<String>,
    /// Leaves each class out of what is learned, one after the other: a training each
    #[arg(long)]
    pub leave_out: bool,
    /// Writes the page, in Markdown
    #[arg(long)]
    pub output: Option<PathBuf>,
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    time::parse(text).ok_or_else(|| "expected a time such as 2026-01-31T10:00:00Z or an epoch number".to_owned())
}

/// One row of the table.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Who.
    pub name: String,
    /// The same in a word, for the head of a column.
    pub short: &'static str,
    /// Chosen by the best F1, since no threshold kept budget and precision on the first part.
    pub fell_back: bool,
    /// Failures foretold.
    pub recall: Share,
    /// Precursors that came true.
    pub precision: Share,
    /// False precursors a day, in the whole fleet.
    pub false_per_day: f64,
    /// Median lead in seconds.
    pub lead_s: Option<f64>,
    /// Recall of the same alerts moved at random.
    pub chance: f64,
    /// Failures foretold by class, those that nobody can foretell last.
    pub classes: Vec<(String, Share)>,
}

/// A rival by other rules.
#[derive(Debug, Serialize)]
pub struct OtherRules {
    /// Area under precision against recall of its score by window.
    pub average_precision: f64,
    /// The lowest threshold within the budget, as is all above it, on the first part.
    pub lowest: Option<Row>,
    /// That of the best F1 on the first part.
    pub f1: Row,
    /// Most failures foretold at no more false alarms a day than Foreshock's warnings: chosen in hindsight, in favour of the rival.
    pub hindsight: Option<Row>,
}

/// One class left out.
#[derive(Debug, Serialize)]
pub struct LeftOut {
    /// Which.
    pub class: String,
    /// Its failures in the judged part that a precursor of any grade foretold.
    pub any: Share,
    /// That a warning foretold, of a model that never saw the class.
    pub warned: Share,
    /// By the model that did.
    pub warned_with: Share,
    /// False precursors of any grade a day.
    pub false_per_day: f64,
}

/// All figures.
#[derive(Debug, Serialize)]
pub struct FleetResult {
    /// First and last time of the judged part.
    pub judged: (String, String),
    /// Its length in days.
    pub days: f64,
    /// Failures learned from and judged.
    pub failures: (usize, usize),
    /// Who and how well.
    pub rows: Vec<Row>,
    /// Rivals by other rules, in the order of their rows.
    pub others: Vec<OtherRules>,
    /// Share of the judged windows that a failure followed: the average precision of chance.
    pub base_rate: f64,
    /// Foreshock at other budgets, nothing learned.
    pub budgets: Vec<Row>,
    /// Its probabilities by window.
    pub probabilities: Option<RowFigures>,
    /// Classes left out.
    pub left_out: Vec<LeftOut>,
}

struct Recording {
    metrics: PathBuf,
    logs: PathBuf,
    labels: Labels,
    from: Timestamp,
    terms: Terms,
}

impl Recording {
    fn read(options: &Options) -> Result<Self> {
        let file = |name: &str| {
            let plain = options.folder.join(name);
            if plain.is_file() {
                plain
            } else {
                options.folder.join(format!("{name}.zst"))
            }
        };
        let labels = Labels::read(&options.folder.join("failures.csv"))?;
        let foreseeable = labels
            .failures
            .iter()
            .filter(|f| !options.apart.iter().any(|a| **a == *f.class));
        let onsets: Vec<Timestamp> = foreseeable.map(|f| f.onset).collect();
        let place = (onsets.len() as f64 * LEARNED) as usize;
        let middle = onsets
            .get(place.saturating_sub(1))
            .context("failures.csv: expected failures")?;
        let from = options.from.unwrap_or(*middle + 1);
        let (first, last) = (onsets[0], onsets[onsets.len() - 1]);
        ensure!(
            first < from && from <= last,
            "--from: expected a time between the failures, {first:.3} to {last:.3}"
        );
        Ok(Self {
            metrics: file("metrics.jsonl"),
            logs: file("logs.jsonl"),
            labels,
            from,
            terms: Terms {
                lead_ms: i64::from(options.lead_s) * 1_000,
                horizon_ms: i64::from(options.horizon_s) * 1_000,
                from,
                apart: options.apart.clone(),
                budget_per_day: options.budget,
            },
        })
    }

    fn dumps(&self, inputs: Inputs) -> Result<Vec<(TopicId, Dump)>> {
        let mut dumps = Vec::new();
        if inputs != Inputs::Logs {
            dumps.push((
                TopicId(1),
                Dump::open(&self.metrics, Format::TelegrafJson)?.keyed_by(&["host"]),
            ));
        }
        if inputs != Inputs::Metrics {
            dumps.push((TopicId(2), Dump::open(&self.logs, Format::LogJson)?.keyed_by(&["host"])));
        }
        Ok(dumps)
    }

    fn backtest(&self, config: EngineConfig, inputs: Inputs) -> Result<Backtested> {
        let backtest = Backtest {
            config: Arc::new(config),
            dumps: self.dumps(inputs)?,
            labels: Some(self.labels.clone()),
            terms: self.terms.clone(),
            until: Timestamp::LATEST,
            events: None,
            predictions: None,
        };
        Ok(backtest.run(&mut |_| true)?)
    }

    /// Learns from the first part, and judges the rest.
    fn learned(&self, config: &EngineConfig, inputs: Inputs, without: Option<&str>) -> Result<Backtested> {
        let mut apart = self.terms.apart.clone();
        apart.extend(without.map(str::to_owned));
        let mut labels = self.labels.clone();
        labels.failures.retain(|f| f.onset < self.from);
        let training = Training {
            config: config.clone(),
            dumps: self.dumps(inputs)?,
            labels,
            apart,
            horizon_ms: self.terms.horizon_ms,
            lead_ms: self.terms.lead_ms,
            until: self.from,
            resume: None,
        };
        let trained = training.run(&mut |_| true)?;
        let mut config = config.clone();
        config.predictor = Some(Arc::new(trained.model));
        self.backtest(config, inputs)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Inputs {
    Both,
    Metrics,
    Logs,
}

fn config(options: &Options, with_limits: bool) -> Result<EngineConfig> {
    let source = |topic: &str, format| SourceConfig::new(topic, format, &["host"]);
    let probe = r#"[{"name": "shop_sells", "series": "probe_up", "windows": 2}]"#;
    let rules = FailureConfig {
        cooldown_s: 20,
        horizon_s: u64::from(options.horizon_s),
        probe: serde_json::from_str(probe)?,
        ..FailureConfig::default()
    };
    let sources = vec![source("metrics", Format::TelegrafJson), source("logs", Format::LogJson)];
    let mut config = EngineConfig::new(sources, Rules::new(&rules)?);
    config.windows = Windows {
        width_ms: WIDTH_MS,
        lateness_ms: WIDTH_MS,
    };
    config.alarms.budget.false_alarms_per_day = options.budget;
    config.exhaustion.horizon_s = if with_limits { u64::from(options.horizon_s) } else { 0 };
    config.exhaustion.resource = serde_json::from_str(RESOURCES)?;
    Ok(config)
}

/// Runs everything.
///
/// # Errors
/// Where a file is missing or is not what it should be.
pub fn measure(options: &Options) -> Result<FleetResult> {
    let recording = Recording::read(options)?;
    let mut fleet = Fleet::read(&recording.metrics, &recording.logs, WIDTH_MS)?;
    let (plain, full) = (config(options, false)?, config(options, true)?);
    let unstated = recording.backtest(plain.clone(), Inputs::Both)?;
    let unlearned = recording.backtest(full.clone(), Inputs::Both)?;
    let both = recording.learned(&full, Inputs::Both, None)?;
    // Where the engine still waits for late records at the end, rivals are not judged either.
    let last = time::parse(&both.figures.scored.1).context("the end of what was judged")?;
    fleet.end_at(last);

    let spans = FailureSpans::new(&recording.labels.failures, &options.apart);
    let learned = recording
        .labels
        .failures
        .iter()
        .filter(|l| l.onset < recording.from && !options.apart.iter().any(|a| **a == *l.class));
    let onsets: Vec<Timestamp> = learned.map(|l| l.onset).collect();
    let named = [
        (
            ("static thresholds", "thresholds"),
            rivals::static_thresholds(&fleet, &LIMITS, WIDTH_MS),
        ),
        (("z-score a series", "z-score"), rivals::z_score(&fleet)),
        (("random cut forest", "forest"), rivals::forest(&fleet)?),
        (
            ("boosted trees on raw windows", "trees"),
            rivals::boosted_trees(&fleet, &spans, &onsets, recording.terms.horizon_ms, recording.from)?,
        ),
    ];
    let (mut rows, mut others, mut base_rate) = (Vec::new(), Vec::new(), 0.0);
    for (name, scores) in &named {
        let (row, other, chance) = of_rival(*name, &recording, &spans, scores, both.figures.false_per_day);
        rows.push(row);
        others.push(other);
        base_rate = chance;
    }
    rows.push(of_figures(
        ("**Foreshock**, nothing stated or learned", "nothing"),
        &unstated.figures,
    ));
    rows.push(of_figures(
        ("the same, `watch`: by its own record, live", "own record"),
        &unstated.watched,
    ));
    rows.push(of_figures(
        ("**Foreshock**, limits stated, no failures learned", "limits"),
        &unlearned.figures,
    ));
    rows.push(of_figures(
        ("the same, `watch`: what runs out, and its own record", "watch"),
        &unlearned.watched,
    ));
    rows.push(of_figures(
        ("**Foreshock**, failures learned: warnings", "learned"),
        &both.figures,
    ));
    if let Some(all) = &both.unusual {
        rows.push(of_figures(("the same, precursors of any grade", "any grade"), all));
    }
    let parts = [
        (("the same without limits stated", "no limits"), &plain, Inputs::Both),
        (("the same on metrics alone", "metrics"), &full, Inputs::Metrics),
        (("the same on logs alone", "logs"), &plain, Inputs::Logs),
    ];
    for (name, config, inputs) in parts {
        rows.push(of_figures(name, &recording.learned(config, inputs, None)?.figures));
    }
    let budgets = at_other_budgets(&recording, &full)?;
    let left_out = if options.leave_out {
        leave_out(&recording, &full, &both)?
    } else {
        Vec::new()
    };
    let f = &both.figures;
    Ok(FleetResult {
        judged: f.scored.clone(),
        days: f.days,
        failures: (onsets.len(), f.recall.of),
        probabilities: both.calibration.clone(),
        rows,
        others,
        base_rate,
        budgets,
        left_out,
    })
}

fn leave_out(recording: &Recording, config: &EngineConfig, with: &Backtested) -> Result<Vec<LeftOut>> {
    let of = |figures: &Figures, class: &str| {
        let row = figures.classes.iter().find(|c| c.class == class && !c.apart);
        row.map_or_else(|| Share::new(0, 0), |c| c.recall)
    };
    let mut all = Vec::new();
    for class in with
        .figures
        .classes
        .iter()
        .filter(|c| !c.apart)
        .map(|c| c.class.clone())
    {
        let without = recording.learned(config, Inputs::Both, Some(&class))?;
        let any = without.unusual.as_ref().context("a model was asked")?;
        all.push(LeftOut {
            any: of(any, &class),
            warned: of(&without.figures, &class),
            warned_with: of(&with.figures, &class),
            false_per_day: any.false_per_day,
            class,
        });
    }
    Ok(all)
}

/// Foreshock with nothing learned, at shares of the budget.
fn at_other_budgets(recording: &Recording, config: &EngineConfig) -> Result<Vec<Row>> {
    let at = |share: f64| {
        let mut config = config.clone();
        config.alarms.budget.false_alarms_per_day *= share;
        let name = format!("{:.0} a day", config.alarms.budget.false_alarms_per_day);
        let row = of_figures(("", "budget"), &recording.backtest(config, Inputs::Both)?.figures);
        Ok(Row { name, ..row })
    };
    OTHER_BUDGETS.map(at).into_iter().collect()
}

fn of_figures((name, short): (&str, &'static str), f: &Figures) -> Row {
    Row {
        name: name.to_owned(),
        short,
        fell_back: false,
        recall: f.recall,
        precision: f.precision,
        false_per_day: f.false_per_day,
        lead_s: f.lead_s.map(|l| l.1),
        chance: f.chance_recall,
        classes: f.classes.iter().map(|c| (c.class.clone(), c.recall)).collect(),
    }
}

/// A rival at the threshold that the first part gives, the same by other rules, and the share of windows that a failure followed.
fn of_rival(
    name: (&str, &'static str),
    recording: &Recording,
    spans: &FailureSpans,
    scores: &Scores,
    false_per_day: f64,
) -> (Row, OtherRules, f64) {
    let (terms, labels) = (&recording.terms, &recording.labels.failures);
    let chosen = choose(terms, labels, scores);
    let at = |threshold| of_figures(name, &evaluate(terms, labels, 0, &alarms(scores, labels, threshold)).0);
    let (average_precision, base_rate) = by_window(terms, spans, scores);
    let hindsight = Sweep::new(terms, labels, scores);
    let row = Row {
        fell_back: chosen.fell_back,
        ..at(chosen.best)
    };
    let other = OtherRules {
        average_precision,
        lowest: chosen.lowest.map(at),
        f1: at(chosen.f1),
        hindsight: hindsight.most_within(false_per_day).map(|f| of_figures(name, f)),
    };
    (row, other, base_rate)
}
