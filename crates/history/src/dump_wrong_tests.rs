//! Dumps that are not what they should be: each has an outcome that `docs/backtest.md` names.

use std::io::Write;
use std::path::{Path, PathBuf};

use foreshock_wire::Format;

use crate::dump::{Dump, DumpError, TimedRecord, merge};
use crate::inputs::expand;

fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn read(path: &Path, format: Format) -> Result<Vec<TimedRecord>, DumpError> {
    Dump::open(path, format)?.collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const POINT: &str = r#"{"timestamp":60,"name":"cpu","value":1}"#;

#[test]
fn a_bad_row_names_file_line_and_what_was_expected() {
    let folder = tempfile::tempdir().unwrap();
    let zip = zstd::encode_all(format!("{POINT}\n").repeat(999).as_bytes(), 1).unwrap();
    let packed = gzip(format!("timestamp,cpu\n{}", "60,1\n".repeat(9_999)).as_bytes());
    let json = |rest: &str| format!("{POINT}\n{rest}\n").into_bytes();
    let cases: [(&str, Format, Vec<u8>, &[&str]); 17] = [
        (
            "number.csv",
            Format::PlainJson,
            b"timestamp,cpu\n60,1\n70,much\n".to_vec(),
            &["line 3, column cpu", "expected a number", "\"much\""],
        ),
        (
            "fields.csv",
            Format::PlainJson,
            b"timestamp,cpu\n60,1,2\n".to_vec(),
            &["line 2, column 3", "expected 2 fields"],
        ),
        (
            "header-twice.csv",
            Format::PlainJson,
            b"timestamp,cpu\n60,1\ntimestamp,cpu\n70,1\n".to_vec(),
            &["line 3, column timestamp", "expected a time", "\"timestamp\""],
        ),
        (
            "name-twice.csv",
            Format::PlainJson,
            b"timestamp,cpu,cpu\n60,1,2\n".to_vec(),
            &["line 1, column cpu", "expected each name once"],
        ),
        (
            "empty.csv",
            Format::PlainJson,
            b"".to_vec(),
            &["line 1, column timestamp", "expected a header"],
        ),
        (
            "source.csv",
            Format::TelegrafJson,
            b"timestamp,cpu\n".to_vec(),
            &["expected a source of plain_json"],
        ),
        (
            "cut.csv.gz",
            Format::PlainJson,
            packed[..packed.len() - 9].to_vec(),
            &["line "],
        ),
        (
            "cut.jsonl.zst",
            Format::PlainJson,
            zip[..zip.len() - 4].to_vec(),
            &["line ", "can't be read"],
        ),
        (
            "head.gz",
            Format::PlainJson,
            gzip(b"x")[..5].to_vec(),
            &["line 1 can't be read"],
        ),
        (
            "json.jsonl",
            Format::PlainJson,
            json("{\"timestamp\":70,"),
            &["line 2 is no plain_json", "at line 1 byte"],
        ),
        (
            "value.jsonl",
            Format::PlainJson,
            json(r#"{"timestamp":70,"name":"cpu","value":{}}"#),
            &["line 2 is no plain_json"],
        ),
        (
            "telegraf.jsonl",
            Format::TelegrafJson,
            b"{\"name\":3}\n".to_vec(),
            &["line 1 is no telegraf_json"],
        ),
        (
            "lines.jsonl",
            Format::LogJson,
            b"{\"timestamp\":1,\"level\":\"info\"}\n".to_vec(),
            &["line 1 is no log_json", "expected a text under message"],
        ),
        (
            "otlp.jsonl",
            Format::OtlpJson,
            b"[1]\n".to_vec(),
            &["line 1 is no otlp_json"],
        ),
        ("app.log", Format::LogText, b"hello\n".to_vec(), &["line 1 has no time"]),
        (
            "parquet.parquet",
            Format::PlainJson,
            b"timestamp,cpu\n60,1\n".to_vec(),
            &["is no Parquet file"],
        ),
        (
            "parquet.log",
            Format::LogText,
            b"PAR1".to_vec(),
            &["is a Parquet file, and its source is log_text"],
        ),
    ];
    for (name, format, bytes, expected) in cases {
        let path = file(folder.path(), name, &bytes);
        let error = read(&path, format).expect_err(name);
        let said = error.to_string();
        assert!(error.is_bad_data(), "{name}: {said}");
        for part in expected.iter().chain([&path.to_str().unwrap()]) {
            assert!(said.contains(part), "{name}: {part:?} in {said}");
        }
    }
}

#[test]
fn what_is_odd_and_not_wrong_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let mixed = "{\"timestamp\":60,\"name\":\"a\",\"value\":1}\n{\"timestamp\":\"1970-01-01T02:01:10+02:00\",\"name\":\"a\",\"value\":1}\n";
    let cases: [(&str, Format, String, &[i64]); 9] = [
        ("bom.jsonl", Format::PlainJson, format!("\u{feff}{POINT}\n"), &[60]),
        (
            "crlf.jsonl",
            Format::PlainJson,
            format!("{POINT}\r\n\r\n{POINT}\r\n"),
            &[60, 60],
        ),
        (
            "bom.csv",
            Format::PlainJson,
            "\u{feff}timestamp,cpu\r\n60,1\r\n".into(),
            &[60],
        ),
        (
            "zones.csv",
            Format::PlainJson,
            "timestamp,cpu\n1970-01-01T01:01:00+01:00,1\n1970-01-01 00:01:10,1\n80,1\n1700000000000,1\n".into(),
            &[60, 70, 80, 1_700_000_000],
        ),
        ("units.jsonl", Format::PlainJson, mixed.into(), &[60, 70]),
        (
            "unsorted.csv",
            Format::PlainJson,
            "timestamp,cpu\n90,1\n60,1\n".into(),
            &[90, 60],
        ),
        (
            "csv-by-its-header.txt",
            Format::PlainJson,
            "timestamp,cpu\n60,1\n".into(),
            &[60],
        ),
        ("empty.jsonl", Format::PlainJson, String::new(), &[]),
        ("no-rows.csv", Format::PlainJson, "timestamp,cpu\n".into(), &[]),
    ];
    for (name, format, text, expected) in cases {
        let path = file(folder.path(), name, text.as_bytes());
        let records = read(&path, format).unwrap_or_else(|e| panic!("{name}: {e}"));
        let times: Vec<i64> = records.iter().map(|r| r.at.as_millis() / 1_000).collect();
        assert_eq!(times, expected, "{name}");
    }
}

#[test]
fn overlapping_files_are_merged_and_keep_both_rows() {
    let folder = tempfile::tempdir().unwrap();
    let paths = [
        file(folder.path(), "a.csv", b"timestamp,cpu\n60,1\n80,1\n"),
        file(folder.path(), "b.csv.gz", &gzip(b"timestamp,cpu\n70,1\n80,2\n")),
    ];
    let found = expand(&[folder.path().into()], &["csv"], Path::new("")).unwrap();
    assert_eq!(found.iter().map(|i| i.path.clone()).collect::<Vec<_>>(), paths);
    let dumps = paths.map(|p| Dump::open(&p, Format::PlainJson).unwrap());
    let merged: Vec<(usize, i64)> = merge(dumps.into())
        .map(|r| r.map(|(place, r)| (place, r.at.as_millis() / 1_000)).unwrap())
        .collect();
    assert_eq!(merged, [(0, 60), (1, 70), (0, 80), (1, 80)]);
}

#[test]
fn a_folder_without_a_dump_says_what_it_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), "notes.md", b"");
    let error = expand(&[folder.path().into()], &["csv", "parquet"], Path::new("")).unwrap_err();
    assert!(
        error.to_string().ends_with("no file that ends in .csv or .parquet"),
        "{error}"
    );
    let error = Dump::open(folder.path(), Format::PlainJson).err().unwrap();
    assert!(error.to_string().contains("can't be opened: is a folder"), "{error}");
}
