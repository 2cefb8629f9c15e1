//! `injected`: every method on the injected anomalies, by kind.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use crate::corpus::injected::{Half, Kind, Series, Variant, set};
use crate::measures::events::{Ranked, best_f1, found_at_false_rate, outcome};
use crate::measures::vus_pr::{BUFFER_MAX, Range, vus_pr};
use crate::parallel::in_parallel;
use crate::rivals::{Method, Shape, surprises};
use crate::selection::Selection;
use crate::table::Table;

/// Surprises fixed beforehand.
const FIXED: [f64; 2] = [3.0, 4.0];
/// Shares of normal rows that may be flagged.
const FALSE_RATES: [f64; 3] = [1e-2, 1e-3, 1e-4];

/// Options of `injected`.
#[derive(Debug, Args)]
pub struct Options {
    /// Which seeds: look at `tune` while choosing, report `report`
    #[arg(long, value_enum, default_value = "report")]
    pub half: Half,
    /// Copies of each kind in each family, with seeds of their own
    #[arg(long, default_value_t = 1)]
    pub copies: u64,
    /// Which methods
    #[command(flatten)]
    pub selection: Selection,
    /// Only these kinds of anomaly, separated by commas
    #[arg(long, value_enum, value_delimiter = ',')]
    pub kinds: Vec<Kind>,
    /// 2 % of the warm-up are unlabelled outliers
    #[arg(long)]
    pub contaminated: bool,
    /// Also prints each kind by family of the base series
    #[arg(long)]
    pub by_family: bool,
}

/// How one method did on one series.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// Name of the method.
    pub method: &'static str,
    /// What was injected.
    pub kind: &'static str,
    /// Family of the base series.
    pub family: &'static str,
    /// Name of the series.
    pub series: String,
    /// VUS-PR.
    pub vus_pr: f64,
    /// Event F1 at the best threshold of the series.
    pub best_f1: f64,
    /// Events.
    pub events: usize,
    /// Events found with at most 1 %, 0.1 % and 0.01 % of normal rows flagged.
    pub found: [usize; 3],
    /// At surprise 3 and 4.
    pub fixed: [Fixed; 2],
    /// For thresholds over many series.
    #[serde(skip)]
    pub ranked: Ranked,
}

/// At a threshold fixed beforehand.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Fixed {
    /// Events found.
    pub found: usize,
    /// False alarms.
    pub false_alarms: usize,
    /// Event F1.
    pub f1: f64,
}

/// Scores every series by every method.
#[must_use]
pub fn measure(options: &Options) -> Vec<Evaluation> {
    let variant = if options.contaminated {
        Variant::Contaminated
    } else {
        Variant::Clean
    };
    let mut set = set(options.half, options.copies, variant);
    set.retain(|s| options.kinds.is_empty() || options.kinds.contains(&s.kind));
    let methods = options.selection.methods();
    let jobs: Vec<(&Series, Method)> = set.iter().flat_map(|s| methods.iter().map(move |&m| (s, m))).collect();
    in_parallel(&jobs, "injected", |(series, method)| evaluate(series, *method))
}

/// One score a row.
#[must_use]
pub fn scores(series: &Series, method: Method) -> Vec<f64> {
    let mut scorer = method.scorer(Shape {
        metrics: series.metrics,
        period: series.period,
    });
    series
        .rows()
        .map(|(at, values)| scorer.score_learn(at, values))
        .collect()
}

fn evaluate(series: &Series, method: Method) -> Evaluation {
    let scores = scores(series, method);
    let surprises = &surprises(method, &scores)[series.warm_up..];
    let scores = &scores[series.warm_up..];
    let events: Vec<Range> = series
        .events
        .iter()
        .map(|e| (e.first - series.warm_up, e.last - series.warm_up))
        .collect();
    let buffer = series.period.unwrap_or(BUFFER_MAX).min(BUFFER_MAX);
    let fixed = FIXED.map(|threshold| {
        let outcome = outcome(surprises, &events, threshold);
        Fixed {
            found: outcome.found,
            false_alarms: outcome.false_alarms,
            f1: outcome.f1(),
        }
    });
    let ranked = Ranked::new(surprises, &events);
    Evaluation {
        method: method.name(),
        kind: series.kind.name(),
        family: series.family,
        series: series.name.clone(),
        vus_pr: vus_pr(scores, &events, buffer).unwrap_or(f64::NAN),
        best_f1: best_f1(scores, &events),
        events: events.len(),
        found: FALSE_RATES.map(|rate| found_at_false_rate(scores, &events, rate)),
        fixed,
        ranked,
    }
}

/// A figure of a group of evaluations.
pub type Figure = fn(&[&Evaluation]) -> Option<f64>;

