//! `openstack`: faults injected into `OpenStack`, warned of before the first error that a user sees, from logs alone.
//!
//! Ours runs as in production: records to both stages to events, each service an entity, all else at the defaults. Its state is
//! learned from the control rounds of other tests, replayed one after the other with [`PAUSE_MS`] between them; tests are dealt
//! into [`FOLDS`] folds, and a fold's own rounds are never learned. A control round is alarmed when a precursor opens while its
//! workload runs. A failing test is warned of when one is told (opened or escalated) after the fault became active and before the
//! first error that a user sees; what is told before is counted as false. A warning's time is that at which the engine could say it:
//! the event time of the record that closed the window and its lateness.
//!
//! Alarm budgets other than the default are measured beside it, and "budget chosen": for each fold the largest budget with which
//! at most [`BEARABLE`] of the other folds' control rounds were alarmed. The rules that look at lines for themselves know no windows
//! and warn at the line; theirs are the templates of all control rounds of other tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use foreshock_domain::{Event, EventAction, EventKind, SignalRecord, Tick, Timestamp};
use foreshock_engine::correlate::CorrelatePartition;
use foreshock_engine::{
    Assignment, Counters, Destination, Engine, EngineConfig, Frozen, Record, SessionConfig, SourceConfig, TopicId,
    TopicPartition,
};
use foreshock_failure::{FailureConfig, Rules};
use foreshock_logs::{Miner, SessionIds, TemplateId};
use foreshock_wire::{Format, signals};
use serde::Serialize;

use crate::corpus::openstack::{Line, Round, Test, read};
use crate::parallel::in_parallel;
use crate::table::Table;

const FOLDS: usize = 10;
/// Silence between two rounds.
const PAUSE_MS: i64 = 1_800_000;
/// Log times are cut to ms and activations are not.
const CUT_MS: i64 = 1_000;
/// Share of control rounds.
const BEARABLE: f64 = 0.03;
/// False alarms a day; the first is the default.
const BUDGETS: [f64; 6] = [1.0, 0.1, 3.0, 10.0, 30.0, 100.0];
const LEAD_MS: i64 = 60_000;

/// Options of `openstack`.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder with `index.csv`
    pub folder: PathBuf,
    /// Where `logs.tar.xz` is unpacked, if elsewhere
    #[arg(long)]
    pub logs: Option<PathBuf>,
    /// Width of windows in seconds; the lateness is as long
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(i64).range(1..=60))]
    pub window_s: i64,
    /// Judges requests, by their ids, in place of windows: over when silent for so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i64).range(1..=600))]
    pub requests: Option<i64>,
    /// Names the tests that were missed and the control rounds that were alarmed
    #[arg(long)]
    pub by_test: bool,
}

/// Figures of one answer over some of the tests.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OpenstackResult {
    /// Which answer, over which tests.
    pub answer: String,
    /// Failing tests.
    pub failing: usize,
    /// Warned of before the error.
    pub warned: usize,
    /// Warned of 60 s before it.
    pub warned_60: usize,
    /// The same by the end of the window in which it was seen.
    pub seen_60: usize,
    /// Control rounds.
    pub controls: usize,
    /// Control rounds alarmed.
    pub alarmed: usize,
    /// Faulty rounds with an alarm before the fault was active.
    pub early: usize,
    /// 10th, 50th and 90th percentile of the lead, s.
    pub lead_s: [f64; 3],
    /// Names of the tests missed and of the control rounds alarmed.
    pub missed: Vec<String>,
    /// Alarmed.
    pub false_of: Vec<String>,
}

/// Something told.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// When it could be said, and the end of the window it is about; event time of the round.
    at: i64,
    seen: i64,
    opens: bool,
}

/// What was told of a test, and when its rounds were.
#[derive(Clone, Debug, Default)]
struct Outcome {
    control: Vec<Told>,
    faulty: Vec<Told>,
}

