//! How often a whole fleet's statistic climbs as high as this: counts, for a ladder of levels, the excursions that reached each,
//! and extends the count beyond the highest well-counted level by an exponential tail. Excursions are counted on their way
//! up, not when they are over, so that what befalls all entities at once is known before the first has passed a threshold.
//!
//! The peaks of excursions of a random walk with negative drift, such as [`crate::Evidence`], have an exponential tail under
//! any short dependence (Cramér and Lundberg); its rate depends on that dependence and is learned here instead of assumed.
//! Dependent windows are counted once, by the excursion. The tail is the predictive one: with n peaks beyond a level and mean
//! excess m, a further one exceeds it by x with probability (1 + x/(n·m))^−n, so that little seen means little claimed.
//!
//! **Fails when** what is normal for one entity is a mixture over entities too rare to have been counted in a day: the tail
//! then is too light until a few dozens were seen. **Cost:** one comparison a step, [`RUNGS`] operations where a new level is
//! reached, [`RUNGS`] for a question; 270 bytes. **Papers:** W. Feller, *An Introduction to Probability Theory* II, 1971,
//! XII.5 (Cramér's estimate); J. Pickands, *Annals of Statistics* 3(1), 1975 (peaks over a threshold); M. R. Leadbetter,
//! *Z. Wahrscheinlichkeitstheorie* 65, 1983 (clusters). The predictive tail is that of an exponential sample under the
//! prior 1/rate: S. Geisser, *Predictive Inference*, 1993, section 3.2.

use serde::{Deserialize, Serialize};

/// Levels counted.
pub const RUNGS: usize = 64;
/// Rungs in an octave.
const PER_OCTAVE: f64 = 8.0;
/// The tail begins at the highest rung that this many excursions reached.
const COUNTED: f64 = 10.0;
/// Windows without a rung reached after which an excursion is over.
const GAP: u8 = 3;
/// What was counted is forgotten with this time constant.
const MEMORY_MS: f64 = 2.0 * 86_400_000.0;

/// One sequence's present excursion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excursion {
    /// Rungs reached.
    reached: u8,
    /// Windows since the lowest rung was last reached.
    quiet: u8,
}

impl Excursion {
    /// The highest level that it reached; 0 where it reached none.
    #[must_use]
    pub fn height(&self) -> f64 {
        match self.reached.checked_sub(1) {
            Some(rung) => level(rung.into()),
            None => 0.0,
        }
    }
}

/// What is assumed before anything was seen: a share of windows of `begins`·10^(−level/scale) climbs to a level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExcursionPrior {
    /// Windows that the assumption is worth.
    pub windows: f64,
    /// Share of windows in which an excursion begins, in (0, 1].
    pub begins: f64,
    /// Levels for one magnitude; 1 for a surprise that is right.
    pub scale: f64,
}

/// Counts of excursions over any number of sequences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExcursionRate {
    /// Excursions that reached each rung, fading; never more than the rung below.
    reached: Vec<f32>,
    /// Windows looked at, fading.
    windows: f64,
    /// Until when all has faded.
    faded_ms: Option<i64>,
}

impl ExcursionRate {
    /// Has seen nothing but `prior`.
    #[must_use]
    pub fn new(prior: &ExcursionPrior) -> Self {
        let share = |rung| prior.begins * 10f64.powf(-level(rung) / prior.scale.max(0.1));
        Self {
            reached: (0..RUNGS).map(|rung| (prior.windows * share(rung)) as f32).collect(),
            windows: prior.windows.max(1.0),
            faded_ms: None,
        }
    }

    /// Takes in the next window of a sequence, at `at_ms` of event time. What passes `most` counts as having reached that, so
    /// that one disaster does not make every alarm expensive. NaN counts as nothing. Gives back the excursion that is over with it.
    pub fn learn(&mut self, excursion: &mut Excursion, at_ms: i64, value: f64, most: f64) -> Option<Excursion> {
        self.fade(at_ms);
        self.windows += 1.0;
        if value.is_nan() || value < level(0) {
            excursion.quiet = excursion.quiet.saturating_add(1);
            let is_over = excursion.quiet >= GAP;
            return is_over
                .then(|| std::mem::take(excursion))
                .filter(|over| over.reached > 0);
        }
        excursion.quiet = 0;
        let value = value.min(most.max(level(0)));
        while usize::from(excursion.reached) < RUNGS && value >= level(excursion.reached.into()) {
            self.reached[usize::from(excursion.reached)] += 1.0;
            excursion.reached += 1;
        }
        None
    }

