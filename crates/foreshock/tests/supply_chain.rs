//! What is built into the program, held by the lists of `deny.toml` without the tool that reads them otherwise: licences, sources,
//! banned crates.

// A test says what is wrong by panicking.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{Metadata, MetadataCommand, Package};
use toml::{Table, Value};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(["--all-features".to_owned(), "--locked".to_owned()])
        .exec()
        .expect("cargo metadata")
}

fn lists() -> Table {
    fs::read_to_string(root().join("deny.toml"))
        .unwrap()
        .parse()
        .expect("deny.toml is TOML")
}

fn texts(value: &Value) -> BTreeSet<String> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap().to_owned())
        .collect()
}

/// Whether an SPDX expression is met by what is allowed: `A OR B` by either, `A AND B` by both, parentheses first. The slash of
/// old manifests is an OR.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let met = any_of(&mut words, allowed);
    assert!(words.next().is_none(), "an expression that is not read: {expression}");
    met
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = all_of(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all_of(words, allowed);
    }
    met
}

fn all_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let word = words.next().expect("a licence");
    if word == "(" {
        let met = any_of(words, allowed);
        assert_eq!(words.next(), Some(")"), "a parenthesis that stays open");
        return met;
    }
    let mut licence = word.to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        licence = format!("{licence} WITH {}", words.next().expect("an exception"));
    }
    allowed.contains(&licence)
}

fn is_ours(package: &Package) -> bool {
    package.source.is_none()
}

#[test]
fn every_licence_is_allowed() {
    let lists = lists();
    let licences = &lists["licenses"];
    let allowed = texts(&licences["allow"]);
    let clarified = licences["clarify"].as_array().unwrap();
    let metadata = metadata();
    let mut used = BTreeSet::new();
    for package in &metadata.packages {
        let stated = package.license.as_deref().or_else(|| {
            let of_it = clarified
                .iter()
                .find(|c| c["crate"].as_str() == Some(package.name.as_str()))?;
            of_it["expression"].as_str()
        });
        let stated = stated.unwrap_or_else(|| panic!("{} names no licence", package.id));
        assert!(is_met(stated, &allowed), "{} is under {stated}", package.id);
        used.extend(allowed.iter().filter(|a| stated.contains(a.as_str())).cloned());
    }
    assert_eq!(used, allowed, "no licence is allowed that nothing has");
    assert!(metadata.packages.len() > 100, "the whole tree was read");
}

#[test]
fn crates_come_from_one_registry_and_none_is_banned() {
    let lists = lists();
    let registries = texts(&lists["sources"]["allow-registry"]);
    assert!(texts(&lists["sources"]["allow-git"]).is_empty());
    let banned: Vec<&str> = lists["bans"]["deny"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|b| b["crate"].as_str())
        .collect();
    assert!(!banned.is_empty());
    for package in metadata().packages {
        assert!(
            !banned.contains(&package.name.as_str()),
            "{} is banned, see deny.toml",
            package.id
        );
        match &package.source {
            Some(source) => {
                let registry = source.repr.strip_prefix("registry+").unwrap_or(&source.repr);
                assert!(
                    registries.contains(registry),
                    "{} comes from {}",
                    package.id,
                    source.repr
                );
            }
            None => assert!(
                package
                    .manifest_path
                    .starts_with(fs::canonicalize(root()).unwrap().to_str().unwrap()),
                "{} lies outside of the repository",
                package.id
            ),
        }
        if is_ours(&package) {
            let open = package
                .dependencies
                .iter()
                .find(|d| d.path.is_none() && d.req.to_string() == "*");
            assert!(open.is_none(), "{}: any version will do for {open:?}", package.name);
        }
    }
}

/// One TLS stack and one Kafka client in what is shipped; more are more to mend.
#[test]
fn what_is_shipped_has_one_of_each_that_matters() {
    let metadata = metadata();
    for name in [
        "rdkafka",
        "rdkafka-sys",
        "openssl-sys",
        "openssl-src",
        "tokio",
        "hyper",
        "serde_json",
        "zstd-sys",
    ] {
        let versions: BTreeSet<String> = metadata
            .packages
            .iter()
            .filter(|p| p.name.as_str() == name)
            .map(|p| p.version.to_string())
            .collect();
        assert_eq!(versions.len(), 1, "{name}: {versions:?}");
    }
}

#[test]
fn expressions_are_read() {
    let allowed: BTreeSet<String> = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"]
        .map(str::to_owned)
        .into();
    let cases = [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("GPL-3.0 AND MIT", false),
        ("(MIT OR Apache-2.0) AND ISC", true),
        ("(Apache-2.0 OR GPL-2.0) AND ISC", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
        ("GPL-2.0 AND MIT OR ISC", true),
    ];
    for (expression, met) in cases {
        assert_eq!(is_met(expression, &allowed), met, "{expression}");
    }
}
