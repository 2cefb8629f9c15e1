//! How the series of an entity move together: a few common factors and a rest of its own for each series. Says of each
//! series how far it is from what all the *others* make of it, and how far out the factors themselves are.
//!
//! With loadings W (series × [`FACTORS`]) and rests Ψ (diagonal) the correlation is WWᵀ + Ψ, so its inverse P costs one
//! 4 × 4 inverse (Woodbury), and (Px)ⱼ/√Pⱼⱼ is the residual of series j regressed on all others, in its own standard
//! deviations. A series that is missing is simply left out of W: that is the marginal of the same model.
//!
//! **Fails when** series depend on each other by a curve or with a lag, or by more than four independent factors: such
//! relations count as rest and their breaks are not seen. **Cost:** O(series × 4) a step; 24 bytes a series.
//! **Papers:** J. Weng, Y. Zhang, W.-S. Hwang, *Candid covariance-free incremental principal component analysis*, IEEE
//! PAMI 25(8), 2003, equations 10–11 (loadings); M. Tipping, C. Bishop, *Probabilistic principal component analysis*,
//! JRSS B 61(3), 1999, equation 7 (eigenvalues less noise). `Differs:` rests are one per series and not one in all.

use serde::{Deserialize, Serialize};

use crate::entity_row::{ENTITY_SERIES_MAX, Row, slots};

/// Common factors.
pub(crate) const FACTORS: usize = 4;
/// Steps that the loadings remember.
const MEMORY: f64 = 600.0;
/// Least rest of a series, as a share of its variance: perfect copies are not to be trusted to the last digit.
const LEAST_REST: f64 = 0.02;

type Small = [[f64; FACTORS]; FACTORS];

/// What is known of one series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Loading {
    /// Eigenvectors times eigenvalues.
    component: [f32; FACTORS],
    /// Mean square.
    energy: f32,
    seen: u32,
}

/// Principal components of standardised rows, and the factor model they make.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct FactorModel {
    loadings: Vec<Loading>,
    steps: u32,
}

/// What the factor model makes of one row. By slot; entries of missing series are 0.
pub(crate) struct Relations {
    /// Residual against all others, in standard deviations of it.
    pub residuals: [f64; ENTITY_SERIES_MAX],
    /// The same in units of the row.
    pub offsets: [f64; ENTITY_SERIES_MAX],
    /// Squared length of the factors' posterior mean (T²).
    pub strength: f64,
    factors: [f64; FACTORS],
}

impl Relations {
    /// Takes a usual residual, in standard deviations, off that of a series.
    pub fn shift(&mut self, slot: usize, usual: f64) {
        let residual = self.residuals[slot];
        if residual.abs() > 1e-9 {
            self.offsets[slot] *= 1.0 - usual / residual;
        }
        self.residuals[slot] -= usual;
    }
}

impl FactorModel {
    pub const BYTES_A_SERIES: usize = size_of::<Loading>();

    pub fn push_series(&mut self) {
        self.loadings.push(Loading::default());
    }

    pub fn reset_series(&mut self, slot: usize) {
        if let Some(loading) = self.loadings.get_mut(slot) {
            *loading = Loading::default();
        }
    }

    /// Rows this series was learned in.
    pub fn seen(&self, slot: usize) -> u32 {
        self.loadings.get(slot).map_or(0, |l| l.seen)
    }

    /// Loadings scaled to the correlation that the factors explain, and rests.
    fn factors(&self) -> ([[f64; FACTORS]; ENTITY_SERIES_MAX], [f64; ENTITY_SERIES_MAX]) {
        let mut lambda = [0.0; FACTORS];
        let mut energy = 0.0;
        for l in &self.loadings {
            energy += f64::from(l.energy);
            for (sum, &v) in lambda.iter_mut().zip(&l.component) {
                *sum += f64::from(v) * f64::from(v);
            }
        }
        let lambda = lambda.map(f64::sqrt);
        let spare = self.loadings.len().saturating_sub(FACTORS);
        let noise = if spare > 0 {
            ((energy - lambda.iter().sum::<f64>()) / spare as f64).max(0.0)
        } else {
            0.0
        };
        // v = λu; the loading is u·√(λ − σ²).
        let scale = lambda.map(|l| if l > 1e-9 { (l - noise).max(0.0).sqrt() / l } else { 0.0 });
        let mut loads = [[0.0; FACTORS]; ENTITY_SERIES_MAX];
        let mut rests = [1.0; ENTITY_SERIES_MAX];
        for ((load, rest), l) in loads.iter_mut().zip(&mut rests).zip(&self.loadings) {
            *load = std::array::from_fn(|k| f64::from(l.component[k]) * scale[k]);
            let explained: f64 = load.iter().map(|w| w * w).sum();
            let energy = f64::from(l.energy).max(1e-3);
            *rest = (energy - explained).max(LEAST_REST * energy);
        }
        (loads, rests)
    }

