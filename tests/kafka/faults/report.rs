//! What came of a run: compared with the undisturbed one, and as a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::Injection;

/// What became of one deployment's events.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub name: String,
    pub expected: usize,
    pub lost: Vec<String>,
    pub doubled: Vec<String>,
    pub dead_letters_equal: bool,
}

/// One fault.
#[derive(Clone, Debug)]
pub struct Row {
    pub fault: &'static str,
    pub times: usize,
    pub records: usize,
    pub outcome: Outcome,
    /// Sorted.
    pub recoveries: Vec<Duration>,
}

/// What came of all of it.
pub struct Report {
    pub rows: Vec<Row>,
    /// Cases that did not come to their end.
    pub broken: Vec<&'static str>,
}

type Multiset = BTreeMap<(String, String), usize>;

impl Outcome {
    pub fn new(name: &str, expected: &Multiset, got: &Multiset, dead_letters_equal: bool) -> Self {
        let told = |(id, event): &(String, String), n: usize| format!("{name}: {n} x {id} {event}");
        let lost = expected.keys().filter(|k| !got.contains_key(k)).map(|k| told(k, 0));
        let extra = got.iter().filter(|(k, n)| **n > 1 || !expected.contains_key(k));
        Self {
            name: name.to_owned(),
            expected: expected.len(),
            lost: lost.collect(),
            doubled: extra.map(|(k, n)| told(k, *n)).collect(),
            dead_letters_equal,
        }
    }
}

/// A row for each fault of a deployment.
pub fn rows(injections: &[Injection], records: usize, outcome: &Outcome) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for injection in injections {
        let place = rows.iter().position(|r| r.fault == injection.fault).unwrap_or_else(|| {
            rows.push(Row {
                fault: injection.fault,
                times: 0,
                records,
                outcome: outcome.clone(),
                recoveries: Vec::new(),
            });
            rows.len() - 1
        });
        rows[place].times += 1;
        rows[place].recoveries.extend(injection.recovery);
        rows[place].recoveries.sort_unstable();
    }
    rows
}

impl Report {
    /// Markdown.
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| fault | times | records | events expected | lost | doubled | recovered p50 | max |\n|---|---|---|---|---|---|---|---|\n",
        );
        for r in &self.rows {
            let s = |place: usize| {
                r.recoveries
                    .get(place)
                    .map_or("-".into(), |d| format!("{:.1} s", d.as_secs_f64()))
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                r.fault,
                r.times,
                r.records,
                r.outcome.expected,
                r.outcome.lost.len(),
                r.outcome.doubled.len(),
                s(r.recoveries.len() / 2),
                s(r.recoveries.len().saturating_sub(1)),
            );
        }
        text
    }

    /// Every fault was injected, and made no difference.
    ///
    /// # Panics
    /// Where it did, with what is lost or doubled.
    pub fn assert_exact(&self, records_min: usize, events_min: usize) {
        let rows = &self.rows;
        assert!(!rows.is_empty());
        for r in rows {
            assert!(
                r.records >= records_min,
                "{} records are too few to mean anything",
                r.records
            );
            assert!(
                r.outcome.expected >= events_min,
                "{} events are too few",
                r.outcome.expected
            );
        }
        let faulty: Vec<&Row> = rows
            .iter()
            .filter(|r| !r.outcome.lost.is_empty() || !r.outcome.doubled.is_empty() || !r.outcome.dead_letters_equal)
            .collect();
        let first = |all: &[String]| all.iter().take(5).cloned().collect::<Vec<_>>().join("\n  ");
        for r in &faulty {
            println!(
                "{} ({}): {} lost\n  {}\n{} extra or doubled\n  {}\ndead letters equal: {}",
                r.outcome.name,
                r.fault,
                r.outcome.lost.len(),
                first(&r.outcome.lost),
                r.outcome.doubled.len(),
                first(&r.outcome.doubled),
                r.outcome.dead_letters_equal
            );
        }
        assert!(
            self.broken.is_empty(),
            "cases that did not come to their end, see above: {:?}",
            self.broken
        );
        assert!(
            faulty.is_empty(),
            "{} of {} faults made a difference",
            faulty.len(),
            rows.len()
        );
    }
}
