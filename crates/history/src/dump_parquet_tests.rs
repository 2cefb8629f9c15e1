use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use foreshock_domain::Input;
use foreshock_wire::Decoder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type, Int96, Int96Type,
};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;

use super::*;
use crate::dump::{Dump, DumpError};
use crate::open::Opened;

/// Values of one column; `None` is null.
#[derive(Clone)]
enum Cells {
    Bool(Vec<Option<bool>>),
    I32(Vec<Option<i32>>),
    I64(Vec<Option<i64>>),
    Day(Vec<Option<Int96>>),
    F32(Vec<Option<f32>>),
    F64(Vec<Option<f64>>),
    Text(Vec<Option<&'static str>>),
}

fn write_column<T: DataType>(column: &mut SerializedColumnWriter<'_>, cells: Vec<Option<T::T>>) {
    let levels: Vec<i16> = cells.iter().map(|c| i16::from(c.is_some())).collect();
    let values: Vec<T::T> = cells.into_iter().flatten().collect();
    column.typed::<T>().write_batch(&values, Some(&levels), None).unwrap();
}

fn packed(compression: Compression, schema: &str, groups: &[Vec<Cells>]) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(&format!("message m {{ {schema} }}")).unwrap());
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    for group in groups {
        let mut row_group = writer.next_row_group().unwrap();
        for cells in group.clone() {
            let mut column = row_group.next_column().unwrap().unwrap();
            match cells {
                Cells::Bool(c) => write_column::<BoolType>(&mut column, c),
                Cells::I32(c) => write_column::<Int32Type>(&mut column, c),
                Cells::I64(c) => write_column::<Int64Type>(&mut column, c),
                Cells::Day(c) => write_column::<Int96Type>(&mut column, c),
                Cells::F32(c) => write_column::<FloatType>(&mut column, c),
                Cells::F64(c) => write_column::<DoubleType>(&mut column, c),
                Cells::Text(c) => {
                    let texts = c.into_iter().map(|t| t.map(ByteArray::from)).collect();
                    write_column::<ByteArrayType>(&mut column, texts);
                }
            }
            column.close().unwrap();
        }
        row_group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

fn plain(schema: &str, groups: &[Vec<Cells>]) -> Vec<u8> {
    packed(Compression::UNCOMPRESSED, schema, groups)
}

fn dump(bytes: Vec<u8>, format: Format) -> Result<Dump, DumpError> {
    let opened = Opened::new(Cursor::new(bytes), None).unwrap();
    Dump::parquet(Path::new("-"), format, opened).map(|d| d.keyed_by(&["host"]))
}

/// Key, milliseconds, and name and value of every sample.
type Row = (String, i64, Vec<(String, f64)>);

fn rows(dump: Dump) -> Vec<Row> {
    let row = |record: Result<TimedRecord, DumpError>| {
        let record = record.unwrap();
        let mut points = Vec::new();
        let sink = &mut |input: Input<'_>| {
            let Input::Sample(s) = input else { panic!("no sample") };
            assert_eq!(s.at, Some(record.at));
            points.push((s.name.to_owned(), s.value));
        };
        Decoder::new(Format::PlainJson).decode(&record.payload, sink).unwrap();
        (record.key, record.at.as_millis(), points)
    };
    dump.map(row).collect()
}

fn first_error(bytes: Vec<u8>, format: Format) -> String {
    let error = match dump(bytes, format) {
        Err(error) => error,
        Ok(mut dump) => dump.find_map(Result::err).expect("an error"),
    };
    assert!(error.is_bad_data(), "{error}");
    error.to_string()
}

const WIDE: &str = "required int64 timestamp (TIMESTAMP_MILLIS); optional binary host (UTF8); optional double cpu; \
                    optional int32 mem; optional boolean up;";

fn wide(from: i64) -> Vec<Cells> {
    vec![
        Cells::I64(vec![Some(from), Some(from + 1_000)]),
        Cells::Text(vec![Some("a"), None]),
        Cells::F64(vec![Some(1.5), None]),
        Cells::I32(vec![None, Some(-7)]),
        Cells::Bool(vec![Some(true), Some(false)]),
    ]
}

