//! What predictions are worth: by row (average precision, Brier score, reliability), and by warning (who was warned in time).

use foreshock_domain::{Millis, Timestamp};
use foreshock_failure::predict::{OperatingPoint, Warning, episode_params};
use serde::{Deserialize, Serialize};

use super::rows::{Rows, Target};

/// Thresholds that are tried.
const THRESHOLDS: [f64; 28] = [
    0.02, 0.03, 0.05, 0.07, 0.1, 0.13, 0.16, 0.2, 0.24, 0.28, 0.32, 0.36, 0.4, 0.44, 0.48, 0.52, 0.56, 0.6, 0.65, 0.7,
    0.75, 0.8, 0.84, 0.88, 0.91, 0.94, 0.97, 0.99,
];
const DAY_MS: f64 = 86_400_000.0;

/// One prediction and what came.
#[derive(Clone, Copy, Debug)]
pub struct Scored {
    /// Place of its row.
    pub row: usize,
    /// Probability said.
    pub p: f64,
    /// What came.
    pub target: Target,
}

/// One bin of a reliability diagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// Mean probability said.
    pub said: f64,
    /// Share that came true.
    pub came: f64,
    /// Rows.
    pub rows: f64,
}

/// What predictions were worth by row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RowFigures {
    /// Rows judged.
    pub rows: f64,
    /// Share of rows that a failure followed within the horizon: the average precision of chance.
    pub base_rate: f64,
    /// Area under precision against recall, by steps.
    pub average_precision: f64,
    /// Mean squared error of the probability.
    pub brier: f64,
    /// The same of always saying the base rate.
    pub brier_of_base_rate: f64,
    /// Mean absolute difference between what was said and what came, over ten bins, weighted by rows.
    pub reliability_error: f64,
    /// The diagram.
    pub reliability: Vec<Reliability>,
}

/// By row. Rows of unknown outcome are left out.
#[must_use]
pub fn by_row(rows: &Rows, scored: &[Scored]) -> RowFigures {
    let known = known(rows, scored);
    of_known(&known)
}

/// Probability, whether it came, weight: of rows whose outcome is known.
#[must_use]
pub fn known(rows: &Rows, scored: &[Scored]) -> Vec<(f64, bool, f64)> {
    let row = |s: &Scored| Some((s.p, s.target.came()?, rows.rows[s.row].weight));
    scored.iter().filter_map(row).collect()
}

/// By row, of probability, outcome and weight.
#[must_use]
pub fn of_known(known: &[(f64, bool, f64)]) -> RowFigures {
    let all: f64 = known.iter().map(|k| k.2).sum();
    if all <= 0.0 {
        return RowFigures::default();
    }
    let base_rate = known.iter().filter(|k| k.1).map(|k| k.2).sum::<f64>() / all;
    let square = |p: f64, came: bool| (p - f64::from(u8::from(came))).powi(2);
    let mut bins = [Reliability::default(); 10];
    for (p, came, weight) in known {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a tenth of a probability
        let bin = &mut bins[((p * 10.0) as usize).min(9)];
        bin.said += weight * p;
        bin.came += weight * f64::from(u8::from(*came));
        bin.rows += weight;
    }
    let mut reliability: Vec<Reliability> = bins.into_iter().filter(|b| b.rows > 0.0).collect();
    for bin in &mut reliability {
        bin.said /= bin.rows;
        bin.came /= bin.rows;
    }
    RowFigures {
        rows: all,
        base_rate,
        average_precision: average_precision(known),
        brier: known.iter().map(|(p, c, w)| w * square(*p, *c)).sum::<f64>() / all,
        brier_of_base_rate: base_rate * (1.0 - base_rate),
        reliability_error: reliability
            .iter()
            .map(|b| b.rows * (b.said - b.came).abs())
            .sum::<f64>()
            / all,
        reliability,
    }
}

/// Area under precision against recall by steps, ties together; 0 where nothing came.
#[must_use]
pub fn average_precision(known: &[(f64, bool, f64)]) -> f64 {
    let mut sorted = known.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives: f64 = sorted.iter().filter(|s| s.1).map(|s| s.2).sum();
    let (mut hits, mut seen, mut sum, mut i) = (0.0, 0.0, 0.0, 0);
    while i < sorted.len() {
        let ties = sorted[i..].iter().take_while(|s| s.0 == sorted[i].0).count();
        let new: f64 = sorted[i..i + ties].iter().filter(|s| s.1).map(|s| s.2).sum();
        hits += new;
        seen += sorted[i..i + ties].iter().map(|s| s.2).sum::<f64>();
        sum += new * hits / seen;
        i += ties;
    }
    if positives > 0.0 { sum / positives } else { 0.0 }
}

/// Mean negative log likelihood in nats, weighted.
#[must_use]
pub fn log_loss(known: &[(f64, bool, f64)]) -> f64 {
    let all: f64 = known.iter().map(|k| k.2).sum();
    let loss = |(p, came, w): &(f64, bool, f64)| {
        let p = p.clamp(1e-6, 1.0 - 1e-6);
        -w * if *came { p.ln() } else { (1.0 - p).ln() }
    };
    known.iter().map(loss).sum::<f64>() / all.max(f64::MIN_POSITIVE)
}

/// What warnings would have been worth at each threshold, ascending. `spans`: the time that is judged; failures outside are not.
#[must_use]
pub fn operating_points(
    rows: &Rows,
    scored: &[Scored],
    spans: &[(Timestamp, Timestamp)],
    horizon_ms: Millis,
    lead_ms: Millis,
) -> Vec<OperatingPoint> {
    THRESHOLDS
        .iter()
        .map(|t| warned(rows, scored, spans, horizon_ms, lead_ms, *t))
        .collect()
}

