//! Files of OpenSLO, one folder each: `slo.yaml`, and either `expected.toml`, the rules that are taken as they would be stated by
//! hand with what is noted, or `expected.txt`, the error. `UPDATE_GOLDEN=1` writes what is expected anew.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that fails may say so

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use foreshock_failure::{FailureConfig, OpenSlo, Rules};

fn told(found: &OpenSlo) -> String {
    let mut out = String::new();
    for note in &found.notes {
        writeln!(out, "# {note}").unwrap();
    }
    for rule in &found.rules {
        write!(out, "\n[[slo]]\n{}", toml::to_string(rule).unwrap()).unwrap();
    }
    out
}

#[test]
fn files_are_taken_as_written_or_refused_with_their_place() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openslo");
    let mut cases: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 10, "{cases:?}");
    for case in cases {
        let text = fs::read_to_string(case.join("slo.yaml")).unwrap();
        let (file, found) = match OpenSlo::parse(&text, None) {
            Ok(found) => {
                let told = told(&found);
                // By hand it would be the same rules, and they are usable.
                let by_hand: FailureConfig = toml::from_str(&told).unwrap();
                assert_eq!(by_hand.slo, found.rules, "{}", case.display());
                Rules::new(&by_hand).unwrap();
                ("expected.toml", told)
            }
            Err(error) => {
                let help = error.help.map(|h| format!("help: {h}\n")).unwrap_or_default();
                ("expected.txt", format!("{error}\n{help}"))
            }
        };
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(case.join(file), &found).unwrap();
        }
        let expected = fs::read_to_string(case.join(file)).unwrap_or_else(|e| panic!("{} {file}: {e}", case.display()));
        assert_eq!(found, expected, "{}", case.display());
    }
}

#[test]
fn some_of_a_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openslo");
    let text = fs::read_to_string(folder.join("several_documents/slo.yaml")).unwrap();
    let only = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        OpenSlo::parse(&text, Some(&names)).map(|o| o.rules.len())
    };
    assert_eq!(only(&["cart-availability"]), Ok(1));
    let error = only(&["cart"]).unwrap_err().to_string();
    assert_eq!(
        error,
        "the file: there is no SLO cart, expected names of those in it: cart-availability, checkout-availability"
    );
}

/// Deep, wide and self-referring texts end soon, in an error and not in a panic.
#[test]
fn hostile_files() {
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
    for text in [
        "",
        "---\n---\n",
        "- - - -",
        "a: [",
        "\u{0}",
        "{}",
        "7",
        "x: {y: z",
        bomb,
        &"[".repeat(100_000),
        &"- ".repeat(100_000),
    ] {
        let error = OpenSlo::parse(text, None).unwrap_err().to_string();
        assert!(!error.is_empty() && error.len() < 2_000, "{error}");
    }
}
