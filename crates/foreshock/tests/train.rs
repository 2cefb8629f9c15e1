//! `train` as scripts see it, on the recorded fleet: a model that foretells what it never saw, and what is said where there is none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What the time before the last failures ends with.
const UNTIL: &str = "2026-11-25T12:05:00Z";

fn foreshock(args: &[String]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foreshock"));
    command.args(args).env_remove("FORESHOCK_LOG").stdin(Stdio::null());
    command.output().expect("the binary runs")
}

fn fleet(name: &str) -> String {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/fleet");
    data.join(name).to_str().expect("UTF-8").to_owned()
}

/// The fleet's configuration, and more.
fn config(folder: &Path, more: &str) -> String {
    let text = fs::read_to_string(fleet("foreshock.toml")).expect("the fleet's configuration");
    let text = text + more;
    let path = folder.join("foreshock.toml");
    fs::write(&path, text).expect("a file");
    path.to_str().expect("UTF-8").to_owned()
}

fn args(command: &str, config: &str, more: &[&str]) -> Vec<String> {
    let (metrics, logs, failures) = (
        fleet("metrics.jsonl.zst"),
        fleet("logs.jsonl.zst"),
        fleet("failures.csv"),
    );
    let common = [
        command,
        "--config",
        config,
        "--metrics",
        &metrics,
        "--logs",
        &logs,
        "--failures",
        &failures,
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
    common.iter().chain(more).map(|a| (*a).to_owned()).collect()
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn what_was_learned_foretells_what_comes_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let config_path = config(folder.path(), "");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let models = path("models");
    let done = foreshock(&args("train", &config_path, &["--until", UNTIL, "--output", &models]));
    assert_eq!(done.status.code(), Some(0), "{}", said(&done));
    assert!(
        said(&done).contains("average precision") && said(&done).contains("written and in use"),
        "{}",
        said(&done)
    );
    for name in ["current", "1/model.json", "1/manifest.json", "1/MODEL_CARD.md"] {
        assert!(PathBuf::from(&models).join(name).is_file(), "{name}");
    }

    let (json, predictions, report) = (path("out.json"), path("p.csv"), path("out.html"));
    let more = [
        "--model",
        &models,
        "--from",
        UNTIL,
        "--json",
        &json,
        "--predictions",
        &predictions,
        "--report",
        &report,
    ];
    let judged = foreshock(&args("backtest", &config_path, &more));
    assert_eq!(judged.status.code(), Some(0), "{}", said(&judged));
    let figures: serde_json::Value = serde_json::from_slice(&fs::read(&json).expect("figures")).expect("JSON");
    let number = |pointer: &str| {
        figures
            .pointer(pointer)
            .and_then(serde_json::Value::as_f64)
            .expect("a number")
    };
    // Far above chance, of failures that it never saw.
    assert!(
        number("/recall/share") > 0.5 && number("/precision/share") > 0.7,
        "{figures}"
    );
    assert!(number("/recall/share") > number("/chance_recall") + 0.2, "{figures}");
    assert!(number("/calibration/average_precision") > number("/calibration/base_rate") + 0.3);
    assert!(number("/calibration/reliability_error") < 0.2);
    assert!(figures.pointer("/all_precursors/recall").is_some());
    let written = fs::read_to_string(&predictions).expect("predictions");
    let mut lines = written.lines();
    assert_eq!(lines.next(), Some("entity,timestamp,horizon_s,probability"));
    let probabilities: Vec<f64> = lines
        .map(|l| {
            l.rsplit(',')
                .next()
                .and_then(|p| p.parse().ok())
                .expect("a probability")
        })
        .collect();
    assert!(probabilities.len() > 5_000 && probabilities.iter().all(|p| (0.0..=1.0).contains(p)));
    assert!(fs::read_to_string(&report).expect("a page").contains("Reliability"));

    // `inspect` and `check` know it.
    let versions = foreshock(&["inspect".into(), models.clone()]);
    assert!(said(&versions).contains("1 (in use)"), "{}", said(&versions));
    let named = config(folder.path(), "\n[predict]\nmodel = \"models\"\n");
    let checked = foreshock(&["check".into(), "--offline".into(), "--config".into(), named]);
    assert_eq!(checked.status.code(), Some(0), "{}", said(&checked));
    assert!(
        said(&checked).contains("foresees failures within"),
        "{}",
        said(&checked)
    );

    // Windows of another width have other features.
    let other = fs::read_to_string(&config_path)
        .expect("a file")
        .replace("width = \"5s\"", "width = \"10s\"");
    fs::write(&config_path, other).expect("a file");
    let refused = foreshock(&args("backtest", &config_path, &["--model", &models]));
    assert_eq!(refused.status.code(), Some(78), "{}", said(&refused));
    assert!(said(&refused).contains("windows of 5"), "{}", said(&refused));
}

#[test]
fn what_can_not_be_learned_is_said_and_nothing_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(folder.path(), "");
    let models = folder.path().join("models").to_str().expect("UTF-8").to_owned();
    let cases: [(&str, &[&str], i32, &str); 3] = [
        (
            "too early for failures",
            &["--until", "2026-11-25T11:24:00Z"],
            65,
            "expected at least 6",
        ),
        (
            "a horizon within the lead",
            &["--horizon", "10s"],
            64,
            "--horizon is not longer than --lead",
        ),
        (
            "failures that are not there",
            &["--failures", "/nowhere.csv"],
            74,
            "/nowhere.csv",
        ),
    ];
    for (name, change, code, expected) in cases {
        let mut all = args("train", &config, &["--output", &models]);
        // The last of two would not count: options may be given once.
        if let Some(place) = all.iter().position(|a| a == change[0]) {
            all[place + 1] = change[1].to_owned();
        } else {
            all.extend(change.iter().map(|c| (*c).to_owned()));
        }
        let failed = foreshock(&all);
        assert_eq!(failed.status.code(), Some(code), "{name}: {}", said(&failed));
        assert!(said(&failed).contains(expected), "{name}: {}", said(&failed));
        assert!(!Path::new(&models).exists(), "{name}");
    }
}
