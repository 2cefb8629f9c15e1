use foreshock_domain::SeriesId;

/// Series of one entity that its model knows at a time.
pub const ENTITY_SERIES_MAX: usize = 64;
/// Values beyond this are cut, so that no square overflows.
const LARGEST: f64 = 1e30;

/// One value of one of an entity's series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeriesValue {
    /// Which series.
    pub series: SeriesId,
    /// In the unit of the series; NaN and ±∞ mean missing.
    pub value: f64,
}

/// A row by slot: which are present (bit by slot) and their values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub values: [f64; ENTITY_SERIES_MAX],
    pub present: u64,
}

impl Row {
    pub const fn empty() -> Self {
        Self {
            values: [0.0; ENTITY_SERIES_MAX],
            present: 0,
        }
    }

    /// Takes a value in; the first of a slot counts, and what is missing is left out.
    pub fn set(&mut self, slot: usize, value: f64) {
        let bit = 1u64 << slot;
        if value.is_finite() && self.present & bit == 0 {
            self.present |= bit;
            self.values[slot] = value.clamp(-LARGEST, LARGEST);
        }
    }
}

/// Slots of a mask, lowest first.
pub(crate) fn slots(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let slot = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (slot < ENTITY_SERIES_MAX).then_some(slot)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_holds_the_first_finite_value_of_each_slot() {
        let mut row = Row::empty();
        for (slot, value) in [
            (3, f64::NAN),
            (3, 2.0),
            (3, 5.0),
            (63, f64::INFINITY),
            (0, 1e300),
            (63, -1.0),
        ] {
            row.set(slot, value);
        }
        let held: Vec<_> = slots(row.present).map(|s| (s, row.values[s])).collect();
        assert_eq!(held, [(0, LARGEST), (3, 2.0), (63, -1.0)]);
    }
}