// A required column has no levels, and the writer takes none for it.
fn relaxed(schema: &str) -> String {
    schema.replace("required", "optional")
}

#[test]
fn rows_are_records_whatever_packs_them() {
    let groups = [wide(1_000), wide(9_000)];
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(parquet::basic::GzipLevel::default()),
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::default()),
    ];
    for codec in codecs {
        let bytes = packed(codec, &relaxed(WIDE), &groups);
        let zipped = zstd::encode_all(&bytes[..], 1).unwrap();
        for bytes in [bytes, zipped] {
            let found = rows(dump(bytes, Format::PlainJson).unwrap());
            let times: Vec<(&str, i64)> = found.iter().map(|r| (r.0.as_str(), r.1)).collect();
            assert_eq!(
                times,
                [("a", 1_000), ("", 2_000), ("a", 9_000), ("", 10_000)],
                "{codec:?}"
            );
            let shown = format!("{:?}", &found[1].2);
            assert_eq!(shown, r#"[("cpu", NaN), ("mem", -7.0), ("up", 0.0)]"#, "{codec:?}");
        }
    }
}

#[test]
fn long_files_and_labels_of_other_types() {
    let schema = "optional binary series (UTF8); optional double value; optional int64 ts; optional int32 node; \
                  optional binary host (UTF8);";
    let cells = vec![
        Cells::Text(vec![Some("cpu"), Some("mem")]),
        Cells::F64(vec![Some(1.0), None]),
        Cells::I64(vec![Some(60), Some(1_700_000_000_123)]),
        Cells::I32(vec![Some(7), None]),
        Cells::Text(vec![None, Some("b")]),
    ];
    let mut dump = dump(plain(schema, &[cells]), Format::PlainJson).unwrap();
    let first = dump.next().unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first.payload).contains(r#""labels":{"node":"7"}"#));
    let shown = format!("{:?}", rows(dump));
    assert_eq!(shown, r#"[("b", 1700000000123, [("mem", NaN)])]"#);
}

#[test]
fn times_in_every_unit_are_the_same_instant() {
    const MS: i64 = 1_769_853_600_123;
    let day = {
        let nanos = (MS % 86_400_000) * 1_000_000 + 456_789;
        let mut day = Int96::new();
        let [low, high] = [nanos & 0xffff_ffff, nanos >> 32].map(|n| u32::try_from(n).unwrap());
        day.set_data(low, high, u32::try_from(MS / 86_400_000 + 2_440_588).unwrap());
        day
    };
    let cases = [
        (
            "milliseconds",
            "int64 timestamp (TIMESTAMP_MILLIS)",
            Cells::I64(vec![Some(MS)]),
            MS,
        ),
        (
            "microseconds",
            "int64 timestamp (TIMESTAMP(MICROS,true))",
            Cells::I64(vec![Some(MS * 1_000 + 9)]),
            MS,
        ),
        (
            "nanoseconds",
            "int64 timestamp (TIMESTAMP(NANOS,false))",
            Cells::I64(vec![Some(MS * 1_000_000 + 9)]),
            MS,
        ),
        ("int96", "int96 timestamp", Cells::Day(vec![Some(day)]), MS),
        ("epoch", "int64 timestamp", Cells::I64(vec![Some(MS * 1_000)]), MS),
        (
            "seconds",
            "int32 timestamp",
            Cells::I32(vec![Some(1_769_853_600)]),
            MS - 123,
        ),
        (
            "fraction",
            "double timestamp",
            Cells::F64(vec![Some(1_769_853_600.123)]),
            MS,
        ),
        (
            "date",
            "int32 timestamp (DATE)",
            Cells::I32(vec![Some(20_484)]),
            1_769_817_600_000,
        ),
        (
            "text",
            "binary timestamp (UTF8)",
            Cells::Text(vec![Some("2026-01-31T11:00:00.123+01:00")]),
            MS,
        ),
    ];
    for (name, column, times, expected) in cases {
        let schema = format!("optional {column}; optional float x;");
        let bytes = plain(&schema, &[vec![times, Cells::F32(vec![Some(0.5)])]]);
        let found = rows(dump(bytes, Format::PlainJson).unwrap());
        assert_eq!(
            found,
            [(String::new(), expected, vec![("x".to_owned(), 0.5)])],
            "{name}"
        );
    }
}

#[test]
fn log_lines_are_json_lines() {
    let schema = "optional int64 timestamp (TIMESTAMP_MILLIS); optional binary level (UTF8); optional binary message (UTF8); \
                  optional binary host (UTF8);";
    let cells = vec![
        Cells::I64(vec![Some(1_000)]),
        Cells::Text(vec![Some("ERROR")]),
        Cells::Text(vec![Some("it \"broke\"\n  at x")]),
        Cells::Text(vec![Some("a")]),
    ];
    for format in [Format::LogJson, Format::Log] {
        let bytes = plain(schema, std::slice::from_ref(&cells));
        let record = dump(bytes, format).unwrap().next().unwrap().unwrap();
        assert_eq!((record.key.as_str(), record.at.as_millis()), ("a", 1_000));
        let mut seen = Vec::new();
        let sink = &mut |input: Input<'_>| {
            let Input::Line(l) = input else { panic!("no line") };
            seen.push(format!(
                "{:?} {:?} {}",
                l.at.map(Timestamp::as_millis),
                l.level,
                l.message
            ));
        };
        Decoder::new(format).decode(&record.payload, sink).unwrap();
        assert_eq!(seen, ["Some(1000) Some(Error) it \"broke\"\n  at x"], "{format}");
    }
}

