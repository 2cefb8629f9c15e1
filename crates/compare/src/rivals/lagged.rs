//! Lagged windows of one series, and how they are collected for training.

use std::collections::VecDeque;

/// The last `lags` values, oldest first.
#[derive(Clone, Debug)]
pub struct Lags {
    values: VecDeque<f64>,
    lags: usize,
}

impl Lags {
    /// Empty, for windows of `lags` values.
    pub fn new(lags: usize) -> Self {
        Self {
            values: VecDeque::with_capacity(lags + 1),
            lags,
        }
    }

    /// The window that ends with `value`; `None` before there are enough values.
    pub fn push(&mut self, value: f64) -> Option<Vec<f64>> {
        self.values.push_back(value);
        if self.values.len() > self.lags {
            self.values.pop_front();
        }
        (self.values.len() == self.lags).then(|| self.values.iter().copied().collect())
    }
}

/// The last rows of features, and when to train on them again.
#[derive(Clone, Debug)]
pub struct TrainingRows {
    rows: VecDeque<Vec<f64>>,
    most: usize,
    every: usize,
    since: usize,
}

impl TrainingRows {
    /// Keeps `most` rows; due after every `every` rows.
    pub fn new(most: usize, every: usize) -> Self {
        Self {
            rows: VecDeque::with_capacity(most + 1),
            most,
            every,
            since: 0,
        }
    }

    /// Takes a row; the rows to train on, where it is time.
    pub fn push(&mut self, row: Vec<f64>) -> Option<&VecDeque<Vec<f64>>> {
        self.rows.push_back(row);
        if self.rows.len() > self.most {
            self.rows.pop_front();
        }
        self.since += 1;
        if self.since < self.every {
            return None;
        }
        self.since = 0;
        Some(&self.rows)
    }
}
