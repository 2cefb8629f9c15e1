use foreshock_domain::Entity;
use foreshock_failure::predict::{Odds, PER_SERIES, key_of};

use super::rows::Target;
use super::*;
use crate::labels::Label;

const MINUTE_MS: Millis = 60_000;
const START_MS: Millis = 1_700_000_000_000;
const HORIZON_MS: Millis = 20 * MINUTE_MS;
const HOSTS: usize = 8;
/// A row a minute for two days.
const ROWS: i64 = 2_880;
/// Every host fails once in so many minutes, the hosts one after the other.
const PERIOD: i64 = 240;

fn at(minute: i64) -> Timestamp {
    Timestamp::from_millis(START_MS + minute * MINUTE_MS)
}

/// The same numbers on every machine.
fn noise(i: i64) -> f64 {
    let mut z = i.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
}

/// When a host fails, in minutes: not quite regular, so that the clock foretells nothing.
fn onsets(host: usize) -> Vec<i64> {
    let first = 100 + i64::try_from(host).unwrap() * 29;
    (0..)
        .map(|k| first + k * PERIOD + (noise(k * 31 + first) * 100.0) as i64)
        .take_while(|m| *m < ROWS)
        .collect()
}

fn label(host: usize, minute: i64) -> Label {
    Label {
        entity: Entity::new(&format!("host-{host}")),
        class: "crash".into(),
        onset: at(minute),
        end: Some(at(minute + 2)),
        lead_ms: None,
    }
}

fn labels() -> Vec<Label> {
    let of = |host| onsets(host).into_iter().map(move |m| label(host, m));
    let mut all: Vec<Label> = (0..HOSTS).flat_map(of).collect();
    all.sort_by_key(|l| l.onset);
    all
}

/// Rows in which one series rises over the half hour before a failure of its host, and one says nothing.
fn rows(labels: &[Label]) -> Rows {
    let mut rows = Rows::new(labels, &[], HORIZON_MS, MINUTE_MS);
    for minute in 0..ROWS {
        for host in 0..HOSTS {
            let next = onsets(host).into_iter().find(|m| *m > minute).unwrap_or(ROWS * 2);
            let grown = (30 - (next - minute)).max(0) as f64 / 10.0;
            let seed = minute * 100 + i64::try_from(host).unwrap();
            let series = |value: f64, seed: i64| {
                let mut features = [0.0; PER_SERIES];
                for (k, f) in (0..).zip(&mut features) {
                    *f = (value + noise(seed * 7 + k)) as f32;
                }
                features
            };
            rows.take(Moment {
                entity: Entity::new(&format!("host-{host}")),
                at: at(minute),
                probability: None,
                features: vec![
                    (key_of("leak"), series(grown, seed)),
                    (key_of("weather"), series(0.0, seed + 77)),
                ],
                names: vec![(key_of("leak"), "leak".into()), (key_of("weather"), "weather".into())],
            });
        }
    }
    rows
}

fn fitting() -> Fitting {
    Fitting {
        horizon_ms: HORIZON_MS,
        lead_ms: 5 * MINUTE_MS,
        window_ms: MINUTE_MS,
        false_a_day: 20.0,
    }
}

fn train(labels: &[Label]) -> Result<Trained, TrainError> {
    fitting().train(rows(labels), &mut |_| true)
}

#[test]
fn a_growth_that_comes_before_failures_is_learned() {
    let trained = train(&labels()).unwrap();
    let f = &trained.figures;
    assert!(f.by_row.average_precision > 0.9, "{:?}", f.by_row);
    assert!(f.by_row.reliability_error < 0.05, "{:?}", f.by_row);
    let w = f.warnings.as_ref().unwrap();
    assert!(
        w.recall.hits * 10 >= w.recall.of * 9 && w.precision.hits * 10 >= w.precision.of * 8,
        "{w:?}"
    );
    assert_eq!(trained.model.fault(), None);
}

#[test]
fn failures_of_other_hosts_and_times_teach_nothing() {
    // As many failures a host, at times that have nothing to do with what is seen.
    let shuffled: Vec<Label> = (0..HOSTS)
        .flat_map(|host| {
            onsets(host).into_iter().enumerate().map(move |(k, m)| {
                let shift = 60 + (noise(i64::try_from(host * 1_000 + k).unwrap()) * 110.0) as i64;
                label(host, (m + shift).min(ROWS - 1))
            })
        })
        .collect();
    let f = train(&shuffled).unwrap().figures.by_row;
    assert!(f.average_precision < f.base_rate + 0.1, "{f:?}");
    // It knows that it knows nothing.
    assert!(f.brier <= f.brier_of_base_rate * 1.1, "{f:?}");
}

