//! A fleet without failures, or with known faults, in front of the real second stage: every entity's window of every moment is
//! handed to [`CorrelatePartition`]s as the first stage would hand it over, and the precursors that open are counted.

pub mod sources;

use foreshock_domain::{
    Entity, EntityWindow, Event, EventAction, EventKind, Incident, Millis, Progress, SignalRecord, SourcePosition,
    Tick, Timestamp, Upstream,
};
use foreshock_engine::{Counters, EngineConfig, correlate::CorrelatePartition};
use foreshock_failure::{FailureConfig, Rules};
use foreshock_stats::AlarmBudget;
use sources::{Dependence, Rng, Source};

/// A fault's growth over the windows since it began, in spreads of the one series that it befalls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    Shift(f64),
    /// To this many spreads at its end.
    Ramp(f64),
}

impl Fault {
    pub const KINDS: [Self; 4] = [Self::Shift(3.0), Self::Shift(4.0), Self::Shift(5.0), Self::Ramp(10.0)];

    pub fn windows(self) -> u64 {
        match self {
            Self::Shift(_) => 120,
            Self::Ramp(_) => 360,
        }
    }

    fn at(self, window: u64) -> f64 {
        match self {
            Self::Shift(spreads) => spreads,
            Self::Ramp(spreads) => spreads * window as f64 / self.windows() as f64,
        }
    }
}

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Plan {
    pub dependence: Dependence,
    pub entities: usize,
    /// Of each entity.
    pub series: usize,
    pub windows: u64,
    pub width_ms: Millis,
    pub budgets: Vec<f64>,
    pub partitions: usize,
    /// Windows before the first fault; without it there are none.
    pub faults_from: Option<u64>,
    pub seed: u64,
}

/// A precursor that opened.
#[derive(Clone, Debug)]
pub struct Alarm {
    /// Window in which it opened, and windows since its stated onset.
    pub window: u64,
    pub onset_back: i64,
    pub entity: usize,
    pub score: f64,
    pub threshold: f64,
}

/// One fault and where its entity's first precursor came, for each budget.
#[derive(Clone, Debug)]
pub struct Injected {
    pub fault: Fault,
    pub entity: usize,
    pub from: u64,
    pub found: Vec<Option<Alarm>>,
}

/// What came of a plan.
#[derive(Debug)]
pub struct Outcome {
    /// For each budget, alarms where there was no fault.
    pub false_alarms: Vec<Vec<Alarm>>,
    pub injected: Vec<Injected>,
    /// For each budget, threshold of the last alarm.
    pub events: Vec<u64>,
}

/// Of the first stage, as it is by default.
const GATE: f64 = 2.0;
const EPOCH_S: i64 = 1_760_000_400;
/// Windows after a fault in which its entity's alarms are still its.
const AFTERMATH: u64 = 360;
/// Windows between the beginnings of two faults.
const FAULT_EVERY: u64 = 90;

struct Stage {
    config: EngineConfig,
    partitions: Vec<CorrelatePartition>,
    counters: Counters,
    offset: i64,
    events: Vec<Event>,
}

impl Stage {
    fn new(budget: f64, plan: &Plan) -> Self {
        let mut config = EngineConfig::new(
            Vec::new(),
            Rules::new(&FailureConfig::default()).expect("no rules are valid"),
        );
        config.alarms.budget = AlarmBudget {
            false_alarms_per_day: budget,
        };
        config.windows.width_ms = plan.width_ms;
        config.signals_partitions = plan.partitions as u32;
        Self {
            config,
            partitions: (0..plan.partitions).map(|_| CorrelatePartition::default()).collect(),
            counters: Counters::default(),
            offset: 0,
            events: Vec::new(),
        }
    }

    fn take(&mut self, partition: usize, record: SignalRecord) {
        self.offset += 1;
        let (counters, events) = (&mut self.counters, &mut self.events);
        self.partitions[partition].take(&self.config, counters, self.offset, record, events);
    }
}

