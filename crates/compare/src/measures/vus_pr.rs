//! VUS-PR: the volume under the precision-recall surface over thresholds and buffer widths around the labels.
//!
//! A label has soft shoulders: a row `d` before or after it counts `sqrt(1 − d/w)` for a buffer of `w` rows, up to `w/2` rows
//! away. Range precision and recall are taken at up to 250 thresholds for every `w` from 0 to the given width, and the areas
//! averaged. As TSB-AD does it (`RangeAUC_volume_opt`), to the last digit, against which the tests hold it.
//!
//! **Fails when** there is no label (then it is undefined), or a few rows hold most of the ranking: thresholds are ranks, evenly
//! spaced over all rows. **Cost:** a sort, then per width the labelled rows and their shoulders, not all rows.
//! **Paper:** J. Paparrizos et al., *Volume under the surface*, PVLDB 15(11), 2022, sections 4 and 5.

use std::ops::RangeInclusive;

/// Most thresholds, as in TSB-AD.
const THRESHOLDS: usize = 250;
/// Widest buffer, rows.
pub const BUFFER_MAX: usize = 100;

/// A labelled range of rows, first and last.
pub type Range = (usize, usize);

/// The measure in 0 ..= 1, or `None` without labels. `labels` are ascending, disjoint and within `scores`; `buffer` is the
/// widest buffer in rows, by custom the period of the series.
#[must_use]
pub fn vus_pr(scores: &[f64], labels: &[Range], buffer: usize) -> Option<f64> {
    if labels.is_empty() {
        return None;
    }
    let ranking = Ranking::of(scores);
    let areas = (0..=buffer).map(|width| area(&ranking, labels, width));
    Some(areas.sum::<f64>() / (buffer + 1) as f64)
}

/// Where each row stands.
struct Ranking {
    /// The first threshold, from the strictest on, at which each row is flagged.
    flagged_from: Vec<usize>,
    /// Rows flagged at each threshold.
    flagged: Vec<usize>,
}

impl Ranking {
    fn of(scores: &[f64]) -> Self {
        let mut sorted = scores.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let step = scores.len().saturating_sub(1) as f64 / (THRESHOLDS - 1) as f64;
        let thresholds: Vec<f64> = (0..THRESHOLDS)
            .filter_map(|k| sorted.get((k as f64 * step) as usize).copied())
            .collect();
        let flagged_from = scores
            .iter()
            .map(|&score| thresholds.partition_point(|&threshold| threshold > score))
            .collect();
        let flagged = thresholds
            .iter()
            .map(|&threshold| sorted.partition_point(|&score| score >= threshold))
            .collect();
        Self { flagged_from, flagged }
    }
}

/// Area under range precision over range recall for one buffer width.
fn area(ranking: &Ranking, labels: &[Range], width: usize) -> f64 {
    let rows = ranking.flagged_from.len();
    let thresholds = ranking.flagged.len();
    let half = width / 2;
    let segments = merged(labels, half, rows);
    // What the rows that are flagged first at a threshold add: within labels, and on shoulders.
    let (mut inside, mut shoulder) = (vec![0.0; thresholds + 1], vec![0.0; thresholds + 1]);
    for &(first, last) in labels {
        for row in first..=last {
            inside[ranking.flagged_from[row]] += 1.0;
        }
    }
    for row in shoulder_rows(labels, half, rows) {
        shoulder[ranking.flagged_from[row]] += weight(row, labels, half, width);
    }
    let mut found = vec![0usize; thresholds + 1];
    for segment in &segments {
        if let Some(first) = segment.clone().map(|row| ranking.flagged_from[row]).min() {
            found[first] += 1;
        }
    }
    let positives: usize = labels.iter().map(|(first, last)| last - first + 1).sum();
    let positives = positives as f64;
    let (mut hit, mut soft, mut segments_found) = (0.0, 0.0, 0);
    let (mut area, mut recall_before) = (0.0, 0.0);
    for k in 0..thresholds {
        hit += inside[k];
        soft += shoulder[k];
        segments_found += found[k];
        let true_positive: f64 = hit + soft;
        let wanted = f64::midpoint(positives, positives + soft);
        let existence = segments_found as f64 / segments.len() as f64;
        let recall = (true_positive / wanted).min(1.0) * existence;
        area += (recall - recall_before) * true_positive / ranking.flagged[k] as f64;
        recall_before = recall;
    }
    area
}

