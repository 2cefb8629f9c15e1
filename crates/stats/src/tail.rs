//! Turns a stream of scores into calibrated surprises: a fading histogram answers for common scores, a generalised Pareto
//! tail fitted above a high quantile for rare ones. It forgets, so that a bad start is repaired, and what it learns from
//! one observation is bounded, so that anomalies in the warm-up do not make it deaf.
//!
//! **Fails when** scores come from two worlds that alternate slower than the memory, or when the tail bends far beyond
//! anything seen (the extrapolation is then off by a factor, never silent). **Cost:** one logarithm and the sum of at
//! most 32 small integers a score; 100 bytes.
//! **Papers:** A. Siffer, P.-A. Fouque, A. Termier, C. Largouët, *Anomaly detection in streams with extreme value
//! theory*, KDD 2017, section 4 (peaks over threshold); J. Pickands, *Annals of Statistics* 3(1), 1975, theorem 7.
//! `Differs:` the shape is fixed (moment and likelihood fits of it jump on a hundred exceedances); the threshold is read
//! off a histogram that is halved when full, because a stochastic quantile that is stuck high after a bad warm-up never
//! sees an exceedance again.

use std::f64::consts::LN_10;

use serde::{Deserialize, Serialize};

/// Histogram bins: four an octave cover scores from 1/4 to 64.
const BINS: usize = 32;
/// Units an observation adds to its bin, so that halving keeps the fractions of rare ones.
const UNIT: u16 = 8;
/// Bin 0 holds everything below the next edge above this.
const SMALLEST: f32 = 0.25;
/// Magnitudes beyond 1/n that extrapolation is trusted for.
const MAGNITUDES_BEYOND: f64 = 1.5;
/// The tail is fitted to one in this many observations, and to this many at least.
const TAIL_SHARE: u32 = 52;
const TAIL_LEAST: u32 = 16;
/// Magnitudes beyond 1/n at which an observation is taken to lie at most.
pub(crate) const REACH: f64 = 0.7;
/// Two bits of mantissa make four bins an octave.
const BIN_SHIFT: u32 = 21;
/// Where each bin starts, and where the last ends.
const EDGES: [f32; BINS + 1] = {
    let mut edges = [0.0; BINS + 1];
    let mut bin = 1;
    while bin <= BINS {
        edges[bin] = f32::from_bits(((SMALLEST.to_bits() >> BIN_SHIFT) + bin as u32) << BIN_SHIFT);
        bin += 1;
    }
    edges
};
/// Read from `BINS − 1 − b` on: masks that leave out the bins up to b.
const COUNTED: [u16; 2 * BINS] = {
    let mut masks = [0; 2 * BINS];
    let mut i = BINS;
    while i < 2 * BINS {
        masks[i] = u16::MAX;
        i += 1;
    }
    masks
};

/// What a calibrator assumes before it has seen anything.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TailPrior {
    /// Scores of this prior have P(Z ≥ z) = exp(−rate·z).
    pub rate: f64,
    /// Observations the prior is worth; at most 250.
    pub weight: f64,
    /// Shape ξ of the Pareto tail: 0 is exponential, more is heavier; in 0 ..= 1.
    pub shape: f64,
    /// Observations remembered: the histogram is halved when it holds this many; in 64 ..= 8000.
    pub memory: u32,
}

impl Default for TailPrior {
    fn default() -> Self {
        Self {
            rate: 1.3,
            weight: 24.0,
            shape: 0.1,
            memory: 4000,
        }
    }
}

