//! Finds a rhythm of any length from four to some three hundred points, and learns what is usual at each of its phases.
//! Only signs are kept for the search (above or below the level, one bit a point): the autocorrelation of a clipped
//! signal peaks where the signal's does, and costs a sixty-fourth of it.
//!
//! **Fails when** cycles vary in length (a heart beat, a garbage collector under changing load): phases then blur, and the
//! profile is not believed. Rhythms longer than a third of the memory are for the daily profile. **Cost:** one look-up and
//! one update a point; a search of some ten microseconds every few hundred points while there is no rhythm; 304 bytes.
//! **Paper:** J. H. Van Vleck, D. Middleton, *The spectrum of clipped noise*, Proceedings of the IEEE 54(1), 1966,
//! equation 17 (arcsine law). `Differs:` bits are centred, so that rare spikes count as much as waves.

use serde::{Deserialize, Serialize};

use crate::table::Table;

/// Words of the memory of signs.
const WORDS: usize = 16;
/// Points in the memory of signs.
const MEMORY: usize = WORDS * 64;
/// Points before the first search, and between searches while nothing was found.
const SEARCH_EVERY: u32 = 256;
/// Shortest period, in points.
const SHORTEST: usize = 4;
/// Cycles that the memory must hold.
const CYCLES: usize = 3;
/// Correlation of signs from which on a lag is a candidate.
const CANDIDATE: f64 = 0.35;
/// A shorter lag of nearly the best correlation is the period, and the best one a multiple of it.
const NEARLY: f64 = 0.85;
/// Final step of a phase's level, per cycle.
const ALPHA_CYCLE: f64 = 0.1;
/// Final step of the errors that are compared.
const ALPHA_ERROR: f64 = 1.0 / 300.0;
/// The profile is used while its error is below this share of the plain level's.
const GATE: f64 = 0.7;
/// Above this share, after [`TRIAL`] cycles, the rhythm is given up.
const GIVEN_UP: f64 = 0.95;
/// Cycles before a profile is believed.
const TRIAL: u16 = 3;
/// Residuals count as at most this many mean errors.
const CLAMP: f64 = 5.0;
/// Steps of a table that make one spread.
const QUANTA: f64 = 64.0;
/// Values count as at most this many spreads from the level.
const FARTHEST: f64 = 50.0;
/// Missing points that are bridged; after more the phase is lost.
const BRIDGED: u32 = 4_096;

/// Rhythm of a series, counted in points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Period {
    /// Whether each of the last points lay above the level; the newest is the lowest bit of the first word.
    signs: [u64; WORDS],
    /// Points ever.
    points: u32,
    /// Points until the next search.
    search_in: u32,
    /// Points of a cycle; 0 while there is no rhythm.
    length: f32,
    /// Place in the cycle, 0 .. `length`.
    phase: f32,
    /// Whole cycles seen.
    cycles: u16,
    levels: Table,
    /// Mean |residual| of the profile, in the unit of the series.
    error: f32,
    /// Mean |residual| of the plain level, in the unit of the series.
    error_flat: f32,
    compared: u16,
}

impl Period {
    /// What is usual at the phase of the next point, in the unit of the series, if the rhythm has earned belief.
    #[must_use]
    #[inline]
    pub fn expected(&self) -> Option<f64> {
        if self.length <= 0.0 || self.cycles < TRIAL || f64::from(self.error) >= GATE * f64::from(self.error_flat) {
            None
        } else {
            self.level()
        }
    }

    /// Spread of the profile's residuals, as a standard deviation in the unit of the series.
    #[must_use]
    pub fn scale(&self) -> f64 {
        1.2533 * f64::from(self.error)
    }

    /// Points of a cycle; `None` while there is no rhythm.
    #[must_use]
    pub fn length(&self) -> Option<f64> {
        (self.length > 0.0).then_some(f64::from(self.length))
    }