#[test]
fn a_file_of_pyarrow() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pyarrow.parquet");
    let found = rows(Dump::open(&path, Format::PlainJson).unwrap().keyed_by(&["host"]));
    let shown: Vec<String> = found
        .iter()
        .map(|(key, at, points)| format!("{key} {at} {points:?}"))
        .collect();
    let expected = [
        r#"a 1769853600000 [("cpu", 1.5), ("mem", 1.0), ("up", 1.0), ("big", 9.223372036854776e18), ("price", 0.5)]"#,
        r#"b 1769853601001 [("cpu", NaN), ("mem", 2.0), ("up", 0.0), ("big", 1.0), ("price", NaN)]"#,
        r#" 1769853602002 [("cpu", NaN), ("mem", 3.0), ("up", NaN), ("big", 0.0), ("price", 1.0)]"#,
        r#"a 1769853603003 [("cpu", -2000.0), ("mem", NaN), ("up", 1.0), ("big", NaN), ("price", 2.0)]"#,
    ];
    assert_eq!(shown, expected);
}

#[test]
fn what_is_wrong_names_row_and_column() {
    let time = || Cells::I64(vec![Some(1_000), None]);
    let two = || Cells::F64(vec![Some(1.0), Some(2.0)]);
    let stamp = "optional int64 timestamp (TIMESTAMP_MILLIS);";
    // A schema alone is enough where it is refused.
    let of = |rest: &str, cells: Vec<Cells>| {
        let groups = if cells.is_empty() { vec![] } else { vec![cells] };
        plain(&format!("{stamp} {rest}"), &groups)
    };
    let text = || Cells::Text(vec![Some("x"), None]);
    let cases = [
        (
            "null time",
            of("optional double cpu;", vec![time(), two()]),
            Format::PlainJson,
            "-: row 2, column timestamp: expected a time from 1970",
        ),
        (
            "no time",
            plain("optional double cpu;", &[vec![two()]]),
            Format::PlainJson,
            "-: column timestamp: expected a column with the time, found none",
        ),
        (
            "no metric",
            of("optional binary host (UTF8);", vec![time(), text()]),
            Format::PlainJson,
            "-: column host: expected at least one column of numbers",
        ),
        (
            "no line",
            of("optional binary host (UTF8);", vec![time(), text()]),
            Format::LogJson,
            "-: column message: expected a column with the line",
        ),
        (
            "a null line",
            of(
                "optional binary message (UTF8);",
                vec![Cells::I64(vec![Some(1), Some(2)]), text()],
            ),
            Format::LogJson,
            "-: row 2, column message: expected a line, found null",
        ),
        (
            "no series",
            of(
                "optional binary series (UTF8); optional double value;",
                vec![Cells::I64(vec![Some(1), Some(2)]), text(), two()],
            ),
            Format::PlainJson,
            "-: row 2, column series: expected the name of a series, found null",
        ),
        (
            "two times",
            of(
                "optional int32 day (DATE);",
                vec![time(), Cells::I32(vec![Some(1), None])],
            ),
            Format::PlainJson,
            "-: column day: expected a metric in numbers",
        ),
        (
            "nested",
            of("optional group g { optional double x; }", vec![]),
            Format::PlainJson,
            "-: column g.x: expected a flat column",
        ),
        (
            "list",
            of("repeated double x;", vec![]),
            Format::PlainJson,
            "-: column x: expected a flat column of numbers, times or text, found a nested column",
        ),
        (
            "too early",
            of("optional double cpu;", vec![Cells::I64(vec![Some(-5), None]), two()]),
            Format::PlainJson,
            "-: row 1, column timestamp: expected a time from 1970",
        ),
        (
            "wrong magic",
            b"PAR1 and then nothing of the kind".to_vec(),
            Format::PlainJson,
            "-: is no Parquet file that can be read",
        ),
        (
            "empty",
            Vec::new(),
            Format::PlainJson,
            "-: is no Parquet file that can be read",
        ),
        (
            "wrong source",
            of("optional double cpu;", vec![time(), two()]),
            Format::TelegrafJson,
            "- is a Parquet file, and its source is telegraf_json, expected a source of plain_json",
        ),
    ];
    for (name, bytes, format, expected) in cases {
        let error = first_error(bytes, format);
        assert!(error.starts_with(expected), "{name}: {error}");
    }
    let whole = plain(&relaxed(WIDE), &[wide(1_000)]);
    for bytes in [1, 8, whole.len() / 2, whole.len() - 1] {
        let error = first_error(whole[..bytes].to_vec(), Format::PlainJson);
        assert!(error.contains("is no Parquet file"), "cut at {bytes}: {error}");
    }
}

