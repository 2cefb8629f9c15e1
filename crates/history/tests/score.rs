//! `foreshock score` as a whole: files in, files out.

#![allow(clippy::unwrap_used)] // a test that can't go on should stop

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use foreshock_history::score::{ScoreError, ScoreOptions, ScoreSummary, score};
use tempfile::TempDir;

/// A deterministic number in 0 .. 1 (SplitMix64).
fn noise(i: u64) -> f64 {
    let mut z = i.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Noise about 100 with a spike at row 900 and missing values.
fn wide(rows: u64) -> String {
    let mut text = "timestamp,cpu,latency\n".to_owned();
    for i in 0..rows {
        let spike = if i == 900 { 80.0 } else { 0.0 };
        let cpu = 100.0 + 10.0 * noise(i) + spike;
        let latency = if i % 97 == 0 {
            "NaN".to_owned()
        } else {
            (5.0 + noise(i + 1_000_000)).to_string()
        };
        let _ = writeln!(text, "{},{cpu},{latency}", 1_700_000_000 + 60 * i);
    }
    text
}

fn run_bytes(bytes: &[u8], per_series: bool) -> (Result<ScoreSummary, ScoreError>, Option<String>, Vec<PathBuf>) {
    let folder = TempDir::new().unwrap();
    let (input, output) = (folder.path().join("in.csv"), folder.path().join("out.csv"));
    fs::File::create(&input).unwrap().write_all(bytes).unwrap();
    let result = score(
        &ScoreOptions {
            input,
            output: output.clone(),
            per_series,
        },
        &mut |_| {},
    );
    let left = fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    (result, fs::read_to_string(output).ok(), left)
}

fn run(text: &str, per_series: bool) -> String {
    let (result, output, _) = run_bytes(text.as_bytes(), per_series);
    result.unwrap();
    output.unwrap()
}

fn first_lines(text: &str, lines: usize) -> String {
    text.split_inclusive('\n').take(lines).collect()
}

#[test]
fn a_truncated_input_gives_a_truncated_output_byte_for_byte() {
    let input = wide(1200);
    let long: String =
        input
            .lines()
            .skip(1)
            .enumerate()
            .fold("timestamp,series,value\n".to_owned(), |mut out, (i, l)| {
                let fields: Vec<&str> = l.split(',').collect();
                let _ = writeln!(out, "{},s{},{}", fields[0], i % 3, fields[1]);
                out
            });
    for (text, per_series) in [(&input, true), (&input, false), (&long, true)] {
        let whole = run(text, per_series);
        assert_eq!(whole.lines().count(), 1201);
        for cut in 0..12u64 {
            let rows = 1 + (noise(cut + 77) * 1200.0) as usize;
            assert_eq!(
                run(&first_lines(text, rows), per_series),
                first_lines(&whole, rows),
                "cut at {rows}"
            );
        }
    }
}

#[test]
fn a_spike_is_the_strangest_row_and_is_told_once() {
    let output = run(&wide(1200), true);
    assert!(output.starts_with("timestamp,score,alert_score,cpu,latency\n"));
    let rows: Vec<Vec<f64>> = output
        .lines()
        .skip(1)
        .map(|l| l.split(',').map(|f| f.parse().unwrap()).collect())
        .collect();
    let strangest = (0..rows.len())
        .max_by(|&a, &b| rows[a][1].total_cmp(&rows[b][1]))
        .unwrap();
    assert_eq!(strangest, 900);
    assert!(rows[900][1] > 3.0, "surprise {}", rows[900][1]);
    // Within the refractory time; one row in a hundred passes the level at which `score` tells, and may do so elsewhere.
    let told = rows[890..990].iter().filter(|r| r[2] > 0.0).count();
    assert_eq!(told, 1, "told once");
    for row in &rows {
        assert!(row[2] == 0.0 || row[2] == row[1], "an alert's score is the row's score");
    }
    assert!(rows[..32].iter().all(|r| r[1] == 0.0), "silent at first");
}

#[test]
fn times_are_repeated_as_they_were_written() {
    let output = run(
        "timestamp,a\n2026-01-31 12:00:00,1\n2026-01-31T12:00:01Z,2\n1700000000123,\n",
        false,
    );
    let times: Vec<&str> = output.lines().skip(1).map(|l| l.split(',').next().unwrap()).collect();
    assert_eq!(times, ["2026-01-31 12:00:00", "2026-01-31T12:00:01Z", "1700000000123"]);
}

#[test]
fn compressed_input_gives_the_same_scores() {
    let text = wide(200);
    let plain = run(&text, false);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    for bytes in [gzip.finish().unwrap(), zstd::encode_all(text.as_bytes(), 1).unwrap()] {
        assert_eq!(run_bytes(&bytes, false).1.unwrap(), plain);
    }
}

#[test]
fn bad_data_leaves_nothing_behind() {
    let (result, output, left) = run_bytes(b"timestamp,a\n60,1\n61,oops\n", false);
    let error = result.unwrap_err();
    assert!(error.is_bad_data());
    assert!(
        error
            .to_string()
            .contains("in.csv: line 3, column a: expected a number"),
        "{error}"
    );
    assert!(output.is_none());
    assert_eq!(left.len(), 1, "no partial file: {left:?}");

    let missing = ScoreOptions {
        input: Path::new("/nonexistent/in.csv").into(),
        output: "/nonexistent/out.csv".into(),
        per_series: false,
    };
    assert!(!score(&missing, &mut |_| {}).unwrap_err().is_bad_data());
}

#[test]
fn any_bytes_give_an_answer() {
    for seed in 0..200u64 {
        let len = (noise(seed) * 300.0) as u64;
        let mut bytes = b"timestamp,a\n".to_vec();
        if seed % 3 == 0 {
            bytes.clear();
        }
        bytes.extend((0..len).map(|i| (noise(seed * 1000 + i) * 256.0) as u8));
        let _ = run_bytes(&bytes, seed % 2 == 0);
    }
}

#[test]
fn counts_what_it_saw() {
    let (result, _, _) = run_bytes(wide(1200).as_bytes(), false);
    let summary = result.unwrap();
    assert_eq!((summary.rows, summary.series, summary.missing), (1200, 2, 13));
    assert!(summary.alerts >= 1);
}

/// Two metrics that always move together come apart, each within its own usual range: only the row score can say so.
#[test]
fn a_broken_relation_is_told_in_the_row_score() {
    let mut text = String::from("timestamp,a,b,c\n");
    for i in 0..1_200u64 {
        let common = noise(i) * 3.0;
        let apart = if (1_000..1_040).contains(&i) {
            noise(i + 777_777) * 3.0
        } else {
            common
        };
        let (a, b, c) = (common, apart, common);
        let rest = |k: u64| 0.2 * noise(i * 3 + k + 50_000);
        text += &format!(
            "{},{},{},{}\n",
            i * 60,
            20.0 + a + rest(0),
            40.0 + b + rest(1),
            60.0 + c + rest(2)
        );
    }
    let out = run(&text, true);
    let rows: Vec<Vec<f64>> = out
        .lines()
        .skip(1)
        .map(|line| line.split(',').skip(1).map(|x| x.parse().expect("a number")).collect())
        .collect();
    let most = |rows: &[Vec<f64>], column: usize| rows.iter().map(|r| r[column]).fold(0.0, f64::max);
    let (before, during) = (&rows[700..1_000], &rows[1_000..1_040]);
    assert!(
        most(during, 0) > most(before, 0) + 1.0,
        "{} after {}",
        most(during, 0),
        most(before, 0)
    );
    assert!(most(during, 0) >= 3.0, "{}", most(during, 0));
    assert!(
        (2..5).all(|column| most(during, column) < 3.0),
        "no single series shows it"
    );
}
