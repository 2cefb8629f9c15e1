//! Events found and false alarms, without point adjustment: an alarm episode is one thing that somebody looks at.
//!
//! Rows at or above a threshold are flagged; flagged rows at most [`MERGE_ROWS`] apart are one episode. A labelled event is
//! found where an episode overlaps it. An episode that overlaps none is a false alarm, unless it begins within [`ECHO_ROWS`]
//! after an event: the return to normal is a change as well, and counts neither way.
//!
//! **Fails when** one episode lasts for the whole series: it finds every event and is never false, so each
//! [`LONGEST_ROWS`] rows of it outside of events and echoes are a false alarm more.
//! **Cost:** a pass over the rows a threshold. **Method:** event F1 as in the criticism of point adjustment: S. Kim et al.,
//! *Towards a rigorous evaluation of time-series anomaly detection*, AAAI 2022.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::vus_pr::Range;

/// Flagged rows at most this far apart are one episode.
pub const MERGE_ROWS: usize = 10;
/// Rows after an event in which an episode may begin without being false.
pub const ECHO_ROWS: usize = 50;
/// Rows outside of events after which an episode counts as false once more.
pub const LONGEST_ROWS: usize = 100;
/// Samples of series that an interval is read off.
const SAMPLES: usize = 1_000;
/// Thresholds that are tried, evenly spaced in the logarithm of the rank.
const CANDIDATES: usize = 120;

/// What an alarm at one threshold is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Events overlapped by an episode.
    pub found: usize,
    /// Events.
    pub events: usize,
    /// False alarms.
    pub false_alarms: usize,
}

impl Outcome {
    /// Harmonic mean of the share of events found and the share of alarms that are true; 0 where nothing is found.
    #[must_use]
    pub fn f1(self) -> f64 {
        let found = self.found as f64;
        if self.found == 0 {
            return 0.0;
        }
        2.0 * found / (found + self.false_alarms as f64 + self.events as f64)
    }
}

/// Outcome with rows flagged where the score is at least `threshold`. `events` are ascending and disjoint.
#[must_use]
pub fn outcome(scores: &[f64], events: &[Range], threshold: f64) -> Outcome {
    let mut found = vec![false; events.len()];
    let mut false_alarms = 0;
    let mut next = 0;
    for (first, last) in episodes(scores, threshold) {
        while events.get(next).is_some_and(|e| e.1 + ECHO_ROWS < first) {
            next += 1;
        }
        let mut touched = false;
        let mut outside = last - first + 1;
        for (i, event) in events.iter().enumerate().skip(next) {
            if event.0 > last {
                break;
            }
            let overlap = event.0.max(first)..(event.1.min(last) + 1);
            if overlap.is_empty() {
                // It begins in the echo.
                touched = true;
                continue;
            }
            found[i] = true;
            touched = true;
            let with_echo = (event.1 + ECHO_ROWS).min(last) + 1 - overlap.start;
            outside = outside.saturating_sub(with_echo);
        }
        if touched {
            false_alarms += outside / LONGEST_ROWS;
        } else {
            false_alarms += 1 + outside / LONGEST_ROWS;
        }
    }
    Outcome {
        found: found.iter().filter(|&&f| f).count(),
        events: events.len(),
        false_alarms,
    }
}

/// The greatest F1 over thresholds, which are chosen in sample.
#[must_use]
pub fn best_f1(scores: &[f64], events: &[Range]) -> f64 {
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let most = sorted.len() as f64;
    let mut best: f64 = 0.0;
    let mut tried = f64::INFINITY;
    for k in 0..CANDIDATES {
        let rank = most.powf((k as f64 + 1.0) / CANDIDATES as f64) as usize - 1;
        let Some(&threshold) = sorted.get(rank).filter(|&&t| t < tried) else {
            continue;
        };
        tried = threshold;
        best = best.max(outcome(scores, events, threshold).f1());
    }
    best
}