    /// Learns a finite value. `flat` is what the plain level expected and `unit` (> 0) its spread, in the unit of the series.
    pub fn learn(&mut self, value: f64, flat: f64, unit: f64) {
        self.remember(value > flat);
        // One outlier must not coarsen the table. Not `clamp`: a damaged snapshot may hold a spread below zero.
        let value = value.max(flat - FARTHEST * unit).min(flat + FARTHEST * unit);
        if self.length > 0.0 {
            self.learn_phase(value, flat, unit);
        }
        self.search_in = self.search_in.saturating_sub(1);
        if self.search_in == 0 {
            self.search(value, unit);
        }
    }

    /// Lets `points` missing ones pass.
    pub fn skip(&mut self, points: u32) {
        if points > BRIDGED {
            *self = Self::default();
            return;
        }
        for _ in 0..points {
            // The last sign stands for the missing ones: no edge is made up.
            self.remember(self.signs[0] & 1 == 1);
            self.step();
        }
    }

    #[inline]
    fn remember(&mut self, above: bool) {
        let before = self.signs;
        for (word, pair) in self.signs[1..].iter_mut().zip(before.windows(2)) {
            *word = (pair[1] << 1) | (pair[0] >> 63);
        }
        self.signs[0] = (before[0] << 1) | u64::from(above);
        self.points = self.points.saturating_add(1);
    }

    #[inline]
    fn step(&mut self) {
        if self.length <= 0.0 {
            return;
        }
        self.phase += 1.0;
        if self.phase >= self.length {
            self.phase -= self.length;
            self.cycles = self.cycles.saturating_add(1);
        }
    }

    /// Levels in use: one a point for short cycles.
    fn levels_used(&self) -> usize {
        (self.length.round() as usize).clamp(1, Table::LEVELS)
    }

    /// Table index at and after the phase, and how far between them it lies.
    fn place(&self) -> (usize, usize, f64) {
        let used = self.levels_used();
        let place = f64::from(self.phase) / f64::from(self.length) * used as f64;
        if used < Table::LEVELS {
            let index = (place.round() as usize) % used;
            return (index, index, 0.0);
        }
        let index = (place as usize).min(used - 1);
        (index, (index + 1) % used, place.fract())
    }

    fn level(&self) -> Option<f64> {
        let (left, right, share) = self.place();
        let a = self.levels.get(left)?;
        Some(self.levels.get(right).map_or(a, |b| a + share * (b - a)))
    }

    fn learn_phase(&mut self, value: f64, flat: f64, unit: f64) {
        let (left, right, share) = self.place();
        if let Some(level) = self.level() {
            self.compare(value - level, value - flat, 0.02 * unit);
        }
        let nearest = if share < 0.5 { left } else { right };
        let points_per_level = (f64::from(self.length) / self.levels_used() as f64).max(1.0);
        let alpha = ALPHA_CYCLE.max(1.0 / (f64::from(self.cycles) + 1.0)) / points_per_level.sqrt();
        let level = match self.levels.get(nearest) {
            Some(held) => {
                let limit = if self.cycles >= TRIAL {
                    CLAMP * f64::from(self.error).max(0.02 * unit)
                } else {
                    f64::INFINITY
                };
                held + alpha * (value - held).max(-limit).min(limit)
            }
            None => value,
        };
        self.levels.set(nearest, level);
        self.step();
        if self.cycles > TRIAL && f64::from(self.error) > GIVEN_UP * f64::from(self.error_flat) {
            self.length = 0.0;
            self.search_in = SEARCH_EVERY;
        }
    }

    fn compare(&mut self, residual: f64, residual_flat: f64, floor: f64) {
        self.compared = self.compared.saturating_add(1);
        let alpha = ALPHA_ERROR.max(1.0 / f64::from(self.compared));
        let bounded = |residual: f64, mean: f32| {
            let limit = if self.compared > 24 {
                CLAMP * f64::from(mean).max(floor)
            } else {
                f64::from(f32::MAX)
            };
            residual.abs().min(limit)
        };
        let (own, flat) = (bounded(residual, self.error), bounded(residual_flat, self.error_flat));
        self.error += (alpha * (own - f64::from(self.error))) as f32;
        self.error_flat += (alpha * (flat - f64::from(self.error_flat))) as f32;
    }

