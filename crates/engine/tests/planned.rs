//! What becomes of precursors, and what planned work does to precursors and failures: the second stage, played window by window.

mod played;

use foreshock_domain::{
    Censoring, Entity, EntityWindow, Event, EventAction, EventKind, Fact, Fate, Incident, LedgerEntry, Resolution,
    SignalRecord,
};
use foreshock_engine::{Counters, EngineConfig, Frozen, correlate::CorrelatePartition};
use foreshock_failure::{Down, FailureConfig, ProbeRule, Rules, Selector};
use played::{WIDTH_MS, at, decided, entity_window, position, signal};

/// Windows in which something is odd.
const ODD: std::ops::Range<i64> = 2_000..2_200;
/// Window at which it is over a horizon after the oddness, with room for the episode to close.
const LONG_AFTER: i64 = 3_200;

fn declared(window: i64, entity: &str, class: &str, onset: i64, end: Option<i64>) -> (i64, SignalRecord) {
    let incident = Incident {
        entity: Entity::new(entity),
        class: class.into(),
        onset: at(onset),
        end: end.map(at),
        summary: None,
    };
    let position = position(window);
    (window, SignalRecord::Incident { incident, position })
}

struct Play<'a> {
    windows: i64,
    /// From here on nothing of the entity comes, while its input goes on.
    silent_from: i64,
    down: std::ops::Range<i64>,
    declared: &'a [(i64, SignalRecord)],
}

impl Default for Play<'_> {
    fn default() -> Self {
        Self {
            windows: LONG_AFTER,
            silent_from: i64::MAX,
            down: 0..0,
            declared: &[],
        }
    }
}

impl Play<'_> {
    fn run(&self) -> (Vec<Event>, Vec<LedgerEntry>) {
        let failure = FailureConfig {
            probe: vec![ProbeRule {
                name: "door".into(),
                series: Selector::parse("probe_success").expect("a selector"),
                down: Down::default(),
                windows: 3,
            }],
            ..FailureConfig::default()
        };
        let mut config = EngineConfig::new(Vec::new(), Rules::new(&failure).expect("rules are valid"));
        config.limits.idle_ms = 3_000_000;
        let (mut partition, mut counters) = (CorrelatePartition::default(), Counters::default());
        let (mut events, mut entries) = (Vec::new(), Vec::new());
        for window in 0..self.windows {
            let mut records = Vec::new();
            records.extend(
                self.declared
                    .iter()
                    .filter(|(w, _)| *w == window)
                    .map(|(_, r)| r.clone()),
            );
            if window < self.silent_from {
                records.push(SignalRecord::Window(self.window(window)));
            }
            records.extend(decided(window));
            for record in records {
                partition.take(&config, &mut counters, window, record, &mut events);
                entries.extend_from_slice(partition.settled());
            }
            if window % 97 == 0 {
                // What is restored from a snapshot goes on alike.
                let blocks = partition.freeze().expect("a state");
                let snapshot = Frozen { offset: 0, blocks }.encode().expect("a snapshot");
                partition = CorrelatePartition::load(snapshot).expect("the same state");
            }
        }
        (events, entries)
    }

    fn window(&self, window: i64) -> EntityWindow {
        let is_down = self.down.contains(&window);
        let odd = ODD.contains(&window).then(|| signal("memory", 4.0, at(ODD.start)));
        EntityWindow {
            facts: vec![Fact::Probe {
                rule: "door".into(),
                series: "probe_success".into(),
                up: u32::from(!is_down),
                down: u32::from(is_down),
                first_down: is_down.then(|| at(window)),
                last_up: (!is_down).then(|| at(window)),
            }],
            ..entity_window("web-1", window, odd.into_iter().collect())
        }
    }
}

fn resolution(events: &[Event]) -> Option<Resolution> {
    let mut resolved = events.iter().filter_map(|e| e.precursor.as_ref()?.resolution);
    let first = resolved.next();
    assert_eq!(resolved.next(), None, "one precursor is enough for a test");
    first
}

/// Events of failures, with the window of their onset.
fn failures(events: &[Event]) -> Vec<(EventAction, i64)> {
    let of = events.iter().filter(|e| e.kind == EventKind::Failure);
    of.map(|e| (e.action, (e.started_at - at(0)) / WIDTH_MS)).collect()
}

