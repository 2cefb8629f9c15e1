//! A table of levels in two bytes each: numbers around an origin, in units of a quantum that doubles when a level no longer
//! fits. Half the bytes of single precision, for a state that is read once a point.
//!
//! **Fails when** levels differ by more than some ten thousand quanta and small differences matter: the large ones
//! coarsen the small. **Cost:** one multiplication a look-up; a doubling touches the whole table and is rare.

use serde::{Deserialize, Serialize};

/// Stands for a level never set.
const UNSET: i16 = i16::MIN;
/// Largest quantised level.
const LARGEST: f64 = 32_000.0;

/// Levels, in the unit of the series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Table {
    levels: [[i16; 24]; 2],
    origin: f64,
    /// Unit of a step, in the unit of the series; 0 before the first level.
    quantum: f64,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            levels: [[UNSET; 24]; 2],
            origin: 0.0,
            quantum: 0.0,
        }
    }
}

impl Table {
    /// Levels in a table.
    pub const LEVELS: usize = 48;

    /// An empty table around `origin`, of steps of `quantum` (> 0).
    pub fn around(origin: f64, quantum: f64) -> Self {
        Self {
            origin,
            quantum,
            ..Self::default()
        }
    }

    /// A level in the unit of the series; `None` where never set or out of the table.
    #[inline]
    pub fn get(&self, index: usize) -> Option<f64> {
        let level = *self.levels.as_flattened().get(index)?;
        (level != UNSET).then(|| self.origin + f64::from(level) * self.quantum)
    }

    /// Sets a level; what is not finite or out of the table is ignored.
    pub fn set(&mut self, index: usize, level: f64) {
        let offset = level - self.origin;
        if !offset.is_finite() || index >= Self::LEVELS {
            return;
        }
        self.quantum = self.quantum.max(f64::MIN_POSITIVE);
        while offset.abs() > LARGEST * self.quantum {
            self.coarsen();
        }
        self.levels.as_flattened_mut()[index] = (offset / self.quantum).round() as i16;
    }

    fn coarsen(&mut self) {
        // Sixteen at a time: a value from another world takes seconds of doublings otherwise.
        self.quantum *= 16.0;
        for level in self.levels.as_flattened_mut() {
            if *level != UNSET {
                *level /= 16;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_by_case() {
        let mut table = Table::around(100.0, 0.01);
        assert_eq!(table.get(0), None);
        assert_eq!(table.get(48), None);
        // (name, index, level, tolerance)
        let cases = [
            ("near", 0, 101.5, 0.005),
            ("far below", 47, -219.0, 0.005),
            ("beyond the quantum", 1, 5_000.0, 0.1),
            ("another world", 2, 1e20, 1e16),
        ];
        for (name, index, level, tolerance) in cases {
            table.set(index, level);
            let found = table.get(index).expect("set");
            assert!((found - level).abs() <= tolerance, "{name}: {found}");
        }
        table.set(3, f64::NAN);
        table.set(99, 1.0);
        assert_eq!(table.get(3), None);
    }
}
