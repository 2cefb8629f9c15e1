//! The chance that the next window shows a kind never seen before, from how many kinds were seen in one window only.
//! A source that has long shown nothing new is believed; one that keeps showing new kinds is expected to go on.
//!
//! Fails at the first window of a new regime (a deployment), as it should: that is the alarm. After it, the recent rate of
//! discoveries keeps the next ones from being told with the same surprise. Cost: O(1), 40 bytes. Good, Biometrika 40, 1953;
//! for windows instead of single draws (incidence data) Chao and Colwell, Methods Ecol. Evol. 8, 2017, eq. 4. `Differs:`
//! add-one smoothing, and the larger of the all-time and the recent rate counts.

use serde::{Deserialize, Serialize};

/// How many kinds were seen in exactly one window, and in how many windows anything was seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoodTuring {
    /// Windows so far.
    windows: f64,
    /// Kinds seen in exactly one of them.
    singletons: f64,
    /// Windows with a discovery, decayed.
    recent: f64,
    /// Windows, decayed.
    recent_windows: f64,
    /// Windows after which the recent rate forgets.
    memory: f64,
}

impl GoodTuring {
    /// Knows nothing; the recent rate of discoveries forgets beyond `memory` windows (at least 2).
    #[must_use]
    pub fn new(memory: f64) -> Self {
        let memory = if memory >= 2.0 { memory } else { 2.0 };
        Self {
            windows: 0.0,
            singletons: 0.0,
            recent: 0.0,
            recent_windows: 0.0,
            memory,
        }
    }

    /// Takes in one window: how many kinds were seen for the first time, and how many in their second window.
    pub fn learn(&mut self, new: u32, second: u32) {
        self.windows += 1.0;
        self.singletons = (self.singletons + f64::from(new) - f64::from(second)).max(0.0);
        let fade = 1.0 - 1.0 / self.memory;
        self.recent = self.recent * fade + if new > 0 { 1.0 } else { 0.0 };
        self.recent_windows = self.recent_windows * fade + 1.0;
    }

    /// Two kinds turned out to be one: `singletons` fewer were seen in one window only.
    pub fn forget_singletons(&mut self, singletons: u32) {
        self.singletons = (self.singletons - f64::from(singletons)).max(0.0);
    }

    /// Expected number of new kinds in the next window.
    #[must_use]
    pub fn expected(&self) -> f64 {
        let ever = (self.singletons + 1.0) / (self.windows + 1.0);
        let recent = if self.recent_windows > 0.0 {
            self.recent / self.recent_windows
        } else {
            1.0
        };
        ever.max(recent)
    }

    /// P(at least `new` kinds never seen in the next window). Discoveries come in clusters of any size (a deployment brings
    /// many), so beyond the first the tail falls only as one over their number.
    #[must_use]
    pub fn p(&self, new: u32) -> f64 {
        if new == 0 {
            return 1.0;
        }
        -(-self.expected()).exp_m1() / f64::from(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_by_case() {
        let empty = GoodTuring::new(100.0);
        assert!(empty.p(1) > 0.6, "nothing known, nothing surprising");
        let mut settled = GoodTuring::new(100.0);
        settled.learn(10, 0);
        settled.learn(0, 10);
        for _ in 0..10_000 {
            settled.learn(0, 0);
        }
        assert!(settled.p(1) < 2e-4, "{}", settled.p(1));
        assert!((settled.p(0) - 1.0).abs() < f64::EPSILON);
        assert!(settled.p(20) < settled.p(1));
        settled.learn(3, 0);
        assert!(
            settled.p(1) > 0.005,
            "the second discovery in a row is less of a surprise"
        );
    }

    #[test]
    fn warm_up_is_silent() {
        let mut source = GoodTuring::new(200.0);
        for _ in 0..10 {
            assert!(source.p(1) > 0.1);
            source.learn(2, 1);
        }
    }

    /// Kinds with Zipf frequencies: the expected number agrees with the discoveries that then happen.
    #[test]
    fn agrees_with_the_held_out_rate() {
        let mut seed = 7_u64;
        let mut seen = std::collections::BTreeMap::<u32, u32>::new();
        let mut source = GoodTuring::new(1e9);
        let (mut expected, mut happened) = (0.0, 0.0);
        for window in 0..20_000 {
            let (mut new, mut second) = (0, 0);
            let kinds: std::collections::BTreeSet<u32> = (0..3).map(|_| zipf(&mut seed)).collect();
            for kind in kinds {
                let windows = seen.entry(kind).or_insert(0);
                *windows += 1;
                new += u32::from(*windows == 1);
                second += u32::from(*windows == 2);
            }
            if window > 1_000 {
                expected += (source.singletons + 1.0) / (source.windows + 1.0);
                happened += f64::from(new);
            }
            source.learn(new, second);
        }
        let ratio: f64 = expected / happened;
        assert!((0.8..1.3).contains(&ratio), "{expected} expected, {happened} happened");
    }

    /// P(kind ≥ k) falls as k^(−5/6).
    fn zipf(seed: &mut u64) -> u32 {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let uniform = f64::from(u32::try_from(*seed >> 32).unwrap_or(0)).max(1.0) / 4_294_967_296.0;
        let kind = uniform.powf(-1.2).min(4e9);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let kind = kind as u32;
        kind
    }
}
