//! Typical time between rows, so that rules in rows hold for any sampling.

use foreshock_domain::Timestamp;

/// Exponential mean of the time between rows, in ms; a gap counts as four intervals at most.
#[derive(Clone, Copy, Debug, Default)]
pub struct Interval {
    last: Option<Timestamp>,
    mean_ms: f64,
}

impl Interval {
    /// Takes the time of a row; the typical interval so far, 0 before the second row.
    pub fn step(&mut self, at: Timestamp) -> f64 {
        if let Some(last) = self.last {
            let gap = (at - last) as f64;
            if gap > 0.0 {
                let known = self.mean_ms > 0.0;
                let bounded = if known { gap.min(4.0 * self.mean_ms) } else { gap };
                self.mean_ms += if known { 0.05 } else { 1.0 } * (bounded - self.mean_ms);
            }
        }
        self.last = Some(at);
        self.mean_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_do_not_stretch_it() {
        let mut interval = Interval::default();
        for i in 0..100 {
            interval.step(Timestamp::from_secs(10 * i));
        }
        let after_a_day = interval.step(Timestamp::from_secs(86_400));
        assert!((10_000.0..12_000.0).contains(&after_a_day), "{after_a_day}");
    }
}