/// Streaming map from a score (≥ 0, higher is stranger, any unit of order one) to its surprise −log10 P(Z ≥ z).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TailCalibrator {
    /// Mass in units of 1/8 observation; bin b ≥ 1 starts at `lower_edge(b)`.
    bins: [u16; BINS],
    /// Sum of all bins.
    mass: u32,
    /// Observations at which the histogram is halved.
    memory: u16,
    /// Observations ever, without the prior.
    seen: u32,
    /// Observations until the tail is fitted again.
    fit_in: u8,
    /// ξ.
    shape: f32,
    /// Where the tail begins: a bin edge.
    threshold: f32,
    /// Surprise there.
    threshold_surprise: f32,
    /// Scale σ of the tail, in units of the score.
    scale: f32,
    /// What an observation beyond this counts as: as far out as the memory can honestly support.
    clip: f32,
    /// The score that one in a hundred exceeds.
    percentile_99: f32,
}

impl TailCalibrator {
    /// A calibrator that has seen nothing but `prior`.
    #[must_use]
    pub fn new(prior: &TailPrior) -> Self {
        let mut calibrator = Self {
            bins: [0; BINS],
            mass: 0,
            memory: prior.memory.clamp(64, 8000) as u16,
            seen: 0,
            fit_in: 0,
            shape: prior.shape.clamp(0.0, 1.0) as f32,
            threshold: 0.0,
            threshold_surprise: 0.0,
            scale: 0.0,
            clip: 0.0,
            percentile_99: 0.0,
        };
        let units = prior.weight.clamp(1.0, 250.0) * f64::from(UNIT);
        for bin in 0..BINS {
            let survival = |edge: f32| (-prior.rate * f64::from(edge)).exp();
            let upper = if bin + 1 < BINS {
                survival(lower_edge(bin + 1))
            } else {
                0.0
            };
            calibrator.bins[bin] = (units * (survival(lower_edge(bin)) - upper)).round() as u16;
        }
        calibrator.mass = calibrator.bins.iter().map(|&c| u32::from(c)).sum();
        calibrator.fit();
        calibrator
    }

    /// Surprise of a score, without regard to how little has been seen. NaN and negative scores have none; infinity has
    /// that of the largest float.
    #[must_use]
    pub fn extrapolated_surprise(&self, score: f64) -> f64 {
        if score >= f64::from(self.threshold) {
            self.tail_surprise(score)
        } else {
            self.body_rarity(score).log10()
        }
    }

    /// 1/p of a score: ten to the power of its [`Self::extrapolated_surprise`], without a logarithm where the score is
    /// common. Bent towards 1e300 beyond 1e250, so that sums of a few stay finite and still rank.
    #[must_use]
    #[inline]
    pub fn rarity(&self, score: f64) -> f64 {
        if score >= f64::from(self.threshold) {
            let surprise = self.tail_surprise(score);
            let bent = if surprise > 250.0 {
                300.0 - 50.0 * (250.0 / surprise)
            } else {
                surprise
            };
            (bent * LN_10).exp()
        } else {
            self.body_rarity(score)
        }
    }

    fn tail_surprise(&self, score: f64) -> f64 {
        let y = (score.min(f64::MAX) - f64::from(self.threshold)) / f64::from(self.scale);
        let shape = f64::from(self.shape);
        let nats = if shape > 0.0 {
            (shape * y).min(f64::MAX).ln_1p() / shape
        } else {
            y
        };
        f64::from(self.threshold_surprise) + (nats / LN_10).min(f64::MAX)
    }

    /// 1/p of a score below the threshold.
    #[inline]
    fn body_rarity(&self, score: f64) -> f64 {
        if score.is_nan() || score <= 0.0 {
            return 1.0;
        }
        let bin = bin_of(score as f32);
        let (lower, upper) = (f64::from(lower_edge(bin)), f64::from(lower_edge(bin + 1)));
        let above = self.mass_above(bin);
        let share = 1.0 - ((score - lower) / (upper - lower)).clamp(0.0, 1.0);
        let survival = (f64::from(above) + f64::from(self.bins[bin]) * share) / f64::from(self.mass);
        1.0 / survival.clamp(f64::MIN_POSITIVE, 1.0)
    }

