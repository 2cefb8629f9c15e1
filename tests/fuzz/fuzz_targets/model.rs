//! Model files as `train` writes them, or bytes that claim to be: what is read without complaint can be asked. Read as the registry of
//! models does, which is in a crate that takes minutes to build.
#![no_main]

use foreshock_failure::predict::{FeatureState, HazardModel};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(model) = serde_json::from_slice::<HazardModel>(data) else {
        return;
    };
    if model.fault().is_some() {
        return;
    }
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
