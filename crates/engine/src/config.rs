//! What the machine must be told; everything has a default but the sources.

use std::sync::Arc;

use foreshock_domain::Millis;
use foreshock_failure::predict::HazardModel;
use foreshock_failure::{ExhaustionConfig, Rules};
use foreshock_logs::{Masking, Masks, Miner, SessionIds, Showing, plain_text};
use foreshock_stats::{AlarmBudget, EpisodeParams};
use foreshock_wire::Format;

/// Widest lateness in windows: the ring of open windows of a series has two more places than this.
pub const LATENESS_WINDOWS_MAX: i64 = 6;

/// One input topic.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Its name.
    pub topic: Box<str>,
    /// How its records are written.
    pub format: Format,
    /// Labels that name the entity, most specific combination first: the first label that a record has wins, and
    /// a name with `+` joins labels (`namespace+pod` gives `shop/cart-0`). Where none is there, the record's key
    /// names the entity, and where it has none either, the topic does.
    pub entity: Vec<Box<str>>,
    /// How lines name their sessions; `None`: what an entity writes in one window is a session.
    pub sessions: Option<SessionConfig>,
    /// What may leave of the text of its lines.
    pub log: LogConfig,
}

impl SourceConfig {
    /// With what is usual of the rest.
    #[must_use]
    pub fn new(topic: &str, format: Format, entity: &[&str]) -> Self {
        Self {
            topic: topic.into(),
            format,
            entity: entity.iter().map(|label| (*label).into()).collect(),
            sessions: None,
            log: LogConfig::default(),
        }
    }
}

/// What is done with the text of log lines.
#[derive(Clone, Debug, Default)]
pub struct LogConfig {
    /// Whether text may leave as it was written: templates show all their words, signals carry an example line, and failures
    /// the line that a rule matched. Otherwise nothing leaves but what is proven to be constant.
    pub raw_text: bool,
    /// What is replaced by a name before a line is mined; what is masked is in no text that leaves.
    pub masks: Option<Masks>,
}

impl LogConfig {
    /// What the miner may show.
    #[must_use]
    pub fn showing(&self) -> Showing {
        if self.raw_text { Showing::All } else { Showing::Proven }
    }

    /// Tells a miner what it may show.
    pub(crate) fn instruct(&self, miner: &mut Miner) {
        if let Some(masks) = &self.masks {
            miner.set_placeholders(masks.placeholders());
        }
        miner.set_showing(self.showing());
    }

    /// What may leave of a line, told without a miner.
    pub(crate) fn shown(&self, message: &str) -> String {
        let mut masking = Masking::default();
        let masked = self
            .masks
            .as_ref()
            .map_or(message, |masks| masking.apply(masks, message));
        let names = self.masks.as_ref().map(Masks::placeholders).unwrap_or_default();
        match self.showing() {
            Showing::All => masked.to_owned(),
            Showing::Proven => plain_text(masked, &names),
        }
    }
}

/// Sessions of log lines: blocks, requests, traces.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// How lines name them.
    pub ids: SessionIds,
    /// A session is over when nothing came of it for this long.
    pub idle_ms: Millis,
}

/// How long a session may be silent, unless told otherwise.
pub const SESSION_IDLE_MS: Millis = 60_000;

/// Event-time windows.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// Width; windows align to the epoch.
    pub width_ms: Millis,
    /// How long a window waits for stragglers after a record beyond its end was seen, at most
    /// [`LATENESS_WINDOWS_MAX`] widths.
    pub lateness_ms: Millis,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            width_ms: 10_000,
            lateness_ms: 10_000,
        }
    }
}

/// When an anomaly is told.
#[derive(Clone, Debug)]
pub struct AlarmConfig {
    /// The one knob: how many false precursors a day the whole deployment may tell.
    pub budget: AlarmBudget,
    /// Hysteresis, refractory time and escalation of an episode.
    pub episode: EpisodeParams,
    /// Signals less surprising than this (−log10 p) do not leave the first stage.
    pub gate: f64,
}

impl Default for AlarmConfig {
    fn default() -> Self {
        Self {
            budget: AlarmBudget {
                false_alarms_per_day: 1.0,
            },
            episode: EpisodeParams::default(),
            gate: 2.0,
        }
    }
}

