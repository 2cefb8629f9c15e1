//! `trainticket`: faults injected into the pods of a microservice system, found in the right pod within five minutes.
//!
//! Three answers are compared at equal alarm rates: each pod's series by themselves, relations and regimes alone, and both.
//! The threshold of a rate is chosen on the quiet hours after the last fault, without a look at the faults. A pod alarms in
//! a row where one of its signals (a series, or a relation by its first culprit) reaches the threshold that has not done so
//! for [`REFRACTORY_ROWS`] rows: memory that grows for hours, as it does here, is one alarm and hides no other. A signal
//! counts less the logarithm of the number of signals. Chance is what the same alarms would find in the other pods in the
//! same minutes, so that a detector that alarms everywhere gains nothing.
//!
//! The recording begins with the faults, twelve minutes before the first: a model that starts with it is still silent or
//! young. `--quiet-first` puts the quiet hours in front, with times moved, as if the system had been watched before.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use foreshock_domain::{Detector, Learning, SeriesId, Timestamp};
use foreshock_metrics::{EntityAnswer, EntityModel, Point, SeriesModel, SeriesValue};
use foreshock_stats::harmonic_mean_surprise;
use serde::Serialize;

use crate::table::Table;

/// A fault is found in this time, s.
const FOUND_WITHIN_S: i64 = 300;
/// Nothing counts as quiet until this long after a fault, s.
const ECHO_S: i64 = 1_800;
/// Rows of a signal below the threshold after which it may alarm again.
const REFRACTORY_ROWS: usize = 10;
/// False alarms an hour over all pods.
const RATES: [f64; 4] = [1.0, 4.0, 12.0, 40.0];
/// Rows of a pod that don't count for calibration.
const YOUNG_ROWS: usize = 200;

/// Options of `trainticket`.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder with `faults.csv` and `metrics.csv.gz`
    pub folder: PathBuf,
    /// Learns from the quiet hours before the faults are replayed
    #[arg(long)]
    pub quiet_first: bool,
}

/// Figures of one answer.
#[derive(Clone, Debug, Serialize)]
pub struct TrainTicketResult {
    /// Which answer.
    pub answer: &'static str,
    /// Realised over nominal share of quiet rows at 1e-2 and 1e-3.
    pub calibration: [f64; 2],
    /// At each rate.
    pub at: Vec<AtRate>,
}

/// What is found at one alarm rate.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct AtRate {
    /// False alarms an hour over all pods, as chosen and as realised on the quiet hours.
    pub rate: f64,
    /// As realised.
    pub realised: f64,
    /// Surprise.
    pub threshold: f64,
    /// Faults found in the right pod.
    pub found: usize,
    /// Faults for which the models had warmed up (more than 64 rows).
    pub found_warm: usize,
    /// How many such faults there are.
    pub warm: usize,
    /// Faults that chance finds: mean over the other pods.
    pub chance: f64,
    /// All faults.
    pub faults: usize,
}

struct Fault {
    at: i64,
    pod: String,
}

/// Rows of one pod in time order: second, and the values by metric.
type PodRows = BTreeMap<i64, Vec<(SeriesId, f64)>>;

/// What one row of a pod says.
struct Scored {
    at: i64,
    row: usize,
    /// Fused surprise of each answer.
    answers: [f64; 3],
    /// Each answer's signals: which, and its surprise less the logarithm of their number.
    signals: [Vec<(u64, f64)>; 3],
}

/// Added to the id of a relation's first culprit.
const RELATION: u64 = 1 << 32;

const ANSWERS: [&str; 3] = ["series alone", "relations and regimes", "together"];

/// Reads, scores and rates.
///
/// # Errors
/// When a file is missing or is not what it should be.
pub fn measure(options: &Options) -> Result<Vec<TrainTicketResult>> {
    let faults = read_faults(&options.folder.join("faults.csv"))?;
    let Some(last_fault) = faults.iter().map(|f| f.at).max() else {
        bail!("faults.csv: expected at least one fault");
    };
    let quiet_from = last_fault + ECHO_S;
    let pods = read_metrics(&options.folder.join("metrics.csv.gz"))?;
    let scored: BTreeMap<&str, Vec<Scored>> = pods
        .iter()
        .map(|(pod, rows)| (pod.as_str(), score(rows, options.quiet_first.then_some(quiet_from))))
        .collect();
    Ok((0..ANSWERS.len())
        .map(|answer| TrainTicketResult {
            answer: ANSWERS[answer],
            calibration: calibration(&scored, answer, quiet_from),
            at: RATES
                .iter()
                .map(|&rate| at_rate(&scored, &faults, answer, quiet_from, rate))
                .collect(),
        })
        .collect())
}

fn gunzipped(path: &Path) -> Result<impl Read> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    Ok(flate2::read::MultiGzDecoder::new(BufReader::new(file)))
}

