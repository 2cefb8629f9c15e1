use foreshock_domain::Timestamp;

/// One observation of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Event time.
    pub at: Timestamp,
    /// In the unit of the series; NaN and ±∞ mean missing.
    pub value: f64,
}