/// Caps, per partition unless said otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Series held; further ones are refused and counted.
    pub series: usize,
    /// Entities held, in either stage; further ones are refused and counted.
    pub entities: usize,
    /// Signals kept of one entity in one window, strangest first.
    pub signals_per_window: usize,
    /// Distinct templates counted for one entity in one window; further ones are counted together.
    pub templates_per_window: usize,
    /// Windows held back in the second stage until every input has come as far.
    pub held_windows: usize,
    /// Contributors named in an event.
    pub contributors: usize,
    /// Idle series and entities are forgotten after this much event time.
    pub idle_ms: Millis,
    /// Outputs after which an epoch is committed early.
    pub epoch_outputs: usize,
    /// Bytes of outputs after which an epoch is committed early.
    pub epoch_bytes: usize,
    /// Records after which an epoch is committed early.
    pub epoch_records: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            series: 200_000,
            entities: 20_000,
            signals_per_window: 32,
            templates_per_window: 1_024,
            held_windows: 200_000,
            contributors: 8,
            idle_ms: 7 * 24 * 3_600_000,
            epoch_outputs: 50_000,
            epoch_bytes: 32 << 20,
            epoch_records: 500_000,
        }
    }
}

/// What a run writes to [`crate::Destination::Moments`], to learn or to judge a predictor. No broker gets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Observe {
    /// Nothing: what a service does.
    #[default]
    Nothing,
    /// The probability of every window of every entity.
    Predictions,
    /// Features as well.
    Features,
}

/// Everything the machine must be told.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Input topics; a source's [`crate::TopicId`] is its place here plus one.
    pub sources: Vec<SourceConfig>,
    /// Event-time windows.
    pub windows: Windows,
    /// When an anomaly is told.
    pub alarms: AlarmConfig,
    /// What a failure is.
    pub rules: Arc<Rules>,
    /// Name of the signals topic.
    pub signals_topic: Box<str>,
    /// Partitions of the signals topic; entities are spread over them by hash.
    pub signals_partitions: u32,
    /// How often ticks are written, in milliseconds of the tick clock.
    pub tick_every_ms: Millis,
    /// Bounded resources, and how soon they must run out to be told.
    pub exhaustion: ExhaustionConfig,
    /// What was learned from failures; without it nothing is more than unusual.
    pub predictor: Option<Arc<HazardModel>>,
    /// What is written out of the predictor's inside.
    pub observe: Observe,
    /// Caps.
    pub limits: Limits,
}

impl EngineConfig {
    /// False alarms a day for what is merely unusual: what warnings leave, of which so many a day are expected to be false.
    #[must_use]
    pub fn budget_of_unusual(&self, false_warnings: f64) -> f64 {
        let all = self.alarms.budget.false_alarms_per_day;
        all - false_warnings.clamp(0.0, self.budget_of_warnings())
    }

    /// False alarms a day that warnings of the predictor may cost: half.
    #[must_use]
    pub fn budget_of_warnings(&self) -> f64 {
        self.alarms.budget.false_alarms_per_day / 2.0
    }

    /// How long after a precursor was resolved a failure confirms it: as far as the predictor looks, where there is one.
    #[must_use]
    pub fn ledger_horizon_ms(&self) -> Millis {
        let own = self.predictor.as_ref().map(|model| model.horizon_ms);
        own.unwrap_or_else(|| self.rules.horizon_ms())
    }

    /// Whether features of entities are computed at all.
    #[must_use]
    pub fn predicts(&self) -> bool {
        self.predictor.is_some() || self.observe != Observe::Nothing
    }

    /// A configuration of these sources with defaults for everything else.
    #[must_use]
    pub fn new(sources: Vec<SourceConfig>, rules: Rules) -> Self {
        Self {
            sources,
            windows: Windows::default(),
            alarms: AlarmConfig::default(),
            rules: Arc::new(rules),
            signals_topic: "foreshock.signals".into(),
            signals_partitions: 1,
            tick_every_ms: 5_000,
            exhaustion: ExhaustionConfig::default(),
            predictor: None,
            observe: Observe::Nothing,
            limits: Limits::default(),
        }
    }
}
