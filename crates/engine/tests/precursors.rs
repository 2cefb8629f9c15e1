//! A precursor's events are what a person can act on: once open, told again when clearly stranger, resolved; with what is odd, by how
//! much, and since when.

#![allow(clippy::panic)] // a test says what is wrong

mod played;

use foreshock_domain::{
    Channel, Direction, Event, EventAction, Level, LogEvidence, Resolution, Signal, SignalRecord, Source,
};
use foreshock_engine::{Counters, EngineConfig, correlate::CorrelatePartition};
use foreshock_failure::{FailureConfig, Rules};
use foreshock_stats::AlarmBudget;
use played::{WIDTH_MS, at, decided, entity_window, signal};

/// Plays windows of one entity with ten series; `signals` says what is odd in each.
fn play(windows: i64, signals: impl Fn(i64) -> Vec<Signal>) -> Vec<Event> {
    play_with(1.0, windows, signals)
}

fn play_with(false_alarms_per_day: f64, windows: i64, signals: impl Fn(i64) -> Vec<Signal>) -> Vec<Event> {
    let rules = Rules::new(&FailureConfig::default()).expect("no rules are valid");
    let mut config = EngineConfig::new(Vec::new(), rules);
    config.alarms.budget = AlarmBudget { false_alarms_per_day };
    let (mut partition, mut counters, mut events) = (CorrelatePartition::default(), Counters::default(), Vec::new());
    for window in 0..windows {
        let records = [SignalRecord::Window(entity_window("web", window, signals(window)))];
        for record in records.into_iter().chain(decided(window)) {
            partition.take(&config, &mut counters, window, record, &mut events);
        }
    }
    events
}

fn actions(events: &[Event]) -> Vec<EventAction> {
    events.iter().map(|e| e.action).collect()
}

#[test]
fn a_lasting_oddness_is_told_once_and_resolves_when_quiet() {
    // One window of three is not odd: what opens the precursor need not be there in the window that opens it.
    let odd = |w: i64| (2_000..2_200).contains(&w) && w % 3 != 0;
    let events = play(2_600, |w| {
        if odd(w) {
            vec![signal("memory", 4.0, at(2_000))]
        } else {
            Vec::new()
        }
    });
    assert_eq!(actions(&events).first(), Some(&EventAction::Open));
    assert_eq!(actions(&events).last(), Some(&EventAction::Resolve));
    let told_again = events.iter().filter(|e| e.action == EventAction::Update);
    assert!(told_again.count() <= 3 && events.len() <= 5, "{:?}", actions(&events));
    let opened = &events[0];
    assert!(
        opened.observed_at < at(2_100),
        "told after {} windows",
        (opened.observed_at - at(2_000)) / WIDTH_MS
    );
    assert_eq!(opened.started_at, at(2_000));
    let [lead] = &opened.contributors[..] else {
        panic!("{:?}", opened.contributors)
    };
    assert_eq!(
        (&*lead.id, lead.channel, lead.direction),
        ("memory", Channel::Level, Direction::Up)
    );
    assert_eq!(
        (lead.actual, lead.expected, lead.lower, lead.upper),
        (9.0, 5.0, 4.0, 6.0)
    );
    let end = events
        .last()
        .and_then(|e| e.precursor.as_ref())
        .and_then(|p| p.resolution);
    assert_eq!(end, Some(Resolution::Quiet));
}

#[test]
fn a_precursor_ends_with_its_oddness_and_the_next_is_another() {
    // As strange as can be for ten minutes: there is more evidence than quiet windows take in a quarter of an hour.
    let events = play(2_300, |w| match w {
        2_000..2_060 => vec![signal("latency", 40.0, at(2_000))],
        2_120..2_180 => vec![signal("errors", 40.0, at(2_120))],
        _ => Vec::new(),
    });
    let ended = events
        .iter()
        .find(|e| e.action == EventAction::Resolve)
        .expect("it resolves");
    let after = (ended.observed_at - at(2_060)) / WIDTH_MS;
    assert!((1..=21).contains(&after), "{after} windows after the last odd one");
    let opened: Vec<_> = events.iter().filter(|e| e.action == EventAction::Open).collect();
    let [_, second] = opened[..] else {
        panic!("{:?}", actions(&events))
    };
    assert_eq!((second.started_at, &*second.contributors[0].id), (at(2_120), "errors"));
}

