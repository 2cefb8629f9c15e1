//! The faults a store can be told to have, and how each grows: from nothing to the limit in its growth time.

use std::time::{Duration, Instant};

use clap::ValueEnum;

/// What goes wrong. Each consumes something that has a real limit, so each ends in a failure if left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// Buffers that nobody frees, up to the limit of the address space.
    MemoryLeak,
    /// Files that nobody closes, up to the limit of open files.
    FdLeak,
    /// A trace file that nobody rotates, up to the size of the volume.
    DiskFill,
    /// Database connections that nobody gives back.
    PoolLeak,
    /// A report that holds the database's lock ever longer.
    LockContention,
    /// A payment provider that answers ever later.
    SlowDependency,
    /// A consumer that falls behind its queue.
    QueueGrowth,
    /// Threads that never end, up to the limit of threads.
    ThreadLeak,
    /// A growing share of cache entries whose checksum is wrong.
    CacheCorruption,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::MemoryLeak,
        Self::FdLeak,
        Self::DiskFill,
        Self::PoolLeak,
        Self::LockContention,
        Self::SlowDependency,
        Self::QueueGrowth,
        Self::ThreadLeak,
        Self::CacheCorruption,
    ];

    /// Its name with hyphens, `memory-leak`.
    pub fn name(self) -> &'static str {
        match self {
            Self::MemoryLeak => "memory-leak",
            Self::FdLeak => "fd-leak",
            Self::DiskFill => "disk-fill",
            Self::PoolLeak => "pool-leak",
            Self::LockContention => "lock-contention",
            Self::SlowDependency => "slow-dependency",
            Self::QueueGrowth => "queue-growth",
            Self::ThreadLeak => "thread-leak",
            Self::CacheCorruption => "cache-corruption",
        }
    }
}

/// The course of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// The same amount every second.
    Linear,
    /// Slowly at first: the square of the time.
    Accelerating,
    /// Eight equal steps.
    Stepwise,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Linear, Self::Accelerating, Self::Stepwise];
    const STEPS: f64 = 8.0;

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Accelerating => "accelerating",
            Self::Stepwise => "stepwise",
        }
    }

    /// Severity after a share `x` of the growth time: 0 at the begin, 1 when it is over, then on to 2 and no further, so
    /// that a fault also gets over what was in its way.
    pub fn severity(self, x: f64) -> f64 {
        let x = x.max(0.0);
        let severity = match self {
            Self::Linear => x,
            Self::Accelerating => x * x,
            Self::Stepwise => (x * Self::STEPS).floor() / Self::STEPS,
        };
        severity.min(2.0)
    }
}

/// A fault under way.
#[derive(Clone, Copy, Debug)]
pub struct Growing {
    /// Which.
    pub fault: Fault,
    /// Its course.
    pub shape: Shape,
    /// How long until it has used up everything.
    pub growth: Duration,
    /// Since when.
    pub since: Instant,
}

impl Growing {
    /// How far it is now, see [`Shape::severity`].
    pub fn severity(&self) -> f64 {
        let growth_s = self.growth.as_secs_f64().max(0.001);
        self.shape.severity(self.since.elapsed().as_secs_f64() / growth_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_goes_from_nothing_to_everything_and_never_back() {
        for shape in Shape::ALL {
            let course: Vec<f64> = (0..=400).map(|n| shape.severity(f64::from(n) / 100.0)).collect();
            assert!(
                course[0].abs() < 1e-12 && (course[100] - 1.0).abs() < 1e-12,
                "{shape:?}"
            );
            assert!((course[400] - 2.0).abs() < 1e-12, "{shape:?}");
            assert!(course.windows(2).all(|w| w[0] <= w[1]), "{shape:?}");
            assert!(shape.severity(-1.0).abs() < 1e-12);
        }
        assert!((Shape::Accelerating.severity(0.5) - 0.25).abs() < 1e-12);
        assert!((Shape::Stepwise.severity(0.49) - 0.375).abs() < 1e-12);
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for fault in Fault::ALL {
            assert_eq!(Fault::from_str(fault.name(), false), Ok(fault));
        }
        for shape in Shape::ALL {
            assert_eq!(Shape::from_str(shape.name(), false), Ok(shape));
        }
    }
}
