//! Model files as `train` writes them, or bytes that claim to be: what is read without complaint can be asked.
#![no_main]

use std::path::Path;

use foreshock_failure::predict::FeatureState;
use foreshock_history::train::registry;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(model) = registry::decode(Path::new("model.json"), data) else {
        return;
    };
    let width = model.schema.width();
    let x: Vec<f64> = (0..width).map(|i| i as f64 - 3.5).collect();
    let raw = model.raw(&x);
    assert!((0.0..=1.0).contains(&raw), "a probability of {raw}");
    assert!(model.grounds(&x).iter().all(|g| g.odds.is_finite()), "a ground that is no number");
    let forecast = model.predict_one(&FeatureState::default(), &mut Vec::new());
    assert!(
        (0.0..=1.0).contains(&forecast.probability),
        "a probability of {}",
        forecast.probability
    );
    let _ = model.operating_point(1.0);
});
