//! Entities of several series that are driven by the same load, and relations between them that break.

use super::base::Waveform;
use super::random::Draws;
use super::{Event, Series, Variant, contaminate, name, times};

/// Share of a series that is its own noise.
const OWN: f64 = 0.35;
/// Rows over which a relation fades out and in again.
const FADE: usize = 20;
const INTERVAL_MS: i64 = 60_000;

/// Latent factors: load with a rhythm, and slow drifts.
struct Factors {
    waves: Vec<(Waveform, f64, f64)>,
    drifts: Vec<f64>,
}

impl Factors {
    fn draw(count: usize, draws: &mut Draws) -> Self {
        let period = draws.uniform(150.0, 1_000.0);
        Self {
            waves: (0..count)
                .map(|_| (Waveform::draw(draws), period, draws.unit()))
                .collect(),
            drifts: vec![0.0; count],
        }
    }

    /// The factors at row `i`, each of spread 1 or so.
    fn step(&mut self, i: usize, draws: &mut Draws) -> Vec<f64> {
        let waves = self.waves.iter().zip(&mut self.drifts);
        waves
            .map(|((wave, period, phase), drift)| {
                *drift = 0.95 * *drift + 0.25 * draws.normal();
                1.2 * wave.at(phase + i as f64 / period) + *drift
            })
            .collect()
    }

    /// The same process at another time: equal in distribution, unrelated in value.
    fn twin(&self, draws: &mut Draws) -> Self {
        Self {
            waves: self.waves.iter().map(|&(w, p, _)| (w, p, draws.unit())).collect(),
            drifts: self.drifts.clone(),
        }
    }
}

/// An entity of 3 to 10 series with a handful of broken relations after the first quarter.
#[must_use]
pub fn correlated(seed: u64, index: usize, variant: Variant) -> Series {
    let mut draws = Draws::new(seed, &["entity", &index.to_string()]);
    let metrics = draws.below(3, 11);
    let n = draws.below(4_000, 10_000);
    let count = 1 + draws.below(0, metrics.min(4) - 1);
    let mut factors = Factors::draw(count, &mut draws);
    let mut twin = factors.twin(&mut draws);
    let loadings: Vec<Vec<f64>> = (0..metrics).map(|_| loading(count, &mut draws)).collect();
    let levels: Vec<(f64, f64)> = (0..metrics)
        .map(|_| (draws.log_uniform(1.0, 1_000.0), draws.log_uniform(0.05, 0.3)))
        .collect();
    let breaks = breaks(n, metrics, &mut draws);
    let mut values = Vec::with_capacity(n * metrics);
    for i in 0..n {
        let (true_load, other_load) = (factors.step(i, &mut draws), twin.step(i, &mut draws));
        for metric in 0..metrics {
            let follow = |load: &[f64]| -> f64 { loadings[metric].iter().zip(load).map(|(l, f)| l * f).sum() };
            let broken = breaks
                .iter()
                .filter(|b| b.metric == metric)
                .map(|b| b.share(i))
                .fold(0.0, f64::max);
            // Keeps the variance, as both loads have the same.
            let z = (1.0 - broken * broken).sqrt() * follow(&true_load) + broken * follow(&other_load);
            let (level, spread) = levels[metric];
            values.push(level * (1.0 + spread * (z + OWN * draws.normal())));
        }
    }
    let mut series = Series {
        name: name("entity", "correlation", index),
        family: "entity",
        kind: super::Kind::Correlation,
        at: times(n, INTERVAL_MS),
        metrics,
        values,
        period: None,
        warm_up: n / 4,
        events: breaks
            .iter()
            .map(|b| Event {
                first: b.first,
                last: b.last,
            })
            .collect(),
    };
    if variant == Variant::Contaminated {
        contaminate(&mut series, &mut draws);
    }
    series
}

/// Of length 1.
fn loading(count: usize, draws: &mut Draws) -> Vec<f64> {
    let raw: Vec<f64> = (0..count).map(|_| draws.normal()).collect();
    let length = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
    raw.into_iter().map(|x| x / length).collect()
}

/// A series that follows another load for a while.
struct Break {
    metric: usize,
    first: usize,
    last: usize,
    strength: f64,
}

impl Break {
    /// How far the series has gone over to the other load at row `i`.
    fn share(&self, i: usize) -> f64 {
        if i < self.first || i > self.last {
            return 0.0;
        }
        let edge = (i - self.first).min(self.last - i) + 1;
        self.strength * (edge as f64 / FADE as f64).min(1.0)
    }
}

fn breaks(n: usize, metrics: usize, draws: &mut Draws) -> Vec<Break> {
    let count = draws.below(3, 7);
    let begin = n / 4 + 50;
    let stride = (n - begin) / count;
    (0..count)
        .map(|i| {
            let rows = draws.below(100, 300).min(stride / 2);
            let first = begin + i * stride + draws.below(0, stride / 3);
            Break {
                metric: draws.below(0, metrics),
                first,
                last: first + rows - 1,
                strength: draws.uniform(0.6, 1.0),
            }
        })
        .collect()
}
