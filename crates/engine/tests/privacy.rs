//! What was written into log lines and is nobody's business leaves on no topic, unless the source allows it.

use std::sync::Arc;

use foreshock_domain::{Level, Timestamp};
use foreshock_engine::{
    Engine, EngineConfig, LogConfig, MemoryLog, MemoryTopic, SourceConfig, StoredRecord, TopicId, TopicPartition, run,
};
use foreshock_failure::{FailureConfig, Rules};
use foreshock_logs::Masks;
use foreshock_wire::Format;

/// In lines of all kinds, once, seldom or often.
const SECRETS: [&str; 11] = [
    "alice.smith@example.com",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "xyzzyplugh",
    "correcthorse",
    "Beeblebrox",
    "Zaphod",
    "trillian",
    "203.0.113.77",
    "sesame",
    "4111-1111-1111-1111",
    "hunter",
];

fn lines() -> Vec<(i64, Level, String)> {
    let mut all = Vec::new();
    for second in 0..6_000 {
        all.push((
            second,
            Level::Info,
            format!("zorkmid {second} minted in {} ms", second % 37),
        ));
        if second % 7 == 0 {
            let name = ["Zaphod", "trillian"][usize::from(second % 2 == 0)];
            all.push((second, Level::Info, format!("quest {second} of {name} begins")));
            all.push((second, Level::Info, format!("{name} arrived by ship {second}")));
        }
    }
    let odd = |second: i64, level, text: &str| (second, level, text.to_owned());
    all.extend([
        odd(
            4_000,
            Level::Warning,
            "greeting sent to Zaphod Beeblebrox <alice.smith@example.com>",
        ),
        odd(
            4_100,
            Level::Error,
            "access refused, the phrase xyzzyplugh is not the right one",
        ),
        odd(
            4_200,
            Level::Error,
            "token ghp_16C7e42F292c6912E7710c838347Ae178B4a rejected from 203.0.113.77",
        ),
        odd(
            4_300,
            Level::Warning,
            "password=sesame card 4111-1111-1111-1111 refused",
        ),
        odd(
            4_400,
            Level::Error,
            "write failed for hunter\n\tat shop.correcthorse.Cart.run(Cart.java:7)",
        ),
        odd(
            4_500,
            Level::Fatal,
            "can't go on: trillian knows xyzzyplugh and correcthorse",
        ),
        odd(
            4_501,
            Level::Fatal,
            "Caused by: java.io.IOException: correcthorse, quota exceeded",
        ),
    ]);
    // Tries of one secret, again and again.
    all.extend((0..50).map(|i| {
        (
            4_600 + i,
            Level::Warning,
            format!("attempt {i} with password hunter failed"),
        )
    }));
    all.sort_by_key(|(second, ..)| *second);
    all
}

/// Everything on the signals topic, and all events.
fn played(raw_text: bool, masks: &[(&str, &str)]) -> (String, String) {
    let source = SourceConfig {
        topic: "logs".into(),
        format: Format::LogJson,
        entity: vec!["host".into()],
        sessions: None,
        log: LogConfig {
            raw_text,
            masks: (!masks.is_empty()).then(|| Masks::new(masks).expect("valid masks")),
        },
    };
    let failure = FailureConfig {
        fatal_lines: true,
        ..FailureConfig::default()
    };
    let mut config = EngineConfig::new(vec![source], Rules::new(&failure).expect("valid rules"));
    // As much as there is.
    config.alarms.gate = 0.0;
    config.alarms.budget.false_alarms_per_day = 1_000.0;
    let of = TopicPartition {
        topic: TopicId(1),
        partition: 0,
    };
    let records = lines().into_iter().map(|(second, level, message)| {
        let line = serde_json::json!({"message": message, "level": level, "host": "web-1"});
        StoredRecord {
            of,
            timestamp: Some(Timestamp::from_secs(1_760_000_000 + second)),
            key: None,
            payload: Some(line.to_string().into_bytes()),
        }
    });
    let mut topics = MemoryTopic::new(records.collect(), 1);
    let mut engine = Engine::new(Arc::new(config));
    let mut log = MemoryLog::new(&mut topics, engine.config().tick_every_ms, || 500);
    run(&mut log, &mut engine, &mut |_| {}).expect("nobody kills it");
    drop(log);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned() + "\n";
    let signals = topics.signals().values().flatten();
    let signals = signals
        .map(|r| text(r.payload.as_deref().unwrap_or_default()))
        .collect();
    let events = topics.written.iter().map(|o| text(&o.value) + &text(&o.key)).collect();
    (signals, events)
}

#[test]
fn secrets_in_lines_leave_on_no_topic() {
    let (signals, events) = played(false, &[]);
    for secret in SECRETS {
        assert!(!signals.contains(secret), "{secret} is among the signals");
        assert!(!events.contains(secret), "{secret} is in an event");
    }
    // What is left says what happened all the same.
    for said in [
        "<?> sent to <?> <?> <*>",
        "access refused, the <?> <?> is not the <?> one",
        "password=<*> <?> <*> refused",
        "attempt <*> with password <?> failed",
        "quest <*> of <?> begins",
        "<?> arrived by <?> <*>",
    ] {
        assert!(signals.contains(said), "nothing says {said}");
    }
    assert!(events.contains("can't go on: <?> <?> <?> and <?>"), "{events}");
}

#[test]
fn where_raw_text_may_leave_it_does() {
    let (signals, events) = played(true, &[]);
    for secret in SECRETS {
        assert!(
            signals.contains(secret),
            "{secret} is not among the signals: the other test proves nothing"
        );
    }
    assert!(events.contains("can't go on: trillian knows xyzzyplugh and correcthorse"));
    assert!(events.contains("\"example\":"), "{events}");
}

#[test]
fn what_is_masked_leaves_on_no_topic_and_is_named() {
    let masks = [
        ("phrase", "xyzzyplugh|(correct)horse"),
        ("traveller", "Zaphod( Beeblebrox)?|trillian"),
    ];
    for raw_text in [false, true] {
        let (signals, events) = played(raw_text, &masks);
        for secret in ["xyzzyplugh", "correcthorse", "Zaphod", "Beeblebrox", "trillian"] {
            assert!(!signals.contains(secret), "{secret} is among the signals");
            assert!(!events.contains(secret), "{secret} is in an event");
        }
        for said in ["the <?> <phrase> is not", "the phrase <phrase> is not"] {
            assert!(signals.contains(said) == (said.contains("<?>") != raw_text), "{said}");
        }
        let fatal = [
            "can't go on: <traveller> <?> <phrase> and <phrase>",
            "can't go on: <traveller> knows <phrase> and <phrase>",
        ];
        assert!(events.contains(fatal[usize::from(raw_text)]), "{events}");
    }
}
