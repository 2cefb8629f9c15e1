//! The page: everything that one run measured, as Markdown with figures beside it.

mod svg;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::commands::calibration::{self, Calibration};
use crate::commands::injected::{self, Evaluation, FIGURES};
use crate::commands::nab::{self, NabResult};
use crate::commands::speed::{self, Speed};
use crate::corpus::injected::{Half, Kind};
use crate::measures::events::{Ranked, share_found};
use crate::rivals::Method;
use crate::table::Table;

const SETTINGS: &str = include_str!("settings.md");
/// Pinned versions of what rivals are made of.
const LOCK: &str = include_str!("../../../../Cargo.lock");
const PACKAGES: [&str; 3] = ["rcf3", "linfa-clustering", "linfa-linalg"];

/// What one run measured.
#[derive(Debug, Serialize)]
pub struct Results {
    /// Seeds of the injected set.
    #[serde(skip)]
    pub half: Half,
    /// Copies of it.
    pub copies: u64,
    /// Injected anomalies after a clean warm-up.
    pub clean: Vec<Evaluation>,
    /// The same with outliers in the warm-up.
    pub contaminated: Vec<Evaluation>,
    /// The Numenta benchmark.
    pub nab: Vec<NabResult>,
    /// Streams without failures.
    pub calibration: Vec<Calibration>,
    /// Rows a second.
    pub speed: Vec<Speed>,
    /// How long all of it took.
    pub took: Duration,
}

/// Writes the page `README.md` and its figures.
///
/// # Errors
/// When a file can't be written.
pub fn write(folder: &Path, results: &Results) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    let mut files = figures(results);
    files.push(("README.md", page(results)));
    for (name, text) in files {
        let path = folder.join(name);
        let partial = folder.join(format!(".{name}.partial"));
        let written = fs::write(&partial, text).and_then(|()| fs::rename(&partial, &path));
        written.with_context(|| format!("{}", path.display()))?;
    }
    Ok(())
}

fn figures(results: &Results) -> Vec<(&'static str, String)> {
    let ours = Method::Foreshock.name();
    let mut mean = injected::by_kind(&results.clean, FIGURES[0].1);
    let by_kind: Vec<(String, Vec<(String, f64)>)> = Kind::ALL
        .iter()
        .enumerate()
        .map(|(i, kind)| {
            let of =
                |(method, values): &(String, Vec<f64>)| (method.clone(), values.get(i).copied().unwrap_or(f64::NAN));
            (kind.name().to_owned(), mean.iter().map(of).collect())
        })
        .collect();
    let average = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let mut averages: Vec<(String, f64)> = mean.drain(..).map(|(m, v)| (m, average(&v))).collect();
    averages.sort_by(|a, b| b.1.total_cmp(&a.1));
    let nab = results.nab.iter().filter(|r| !r.method.contains("every row"));
    let mut nab: Vec<(String, f64)> = nab.map(|r| (r.method.clone(), r.held_out.mean)).collect();
    nab.sort_by(|a, b| b.1.total_cmp(&a.1));
    vec![
        (
            "vus_pr.svg",
            svg::bars("VUS-PR, injected anomalies, mean over kinds", ours, &averages),
        ),
        (
            "kinds.svg",
            svg::dots("VUS-PR by kind of anomaly, a dot a method", ours, &by_kind),
        ),
        (
            "nab.svg",
            svg::bars(
                "Numenta benchmark, standard profile, threshold of other files",
                ours,
                &nab,
            ),
        ),
    ]
}

/// Versions of packages as the lock file pins them.
fn versions() -> String {
    let version = |name: &&str| {
        let after = LOCK.split(&format!("name = \"{name}\"\nversion = \"")).nth(1)?;
        Some(format!("{name} {}", after.split('"').next()?))
    };
    let all: Vec<String> = PACKAGES.iter().filter_map(version).collect();
    all.join(", ")
}

