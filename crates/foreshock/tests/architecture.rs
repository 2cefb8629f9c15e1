//! The floors of the architecture, held by force: arrows point down and never sideways, and what is impure stays above.

// A test says what is wrong by panicking.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Lowest first; see `docs/architecture.md`.
const FLOORS: [&[&str]; 5] = [
    &["foreshock-domain", "foreshock-stats"],
    &[
        "foreshock-metrics",
        "foreshock-logs",
        "foreshock-failure",
        "foreshock-wire",
    ],
    &["foreshock-engine"],
    &["foreshock-kafka", "foreshock-history"],
    &["foreshock", COMPARE],
];

/// The comparison with rivals: on the top floor, so that nothing can depend on it.
const COMPARE: &str = "foreshock-compare";

/// Nothing depends on it, and it depends on nothing of ours.
const APART: &str = "foreshock-lab";

/// The lowest floor on which a package may be used, or the only crate that may.
const IMPURE: [(&str, &[&str]); 10] = [
    ("rdkafka", &["foreshock-kafka"]),
    ("tokio", &["foreshock"]),
    ("axum", &["foreshock"]),
    ("hyper", &["foreshock"]),
    ("hyper-util", &["foreshock"]),
    ("clap", &["foreshock", APART, COMPARE]),
    ("indicatif", &["foreshock", COMPARE]),
    ("anyhow", &["foreshock", APART, COMPARE]),
    ("hostname", &["foreshock"]),
    ("tracing-subscriber", &["foreshock"]),
];

/// What a source below the third floor must not name.
const FORBIDDEN: [&str; 11] = [
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "SystemTime",
    "Instant",
    "async fn",
    "rand::",
    "RandomState",
    "HashSet::new()",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&name))
}

/// Normal and build dependencies of each of our crates; tests may use what they like.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let mut command = MetadataCommand::new();
    command.manifest_path(root().join("Cargo.toml")).no_deps();
    let metadata = command.exec().expect("cargo metadata");
    let dependencies = |p: &cargo_metadata::Package| {
        p.dependencies
            .iter()
            .filter(|d| d.kind != DependencyKind::Development)
            .map(|d| d.name.clone())
            .collect()
    };
    metadata
        .packages
        .iter()
        .map(|p| (p.name.to_string(), dependencies(p)))
        .collect()
}

#[test]
fn arrows_point_down_and_never_sideways() {
    for (from, all) in dependencies() {
        for to in all.iter().filter(|to| to.starts_with("foreshock")) {
            let (Some(from_floor), Some(to_floor)) = (floor(&from), floor(to)) else {
                panic!("{from} depends on {to}: one of them stands on no floor");
            };
            assert!(
                to_floor < from_floor,
                "{from} (floor {from_floor}) depends on {to} (floor {to_floor})"
            );
        }
    }
}

#[test]
fn every_crate_stands_on_a_floor_or_apart() {
    let ours: BTreeSet<String> = dependencies().into_keys().collect();
    let known: BTreeSet<String> = FLOORS
        .iter()
        .copied()
        .flatten()
        .chain([&APART])
        .map(|s| (*s).to_owned())
        .collect();
    assert_eq!(ours, known);
}

#[test]
fn what_is_impure_stays_where_it_belongs() {
    for (from, all) in dependencies() {
        for (package, allowed) in IMPURE {
            let uses = all.contains(package);
            assert!(
                !uses || allowed.contains(&from.as_str()),
                "{from} depends on {package}; only {allowed:?} may"
            );
        }
    }
}

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The code of a file: without its tests at the end, and without comments.
fn code(text: &str) -> String {
    let production = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = production
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn below_the_third_floor_there_is_no_clock_no_thread_and_no_outside() {
    let mut seen = 0;
    for name in FLOORS[..3].iter().copied().flatten() {
        let folder = root()
            .join("crates")
            .join(name.trim_start_matches("foreshock-"))
            .join("src");
        let mut files = Vec::new();
        sources(&folder, &mut files);
        for file in files.iter().filter(|f| !f.ends_with("tests.rs")) {
            let code = code(&fs::read_to_string(file).expect("a source"));
            for word in FORBIDDEN {
                assert!(!code.contains(word), "{} uses {word}", file.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 30, "the sources were found");
}

#[test]
fn the_scan_sees_code_and_not_comments_or_tests() {
    let text = "use std::fs; // std::net\n/// SystemTime\n#[cfg(test)]\nmod t { use std::thread; }";
    assert_eq!(code(text).trim(), "use std::fs;");
}