#[test]
fn the_examination_is_the_same_whatever_happens_in_its_time() {
    let all = labels();
    let trained = train(&all).unwrap();
    // Every failure of the last part moves by a few minutes, and with it what the rows shortly before that part would know if
    // they were not purged. Parts are as before, and so must be what is said of the last one.
    let moved: Vec<Label> = all
        .iter()
        .map(|l| {
            let inside = l.onset >= trained.examined_from;
            let shift = if inside { 3 * MINUTE_MS } else { 0 };
            Label {
                onset: l.onset + shift,
                end: l.end.map(|e| e + shift),
                ..l.clone()
            }
        })
        .collect();
    assert_ne!(moved, all);
    let other = train(&moved).unwrap();
    assert_eq!(trained.examined_from, other.examined_from);
    let said = |t: &Trained| t.examined.iter().map(|s| (s.row, s.p.to_bits())).collect::<Vec<_>>();
    assert_eq!(said(&trained), said(&other));
    assert_ne!(
        trained.figures.by_row.average_precision, other.figures.by_row.average_precision,
        "the labels of the last part are those that it is judged by"
    );
}

#[test]
fn what_is_learned_ends_a_horizon_before_the_part_that_is_predicted() {
    let rows = rows(&labels());
    let targets: Vec<Target> = rows.rows.iter().map(|r| rows.target(r)).collect();
    let until = at(1_000);
    let part = fitting().part(&rows, &targets, until);
    let latest = part.of.iter().map(|(i, _)| rows.rows[*i].at).max().unwrap();
    assert_eq!(latest, at(1_000) - HORIZON_MS);
    // Rows inside failures are none.
    assert!(part.of.iter().all(|(_, t)| *t != Target::Unknown));
}

#[test]
fn targets_by_case() {
    let rows = rows(&[
        label(0, 100),
        Label {
            class: "kill".into(),
            ..label(1, 100)
        },
    ]);
    let row = |host: u32, minute: i64| {
        let place = rows
            .rows
            .iter()
            .position(|r| r.entity == host && r.at == at(minute))
            .unwrap();
        rows.target(&rows.rows[place])
    };
    let cases = [
        ("long before", row(0, 10), Target::Survives),
        ("a horizon before", row(0, 80), Target::In(HORIZON_MS)),
        ("just before", row(0, 99), Target::In(MINUTE_MS)),
        ("at the onset", row(0, 100), Target::Unknown),
        ("inside", row(0, 101), Target::Unknown),
        ("after", row(0, 103), Target::Survives),
        ("the data ends", row(0, ROWS - 2), Target::Unknown),
        ("another host", row(2, 99), Target::Survives),
    ];
    for (name, found, expected) in cases {
        assert_eq!(found, expected, "{name}");
    }
    let apart = FailureSpansOf(&[Label {
        class: "kill".into(),
        ..label(1, 100)
    }]);
    assert_eq!(apart.target(99), Target::Unknown, "before one that nobody can foretell");
}

struct FailureSpansOf<'a>(&'a [Label]);

impl FailureSpansOf<'_> {
    fn target(&self, minute: i64) -> Target {
        let spans = rows::FailureSpans::new(self.0, &["kill".to_owned()]);
        let known = rows::Known {
            seen: at(ROWS),
            until: at(ROWS),
        };
        spans.target(&Entity::new("host-1"), at(minute), HORIZON_MS, known)
    }
}

#[test]
fn too_few_failures_are_refused_by_number() {
    let few: Vec<Label> = labels().into_iter().take(FAILURES_MIN - 1).collect();
    assert!(matches!(train(&few), Err(TrainError::TooFew { found }) if found == FAILURES_MIN - 1));
}

#[test]
fn somebody_can_stop_it() {
    let mut left = 2;
    let stopped = fitting().train(rows(&labels()), &mut |_| {
        left -= 1;
        left > 0
    });
    assert!(matches!(stopped, Err(TrainError::Stopped)));
}

