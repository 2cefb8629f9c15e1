//! Score of the Numenta Anomaly Benchmark (v1.1), with the controls without which it says little.
//!
//! As in NAB, one threshold for the whole corpus is chosen per profile, the first 15 % of each file (at most 750 rows) is not
//! scored, and a result is normalised so that the null detector has 0 and a perfect one 100. The threshold is chosen in
//! sample, so beside it stand the score with the threshold of other files ([`held_out`]), with one fixed beforehand
//! ([`at_threshold`]), and of a detector that looks at nothing ([`blind_alarms`]).
//!
//! **Fails when** windows are wide: a window opens before any sign of the anomaly, and an alarm at random inside is credited.
//! **Cost:** a sort of the rows with a score above 0. **Paper:** A. Lavin and S. Ahmad, *Evaluating real-time anomaly
//! detection algorithms: the Numenta anomaly benchmark*, ICMLA 2015, section II.

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::MeanSd;

/// What hits and misses weigh.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Name in NAB.
    pub name: &'static str,
    /// Credit of a window found at its start.
    pub true_positive: f64,
    /// Cost of a window missed.
    pub false_negative: f64,
    /// Cost of a false row far behind any window.
    pub false_positive: f64,
}

/// NAB's three profiles.
pub const PROFILES: [Profile; 3] = [
    Profile {
        name: "standard",
        true_positive: 1.0,
        false_negative: 1.0,
        false_positive: 0.11,
    },
    Profile {
        name: "low FP",
        true_positive: 1.0,
        false_negative: 1.0,
        false_positive: 0.22,
    },
    Profile {
        name: "low FN",
        true_positive: 1.0,
        false_negative: 2.0,
        false_positive: 0.11,
    },
];

/// A row with a score above 0 outside the probation.
#[derive(Clone, Copy, Debug)]
struct RatedRow {
    score: f64,
    window: Option<usize>,
    /// Credit inside a window (at most 1), cost outside (at most 0).
    weight: f64,
}

/// What a file's scores are worth before a threshold is chosen.
#[derive(Clone, Debug)]
pub struct RatedFile {
    rows: Vec<RatedRow>,
    /// Windows beyond the probation.
    live: usize,
    windows: usize,
}

/// A score with the threshold that gave it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chosen {
    /// 0 for the null detector, 100 for a perfect one; may be negative.
    pub score: f64,
    /// Alarm where the score is at least this.
    pub threshold: f64,
}

impl RatedFile {
    /// Windows beyond the probation.
    #[must_use]
    pub fn live(&self) -> usize {
        self.live
    }

    /// Windows found and false alarms, with an alarm wherever a row has at least `threshold`.
    #[must_use]
    pub fn outcome(&self, threshold: f64) -> (usize, usize) {
        let alarms = || self.rows.iter().filter(|r| r.score >= threshold);
        let found: BTreeSet<usize> = alarms().filter_map(|r| r.window).collect();
        (found.len(), alarms().filter(|r| r.window.is_none()).count())
    }
}

fn scaled_sigmoid(x: f64) -> f64 {
    if x > 3.0 {
        -1.0
    } else {
        2.0 / (1.0 + (5.0 * x).exp()) - 1.0
    }
}

/// Weighs the rows of a file. `scores` has one finite score a row, `windows` are first and last row, ascending.
#[must_use]
pub fn rate(scores: &[f64], windows: &[(usize, usize)]) -> RatedFile {
    let probation = (0.15 * scores.len() as f64).floor().min(0.15 * 5_000.0) as usize;
    let best = scaled_sigmoid(-1.0);
    let mut next = 0;
    let mut live = 0;
    let mut rows = Vec::new();
    for (row, &score) in scores.iter().enumerate() {
        while windows.get(next).is_some_and(|w| w.1 < row) {
            next += 1;
        }
        let inside = windows.get(next).filter(|w| w.0 <= row);
        if row < probation {
            continue;
        }
        let weight = if let Some(&(first, last)) = inside {
            scaled_sigmoid(-((last - row + 1) as f64) / (last - first + 1) as f64) / best
        } else if let Some(&(first, last)) = next.checked_sub(1).and_then(|n| windows.get(n)) {
            scaled_sigmoid((row - last) as f64 / (last - first).max(1) as f64)
        } else {
            -1.0
        };
        if score > 0.0 {
            let window = inside.map(|_| next);
            rows.push(RatedRow { score, window, weight });
        }
    }
    for &(_, last) in windows {
        live += usize::from(last >= probation);
    }
    RatedFile {
        rows,
        live,
        windows: windows.len(),
    }
}

fn normalised(total: f64, windows: usize, profile: &Profile) -> f64 {
    let null = -profile.false_negative * windows as f64;
    let perfect = profile.true_positive * windows as f64;
    100.0 * (total - null) / (perfect - null)
}

