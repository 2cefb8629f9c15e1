//! What is written is what the published schemas say, and what is written is read back.
#![allow(clippy::unwrap_used, clippy::panic)] // a test that fails may say so

use foreshock_domain::{
    Channel, Contributor, Direction, Entity, EntityWindow, Event, EventAction, EventId, EventKind, Exhaustion, Fact,
    FailureDetail, Grade, Incident, IncidentId, KindRecord, Level, LogEvidence, PrecededBy, PrecursorDetail,
    Prediction, PredictionGround, Progress, Resolution, Score, SeriesId, Severity, Signal, SignalRecord, SlowBurn,
    Source, SourcePosition, TemplateEntry, Tick, Timestamp, TrackRecord, Upstream, VectorEntry, Verdict,
};
use foreshock_wire::{event, signals};
use jsonschema::Validator;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::Value;

const EVENT_SCHEMA: &str = include_str!("../../../docs/schema/event.schema.json");
const SIGNALS_SCHEMA: &str = include_str!("../../../docs/schema/signals.schema.json");
const DEAD_LETTER_SCHEMA: &str = include_str!("../../../docs/schema/dead-letter.schema.json");

/// The schema as published; with `closed`, one that also refuses every key it does not name.
fn validator(schema: &str, closed: bool) -> Validator {
    let schema = if closed {
        schema.replace("\"additionalProperties\": true", "\"additionalProperties\": false")
    } else {
        schema.to_owned()
    };
    let schema: Value = serde_json::from_str(&schema).unwrap();
    jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .unwrap()
}

fn errors(validator: &Validator, bytes: &[u8]) -> Vec<String> {
    let value: Value = serde_json::from_slice(bytes).unwrap();
    validator
        .iter_errors(&value)
        .map(|e| format!("{} at {}", e, e.instance_path()))
        .collect()
}

fn text() -> impl Strategy<Value = Box<str>> {
    any::<String>().prop_map(Into::into)
}

fn time() -> impl Strategy<Value = Timestamp> {
    (0i64..=Timestamp::LATEST.as_millis()).prop_map(Timestamp::from_millis)
}

fn score() -> impl Strategy<Value = Score> {
    any::<f64>().prop_map(Score::from_surprise)
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![4 => any::<f64>(), 1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0])]
}

fn channel() -> impl Strategy<Value = Channel> {
    use Channel::{
        Correlation, Level, NewTemplate, Novelty, Residual, Seasonal, Session, Spread, TemplateRate, TemplateSilence,
        Trend,
    };
    prop::sample::select(vec![
        Residual,
        Level,
        Trend,
        Seasonal,
        Spread,
        Novelty,
        NewTemplate,
        TemplateRate,
        TemplateSilence,
        Session,
        Correlation,
    ])
}

fn direction() -> impl Strategy<Value = Direction> {
    use Direction::{Absence, Both, Down, Pattern, Up};
    prop::sample::select(vec![Up, Down, Both, Pattern, Absence])
}

fn source() -> impl Strategy<Value = Source> {
    prop::sample::select(vec![Source::Metric, Source::Log])
}

fn upstream() -> impl Strategy<Value = Upstream> {
    (text(), any::<i32>()).prop_map(|(topic, partition)| Upstream { topic, partition })
}

fn position() -> impl Strategy<Value = SourcePosition> {
    (upstream(), any::<i64>(), any::<i64>()).prop_map(|(upstream, offset_first, offset_last)| SourcePosition {
        upstream,
        offset_first,
        offset_last,
    })
}

fn log() -> impl Strategy<Value = LogEvidence> {
    use Level::{Debug, Error, Fatal, Info, Trace, Warning};
    let level = option::of(prop::sample::select(vec![Trace, Debug, Info, Warning, Error, Fatal]));
    let past = (any::<u64>(), option::of(time()), level, option::of(text()));
    (text(), text(), any::<u32>(), past).prop_map(|(template_id, template, count, past)| LogEvidence {
        template_id,
        template,
        count,
        seen: past.0,
        first_seen: past.1,
        level: past.2,
        example: past.3,
    })
}