/// Replays, compares, counts.
///
/// # Errors
/// When a file is missing or is not what it should be.
pub fn measure(options: &Options) -> Result<Vec<OpenstackResult>> {
    let logs = options.logs.as_deref().unwrap_or(&options.folder);
    let tests = read(&options.folder.join("index.csv"), logs)?;
    let mut order: Vec<usize> = (0..tests.len()).collect();
    order.sort_by_key(|i| tests[*i].control.from);
    let mut dealt: Vec<usize> = (0..tests.len()).collect();
    dealt.sort_by_key(|i| hash(&tests[*i].name));
    let folds: Vec<Vec<usize>> = (0..FOLDS)
        .map(|fold| dealt.iter().copied().skip(fold).step_by(FOLDS).collect())
        .collect();
    let by_fold = in_parallel(&folds, "folds", |fold| replay_fold(&tests, &order, fold, options));
    // By test, then by budget.
    let mut ours: BTreeMap<usize, Vec<Outcome>> = BTreeMap::new();
    for outcomes in by_fold {
        ours.extend(outcomes?);
    }
    let answers: Vec<(String, Vec<Outcome>)> = {
        let of_budget = |b: usize| ours.values().map(|o| o[b].clone()).collect::<Vec<_>>();
        let ours = (0..BUDGETS.len()).map(|b| (format!("ours, budget {} a day", BUDGETS[b]), of_budget(b)));
        let chosen = chosen(&tests, &folds, &ours.clone().map(|o| o.1).collect::<Vec<_>>());
        let rules = line_rules(&tests);
        ours.chain([("ours, budget chosen".to_owned(), chosen)])
            .chain(rules)
            .collect()
    };
    let mut results: Vec<OpenstackResult> = answers
        .iter()
        .map(|(name, o)| rate(name, &tests, o, |_| true))
        .collect();
    for (half, of) in [(0, "first half"), (1, "second half")] {
        results.extend(
            answers
                .iter()
                .map(|(name, o)| rate(&format!("{name}, {of}"), &tests, o, |name| hash(name) % 2 == half)),
        );
    }
    if !options.by_test {
        for r in &mut results {
            r.missed.clear();
            r.false_of.clear();
        }
    }
    Ok(results)
}