/// Events with a row whose score exceeds that of all but `rate` of the normal rows. Rows of events and of their echo are not
/// normal.
#[must_use]
pub fn found_at_false_rate(scores: &[f64], events: &[Range], rate: f64) -> usize {
    Ranked::new(scores, events).found_above(rate).1
}

/// What a ranking is judged by: normal rows, greatest first, and the peak of each event.
#[derive(Clone, Debug, Default)]
pub struct Ranked {
    /// Normal rows.
    pub rows: usize,
    /// Scores of the greatest twentieth of them, and a few more; descending.
    pub normal: Vec<f64>,
    /// Greatest score within each event.
    pub peaks: Vec<f64>,
}

impl Ranked {
    /// Of one series. Rows of events and of their echo are not normal.
    #[must_use]
    pub fn new(scores: &[f64], events: &[Range]) -> Self {
        let mut normal: Vec<f64> = Vec::with_capacity(scores.len());
        let mut from = 0;
        for &(first, last) in events {
            normal.extend(scores.iter().take(first).skip(from));
            from = from.max(last + ECHO_ROWS + 1);
        }
        normal.extend(scores.iter().skip(from));
        normal.sort_by(|a, b| b.total_cmp(a));
        let rows = normal.len();
        normal.truncate(rows / 20 + 8);
        let peak = |&(first, last): &Range| scores[first..=last].iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self {
            rows,
            normal,
            peaks: events.iter().map(peak).collect(),
        }
    }

    /// All series as one: one threshold for all of them.
    #[must_use]
    pub fn pooled<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut pooled = Self::default();
        for one in all {
            pooled.rows += one.rows;
            pooled.normal.extend(&one.normal);
            pooled.peaks.extend(&one.peaks);
        }
        pooled.normal.sort_by(|a, b| b.total_cmp(a));
        pooled
    }

    /// The score that all but `rate` of the normal rows do not exceed, and the events with a row that does; for rates of a
    /// twentieth at most.
    #[must_use]
    pub fn found_above(&self, rate: f64) -> (f64, usize) {
        let allowed = (rate * self.rows as f64) as usize;
        let threshold = self.normal.get(allowed).copied().unwrap_or(f64::NEG_INFINITY);
        (threshold, self.peaks.iter().filter(|&&p| p > threshold).count())
    }

    /// Share of normal rows, and events, at or above a threshold.
    #[must_use]
    pub fn at(&self, threshold: f64) -> (f64, usize) {
        let false_rows = self.normal.iter().filter(|&&s| s >= threshold).count();
        let found = self.peaks.iter().filter(|&&p| p >= threshold).count();
        (false_rows as f64 / self.rows.max(1) as f64, found)
    }
}

/// Events found at a threshold that was fixed beforehand, over those found where `rate` of all normal rows are flagged; and
/// between which shares 90 % of samples of as many series, drawn with replacement, lie (B. Efron, *Bootstrap methods: another
/// look at the jackknife*, Annals of Statistics 7(1), 1979). NaN where nothing is found at that rate.
#[must_use]
pub fn share_found(all: &[&Ranked], threshold: f64, rate: f64) -> (f64, [f64; 2]) {
    let share = |sample: &[&Ranked]| {
        let rows: usize = sample.iter().map(|r| r.rows).sum();
        let allowed = (rate * rows as f64) as usize;
        // Of no series can more rows than are allowed in all lie above the threshold.
        let mut normal: Vec<f64> = sample
            .iter()
            .flat_map(|r| r.normal.iter().take(allowed + 1))
            .copied()
            .collect();
        let limit = if allowed < normal.len() {
            *normal.select_nth_unstable_by(allowed, |a, b| b.total_cmp(a)).1
        } else {
            f64::NEG_INFINITY
        };
        let peaks = || sample.iter().flat_map(|r| &r.peaks);
        let found = peaks().filter(|&&p| p >= threshold).count();
        found as f64 / peaks().filter(|&&p| p > limit).count() as f64
    };
    let mut draws = ChaCha8Rng::seed_from_u64(1);
    let mut shares: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            let sample: Vec<&Ranked> = all.iter().map(|_| all[draws.random_range(0..all.len())]).collect();
            share(&sample)
        })
        .collect();
    shares.sort_by(f64::total_cmp);
    (share(all), [shares[SAMPLES / 20], shares[SAMPLES - 1 - SAMPLES / 20]])
}

