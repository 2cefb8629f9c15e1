//! Streams in which nothing fails: every family of base series, and two that only calibration asks about.

use super::{Draws, Family, Kind, Series, Variant, base, contaminate, name, times};

/// A stream without failures.
#[derive(Clone, Copy, Debug)]
pub enum Nominal {
    /// A base series as it is.
    Of(Family),
    /// The same value always.
    Flat,
    /// Normal noise of which every twentieth value is missing, some in runs.
    Missing,
}

/// All, in the order of the table.
pub const NOMINAL: [Nominal; Family::ALL.len() + 2] = {
    let mut all = [Nominal::Flat; Family::ALL.len() + 2];
    let mut i = 0;
    while i < Family::ALL.len() {
        all[i] = Nominal::Of(Family::ALL[i]);
        i += 1;
    }
    all[i + 1] = Nominal::Missing;
    all
};

impl Nominal {
    /// Name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Of(family) => family.name(),
            Self::Flat => "flat",
            Self::Missing => "missing values",
        }
    }

    /// `n` rows, of which the first `warm_up` are contaminated in that variant.
    #[must_use]
    pub fn series(self, seed: u64, n: usize, warm_up: usize, variant: Variant) -> Series {
        let mut draws = Draws::new(seed, &["nominal", self.name()]);
        let family = match self {
            Self::Of(family) => family,
            Self::Flat | Self::Missing => Family::Gaussian,
        };
        let mut values = base(family, n, &mut draws).values;
        match self {
            Self::Of(_) => {}
            Self::Flat => {
                let level = values[0];
                values.fill(level);
            }
            Self::Missing => {
                let mut i = warm_up;
                while i < n {
                    let rows = if draws.happens(0.02) { draws.below(1, 5) } else { 0 };
                    let end = (i + rows).min(n);
                    values[i..end].fill(f64::NAN);
                    i = end + 1;
                }
            }
        }
        let mut series = Series {
            name: name("nominal", self.name(), seed as usize),
            family: self.name(),
            kind: Kind::Missing,
            at: times(n, family.interval_ms()),
            metrics: 1,
            values,
            period: family.period(),
            warm_up,
            events: Vec::new(),
        };
        if variant == Variant::Contaminated {
            contaminate(&mut series, &mut draws);
        }
        series
    }
}
