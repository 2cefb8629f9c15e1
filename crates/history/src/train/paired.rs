//! A new model against the one in use, on rows that neither has seen.

use foreshock_domain::Timestamp;
use foreshock_failure::predict::HazardModel;

use super::Trained;
use super::judge;
use super::registry::Paired;

/// Resamples of entities.
const RESAMPLES: u32 = 999;
/// Rows of either kind below which nothing is compared.
const ROWS_MIN: usize = 20;

/// Compares on the examination's rows from `unseen_from` on. `None` where those are too few, or the windows differ.
#[must_use]
pub fn paired(trained: &Trained, old: &HazardModel, against: u32, unseen_from: Timestamp) -> Option<Paired> {
    if old.window_ms != trained.model.window_ms || old.horizon_ms != trained.model.horizon_ms {
        return None;
    }
    let rows = &trained.rows;
    let mut x = Vec::new();
    // Loss of the old one less that of the new one, and weight, by entity.
    let mut of_entity = vec![(0.0, 0.0); rows.entities.len()];
    let mut kinds = [0_usize; 2];
    for s in &trained.examined {
        let row = &rows.rows[s.row];
        let Some(came) = s.target.came() else { continue };
        if row.at < unseen_from {
            continue;
        }
        kinds[usize::from(came)] += 1;
        rows.fill(&old.schema, row, &mut x);
        let p = old.calibration.apply(old.raw(&x));
        let loss = |p: f64| judge::log_loss(&[(p, came, 1.0)]);
        let sum = &mut of_entity[row.entity as usize];
        sum.0 += row.weight * (loss(p) - loss(s.p));
        sum.1 += row.weight;
    }
    if kinds.iter().any(|n| *n < ROWS_MIN) {
        return None;
    }
    of_entity.retain(|e| e.1 > 0.0);
    let mean = |of: &mut dyn Iterator<Item = (f64, f64)>| {
        let (sum, weight) = of.fold((0.0, 0.0), |a, e| (a.0 + e.0, a.1 + e.1));
        sum / weight
    };
    // SplitMix64, so that the same models compare alike.
    let mut state = 0x5eed_u64;
    let mut random = |n: usize| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % n as u64).unwrap_or(0)
    };
    let mut gains: Vec<f64> = (0..RESAMPLES)
        .map(|_| mean(&mut (0..of_entity.len()).map(|_| of_entity[random(of_entity.len())])))
        .collect();
    gains.sort_by(f64::total_cmp);
    Some(Paired {
        against,
        gain: mean(&mut of_entity.iter().copied()),
        low: gains[gains.len() / 40],
        high: gains[gains.len() - 1 - gains.len() / 40],
    })
}