/// Labels with their shoulders; those that touch are one.
fn merged(labels: &[Range], half: usize, rows: usize) -> Vec<RangeInclusive<usize>> {
    let mut out = Vec::with_capacity(labels.len());
    let mut begin = labels[0].0.saturating_sub(half);
    for pair in labels.windows(2) {
        let (end, next) = (pair[0].1 + half, pair[1].0 as i64 - half as i64);
        if (end as i64) < next {
            out.push(begin..=end);
            begin = pair[1].0 - half;
        }
    }
    out.push(begin..=(labels[labels.len() - 1].1 + half).min(rows - 1));
    out
}

/// Rows outside of labels that are within `half` rows of one, each once.
fn shoulder_rows(labels: &[Range], half: usize, rows: usize) -> Vec<usize> {
    let mut out = Vec::new();
    let mut from = 0;
    for (i, &(first, last)) in labels.iter().enumerate() {
        out.extend(from.max(first.saturating_sub(half))..first);
        from = last + 1;
        let next = labels.get(i + 1).map_or(rows, |next| next.0);
        let until = (last + half + 1).min(next);
        out.extend(from..until);
        from = until.max(from);
    }
    out
}

/// What a shoulder row counts: the sum over the labels near it, at most 1.
fn weight(row: usize, labels: &[Range], half: usize, width: usize) -> f64 {
    let mut sum = 0.0;
    for &(first, last) in labels {
        let distance = if row > last { row - last } else { first - row };
        if distance <= half {
            sum += (1.0 - distance as f64 / width as f64).sqrt();
        }
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores of the golden cases: a linear congruential generator, with `bump` added inside `raised`.
    fn scores(n: usize, seed: u64, raised: &[Range], bump: f64, coarse: bool) -> Vec<f64> {
        let mut x = seed;
        let mut out = Vec::new();
        for i in 0..n {
            x = (x * 1_103_515_245 + 12_345) % (1 << 31);
            let mut score = x as f64 / f64::from(1u32 << 31);
            if raised.iter().any(|r| (r.0..=r.1).contains(&i)) {
                score += bump;
            }
            out.push(if coarse { (score * 8.0).floor() } else { score });
        }
        out
    }

    #[test]
    fn agrees_with_the_published_implementation() {
        // Golden numbers: `basic_metricor().RangeAUC_volume_opt(labels, score, window)` of TSB-AD 1.5.
        type Case<'a> = (&'a str, usize, &'a [Range], &'a [Range], f64, bool, usize, f64);
        let cases: [Case<'_>; 6] = [
            (
                "random",
                1000,
                &[(300, 349), (700, 702)],
                &[],
                0.0,
                false,
                40,
                0.09001148119950868,
            ),
            (
                "found",
                1000,
                &[(300, 349), (700, 702)],
                &[(305, 310), (700, 700)],
                0.7,
                false,
                40,
                0.22152661082635938,
            ),
            (
                "one found late",
                2000,
                &[(300, 349), (700, 702)],
                &[(340, 370)],
                0.9,
                false,
                100,
                0.28790448335144525,
            ),
            (
                "labels near each other",
                1500,
                &[(400, 420), (440, 450), (900, 1000)],
                &[(410, 445), (905, 930)],
                0.6,
                false,
                100,
                0.47871321257440985,
            ),
            (
                "ties",
                1000,
                &[(100, 149), (800, 820)],
                &[(105, 140)],
                0.5,
                true,
                37,
                0.267561948022345,
            ),
            (
                "labels at the ends",
                600,
                &[(0, 10), (580, 599)],
                &[(5, 12), (590, 599)],
                0.8,
                false,
                60,
                0.6624973079147828,
            ),
        ];
        for (name, n, labels, raised, bump, coarse, buffer, expected) in cases {
            let got = vus_pr(&scores(n, 7, raised, bump, coarse), labels, buffer).unwrap();
            assert!((got - expected).abs() < 1e-9, "{name}: {got}, expected {expected}");
        }
    }

    #[test]
    fn without_labels_it_is_undefined() {
        assert_eq!(vus_pr(&[1.0, 2.0], &[], 10), None);
    }
}