#[test]
fn each_precursor_has_one_fate() {
    /// What is declared, silence, and what is said: why it resolved, its fate and the reason.
    type Case<'a> = (
        &'a str,
        Vec<(i64, SignalRecord)>,
        i64,
        Resolution,
        Fate,
        Option<Censoring>,
    );
    // Late enough that nothing is odd any more after its cooldown.
    let outage = |window| vec![declared(window, "web-1", "outage", window, Some(window))];
    let cases: [Case<'_>; 8] = [
        (
            "nothing came of it",
            vec![],
            i64::MAX,
            Resolution::Quiet,
            Fate::Expired,
            None,
        ),
        (
            "a failure while it was open",
            outage(2_185),
            i64::MAX,
            Resolution::Confirmed,
            Fate::Confirmed,
            None,
        ),
        (
            "a failure soon after",
            outage(2_400),
            i64::MAX,
            Resolution::Quiet,
            Fate::Confirmed,
            None,
        ),
        (
            "a failure that had begun before",
            vec![declared(2_185, "web-1", "outage", 1_990, Some(2_185))],
            i64::MAX,
            Resolution::Symptom,
            Fate::Censored,
            Some(Censoring::Symptom),
        ),
        (
            "a deploy of all",
            vec![declared(2_150, "web-*", "deploy", 2_150, None)],
            i64::MAX,
            Resolution::Mitigated,
            Fate::Mitigated,
            None,
        ),
        (
            "maintenance after it was quiet",
            vec![declared(2_300, "web-1", "maintenance", 2_400, Some(2_410))],
            i64::MAX,
            Resolution::Quiet,
            Fate::Mitigated,
            None,
        ),
        (
            "a deploy of another",
            vec![declared(2_150, "db-*", "deploy", 2_150, None)],
            i64::MAX,
            Resolution::Quiet,
            Fate::Expired,
            None,
        ),
        (
            "the entity went away",
            vec![],
            2_150,
            Resolution::Silent,
            Fate::Censored,
            Some(Censoring::Forgotten),
        ),
    ];
    for (name, declared, silent_from, why, fate, reason) in cases {
        let play = Play {
            declared: &declared,
            silent_from,
            ..Play::default()
        };
        let (events, entries) = play.run();
        assert_eq!(resolution(&events), Some(why), "{name}");
        let told: Vec<_> = entries.iter().map(|e| (e.fate, e.reason)).collect();
        assert_eq!(told, [(fate, reason)], "{name}");
        let entry = &entries[0];
        let opened = &events[0];
        assert_eq!(
            (entry.incident_id, entry.told_at, entry.started_at),
            (opened.incident_id, opened.observed_at, opened.started_at),
            "{name}"
        );
        let failure = events.iter().find(|e| e.kind == EventKind::Failure);
        assert_eq!(entry.failure_id, failure.map(|e| e.incident_id), "{name}");
        let lead_s = failure
            .filter(|_| fate == Fate::Confirmed)
            .map(|f| (f.started_at - opened.observed_at) as f64 / 1e3);
        assert_eq!(entry.lead_s, lead_s, "{name}");
    }
}

#[test]
fn what_is_odd_in_planned_work_is_no_precursor() {
    for entity in ["web-1", "web-*", "*", "web-?"] {
        let plan = [declared(1_900, entity, "maintenance", 1_995, Some(2_210))];
        let (events, entries) = Play {
            declared: &plan,
            ..Play::default()
        }
        .run();
        assert_eq!((events, entries), (vec![], vec![]), "{entity}");
    }
}

#[test]
fn what_fails_in_planned_work_and_not_after_is_no_failure() {
    use EventAction::{Open, Resolve};
    let plan = |end| vec![declared(990, "web-*", "maintenance", 1_000, Some(end))];
    /// Plan, when the probe is down, and the failures with their onset.
    type Case<'a> = (
        &'a str,
        Vec<(i64, SignalRecord)>,
        std::ops::Range<i64>,
        &'a [(EventAction, i64)],
    );
    let cases: [Case<'_>; 6] = [
        ("no plan", vec![], 1_010..1_050, &[(Open, 1_010), (Resolve, 1_010)]),
        ("within it", plan(1_100), 1_010..1_050, &[]),
        ("back with its end", plan(1_100), 1_010..1_100, &[]),
        (
            "still down after it",
            plan(1_100),
            1_010..1_200,
            &[(Open, 1_100), (Resolve, 1_100)],
        ),
        ("down before", plan(1_100), 950..1_050, &[(Open, 950), (Resolve, 950)]),
        (
            "down later",
            plan(1_100),
            1_300..1_350,
            &[(Open, 1_300), (Resolve, 1_300)],
        ),
    ];
    for (name, declared, down, expected) in cases {
        let (events, _) = Play {
            windows: 1_500,
            down,
            declared: &declared,
            ..Play::default()
        }
        .run();
        assert_eq!(failures(&events), expected, "{name}");
    }
}

#[test]
fn an_incident_in_planned_work_is_a_failure() {
    let both = [
        declared(990, "web-1", "deploy", 1_000, None),
        declared(1_010, "web-1", "outage", 1_010, Some(1_020)),
    ];
    let (events, _) = Play {
        windows: 1_200,
        declared: &both,
        ..Play::default()
    }
    .run();
    assert_eq!(
        failures(&events),
        [(EventAction::Open, 1_010), (EventAction::Resolve, 1_010)]
    );
}
