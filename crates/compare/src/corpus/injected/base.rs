//! Base series without failures: what services, queues, collectors of garbage and sensors look like.
//!
//! Each family gives, beside its values, the part of each value that can be foreseen and the spread of the rest, so that an
//! anomaly can be of a known strength.

use std::f64::consts::TAU;

use super::random::Draws;

/// A family of base series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Independent normal noise around a level.
    Gaussian,
    /// Student's t, 3 degrees of freedom.
    HeavyTail,
    /// Exponential of a normal.
    Lognormal,
    /// First-order autoregression, coefficient 0.9.
    Ar1,
    /// A day of two harmonics, a value every 5 minutes.
    Daily5Min,
    /// The same every minute.
    Daily1Min,
    /// Weekdays and weekends, a value every 30 minutes.
    Weekly,
    /// A waveform of 37 samples.
    Period37,
    /// A waveform of 113 samples.
    Period113,
    /// Three sines of incommensurate periods.
    Sines,
    /// A random walk that is drawn back to its mean.
    Walk,
    /// Poisson, mean 3.
    CountsLow,
    /// Poisson, mean some hundreds with a daily rhythm.
    CountsHigh,
    /// Memory that grows and is collected.
    Sawtooth,
    /// Quiet, with bursts of work.
    Bursts,
    /// Latency of requests: lognormal, slower by day, with lingering queues.
    Latency,
    /// A share in 0 ..= 100 that nears its bounds.
    Utilisation,
    /// Mostly 0, now and then a value.
    Sparse,
    /// A constant with next to no noise.
    NearFlat,
}

impl Family {
    /// All, in the order of the tables.
    pub const ALL: [Self; 19] = [
        Self::Gaussian,
        Self::HeavyTail,
        Self::Lognormal,
        Self::Ar1,
        Self::Daily5Min,
        Self::Daily1Min,
        Self::Weekly,
        Self::Period37,
        Self::Period113,
        Self::Sines,
        Self::Walk,
        Self::CountsLow,
        Self::CountsHigh,
        Self::Sawtooth,
        Self::Bursts,
        Self::Latency,
        Self::Utilisation,
        Self::Sparse,
        Self::NearFlat,
    ];

    /// Name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gaussian => "gaussian",
            Self::HeavyTail => "heavy tail",
            Self::Lognormal => "lognormal",
            Self::Ar1 => "AR(1)",
            Self::Daily5Min => "daily, 5 min",
            Self::Daily1Min => "daily, 1 min",
            Self::Weekly => "weekly, 30 min",
            Self::Period37 => "period 37",
            Self::Period113 => "period 113",
            Self::Sines => "sines",
            Self::Walk => "walk",
            Self::CountsLow => "counts, 3",
            Self::CountsHigh => "counts, 300",
            Self::Sawtooth => "sawtooth",
            Self::Bursts => "bursts",
            Self::Latency => "latency",
            Self::Utilisation => "utilisation",
            Self::Sparse => "sparse",
            Self::NearFlat => "near flat",
        }
    }

    /// Samples of one period; `None` without rhythm.
    #[must_use]
    pub fn period(self) -> Option<usize> {
        match self {
            Self::Daily5Min | Self::CountsHigh | Self::Latency | Self::Utilisation => Some(288),
            Self::Daily1Min => Some(1_440),
            Self::Weekly => Some(336),
            Self::Period37 => Some(37),
            Self::Period113 => Some(113),
            _ => None,
        }
    }

    /// Time between samples, ms.
    #[must_use]
    pub fn interval_ms(self) -> i64 {
        match self {
            Self::Daily5Min | Self::CountsHigh | Self::Latency | Self::Utilisation => 300_000,
            Self::Daily1Min => 60_000,
            Self::Weekly => 1_800_000,
            _ => 10_000,
        }
    }

    /// A length such that the first quarter holds a few periods.
    #[must_use]
    pub fn length(self, draws: &mut Draws) -> usize {
        match self {
            Self::Daily1Min => draws.below(18_000, 20_000),
            _ if self.period().is_some_and(|p| p > 200) => draws.below(8_000, 14_000),
            _ => draws.below(4_000, 12_000),
        }
    }
}

/// What values a series can take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Domain {
    /// Least value.
    pub min: f64,
    /// Greatest value.
    pub max: f64,
    /// Whether values are whole numbers.
    pub whole: bool,
}

