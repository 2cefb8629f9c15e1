//! Faults on three nodes: whatever is killed, stopped, paused, cut, slowed or doubled, a `read_committed` reader finds the events
//! of an undisturbed run, each once, and every input read to its end.
//!
//! One fleet's metrics and logs go into shared input topics at a steady pace. Six deployments read them, each with topics and a
//! group of its own and a fault of its own; at last one more reads everything undisturbed, and says what was to be expected.
//!
//! The short version has two kinds of faults, and belongs to the tests that always run. The full one (`--ignored faults_lose`) has
//! everything at once. The long one has the faults in turn, so that the time to recover belongs to one fault, and watches what two
//! processes hold that live through all of it:
//!
//! ```sh
//! FORESHOCK_SOAK_MINUTES=60 cargo test --release -p foreshock --test kafka -- --ignored soak --nocapture
//! ```
//!
//! It leaves `faults.md` (the table), `soak.csv` and `soak.svg` in `target/kafka/`.

mod actors;
mod positions;
mod report;
mod soak;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foreshock_domain::SignalRecord;
use rdkafka::producer::{BaseProducer, Producer};

use crate::cluster::Cluster;
use crate::deployment::{Deployment, multiset};
use crate::fleet::{Fleet, LOG_PARTITIONS, METRIC_PARTITIONS};
use crate::process::Foreshock;
use crate::topics::{Incoming, Topics, send};
pub use positions::Positions;
use report::{Outcome, Report};

/// Longer than any recovery that is one; the machine may be busy with something else.
const PATIENCE: Duration = Duration::from_secs(240);
/// No fault begins so shortly before the end of the stream: it would find nothing to disturb.
const TAIL: Duration = Duration::from_secs(15);

/// How a run goes.
struct Plan {
    fleet: Fleet,
    /// How long records come.
    stream: Duration,
    /// Whether faults come one after the other.
    in_turn: bool,
    /// Names of cases; `None` for those that the user names, or all.
    only: Option<&'static [&'static str]>,
    /// Until a failure is over.
    cooldown_s: u32,
}

impl Plan {
    /// Observed time after the last window in which the second stage has decided all there is to decide: what it holds back, and
    /// that failures are over, after their cooldown; a little longer, for the ticks at both ends.
    fn decides_ms(&self) -> i64 {
        i64::from(self.cooldown_s) * 1_000 + 20_000
    }

    /// Those it names, or that `FORESHOCK_FAULTS=killed,network` names, or all.
    fn cases(&self) -> Vec<Case> {
        let named = std::env::var("FORESHOCK_FAULTS").unwrap_or_default();
        let named: Vec<&str> = named.split(',').filter(|name| !name.is_empty()).collect();
        let wanted = self.only.unwrap_or(&named);
        let is_wanted = |name: &str| wanted.is_empty() || wanted.contains(&name);
        let cases: Vec<Case> = CASES.into_iter().filter(|(name, ..)| is_wanted(name)).collect();
        assert!(!cases.is_empty(), "{wanted:?} names no case");
        cases
    }
}

/// What all that happens in a run has in common.
struct Stage<'a> {
    cluster: &'a Cluster,
    inputs: [String; 2],
    began: Instant,
    stream: Duration,
    /// Whether the last record has been sent.
    sent: AtomicBool,
}

/// A fault that was injected.
struct Injection {
    fault: &'static str,
    /// Until every partition was committed further and all processes were ready; `None` where the next fault came on purpose before.
    recovery: Option<Duration>,
}

/// Who injects faults into a deployment: gives what it did, and the processes it leaves running.
type Actor = fn(&Stage<'_>, &Deployment<'_>, Vec<Foreshock>, Turn) -> (Vec<Injection>, Vec<Foreshock>);

/// When an actor may act.
#[derive(Clone, Copy)]
struct Turn {
    from: Instant,
    to: Instant,
}

impl Turn {
    fn wait(self) {
        std::thread::sleep(self.from.saturating_duration_since(Instant::now()));
    }

    fn goes_on(self) -> bool {
        Instant::now() < self.to
    }
}

