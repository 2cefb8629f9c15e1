//! The predictor at one entity: its features, and what the model learned from failures says of them.

use foreshock_domain::{Entity, EntityWindow, Prediction, PredictionGround, Timestamp, TrackRecord};
use foreshock_failure::predict::{FeatureState, Features, HazardModel, OperatingPoint, Warning, episode_params};
use foreshock_stats::EpisodeStep;
use serde::{Deserialize, Serialize};

use crate::config::{EngineConfig, Observe};

/// Features and forecast of one window of an entity: what a predictor is learned from and judged by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Whom.
    pub entity: Entity,
    /// End of the window.
    pub at: Timestamp,
    /// Probability of a failure within the model's horizon, where there is a model.
    pub probability: Option<f64>,
    /// Features by key; empty unless asked for.
    pub features: Vec<(u64, Features)>,
    /// Names of the keys that this entity shows for the first time.
    pub names: Vec<(u64, Box<str>)>,
}

impl Moment {
    /// From the payload of [`crate::Destination::Moments`].
    ///
    /// # Errors
    /// When the bytes are not a moment.
    pub fn decode(bytes: &[u8]) -> Result<Self, postcard::Error> {
        postcard::from_bytes(bytes)
    }
}

/// What the predictor keeps of one entity.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Forecaster {
    state: FeatureState,
    warning: Warning,
    /// Keys whose names were given out with moments.
    named: Vec<u64>,
    /// Room for the model's vector.
    #[serde(skip)]
    x: Vec<f64>,
}

/// What follows from one window.
#[derive(Debug, Default)]
pub(crate) struct Foreseen {
    pub(crate) moment: Option<Moment>,
    /// `None` without a model, or where there is nothing to say.
    pub(crate) probability: Option<f64>,
}

impl Forecaster {
    /// Takes the windows of one end.
    pub(crate) fn take(
        &mut self,
        config: &EngineConfig,
        entity: &Entity,
        windows: &[EntityWindow],
        at: Timestamp,
        runs_out_s: Option<f64>,
        is_failing: bool,
    ) -> Foreseen {
        if !config.predicts() || !self.state.step(windows, runs_out_s, is_failing) {
            return Foreseen::default();
        }
        let probability = config
            .predictor
            .as_ref()
            .map(|model| model.predict_one(&self.state, &mut self.x).probability);
        let moment = match config.observe {
            Observe::Nothing => None,
            Observe::Predictions => probability.map(|p| self.moment(entity, at, Some(p), false)),
            Observe::Features => Some(self.moment(entity, at, probability, true)),
        };
        Foreseen { moment, probability }
    }

    fn moment(&mut self, entity: &Entity, at: Timestamp, probability: Option<f64>, with_features: bool) -> Moment {
        let mut moment = Moment {
            entity: entity.clone(),
            at,
            probability,
            features: Vec::new(),
            names: Vec::new(),
        };
        if with_features {
            moment.features = self.state.features().map(|(key, f)| (key, *f)).collect();
            for (key, _) in &moment.features {
                if let Err(place) = self.named.binary_search(key)
                    && let Some((name, ..)) = self.state.told(*key)
                {
                    moment.names.push((*key, name.into()));
                    self.named.insert(place, *key);
                }
            }
        }
        moment
    }

    /// Moves the warning on. `point`: what may be warned of within the budget; without one nothing is.
    pub(crate) fn warn(
        &mut self,
        model: &HazardModel,
        point: Option<&OperatingPoint>,
        probability: f64,
        at: Timestamp,
    ) -> EpisodeStep {
        // Nothing is that probable: what is open closes.
        let threshold = point.map_or(2.0, |p| p.threshold);
        let params = episode_params(model.horizon_ms);
        self.warning.step(&params, at.as_millis(), probability, threshold)
    }

    /// Whether the entity is warned of.
    pub(crate) fn warns(&self) -> bool {
        self.warning.is_open()
    }

    /// What was warned of has happened, or can't.
    pub(crate) fn reset(&mut self) {
        self.warning.reset();
    }

    /// What is told of the last window.
    #[allow(clippy::cast_precision_loss)] // milliseconds of a horizon
    pub(crate) fn prediction(
        &self,
        model: &HazardModel,
        point: Option<&OperatingPoint>,
        probability: f64,
    ) -> Prediction {
        let ground = |g: foreshock_failure::predict::Ground| {
            let (name, value, (lower, upper)) = self.state.told(g.key)?;
            Some(PredictionGround {
                name: name.into(),
                value,
                lower,
                upper,
                odds: g.odds,
            })
        };
        Prediction {
            probability,
            horizon_s: model.horizon_ms as f64 / 1e3,
            grounds: model.grounds(&self.x).into_iter().filter_map(ground).collect(),
            record: point.filter(|p| probability >= p.threshold).map(|p| TrackRecord {
                right: p.right,
                of: p.right + p.wrong,
                lead_s: p.lead_s,
            }),
        }
    }
}