fn mean(group: &[&Evaluation], of: impl Fn(&Evaluation) -> f64) -> Option<f64> {
    (!group.is_empty()).then(|| group.iter().map(|e| of(e)).sum::<f64>() / group.len() as f64)
}

fn share(group: &[&Evaluation], of: impl Fn(&Evaluation) -> usize) -> Option<f64> {
    let events: usize = group.iter().map(|e| e.events).sum();
    (events > 0).then(|| group.iter().map(|e| of(e)).sum::<usize>() as f64 / events as f64)
}

/// Titles of the tables and what is in them.
pub const FIGURES: [(&str, Figure); 6] = [
    ("VUS-PR", |g| mean(g, |e| e.vus_pr)),
    ("Event F1, best threshold of each series", |g| mean(g, |e| e.best_f1)),
    ("Event F1 at surprise 3", |g| mean(g, |e| e.fixed[0].f1)),
    ("Event F1 at surprise 4", |g| mean(g, |e| e.fixed[1].f1)),
    ("Events found with 1 % of normal rows flagged", |g| {
        share(g, |e| e.found[0])
    }),
    ("Events found with 0.1 % of normal rows flagged", |g| {
        share(g, |e| e.found[1])
    }),
];

/// One table a figure: a row a method, a column a kind, and the mean over kinds.
#[must_use]
pub fn tables(evaluations: &[Evaluation]) -> String {
    let mut out = String::new();
    for (title, figure) in FIGURES {
        out += &format!("### {title}\n\n{}\n", table(evaluations, figure));
    }
    out
}

fn table(evaluations: &[Evaluation], figure: Figure) -> Table {
    let mut header = vec!["method"];
    header.extend(present_kinds(evaluations));
    header.push("mean");
    let mut table = Table::new(&header);
    for (method, figures) in by_kind(evaluations, figure) {
        let mean = figures.iter().sum::<f64>() / figures.len() as f64;
        let mut cells = vec![method];
        cells.extend(figures.iter().chain([&mean]).map(|x| format!("{x:.3}")));
        table.row(cells);
    }
    table
}

/// A figure of each method, of each kind that occurs.
#[must_use]
pub fn by_kind(evaluations: &[Evaluation], figure: Figure) -> Vec<(String, Vec<f64>)> {
    let kinds = present_kinds(evaluations);
    let of = |method: &'static str| {
        let of_kind = |kind: &&'static str| {
            let group: Vec<&Evaluation> = evaluations
                .iter()
                .filter(|e| e.method == method && e.kind == *kind)
                .collect();
            figure(&group).unwrap_or(f64::NAN)
        };
        (method.to_owned(), kinds.iter().map(of_kind).collect())
    };
    present(evaluations, &names(), |e| e.method)
        .into_iter()
        .map(of)
        .collect()
}

fn present_kinds(evaluations: &[Evaluation]) -> Vec<&'static str> {
    present(evaluations, &Kind::ALL.map(Kind::name), |e| e.kind)
}

/// VUS-PR and events found with 0.1 % of normal rows flagged, of each method, by kind and family.
#[must_use]
pub fn by_family(evaluations: &[Evaluation]) -> String {
    let mut groups: BTreeMap<(&str, &str), Vec<&Evaluation>> = BTreeMap::new();
    for e in evaluations {
        groups.entry((e.kind, e.family)).or_default().push(e);
    }
    let methods = present(evaluations, &names(), |e| e.method);
    let mut header = vec!["kind, family"];
    header.extend(&methods);
    let mut table = Table::new(&header);
    for ((kind, family), group) in groups {
        let mut cells = vec![format!("{kind}, {family}")];
        for method in &methods {
            let of: Vec<&Evaluation> = group.iter().copied().filter(|e| e.method == *method).collect();
            let (vus, found) = (mean(&of, |e| e.vus_pr), share(&of, |e| e.found[1]));
            cells.push(format!(
                "{:.2} {:.2}",
                vus.unwrap_or(f64::NAN),
                found.unwrap_or(f64::NAN)
            ));
        }
        table.row(cells);
    }
    format!("VUS-PR, events found with 0.1 % of normal rows flagged\n\n{table}")
}

/// Names of all methods, in order.
fn names() -> Vec<&'static str> {
    Method::ALL.iter().map(|m| m.name()).collect()
}

/// Those of `all` that occur.
fn present(
    evaluations: &[Evaluation],
    all: &[&'static str],
    of: impl Fn(&Evaluation) -> &'static str,
) -> Vec<&'static str> {
    all.iter()
        .copied()
        .filter(|name| evaluations.iter().any(|e| of(e) == *name))
        .collect()
}