fn read_faults(path: &Path) -> Result<Vec<Fault>> {
    let mut csv = csv::Reader::from_path(path).with_context(|| path.display().to_string())?;
    csv.deserialize()
        .map(|row| {
            let (at, pod, _kind): (i64, String, String) = row?;
            Ok(Fault { at, pod })
        })
        .collect()
}

fn read_metrics(path: &Path) -> Result<BTreeMap<String, PodRows>> {
    let mut csv = csv::Reader::from_reader(gunzipped(path)?);
    let mut ids: BTreeMap<String, u64> = BTreeMap::new();
    let mut pods: BTreeMap<String, PodRows> = BTreeMap::new();
    let mut record = csv::StringRecord::new();
    while csv.read_record(&mut record)? {
        let (Some(at), Some(pod), Some(metric)) = (record.get(0), record.get(1), record.get(2)) else {
            bail!("{}: expected timestamp, pod, metric, value", path.display());
        };
        let next = ids.len() as u64;
        let id = *ids.entry(metric.to_owned()).or_insert(next);
        let value = record.get(3).and_then(|v| v.parse().ok()).unwrap_or(f64::NAN);
        let rows = pods.entry(pod.to_owned()).or_default();
        rows.entry(at.parse()?).or_default().push((SeriesId(id), value));
    }
    Ok(pods)
}

/// Scores a pod's rows, then learns them. With `quiet_from` the rows from there on come first, and the others after them.
fn score(rows: &PodRows, quiet_from: Option<i64>) -> Vec<Scored> {
    let mut model = EntityModel::new();
    let mut singles: BTreeMap<SeriesId, SeriesModel> = BTreeMap::new();
    let mut answer = EntityAnswer::default();
    let mut values = Vec::new();
    let last = rows.keys().next_back().copied().unwrap_or(0);
    let first = rows.keys().next().copied().unwrap_or(0);
    let order: Vec<(i64, i64)> = match quiet_from {
        None => rows.keys().map(|&at| (at, at)).collect(),
        Some(from) => {
            let moved = rows.range(..from).map(|(&at, _)| (at, at + last + 60 - first));
            rows.range(from..).map(|(&at, _)| (at, at)).chain(moved).collect()
        }
    };
    let score_row = |(row, (at, shown)): (usize, (i64, i64))| {
        let listed = rows.get(&at).map_or(&[][..], Vec::as_slice);
        values.clear();
        values.extend(listed.iter().map(|&(series, value)| SeriesValue { series, value }));
        let time = Timestamp::from_secs(shown);
        model.score_learn(time, &values, Learning::Normal, &mut answer);
        let mut own: Vec<(u64, f64)> = Vec::with_capacity(values.len());
        for v in &values {
            let single = singles.entry(v.series).or_insert_with(|| SeriesModel::new(None));
            let point = Point {
                at: time,
                value: v.value,
            };
            let verdict = single.score_learn(&point, Learning::Normal);
            own.extend(verdict.map(|verdict| (v.series.0, verdict.score.surprise())));
        }
        let culprit = answer.shares.first().map_or(RELATION, |s| RELATION + s.series.0);
        let correlation = answer.correlation.map(|s| (culprit, s.surprise()));
        let explained = answer
            .explained
            .iter()
            .map(|e| (e.series.0, e.verdict.score.surprise()));
        let relations: Vec<(u64, f64)> = explained.clone().chain(correlation).collect();
        let mut together = own.clone();
        for e in explained {
            if let Some(o) = together.iter_mut().find(|o| o.0 == e.0) {
                o.1 = e.1;
            }
        }
        together.extend(correlation);
        let signals = [own, relations, together];
        Scored {
            at,
            row,
            answers: std::array::from_fn(|i| {
                harmonic_mean_surprise(signals[i].iter().map(|s| s.1), signals[i].len() as u32)
            }),
            signals: signals.map(|all| {
                let cost = (all.len().max(1) as f64).log10();
                all.into_iter().map(|(id, surprise)| (id, surprise - cost)).collect()
            }),
        }
    };
    let mut scored: Vec<Scored> = order.into_iter().enumerate().map(score_row).collect();
    scored.sort_by_key(|s| s.at);
    scored
}

fn calibration(scored: &BTreeMap<&str, Vec<Scored>>, answer: usize, quiet_from: i64) -> [f64; 2] {
    let (mut rows, mut reached) = (0.0, [0.0; 2]);
    for s in scored.values().flatten() {
        if s.at < quiet_from || s.row < YOUNG_ROWS {
            continue;
        }
        rows += 1.0;
        for (i, reached) in reached.iter_mut().enumerate() {
            *reached += f64::from(u8::from(s.answers[answer] >= i as f64 + 2.0));
        }
    }
    std::array::from_fn(|i| reached[i] / rows / 10f64.powi(-(i as i32 + 2)))
}

