//! Where surprises come from in a simulated fleet without failures: by formula, with known dependence, or from the real model.

use foreshock_domain::{Channel, Detector, Direction, Learning, Score, Signal, Source as Kind, Timestamp, Verdict};
use foreshock_metrics::{Point, SeriesModel};

/// SplitMix64, so that a run can be repeated on any machine.
pub struct Rng(pub u64);

impl Rng {
    pub fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let r = (-2.0 * self.uniform().ln()).sqrt();
        r * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Knuth's product of uniforms.
    fn poisson(&mut self, mean: f64) -> f64 {
        let (limit, mut product, mut n) = ((-mean).exp(), self.uniform(), 0.0);
        while product > limit {
            product *= self.uniform();
            n += 1.0;
        }
        n
    }
}

/// −log10 of the normal upper tail for z ≥ 2 (Mills' ratio as a continued fraction); 0 below.
fn normal_surprise(z: f64) -> f64 {
    if z < 2.0 {
        return 0.0;
    }
    let mills = (1..=40).rev().fold(z, |tail, k| z + f64::from(k) / tail);
    (z * z / 2.0 + 0.5 * std::f64::consts::TAU.ln() + mills.ln()) / std::f64::consts::LN_10
}

/// How the series of a fleet depend on each other and on their past; every p-value is uniform by itself except in `Models`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Dependence {
    /// Independent, identical.
    Ideal,
    /// AR(1) of 0.9 behind each series.
    Wandering,
    /// Max-autoregressive behind each series: clusters of 1/θ windows at every level, θ = 0.3.
    Clusters,
    /// A third of each series' variance is its entity's, AR(1) of 0.8; a fifth is the whole fleet's.
    Shared,
    /// The real model on five kinds of generated series without failures.
    Models,
}

/// Extremal index of [`Dependence::Clusters`].
const THETA: f64 = 0.3;

/// A fleet's series.
pub struct Source {
    dependence: Dependence,
    rng: Rng,
    series: usize,
    /// One number behind each series.
    inner: Vec<f32>,
    entity: Vec<f32>,
    fleet: f64,
    models: Vec<SeriesModel>,
    ids: Vec<Box<str>>,
    /// Midnight's distance, in days, and its sine.
    rhythm: f64,
}

impl Source {
    pub fn new(dependence: Dependence, entities: usize, series: usize, seed: u64) -> Self {
        let models = if dependence == Dependence::Models {
            entities * series
        } else {
            0
        };
        Self {
            dependence,
            rng: Rng(seed),
            series,
            inner: vec![0.5; entities * series],
            entity: vec![0.0; entities],
            fleet: 0.0,
            models: (0..models).map(|_| SeriesModel::new(None)).collect(),
            ids: (0..series).map(|s| format!("{s:016x}").into()).collect(),
            rhythm: 0.0,
        }
    }

    /// The next window of the whole fleet begins.
    pub fn begin(&mut self, at: Timestamp) {
        let day = at.as_millis().rem_euclid(86_400_000) as f64 / 86_400_000.0;
        self.rhythm = (std::f64::consts::TAU * day).sin();
        if self.dependence == Dependence::Shared {
            self.fleet = 0.8 * self.fleet + 0.6 * self.rng.normal();
        }
    }

    /// The surprising signals of an entity in the window that starts at `at`, and how many series were tested. The first series
    /// is `shift` spreads higher than it would have been.
    pub fn window(&mut self, at: Timestamp, entity: usize, shift: f64, gate: f64, out: &mut Vec<Signal>) -> u32 {
        if self.dependence == Dependence::Shared {
            let own = f64::from(self.entity[entity]);
            self.entity[entity] = (0.8 * own + 0.6 * self.rng.normal()) as f32;
        }
        let mut tested = 0;
        for s in 0..self.series {
            let shift = if s == 0 { shift } else { 0.0 };
            let place = entity * self.series + s;
            if self.dependence == Dependence::Models {
                let value = self.value(place, shift);
                let model = &mut self.models[place];
                let Some(verdict) = model.score_learn(&Point { at, value }, Learning::Normal) else {
                    continue;
                };
                tested += 1;
                if verdict.score.surprise() >= gate {
                    let onset = self.models[place].onset().unwrap_or(at).min(at);
                    out.push(self.signal(s, verdict, onset));
                }
                continue;
            }
            tested += 1;
            let surprise = self.surprise(entity, place, shift);
            if surprise >= gate {
                let verdict = Verdict {
                    score: Score::from_surprise(surprise),
                    channel: Channel::Level,
                    direction: Direction::Up,
                    actual: surprise,
                    expected: 0.0,
                    lower: 0.0,
                    upper: 1.0,
                };
                out.push(self.signal(s, verdict, at));
            }
        }
        out.sort_by(|a, b| b.score().surprise().total_cmp(&a.score().surprise()));
        tested
    }

    fn signal(&self, s: usize, verdict: Verdict, onset: Timestamp) -> Signal {
        Signal {
            source: Kind::Metric,
            id: self.ids[s].clone(),
            name: self.ids[s].clone(),
            unit: None,
            verdict,
            onset,
            share: None,
            log: None,
        }
    }

    fn surprise(&mut self, entity: usize, place: usize, shift: f64) -> f64 {
        let inner = f64::from(self.inner[place]);
        match self.dependence {
            Dependence::Ideal if shift == 0.0 => -self.rng.uniform().log10(),
            Dependence::Ideal => normal_surprise(self.rng.normal() + shift),
            Dependence::Wandering => {
                let z = 0.9 * inner + (1.0f64 - 0.81).sqrt() * self.rng.normal();
                self.inner[place] = z as f32;
                normal_surprise(z + shift)
            }
            Dependence::Clusters => {
                // Unit Fréchet margins.
                let x = ((1.0 - THETA) * inner).max(THETA / -self.rng.uniform().ln());
                self.inner[place] = x as f32;
                -(-(-1.0 / x).exp_m1()).log10() + shift
            }
            Dependence::Shared => {
                let own = 0.8 * inner + 0.6 * self.rng.normal();
                self.inner[place] = own as f32;
                let shared = (1f64 / 3.0).sqrt() * f64::from(self.entity[entity]) + 0.2f64.sqrt() * self.fleet;
                normal_surprise(shared + (1.0 - 1.0 / 3.0 - 0.2f64).sqrt() * own + shift)
            }
            Dependence::Models => 0.0,
        }
    }

    /// The next value of a series of the kind that its place gives it, `shift` spreads too high.
    fn value(&mut self, place: usize, shift: f64) -> f64 {
        match place % 5 {
            0 => 100.0 + 5.0 * (self.rng.normal() + shift),
            1 => {
                let z = 0.9 * f64::from(self.inner[place]) + 0.19f64.sqrt() * self.rng.normal();
                self.inner[place] = z as f32;
                50.0 + 4.0 * (z + shift)
            }
            2 => 200.0 + 60.0 * self.rhythm + 10.0 * (self.rng.normal() + shift),
            3 => self.rng.poisson(3.0) + (3f64.sqrt() * shift).round(),
            _ => {
                let chi: f64 = (0..3).map(|_| self.rng.normal().powi(2)).sum();
                20.0 + self.rng.normal() / (chi / 3.0).sqrt() + 3f64.sqrt() * shift
            }
        }
    }
}
