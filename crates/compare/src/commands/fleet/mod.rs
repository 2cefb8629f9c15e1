//! `fleet`: who foretells the failures of a recorded fleet, ours beside simple rivals, all judged by the code of `backtest`.
//!
//! The first 60 % of the failures are what anything may be learned and chosen from; the rest is judged. Rivals give a score a
//! window; a precursor opens where it passes a threshold, and closes after a minute below half of it. The threshold is chosen on the
//! first part: of those within the budget and right four times of five, the one that foretells most; where there is none, the one
//! of the best F1, and the table says so.

mod rivals;
mod windows;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use foreshock_domain::{Entity, Grade, Millis, Timestamp};
use foreshock_engine::{EngineConfig, LogConfig, SourceConfig, TopicId, Windows};
use foreshock_failure::{FailureConfig, Rules};
use foreshock_history::backtest::collect::{Alert, Before, Collected, Episode};
use foreshock_history::backtest::evaluate::{Figures, Share, Terms, evaluate};
use foreshock_history::backtest::{Backtest, Backtested};
use foreshock_history::dump::Dump;
use foreshock_history::labels::{Label, Labels};
use foreshock_history::train::Training;
use foreshock_history::train::judge::RowFigures;
use foreshock_history::train::rows::FailureSpans;
use foreshock_stats::{EpisodeParams, EpisodeStep};
use foreshock_wire::Format;
use serde::Serialize;

use crate::table::Table;
use rivals::{Limits, Scores};
use windows::Fleet;

const WIDTH_MS: Millis = 5_000;
/// Share of the failures that may be learned from.
const LEARNED: f64 = 0.6;
/// Thresholds tried, as quantiles of the scores of the first part.
const THRESHOLDS: u32 = 60;
const PRECISION_MIN: f64 = 0.8;
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
    /// Least lead in seconds that is worth something, where a failure has none of its own
    #[arg(long, default_value_t = 30)]
    pub lead_s: u32,
    /// How far ahead a warning counts, in seconds; the longest growth of a fault, so that no warning of one comes too early
    #[arg(long, default_value_t = 480)]
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