/// FNV-1a, mixed.
fn hash(name: &str) -> u64 {
    let fnv = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
    let h = name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    (h ^ (h >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

const LOGS: TopicPartition = TopicPartition {
    topic: TopicId(1),
    partition: 0,
};

fn config(options: &Options, budget: f64) -> Result<EngineConfig> {
    let mut source = SourceConfig::new("logs", Format::LogJson, &["service"]);
    if let Some(seconds) = options.requests {
        let ids = SessionIds::new(&["trace_id".to_owned()], None, None).map_err(anyhow::Error::msg)?;
        let idle_ms = seconds * 1_000;
        source.sessions = Some(SessionConfig { ids, idle_ms });
    }
    let mut config = EngineConfig::new(vec![source], Rules::new(&FailureConfig::default())?);
    config.windows.width_ms = options.window_s * 1_000;
    config.windows.lateness_ms = config.windows.width_ms;
    config.alarms.budget.false_alarms_per_day = budget;
    Ok(config)
}

/// Both stages; the second once for each budget.
struct Pipeline {
    engine: Engine,
    configs: Vec<EngineConfig>,
    correlators: Vec<CorrelatePartition>,
    offset: i64,
    sent: i64,
    tick_at: i64,
    /// Where the next round is moved to, ms.
    next: i64,
}

impl Pipeline {
    fn new(options: &Options) -> Result<Self> {
        let configs = BUDGETS
            .map(|budget| config(options, budget))
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let mut engine = Engine::new(Arc::new(config(options, BUDGETS[0])?));
        engine.assign(Assignment {
            of: LOGS,
            snapshot: None,
            committed: 0,
            first: 0,
        })?;
        Ok(Self {
            engine,
            correlators: configs.iter().map(|_| CorrelatePartition::default()).collect(),
            configs,
            offset: 0,
            sent: 0,
            tick_at: 0,
            next: 1_530_000_000_000,
        })
    }

    /// Another of the same state.
    fn fork(&mut self) -> Result<Self> {
        let (epoch, _) = self.engine.take_epoch(true);
        let (_, frozen) = epoch.states.into_iter().next().context("a partition has a state")?;
        let mut engine = Engine::new(Arc::new(self.engine.config().clone()));
        engine.assign(Assignment {
            of: LOGS,
            snapshot: Some(frozen.encode()?),
            committed: self.offset,
            first: 0,
        })?;
        // The next fork needs one, too.
        self.poke();
        let copy = |c: &mut CorrelatePartition| {
            let blocks = c.freeze()?;
            Ok(CorrelatePartition::load(Frozen { offset: 0, blocks }.encode()?)?)
        };
        Ok(Self {
            engine,
            configs: self.configs.clone(),
            correlators: self.correlators.iter_mut().map(copy).collect::<Result<_>>()?,
            offset: self.offset,
            sent: self.sent,
            tick_at: self.tick_at,
            next: self.next,
        })
    }

    /// A record that can't be read, so that the state counts as new and the next snapshot is taken.
    fn poke(&mut self) {
        self.engine.apply(&Record {
            from: LOGS,
            offset: self.offset,
            timestamp: None,
            key: None,
            payload: Some(b"{"),
        });
        self.offset += 1;
    }

    /// Replays a round; gives back what was told by each budget, in the round's own time.
    fn replay(&mut self, round: &Round) -> Vec<Vec<Told>> {
        let first = round.lines.first().map_or(0, |l| l.at);
        // Windows of the round stay where they are.
        let shift = (self.next - first).div_euclid(60_000) * 60_000;
        let mut told: Vec<Vec<Told>> = vec![Vec::new(); self.configs.len()];
        for line in &round.lines {
            let at = line.at + shift;
            self.engine.apply(&Record {
                from: LOGS,
                offset: self.offset,
                timestamp: Some(Timestamp::from_millis(at)),
                key: None,
                payload: Some(&line.payload),
            });
            self.offset += 1;
            let every_ms = self.configs[0].tick_every_ms;
            let (epoch, _) = self.engine.take_epoch(false);
            let mut records: Vec<SignalRecord> = Vec::new();
            if at >= self.tick_at + every_ms {
                self.tick_at = at;
                let at = Timestamp::from_millis(at);
                records.push(SignalRecord::Tick(Tick { at, every_ms }));
            }
            let sent = epoch.outputs.iter().filter(|o| matches!(o.to, Destination::Signals(_)));
            records.extend(sent.filter_map(|o| signals::decode(&o.value).ok()));
            for record in records {
                self.correlate(&record, line.at, shift, &mut told);
            }
            self.next = at + PAUSE_MS;
        }
        told
    }

    fn correlate(&mut self, record: &SignalRecord, at: i64, shift: i64, told: &mut [Vec<Told>]) {
        self.sent += 1;
        for ((correlator, config), told) in self.correlators.iter_mut().zip(&self.configs).zip(told) {
            let mut events: Vec<Event> = Vec::new();
            correlator.take(config, &mut Counters::default(), self.sent, record.clone(), &mut events);
            let precursors = events.iter().filter(|e| e.kind == EventKind::Precursor);
            told.extend(precursors.filter(|e| e.action != EventAction::Resolve).map(|e| Told {
                at,
                seen: e.observed_at.as_millis() - shift,
                opens: e.action == EventAction::Open,
            }));
        }
    }
}

/// Learns the control rounds of all other folds, then replays the rounds of this one, each from there.
fn replay_fold(
    tests: &[Test],
    order: &[usize],
    fold: &[usize],
    options: &Options,
) -> Result<BTreeMap<usize, Vec<Outcome>>> {
    let mut pipeline = Pipeline::new(options)?;
    for i in order.iter().filter(|i| !fold.contains(i)) {
        pipeline.replay(&tests[*i].control);
    }
    let mut out = BTreeMap::new();
    for i in fold {
        let control = pipeline.fork()?.replay(&tests[*i].control);
        let faulty = pipeline.fork()?.replay(&tests[*i].faulty);
        let outcomes = control.into_iter().zip(faulty);
        out.insert(
            *i,
            outcomes.map(|(control, faulty)| Outcome { control, faulty }).collect(),
        );
    }
    Ok(out)
}

/// For each fold the outcomes at the largest budget that was bearable in the control rounds of the others.
fn chosen(tests: &[Test], folds: &[Vec<usize>], by_budget: &[Vec<Outcome>]) -> Vec<Outcome> {
    let mut out = vec![Outcome::default(); tests.len()];
    let mut budgets: Vec<usize> = (0..BUDGETS.len()).collect();
    budgets.sort_by(|a, b| BUDGETS[*a].total_cmp(&BUDGETS[*b]));
    for fold in folds {
        let others: Vec<usize> = (0..tests.len()).filter(|i| !fold.contains(i)).collect();
        let bearable = |b: &usize| {
            let alarmed = others
                .iter()
                .filter(|i| is_alarmed(&tests[**i].control, &by_budget[*b][**i].control));
            alarmed.count() as f64 <= BEARABLE * others.len() as f64
        };
        let budget = budgets.iter().rev().copied().find(bearable).unwrap_or(budgets[0]);
        for i in fold {
            out[*i] = by_budget[budget][*i].clone();
        }
    }
    out
}

/// The rules that look at one line.
fn line_rules(tests: &[Test]) -> Vec<(String, Vec<Outcome>)> {
    let mut miner = Miner::new();
    let mut mine = |line: &Line| -> Option<TemplateId> {
        let value: serde_json::Value = serde_json::from_slice(&line.payload).ok()?;
        let level = foreshock_wire::parse_level(value.get("level")?.as_str()?);
        let key = format!(
            "{} {}",
            value.get("service")?.as_str()?,
            value.get("message")?.as_str()?.lines().next().unwrap_or_default()
        );
        Some(miner.mine(&key, level).id)
    };
    let mut ids = |round: &Round| -> Vec<Option<TemplateId>> { round.lines.iter().map(&mut mine).collect() };
    let controls: Vec<_> = tests.iter().map(|t| ids(&t.control)).collect();
    let faulty: Vec<_> = tests.iter().map(|t| ids(&t.faulty)).collect();
    let canonical = |id: &Option<TemplateId>| id.map(|id| miner.canonical(id));
    let kinds: Vec<BTreeSet<_>> = controls.iter().map(|c| c.iter().map(canonical).collect()).collect();
    let mut in_rounds: BTreeMap<Option<TemplateId>, usize> = BTreeMap::new();
    for id in kinds.iter().flatten() {
        *in_rounds.entry(*id).or_default() += 1;
    }
    let rule = |matches: &dyn Fn(&Line, bool) -> bool| -> Vec<Outcome> {
        let told = |test: usize, round: &Round, ids: &[Option<TemplateId>]| {
            let is_new = |id: Option<TemplateId>| {
                in_rounds.get(&id).copied().unwrap_or(0) == usize::from(kinds[test].contains(&id))
            };
            let lines = round
                .lines
                .iter()
                .zip(ids)
                .filter(|(l, id)| matches(l, is_new(canonical(id))));
            lines
                .map(|(l, _)| Told {
                    at: l.at,
                    seen: l.at,
                    opens: true,
                })
                .collect()
        };
        (0..tests.len())
            .map(|i| Outcome {
                control: told(i, &tests[i].control, &controls[i]),
                faulty: told(i, &tests[i].faulty, &faulty[i]),
            })
            .collect()
    };
    vec![
        ("an ERROR line or traceback".to_owned(), rule(&|line, _| line.is_error)),
        (
            "new template at WARNING or worse".to_owned(),
            rule(&|line, new| new && line.is_warning),
        ),
        ("new template".to_owned(), rule(&|_, new| new)),
    ]
}

fn is_alarmed(round: &Round, told: &[Told]) -> bool {
    told.iter()
        .any(|t| t.opens && (round.from..=round.until).contains(&t.seen))
}

fn rate(answer: &str, tests: &[Test], outcomes: &[Outcome], counts: impl Fn(&str) -> bool) -> OpenstackResult {
    let mut r = OpenstackResult {
        answer: answer.to_owned(),
        ..OpenstackResult::default()
    };
    let mut leads = Vec::new();
    for (test, outcome) in tests.iter().zip(outcomes).filter(|(t, _)| counts(&t.name)) {
        r.controls += 1;
        if is_alarmed(&test.control, &outcome.control) {
            r.alarmed += 1;
            r.false_of.push(test.name.clone());
        }
        let active = test.activated_at - CUT_MS;
        r.early +=
            usize::from((outcome.faulty.iter()).any(|t| t.opens && (test.faulty.from..active).contains(&t.seen)));
        let Some(error_at) = test.error_at else { continue };
        r.failing += 1;
        let warnings = || outcome.faulty.iter().filter(|t| t.seen >= active && t.at < error_at);
        match warnings().map(|t| t.at).min() {
            Some(at) => {
                r.warned += 1;
                r.warned_60 += usize::from(error_at - at >= LEAD_MS);
                leads.push((error_at - at) as f64 / 1_000.0);
            }
            None => r.missed.push(format!("{} ({})", test.name, test.fault)),
        }
        r.seen_60 += usize::from(warnings().any(|t| error_at - t.seen >= LEAD_MS));
    }
    leads.sort_by(f64::total_cmp);
    r.lead_s = [0.1, 0.5, 0.9].map(|q| {
        let at = ((leads.len().max(1) - 1) as f64 * q).round() as usize;
        leads.get(at).copied().unwrap_or(0.0)
    });
    r
}

/// A share with its 95 % Wilson interval.
fn share(k: usize, n: usize) -> String {
    const Z: f64 = 1.96;
    let (k_, n_) = (k as f64, n.max(1) as f64);
    let p = k_ / n_;
    let middle = (p + Z * Z / (2.0 * n_)) / (1.0 + Z * Z / n_);
    let half = Z / (1.0 + Z * Z / n_) * (p * (1.0 - p) / n_ + Z * Z / (4.0 * n_ * n_)).sqrt();
    format!(
        "{k}/{n} {p:.3} ({:.2}–{:.2})",
        (middle - half).max(0.0),
        (middle + half).min(1.0)
    )
}

/// The table.
#[must_use]
pub fn table(results: &[OpenstackResult]) -> String {
    let mut table = Table::new(&[
        "answer",
        "warned before the error",
        "60 s before",
        "60 s by its window's end",
        "control rounds alarmed",
        "alarmed before the fault",
        "lead 10 / 50 / 90 %, s",
    ]);
    let mut names = String::new();
    for r in results {
        table.row(vec![
            r.answer.clone(),
            share(r.warned, r.failing),
            share(r.warned_60, r.failing),
            share(r.seen_60, r.failing),
            share(r.alarmed, r.controls),
            r.early.to_string(),
            r.lead_s.map(|l| format!("{l:.0}")).join(" / "),
        ]);
        if !(r.missed.is_empty() && r.false_of.is_empty()) {
            names += &format!(
                "\n{}: missed {}; alarmed {}",
                r.answer,
                r.missed.join(", "),
                r.false_of.join(", ")
            );
        }
    }
    format!("{table}{names}")
}