fn page(results: &Results) -> String {
    let seeds: Vec<String> = (0..results.copies).map(|i| results.half.seed(i).to_string()).collect();
    let series = results.clean.iter().filter(|e| e.method == Method::Foreshock.name());
    let (count, events) = series.fold((0, 0), |(n, events), e| (n + 1, events + e.events));
    format!(
        "# Comparison\n\n\
         Ours and rivals on the same data in the same run, each rival at its published defaults, everything scored before it \
         is learned. Written by `foreshock-compare all`; nothing here is typed by hand but the words.\n\n\
         foreshock {version}; {versions}; seeds {seeds}, on which nothing was tuned; {count} injected series with {events} \
         events; {seconds} s in all. `chance` scores rows at random: what a measure gives away for free.\n\n\
         ![VUS-PR by method](vus_pr.svg)\n\n![VUS-PR by kind](kinds.svg)\n\n![Numenta benchmark](nab.svg)\n\n\
         ## Injected anomalies\n\n{injected}\
         ## Injected anomalies, with outliers in the warm-up\n\n\
         2 % of the first quarter of each series are unlabelled runs of outliers.\n\n{contaminated}\
         ## What a threshold that was fixed beforehand finds\n\n{fixed}\n\
         Above, `at an equal false rate` is a threshold of each series' own, just above all its normal rows. Below, one threshold \
         for all series takes its place, at which 0.01 % of all normal rows are flagged; `share` may then pass one. In brackets: \
         90 % of samples of as many series, drawn with replacement.\n\n\
         ### One threshold for all series\n\n{one}\n\
         ### One threshold for all series, with outliers in the warm-up\n\n{one_contaminated}\n\
         ## Numenta Anomaly Benchmark\n\n\
         v1.1, 58 files. Alarms are the rows where an event opens or escalates; `every row` is without that rule. `held out`: \
         standard profile, threshold of one random half of the files on the other, 50 splits, ± one standard deviation. \
         `fixed 4`: alarm at surprise 4.\n\n{nab}\n\
         ## Calibration\n\n\
         Share of rows of failure-free streams that reach a surprise, over its nominal share, after a thousand rows; 1.00 is \
         perfect, more is too many alarms. `dirty`: with 2 % of the first thousand rows replaced by runs of outliers. At 1e-4 \
         nine rows are expected, so ±0.3 is chance.\n\n{calibration}\n\
         ## Speed and memory\n\n\
         Score and learn, one thread, series in turn. Each measurement has a process of its own; bytes are what it \
         grew by until it was measured (of a single series that is mostly the allocator's doing).\n\n{speed}\n{SETTINGS}",
        version = env!("CARGO_PKG_VERSION"),
        versions = versions(),
        seeds = seeds.join(", "),
        seconds = results.took.as_secs(),
        injected = injected::tables(&results.clean),
        contaminated = injected::tables(&results.contaminated),
        fixed = fixed(results),
        one = one_threshold(&results.clean),
        one_contaminated = one_threshold(&results.contaminated),
        nab = nab::tables(&results.nab),
        calibration = calibration::table(&results.calibration),
        speed = speed::table(&results.speed),
    )
}

/// Events found at surprise 4, as a share of those found where each series has its own threshold, just above all its normal
/// rows (0.01 % of some three thousand rows is none).
fn fixed(results: &Results) -> Table {
    let mut table = Table::new(&[
        "method",
        "found at surprise 4",
        "at an equal false rate",
        "share",
        "dirty: found at 4",
        "at an equal false rate",
        "share",
    ]);
    for method in Method::ALL {
        let mut cells = vec![method.name().to_owned()];
        for evaluations in [&results.clean, &results.contaminated] {
            let of = || evaluations.iter().filter(|e| e.method == method.name());
            let found: usize = of().map(|e| e.fixed[1].found).sum();
            let possible: usize = of().map(|e| e.found[2]).sum();
            cells.extend([
                found.to_string(),
                possible.to_string(),
                format!("{:.2}", found as f64 / possible as f64),
            ]);
        }
        if !cells.iter().any(|c| c == "NaN") {
            table.row(cells);
        }
    }
    table
}

/// Rates of false rows and events found at surprise 4, beside one threshold for all series at which 0.01 % of the normal
/// rows are flagged.
pub fn one_threshold(evaluations: &[Evaluation]) -> Table {
    let mut table = Table::new(&[
        "method",
        "normal rows flagged at surprise 4",
        "found",
        "surprise that 0.01 % exceed",
        "found above it",
        "share",
    ]);
    for method in Method::ALL {
        let of_method = evaluations.iter().filter(|e| e.method == method.name());
        let series: Vec<&Ranked> = of_method.map(|e| &e.ranked).collect();
        let ranked = Ranked::pooled(series.iter().copied());
        if ranked.rows == 0 {
            continue;
        }
        let (rate, found) = ranked.at(4.0);
        let (threshold, possible) = ranked.found_above(1e-4);
        let (share, [low, high]) = share_found(&series, 4.0, 1e-4);
        table.row(vec![
            method.name().to_owned(),
            format!("{:.4} %", 100.0 * rate),
            found.to_string(),
            format!("{threshold:.2}"),
            possible.to_string(),
            format!("{share:.2} ({low:.2}–{high:.2})"),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_written_with_its_figures_and_nothing_half() {
        let clean = injected::measure(&injected::Options {
            half: Half::Tune,
            copies: 1,
            selection: crate::selection::Selection::default(),
            kinds: vec![Kind::Correlation],
            contaminated: false,
            by_family: false,
        });
        let results = Results {
            half: Half::Tune,
            copies: 1,
            contaminated: clean.clone(),
            clean,
            nab: Vec::new(),
            calibration: Vec::new(),
            speed: Vec::new(),
            took: Duration::from_secs(7),
        };
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &results).unwrap();
        let page = fs::read_to_string(folder.path().join("README.md")).unwrap();
        assert!(page.contains("16 injected series") && page.contains("seeds 1000,") && page.contains("7 s in all"));
        for table in [
            "### One threshold for all series\n\n| method",
            "series, with outliers in the warm-up\n\n| method",
        ] {
            assert!(page.contains(table), "{table}");
        }
        for figure in ["vus_pr.svg", "kinds.svg", "nab.svg"] {
            assert!(page.contains(figure) && folder.path().join(figure).exists());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    }

    #[test]
    fn every_rival_is_pinned() {
        let versions = versions();
        for package in PACKAGES {
            assert!(versions.contains(&format!("{package} ")), "{versions}");
        }
    }
}
