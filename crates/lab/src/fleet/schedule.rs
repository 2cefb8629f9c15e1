//! What happens to an instance and when, drawn from its seed alone: the same seed plans the same faults.

use crate::fault::{Fault, Shape};
use crate::random::Random;

/// Why an instance will fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cause {
    /// A fault that grows.
    Fault {
        /// Which.
        fault: Fault,
        /// Its course.
        shape: Shape,
        /// Seconds until it has used up everything.
        growth_s: f64,
    },
    /// SIGKILL out of the blue.
    Kill,
    /// A deployment whose configuration is bad.
    BadConfig,
}

/// Bounds of what is drawn, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Before the first fault.
    pub first_s: (f64, f64),
    /// From the end of a failure to the next fault.
    pub gap_s: (f64, f64),
    /// Growth time, log-uniform.
    pub growth_s: (f64, f64),
}

/// What is next, and what after that, without end.
#[derive(Debug)]
pub struct Schedule {
    random: Random,
    bounds: Bounds,
    deck: Vec<Fault>,
    first: bool,
}

impl Schedule {
    const KILL: f64 = 0.06;
    const BAD_CONFIG: f64 = 0.05;

    /// The schedule of a seed.
    pub const fn new(seed: u64, bounds: Bounds) -> Self {
        Self {
            random: Random::new(seed),
            bounds,
            deck: Vec::new(),
            first: true,
        }
    }

    /// Seconds of peace, and what ends it.
    pub fn next(&mut self) -> (f64, Cause) {
        let (from, to) = if self.first {
            self.bounds.first_s
        } else {
            self.bounds.gap_s
        };
        self.first = false;
        let gap_s = from + (to - from) * self.random.unit();
        let luck = self.random.unit();
        let cause = if luck < Self::KILL {
            Cause::Kill
        } else if luck < Self::KILL + Self::BAD_CONFIG {
            Cause::BadConfig
        } else {
            let (from, to) = self.bounds.growth_s;
            let fault = self.draw_fault();
            let shape = Shape::ALL[usize::try_from(self.random.below(3)).unwrap_or(0)];
            let growth_s = from * (to / from).powf(self.random.unit());
            Cause::Fault { fault, shape, growth_s }
        };
        (gap_s, cause)
    }

    /// Like a deck of cards, so that no fault is rare.
    fn draw_fault(&mut self) -> Fault {
        if self.deck.is_empty() {
            self.deck.extend(Fault::ALL);
        }
        let at = self.random.below(self.deck.len() as u64);
        self.deck.swap_remove(usize::try_from(at).unwrap_or(0))
    }
}

/// What happens to an instance and does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harmless {
    /// Twice the customers for half a minute.
    Burst,
    /// Warnings without consequence.
    Noise,
    /// A planned restart.
    Deploy,
    /// A payment provider that is a little slow for a while.
    SlowPatch,
}

impl Harmless {
    /// The next: seconds until then, what, and for how many seconds.
    pub fn draw(random: &mut Random) -> (f64, Self, u64) {
        let wait_s = 45.0 + 90.0 * random.unit();
        match random.below(7) {
            0 | 1 => (wait_s, Self::Burst, 30),
            2 => (wait_s, Self::SlowPatch, 20 + random.below(20)),
            3 | 4 => (wait_s, Self::Noise, 15 + random.below(15)),
            _ => (wait_s, Self::Deploy, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        first_s: (240.0, 300.0),
        gap_s: (60.0, 110.0),
        growth_s: (60.0, 240.0),
    };

    #[test]
    fn a_schedule_keeps_its_bounds_and_has_everything() {
        let mut schedule = Schedule::new(5, BOUNDS);
        let steps: Vec<(f64, Cause)> = (0..900).map(|_| schedule.next()).collect();
        assert!((240.0..300.0).contains(&steps[0].0));
        assert!(steps[1..].iter().all(|(gap_s, _)| (60.0..110.0).contains(gap_s)));
        let count = |is: &dyn Fn(&Cause) -> bool| steps.iter().filter(|(_, c)| is(c)).count();
        let abrupt = count(&|c| matches!(c, Cause::Kill | Cause::BadConfig));
        assert!((60..140).contains(&abrupt), "{abrupt}");
        for fault in Fault::ALL {
            assert!((80..100).contains(&count(&|c| matches!(c, Cause::Fault { fault: f, .. } if *f == fault))));
        }
        let short = count(&|c| matches!(c, Cause::Fault { growth_s, .. } if *growth_s < 120.0));
        assert!(
            (300..500).contains(&short),
            "half of a log-uniform growth is below the geometric mean: {short}"
        );
        assert_eq!(
            count(&|c| matches!(c, Cause::Fault { growth_s, .. } if !(60.0..=240.0).contains(growth_s))),
            0
        );
    }

    #[test]
    fn the_same_seed_plans_the_same() {
        let (mut a, mut b) = (Schedule::new(9, BOUNDS), Schedule::new(9, BOUNDS));
        assert!((0..50).all(|_| a.next() == b.next()));
        let (mut a, mut b) = (Random::new(9), Random::new(9));
        assert!((0..50).all(|_| Harmless::draw(&mut a) == Harmless::draw(&mut b)));
    }
}