impl Domain {
    const ANY: Self = Self {
        min: f64::NEG_INFINITY,
        max: f64::INFINITY,
        whole: false,
    };
    const POSITIVE: Self = Self { min: 0.0, ..Self::ANY };
    const COUNT: Self = Self {
        whole: true,
        ..Self::POSITIVE
    };
    const PERCENT: Self = Self {
        min: 0.0,
        max: 100.0,
        whole: false,
    };

    /// The nearest value that the series can take.
    #[must_use]
    pub fn nearest(self, x: f64) -> f64 {
        let x = if self.whole { x.round() } else { x };
        x.clamp(self.min, self.max)
    }
}

/// A base series.
#[derive(Clone, Debug)]
pub struct Base {
    /// Values, all finite.
    pub values: Vec<f64>,
    /// What could be foreseen of each value by one who knows the rhythm.
    pub expected: Vec<f64>,
    /// Spread of the rest; positive.
    pub spread: f64,
    /// What values are possible.
    pub domain: Domain,
}

/// A base series of `n` values.
#[must_use]
pub fn base(family: Family, n: usize, draws: &mut Draws) -> Base {
    let mut process = Process::draw(family, draws);
    let domain = process.domain();
    let mut values = Vec::with_capacity(n);
    let mut expected = Vec::with_capacity(n);
    for i in 0..n {
        let (mean, noise) = process.step(i, draws);
        values.push(domain.nearest(mean + noise));
        expected.push(mean);
    }
    let spread = match family {
        Family::CountsHigh => 300f64.sqrt(),
        Family::Ar1 => process.spread / (1.0 - 0.81f64).sqrt(),
        // Around the mean it is five times that; one step is what stands out.
        Family::Walk => 3.0 * process.spread,
        _ => process.spread,
    };
    Base {
        values,
        expected,
        spread,
        domain,
    }
}

/// What makes a family's values, one after the other.
struct Process {
    family: Family,
    level: f64,
    spread: f64,
    wave: Waveform,
    /// Of the wave and of two sines, in periods.
    phases: [f64; 3],
    /// Of the rhythm, in spreads.
    amplitude: f64,
    /// Slow part: autoregression, walk, queue.
    slow: f64,
    /// Row at which the present stretch ends.
    until: usize,
    /// Height of the present stretch, and how fast it rises.
    height: f64,
    rise: f64,
}

impl Process {
    fn draw(family: Family, draws: &mut Draws) -> Self {
        let level = draws.log_uniform(1.0, 1_000.0);
        let phase = draws.unit();
        let wave = Waveform::draw(draws);
        let rise = draws.uniform(20.0, 200.0);
        let phases = [phase, draws.unit(), draws.unit()];
        let spread = match family {
            Family::CountsLow | Family::Sparse | Family::CountsHigh => 2.0,
            Family::Lognormal | Family::Latency | Family::Bursts => 0.1 * level,
            Family::Utilisation => 3.0,
            Family::NearFlat => 1e-3 * level,
            _ => 0.05 * level,
        };
        Self {
            family,
            level,
            spread,
            wave,
            phases,
            amplitude: draws.log_uniform(2.0, 10.0),
            slow: 0.0,
            until: 0,
            height: 0.0,
            rise,
        }
    }

    fn domain(&self) -> Domain {
        match self.family {
            Family::CountsLow | Family::Sparse | Family::CountsHigh => Domain::COUNT,
            Family::Lognormal | Family::Latency | Family::Bursts => Domain::POSITIVE,
            Family::Utilisation => Domain::PERCENT,
            _ => Domain::ANY,
        }
    }

    /// What can be foreseen of value `i`, and the rest.
    fn step(&mut self, i: usize, draws: &mut Draws) -> (f64, f64) {
        let (level, spread) = (self.level, self.spread);
        match self.family {
            Family::Gaussian => (level, spread * draws.normal()),
            Family::HeavyTail => (level, spread * draws.student3()),
            Family::Lognormal => (level, level * ((0.4 * draws.normal()).exp() - 1.0) * 0.25),
            Family::Ar1 => self.drawn_back(0.9, draws),
            Family::Walk => self.drawn_back(0.995, draws),
            Family::CountsLow => (3.0, draws.poisson(3.0) - 3.0),
            Family::Sawtooth | Family::Bursts => self.stretch(i, draws),
            Family::Sparse => {
                let value = if draws.happens(0.03) { draws.poisson(6.0) } else { 0.0 };
                (0.0, value)
            }
            Family::NearFlat => {
                let noise = if draws.happens(0.05) {
                    spread * draws.sign()
                } else {
                    0.0
                };
                (level, noise)
            }
            _ => self.rhythm(i, draws),
        }
    }