prop_compose! {
    fn verdict()(
        score in score(), channel in channel(), direction in direction(),
        actual in number(), expected in number(), lower in number(), upper in number(),
    ) -> Verdict {
        Verdict { score, channel, direction, actual, expected, lower, upper }
    }
}

prop_compose! {
    fn signal()(
        source in source(), id in text(), name in text(), unit in option::of(text()), verdict in verdict(),
        onset in time(), log in option::of(log()),
        share in option::of(0.0f64..=1.0),
    ) -> Signal {
        Signal { source, id, name, unit, verdict, onset, log, share }
    }
}

fn fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        (
            text(),
            text(),
            any::<u32>(),
            any::<u32>(),
            option::of(time()),
            option::of(time())
        )
            .prop_map(|(rule, series, up, down, first_down, last_up)| Fact::Probe {
                rule,
                series,
                up,
                down,
                first_down,
                last_up
            }),
        (text(), any::<bool>(), number()).prop_map(|(rule, errors, increase)| Fact::Counter { rule, errors, increase }),
        (text(), any::<u32>(), time(), text()).prop_map(|(rule, count, first_at, sample)| Fact::Lines {
            rule,
            count,
            first_at,
            sample
        }),
        (text(), text(), any::<u32>(), time(), text()).prop_map(|(rule, series, count, at, cause)| Fact::Process {
            rule,
            series,
            count,
            at,
            cause
        }),
        (text(), text(), time()).prop_map(|(rule, series, last_at)| Fact::Heartbeat { rule, series, last_at }),
    ]
}

prop_compose! {
    fn entry()(id in any::<u64>(), value in -1e30f32..1e30, name in option::of(text())) -> VectorEntry {
        VectorEntry { series: SeriesId(id), value, name }
    }
}

prop_compose! {
    fn window()(
        entity in text(), start in time(), width_ms in 1i64..1_000_000, position in position(), samples in any::<u32>(),
        lines in any::<u32>(), tested in any::<u32>(), signals in vec(signal(), 0..4), facts in vec(fact(), 0..4),
        vector in vec(entry(), 0..5), templates in vec(template(), 0..3),
    ) -> EntityWindow {
        let end = start + width_ms;
        let entity = Entity(entity);
        EntityWindow { entity, start, end, position, samples, lines, tested, signals, facts, vector, templates }
    }
}

prop_compose! {
    fn template()(
        id in any::<u64>(), count in any::<u32>(), level in option::of(Just(Level::Error)), name in option::of(text()),
    ) -> TemplateEntry {
        TemplateEntry { id, count, level, name }
    }
}

fn record() -> impl Strategy<Value = SignalRecord> {
    let incident = (text(), text(), time(), option::of(time()), option::of(text())).prop_map(
        |(entity, class, onset, end, summary)| Incident {
            entity: Entity(entity),
            class,
            onset,
            end,
            summary,
        },
    );
    prop_oneof![
        4 => window().prop_map(SignalRecord::Window),
        1 => (incident, position()).prop_map(|(incident, position)| SignalRecord::Incident { incident, position }),
        1 => (upstream(), time()).prop_map(|(upstream, watermark)| SignalRecord::Progress(Progress { upstream, watermark })),
        1 => (time(), 1i64..).prop_map(|(at, every_ms)| SignalRecord::Tick(Tick { at, every_ms })),
    ]
}

prop_compose! {
    fn contributor()(
        source in source(), id in text(), name in text(), v in verdict(), onset in time(), log in option::of(log()),
        share in option::of(0.0f64..=1.0),
    ) -> Contributor {
        let Verdict { score, channel, direction, actual, expected, lower, upper } = v;
        Contributor { source, id, name, channel, direction, score, actual, expected, lower, upper, onset, log, share }
    }
}