    /// Units in the bins after this one. Looks at every bin, so that there is no branch to guess and a vector holds eight.
    #[inline]
    fn mass_above(&self, bin: usize) -> u32 {
        // The length is known when this is compiled.
        let masks = COUNTED[BINS - 1 - bin..].first_chunk::<BINS>();
        let counted = self.bins.iter().zip(masks.unwrap_or(&[0; BINS]));
        counted.map(|(&units, &mask)| u32::from(units & mask)).sum()
    }

    /// Surprise of a score. Far beyond what the number of observations supports (p below about 1/(30·n)) a further
    /// magnitude counts half: extrapolation is trusted less, and still ranks.
    #[must_use]
    pub fn surprise(&self, score: f64) -> f64 {
        let surprise = self.extrapolated_surprise(score);
        let supported = f64::from(self.seen.max(1)).log10() + MAGNITUDES_BEYOND;
        if surprise > supported {
            supported + 0.5 * (surprise - supported)
        } else {
            surprise
        }
    }

    /// Takes a score into the histogram with the weight of `eighths`/8 observations, at most 125. NaN is ignored; what
    /// lies beyond the present reach counts as just at it, so that one score moves the tail by a bounded amount.
    pub fn learn(&mut self, score: f64, eighths: u16) {
        if score.is_nan() || eighths == 0 {
            return;
        }
        let bin = bin_of((score as f32).min(self.clip));
        let units = eighths.min(1000);
        // The memory bounds every bin by 65,000; a damaged snapshot may be past it.
        let held = &mut self.bins[bin];
        *held = held.saturating_add(units);
        self.mass = self.mass.saturating_add(u32::from(units));
        self.seen = self.seen.saturating_add(1);
        if self.mass >= u32::from(self.memory) * u32::from(UNIT) {
            self.halve();
        }
        self.fit_in = self.fit_in.saturating_sub(1);
        if self.fit_in == 0 {
            self.fit();
        }
    }

    /// The score that one in a hundred exceeds, as of the last fit.
    #[must_use]
    pub fn percentile_99(&self) -> f64 {
        f64::from(self.percentile_99)
    }

    /// Observations ever learned.
    #[must_use]
    pub fn seen(&self) -> u32 {
        self.seen
    }

    fn halve(&mut self) {
        for bin in &mut self.bins {
            *bin /= 2;
        }
        self.mass = self.bins.iter().map(|&c| u32::from(c)).sum();
    }

    /// Fits the tail; costs some hundred nanoseconds and is due each time the evidence has grown by a few per cent.
    fn fit(&mut self) {
        let bins = &self.bins;
        // Above the 98 % quantile, but with enough exceedances for a mean.
        let wanted = (self.mass / TAIL_SHARE)
            .max(TAIL_LEAST * u32::from(UNIT))
            .min(self.mass / 4);
        let (mut above, mut moment, mut edge) = (0u32, 0.0f64, BINS);
        while edge > 1 && (above < wanted || above == 0) {
            edge -= 1;
            above += u32::from(bins[edge]);
            moment += f64::from(bins[edge]) * f64::from(centre(edge));
        }
        let threshold = f64::from(lower_edge(edge));
        let survival = f64::from(above.max(1)) / f64::from(self.mass.max(1));
        let shape = f64::from(self.shape);
        // Mean excess of a Pareto tail is σ/(1 − ξ).
        let excess = if above > 0 {
            moment / f64::from(above) - threshold
        } else {
            threshold
        };
        let scale = (excess * (1.0 - shape)).max(0.02 * threshold + 1e-3);
        self.threshold = threshold as f32;
        self.threshold_surprise = -survival.log10() as f32;
        self.scale = scale as f32;
        let reach = f64::from(self.mass / u32::from(UNIT)).max(1.0).log10() + REACH;
        self.clip = self.score_at(reach) as f32;
        self.percentile_99 = self.score_at(2.0) as f32;
        self.fit_in = (self.mass / (32 * u32::from(UNIT))).clamp(1, 64) as u8;
    }