    /// A first-order autoregression around the level.
    fn drawn_back(&mut self, coefficient: f64, draws: &mut Draws) -> (f64, f64) {
        let foreseen = coefficient * self.slow;
        let noise = self.spread * draws.normal();
        self.slow = foreseen + noise;
        (self.level + foreseen, noise)
    }

    /// Stretches of random length: memory until it is collected, bursts of work.
    fn stretch(&mut self, i: usize, draws: &mut Draws) -> (f64, f64) {
        let level = self.level;
        if self.family == Family::Sawtooth {
            if i >= self.until {
                self.height = level * draws.uniform(0.9, 1.1);
                self.rise = level * draws.uniform(0.008, 0.012);
                self.until = i + draws.below(60, 100);
            }
            self.height += self.rise * draws.uniform(0.5, 1.5);
            return (self.height, 0.2 * self.spread * draws.normal());
        }
        if i >= self.until && draws.happens(0.004) {
            self.until = i + draws.below(20, 60);
            self.height = level * draws.uniform(1.0, 2.0);
        }
        let mean = level + if i < self.until { self.height } else { 0.0 };
        (mean, self.spread * draws.normal())
    }

    /// What comes again.
    fn rhythm(&mut self, i: usize, draws: &mut Draws) -> (f64, f64) {
        let (level, spread) = (self.level, self.spread);
        let height = self.amplitude * spread;
        let wave = |period: usize| self.wave.at(self.phases[0] + i as f64 / period as f64);
        match self.family {
            Family::Weekly => {
                let work = if i / 48 % 7 < 5 { 1.0 } else { 0.35 };
                (level + height * work * (1.2 + wave(48)), spread * draws.normal())
            }
            Family::Sines => {
                let sines = [(23.7, 1), (61.3, 2), (171.9, 0)];
                let sum: f64 = sines
                    .iter()
                    .map(|&(period, phase)| (TAU * (i as f64 / period + self.phases[phase])).sin())
                    .sum();
                (level + 0.6 * height * sum, spread * draws.normal())
            }
            Family::CountsHigh => {
                let mean = 300.0 + 150.0 * wave(288);
                (mean, draws.poisson(mean.max(1.0)) - mean)
            }
            Family::Latency => {
                let day = wave(288);
                let queue = if draws.happens(0.01) {
                    0.5 * draws.exponential()
                } else {
                    0.0
                };
                self.slow = 0.7 * self.slow + queue;
                let mean = level * (1.0 + 0.3 * day + self.slow).max(0.1);
                (mean, mean * 0.3 * ((0.3 * draws.normal()).exp() - 1.0))
            }
            Family::Utilisation => {
                let day = wave(288);
                self.slow = 0.9 * self.slow + 0.15 * draws.normal();
                let load = -0.2 + 1.6 * day + self.slow;
                (100.0 / (1.0 + (-load).exp()), spread * draws.normal())
            }
            family => {
                let period = family.period().unwrap_or(1);
                (level + height * wave(period), spread * draws.normal())
            }
        }
    }
}

/// A smooth waveform of three harmonics, scaled to −1 ..= 1 or so.
#[derive(Clone, Copy, Debug)]
pub struct Waveform([(f64, f64); 3]);

impl Waveform {
    /// A random one.
    pub fn draw(draws: &mut Draws) -> Self {
        Self([1.0, 0.5, 0.25].map(|scale| (scale * draws.uniform(0.3, 1.0), draws.unit())))
    }

    /// Value at `phase` periods.
    #[must_use]
    pub fn at(&self, phase: f64) -> f64 {
        let harmonics = self.0.iter().zip(1..);
        let sum: f64 = harmonics
            .map(|((a, p), k)| a * (TAU * (f64::from(k) * phase + p)).sin())
            .sum();
        sum / self.0.iter().map(|(a, _)| a).sum::<f64>()
    }
}
