use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::STATE_VERSION;
use super::super::layout::trace::layout_of;
use super::plan::How;
use super::*;
use crate::{correlate, detect};

/// Tables of a stage, how many entries a block has, and its layout.
type Tables = Vec<(Part, usize, Layout)>;

fn stages() -> [(Stage, Tables); 2] {
    [
        (Stage::Detect, detect::layouts()),
        (Stage::Correlate, correlate::layouts()),
    ]
}

/// The layout of this program's state, as it is written down.
fn present() -> String {
    let mut text = String::new();
    for (stage, tables) in stages() {
        for (part, size, layout) in tables {
            let name = Part::ALL.iter().find(|(p, _)| *p == part).unwrap().1;
            writeln!(text, "{} {name} of {size}: {layout}", stage.name()).unwrap();
        }
    }
    text
}

#[test]
fn the_layout_is_that_of_its_version() {
    let text = present();
    if std::env::var_os("UPDATE_LAYOUT").is_some() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/state/migrate/layouts");
        std::fs::write(folder.join(format!("{STATE_VERSION}.txt")), &text).unwrap();
        return;
    }
    let differs = text.lines().zip(PRESENT.lines()).position(|(is, was)| is != was);
    let line = differs.or((text.len() != PRESENT.len()).then(|| text.lines().count().min(PRESENT.lines().count())));
    if let Some(line) = line {
        let at = |text: &str| text.lines().nth(line).unwrap_or("the end").trim().to_owned();
        panic!(
            "the layout of a state changed, at line {} of layouts/{STATE_VERSION}.txt: was `{}`, is `{}`. States that were \
             stored would be read wrongly. If it is not meant, undo it. If it is, raise STATE_VERSION and write a step from \
             {STATE_VERSION}: state/migrate/mod.rs says how",
            line + 1,
            at(PRESENT),
            at(&text)
        );
    }
}

#[test]
fn a_layout_is_read_as_it_is_written() {
    for text in STEPS.iter().map(|step| step.layout).chain([PRESENT]) {
        let mut again = String::new();
        for (name, layout) in parts(0, &mut text.lines().peekable()).unwrap() {
            writeln!(again, "{name}: {layout}").unwrap();
        }
        assert_eq!(again, text);
    }
    for text in ["a", "a: b", "a: map\n  key: u8", "a: array x u8", "a: option"] {
        assert!(parts(0, &mut text.lines().peekable()).is_none(), "{text}");
    }
}

#[test]
fn every_step_leads_to_the_next_version_and_every_change_is_needed() {
    let versions: Vec<u16> = STEPS.iter().map(|step| step.from).collect();
    let expected: Vec<u16> = (versions[0]..STATE_VERSION).collect();
    assert_eq!(versions, expected);
    for (step, next) in steps_from(versions[0]).unwrap() {
        let mut changes = Changes::new(step.changes);
        for (stage, _) in stages() {
            if let Err(error) = plans(stage, step, next, &mut changes) {
                panic!("from {}, {stage:?}: {error}", step.from);
            }
        }
        assert_eq!(changes.unused(), [""; 0], "from {}", step.from);
    }
    for version in versions {
        assert!(
            stages()
                .iter()
                .all(|(stage, _)| Migration::find(*stage, version).is_some())
        );
    }
    assert!(Migration::find(Stage::Detect, 0).is_none());
    assert!(Migration::find(Stage::Detect, STATE_VERSION + 1).is_none());
}