/// Runs a plan.
pub fn simulate(plan: &Plan) -> Outcome {
    let mut stages: Vec<Stage> = plan.budgets.iter().map(|b| Stage::new(*b, plan)).collect();
    let mut source = Source::new(plan.dependence, plan.entities, plan.series, plan.seed);
    let mut chance = Rng(plan.seed ^ 0xFA17);
    let names: Vec<Entity> = (0..plan.entities).map(|e| Entity::new(&format!("e{e}"))).collect();
    let upstream = Upstream {
        topic: "m".into(),
        partition: 0,
    };
    let mut outcome = Outcome {
        false_alarms: vec![Vec::new(); plan.budgets.len()],
        injected: Vec::new(),
        events: vec![0; plan.budgets.len()],
    };
    // Of the entity's present fault, its place among those injected.
    let mut faulty: Vec<Option<usize>> = vec![None; plan.entities];
    for window in 0..plan.windows {
        let start = Timestamp::from_millis(EPOCH_S * 1_000 + window as i64 * plan.width_ms);
        let end = start + plan.width_ms;
        if plan.faults_from.is_some_and(|from| window >= from) && window % FAULT_EVERY == 0 {
            inject(&mut outcome, &mut faulty, &mut chance, window, plan.budgets.len());
        }
        source.begin(start);
        for (e, name) in names.iter().enumerate() {
            let fault = faulty[e].map(|i| &outcome.injected[i]);
            let shift = fault.map_or(0.0, |f| {
                let since = window - f.from;
                if since < f.fault.windows() {
                    f.fault.at(since)
                } else {
                    0.0
                }
            });
            let (mut signals, mut vector) = (Vec::new(), Vec::new());
            let tested = source.window(start, e, shift, GATE, &mut signals, &mut vector);
            let record = EntityWindow {
                entity: name.clone(),
                start,
                end,
                position: SourcePosition {
                    upstream: upstream.clone(),
                    offset_first: 0,
                    offset_last: 0,
                },
                samples: plan.series as u32,
                lines: 0,
                tested,
                signals,
                facts: Vec::new(),
                vector,
                templates: Vec::new(),
            };
            for stage in &mut stages {
                stage.take(e % plan.partitions, SignalRecord::Window(record.clone()));
            }
        }
        let ends = |i: &usize| outcome.injected[*i].from + outcome.injected[*i].fault.windows() == window;
        for i in faulty.iter().flatten().copied().filter(ends) {
            let entity = outcome.injected[i].entity;
            for stage in &mut stages {
                stage.take(entity % plan.partitions, failure(&names[entity], end, &upstream));
            }
        }
        for (b, stage) in stages.iter_mut().enumerate() {
            for p in 0..plan.partitions {
                let (upstream, watermark) = (upstream.clone(), end);
                stage.take(p, SignalRecord::Progress(Progress { upstream, watermark }));
                let every_ms = plan.width_ms;
                stage.take(p, SignalRecord::Tick(Tick { at: end, every_ms }));
            }
            for event in std::mem::take(&mut stage.events) {
                outcome.events[b] += 1;
                if event.kind == EventKind::Precursor && event.action == EventAction::Open {
                    count(&mut outcome, &faulty, b, &event, plan.width_ms);
                }
            }
        }
        for place in &mut faulty {
            let over = |i: usize| {
                let f = &outcome.injected[i];
                window >= f.from + f.fault.windows() + AFTERMATH
            };
            if place.is_some_and(over) {
                *place = None;
            }
        }
    }
    outcome
}

/// Every fault ends in a failure, as those that matter do.
fn failure(entity: &Entity, at: Timestamp, upstream: &Upstream) -> SignalRecord {
    SignalRecord::Incident {
        incident: Incident {
            entity: entity.clone(),
            class: "outage".into(),
            onset: at,
            end: Some(at + 60_000),
            summary: None,
        },
        position: SourcePosition {
            upstream: upstream.clone(),
            offset_first: 0,
            offset_last: 0,
        },
    }
}

fn inject(outcome: &mut Outcome, faulty: &mut [Option<usize>], chance: &mut Rng, window: u64, budgets: usize) {
    let entity = (chance.uniform() * faulty.len() as f64) as usize;
    if faulty[entity].is_some() {
        return;
    }
    faulty[entity] = Some(outcome.injected.len());
    let fault = Fault::KINDS[outcome.injected.len() % Fault::KINDS.len()];
    outcome.injected.push(Injected {
        fault,
        entity,
        from: window,
        found: vec![None; budgets],
    });
}

fn count(outcome: &mut Outcome, faulty: &[Option<usize>], b: usize, event: &Event, width_ms: Millis) {
    let windows = |t: Timestamp| (t.as_millis() - EPOCH_S * 1_000) / width_ms;
    let Some(entity) = event
        .entity
        .as_str()
        .strip_prefix('e')
        .and_then(|e| e.parse::<usize>().ok())
    else {
        return;
    };
    let alarm = Alarm {
        window: windows(event.observed_at).unsigned_abs(),
        onset_back: windows(event.observed_at) - windows(event.started_at),
        entity,
        score: event.score.surprise(),
        threshold: event.precursor.as_ref().map_or(0.0, |p| p.threshold.surprise()),
    };
    match faulty[entity] {
        None => outcome.false_alarms[b].push(alarm),
        Some(i) => {
            outcome.injected[i].found[b].get_or_insert(alarm);
        }
    }
}

/// 95 % interval of a Poisson mean of which `n` were seen (Wilson and Hilferty's approximation of the exact one).
pub fn poisson_interval(n: usize) -> (f64, f64) {
    let cube = |n: f64, z: f64| n * (1.0 - 1.0 / (9.0 * n) + z / (3.0 * n.sqrt())).powi(3);
    let n = n as f64;
    (if n == 0.0 { 0.0 } else { cube(n, -1.96) }, cube(n + 1.0, 1.96))
}