fn precursor() -> impl Strategy<Value = PrecursorDetail> {
    let grade = prop::sample::select(vec![Grade::Info, Grade::Watch, Grade::Warning]);
    let resolution = prop::sample::select(vec![
        Resolution::Confirmed,
        Resolution::Symptom,
        Resolution::Quiet,
        Resolution::Silent,
        Resolution::Mitigated,
    ]);
    let exhaustion = (text(), -1e9f64..1e9, -1e9f64..1e9, 0.0f64..1e6);
    let exhaustion = exhaustion.prop_map(|(name, value, limit, in_s)| Exhaustion {
        name,
        value,
        limit,
        in_s,
    });
    (
        grade,
        score(),
        option::of(resolution),
        option::of(number()),
        option::of(prediction()),
        option::of(exhaustion),
        option::of(burn()),
        option::of(kind_record()),
    )
        .prop_map(
            |(grade, threshold, resolution, lead_s, prediction, exhaustion, burn, record)| PrecursorDetail {
                grade,
                threshold,
                resolution,
                lead_s,
                prediction,
                exhaustion,
                burn,
                record,
            },
        )
}

prop_compose! {
    fn burn()(rule in text(), rate in 0.0f64..1e6, limit in 0.0f64..1e3, window_s in 1.0f64..1e6) -> SlowBurn {
        SlowBurn { rule, rate, limit, window_s }
    }
}

prop_compose! {
    fn kind_record()(
        name in text(), right in any::<u32>(), of in any::<u32>(), lead_s in option::of(0.0f64..1e6), lift in 0.0f64..1e6,
    ) -> KindRecord {
        KindRecord { name, right, of, lead_s, lift }
    }
}

prop_compose! {
    fn prediction()(
        probability in 0.0f64..=1.0, horizon_s in 1.0f64..1e6, name in text(), value in number(), odds in 0.0f64..9.0,
        record in option::of((any::<u32>(), any::<u32>(), 0.0f64..1e6)),
    ) -> Prediction {
        let ground = PredictionGround { name, value, lower: -value, upper: value, odds };
        let record = record.map(|(right, of, lead_s)| TrackRecord { right, of, lead_s });
        Prediction { probability, horizon_s, grounds: vec![ground], record }
    }
}

fn failure() -> impl Strategy<Value = FailureDetail> {
    let before = (any::<u128>(), time(), number()).prop_map(|(id, warned_at, lead_s)| PrecededBy {
        incident_id: IncidentId(id),
        warned_at,
        lead_s,
    });
    (text(), text(), text(), vec(before, 0..3)).prop_map(|(class, rule, evidence, preceded_by)| FailureDetail {
        class,
        rule,
        evidence,
        preceded_by,
    })
}

prop_compose! {
    fn any_event()(
        action in prop::sample::select(vec![EventAction::Open, EventAction::Update, EventAction::Resolve]),
        severity in prop::sample::select(vec![Severity::Info, Severity::Warning, Severity::Error, Severity::Critical]),
        ids in any::<(u128, u128, u32)>(), entity in text(), times in (time(), time(), option::of(time())), score in score(),
        contributors in vec(contributor(), 0..4), position in option::of(position()), why in any::<String>(),
        detail in prop_oneof![precursor().prop_map(Ok), failure().prop_map(Err)],
    ) -> Event {
        Event {
            kind: if detail.is_ok() { EventKind::Precursor } else { EventKind::Failure },
            action,
            incident_id: IncidentId(ids.0),
            event_id: EventId(ids.1),
            seq: ids.2,
            entity: Entity(entity),
            started_at: times.0,
            observed_at: times.1,
            ended_at: times.2,
            severity,
            score,
            contributors,
            position,
            why,
            precursor: detail.clone().ok(),
            failure: detail.err(),
        }
    }
}

fn event_bytes(event: &Event) -> Vec<u8> {
    let mut bytes = Vec::new();
    event::encode(event, &mut bytes);
    bytes
}

