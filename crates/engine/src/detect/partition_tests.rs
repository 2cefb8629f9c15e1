use foreshock_failure::{FailureConfig, Rules};
use foreshock_wire::Format;

use super::*;
use crate::record::TopicId;
use crate::state::Frozen;

const TRACE: [&str; 6] = [
    "2026-01-31 12:00:00 ERROR request 17 failed",
    "\tat com.example.A.b(A.java:12)",
    "\tat com.example.A.c(A.java:13)",
    "Caused by: java.io.IOException: gone",
    "\t... 12 more",
    "2026-01-31 12:00:01 INFO next request",
];

fn saved(partition: &mut DetectPartition) -> Snapshot {
    let blocks = partition.freeze().unwrap();
    Frozen { offset: 0, blocks }.encode().unwrap()
}

/// Applies records to a partition; `moves` saves and loads its state after each. Its counters, outputs and state.
fn play(format: Format, records: &[(&str, impl AsRef<[u8]>)], moves: bool) -> (Counters, Vec<Output>, Snapshot) {
    let source = SourceConfig::new("logs", format, &["host"]);
    let rules = Rules::new(&FailureConfig::default()).unwrap();
    let config = EngineConfig::new(vec![source.clone()], rules);
    let from = TopicPartition {
        topic: TopicId(1),
        partition: 0,
    };
    let mut partition = DetectPartition::new(&source, 0);
    let (mut counters, mut outputs) = (Counters::default(), Vec::new());
    for (offset, (key, payload)) in (0..).zip(records) {
        let mut cx = Context {
            config: &config,
            source: &source,
            from,
            counters: &mut counters,
            outputs: &mut outputs,
        };
        let record = Record {
            from,
            offset,
            timestamp: Some(Timestamp::from_millis(1_769_860_800_000 + offset)),
            key: Some(key.as_bytes()),
            payload: Some(payload.as_ref()),
        };
        partition.apply(&mut cx, &record);
        if moves {
            partition = DetectPartition::load(&source, 10_000, saved(&mut partition)).unwrap();
        }
    }
    let state = saved(&mut partition);
    (counters, outputs, state)
}

#[test]
fn a_trace_is_one_line_in_one_record_and_over_many() {
    let one = [("a", TRACE.join("\n"))];
    let many = TRACE.map(|line| ("a", line.to_owned()));
    let json = [(
        "a",
        serde_json::json!({"message": format!("{}\n", TRACE[..5].join("\n")), "level": "error"}).to_string(),
    )];
    for (name, format, records, lines) in [
        ("one record", Format::LogText, &one[..], 2),
        ("many records", Format::LogText, &many[..], 2),
        ("told line by line", Format::Log, &many[..], 2),
        ("one message", Format::LogJson, &json[..], 1),
    ] {
        let (counters, ..) = play(format, records, false);
        assert_eq!((counters.lines, counters.lines_joined), (lines, 4), "{name}");
        assert_eq!(counters.dead_letters, 0, "{name}");
    }
}

#[test]
fn traces_of_two_sources_do_not_mix() {
    let mut records = Vec::new();
    for line in TRACE {
        records.push(("a", line.to_owned()));
        records.push(("b", line.to_owned()));
    }
    let (counters, ..) = play(Format::LogText, &records, false);
    assert_eq!((counters.lines, counters.lines_joined), (4, 8));
}

/// What a decoder and the joiner remember is state: moving the partition between any two records changes nothing.
#[test]
fn a_partition_that_moves_reads_as_one_that_stays() {
    let mut records: Vec<_> = TRACE.map(|line| ("a", line.to_owned())).to_vec();
    records.push(("a", "2026-01-31T12:00:02Z stdout P one ".into()));
    records.push(("b", "2026-01-31T12:00:02Z stdout P other ".into()));
    records.push(("a", "2026-01-31T12:00:03Z stdout F two\n\tat a.B(C.java:1)".into()));
    records.push(("b", "<11>Jan 31 12:00:30 h app: m".into()));
    records.push(("b", "2026-01-31T12:00:40Z stdout F done".into()));
    let stays = play(Format::Log, &records, false);
    let moves = play(Format::Log, &records, true);
    assert_eq!(stays.0, moves.0);
    assert_eq!(stays.1, moves.1);
    assert!(stays.2 == moves.2, "the states differ");
    assert!(stays.0.lines_joined > 4);
}

/// Name, record, and the counter that must be 1.
type Case<'a> = (&'a str, &'a [u8], fn(&Counters) -> u64);

#[test]
fn what_lines_had_to_lose_is_counted() {
    let long = "x".repeat(20_000);
    let cases: [Case<'_>; 6] = [
        ("empty", b"{\"log\":\"\\n\"}", |c| c.lines_empty),
        ("no time", b"hello", |c| c.lines_untimed),
        ("not UTF-8", b"a\xffb", |c| c.lines_replaced),
        ("long", long.as_bytes(), |c| c.lines_cut),
        ("escapes", b"\x1b[31mred\x1b[0m", |c| c.lines_cleaned),
        ("control characters", b"a\x00b", |c| c.lines_cleaned),
    ];
    for (name, payload, counted) in cases {
        let (counters, ..) = play(Format::Log, &[("a", payload)], false);
        assert_eq!(counted(&counters), 1, "{name}");
        assert_eq!(counters.dead_letters, 0, "{name}");
    }
    let (counters, ..) = play(Format::Cri, &[("a", "no such line".to_owned())], false);
    assert_eq!(counters.lines_unlike, 1);
}

