//! `nab`: every method on the Numenta Anomaly Benchmark.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use foreshock_history::alert_rule::{AlertRule, Alerts};
use serde::Serialize;

use crate::corpus::nab::{self, NabFile};
use crate::measures::MeanSd;
use crate::measures::nab::{PROFILES, RatedFile, at_threshold, best, blind_alarms, held_out, rate};
use crate::parallel::in_parallel;
use crate::rivals::{Method, Shape, surprises};
use crate::selection::Selection;
use crate::table::Table;

/// Rows between two blind alarms.
const BLIND_EVERY: usize = 600;
/// Surprise fixed beforehand.
const FIXED: f64 = 4.0;
const SPLITS: usize = 50;
const SEED: u64 = 20_261_125;

/// Options of `nab`.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder with `data/<category>/<file>.csv` and `labels/combined_windows.json`
    pub folder: PathBuf,
    /// Which methods
    #[command(flatten)]
    pub selection: Selection,
    /// Also prints, for the standard profile, windows found and false alarms of each file
    #[arg(long)]
    pub per_file: bool,
}

/// Figures of one method.
#[derive(Clone, Debug, Serialize)]
pub struct NabResult {
    /// Name of the method.
    pub method: String,
    /// Best score of each profile, threshold in sample.
    pub best: [f64; 3],
    /// The thresholds.
    pub thresholds: [f64; 3],
    /// Standard score with the threshold of the other half of the files.
    pub held_out: MeanSd,
    /// Score of each profile at surprise 4.
    pub fixed: [f64; 3],
    /// Standard score of each category at the corpus-wide best threshold.
    pub categories: BTreeMap<String, f64>,
}

/// A method's figures and what they were made of.
pub struct Rated {
    /// Figures.
    pub result: NabResult,
    files: Vec<RatedFile>,
}

/// Scores of one method on one file: of every row, and where an event opens or escalates.
fn scores(method: Method, file: &NabFile) -> (Vec<f64>, Vec<f64>) {
    let mut scorer = method.scorer(Shape {
        metrics: 1,
        period: file.day(),
    });
    let mut novelties = Vec::new();
    let rows = file.at.iter().zip(&file.values);
    let scores: Vec<f64> = rows
        .map(|(&at, &value)| {
            let score = scorer.score_learn(at, &[value]);
            novelties.extend(scorer.novelty());
            score
        })
        .collect();
    let surprises = surprises(method, &scores);
    let (rule, mut alerts) = (AlertRule::default(), Alerts::default());
    let told = if novelties.is_empty() { &surprises } else { &novelties };
    let alerts = told.iter().map(|&surprise| alerts.step(&rule, surprise)).collect();
    (surprises, alerts)
}

/// Scores all methods.
///
/// # Errors
/// When the corpus can't be read.
pub fn measure(options: &Options) -> Result<Vec<Rated>> {
    let corpus = nab::read(&options.folder)?;
    let mut methods = options.selection.methods();
    // Blind alarms are the harder control.
    methods.retain(|&m| m != Method::Chance);
    let jobs: Vec<(Method, &NabFile)> = methods
        .iter()
        .flat_map(|&m| corpus.iter().map(move |f| (m, f)))
        .collect();
    let mut scored = in_parallel(&jobs, "nab", |(method, file)| scores(*method, file)).into_iter();
    let mut named: Vec<(String, Vec<Vec<f64>>)> = Vec::new();
    for method in &methods {
        let (rows, alerts) = scored.by_ref().take(corpus.len()).unzip();
        named.push((method.name().to_owned(), alerts));
        if options.selection.rivals {
            named.push((format!("{}, every row", method.name()), rows));
        }
    }
    let blind = corpus.iter().map(|f| blind_alarms(f.at.len(), BLIND_EVERY)).collect();
    named.push((format!("an alarm every {BLIND_EVERY} rows"), blind));
    Ok(in_parallel(&named, "nab", |(name, scores)| {
        figures(name, &corpus, scores)
    }))
}

fn figures(method: &str, corpus: &[NabFile], scores: &[Vec<f64>]) -> Rated {
    let files: Vec<RatedFile> = corpus.iter().zip(scores).map(|(f, s)| rate(s, &f.windows)).collect();
    let all: Vec<&RatedFile> = files.iter().collect();
    let chosen = PROFILES.map(|p| best(&all, &p));
    let mut by_category: BTreeMap<String, Vec<&RatedFile>> = BTreeMap::new();
    for (file, rated) in corpus.iter().zip(&files) {
        by_category.entry(file.category().to_owned()).or_default().push(rated);
    }
    let categories = by_category
        .iter()
        .filter(|(_, files)| files.iter().any(|f| f.live() > 0));
    let result = NabResult {
        method: method.to_owned(),
        best: chosen.map(|c| c.score),
        thresholds: chosen.map(|c| c.threshold),
        held_out: held_out(&all, &PROFILES[0], SPLITS, SEED),
        fixed: PROFILES.map(|p| at_threshold(&all, &p, FIXED)),
        categories: categories
            .map(|(name, files)| (name.clone(), at_threshold(files, &PROFILES[0], chosen[0].threshold)))
            .collect(),
    };
    Rated { result, files }
}

/// The tables of the page.
#[must_use]
pub fn tables(results: &[NabResult]) -> String {
    let names = PROFILES.map(|p| p.name);
    let fixed = names.map(|name| format!("fixed 4: {name}"));
    let mut header = vec!["method"];
    header.extend(names);
    header.push("held out");
    header.extend(fixed.iter().map(String::as_str));
    let mut scores = Table::new(&header);
    for r in results {
        let mut cells = vec![r.method.clone()];
        cells.extend(r.best.map(|x| format!("{x:.2}")));
        cells.push(format!("{:.1} ± {:.1}", r.held_out.mean, r.held_out.sd));
        cells.extend(r.fixed.map(|x| format!("{x:.2}")));
        scores.row(cells);
    }
    let names: Vec<&String> = results
        .first()
        .map(|r| r.categories.keys().collect())
        .unwrap_or_default();
    let mut header = vec!["method"];
    header.extend(names.iter().map(|n| n.as_str()));
    let mut categories = Table::new(&header);
    for r in results {
        let mut cells = vec![r.method.clone()];
        cells.extend(
            names
                .iter()
                .map(|n| r.categories.get(*n).map_or_else(String::new, |x| format!("{x:.1}"))),
        );
        categories.row(cells);
    }
    format!("{scores}\n{categories}")
}

/// Windows found and false alarms of each file at the best threshold of the standard profile.
///
/// # Errors
/// When the corpus can't be read.
pub fn per_file(options: &Options, rated: &Rated) -> Result<String> {
    let mut table = Table::new(&["file", "windows found", "false alarms"]);
    for (file, rated_file) in nab::read(&options.folder)?.iter().zip(&rated.files) {
        let (found, false_alarms) = rated_file.outcome(rated.result.thresholds[0]);
        table.row(vec![
            file.name.clone(),
            format!("{found}/{}", rated_file.live()),
            false_alarms.to_string(),
        ]);
    }
    Ok(table.to_string())
}