fn episodes(scores: &[f64], threshold: f64) -> Vec<Range> {
    let mut out: Vec<Range> = Vec::new();
    for (row, &score) in scores.iter().enumerate() {
        if score < threshold {
            continue;
        }
        match out.last_mut() {
            Some(last) if row - last.1 <= MERGE_ROWS => last.1 = row,
            _ => out.push((row, row)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(n: usize, runs: &[Range]) -> Vec<f64> {
        (0..n)
            .map(|i| f64::from(u8::from(runs.iter().any(|r| (r.0..=r.1).contains(&i)))))
            .collect()
    }

    #[test]
    fn outcomes_by_case() {
        let events = [(100, 119), (400, 400)];
        // (name, flagged runs, found, false alarms)
        let cases: [(&str, &[Range], usize, usize); 8] = [
            ("nothing", &[], 0, 0),
            ("a row of each", &[(110, 110), (400, 400)], 2, 0),
            ("flicker is one episode", &[(200, 200), (205, 205), (215, 215)], 0, 1),
            ("two episodes", &[(200, 200), (211, 211)], 0, 2),
            ("echo", &[(150, 151)], 0, 0),
            ("beyond the echo", &[(171, 172)], 0, 1),
            ("begins before", &[(95, 101)], 1, 0),
            ("always on", &[(0, 999)], 2, 8),
        ];
        for (name, runs, found, false_alarms) in cases {
            let got = outcome(&flags(1_000, runs), &events, 1.0);
            assert_eq!((got.found, got.false_alarms), (found, false_alarms), "{name}");
        }
    }

    #[test]
    fn f1_is_that_of_the_best_threshold() {
        let events = [(100, 119), (400, 400)];
        let mut scores = flags(1_000, &[(110, 110), (400, 400)]);
        assert!((best_f1(&scores, &events) - 1.0).abs() < 1e-12);
        scores[700] = 2.0;
        assert!((best_f1(&scores, &events) - 0.8).abs() < 1e-12);
    }

    #[test]
    fn a_share_lies_in_its_interval() {
        // Twenty series of 1,000 normal rows; one row in each is odd, and one of two events is odder than any.
        let series: Vec<Ranked> = (0..20u32)
            .map(|s| Ranked {
                rows: 1_000,
                normal: vec![2.0 + f64::from(s) / 20.0, 1.0],
                peaks: vec![if s % 4 == 0 { 5.0 } else { 3.5 }, 1.5],
            })
            .collect();
        let all: Vec<&Ranked> = series.iter().collect();
        // With 1e-3 flagged all twenty odd rows are, and a peak of 3.5 or 1.5 exceeds what is left.
        let (share, [low, high]) = share_found(&all, 4.0, 1e-3);
        assert!((share - 5.0 / 40.0).abs() < 1e-12, "{share}");
        assert!(low < share && share < high && low >= 0.0 && high < 0.3, "{low} {high}");
        // With none flagged no event but those above 2.95 is found.
        assert!((share_found(&all, 4.0, 0.0).0 - 5.0 / 20.0).abs() < 1e-12);
    }

    #[test]
    fn false_rates_are_of_normal_rows() {
        let events = [(100, 119), (400, 400)];
        let mut scores: Vec<f64> = (0..1_000).map(|i| f64::from(i % 100)).collect();
        scores[110] = 98.5;
        scores[119] = 98.5;
        scores[400] = 97.5;
        // Ten of 878 normal rows have 99, as many 98; nine of each are outside of events and their echoes.
        for (rate, found) in [(0.001, 0), (0.02, 1), (0.05, 2)] {
            assert_eq!(found_at_false_rate(&scores, &events, rate), found, "{rate}");
        }
    }
}