    /// Looks for a rhythm in the signs. Cost: some ten microseconds.
    fn search(&mut self, value: f64, unit: f64) {
        self.search_in = SEARCH_EVERY;
        if self.length > 0.0 || self.points < SEARCH_EVERY {
            return;
        }
        let known = (self.points as usize).min(MEMORY);
        let Some(length) = self.find(known) else { return };
        let fresh = Self {
            signs: self.signs,
            points: self.points,
            search_in: self.search_in,
            length: length as f32,
            levels: Table::around(value, unit / QUANTA),
            ..Self::default()
        };
        *self = fresh;
    }

    /// Length of the cycle, in points.
    fn find(&self, known: usize) -> Option<f64> {
        let ones: u32 = self.signs[..known / 64].iter().map(|w| w.count_ones()).sum();
        let share = f64::from(ones) / (known / 64 * 64) as f64;
        // Without at least a few of each sign there is nothing to correlate.
        if share * (1.0 - share) < 0.01 {
            return None;
        }
        let longest = known / CYCLES;
        let mut correlations = [0f32; MEMORY / CYCLES + 1];
        let mut was_low = false;
        let mut best = 0f32;
        let (mut late, mut early) = (self.signs, self.signs);
        for (lag, correlation) in correlations.iter_mut().enumerate().take(longest + 1).skip(1) {
            let used = (known - lag) / 64;
            // Whole words of both, and no branch for the others: they are empty.
            late[used..].fill(0);
            move_back(&mut early);
            let r = correlation_of(&late, &early, used, share) as f32;
            *correlation = r;
            // The first peak counts only after the correlation has been low: a slow wander has no such valley.
            was_low |= r < 0.1;
            if was_low && lag >= SHORTEST {
                best = best.max(r);
            }
        }
        let significant = CANDIDATE.max(4.0 / (known as f64).sqrt()) as f32;
        if best < significant {
            return None;
        }
        let valley = (1..=longest).find(|&lag| correlations[lag] < 0.1)?;
        let first = (valley.max(SHORTEST)..=longest).find(|&lag| correlations[lag] >= NEARLY as f32 * best)?;
        // The top of that peak, and then of its multiples, which tell the length ever more exactly.
        let mut lag = peak(&correlations, first, 2 + first / 16, longest);
        if lag + 2 > longest {
            // Still rising at the edge of what is known: the top lies beyond.
            return None;
        }
        let mut length = lag as f64;
        let mut multiple = 2;
        while (length * f64::from(multiple)) as usize + 2 <= longest {
            let near = (length * f64::from(multiple)).round() as usize;
            let next = peak(&correlations, near, 2, longest);
            // A multiple lies beyond the one before it; where it does not, these are no peaks of a cycle.
            if next <= lag || correlations[next] < 0.5 * best {
                break;
            }
            lag = next;
            length = lag as f64 / f64::from(multiple);
            multiple += 1;
        }
        Some(length)
    }
}

/// Moves the signs on by one, so that each comes to where the one after it was.
#[inline]
fn move_back(signs: &mut [u64; WORDS]) {
    let before = *signs;
    for (word, pair) in signs.iter_mut().zip(before.windows(2)) {
        *word = (pair[0] >> 1) | (pair[1] << 63);
    }
    signs[WORDS - 1] = before[WORDS - 1] >> 1;
}

/// Correlation of the signs with those some points before, of `words` whole words; `share` of the signs are 1.
#[inline]
fn correlation_of(late: &[u64; WORDS], early: &[u64; WORDS], words: usize, share: f64) -> f64 {
    if words == 0 {
        return 0.0;
    }
    let both: u32 = late.iter().zip(early).map(|(a, b)| (a & b).count_ones()).sum();
    let both = f64::from(both) / (words * 64) as f64;
    (both - share * share) / (share * (1.0 - share))
}

