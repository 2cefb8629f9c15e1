//! A grave line of a kind never seen is told the moment it comes, and only where that is rare and the budget has something left.

#![allow(clippy::panic)] // a test says what is wrong

mod played;

use foreshock_domain::{
    Channel, Direction, Entity, EntityWindow, Event, EventAction, EventKind, Grade, Incident, Level, LogEvidence,
    Score, Signal, SignalRecord, Source, Timestamp, Verdict,
};
use foreshock_engine::{Counters, EngineConfig, correlate::CorrelatePartition};
use foreshock_failure::{FailureConfig, Rules};
use played::{at, decided, entity_window, position, signal};

const HOUR: i64 = 360;

struct Played {
    partition: CorrelatePartition,
    config: EngineConfig,
    offset: i64,
    events: Vec<Event>,
}

impl Played {
    fn new(false_alarms_per_day: f64) -> Self {
        let rules = Rules::new(&FailureConfig::default()).expect("no rules are valid");
        let mut config = EngineConfig::new(Vec::new(), rules);
        config.alarms.budget.false_alarms_per_day = false_alarms_per_day;
        Self {
            partition: CorrelatePartition::default(),
            config,
            offset: 0,
            events: Vec::new(),
        }
    }

    fn take(&mut self, record: SignalRecord) {
        self.offset += 1;
        let counters = &mut Counters::default();
        (self.partition).take(&self.config, counters, self.offset, record, &mut self.events);
    }

    /// Quiet windows of two entities.
    fn quiet(&mut self, windows: std::ops::Range<i64>) {
        for window in windows {
            for entity in ["api", "web"] {
                self.take(SignalRecord::Window(entity_window(entity, window, Vec::new())));
            }
            for record in decided(window) {
                self.take(record);
            }
        }
    }

    /// An outage that begins here.
    fn fail(&mut self, entity: &str, window: i64, end: Option<Timestamp>) {
        let incident = Incident {
            entity: Entity::new(entity),
            class: "outage".into(),
            onset: at(window),
            end,
            summary: None,
        };
        let position = position(1);
        self.take(SignalRecord::Incident { incident, position });
    }

    /// A new kind of error in the middle of a window; what is told of it at once.
    fn error(&mut self, entity: &str, window: i64) -> Vec<(String, EventAction, Timestamp)> {
        let now = at(window) + 4_000;
        let signal = Signal {
            source: Source::Log,
            name: "disk <*> is full".into(),
            verdict: Verdict {
                score: Score::from_surprise(3.8),
                channel: Channel::NewTemplate,
                direction: Direction::Pattern,
                actual: 1.0,
                expected: 0.0,
                lower: 0.0,
                upper: 0.0,
            },
            log: Some(LogEvidence {
                template_id: format!("{window:016x}").into(),
                template: "disk <*> is full".into(),
                count: 1,
                seen: 0,
                first_seen: Some(now),
                level: Some(Level::Error),
                example: None,
            }),
            ..signal(&format!("{window:016x}"), 3.8, now)
        };
        let urgent = EntityWindow {
            end: now + 1,
            ..entity_window(entity, window, vec![signal])
        };
        let before = self.events.len();
        self.take(SignalRecord::Urgent(urgent));
        let told = self.events[before..].iter().filter(|e| e.kind == EventKind::Precursor);
        told.map(|e| (e.entity.to_string(), e.action, e.observed_at)).collect()
    }
}

fn opened(entity: &str, window: i64) -> Vec<(String, EventAction, Timestamp)> {
    vec![(entity.to_owned(), EventAction::Open, at(window) + 4_001)]
}

#[test]
fn it_opens_at_once_and_is_over_ten_minutes_later() {
    let mut played = Played::new(1.0);
    played.quiet(0..8 * HOUR);
    assert_eq!(played.error("web", 8 * HOUR), opened("web", 8 * HOUR));
    let event = played.events.last().expect("it was told");
    assert_eq!(event.precursor.as_ref().map(|p| p.grade), Some(Grade::Info));
    assert!(
        event.why.contains("never seen before") && event.why.contains("disk <*> is full"),
        "{}",
        event.why
    );
    played.quiet(8 * HOUR..9 * HOUR);
    let actions: Vec<_> = played.events.iter().map(|e| (e.action, e.observed_at)).collect();
    assert_eq!(actions.len(), 2, "{actions:?}");
    assert_eq!(actions[1].0, EventAction::Resolve);
    let lasted = actions[1].1 - actions[0].1;
    assert!((600_000..=620_000).contains(&lasted), "{lasted}");
}

