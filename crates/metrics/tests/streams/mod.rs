//! Failure-free streams with fixed seeds, shared by the tests of this crate.

#![allow(dead_code)] // each test uses its own part of this

use std::f64::consts::TAU;

/// A deterministic generator (SplitMix64).
pub struct Noise(u64);

impl Noise {
    /// A generator of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x0123_4567)
    }

    /// Uniform in 0 .. 1, open at both ends.
    pub fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Standard normal (Box, Muller).
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (TAU * self.uniform()).cos()
    }

    fn poisson(&mut self, mean: f64) -> f64 {
        let (limit, mut count, mut product) = ((-mean).exp(), 0.0, self.uniform());
        while product > limit {
            count += 1.0;
            product *= self.uniform();
        }
        count
    }
}

/// Names of the streams.
pub const STREAMS: [&str; 9] = [
    "gaussian",
    "heavy tail (t3)",
    "lognormal",
    "AR(1) 0.9",
    "daily rhythm",
    "counts",
    "bursts",
    "sparse",
    "flat",
];

/// `len` values of the stream named `STREAMS[kind]`.
pub fn stream(kind: usize, seed: u64, len: usize) -> Vec<f64> {
    let mut noise = Noise::new(seed * 31 + kind as u64);
    let (mut state, mut burst) = (0.0, 0);
    let mut value = |i: usize| match kind {
        0 => 100.0 + 5.0 * noise.normal(),
        1 => {
            let z = noise.normal();
            let squares: f64 = (0..3).map(|_| noise.normal().powi(2)).sum();
            50.0 + z / (squares / 3.0).sqrt()
        }
        2 => (0.8 * noise.normal()).exp() * 10.0,
        3 => {
            state = 0.9 * state + noise.normal();
            20.0 + state
        }
        4 => {
            let phase = i as f64 / 288.0 * TAU;
            100.0 + 30.0 * phase.sin() + 10.0 * (2.0 * phase).cos() + 4.0 * noise.normal()
        }
        5 => noise.poisson(3.0),
        6 => {
            if burst == 0 && noise.uniform() < 0.01 {
                burst = 5 + (noise.uniform() * 20.0) as usize;
            }
            burst = burst.saturating_sub(1);
            if burst > 0 {
                50.0 + 10.0 * noise.normal()
            } else {
                10.0 + noise.normal()
            }
        }
        7 => {
            if noise.uniform() < 0.03 {
                1.0 + (noise.uniform() * 4.0).floor()
            } else {
                0.0
            }
        }
        _ => 42.0,
    };
    (0..len).map(&mut value).collect()
}