#[test]
fn a_file_that_lies_about_its_rows_is_refused() {
    let whole = plain(&relaxed(WIDE), &[wide(1_000)]);
    let footer = whole.len() - 8 - usize::from(u16::from_le_bytes([whole[whole.len() - 8], whole[whole.len() - 7]]));
    let mut found = std::collections::BTreeSet::new();
    // Two rows are a 4 there, three a 6, and one a 2.
    for (place, lie) in (footer..whole.len() - 8).flat_map(|place| [(place, 6), (place, 2)]) {
        let mut bytes = whole.clone();
        if std::mem::replace(&mut bytes[place], lie) != 4 {
            continue;
        }
        let read = dump(bytes, Format::PlainJson).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        match read {
            Ok(records) => assert_eq!(records.len(), 2, "at {place}"),
            Err(error) => {
                found.insert(error.to_string());
            }
        }
    }
    for expected in [
        "it says 3 rows, and its row groups 2",
        "it says 2 rows, and its row groups 3",
        "row 1, column cpu: can't be read: Parquet error: 3 values where its row group has 2 rows",
    ] {
        assert!(
            found.iter().any(|said| said.contains(expected)),
            "{expected:?} in {found:#?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is turned in a file, the end is a record or an error.
    #[test]
    fn damage_is_never_a_panic(turned in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), zip in 0u8..3) {
        let codec = [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(ZstdLevel::default())][usize::from(zip)];
        let mut bytes = packed(codec, &relaxed(WIDE), &[wide(1_000), wide(9_000)]);
        for (place, byte) in turned {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(dump) = dump(bytes, Format::PlainJson) {
            prop_assert!(dump.take(100_000).count() < 100_000);
        }
    }
}