mod on_disk {
    use super::*;
    use crate::train::registry::{self, Manifest, RegistryError};

    fn manifest(trained: &Trained) -> Manifest {
        Manifest {
            hazard_version: trained.model.version,
            foreshock: "test".into(),
            trained_at: "2026-01-01T00:00:00.000Z".into(),
            inputs: vec!["metrics.jsonl".into()],
            schema_hash: format!("{:016x}", trained.model.schema.hash()),
            window_s: 60.0,
            horizon_s: 1_200.0,
            lead_s: 300.0,
            apart: vec![],
            figures: trained.figures.clone(),
            paired: None,
        }
    }

    #[test]
    fn a_model_comes_back_as_it_was_and_versions_count_up() {
        let dir = tempfile::tempdir().unwrap();
        let trained = train(&labels()).unwrap();
        assert!(
            matches!(registry::load(dir.path()), Err(RegistryError::Data { .. })),
            "nothing there"
        );
        let first = registry::add(dir.path(), &trained.model, &manifest(&trained)).unwrap();
        assert_eq!((first, registry::current(dir.path()).unwrap()), (1, None));
        registry::promote(dir.path(), first).unwrap();
        let second = registry::add(dir.path(), &trained.model, &manifest(&trained)).unwrap();
        assert_eq!((second, registry::current(dir.path()).unwrap()), (2, Some(1)));
        for of in [dir.path().to_owned(), dir.path().join("2")] {
            assert_eq!(registry::load(&of).unwrap(), trained.model);
        }
        assert_eq!(
            registry::manifest(dir.path()).unwrap().schema_hash,
            manifest(&trained).schema_hash
        );
        let card = std::fs::read_to_string(dir.path().join("1/MODEL_CARD.md")).unwrap();
        assert!(
            card.contains("average precision") && card.contains("- `leak`"),
            "{card}"
        );
        let left: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left.len(), 3, "{left:?}");
    }

    #[test]
    fn what_is_no_model_is_said_to_be_none() {
        let dir = tempfile::tempdir().unwrap();
        let trained = train(&labels()).unwrap();
        let version = registry::add(dir.path(), &trained.model, &manifest(&trained)).unwrap();
        let path = dir.path().join(version.to_string()).join("model.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let cases = [
            ("half of it", text[..text.len() / 2].to_owned(), "expected a model"),
            (
                "another format",
                text.replacen("\"version\":2", "\"version\":9", 1),
                "format 9, expected 2",
            ),
            (
                "no bins",
                text.replacen("\"bins\":[", "\"bins\":[],\"other\":[", 1),
                "bins",
            ),
            ("not JSON", "model".to_owned(), "expected a model"),
        ];
        for (name, damaged, expected) in cases {
            std::fs::write(&path, damaged).unwrap();
            match registry::load(&dir.path().join("1")) {
                Err(RegistryError::Data { what, .. }) => assert!(what.contains(expected), "{name}: {what}"),
                other => panic!("{name}: {other:?}"),
            }
        }
        std::fs::write(dir.path().join("current"), "newest\n").unwrap();
        assert!(matches!(registry::load(dir.path()), Err(RegistryError::Data { .. })));
    }

    #[test]
    fn a_model_is_compared_on_what_neither_has_seen() {
        let trained = train(&labels()).unwrap();
        let same = super::super::paired::paired(&trained, &trained.model, 1, trained.examined_from).unwrap();
        // The model of everything has seen the examination and is hardly worse.
        assert!(
            same.gain.abs() < 0.2 && same.low <= same.gain && same.gain <= same.high,
            "{same:?}"
        );
        let blind = HazardModel {
            bins: trained
                .model
                .bins
                .iter()
                .map(|b| foreshock_failure::predict::Bin {
                    until_ms: b.until_ms,
                    odds: Odds::Linear(foreshock_failure::predict::Linear {
                        intercept: -4.0,
                        weights: vec![0.0; trained.model.schema.width()],
                    }),
                })
                .collect(),
            ..trained.model.clone()
        };
        let better = super::super::paired::paired(&trained, &blind, 1, trained.examined_from).unwrap();
        assert!(better.low > 0.0, "{better:?}");
        assert!(
            super::super::paired::paired(&trained, &blind, 1, Timestamp::LATEST).is_none(),
            "nothing to compare"
        );
    }
}