    /// Reads a standardised row.
    pub fn read(&self, row: &Row) -> Relations {
        let (loads, rests) = self.factors();
        let mut inner: Small = std::array::from_fn(|i| std::array::from_fn(|k| f64::from(u8::from(i == k))));
        let mut pull = [0.0; FACTORS];
        for s in slots(row.present) {
            for i in 0..FACTORS {
                let scaled = loads[s][i] / rests[s];
                pull[i] += scaled * row.values[s];
                for k in 0..FACTORS {
                    inner[i][k] += scaled * loads[s][k];
                }
            }
        }
        let posterior = inverse(inner);
        let factors: [f64; FACTORS] = std::array::from_fn(|i| dot(&posterior[i], &pull));
        let mut residuals = [0.0; ENTITY_SERIES_MAX];
        let mut offsets = [0.0; ENTITY_SERIES_MAX];
        for s in slots(row.present) {
            let product = (row.values[s] - dot(&loads[s], &factors)) / rests[s];
            let spread: f64 = (0..FACTORS).map(|i| loads[s][i] * dot(&posterior[i], &loads[s])).sum();
            let precision = (1.0 / rests[s] - spread / (rests[s] * rests[s])).max(1e-6);
            residuals[s] = product / precision.sqrt();
            offsets[s] = product / precision;
        }
        Relations {
            residuals,
            offsets,
            strength: dot(&factors, &factors),
            factors,
        }
    }

    /// Learns a standardised row whose values are bounded; `share` in 0 ..= 1. What is missing counts as what the factors
    /// make of it.
    pub fn learn(&mut self, row: &Row, relations: &Relations, share: f64) {
        self.steps = self.steps.saturating_add(1);
        let n = f64::from(self.steps);
        // Weng et al., equation 10 without its amnesic parameter, which costs accuracy with many series; the floor forgets.
        let alpha = share * (1.0 / n).max(1.0 / MEMORY);
        let (loads, _) = self.factors();
        let mut rest = [0.0; ENTITY_SERIES_MAX];
        for (s, loading) in self.loadings.iter_mut().enumerate().take(ENTITY_SERIES_MAX) {
            if row.present >> s & 1 == 0 {
                rest[s] = dot(&loads[s], &relations.factors);
                continue;
            }
            let x = row.values[s];
            rest[s] = x;
            loading.seen = loading.seen.saturating_add(1);
            let own = share * (1.0 / f64::from(loading.seen)).max(1.0 / MEMORY);
            loading.energy += (own * (x * x - f64::from(loading.energy))) as f32;
        }
        for k in 0..FACTORS.min(self.loadings.len()) {
            let (mut square, mut projection) = (0.0, 0.0);
            for (l, x) in self.loadings.iter().zip(&rest) {
                let v = f64::from(l.component[k]);
                square += v * v;
                projection += v * x;
            }
            let started = square > 1e-12;
            // Along the unit vector v/|v|.
            let along = if started { projection / square.sqrt() } else { 1.0 };
            let step = if started { alpha } else { 1.0 };
            let mut square = 0.0;
            let mut projection = 0.0;
            for (l, x) in self.loadings.iter_mut().zip(&rest) {
                let v = f64::from(l.component[k]);
                let moved = (v + step * (along * x - v)) as f32;
                l.component[k] = if moved.is_finite() { moved } else { 0.0 };
                let v = f64::from(l.component[k]);
                square += v * v;
                projection += v * x;
            }
            if square > 1e-12 {
                for (l, x) in self.loadings.iter().zip(&mut rest) {
                    *x -= projection / square * f64::from(l.component[k]);
                }
            }
        }
    }
}