    /// Score of a given surprise: the inverse of [`Self::extrapolated_surprise`], to a bin's width below the threshold.
    fn score_at(&self, surprise: f64) -> f64 {
        let nats = (surprise - f64::from(self.threshold_surprise)) * LN_10;
        let (threshold, scale, shape) = (f64::from(self.threshold), f64::from(self.scale), f64::from(self.shape));
        if nats >= 0.0 {
            let y = if shape > 0.0 {
                (shape * nats).exp_m1() / shape
            } else {
                nats
            };
            return threshold + scale * y;
        }
        let bins = &self.bins;
        let wanted = f64::from(self.mass) * 10f64.powf(-surprise);
        let mut above = 0.0;
        for bin in (0..BINS).rev() {
            above += f64::from(bins[bin]);
            if above >= wanted {
                return f64::from(lower_edge(bin + 1).min(self.threshold));
            }
        }
        threshold
    }
}

/// Bin of a score; 0 for everything small, [`BINS`] − 1 for everything large. Without a branch: no processor could guess it.
#[inline]
fn bin_of(score: f32) -> usize {
    // `abs` for the sign of zero.
    let steps = score.max(0.0).abs().to_bits() >> BIN_SHIFT;
    (steps.saturating_sub(SMALLEST.to_bits() >> BIN_SHIFT) as usize).min(BINS - 1)
}

/// Where a bin starts: 0, then four edges an octave.
#[inline]
fn lower_edge(bin: usize) -> f32 {
    EDGES[bin]
}