#[test]
fn what_becomes_clearly_stranger_is_told_again() {
    // A budget of one leaves no room above its threshold: one entity in hours shows nothing rarer.
    let events = play_with(10.0, 2_300, |w| match w {
        2_000..2_040 => vec![signal("latency", 4.0, at(2_000))],
        2_040..2_106 => vec![signal("latency", 12.0, at(2_000)), signal("errors", 9.0, at(2_040))],
        _ => Vec::new(),
    });
    let told = actions(&events);
    assert_eq!(told.first(), Some(&EventAction::Open));
    assert!(told.contains(&EventAction::Update), "{told:?}");
    let last = events
        .iter()
        .rfind(|e| e.action == EventAction::Update)
        .expect("an update");
    assert!(last.score > events[0].score && last.contributors.len() == 2, "{last:?}");
}

/// A model may date its oddness hours back, to where a cumulative sum was last zero; of the first signal of many that are open
/// only the one that leads dates the event.
#[test]
fn an_onset_is_not_absurdly_long_before_the_oddness() {
    let events = play(2_200, |w| match w {
        1_960..2_000 if w % 20 == 0 => vec![signal("noise", 2.1, at(300))],
        2_000.. => vec![signal("memory", 5.0, at(100)), signal("noise", 2.1, at(5))],
        _ => Vec::new(),
    });
    let opened = events.first().expect("a precursor");
    let back = (at(2_000) - opened.started_at) / WIDTH_MS;
    assert!((0..=60).contains(&back), "{back} windows before the fault");
    assert_eq!(&*opened.contributors[0].id, "memory");
    for c in &opened.contributors {
        assert!(
            c.onset >= at(1_880),
            "{}: {} windows before",
            c.id,
            (at(2_000) - c.onset) / WIDTH_MS
        );
    }
}

/// Before a series was seen for a whole day a morning is a trend like any other, and a trend has added up what lasts already.
#[test]
fn a_trend_is_added_up_only_where_a_whole_day_was_seen() {
    for (from, is_told) in [(2_000, false), (12_000, true)] {
        let events = play(from + 200, |w| {
            let mut trend = signal("memory", 4.0, at(from));
            trend.verdict.channel = Channel::Trend;
            if w < from { Vec::new() } else { vec![trend] }
        });
        assert_eq!(!events.is_empty(), is_told, "from window {from}");
    }
}

/// A release brings many kinds of line at once, window after window for a while.
#[test]
fn a_burst_of_new_templates_is_one_precursor() {
    let new = |window: i64, i: i64| {
        let mut new = signal(&format!("{window}-{i}"), 5.0, at(window));
        new.source = Source::Log;
        new.verdict.channel = Channel::NewTemplate;
        new.log = Some(LogEvidence {
            template_id: new.id.clone(),
            template: "cache ready".into(),
            count: 2,
            seen: 0,
            first_seen: Some(at(window)),
            level: Some(Level::Warning),
            example: None,
        });
        new
    };
    let events = play(2_400, |w| match w {
        2_000..2_012 if w % 2 == 0 => (0..20).map(|i| new(w, i)).collect(),
        _ => Vec::new(),
    });
    let opened: Vec<&Event> = events.iter().filter(|e| e.action == EventAction::Open).collect();
    let [opened] = opened[..] else {
        panic!("{:?}", actions(&events))
    };
    assert!(opened.contributors.len() > 1, "{:?}", opened.contributors);
    assert!(
        opened
            .why
            .starts_with("a kind of log line never seen before, 2 lines: \"cache ready\" (WARNING; first seen "),
        "{}",
        opened.why
    );
    assert!(events.len() <= 4, "{:?}", actions(&events));
}
