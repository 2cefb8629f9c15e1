//! What is injected into a base series, and where.

use super::base::{Base, Family, Waveform};
use super::random::Draws;

/// A kind of anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// One to three values far off.
    Spike,
    /// Another level, for good or for a while.
    LevelShift,
    /// A slow ramp.
    Trend,
    /// More or less noise than usual.
    Variance,
    /// A stretch whose amplitude is kept and whose form is not.
    Shape,
    /// The values of another time of day.
    Seasonal,
    /// One value again and again.
    Flat,
    /// Rows without a value, or no rows.
    Missing,
    /// A relation between series that breaks while each looks as always.
    Correlation,
}

impl Kind {
    /// All, in the order of the tables.
    pub const ALL: [Self; 9] = [
        Self::Spike,
        Self::LevelShift,
        Self::Trend,
        Self::Variance,
        Self::Shape,
        Self::Seasonal,
        Self::Flat,
        Self::Missing,
        Self::Correlation,
    ];

    /// Name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Spike => "spike",
            Self::LevelShift => "level shift",
            Self::Trend => "trend",
            Self::Variance => "variance",
            Self::Shape => "shape",
            Self::Seasonal => "seasonal",
            Self::Flat => "flat",
            Self::Missing => "missing",
            Self::Correlation => "correlation",
        }
    }

    /// Whether it can be told from what `family` does anyway.
    #[must_use]
    pub fn suits(self, family: Family) -> bool {
        use Family::{
            Ar1, Bursts, CountsHigh, CountsLow, Gaussian, HeavyTail, Lognormal, NearFlat, Sawtooth, Sparse,
            Utilisation, Walk,
        };
        match self {
            Self::Correlation => false,
            Self::Seasonal => family.period().is_some(),
            Self::Shape => !matches!(
                family,
                Gaussian | HeavyTail | Lognormal | Ar1 | Walk | CountsLow | Sparse | NearFlat | Bursts
            ),
            Self::Flat => !matches!(family, Sparse | NearFlat),
            Self::Variance => !matches!(family, Sparse | NearFlat | CountsLow | CountsHigh | Sawtooth),
            Self::Trend | Self::LevelShift => !matches!(family, Walk | Utilisation),
            Self::Spike | Self::Missing => true,
        }
    }

    /// Rows that one anomaly takes.
    fn length(self, family: Family, draws: &mut Draws) -> usize {
        let period = family.period().unwrap_or(80);
        match self {
            Self::Spike => draws.below(1, 4),
            Self::LevelShift => draws.below(60, 300),
            Self::Trend => draws.below(100, 400),
            Self::Variance => draws.below(40, 200),
            Self::Shape => draws.below((period / 2).clamp(30, 150), (period * 2).clamp(60, 300)),
            Self::Seasonal => draws.below((period / 4).clamp(15, 150), period.clamp(40, 300)),
            Self::Flat => draws.below(15, 150),
            Self::Missing => draws.below(10, 80),
            Self::Correlation => draws.below(100, 300),
        }
    }
}

/// Where an anomaly lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// First row.
    pub first: usize,
    /// Rows.
    pub rows: usize,
}

/// Places for a handful of anomalies after the first quarter; every third or so follows the one before it closely.
#[must_use]
pub fn places(kind: Kind, family: Family, n: usize, draws: &mut Draws) -> Vec<Place> {
    let count = draws.below(3, 7);
    let begin = n / 4 + 50;
    let stride = (n - begin) / count;
    let mut out: Vec<Place> = Vec::new();
    for i in 0..count {
        let rows = kind.length(family, draws).min(stride / 2);
        let usual = begin + i * stride + draws.below(0, stride / 4);
        let close = out
            .last()
            .filter(|_| draws.happens(0.3))
            .map(|p| p.first + p.rows + draws.below(20, 80));
        let first = close.unwrap_or(usual);
        if first + rows + 20 < n {
            out.push(Place { first, rows });
        }
    }
    // One that follows closely lies before the usual place of the next.
    out.sort_by_key(|p| p.first);
    out
}

/// Writes an anomaly into `values`; the base stays as it was. A shift for good moves everything after it.
pub fn inject(kind: Kind, family: Family, base: &Base, values: &mut [f64], place: Place, draws: &mut Draws) {
    let Place { first, rows } = place;
    let s = base.spread;
    let last = first + rows;
    match kind {
        Kind::Spike => {
            let height = draws.sign() * draws.log_uniform(5.0, 30.0);
            for x in &mut values[first..last] {
                *x += height * s;
            }
        }
        Kind::LevelShift => {
            let height = draws.sign() * draws.log_uniform(1.5, 8.0);
            let end = if draws.happens(0.4) { values.len() } else { last };
            for x in &mut values[first..end] {
                *x += height * s;
            }
        }
        Kind::Trend => {
            let height = draws.sign() * draws.log_uniform(3.0, 15.0);
            for (i, x) in values[first..last].iter_mut().enumerate() {
                *x += height * s * i as f64 / rows as f64;
            }
        }
        Kind::Variance => {
            let factor = if draws.happens(0.7) {
                draws.log_uniform(2.0, 6.0)
            } else {
                draws.log_uniform(0.05, 0.25)
            };
            for (x, mean) in values[first..last].iter_mut().zip(&base.expected[first..last]) {
                *x = mean + factor * (*x - mean);
            }
        }
        Kind::Shape => reshape(base, values, place, draws),
        Kind::Seasonal => {
            let period = family.period().unwrap_or(1);
            let shift = (draws.uniform(0.25, 0.5) * period as f64) as usize;
            for (x, other) in values[first..last].iter_mut().zip(&base.values[first - shift..]) {
                *x = *other;
            }
        }
        Kind::Flat => {
            let stuck = values[first];
            values[first..last].fill(stuck);
        }
        Kind::Missing => values[first..last].fill(f64::NAN),
        Kind::Correlation => {}
    }
    for x in &mut values[first..] {
        if x.is_finite() {
            *x = base.domain.nearest(*x);
        }
    }
}

/// Another form of the same amplitude: reversed, faster or slower, or another waveform; the noise stays.
fn reshape(base: &Base, values: &mut [f64], place: Place, draws: &mut Draws) {
    let Place { first, rows } = place;
    let form: Vec<f64> = base.expected[first..first + rows].to_vec();
    let (low, high) = form
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &x| (l.min(x), h.max(x)));
    let new: Vec<f64> = match draws.below(0, 3) {
        0 => form.iter().rev().copied().collect(),
        1 => {
            let pace = if draws.happens(0.5) { 2.0 } else { 0.5 };
            (0..rows).map(|i| form[(i as f64 * pace) as usize % rows]).collect()
        }
        _ => {
            let wave = Waveform::draw(draws);
            let cycles = draws.uniform(1.0, 4.0);
            let at = |i: usize| wave.at(cycles * i as f64 / rows as f64);
            let scale = (0..rows).map(|i| at(i).abs()).fold(1e-9, f64::max);
            (0..rows)
                .map(|i| f64::midpoint(low, high) + 0.5 * (high - low) * at(i) / scale)
                .collect()
        }
    };
    for (i, form) in new.into_iter().enumerate() {
        values[first + i] += form - base.expected[first + i];
    }
}
