//! What the service knows of itself: fed by the workers' loops, read by `/livez`, `/readyz` and `/metrics`.
//!
//! Alive means that every loop came round lately, not that brokers answer: restarting this process does not mend a broker.
//! Ready means that partitions are owned and their state is restored.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foreshock_engine::{Counters, EpochReport};
use foreshock_kafka::Tally;

/// A loop that did not come round for this long hangs: one turn takes well under a second, a slow commit a few.
pub const STALL: Duration = Duration::from_secs(30);

/// Shared by workers and readers; a lock is held for a few instructions at a time.
#[derive(Debug)]
pub struct Vitals {
    workers: Vec<Mutex<Worker>>,
    tallies: Vec<Tally>,
}

#[derive(Debug)]
struct Worker {
    /// When its loop last came round.
    alive: Instant,
    owned: usize,
    restored: bool,
    counters: Counters,
    epochs: u64,
    restarts: u64,
    /// Of the restarts, those for which the brokers refused credentials, certificates or rights.
    refusals: u64,
    last_commit: Option<Instant>,
    series: usize,
    entities: usize,
    /// Of the last snapshots.
    snapshot_bytes: u64,
    snapshots: u64,
    snapshot_written: u64,
}

/// All workers together.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sum {
    owned: usize,
    /// Whether every worker that owns partitions has restored them.
    restored: bool,
    counters: Counters,
    epochs: u64,
    restarts: u64,
    refusals: u64,
    /// Of the worker whose last commit is longest ago.
    commit_age: Option<Duration>,
    series: usize,
    entities: usize,
    snapshot_bytes: u64,
    snapshots: u64,
    snapshot_written: u64,
    /// Of the worker whose loop has been silent longest.
    silence: Duration,
}