    /// Takes back an excursion that turned out not to be a normal one; what has faded of it meanwhile is not made up for.
    pub fn withdraw(&mut self, excursion: &mut Excursion) {
        for reached in self.reached.iter_mut().take(excursion.reached.into()) {
            *reached = (*reached - 1.0).max(0.0);
        }
        *excursion = Excursion::default();
    }

    /// −log10 of the share of windows in which an excursion first climbs to `value`; 0 below the lowest rung.
    #[must_use]
    pub fn surprise(&self, value: f64) -> f64 {
        if value.is_nan() || value < level(0) {
            return 0.0;
        }
        // Far beyond any use; infinity would be 0 times infinity below.
        let value = value.min(1e12);
        let tail = self.tail();
        let reached = if value > tail.from {
            tail.count * (-tail.count * ((value - tail.from) / (tail.count * tail.excess)).ln_1p()).exp()
        } else {
            self.reached_between(value)
        };
        (self.windows / reached.max(f64::MIN_POSITIVE)).log10().max(0.0)
    }

    /// The value whose surprise this is, where that lies in the tail; else where the tail begins.
    #[must_use]
    pub fn level_of(&self, surprise: f64) -> f64 {
        let tail = self.tail();
        let reached = self.windows * 10f64.powf(-surprise);
        let beyond = ((tail.count / reached).ln() / tail.count).exp_m1() * tail.count * tail.excess;
        tail.from + if beyond > 0.0 { beyond.min(1e6) } else { 0.0 }
    }

    /// Between two rungs the logarithm is a line.
    fn reached_between(&self, value: f64) -> f64 {
        let rung = (((value / level(0)).log2() * PER_OCTAVE) as usize).min(RUNGS - 1);
        let (low, high) = (
            f64::from(self.reached[rung]),
            f64::from(self.reached[(rung + 1).min(RUNGS - 1)]),
        );
        let share = (value - level(rung)) / (level(rung + 1) - level(rung));
        low * (high.max(1e-3) / low.max(1e-3)).powf(share.clamp(0.0, 1.0))
    }

    fn tail(&self) -> Tail {
        let counted = |&rung: &usize| f64::from(self.reached[rung]) >= COUNTED;
        let from = (0..RUNGS).rev().find(counted).unwrap_or(0);
        let count = f64::from(self.reached[from]).max(0.5);
        let mut area = 0.0;
        for rung in from..RUNGS - 1 {
            let (a, b) = (f64::from(self.reached[rung]), f64::from(self.reached[rung + 1]));
            if a <= 0.0 {
                break;
            }
            // A chord lies above a convex curve: cautious.
            area += (level(rung + 1) - level(rung)) * (a + b) / 2.0;
        }
        Tail {
            from: level(from),
            count,
            excess: (area / count).max(0.05),
        }
    }

    fn fade(&mut self, at_ms: i64) {
        /// Fading is done in steps, and a jump of the clock counts as one hour.
        const STEP_MS: i64 = 600_000;
        const JUMP_MS: i64 = 3_600_000;
        let since = at_ms.saturating_sub(*self.faded_ms.get_or_insert(at_ms));
        if (0..STEP_MS).contains(&since) {
            return;
        }
        self.faded_ms = Some(at_ms);
        let keep = (-(since.clamp(0, JUMP_MS) as f64) / MEMORY_MS).exp();
        self.windows = (self.windows * keep).max(1.0);
        for reached in &mut self.reached {
            *reached *= keep as f32;
        }
    }
}

/// An exponential tail.
struct Tail {
    from: f64,
    count: f64,
    excess: f64,
}