fn centre(bin: usize) -> f32 {
    0.5 * (lower_edge(bin) + lower_edge(bin + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// SplitMix64 in 0 .. 1, open at both ends.
    fn uniform(i: u64) -> f64 {
        let mut z = i.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn exponential(i: u64) -> f64 {
        -uniform(i).ln()
    }

    #[test]
    fn surprises_are_calibrated_by_case() {
        // (name, score, shape, lowest and highest share of nominal at 1e-2 and 1e-3)
        type Case = (&'static str, fn(u64) -> f64, f64, f64, f64);
        let cases: [Case; 4] = [
            ("exponential", exponential, 0.0, 0.7, 1.5),
            (
                "half normal",
                |i| (2.0 * exponential(i)).sqrt() * (std::f64::consts::TAU * uniform(i + (1 << 40))).cos().abs(),
                0.0,
                0.3,
                1.5,
            ),
            ("Pareto", |i| uniform(i).powf(-0.3) - 1.0, 0.3, 0.6, 1.6),
            ("lumps of counts", |i| exponential(i).floor(), 0.0, 0.0, 1.5),
        ];
        for (name, score, shape, lowest, highest) in cases {
            let mut tail = TailCalibrator::new(&TailPrior {
                shape,
                ..TailPrior::default()
            });
            let (mut at_2, mut at_3, mut scored) = (0.0, 0.0, 0.0);
            for i in 0..200_000 {
                let z = score(i);
                if i >= 2_000 {
                    scored += 1.0;
                    at_2 += f64::from(u8::from(tail.surprise(z) >= 2.0));
                    at_3 += f64::from(u8::from(tail.surprise(z) >= 3.0));
                }
                tail.learn(z, 8);
            }
            for (nominal, found) in [(1e-2, at_2 / scored), (1e-3, at_3 / scored)] {
                let share = found / nominal;
                assert!(
                    (lowest..=highest).contains(&share),
                    "{name}: {share} of nominal at {nominal}"
                );
            }
        }
    }

    #[test]
    fn a_contaminated_start_does_not_deafen() {
        let mut tail = TailCalibrator::new(&TailPrior::default());
        for i in 0..500 {
            tail.learn(if i % 50 == 7 { 60.0 } else { exponential(i) }, 8);
        }
        let soon = tail.surprise(60.0);
        for i in 500..6_000 {
            tail.learn(exponential(i), 8);
        }
        let later = tail.surprise(60.0);
        assert!(soon > 1.5, "one in fifty was like it: {soon}");
        assert!(later > 4.0, "and is forgotten: {later}");
    }

    #[test]
    fn odd_scores_by_case() {
        let mut tail = TailCalibrator::new(&TailPrior::default());
        let fresh = tail.clone();
        for score in [f64::NAN, f64::NEG_INFINITY, -1.0, 0.0] {
            assert_eq!(tail.surprise(score), 0.0, "{score}");
            assert_eq!(tail.rarity(score), 1.0, "{score}");
        }
        tail.learn(f64::NAN, 8);
        tail.learn(1.0, 0);
        assert_eq!(tail, fresh, "nothing was learned");
        assert!(tail.surprise(f64::INFINITY).is_finite() && tail.rarity(f64::INFINITY).is_finite());
        assert!(tail.surprise(1e30) < tail.surprise(1e31), "no bound that ties");
        for _ in 0..10_000 {
            tail.learn(f64::INFINITY, 8);
            tail.learn(0.0, 8);
        }
        assert!(tail.surprise(f64::MAX).is_finite());
    }

    #[test]
    fn a_flat_stream_makes_everything_else_surprising_but_not_at_once() {
        let mut tail = TailCalibrator::new(&TailPrior::default());
        for _ in 0..1_000 {
            tail.learn(0.0, 8);
        }
        assert_eq!(tail.surprise(0.0), 0.0);
        assert!(tail.surprise(0.2) < 2.5, "a tiny change: {}", tail.surprise(0.2));
        assert!(tail.surprise(20.0) > 4.0, "a large one: {}", tail.surprise(20.0));
    }

    #[test]
    fn saving_and_loading_changes_nothing() {
        let mut tail = TailCalibrator::new(&TailPrior::default());
        for i in 0..5_000 {
            tail.learn(exponential(i), 8);
        }
        let bytes = postcard::to_stdvec(&tail).expect("encodes");
        assert_eq!(postcard::from_bytes::<TailCalibrator>(&bytes).expect("decodes"), tail);
        assert!(size_of::<TailCalibrator>() <= 100);
    }

    proptest! {
        /// Against the sorted array, below the tail.
        #[test]
        fn common_scores_match_the_empirical_survival(seed in 0u64..1_000_000, probe in 0.3f64..3.0) {
            let mut tail = TailCalibrator::new(&TailPrior { memory: 8000, ..TailPrior::default() });
            let scores: Vec<f64> = (0..3_000).map(|i| exponential(seed * 10_000 + i)).collect();
            scores.iter().for_each(|&z| tail.learn(z, 8));
            let naive = scores.iter().filter(|&&z| z >= probe).count() as f64 / 3_000.0;
            prop_assert!((10f64.powf(-tail.surprise(probe)) / naive).ln().abs() < 0.3);
        }

        #[test]
        fn stranger_is_never_less_surprising(seed in 0u64..1_000_000, a in 0f64..1e6, b in 0f64..1e6, n in 0u64..800) {
            let mut tail = TailCalibrator::new(&TailPrior::default());
            (0..n).for_each(|i| tail.learn(exponential(seed * 1_000 + i), 8));
            prop_assert!(tail.surprise(a.max(b)) >= tail.surprise(a.min(b)) - 1e-6);
        }

        #[test]
        fn any_bits_give_a_surprise(bits in proptest::collection::vec((any::<u64>(), any::<u16>()), 0..300)) {
            let mut tail = TailCalibrator::new(&TailPrior::default());
            for (score, eighths) in bits {
                let score = f64::from_bits(score);
                prop_assert!(tail.surprise(score) >= 0.0 && tail.rarity(score) >= 1.0 - 1e-9);
                tail.learn(score, eighths);
            }
        }
    }
}
