//! Running standardisation, without which a detector over several metrics sees only the one of largest scale.

/// Mean and spread of each metric over all rows so far, by Welford's method.
#[derive(Clone, Debug)]
pub struct Standardise {
    rows: f64,
    means: Vec<f64>,
    squares: Vec<f64>,
}

impl Standardise {
    /// For rows of `metrics` values.
    #[must_use]
    pub fn new(metrics: usize) -> Self {
        Self {
            rows: 0.0,
            means: vec![0.0; metrics],
            squares: vec![0.0; metrics],
        }
    }

    /// A row in spreads from the means of the rows before it, which then learn it. One metric is left as it is: its scale
    /// makes no difference.
    pub fn step(&mut self, values: &[f64]) -> Vec<f64> {
        if let [one] = values {
            return vec![*one];
        }
        let out = (0..values.len())
            .map(|m| {
                let spread = (self.squares[m] / self.rows.max(1.0)).sqrt();
                if spread > 0.0 {
                    (values[m] - self.means[m]) / spread
                } else {
                    0.0
                }
            })
            .collect();
        self.rows += 1.0;
        for (m, &x) in values.iter().enumerate() {
            let off = x - self.means[m];
            self.means[m] += off / self.rows;
            self.squares[m] += off * (x - self.means[m]);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_is_in_its_own_spreads() {
        let mut standardise = Standardise::new(2);
        for i in 0..1_000 {
            let sign = if i % 2 == 0 { 1.0 } else { -1.0 };
            standardise.step(&[5.0 + sign, 1e6 + 1e3 * sign]);
        }
        let row = standardise.step(&[8.0, 1e6 - 3e3]);
        assert!((row[0] - 3.0).abs() < 0.02 && (row[1] + 3.0).abs() < 0.02, "{row:?}");
    }
}