impl Vitals {
    /// Of this many workers, all of which count as alive now.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let worker = || {
            Mutex::new(Worker {
                alive: Instant::now(),
                owned: 0,
                restored: false,
                counters: Counters::default(),
                epochs: 0,
                restarts: 0,
                refusals: 0,
                last_commit: None,
                series: 0,
                entities: 0,
                snapshot_bytes: 0,
                snapshots: 0,
                snapshot_written: 0,
            })
        };
        Self {
            workers: std::iter::repeat_with(worker).take(workers).collect(),
            tallies: std::iter::repeat_with(Tally::default).take(workers).collect(),
        }
    }

    /// Where the log of a worker writes what it shows of itself. Each has its own: a member knows only its own partitions.
    #[must_use]
    pub fn tally(&self, worker: usize) -> Tally {
        self.tallies.get(worker).cloned().unwrap_or_default()
    }

    /// Takes what a worker's loop reports. A worker beyond the number told at the start is not counted.
    #[allow(clippy::needless_pass_by_value)] // it is the loop's observer, and the loop gives the report away
    pub fn observe(&self, worker: usize, report: EpochReport) {
        let Some(mut w) = self.worker(worker) else { return };
        w.alive = Instant::now();
        match report {
            EpochReport::Alive => {}
            EpochReport::Owned(partitions) => w.owned = partitions.len(),
            EpochReport::Restored(restored) => w.restored = restored,
            EpochReport::Counted(counters) => w.counters += *counters,
            EpochReport::Committed {
                counters,
                series,
                entities,
                saved,
                ..
            } => {
                w.counters += *counters;
                w.epochs += 1;
                w.last_commit = Some(w.alive);
                (w.series, w.entities) = (series, entities);
                if saved.snapshots > 0 {
                    w.snapshot_bytes = saved.state_bytes;
                }
                w.snapshots += saved.snapshots;
                w.snapshot_written += saved.written_bytes;
            }
        }
    }

    /// A worker threw its log away and begins again; it owns nothing until partitions come.
    pub fn restarted(&self, worker: usize) {
        if let Some(mut w) = self.worker(worker) {
            w.alive = Instant::now();
            w.restarts += 1;
            (w.owned, w.restored, w.series, w.entities) = (0, false, 0, 0);
        }
        if let Some(tally) = self.tallies.get(worker) {
            tally.lag.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// The brokers refused a worker's credentials, certificate or rights.
    pub fn refused(&self, worker: usize) {
        if let Some(mut w) = self.worker(worker) {
            w.alive = Instant::now();
            w.refusals += 1;
        }
    }

    /// Whether every loop came round within [`STALL`].
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.sum().silence < STALL
    }

    /// Whether partitions are owned, and restored.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let sum = self.sum();
        sum.owned > 0 && sum.restored
    }

    /// All of it in Prometheus' text format, version 0.0.4.
    #[must_use]
    pub fn prometheus(&self) -> String {
        let sum = self.sum();
        let mut out = Exposition::default();
        for (name, value) in sum.counters.entries() {
            let help = format!("{} since the start of the process.", name.replace('_', " "));
            out.counter(&format!("{name}_total"), &help, value);
        }
        out.counter(
            "epochs_committed_total",
            "Epochs committed since the start of the process.",
            sum.epochs,
        );
        out.counter(
            "worker_restarts_total",
            "Times a worker began again after an error.",
            sum.restarts,
        );
        out.counter(
            "snapshots_total",
            "Snapshots of partitions that were stored whole.",
            sum.snapshots,
        );
        out.counter(
            "snapshot_written_bytes_total",
            "Compressed bytes written for snapshots; what did not change is not written again.",
            sum.snapshot_written,
        );
        out.counter(
            "broker_refusals_total",
            "Times the brokers refused credentials, certificate or a right.",
            sum.refusals,
        );
        let tallied =
            |of: fn(&Tally) -> &AtomicU64| -> u64 { self.tallies.iter().map(|t| of(t).load(Ordering::Relaxed)).sum() };
        out.counter(
            "group_repairs_total",
            "Times the group was asked to share out anew partitions that no member had.",
            tallied(|t| &t.group_repairs),
        );
        out.counter(
            "clients_left_total",
            "Times Kafka clients of a worker did not end and were left to themselves.",
            tallied(|t| &t.clients_left),
        );
        out.gauge("series", "Series held.", sum.series);
        out.gauge("entities", "Entities held by the second stage.", sum.entities);
        out.gauge(
            "owned_partitions",
            "Partitions owned, of inputs and signals.",
            sum.owned,
        );
        out.gauge(
            "restored",
            "1 when all that is owned is restored.",
            u8::from(sum.restored && sum.owned > 0),
        );
        out.gauge(
            "snapshot_bytes",
            "Bytes of the newest snapshots before compression.",
            sum.snapshot_bytes,
        );
        out.gauge(
            "workers",
            "Threads, each a member of the consumer group.",
            self.workers.len(),
        );
        if let Some(age) = sum.commit_age {
            let help = "Seconds since the last commit of the worker that waits longest.";
            out.gauge("last_commit_age_seconds", help, format!("{:.3}", age.as_secs_f64()));
        }
        out.head("lag_records", "Records behind the end of the topic.", "gauge");
        for (topic, behind) in self.lag_by_topic() {
            out.sample(&format!("lag_records{{topic=\"{}\"}}", escaped(&topic)), behind);
        }
        out.head("build_info", "Always 1; the version is in the label.", "gauge");
        out.sample(concat!("build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1);
        out.text
    }

    fn worker(&self, worker: usize) -> Option<MutexGuard<'_, Worker>> {
        // A thread that panicked with the lock held leaves numbers that are at worst one report old.
        self.workers
            .get(worker)
            .map(|w| w.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn lag_by_topic(&self) -> BTreeMap<String, i64> {
        let mut all = BTreeMap::new();
        for tally in &self.tallies {
            for (topic, behind) in &*tally.lag.lock().unwrap_or_else(PoisonError::into_inner) {
                *all.entry(topic.clone()).or_default() += behind;
            }
        }
        all
    }

    fn sum(&self) -> Sum {
        let now = Instant::now();
        let mut sum = Sum {
            restored: true,
            ..Sum::default()
        };
        for i in 0..self.workers.len() {
            let Some(w) = self.worker(i) else { continue };
            sum.owned += w.owned;
            sum.restored &= w.owned == 0 || w.restored;
            sum.counters += w.counters;
            sum.epochs += w.epochs;
            sum.restarts += w.restarts;
            sum.refusals += w.refusals;
            sum.series += w.series;
            sum.entities += w.entities;
            sum.snapshot_bytes += w.snapshot_bytes;
            sum.snapshots += w.snapshots;
            sum.snapshot_written += w.snapshot_written;
            sum.silence = sum.silence.max(now.saturating_duration_since(w.alive));
            let age = w.last_commit.map(|at| now.saturating_duration_since(at));
            sum.commit_age = sum.commit_age.max(age);
        }
        sum
    }
}

/// Prometheus' text format; every name gets the prefix `foreshock_`.
#[derive(Default)]
struct Exposition {
    text: String,
}

impl Exposition {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a string can't fail.
        let _ = write!(
            self.text,
            "# HELP foreshock_{name} {help}\n# TYPE foreshock_{name} {kind}\n"
        );
    }

    fn sample(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.text, "foreshock_{name} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "counter");
        self.sample(name, value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, help, "gauge");
        self.sample(name, value);
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use foreshock_engine::{Saved, TopicId, TopicPartition};

    use super::*;

    fn owned(n: i32) -> EpochReport {
        let of = |partition| TopicPartition {
            topic: TopicId::SIGNALS,
            partition,
        };
        EpochReport::Owned((0..n).map(of).collect())
    }

    #[test]
    fn ready_is_assigned_and_restored_in_every_worker() {
        let vitals = Vitals::new(2);
        let mut steps = Vec::new();
        let mut step = |worker, report| {
            vitals.observe(worker, report);
            steps.push(vitals.is_ready());
        };
        step(0, EpochReport::Restored(true));
        step(0, owned(2));
        step(1, owned(1));
        step(1, EpochReport::Restored(true));
        step(1, EpochReport::Restored(false));
        step(1, owned(0));
        assert_eq!(steps, [false, true, false, true, false, true]);
        vitals.restarted(0);
        assert!(!vitals.is_ready(), "nothing is owned any more");
        assert!(vitals.is_alive());
        vitals.observe(7, EpochReport::Alive);
    }

    #[test]
    fn workers_add_up() {
        let vitals = Vitals::new(2);
        for worker in 0..2 {
            let counters = Counters {
                records: 5,
                ..Counters::default()
            };
            vitals.observe(
                worker,
                EpochReport::Committed {
                    counters: Box::new(counters),
                    series: 3,
                    entities: 1,
                    saved: Saved {
                        snapshots: 1,
                        state_bytes: 10,
                        written_bytes: 4,
                    },
                    tick: None,
                },
            );
            let replayed = Counters {
                records_replayed: 7,
                ..Counters::default()
            };
            vitals.observe(worker, EpochReport::Counted(Box::new(replayed)));
            let tally = vitals.tally(worker);
            tally.lag.lock().unwrap().insert("a\"b".into(), 4);
            tally.group_repairs.fetch_add(1, Ordering::Relaxed);
            tally.clients_left.fetch_add(2, Ordering::Relaxed);
        }
        let text = vitals.prometheus();
        for line in [
            "# TYPE foreshock_records_total counter",
            "foreshock_records_total 10",
            "foreshock_records_replayed_total 14",
            "foreshock_epochs_committed_total 2",
            "foreshock_series 6",
            "foreshock_snapshot_bytes 20",
            "foreshock_snapshots_total 2",
            "foreshock_snapshot_written_bytes_total 8",
            "foreshock_group_repairs_total 2",
            "foreshock_clients_left_total 4",
            "foreshock_lag_records{topic=\"a\\\"b\"} 8",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    /// Names of our metrics in a text, without labels.
    fn named(text: &str) -> std::collections::BTreeSet<String> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        text.match_indices("foreshock_")
            .filter(|(at, _)| !text[..*at].ends_with(is_part))
            .map(|(at, _)| text[at..].chars().take_while(|c| is_part(*c)).collect())
            .collect()
    }

    #[test]
    fn the_runbook_has_every_metric_and_nothing_names_another() {
        let vitals = Vitals::new(1);
        let report = EpochReport::Committed {
            counters: Box::default(),
            series: 0,
            entities: 0,
            saved: foreshock_engine::Saved::default(),
            tick: None,
        };
        vitals.observe(0, report);
        let text = vitals.prometheus();
        let families = text
            .lines()
            .filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next());
        let exported: std::collections::BTreeSet<String> = families.map(str::to_owned).collect();
        assert!(exported.len() > 40, "{exported:?}");
        let runbook = include_str!("../../../docs/runbook.md");
        assert_eq!(named(runbook), exported, "docs/runbook.md");
        let alerts = include_str!("../../../deploy/alerts.yml");
        let unknown: Vec<_> = named(alerts).difference(&exported).cloned().collect();
        assert_eq!(unknown, [""; 0], "deploy/alerts.yml");
        // Each alert says what to do, and nothing is said of an alert that there is not.
        let names = |text: &str, begin: &str, end: char| -> std::collections::BTreeSet<String> {
            let found = text.lines().filter_map(|l| l.trim().strip_prefix(begin));
            found
                .filter_map(|l| l.split(end).next().map(|n| n.trim_end_matches('.').to_owned()))
                .collect()
        };
        let alerted = names(alerts, "- alert: ", ' ');
        assert!(alerted.len() > 8, "{alerted:?}");
        assert_eq!(
            names(runbook, "**Foreshock", '*'),
            names(alerts, "- alert: Foreshock", ' ')
        );
    }

    /// Every sample has a HELP and a TYPE line right before its family, and a family comes once.
    #[test]
    fn the_exposition_is_well_formed() {
        let text = Vitals::new(1).prometheus();
        let mut seen = std::collections::BTreeSet::new();
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().unwrap().to_owned();
                assert!(seen.insert(family.clone()), "{family} comes twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert_eq!(rest.split(' ').next(), Some(family.as_str()));
            } else {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert_eq!(name.split('{').next(), Some(family.as_str()));
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(text.ends_with('\n'));
    }
}
