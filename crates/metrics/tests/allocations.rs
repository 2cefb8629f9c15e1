//! No allocation per sample: a series is its own bytes, whatever comes.

use foreshock_domain::{Detector, Learning, Timestamp};
use foreshock_metrics::{Point, SeriesModel};

mod streams;
use streams::{STREAMS, stream};

/// Points of each stream; enough for rhythms to be searched and found.
const POINTS: usize = 4_000;

#[test]
fn a_point_allocates_nothing() {
    for (kind, name) in STREAMS.iter().enumerate() {
        let mut values = stream(kind, 7, POINTS);
        values[500] = f64::NAN;
        values[1_000] = 1e300;
        values[1_500] = f64::NEG_INFINITY;
        let mut model = SeriesModel::new(None);
        let mut scored = 0;
        let counted = allocation_counter::measure(|| {
            for (i, &value) in values.iter().enumerate() {
                let at = Timestamp::from_secs(1_700_000_000 + 300 * i as i64);
                let verdict = model.score_learn(&Point { at, value }, Learning::Normal);
                scored += usize::from(verdict.is_some());
            }
        });
        assert_eq!(counted.count_total, 0, "{name}: {counted:?}");
        assert!(scored > POINTS - 100, "{name}: {scored} points were scored");
    }
}

/// The counter itself counts: a test that can't fail shows nothing.
#[test]
fn an_allocation_is_counted() {
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(vec![1u8; 64])));
    assert_eq!(counted.count_total, 1);
}
