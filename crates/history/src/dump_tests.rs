use std::io::Cursor;

use proptest::prelude::*;

use super::*;

fn dump(format: Format, text: &str) -> Dump {
    let opened = Opened::new(Cursor::new(text.as_bytes().to_vec()), None).unwrap();
    Dump::new(Path::new("d.jsonl"), format, opened)
}

const CPU: &str =
    r#"{"fields":{"idle":97.1},"name":"cpu","tags":{"host":"a","pod":"p","namespace":"n"},"timestamp":1458229140}"#;

#[test]
fn a_line_is_a_record_with_time_and_key() {
    let cases = [
        ("host", &["host"][..], "a"),
        ("joined", &["zone", "namespace+pod"][..], "n/p"),
        ("half of a pair", &["namespace+zone", "host"][..], "a"),
        ("none there", &["zone"][..], ""),
        ("none asked for", &[][..], ""),
    ];
    for (name, labels, key) in cases {
        let text = format!("{CPU}\r\n\n  \n{CPU}");
        let records: Vec<TimedRecord> = dump(Format::TelegrafJson, &text)
            .keyed_by(labels)
            .map(Result::unwrap)
            .collect();
        assert_eq!(records.len(), 2, "{name}: blank lines are none");
        assert_eq!(records[0].at, Timestamp::from_secs(1_458_229_140), "{name}");
        assert_eq!(records[0].key, key, "{name}");
        assert_eq!(records[0].payload, CPU.as_bytes(), "{name}: as it is");
    }
}

fn csv(text: &str) -> Result<Dump, DumpError> {
    let opened = Opened::new(Cursor::new(text.as_bytes().to_vec()), None).unwrap();
    Dump::csv(Path::new("d.csv"), Format::PlainJson, opened).map(|d| d.keyed_by(&["namespace+pod", "host"]))
}

#[test]
fn a_row_of_a_csv_is_a_record_of_plain_json() {
    /// Text, key, name and value of each point.
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, f64)]);
    let cases: [Case<'_>; 4] = [
        (
            "timestamp,host,cpu,mem\n60,a,1.5,\n",
            "a",
            &[("cpu", 1.5), ("mem", f64::NAN)],
        ),
        (
            "timestamp,series,value,entity\n60,cpu,2,unit-7\n",
            "unit-7",
            &[("cpu", 2.0)],
        ),
        ("timestamp,pod,cpu,namespace\n60,p,NaN,n\n", "n/p", &[("cpu", f64::NAN)]),
        (
            "timestamp,cpu,\"a \"\"b\"\"\"\n60,1,-2e3\n",
            "",
            &[("cpu", 1.0), ("a \"b\"", -2e3)],
        ),
    ];
    for (text, key, expected) in cases {
        let record = csv(text).unwrap().next().unwrap().unwrap();
        assert_eq!(
            (record.key.as_str(), record.at),
            (key, Timestamp::from_secs(60)),
            "{text}"
        );
        let mut points = Vec::new();
        let sink = &mut |input: Input<'_>| {
            let Input::Sample(s) = input else { panic!("no sample") };
            assert_eq!(s.at, Some(Timestamp::from_secs(60)));
            points.push((s.name.to_owned(), s.value));
        };
        Decoder::new(Format::PlainJson).decode(&record.payload, sink).unwrap();
        assert_eq!(format!("{points:?}"), format!("{expected:?}"), "{text}");
    }
}

#[test]
fn a_bad_csv_says_where() {
    let first_error = |text: &str| match csv(text) {
        Err(error) => error,
        Ok(dump) => dump.filter_map(Result::err).next().unwrap(),
    };
    let cases = [
        ("time,a\n", "d.csv: line 1, column timestamp: expected the first column"),
        (
            "timestamp,host\n",
            "d.csv: line 1, column host: expected at least one metric beside labels",
        ),
        (
            "timestamp,host,cpu\n60,a,1\n70,a,much\n",
            "d.csv: line 3, column cpu: expected a number",
        ),
        (
            "timestamp,host,cpu\nsoon,a,1\n",
            "d.csv: line 2, column timestamp: expected a time",
        ),
    ];
    for (text, expected) in cases {
        let error = first_error(text);
        assert!(
            error.is_bad_data() && error.to_string().starts_with(expected),
            "{text:?}: {error}"
        );
    }
    let opened = Opened::new(Cursor::new(b"timestamp,a\n".to_vec()), None).unwrap();
    let refused = Dump::csv(Path::new("d.csv"), Format::TelegrafJson, opened)
        .err()
        .unwrap();
    assert!(
        refused.to_string().contains("expected a source of plain_json"),
        "{refused}"
    );
    for (name, expected) in [
        ("a.csv", true),
        ("a.CSV.gz", true),
        ("a.csv.zst", true),
        ("a.jsonl.gz", false),
        ("csv", false),
    ] {
        assert_eq!(is_named(Path::new(name), "csv"), expected, "{name}");
    }
}