/// JSON has no NaN; read back, infinities are NaN too. Debug text compares NaN as equal.
fn as_read_back(mut event: Event) -> String {
    let blur = |x: &mut f64| *x = if x.is_finite() { *x } else { f64::NAN };
    for c in &mut event.contributors {
        [&mut c.actual, &mut c.expected, &mut c.lower, &mut c.upper]
            .into_iter()
            .for_each(blur);
    }
    event
        .failure
        .iter_mut()
        .flat_map(|f| &mut f.preceded_by)
        .for_each(|p| blur(&mut p.lead_s));
    if let Some(p) = &mut event.precursor {
        p.lead_s = p.lead_s.filter(|s| s.is_finite());
        for g in p.prediction.iter_mut().flat_map(|p| &mut p.grounds) {
            [&mut g.value, &mut g.lower, &mut g.upper].into_iter().for_each(blur);
        }
    }
    format!("{event:?}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn events_are_what_the_schema_says(event in any_event()) {
        let bytes = event_bytes(&event);
        prop_assert_eq!(&bytes, &event_bytes(&event), "the same event, the same bytes");
        for closed in [false, true] {
            let found = errors(&validator(EVENT_SCHEMA, closed), &bytes);
            prop_assert!(found.is_empty(), "{:?} in {}", found, String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn events_are_read_back(event in any_event()) {
        let read = event::decode(&event_bytes(&event)).unwrap();
        prop_assert_eq!(as_read_back(read), as_read_back(event));
    }

    #[test]
    fn signals_are_what_the_schema_says_and_are_read_back(record in record()) {
        let mut bytes = Vec::new();
        signals::encode(&record, &mut bytes);
        let found = errors(&validator(SIGNALS_SCHEMA, false), &bytes);
        prop_assert!(found.is_empty(), "{:?} in {}", found, String::from_utf8_lossy(&bytes));
        // Bit for bit, but for which NaN it is.
        prop_assert_eq!(format!("{:?}", signals::decode(&bytes).unwrap()), format!("{record:?}"));
    }

    #[test]
    fn damaged_events_and_signals_are_refused_or_read(
        event in any_event(), record in record(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut bytes = event_bytes(&event);
        let i = at.index(bytes.len());
        bytes[i] = byte;
        if cut { bytes.truncate(i); }
        let _ = event::decode(&bytes);
        bytes.clear();
        signals::encode(&record, &mut bytes);
        let i = at.index(bytes.len());
        bytes[i] = byte;
        if cut { bytes.truncate(i); }
        let _ = signals::decode(&bytes);
    }
}

#[test]
fn signals_that_make_no_sense_are_refused() {
    let window = |start: i64, end: i64| {
        format!(
            r#"{{"window":{{"entity":"e","start":{start},"end":{end},"position":{{"upstream":{{"topic":"t","partition":0}},"offset_first":0,"offset_last":0}},"samples":0,"lines":0,"tested":0,"signals":[],"facts":[]}}}}"#
        )
    };
    let cases = [
        ("a window", window(0, 10), None),
        (
            "empty window",
            window(10, 10),
            Some("window that ends before it starts"),
        ),
        (
            "window backwards",
            window(10, 0),
            Some("window that ends before it starts"),
        ),
        ("tick", r#"{"tick":{"at":0,"every_ms":1}}"#.to_owned(), None),
        (
            "tick without interval",
            r#"{"tick":{"at":0,"every_ms":0}}"#.to_owned(),
            Some("tick without interval"),
        ),
        (
            "two at once",
            r#"{"tick":{"at":0,"every_ms":1},"progress":{}}"#.to_owned(),
            Some("expected"),
        ),
        (
            "something else",
            r#"{"tock":{}}"#.to_owned(),
            Some("unknown variant `tock`"),
        ),
        (
            "trailing garbage",
            r#"{"tick":{"at":0,"every_ms":1}} x"#.to_owned(),
            Some("trailing characters"),
        ),
        ("empty", String::new(), Some("EOF")),
    ];
    for (name, payload, expected) in cases {
        let outcome = signals::decode(payload.as_bytes());
        match expected {
            None => assert!(outcome.is_ok(), "{name}: {outcome:?}"),
            Some(text) => assert!(outcome.unwrap_err().to_string().contains(text), "{name}"),
        }
    }
}

#[test]
fn an_event_in_full() {
    let at = Timestamp::from_millis(1_769_860_800_123);
    let contributor = |id: &str, onset: Timestamp| Contributor {
        source: Source::Metric,
        id: id.into(),
        name: "heap_used{host=web-1}".into(),
        channel: Channel::Trend,
        direction: Direction::Up,
        score: Score::from_surprise(5.5),
        actual: 0.93,
        expected: 0.6,
        lower: f64::NEG_INFINITY,
        upper: 0.7,
        onset,
        log: None,
        share: None,
    };
    let event = Event {
        kind: EventKind::Precursor,
        action: EventAction::Resolve,
        incident_id: IncidentId(0xabc),
        event_id: EventId(u128::MAX),
        seq: 2,
        entity: Entity::new("web-1"),
        started_at: at - 60_000,
        observed_at: at,
        ended_at: Some(at),
        severity: Severity::Warning,
        score: Score::from_surprise(6.25),
        contributors: vec![contributor("0001", at - 30_000), contributor("0002", at - 60_000)],
        position: None,
        why: "é".repeat(2_000),
        precursor: Some(PrecursorDetail {
            grade: Grade::Watch,
            threshold: Score::from_surprise(4.5),
            resolution: Some(Resolution::Confirmed),
            lead_s: Some(1_800.0),
            prediction: None,
            exhaustion: None,
            burn: None,
            record: Some(KindRecord {
                name: "memory".into(),
                right: 3,
                of: 4,
                lead_s: Some(1_500.0),
                lift: 12.5,
            }),
        }),
        failure: None,
    };
    let bytes = event_bytes(&event);
    assert_eq!(errors(&validator(EVENT_SCHEMA, true), &bytes), Vec::<String>::new());
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    let cases = [
        ("/schema_version", "\"1.0\""),
        ("/kind", "\"precursor\""),
        ("/event", "\"resolve\""),
        ("/record/of", "4"),
        ("/incident_id", "\"00000000000000000000000000000abc\""),
        ("/dedup_key", "\"foreshock-precursor-00000000000000000000000000000abc\""),
        ("/started_at", "\"2026-01-31T11:59:00.123Z\""),
        ("/ended_at", "\"2026-01-31T12:00:00.123Z\""),
        ("/grade", "\"watch\""),
        ("/resolution", "\"confirmed\""),
        ("/lead_s", "1800.0"),
        ("/contributors/0/lower", "null"),
        ("/contributors/0/lead", "false"),
        ("/contributors/1/lead", "true"),
        ("/detector/id", "\"foreshock\""),
        ("/detector/model", "\"online\""),
    ];
    for (path, expected) in cases {
        assert_eq!(value.pointer(path).unwrap().to_string(), expected, "{path}");
    }
    assert!(value["why"].as_str().unwrap().len() <= 1_024);

    let headers = event::headers(&event, "/foreshock/test");
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", "ffffffffffffffffffffffffffffffff"),
        ("ce_source", "/foreshock/test"),
        ("ce_type", "foreshock.precursor.resolve.v1"),
        ("ce_time", "2026-01-31T12:00:00.123Z"),
        ("content-type", "application/json"),
    ];
    assert_eq!(
        headers.iter().map(|(k, v)| (*k, v.as_str())).collect::<Vec<_>>(),
        expected
    );
}

#[test]
fn dead_letters_are_what_the_schema_says() {
    let upstream = Upstream {
        topic: "metrics".into(),
        partition: 0,
    };
    let fits = |headers: Vec<(&'static str, String)>| {
        let object: Value = headers
            .into_iter()
            .map(|(k, v)| (k.to_owned(), Value::String(v)))
            .collect();
        let found = errors(&validator(DEAD_LETTER_SCHEMA, true), object.to_string().as_bytes());
        assert_eq!(found, Vec::<String>::new(), "{object}");
    };
    let long = format!("{{\"value\":\"{}\"}}", "x".repeat(5_000));
    let mut decoder = foreshock_wire::Decoder::new(foreshock_wire::Format::PlainJson);
    for payload in ["", "[1]", &long, "{\"name\":7}"] {
        let error = decoder.decode(payload.as_bytes(), &mut |_| {}).unwrap_err();
        let mut headers = foreshock_wire::dead_letter::headers(&upstream, 1, Some(Timestamp::EARLIEST), &error);
        let (_, _, cut) = foreshock_wire::dead_letter::kept(&[b'k'; 1 << 20], &[b'v'; 1 << 20]);
        assert_eq!(cut.len(), 2);
        headers.extend(cut);
        fits(headers);
    }
    fits(foreshock_wire::dead_letter::skipped(&upstream, &(7..=9), &long));
}