fn level(rung: usize) -> f64 {
    (rung as f64 / PER_OCTAVE).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: ExcursionPrior = ExcursionPrior {
        windows: 1.0,
        begins: 1.0,
        scale: 1.0,
    };

    fn uniform(x: &mut u64) -> f64 {
        *x = x
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((*x >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    #[test]
    fn a_prior_gives_itself_back() {
        for scale in [1.0, 3.0, 12.0] {
            let rate = ExcursionRate::new(&ExcursionPrior {
                windows: 1e6,
                begins: 1.0,
                scale,
            });
            for surprise in [2.0, 3.0, 4.0, 5.0] {
                let got = rate.surprise(surprise * scale);
                assert!(
                    (got / surprise - 1.0).abs() < 0.12,
                    "scale {scale}: {got} for {surprise}"
                );
            }
        }
    }

    /// Whatever the scale of the statistic is, the surprise learned is the rate of excursions.
    #[test]
    fn the_rate_is_learned_and_extended() {
        for scale in [0.7, 1.0, 4.0] {
            let (mut rate, mut x) = (ExcursionRate::new(&NONE), 3);
            for _ in 0..30_000 {
                let mut excursion = Excursion::default();
                rate.learn(&mut excursion, 0, -uniform(&mut x).log10() * scale, 1e9);
            }
            for surprise in [2.0, 3.0, 5.0, 6.0] {
                let got = rate.surprise(surprise * scale);
                assert!(
                    (got - surprise).abs() < 0.15 * surprise,
                    "scale {scale}: {got} for {surprise}"
                );
                let level = rate.level_of(got);
                assert!(
                    surprise < 3.5 || (level - surprise * scale).abs() < 1e-6 * scale,
                    "{level}"
                );
            }
        }
    }

    #[test]
    fn an_excursion_counts_once_however_long() {
        let (mut one, mut many) = (ExcursionRate::new(&NONE), ExcursionRate::new(&NONE));
        let (mut a, mut b) = Default::default();
        for i in 0..1_000 {
            one.learn(&mut a, 0, if i % 10 == 0 { 3.0 } else { 0.0 }, 1e9);
            many.learn(&mut b, 0, if i % 10 < 6 { 3.0 } else { 0.0 }, 1e9);
        }
        assert_eq!(one, many);
        assert!((one.surprise(2.8) - 1.0).abs() < 0.1, "{}", one.surprise(2.8));
    }

    #[test]
    fn what_is_withdrawn_was_never_there() {
        let (mut rate, mut excursion) = (ExcursionRate::new(&NONE), Excursion::default());
        rate.learn(&mut excursion, 0, 0.0, 1e9);
        let before = rate.clone();
        let mut excursion = Excursion::default();
        rate.learn(&mut excursion, 0, 40.0, 1e9);
        assert!(rate.surprise(30.0) < before.surprise(30.0));
        for time in ["at once", "and only once"] {
            rate.withdraw(&mut excursion);
            let differs = rate
                .reached
                .iter()
                .zip(&before.reached)
                .any(|(a, b)| (a - b).abs() > 1e-6);
            assert!(!differs, "{time}");
        }
    }

    #[test]
    fn little_seen_is_little_claimed() {
        let (mut young, mut old, mut x) = (ExcursionRate::new(&NONE), ExcursionRate::new(&NONE), 3);
        for i in 0..100_000 {
            let value = -uniform(&mut x).log10();
            if i < 100 {
                young.learn(&mut Excursion::default(), 0, value, 1e9);
            }
            old.learn(&mut Excursion::default(), 0, value, 1e9);
        }
        assert!(young.surprise(8.0) < 0.8 * old.surprise(8.0));
    }

    #[test]
    fn forgets_and_is_not_led_astray() {
        let prior = ExcursionPrior {
            windows: 100.0,
            begins: 1.0,
            scale: 1.0,
        };
        let mut rate = ExcursionRate::new(&prior);
        for i in 0..500 {
            rate.learn(&mut Excursion::default(), 0, 1e300, 6.0 + f64::from(i % 2));
            rate.learn(&mut Excursion::default(), 0, f64::NAN, 6.0);
        }
        let bad = rate.surprise(6.0);
        assert!(bad < 1.0, "every other window was such: {bad}");
        for i in 1..=5_000 {
            rate.learn(&mut Excursion::default(), i * 600_000, 0.0, 6.0);
        }
        assert!(rate.surprise(6.0) > bad + 2.0, "{}", rate.surprise(6.0));
        assert!(rate.surprise(f64::INFINITY).is_finite() && rate.surprise(f64::NAN) == 0.0);
    }
}