/// Name, how much of the time it gets in turn, the instances it begins with, and whether it is behind the proxy.
type Case = (&'static str, u32, &'static [&'static str], bool, Actor);

const CASES: [Case; 6] = [
    ("killed", 2, &["a"], false, actors::killed),
    ("brokers", 3, &["a"], false, actors::brokers),
    ("network", 3, &["a"], true, actors::network),
    ("shared", 2, &["a"], false, actors::shared),
    ("frozen", 2, &["a", "b"], false, actors::frozen),
    ("twins", 1, &["a"], false, actors::twins),
];

impl Stage<'_> {
    /// Sends the whole fleet at a steady pace, and says how many records it was.
    fn send(&self, fleet: Fleet) -> usize {
        let mut config = self.cluster.broker().client();
        config.set("enable.idempotence", "true").set("linger.ms", "5");
        let producer: BaseProducer = config.create().unwrap();
        let mut records = 0;
        for step in 0..fleet.steps {
            let due = self.began + self.stream.mul_f64(f64::from(step) / f64::from(fleet.steps));
            while Instant::now() < due {
                producer.poll(Duration::from_millis(10));
            }
            let now = fleet.step(step);
            for (topic, all) in self.inputs.iter().zip([now.metrics, now.logs]) {
                records += all.len();
                all.iter().for_each(|record| send(&producer, topic, record));
            }
        }
        producer.flush(PATIENCE).unwrap();
        self.sent.store(true, Ordering::Relaxed);
        records
    }

    /// How long after `began` every partition is committed further than it was at the first look, and these processes are ready.
    ///
    /// # Panics
    /// Where it takes longer than [`PATIENCE`], or a process says that it should be restarted.
    fn recovery(&self, of: &Deployment<'_>, began: Instant, processes: &[&Foreshock]) -> Duration {
        let positions = Positions::new(self.cluster.broker(), &of.group(), &self.inputs);
        let mut first: Option<Vec<i64>> = None;
        loop {
            let look = positions.committed();
            let moved = match (&first, &look) {
                (Some(before), Some(now)) => {
                    let further = before.iter().zip(now).all(|(b, n)| n > b);
                    further || (self.sent.load(Ordering::Relaxed) && positions.ends().as_ref() == Some(now))
                }
                _ => false,
            };
            let ready = |p: &&Foreshock| p.get("/readyz").is_some_and(|(status, _)| status == 200);
            if moved && processes.iter().all(ready) {
                return began.elapsed();
            }
            for p in processes {
                assert!(p.is_running(), "{} has ended:\n{}", of.group(), p.last_stderr());
                let live = p.get("/livez").is_none_or(|(status, _)| status == 200);
                assert!(
                    live,
                    "/livez asks for a restart, which would mend nothing:\n{}",
                    p.last_stderr()
                );
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{}: stuck at {look:?} after {first:?}:\n{}",
                of.group(),
                processes
                    .iter()
                    .map(|p| p.last_stderr())
                    .collect::<Vec<_>>()
                    .join("\n---\n")
            );
            first = first.or(look);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Waits until a deployment has read its inputs to their end, and then all signals that it made of them, in which so much time
/// was observed that windows are decided.
fn settle(stage: &Stage<'_>, topics: &Topics<'_>, of: &Deployment<'_>, decides_ms: i64) {
    let until = Instant::now() + PATIENCE;
    let reach = |names: &[String], ends: &[i64]| {
        let positions = Positions::new(stage.cluster.broker(), &of.group(), names);
        loop {
            let now = positions.committed();
            if now
                .as_ref()
                .is_some_and(|now| now.iter().zip(ends).all(|(n, e)| n >= e))
            {
                return;
            }
            assert!(Instant::now() < until, "{}: stuck at {now:?} of {ends:?}", of.group());
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    let ends = Positions::new(stage.cluster.broker(), &of.group(), &stage.inputs).ends();
    reach(&stage.inputs, &ends.expect("ends of topics"));
    let signals = of.topic("signals");
    loop {
        // Transactions end with a marker that nobody reads, so the end of the last record counts.
        let mut partitions = [Observed::default(), Observed::default()];
        for record in topics.read_committed(&signals) {
            partitions[record.partition as usize].take(&record);
        }
        if partitions.iter().all(|p| p.observed_ms > decides_ms) {
            return reach(&[signals], &partitions.map(|p| p.next));
        }
        assert!(Instant::now() < until, "{}: no ticks", of.group());
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// What the second stage has seen of a signals partition.
#[derive(Default)]
struct Observed {
    next: i64,
    heard: bool,
    last_tick_ms: Option<i64>,
    /// Since the last window, once an input was heard.
    observed_ms: i64,
}

impl Observed {
    fn take(&mut self, record: &Incoming) {
        self.next = record.offset + 1;
        match foreshock_wire::signals::decode(record.value.as_deref().unwrap_or_default()) {
            Ok(SignalRecord::Progress(_)) => self.heard = true,
            Ok(SignalRecord::Window(_)) => self.observed_ms = 0,
            Ok(SignalRecord::Tick(tick)) => {
                let at = tick.at.as_millis();
                let passed = at - self.last_tick_ms.replace(at).unwrap_or(at);
                if self.heard {
                    self.observed_ms += passed.clamp(0, 2 * tick.every_ms);
                }
            }
            _ => {}
        }
    }
}

fn letters(records: &[Incoming]) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for r in records {
        let value = String::from_utf8_lossy(r.value.as_deref().unwrap_or_default());
        let headers: Vec<_> = r
            .headers
            .iter()
            .map(|(k, v)| format!("{k}={}", String::from_utf8_lossy(v)))
            .collect();
        *all.entry(format!("{headers:?} {value}")).or_default() += 1;
    }
    all
}

/// The whole run; `None` where the user asked to skip these tests.
fn run(plan: &Plan, watch: impl Fn(&AtomicBool, &[(String, u32)]) + Sync) -> Option<Report> {
    let cases = plan.cases();
    let decides_ms = plan.decides_ms();
    let cluster = Cluster::start()?;
    let topics = Topics::new(cluster.broker(), "faults");
    let inputs = [
        topics.create("metrics", METRIC_PARTITIONS, &[]),
        topics.create("logs", LOG_PARTITIONS, &[]),
    ];
    let sources = format!(
        "[[source]]\ntopic = \"{}\"\nformat = \"plain_json\"\n\n[[source]]\ntopic = \"{}\"\nformat = \"log_json\"\n\n\
         [failure]\ncooldown_s = {}\n\n[[failure.probe]]\nname = \"probe\"\nseries = \"up\"\nwindows = 3\n",
        inputs[0], inputs[1], plan.cooldown_s
    );
    let deployments: Vec<Deployment<'_>> = cases
        .iter()
        .map(|(name, _, _, proxied, _)| {
            let deployment = Deployment::new(cluster.broker(), &topics, name, &sources);
            if *proxied {
                deployment.through(cluster.behind_proxy())
            } else {
                deployment
            }
        })
        .collect();
    let processes: Vec<Vec<Foreshock>> = std::thread::scope(|scope| {
        let all: Vec<_> = cases
            .iter()
            .zip(&deployments)
            .map(|((_, _, instances, ..), of)| {
                scope.spawn(move || instances.iter().map(|instance| of.start(instance)).collect())
            })
            .collect();
        all.into_iter().map(|p| p.join().unwrap()).collect()
    });
    let steady: Vec<(String, u32)> = cases
        .iter()
        .zip(&processes)
        .filter(|((name, ..), _)| ["brokers", "network"].contains(name))
        .map(|((name, ..), p)| ((*name).to_owned(), p[0].id()))
        .collect();
    let stage = Stage {
        cluster: &cluster,
        inputs,
        began: Instant::now(),
        stream: plan.stream,
        sent: AtomicBool::new(false),
    };
    let (records, played) = std::thread::scope(|scope| {
        let (stage, watch, steady) = (&stage, &watch, &steady);
        let sender = scope.spawn(|| stage.send(plan.fleet));
        scope.spawn(move || watch(&stage.sent, steady));
        let mut turns = turns(plan, &cases, stage.began).into_iter();
        let actors: Vec<_> = cases
            .iter()
            .zip(&deployments)
            .zip(processes)
            .map(|(((.., actor), of), processes)| {
                let turn = turns.next().expect("a turn for each");
                scope.spawn(move || {
                    turn.wait();
                    actor(stage, of, processes, turn)
                })
            })
            .collect();
        let played: Vec<_> = actors.into_iter().map(|a| a.join().ok()).collect();
        (sender.join().expect("all records sent"), played)
    });
    cluster.mend(PATIENCE);
    let calm = Deployment::new(cluster.broker(), &topics, "calm", &sources);
    let calm_process = calm.start("a");
    // Where one case breaks the others are told of all the same.
    let mut broken = Vec::new();
    let mut outcomes = Vec::new();
    for ((of, (name, ..)), played) in deployments.iter().zip(&cases).zip(played) {
        let finish = |(injections, processes): (Vec<Injection>, Vec<Foreshock>)| {
            settle(&stage, &topics, of, decides_ms);
            for process in processes {
                let status = process.terminate(Duration::from_secs(40));
                assert!(status.success(), "{}: SIGTERM ends it in order: {status}", of.group());
            }
            (injections, of.events(), of.dead_letters())
        };
        let outcome = played.and_then(|played| catch_unwind(AssertUnwindSafe(|| finish(played))).ok());
        if outcome.is_none() {
            broken.push(*name);
        }
        outcomes.push(outcome);
    }
    settle(&stage, &topics, &calm, decides_ms);
    assert!(calm_process.terminate(Duration::from_secs(40)).success());
    let expected = multiset(&calm.events());
    assert!(expected.values().all(|n| *n == 1), "undisturbed: each event once");
    let expected_letters = letters(&calm.dead_letters());
    let mut rows = Vec::new();
    for ((name, ..), outcome) in cases.iter().zip(outcomes) {
        let Some((injections, events, dead)) = outcome else {
            continue;
        };
        let outcome = Outcome::new(name, &expected, &multiset(&events), letters(&dead) == expected_letters);
        rows.extend(report::rows(&injections, records, &outcome));
    }
    Some(Report { rows, broken })
}

fn turns(plan: &Plan, cases: &[Case], began: Instant) -> Vec<Turn> {
    let end = began + plan.stream.saturating_sub(TAIL);
    let shares: u32 = cases.iter().map(|(_, share, ..)| share).sum();
    let place = |share: u32| began + (end - began).mul_f64(f64::from(share) / f64::from(shares));
    let mut before = 0;
    let turn = |share: u32| {
        let from = before;
        before += share;
        if plan.in_turn {
            Turn {
                from: place(from),
                to: place(before),
            }
        } else {
            Turn { from: began, to: end }
        }
    };
    cases.iter().map(|(_, share, ..)| *share).map(turn).collect()
}

#[test]
fn killed_and_frozen_detectors_lose_nothing_and_double_nothing() {
    let plan = Plan {
        fleet: Fleet {
            hosts: 24,
            steps: 240,
            every: 60,
        },
        stream: Duration::from_secs(45),
        in_turn: false,
        only: Some(&["killed", "frozen"]),
        cooldown_s: 10,
    };
    let Some(report) = run(&plan, |_, _| {}) else { return };
    println!("{}", report.table());
    report.assert_exact(40_000, 50);
}

/// Needs a machine with some room: three brokers and nine detectors under faults at once.
#[test]
#[ignore = "takes six minutes of two free cores"]
fn faults_lose_nothing_and_double_nothing() {
    let plan = Plan {
        fleet: Fleet {
            hosts: 24,
            steps: 1_200,
            every: 120,
        },
        stream: Duration::from_secs(180),
        in_turn: false,
        only: None,
        cooldown_s: 60,
    };
    let Some(report) = run(&plan, |_, _| {}) else { return };
    println!("{}", report.table());
    report.assert_exact(200_000, 100);
}

/// See the module.
#[test]
#[ignore = "takes an hour, or FORESHOCK_SOAK_MINUTES"]
fn soak() {
    let minutes: f64 = std::env::var("FORESHOCK_SOAK_MINUTES")
        .ok()
        .map_or(60.0, |m| m.parse().expect("FORESHOCK_SOAK_MINUTES is a number"));
    let plan = Plan {
        fleet: Fleet {
            hosts: 24,
            steps: 1_200,
            every: 120,
        },
        stream: Duration::from_secs_f64(60.0 * minutes),
        in_turn: true,
        only: None,
        cooldown_s: 60,
    };
    let soak = soak::Soak::default();
    let Some(report) = run(&plan, |sent, processes| soak.watch(sent, processes)) else {
        return;
    };
    let folder = crate::broker::kafka_folder();
    let table = report.table();
    println!("{table}");
    std::fs::write(folder.join("faults.md"), table).unwrap();
    soak.write(&folder);
    report.assert_exact(200_000, 100);
    soak.assert_flat();
}