/// Times of a pod's alarms.
fn alarms(rows: &[Scored], answer: usize, threshold: f64) -> Vec<i64> {
    let mut out = Vec::new();
    let mut free: BTreeMap<u64, usize> = BTreeMap::new();
    for (i, row) in rows.iter().enumerate() {
        let mut alarm = false;
        for (id, _) in row.signals[answer].iter().filter(|s| s.1 >= threshold) {
            alarm |= free.insert(*id, i + REFRACTORY_ROWS).is_none_or(|until| i >= until);
        }
        if alarm {
            out.push(row.at);
        }
    }
    out
}

fn at_rate(
    scored: &BTreeMap<&str, Vec<Scored>>,
    faults: &[Fault],
    answer: usize,
    quiet_from: i64,
    rate: f64,
) -> AtRate {
    let end = scored
        .values()
        .filter_map(|r| r.last())
        .map(|s| s.at)
        .max()
        .unwrap_or(quiet_from);
    let hours = (end - quiet_from) as f64 / 3_600.0;
    // Quiet rows in which a model was young are quiet all the same: a false alarm is one.
    let false_rate = |threshold: f64| {
        let count: usize = scored
            .values()
            .map(|rows| {
                alarms(rows, answer, threshold)
                    .iter()
                    .filter(|&&at| at >= quiet_from)
                    .count()
            })
            .sum();
        count as f64 / hours
    };
    // The alarm rate falls with the threshold, but for refractory times: bisect.
    let (mut low, mut high) = (0.0, 30.0);
    for _ in 0..40 {
        let middle = 0.5 * (low + high);
        if false_rate(middle) > rate {
            low = middle;
        } else {
            high = middle;
        }
    }
    let alarmed: BTreeMap<&str, Vec<i64>> = scored
        .iter()
        .map(|(&pod, rows)| (pod, alarms(rows, answer, high)))
        .collect();
    let hit = |pod: &str, at: i64| {
        let within = at..=at + FOUND_WITHIN_S;
        alarmed
            .get(pod)
            .is_some_and(|times| times.iter().any(|t| within.contains(t)))
    };
    let is_warm = |fault: &&Fault| {
        let row = scored
            .get(fault.pod.as_str())
            .and_then(|rows| rows.iter().find(|s| s.at >= fault.at));
        row.is_some_and(|s| s.row > 64)
    };
    let others = |fault: &Fault| {
        let rest: Vec<bool> = scored
            .keys()
            .filter(|pod| **pod != fault.pod)
            .map(|pod| hit(pod, fault.at))
            .collect();
        rest.iter().filter(|&&h| h).count() as f64 / rest.len().max(1) as f64
    };
    AtRate {
        rate,
        realised: false_rate(high),
        threshold: high,
        found: faults.iter().filter(|f| hit(&f.pod, f.at)).count(),
        found_warm: faults.iter().filter(is_warm).filter(|f| hit(&f.pod, f.at)).count(),
        warm: faults.iter().filter(is_warm).count(),
        chance: faults.iter().map(others).sum(),
        faults: faults.len(),
    }
}

/// The figures as a table.
#[must_use]
pub fn table(results: &[TrainTicketResult]) -> String {
    let mut calibration = Table::new(&["answer", "1e-2", "1e-3"]);
    let mut found = Table::new(&["answer", "false/h", "threshold", "found", "of warm", "by chance"]);
    for r in results {
        calibration.row(vec![
            r.answer.into(),
            format!("{:.2}", r.calibration[0]),
            format!("{:.2}", r.calibration[1]),
        ]);
        for at in &r.at {
            found.row(vec![
                r.answer.into(),
                format!("{:.1}", at.realised),
                format!("{:.2}", at.threshold),
                format!("{}/{}", at.found, at.faults),
                format!("{}/{}", at.found_warm, at.warm),
                format!("{:.1}", at.chance),
            ]);
        }
    }
    format!(
        "Share of quiet rows over nominal:\n\n{calibration}\nFaults found in the right pod within 5 min:\n\n{found}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(surprises: &[(u64, f64)]) -> Vec<Scored> {
        let scored = |(row, &signal): (usize, &(u64, f64))| Scored {
            at: row as i64 * 60,
            row,
            answers: [0.0; 3],
            signals: [vec![signal], vec![], vec![]],
        };
        surprises.iter().enumerate().map(scored).collect()
    }

    #[test]
    fn alarms_by_case() {
        let mut late = vec![(1, 5.0)];
        late.extend([(1, 0.0); 10]);
        late.push((1, 5.0));
        type Case = (&'static str, Vec<(u64, f64)>, Vec<i64>);
        let cases: [Case; 5] = [
            ("nothing", vec![], vec![]),
            ("below", vec![(1, 2.9)], vec![]),
            ("what lasts is one alarm", vec![(1, 5.0); 40], vec![0]),
            (
                "another signal is another",
                vec![(1, 5.0), (2, 3.0), (1, 5.0)],
                vec![0, 60],
            ),
            ("after a rest again", late, vec![0, 660]),
        ];
        for (name, surprises, expected) in cases {
            assert_eq!(alarms(&rows(&surprises), 0, 3.0), expected, "{name}");
        }
    }
}