/// Walks the rows of all files from the strangest on; `each` is told the total after each distinct threshold.
fn walk(files: &[&RatedFile], profile: &Profile, mut each: impl FnMut(f64, f64)) -> usize {
    let live: usize = files.iter().map(|f| f.live).sum();
    let mut total = -profile.false_negative * live as f64;
    let mut credited: Vec<Vec<f64>> = files.iter().map(|f| vec![-profile.false_negative; f.windows]).collect();
    let mut rows: Vec<(usize, RatedRow)> = Vec::new();
    for (file, rated) in files.iter().enumerate() {
        rows.extend(rated.rows.iter().map(|&row| (file, row)));
    }
    rows.sort_by(|a, b| b.1.score.total_cmp(&a.1.score));
    each(f64::INFINITY, total);
    for (i, (file, row)) in rows.iter().enumerate() {
        match row.window {
            None => total += row.weight * profile.false_positive,
            Some(window) => {
                let gain = row.weight * profile.true_positive;
                let held = &mut credited[*file][window];
                if gain > *held {
                    total += gain - *held;
                    *held = gain;
                }
            }
        }
        if rows.get(i + 1).is_none_or(|next| next.1.score < row.score) {
            each(row.score, total);
        }
    }
    live
}

/// The best score over one threshold for all files, and that threshold.
#[must_use]
pub fn best(files: &[&RatedFile], profile: &Profile) -> Chosen {
    let (mut best, mut threshold) = (f64::NEG_INFINITY, f64::INFINITY);
    let live = walk(files, profile, |at, total| {
        if total > best {
            (best, threshold) = (total, at);
        }
    });
    Chosen {
        score: normalised(best, live, profile),
        threshold,
    }
}

/// The score with an alarm wherever a row has at least `threshold`.
#[must_use]
pub fn at_threshold(files: &[&RatedFile], profile: &Profile, threshold: f64) -> f64 {
    let mut reached = 0.0;
    let live = walk(files, profile, |at, total| {
        if at >= threshold {
            reached = total;
        }
    });
    normalised(reached, live, profile)
}

/// The score on a random half of the files with the threshold that is best on the other half, over `splits` splits.
#[must_use]
pub fn held_out(files: &[&RatedFile], profile: &Profile, splits: usize, seed: u64) -> MeanSd {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<&RatedFile> = files.to_vec();
    let mut scores = Vec::with_capacity(2 * splits);
    for _ in 0..splits {
        order.shuffle(&mut rng);
        let (left, right) = order.split_at(order.len() / 2);
        scores.push(at_threshold(right, profile, best(left, profile).threshold));
        scores.push(at_threshold(left, profile, best(right, profile).threshold));
    }
    MeanSd::of(&scores)
}

/// Scores of a detector that looks at nothing: an alarm every `every` rows.
#[must_use]
pub fn blind_alarms(rows: usize, every: usize) -> Vec<f64> {
    (0..rows)
        .map(|row| f64::from(u8::from(row % every == every - 1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of 1,000 rows, windows 300..=399 and 700..=799, one score per row.
    fn file(scored: &[(usize, f64)]) -> RatedFile {
        let mut scores = vec![0.0; 1_000];
        for &(row, score) in scored {
            scores[row] = score;
        }
        rate(&scores, &[(300, 399), (700, 799)])
    }

    #[test]
    fn scores_by_case() {
        // (name, scored rows, standard score); a false row before any window costs 0.11 of the 2 · 2 to be had
        let late = 100.0 * (1.0 + scaled_sigmoid(-0.01) / scaled_sigmoid(-1.0)) / 4.0;
        type Case<'a> = (&'a str, &'a [(usize, f64)], f64);
        let cases: [Case<'_>; 6] = [
            ("nothing", &[], 0.0),
            ("perfect", &[(300, 1.0), (700, 1.0)], 100.0),
            ("one of two", &[(300, 1.0)], 50.0),
            ("first alarm counts", &[(300, 1.0), (390, 1.0)], 50.0),
            ("late is worth half", &[(399, 1.0)], late),
            (
                "false before it, equally loud",
                &[(200, 1.0), (300, 1.0)],
                50.0 - 11.0 / 4.0,
            ),
        ];
        for (name, scored, expected) in cases {
            let got = best(&[&file(scored)], &PROFILES[0]).score;
            assert!((got - expected).abs() < 1e-9, "{name}: {got}, expected {expected}");
        }
    }

    #[test]
    fn thresholds_are_chosen_and_kept() {
        let file = file(&[(200, 1.0), (300, 2.0), (700, 3.0)]);
        let chosen = best(&[&file], &PROFILES[0]);
        assert!((chosen.score - 100.0).abs() < 1e-9 && (chosen.threshold - 2.0).abs() < 1e-12);
        assert!((at_threshold(&[&file], &PROFILES[0], 2.5) - 50.0).abs() < 1e-9);
        assert!((at_threshold(&[&file], &PROFILES[0], 0.5) - (100.0 - 11.0 / 4.0)).abs() < 1e-9);
        assert!((at_threshold(&[&file], &PROFILES[0], 9.0) - 0.0).abs() < 1e-9);
    }

    #[test]
    fn rows_in_the_probation_count_for_nothing() {
        let mut scores = vec![0.0; 1_000];
        scores[10] = 5.0;
        let rated = rate(&scores, &[(5, 20), (500, 600)]);
        assert_eq!((rated.rows.len(), rated.live), (0, 1));
    }

    #[test]
    fn held_out_never_beats_a_threshold_that_fits_all() {
        let files: Vec<RatedFile> = (0..20)
            .map(|i| file(&[(300, 2.0), (700, 2.0), (500 + i, 1.0)]))
            .collect();
        let files: Vec<&RatedFile> = files.iter().collect();
        let held = held_out(&files, &PROFILES[0], 10, 1);
        assert!((held.mean - 100.0).abs() < 1e-9 && held.sd < 1e-9);
    }
}