#[test]
fn one_happening_is_told_once() {
    let mut played = Played::new(1.0);
    played.quiet(0..20 * HOUR);
    assert_eq!(played.error("web", 20 * HOUR), opened("web", 20 * HOUR));
    assert!(played.error("web", 20 * HOUR + 1).is_empty());
    assert!(played.error("api", 20 * HOUR + 2).is_empty());
    played.quiet(20 * HOUR..20 * HOUR + 40);
    assert!(played.error("web", 20 * HOUR + 40).is_empty(), "its precursor is open");
    played.quiet(20 * HOUR + 40..20 * HOUR + 80);
    assert_eq!(played.error("api", 20 * HOUR + 80), opened("api", 20 * HOUR + 80));
}

#[test]
fn what_is_told_of_it_never_goes_back_in_time() {
    let mut played = Played::new(10.0);
    played.quiet(0..8 * HOUR);
    assert_eq!(played.error("web", 8 * HOUR + 3).len(), 1);
    // A window from before is decided only now, and is odd by itself.
    let window = entity_window("web", 8 * HOUR, vec![signal("latency", 60.0, at(8 * HOUR))]);
    played.take(SignalRecord::Window(window));
    played.quiet(8 * HOUR + 1..9 * HOUR);
    let told: Vec<_> = played.events.iter().map(|e| (e.action, e.observed_at)).collect();
    let [
        (_, opened),
        (EventAction::Update, updated),
        ..,
        (EventAction::Resolve, _),
    ] = told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!(updated, opened, "not {:?}", at(8 * HOUR + 1));
}

#[test]
fn what_foretells_failures_is_told_while_it_is_open() {
    let mut played = Played::new(1.0);
    let leak = |played: &mut Played, windows: std::ops::Range<i64>| {
        for window in windows {
            let odd = entity_window("web", window, vec![signal("memory", 6.0, at(window))]);
            played.take(SignalRecord::Window(odd));
            decided(window).into_iter().for_each(|record| played.take(record));
        }
    };
    // Every other hour memory rises for three minutes, and then there is an outage.
    for round in 0..12 {
        let begins = (2 * round + 1) * HOUR;
        played.quiet(begins - HOUR..begins);
        leak(&mut played, begins..begins + 18);
        played.fail("web", begins + 18, Some(at(begins + 24)));
        played.quiet(begins + 18..begins + HOUR);
    }
    let window = 24 * HOUR;
    played.quiet(window..window + HOUR);
    assert_eq!(played.error("web", window + HOUR), opened("web", window + HOUR));
    let before = played.events.len();
    leak(&mut played, window + HOUR..window + HOUR + 18);
    let grades: Vec<_> = played.events[before..]
        .iter()
        .filter_map(|e| Some((e.action, e.precursor.as_ref()?.grade)))
        .collect();
    assert_eq!(grades.first(), Some(&(EventAction::Update, Grade::Watch)), "{grades:?}");
    assert!(grades.len() < 5, "once: {grades:?}");
}

#[test]
fn it_is_not_told_where_it_is_common_or_nothing_is_left_or_the_entity_fails() {
    let mut young = Played::new(1.0);
    young.quiet(0..HOUR);
    assert!(young.error("web", HOUR).is_empty(), "who knows how rare it is");

    let mut none = Played::new(0.0);
    none.quiet(0..8 * HOUR);
    assert!(none.error("web", 8 * HOUR).is_empty());

    let mut failing = Played::new(1.0);
    failing.quiet(0..8 * HOUR);
    failing.fail("web", 8 * HOUR, None);
    assert!(failing.error("web", 8 * HOUR).is_empty(), "a symptom");
    assert_eq!(failing.error("api", 8 * HOUR), opened("api", 8 * HOUR));

    let mut spent = Played::new(1.0);
    spent.quiet(0..8 * HOUR);
    let (mut told, mut window) = (0, 8 * HOUR);
    for _ in 0..30 {
        told += spent.error("web", window).len();
        spent.quiet(window..window + 6 * HOUR);
        window += 6 * HOUR;
    }
    assert!((12..=15).contains(&told), "a week's and those of 7.5 days: {told}");
}