fn dot(a: &[f64; FACTORS], b: &[f64; FACTORS]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Inverse of a symmetric matrix whose eigenvalues are at least 1 (Gauss, Jordan; no pivots are needed).
fn inverse(mut m: Small) -> Small {
    let mut out: Small = std::array::from_fn(|i| std::array::from_fn(|k| f64::from(u8::from(i == k))));
    for p in 0..FACTORS {
        let pivot = m[p][p];
        for k in 0..FACTORS {
            m[p][k] /= pivot;
            out[p][k] /= pivot;
        }
        for i in (0..FACTORS).filter(|&i| i != p) {
            let factor = m[i][p];
            for k in 0..FACTORS {
                m[i][k] -= factor * m[p][k];
                out[i][k] -= factor * out[p][k];
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sum of twelve uniform numbers, less their mean: near enough to normal.
    fn normal(state: &mut u64) -> f64 {
        (0..12)
            .map(|_| {
                *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (*state >> 11) as f64 / (1u64 << 53) as f64
            })
            .sum::<f64>()
            - 6.0
    }

    fn row(values: &[f64]) -> Row {
        let mut row = Row::empty();
        values.iter().enumerate().for_each(|(s, &v)| row.set(s, v));
        row
    }

    /// `series` that share one factor with correlation 0.9, learned for `rows`.
    fn one_factor(series: usize, rows: usize) -> FactorModel {
        let mut model = FactorModel::default();
        (0..series).for_each(|_| model.push_series());
        let mut state = 5;
        for _ in 0..rows {
            let factor = normal(&mut state);
            let values: Vec<f64> = (0..series)
                .map(|_| 0.9f64.sqrt() * factor + 0.1f64.sqrt() * normal(&mut state))
                .collect();
            let row = row(&values);
            let relations = model.read(&row);
            model.learn(&row, &relations, 1.0);
        }
        model
    }

    #[test]
    fn inverse_times_matrix_is_one() {
        let m = [
            [2.0, 0.5, 0.1, 0.0],
            [0.5, 3.0, 0.2, 0.3],
            [0.1, 0.2, 1.5, 0.4],
            [0.0, 0.3, 0.4, 9.0],
        ];
        for (i, row) in inverse(m).iter().enumerate() {
            // `m` is symmetric: its rows are its columns.
            for (k, column) in m.iter().enumerate() {
                let product = dot(row, column);
                let one = f64::from(u8::from(i == k));
                assert!((product - one).abs() < 1e-12, "{i} {k}: {product}");
            }
        }
    }

    /// Residuals are those of the regression on all others: with correlation 0.9 among d series, two of them have the
    /// conditional variance 1 − 0.81 = 0.19.
    #[test]
    fn residuals_are_those_of_the_regression_on_the_others() {
        for series in [2usize, 3, 6, 20] {
            let model = one_factor(series, 6_000);
            // Of d − 1 others with correlation 0.9 the regression coefficient is 0.9/(1 + 0.9(d − 2)) each.
            let others = series as f64 - 1.0;
            let coefficient = 0.9 / (1.0 + 0.9 * (others - 1.0));
            let expected = coefficient * others;
            let mut values = vec![1.0; series];
            values[0] = -1.0;
            let relations = model.read(&row(&values));
            let wanted = -1.0 - expected;
            assert!(
                (relations.offsets[0] / wanted - 1.0).abs() < 0.12,
                "{series}: {} and not {wanted}",
                relations.offsets[0]
            );
            let variance = 1.0 - 0.9 * coefficient * others;
            let standardised = wanted / variance.sqrt();
            assert!(
                (relations.residuals[0] / standardised - 1.0).abs() < 0.2,
                "{series}: {} and not {standardised}",
                relations.residuals[0]
            );
        }
    }

    #[test]
    fn a_missing_series_is_left_out() {
        let model = one_factor(6, 4_000);
        let all = model.read(&row(&[1.0; 6]));
        let five = model.read(&row(&[f64::NAN, 1.0, 1.0, 1.0, 1.0, 1.0]));
        assert_eq!(five.residuals[0], 0.0);
        assert!(
            (five.strength - all.strength).abs() < 0.1,
            "{} {}",
            five.strength,
            all.strength
        );
    }

    #[test]
    fn degenerate_rows_by_case() {
        let cases: [(&str, Vec<f64>); 4] = [
            ("nothing", vec![]),
            ("one series", vec![1.0]),
            ("all zero", vec![0.0; 7]),
            ("copies", vec![2.0; 64]),
        ];
        for (name, values) in cases {
            let mut model = FactorModel::default();
            values.iter().for_each(|_| model.push_series());
            for i in 0..300 {
                let scaled: Vec<f64> = values.iter().map(|v| v * f64::from(i % 5 - 2)).collect();
                let row = row(&scaled);
                let relations = model.read(&row);
                assert!(relations.residuals.iter().all(|r| r.is_finite()), "{name}");
                assert!(relations.strength.is_finite(), "{name}");
                model.learn(&row, &relations, 1.0);
            }
        }
    }
}