/// One row of the table.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Who.
    pub name: String,
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
    /// Failures learned from and judged.
    pub failures: (usize, usize),
    /// Who and how well.
    pub rows: Vec<Row>,
    /// Classes by the model of metrics and logs.
    pub classes: Vec<(String, Share)>,
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
        let from = *onsets
            .get(place.saturating_sub(1))
            .context("failures.csv: expected failures")?
            + 1;
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
    let source = |topic: &str, format| SourceConfig {
        topic: topic.into(),
        format,
        entity: vec!["host".into()],
        sessions: None,
        log: LogConfig::default(),
    };
    let rules = r#"{"cooldown_s": 20, "probe": [{"name": "shop_sells", "series": "probe_up", "windows": 2}]}"#;
    let rules: FailureConfig = serde_json::from_str(rules)?;
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
    let fleet = Fleet::read(&recording.metrics, &recording.logs, WIDTH_MS)?;
    let spans = FailureSpans::new(&recording.labels.failures, &options.apart);
    let mut rows = vec![of_rival(
        "static thresholds",
        &recording,
        &rivals::static_thresholds(&fleet, &LIMITS, WIDTH_MS),
    )];
    rows.push(of_rival("z-score a series", &recording, &rivals::z_score(&fleet)));
    rows.push(of_rival("random cut forest", &recording, &rivals::forest(&fleet)?));
    let trees = rivals::boosted_trees(&fleet, &spans, recording.terms.horizon_ms, recording.from)?;
    rows.push(of_rival("boosted trees on raw windows", &recording, &trees));
    let (plain, full) = (config(options, false)?, config(options, true)?);
    let unlearned = recording.backtest(plain.clone(), Inputs::Both)?;
    rows.push(of_figures(
        "**Foreshock**, nothing stated or learned",
        &unlearned.figures,
    ));
    let unlearned = recording.backtest(full.clone(), Inputs::Both)?;
    rows.push(of_figures(
        "**Foreshock**, limits stated, no failures learned",
        &unlearned.figures,
    ));
    let both = recording.learned(&full, Inputs::Both, None)?;
    rows.push(of_figures("**Foreshock**, failures learned: warnings", &both.figures));
    if let Some(all) = &both.unusual {
        rows.push(of_figures("the same, precursors of any grade", all));
    }
    let parts = [
        ("the same without limits stated", &plain, Inputs::Both),
        ("the same on metrics alone", &full, Inputs::Metrics),
        ("the same on logs alone", &plain, Inputs::Logs),
    ];
    for (name, config, inputs) in parts {
        rows.push(of_figures(name, &recording.learned(config, inputs, None)?.figures));
    }
    let left_out = if options.leave_out {
        leave_out(&recording, &full, &both)?
    } else {
        Vec::new()
    };
    let f = &both.figures;
    let learned = recording
        .labels
        .failures
        .iter()
        .filter(|l| l.onset < recording.from && !options.apart.iter().any(|a| **a == *l.class));
    Ok(FleetResult {
        judged: f.scored.clone(),
        failures: (learned.count(), f.recall.of),
        classes: f.classes.iter().map(|c| (c.class.clone(), c.recall)).collect(),
        probabilities: both.calibration.clone(),
        rows,
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

fn of_figures(name: &str, f: &Figures) -> Row {
    Row {
        name: name.to_owned(),
        fell_back: false,
        recall: f.recall,
        precision: f.precision,
        false_per_day: f.false_per_day,
        lead_s: f.lead_s.map(|l| l.1),
        chance: f.chance_recall,
    }
}

/// A rival at the threshold that the first part gives.
fn of_rival(name: &str, recording: &Recording, scores: &Scores) -> Row {
    let (threshold, fell_back) = choose(recording, scores);
    let collected = alarms(scores, &recording.labels.failures, threshold);
    let (figures, _) = evaluate(&recording.terms, &recording.labels.failures, 0, &collected);
    Row {
        fell_back,
        ..of_figures(name, &figures)
    }
}

/// The threshold, and whether it had to be chosen by F1. Sees scores and failures of the first part alone.
fn choose(recording: &Recording, scores: &Scores) -> (f64, bool) {
    let until = recording.from;
    let first: Scores = scores
        .iter()
        .map(|(host, s)| (host.clone(), s.iter().filter(|(at, _)| *at < until).copied().collect()))
        .collect();
    let labels: Vec<Label> = recording
        .labels
        .failures
        .iter()
        .filter(|f| f.onset < until)
        .cloned()
        .collect();
    let terms = Terms {
        from: Timestamp::MIN,
        ..recording.terms.clone()
    };
    let mut all: Vec<f64> = first.values().flatten().map(|(_, s)| *s).filter(|s| *s > 0.0).collect();
    all.sort_by(f64::total_cmp);
    // Denser towards the top, where alarms are rare enough.
    let quantile = |i: u32| {
        let rest = 0.5 * 0.88_f64.powi(i32::try_from(i).unwrap_or(0));
        all.get(((1.0 - rest) * all.len() as f64) as usize).copied()
    };
    let mut thresholds: Vec<f64> = (0..THRESHOLDS).filter_map(quantile).collect();
    thresholds.dedup();
    let mut best: Option<(usize, f64)> = None;
    let mut fallback = (-1.0, all.last().copied().unwrap_or(1.0));
    for threshold in thresholds {
        let (f, _) = evaluate(&terms, &labels, 0, &alarms(&first, &labels, threshold));
        let (recall, precision) = (f.recall.share.unwrap_or(0.0), f.precision.share.unwrap_or(0.0));
        if f.false_per_day <= terms.budget_per_day
            && precision >= PRECISION_MIN
            && f.recall.hits > 0
            && best.is_none_or(|b| f.recall.hits >= b.0)
        {
            best = Some((f.recall.hits, threshold));
        }
        let f1 = 2.0 * recall * precision / (recall + precision).max(f64::MIN_POSITIVE);
        if f1 > fallback.0 {
            fallback = (f1, threshold);
        }
    }
    best.map_or((fallback.1, true), |b| (b.1, false))
}

/// Precursors of a score at a threshold; begun anew after each failure.
fn alarms(scores: &Scores, labels: &[Label], threshold: f64) -> Collected {
    let params = EpisodeParams {
        stay_share: 0.5,
        close_after_ms: 60_000,
        refractory_ms: 60_000,
        escalate_by: f64::INFINITY,
    };
    let mut collected = Collected {
        before: vec![Before::default(); labels.len()],
        ..Collected::default()
    };
    let mut failures: BTreeMap<&str, Vec<&Label>> = BTreeMap::new();
    for label in labels {
        failures.entry(label.entity.as_str()).or_default().push(label);
    }
    for (host, scores) in scores {
        let (Some(first), Some(last)) = (scores.first(), scores.last()) else {
            continue;
        };
        let entity = Entity::new(host);
        collected.spans.insert(entity.clone(), (first.0, last.0));
        let own = failures.get(host.as_str()).map_or(&[][..], Vec::as_slice);
        let mut episode = foreshock_stats::Episode::default();
        for (at, score) in scores {
            if own.iter().any(|f| f.onset <= *at && *at <= f.end.unwrap_or(f.onset)) {
                episode = foreshock_stats::Episode::default();
                continue;
            }
            if episode.step(&params, at.as_millis(), *score, threshold) == EpisodeStep::Opened {
                collected.episodes.push(Episode {
                    entity: entity.clone(),
                    alerts: vec![Alert {
                        at: *at,
                        score: *score,
                        grade: Grade::Info,
                        probability: None,
                    }],
                    ended: None,
                    why: String::new(),
                    kinds: Vec::new(),
                });
            }
        }
    }
    collected.episodes.sort_by_key(|e| e.alerts[0].at);
    collected
}

fn share(s: &Share) -> String {
    s.share.map_or_else(
        || "none".into(),
        |x| {
            format!(
                "{:.0} % ({} of {}, {:.0} to {:.0} %)",
                x * 100.0,
                s.hits,
                s.of,
                s.low * 100.0,
                s.high * 100.0
            )
        },
    )
}

/// The tables.
#[must_use]
pub fn table(result: &FleetResult) -> String {
    let mut table = Table::new(&[
        "who",
        "failures foretold",
        "by chance",
        "precursors that came true",
        "false a day",
        "median lead",
    ]);
    for row in &result.rows {
        table.row(vec![
            format!("{}{}", row.name, if row.fell_back { " *" } else { "" }),
            share(&row.recall),
            format!("{:.0} %", row.chance * 100.0),
            share(&row.precision),
            format!("{:.0}", row.false_per_day),
            row.lead_s.map_or_else(|| "-".into(), |s| format!("{s:.0} s")),
        ]);
    }
    let mut classes = Table::new(&["class", "warned of"]);
    for (class, recall) in &result.classes {
        classes.row(vec![class.clone(), share(recall)]);
    }
    let mut out = format!(
        "Learned from {} failures, judged on {}, {} to {}.\n\n{table}\n\\* No threshold kept the budget and was right four times of five on the \
         first part; the one of the best F1 was taken.\n\n### By class, failures learned\n\n{classes}\n",
        result.failures.0, result.failures.1, result.judged.0, result.judged.1
    );
    if let Some(p) = &result.probabilities {
        out += &format!(
            "Probabilities by window: average precision {:.3} (chance {:.3}), Brier score {:.4} (chance {:.4}), reliability error {:.3}.\n",
            p.average_precision, p.base_rate, p.brier, p.brier_of_base_rate, p.reliability_error
        );
    }
    if !result.left_out.is_empty() {
        let mut left = Table::new(&[
            "class left out",
            "any precursor",
            "warned of",
            "warned of when learned",
            "false of any grade a day",
        ]);
        for l in &result.left_out {
            left.row(vec![
                l.class.clone(),
                share(&l.any),
                share(&l.warned),
                share(&l.warned_with),
                format!("{:.0}", l.false_per_day),
            ]);
        }
        out += &format!("\n### Each class left out of what is learned\n\n{left}\n");
    }
    out
}

/// The page of the documentation.
///
/// # Errors
/// Where it can't be written.
pub fn write(path: &Path, options: &Options, result: &FleetResult) -> Result<()> {
    let page = format!(
        "# Who foretells the failures of a fleet\n\nA page made by `foreshock-compare fleet`. All are judged by the code of `foreshock backtest` on the \
         same recording: a failure is foretold where a precursor opens (or escalates) at least a quarter of the fault's growth time \
         and at most {} s before it. Nothing is point-adjusted; intervals are Wilson's at 95 %. Everybody may have {} false alarms a day in \
         this fleet of compressed time, in which each store fails several times an hour.\n\nRivals: thresholds as people write them (a core at \
         90 %, memory and volume at 80 % of their limits, an ERROR line, half a second of response time); the largest |z| of a host's series \
         (exponentially weighted); a random cut forest a host (50 trees); boosted trees on raw windows (forust, last value, mean and slope of \
         a minute of each series, lines by level), learned from the same failures as ours.\n\n{}",
        options.horizon_s,
        options.budget,
        table(result)
    );
    std::fs::write(path, page).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(i: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + 5_000 * i)
    }

    fn recording(labels: Vec<Label>) -> Recording {
        Recording {
            metrics: PathBuf::new(),
            logs: PathBuf::new(),
            labels: Labels::settle(labels),
            from: at(600),
            terms: Terms {
                lead_ms: 10_000,
                horizon_ms: 120_000,
                from: at(600),
                apart: Vec::new(),
                budget_per_day: 1e6,
            },
        }
    }

    fn label(i: i64) -> Label {
        Label {
            entity: Entity::new("h"),
            class: "x".into(),
            onset: at(i),
            end: Some(at(i + 4)),
            lead_ms: None,
        }
    }

    /// Rises before each failure of the first part.
    fn scores(later: f64) -> Scores {
        let score = |i: i64| {
            let rises = [200, 400].iter().any(|f| (f - 15..*f).contains(&i));
            if i >= 600 {
                later * (i % 7) as f64
            } else if rises {
                9.0
            } else {
                1.0 + (i % 5) as f64 * 0.1
            }
        };
        [("h".to_owned(), (0..1_000).map(|i| (at(i), score(i))).collect())].into()
    }

    #[test]
    fn the_threshold_sees_the_first_part_alone() {
        let known = recording(vec![label(200), label(400), label(800)]);
        let other = recording(vec![label(200), label(400), label(700), label(900)]);
        let chosen = choose(&known, &scores(1.0));
        assert_eq!(chosen, choose(&other, &scores(50.0)));
        assert!(!chosen.1 && chosen.0 > 1.4, "{chosen:?}");
        // It depends on what it may see.
        let moved = recording(vec![label(260), label(450), label(800)]);
        assert_ne!(chosen, choose(&moved, &scores(1.0)));
    }

    #[test]
    fn an_alarm_before_a_failure_is_a_hit() {
        let recording = recording(vec![label(200), label(400), label(800)]);
        let collected = alarms(&scores(0.0), &recording.labels.failures, 5.0);
        let terms = Terms {
            from: Timestamp::MIN,
            ..recording.terms
        };
        let (f, _) = evaluate(&terms, &recording.labels.failures, 0, &collected);
        assert_eq!((f.recall.hits, f.precision.hits, f.precision.of), (2, 2, 2));
    }
}