/// One of everything, as it was…
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Then {
    gone: String,
    count: u16,
    kind: KindThen,
    list: Vec<KindThen>,
    onset: i64,
    by_name: std::collections::BTreeMap<String, Option<KindThen>>,
    pair: (KindThen, u8),
    many: [KindThen; 3],
    real: f32,
    size: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum KindThen {
    Some(i16),
    Lost,
    Other { a: bool, b: f64 },
}

/// … and as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Now {
    list: Vec<KindNow>,
    real: f32,
    count: u64,
    kind: KindNow,
    course: CourseNow,
    by_name: std::collections::BTreeMap<String, Option<KindNow>>,
    pair: (KindNow, u8),
    many: [KindNow; 3],
    new: NewNow,
    size: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct CourseNow {
    onset: i64,
    texts: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct NewNow {
    least: f64,
    told: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum KindNow {
    New,
    Other { c: Option<u8>, b: f64, a: bool },
    Some(i32),
}

const CHANGES: &[Change] = &[
    Change {
        of: "Now",
        field: "course",
        how: How::Gathers,
    },
    Change {
        of: "NewNow",
        field: "least",
        how: How::Begins(|| postcard::to_stdvec(&f64::INFINITY)),
    },
    Change {
        of: "Now",
        field: "size",
        how: How::Remade(|bytes| postcard::to_stdvec(&postcard::from_bytes::<u32>(bytes)?.to_string())),
    },
];

fn then(kind: KindThen) -> Then {
    Then {
        gone: "x".into(),
        count: 300,
        kind,
        list: vec![kind; 200],
        onset: -5,
        by_name: [("a".to_owned(), Some(kind)), ("b".to_owned(), None)].into(),
        pair: (kind, 200),
        many: [kind; 3],
        real: -0.0,
        size: 70_000,
    }
}

fn now(kind: KindNow) -> Now {
    Now {
        list: vec![kind; 200],
        real: -0.0,
        count: 300,
        kind,
        course: CourseNow {
            onset: -5,
            texts: vec![],
        },
        by_name: [("a".to_owned(), Some(kind)), ("b".to_owned(), None)].into(),
        pair: (kind, 200),
        many: [kind; 3],
        new: NewNow {
            least: f64::INFINITY,
            told: None,
        },
        size: "70000".into(),
    }
}

fn plan(changes: &'static [Change]) -> Result<Plan, String> {
    Plan::new(&layout_of::<Then>(), &layout_of::<Now>(), &mut Changes::new(changes))
}

fn migrated(plan: &Plan, bytes: &[u8]) -> Result<Now, Torn> {
    let (mut rest, mut out) = (bytes, Vec::new());
    plan.apply(&mut rest, &mut out)?;
    assert!(rest.is_empty());
    match postcard::take_from_bytes(&out) {
        Ok((now, [])) => Ok(now),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_in_both_is_kept_by_name_and_what_is_new_begins_empty() {
    let plan = plan(CHANGES).unwrap();
    let kinds = [
        (KindThen::Some(-300), KindNow::Some(-300)),
        (
            KindThen::Other { a: true, b: f64::NAN },
            KindNow::Other {
                c: None,
                b: f64::NAN,
                a: true,
            },
        ),
    ];
    for (was, is) in kinds {
        let bytes = postcard::to_stdvec(&then(was)).unwrap();
        // NaN is not itself.
        assert_eq!(
            format!("{:?}", migrated(&plan, &bytes).unwrap()),
            format!("{:?}", now(is))
        );
        for cut in 0..bytes.len() {
            assert_eq!(migrated(&plan, &bytes[..cut]), Err(Torn), "{cut}");
        }
    }
    let lost = postcard::to_stdvec(&then(KindThen::Lost)).unwrap();
    assert_eq!(migrated(&plan, &lost), Err(Torn), "a variant that is gone");
}

#[test]
fn what_nothing_says_is_no_way() {
    for (left, expected) in [
        (&CHANGES[1..], "nothing says what CourseNow.onset begins with"),
        (&CHANGES[..1], "nothing says what NewNow.least begins with"),
        (&CHANGES[..2], "nothing says how this"),
    ] {
        let error = plan(left).err().unwrap();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn numbers_may_become_wider_and_nothing_else() {
    let becomes = |a: Layout, b: Layout| a.becomes(&b);
    assert!(becomes(layout_of::<(u16, i32)>(), layout_of::<(u64, i32)>()));
    assert!(!becomes(layout_of::<u64>(), layout_of::<u32>()));
    assert!(!becomes(layout_of::<u32>(), layout_of::<i64>()));
    assert!(!becomes(layout_of::<u8>(), layout_of::<u16>()), "the one is a byte");
    assert!(!becomes(layout_of::<f32>(), layout_of::<f64>()));
    assert!(!becomes(layout_of::<[u8; 3]>(), layout_of::<[u8; 4]>()));
}

#[test]
fn a_length_that_is_longer_than_the_bytes_ends_at_once() {
    let layout = layout_of::<Vec<()>>();
    let bytes = postcard::to_stdvec(&u64::MAX).unwrap();
    assert_eq!(layout.skip(&mut &*bytes), Err(Torn));
}
