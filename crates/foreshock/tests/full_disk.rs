//! Commands whose output does not fit on its disk: they say what, where and what to do, and leave nothing that looks whole.
//!
//! See `volume.rs`: this needs root.

#[path = "../../../tests/kafka/volume.rs"]
mod volume;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use volume::{Volume, is_skipped};

fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data").join(name);
    path.to_str().expect("UTF-8").to_owned()
}

/// What lies in a folder and below it.
fn left(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        all.push(entry.path().strip_prefix(folder).expect("in it").display().to_string());
        if entry.path().is_dir() {
            all.extend(left(&entry.path()));
        }
    }
    all
}

#[test]
fn what_does_not_fit_is_said_and_nothing_looks_whole() {
    if is_skipped() {
        return;
    }
    let scratch = tempfile::tempdir().expect("a folder");
    let volume = Volume::mount(&scratch.path().join("volume"), 64);
    let at = |name: &str| volume.folder().join(name).to_str().expect("UTF-8").to_owned();
    let rows: String = (0..5_000)
        .map(|i| format!("2026-01-01 00:{:02}:{:02},{}\n", i / 60 % 60, i % 60, i % 7))
        .collect();
    let csv = scratch.path().join("in.csv");
    fs::write(&csv, format!("timestamp,load\n{rows}")).expect("written");
    let csv = csv.to_str().expect("UTF-8");
    let incident = [
        ("--config", data("memory-leak/foreshock.toml")),
        ("--metrics", data("memory-leak/metrics.jsonl.zst")),
        ("--logs", data("memory-leak/logs.jsonl.zst")),
        ("--failures", data("memory-leak/failures.csv")),
    ];
    let fleet = [
        ("--config", data("fleet/foreshock.toml")),
        ("--metrics", data("fleet/metrics.jsonl.zst")),
        ("--logs", data("fleet/logs.jsonl.zst")),
        ("--failures", data("fleet/failures.csv")),
    ];
    let of = |inputs: &[(&str, String)], more: &[&str]| -> Vec<String> {
        let inputs = inputs
            .iter()
            .flat_map(|(name, file)| [(*name).to_owned(), file.clone()]);
        let terms = [
            "--lead",
            "30s",
            "--horizon",
            "5m",
            "--apart",
            "kill",
            "--apart",
            "bad-config",
            "--apart",
            "unplanned",
        ];
        inputs
            .chain(terms.iter().chain(more).map(|a| (*a).to_owned()))
            .collect()
    };
    // What is written, how much room there is in KiB, and how it is made.
    let cases: [(&str, u64, &str, Vec<String>); 6] = [
        (
            "scores.csv",
            8,
            "score",
            [csv, "--output", &at("scores.csv")].map(str::to_owned).into(),
        ),
        (
            "rows.csv",
            8,
            "templates",
            [csv, "--output", &at("rows.csv")].map(str::to_owned).into(),
        ),
        ("e.jsonl", 4, "backtest", of(&incident, &["--events", &at("e.jsonl")])),
        ("r.json", 0, "backtest", of(&incident, &["--json", &at("r.json")])),
        ("r.html", 0, "backtest", of(&incident, &["--report", &at("r.html")])),
        ("models", 4, "train", of(&fleet, &["--output", &at("models")])),
    ];
    for (name, room_kib, command, args) in cases {
        volume.fill(room_kib);
        let mut run = Command::new(env!("CARGO_BIN_EXE_foreshock"));
        run.arg(command)
            .args(&args)
            .env_remove("FORESHOCK_LOG")
            .stdin(Stdio::null());
        let done = run.output().expect("it runs");
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(74), "{command} {name}: {said}");
        // What is written beside it bears its name.
        let wanted = [&*at(""), name, "No space left on device", "help: make room there"];
        for text in wanted {
            assert!(said.contains(text), "{command} {name}: {text} is not in {said}");
        }
        let mut found = left(volume.folder());
        found.retain(|entry| entry != "filler" && entry != "models");
        assert!(found.is_empty(), "{command} {name}: {found:?}");
        volume.free();
    }
}