/// Warnings at one threshold, as live: the same hysteresis, and begun anew after each failure.
#[must_use]
pub fn warned(
    rows: &Rows,
    scored: &[Scored],
    spans: &[(Timestamp, Timestamp)],
    horizon_ms: Millis,
    lead_ms: Millis,
    threshold: f64,
) -> OperatingPoint {
    let mut of_entity: Vec<Vec<&Scored>> = vec![Vec::new(); rows.entities.len()];
    for s in scored {
        of_entity[rows.rows[s.row].entity as usize].push(s);
    }
    let params = episode_params(horizon_ms);
    let inside = |at: Timestamp| spans.iter().any(|(from, until)| *from <= at && at < *until);
    let (mut right, mut wrong, mut foretold, mut failures) = (0.0_f64, 0.0_f64, 0_u32, 0_u32);
    let (mut leads, mut entity_ms) = (Vec::new(), 0.0);
    // Rows far from failures, and those of them under warning.
    let (mut quiet, mut quiet_warned) = (0.0, 0.0);
    for (entity, of) in (0..).zip(&mut of_entity) {
        of.sort_by_key(|s| rows.rows[s.row].at);
        let failures_of = rows.spans(entity);
        let last = rows.last[entity as usize];
        let mut hits: Vec<Option<Millis>> = vec![None; failures_of.len()];
        let mut warning = Warning::default();
        let mut previous: Option<Timestamp> = None;
        let mut open: Option<Told> = None;
        for s in of {
            let row = &rows.rows[s.row];
            let at = row.at;
            if let Some(previous) = previous {
                if at - previous <= horizon_ms {
                    #[allow(clippy::cast_precision_loss)] // a day of milliseconds
                    {
                        entity_ms += row.weight * (at - previous) as f64;
                    }
                }
                if failures_of.iter().any(|f| f.onset > previous && f.onset <= at) {
                    warning.reset();
                    settle(&mut open, &mut right, &mut wrong);
                }
            }
            previous = Some(at);
            if rows.is_symptom(row) {
                warning.reset();
                continue;
            }
            let step = warning.step(&params, at.as_millis(), s.p, threshold);
            if step.is_told() {
                let told = match failures_of.iter().position(|f| f.onset > at) {
                    Some(i) if failures_of[i].onset - at <= horizon_ms => {
                        let (f, ms) = (&failures_of[i], failures_of[i].onset - at);
                        if f.foreseeable && ms >= f.lead_ms.unwrap_or(lead_ms) {
                            hits[i] = Some(hits[i].map_or(ms, |h| h.max(ms)));
                            Told::Right(row.weight)
                        } else {
                            Told::Unknown
                        }
                    }
                    None if at + horizon_ms > last => Told::Unknown,
                    _ => Told::Wrong(row.weight),
                };
                open = Some(open.map_or(told, |o| o.with(told)));
            }
            if s.target == Target::Survives {
                quiet += row.weight;
                quiet_warned += if warning.is_open() { row.weight } else { 0.0 };
            }
            if !warning.is_open() {
                settle(&mut open, &mut right, &mut wrong);
            }
        }
        settle(&mut open, &mut right, &mut wrong);
        for (f, hit) in failures_of.iter().zip(hits) {
            if f.foreseeable && inside(f.onset) && inside(f.onset - f.lead_ms.unwrap_or(lead_ms)) {
                failures += 1;
                if let Some(ms) = hit {
                    foretold += 1;
                    leads.push(ms);
                }
            }
        }
    }
    leads.sort_unstable();
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )] // counts and a lead
    OperatingPoint {
        threshold,
        right: right.round() as u32,
        wrong: wrong.round() as u32,
        foretold,
        failures,
        false_per_entity_day: if entity_ms > 0.0 {
            wrong * DAY_MS / entity_ms
        } else {
            0.0
        },
        quiet_share: if quiet > 0.0 { quiet_warned / quiet } else { 0.0 },
        lead_s: leads.get(leads.len() / 2).map_or(0.0, |ms| *ms as f64 / 1e3),
    }
}

/// What the alerts of one warning came to, the best of them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Right(f64),
    Unknown,
    Wrong(f64),
}

impl Told {
    fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Right(w), _) | (_, Self::Right(w)) => Self::Right(w),
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (wrong, Self::Wrong(_)) => wrong,
        }
    }
}

fn settle(open: &mut Option<Told>, right: &mut f64, wrong: &mut f64) {
    match open.take() {
        Some(Told::Right(w)) => *right += w,
        Some(Told::Wrong(w)) => *wrong += w,
        Some(Told::Unknown) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_precision_by_hand() {
        // Ranked right, wrong, right: (1/1 + 2/3) / 2.
        let known = [(0.9, true, 1.0), (0.5, false, 1.0), (0.4, true, 1.0), (0.1, false, 1.0)];
        assert!((average_precision(&known) - (1.0 + 2.0 / 3.0) / 2.0).abs() < 1e-12);
        // All tied: the base rate.
        let tied = known.map(|k| (0.3, k.1, k.2));
        assert!((average_precision(&tied) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn probabilities_that_come_true_are_reliable() {
        let mut known = Vec::new();
        for i in 0..1_000 {
            known.push((0.25, i % 4 == 0, 1.0));
            known.push((0.75, i % 4 != 0, 1.0));
        }
        let figures = of_known(&known);
        assert!(figures.reliability_error < 1e-9 && (figures.base_rate - 0.5).abs() < 1e-9);
        assert!((figures.brier - 0.1875).abs() < 1e-9);
        known.iter_mut().for_each(|k| k.0 = 0.9);
        assert!((of_known(&known).reliability_error - 0.4).abs() < 1e-9);
    }
}