/// The lag of the greatest correlation within `reach` of `lag`.
fn peak(correlations: &[f32], lag: usize, reach: usize, longest: usize) -> usize {
    let mut best = lag;
    for near in lag.saturating_sub(reach).max(1)..=(lag + reach).min(longest) {
        if correlations[near] > correlations[best] {
            best = near;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    fn noise(i: usize) -> f64 {
        let mut z = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    }

    fn learned(points: usize, mut value: impl FnMut(usize) -> f64) -> Period {
        let mut period = Period::default();
        (0..points).for_each(|i| period.learn(value(i), 0.0, 1.0));
        period
    }

    #[test]
    fn lengths_by_case() {
        // (name, value, length)
        type Case = (&'static str, fn(usize) -> f64, Option<f64>);
        let cases: [Case; 8] = [
            ("noise has none", noise, None),
            ("a flat series has none", |_| 0.0, None),
            ("a wave", |i| (i as f64 / 37.0 * TAU).sin() + 0.5 * noise(i), Some(37.0)),
            ("a long one", |i| (i as f64 / 288.0 * TAU).sin() + noise(i), Some(288.0)),
            (
                "no whole number",
                |i| (i as f64 / 50.4 * TAU).sin() + 0.3 * noise(i),
                Some(50.4),
            ),
            ("a saw", |i| (i % 47) as f64 - 23.0 + noise(i), Some(47.0)),
            (
                "a spike now and then",
                |i| if i % 60 == 7 { 9.0 } else { -0.2 + 0.1 * noise(i) },
                Some(60.0),
            ),
            ("a ramp has none", |i| i as f64 - 1_000.0, None),
        ];
        for (name, value, length) in cases {
            let period = learned(2_000, value);
            let found = period.expected().and(period.length());
            match (found, length) {
                (None, None) => {}
                (Some(found), Some(length)) => {
                    assert!((found - length).abs() < 0.02 * length, "{name}: {found}");
                    let error = (period.expected().expect("believed") - value(2_000)).abs();
                    assert!(error < 1.2, "{name}: {error}");
                }
                _ => assert_eq!(found, length, "{name}: {period:?}"),
            }
        }
    }

    /// Runs of random length, of which some correlate with everything: multiples of a peak must not run backwards.
    #[test]
    fn random_runs_have_no_cycle_of_next_to_no_points() {
        for seed in 0..300 {
            let mean_run = [1.5, 3.0, 10.0][seed % 3];
            let share = [0.05, 0.3, 0.9][seed / 3 % 3];
            let mut high = false;
            let period = learned(1_100, |i| {
                if noise(seed * 10_000 + 2 * i) + 0.5 < 1.0 / mean_run {
                    high = noise(seed * 10_000 + 2 * i + 1) + 0.5 < share;
                }
                f64::from(u8::from(high)) - 0.5
            });
            let length = period.length();
            assert!(
                length.is_none_or(|l| l >= SHORTEST as f64 - 1.0),
                "seed {seed}: {length:?}"
            );
        }
    }

    #[test]
    fn a_gap_keeps_the_phase() {
        let wave = |i: usize| (i as f64 / 40.0 * TAU).sin();
        let mut period = learned(1_200, wave);
        period.skip(110);
        let error = (period.expected().expect("believed") - wave(1_310)).abs();
        assert!(error < 0.2, "{error}");
        period.skip(u32::MAX);
        assert_eq!(period.expected(), None);
    }

    #[test]
    fn a_rhythm_that_ends_is_given_up() {
        let mut period = learned(1_200, |i| (i as f64 / 40.0 * TAU).sin());
        (0..3_000).for_each(|i| period.learn(noise(i), 0.0, 1.0));
        assert_eq!(period.expected(), None);
    }
}