#[test]
fn the_state_holds_no_text_that_is_not_proven() {
    let mut records: Vec<_> = (0..20).map(|i| ("a", format!("zorkmid {i} minted"))).collect();
    records.push(("a", "FATAL the phrase xyzzyplugh was told to Zaphod".to_owned()));
    records.push(("a", "\tat shop.correcthorse.Cart(Cart.java:7)".to_owned()));
    for moves in [false, true] {
        let (_, _, state) = play(Format::LogText, &records, moves);
        let unpacked = (state.blocks.iter()).flat_map(|b| zstd::bulk::decompress(&b.bytes, b.raw_bytes).unwrap());
        let state = String::from_utf8_lossy(&unpacked.collect::<Vec<u8>>()).into_owned();
        assert!(state.contains("zorkmid <*> minted"));
        assert!(state.contains("<?> was <?> to <?>"), "the line that a rule matched");
        for secret in ["xyzzyplugh", "Zaphod", "correcthorse"] {
            assert!(!state.contains(secret), "{secret}");
        }
    }
}

/// Who may write the state topic may write a checksum too.
#[test]
fn a_state_that_speaks_of_what_is_not_there_is_refused() {
    let sample = r#"{"timestamp":"2026-01-31T12:00:00Z","name":"up","value":1,"labels":{"host":"a"}}"#;
    let (_, _, snapshot) = play(Format::PlainJson, &[("a", sample)], false);
    let source = SourceConfig::new("metrics", Format::PlainJson, &["host"]);
    let with_place = |place: u32| {
        let mut changed = snapshot.clone();
        let block = changed.blocks.iter_mut().find(|b| b.id.part == Part::WindowSeries);
        let block = block.expect("a window is open");
        let mut items: Vec<(u32, super::super::aggregate::Aggregate)> = block.decode().unwrap();
        items[0].0 = place;
        let raw = pack(&items).unwrap();
        block.bytes = zstd::bulk::compress(&raw, 1).unwrap();
        (block.raw_bytes, block.xxh3) = (raw.len(), xxhash_rust::xxh3::xxh3_64(&block.bytes));
        DetectPartition::load(&source, 10_000, changed)
    };
    assert!(with_place(0).is_ok());
    for place in [1, u32::MAX] {
        assert!(matches!(with_place(place), Err(LoadError::Incomplete(_))), "{place}");
    }
}

/// After fifty minutes of one line in every window: what is told before its window closes, by window.
fn urgent(lines: &[&str]) -> Vec<String> {
    let record = |(i, line): (usize, &str)| {
        // One a window, then all in one.
        let s = if i < 300 { 10 * i } else { 2_700 + i };
        let time = format!("2026-01-31T{:02}:{:02}:{:02}Z", 12 + s / 3_600, s / 60 % 60, s % 60);
        let (level, message) = line.split_once('|').unwrap_or(("", line));
        let line = serde_json::json!({"time": time, "level": level, "message": message});
        ("a", line.to_string())
    };
    let quiet = std::iter::repeat_n("INFO|all is well", 300);
    let records: Vec<_> = quiet.chain(lines.iter().copied()).enumerate().map(record).collect();
    let (.., outputs, _) = play(Format::LogJson, &records, false);
    let urgent = outputs.iter().filter_map(|o| match signals::decode(&o.value) {
        Ok(SignalRecord::Urgent(w)) => Some(w),
        _ => None,
    });
    urgent
        .map(|w| {
            let signal = &w.signals[0];
            assert!(
                w.start < w.end && w.end - w.start <= 10_000 && signal.onset < w.end,
                "{w:?}"
            );
            assert!(
                (2.0..2.5).contains(&signal.score().surprise()),
                "one of 173 windows: {signal:?}"
            );
            signal.name.to_string()
        })
        .collect()
}

#[test]
fn grave_lines_of_a_new_kind_are_told_as_they_come() {
    let cases: [(&str, &[&str], &[&str]); 7] = [
        ("an error", &["ERROR|connection lost"], &["connection lost"]),
        ("no error", &["INFO|connection lost", "WARN|timeout"], &[]),
        (
            "known",
            &["ERROR|connection lost", "ERROR|connection lost"],
            &["connection lost"],
        ),
        (
            "a trace, over lines",
            &[
                "WARN|request failed",
                "Traceback (most recent call last):",
                "  File \"/a.py\", line 3, in f",
            ],
            &["request failed"],
        ),
        (
            "a trace in one message",
            &["WARN|request failed\n\tat com.example.A.b(A.java:12)"],
            &["request failed"],
        ),
        (
            "what is only indented",
            &["WARN|request failed", "\tsince the table is full"],
            &[],
        ),
        (
            "a trace of what is known",
            &["INFO|all is well", "\tat com.example.A.b(A.java:12)"],
            &[],
        ),
    ];
    for (name, lines, expected) in cases {
        assert_eq!(urgent(lines), expected, "{name}");
    }
}

#[test]
fn what_is_new_of_a_new_entity_is_no_news() {
    let mut records: Vec<_> = (0..3_000)
        .map(|i| {
            (
                "a",
                format!("2026-01-31 12:{:02}:{:02} INFO all is well", i / 60, i % 60),
            )
        })
        .collect();
    records.push(("b", "2026-01-31 12:51:00 ERROR connection lost".to_owned()));
    let (.., outputs, _) = play(Format::LogText, &records, false);
    let is_urgent = |o: &Output| matches!(signals::decode(&o.value), Ok(SignalRecord::Urgent(_)));
    assert!(outputs.len() > 500 && !outputs.iter().any(is_urgent));
}