#[test]
fn an_incident_is_keyed_by_its_entity() {
    let text = r#"{"entity":"shop-1","class":"outage","onset":"2026-01-31T12:00:00Z"}"#;
    let record = dump(Format::IncidentJson, text).next().unwrap().unwrap();
    assert_eq!(
        (record.key.as_str(), record.at),
        ("shop-1", Timestamp::from_secs(1_769_860_800))
    );
}

#[test]
fn a_line_without_a_time_has_that_of_the_line_before() {
    let text = "2026-01-31 12:00:00 ERROR it broke\n  at here\n";
    let times: Vec<i64> = dump(Format::LogText, text).map(|r| r.unwrap().at.as_millis()).collect();
    assert_eq!(times, [1_769_860_800_000; 2]);
}

#[test]
fn times_without_a_year_are_near_the_day_the_file_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("syslog");
    std::fs::write(&path, "Dec 31 23:59:59 web-1 app: a\nJan  1 00:00:01 web-1 app: b\n").unwrap();
    let written = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_767_226_000); // 2026-01-01 00:06:40
    std::fs::File::options()
        .append(true)
        .open(&path)
        .unwrap()
        .set_modified(written)
        .unwrap();
    let times: Vec<i64> = Dump::open(&path, Format::Syslog)
        .unwrap()
        .map(|r| r.unwrap().at.as_millis() / 1_000)
        .collect();
    assert_eq!(times, [1_767_225_599, 1_767_225_601]);
}

#[test]
fn errors_say_file_and_line_and_end_the_dump() {
    let long = "x".repeat(limits::PAYLOAD_BYTES_MAX + 1);
    let cases = [
        (
            "no json",
            Format::TelegrafJson,
            format!("{CPU}\nnonsense\n{CPU}"),
            "d.jsonl line 2 is no telegraf_json",
        ),
        (
            "too long",
            Format::LogText,
            long,
            "d.jsonl line 1 is longer than 1048576 bytes",
        ),
        (
            "no time",
            Format::LogText,
            "hello\n".into(),
            "d.jsonl line 1 has no time",
        ),
    ];
    for (name, format, text, expected) in cases {
        let mut dump = dump(format, &text);
        let error = dump.find_map(Result::err).expect(name);
        assert!(error.to_string().starts_with(expected), "{name}: {error}");
        assert!(error.is_bad_data(), "{name}");
        assert!(dump.next().is_none(), "{name}");
    }
    let missing = Dump::open(Path::new("/nonexistent/d"), Format::LogText).err().unwrap();
    assert!(!missing.is_bad_data());
}

#[test]
fn damaged_compression_is_bad_data() {
    let mut zip = zstd::encode_all(format!("{CPU}\n").repeat(100).as_bytes(), 1).unwrap();
    zip.truncate(zip.len() - 4);
    let opened = Opened::new(Cursor::new(zip), None).unwrap();
    let error = Dump::new(Path::new("d.zst"), Format::TelegrafJson, opened).find_map(Result::err);
    assert!(error.expect("damage is found").is_bad_data());
}

fn records(times: &[i64]) -> Vec<Result<TimedRecord, DumpError>> {
    let record = |(i, at): (usize, &i64)| {
        Ok(TimedRecord {
            at: Timestamp::from_millis(*at),
            key: i.to_string(),
            payload: Vec::new(),
        })
    };
    times.iter().enumerate().map(record).collect()
}

proptest! {
    /// Sorted dumps merge as a stable sort of their concatenation does.
    #[test]
    fn merging_is_a_stable_sort(mut dumps in prop::collection::vec(prop::collection::vec(0i64..20, 0..12), 0..5)) {
        dumps.iter_mut().for_each(|d| d.sort_unstable());
        let mut expected: Vec<(i64, usize, String)> = Vec::new();
        for (place, times) in dumps.iter().enumerate() {
            expected.extend(times.iter().enumerate().map(|(i, at)| (*at, place, i.to_string())));
        }
        expected.sort_by_key(|(at, ..)| *at);
        let merged = merge(dumps.iter().map(|d| records(d).into_iter()).collect());
        let merged: Vec<(i64, usize, String)> = merged
            .map(|r| r.unwrap())
            .map(|(place, r)| (r.at.as_millis(), place, r.key))
            .collect();
        prop_assert_eq!(merged, expected);
    }

    #[test]
    fn any_bytes_are_read_to_their_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for format in Format::ALL {
            if let Ok(opened) = Opened::new(Cursor::new(bytes.clone()), None) {
                let _ = Dump::new(Path::new("d"), format, opened).count();
            }
        }
    }
}

#[test]
fn an_error_does_not_stop_the_other_dumps() {
    let mut broken = records(&[1]);
    broken.push(Err(DumpError::NoTime {
        path: "d".into(),
        line: 2,
    }));
    let merged = merge(vec![broken.into_iter(), records(&[0, 5]).into_iter()]);
    let found: Vec<bool> = merged.map(|r| r.is_ok()).collect();
    assert_eq!(found, [true, true, false, true]);
}
