use foreshock_domain::Timestamp;
use proptest::prelude::*;

use super::*;

fn mined(lines: &[&str]) -> (Miner, Vec<MinedLine>) {
    let mut miner = Miner::new();
    let out = lines.iter().map(|line| miner.mine(line, None)).collect();
    (miner, out)
}

/// The template of each line once all were read, as text.
fn templates(lines: &[&str]) -> Vec<String> {
    let (miner, out) = mined(lines);
    out.iter()
        .map(|line| miner.template(miner.canonical(line.id)).expect("known"))
        .collect()
}

/// A different word for each number, no two of which look like a variable.
fn word(number: u32) -> String {
    (0..5)
        .map(|digit| char::from(b'g' + (number / 20_u32.pow(digit) % 20) as u8))
        .collect()
}

/// How many templates the lines end up in.
fn different(lines: &[&str]) -> usize {
    let mut templates = templates(lines);
    templates.sort_unstable();
    templates.dedup();
    templates.len()
}

#[test]
fn merging_by_case() {
    for (name, lines, expected) in [
        ("nothing", vec![], 0),
        ("empty lines are one template", vec!["", "  ", "\t"], 1),
        ("numbers differ", vec!["took 1 ms", "took 2 ms", "took 3.5 ms"], 1),
        (
            "four words stay apart",
            vec!["go to a now", "go to b now", "go to c now", "go to d now"],
            4,
        ),
        (
            "five words merge",
            vec![
                "go to a now",
                "go to b now",
                "go to c now",
                "go to d now",
                "go to e now",
            ],
            1,
        ),
        ("a word beside a number merges", vec!["retry in 5", "retry in never"], 1),
        ("and the other way round", vec!["retry in never", "retry in 5"], 1),
        (
            "three names merge",
            vec!["user ann left", "user bob left", "user cid left"],
            1,
        ),
        (
            "a first word never merges",
            vec!["a up", "b up", "c up", "d up", "e up", "f up"],
            6,
        ),
        (
            "what went wrong never merges",
            vec![
                "job was a",
                "job was b",
                "job was c",
                "job was d",
                "job was e",
                "job was failed",
            ],
            2,
        ),
        ("keys stay", vec!["set a=1", "set b=2"], 2),
        ("lists of any length", vec!["ids 1 2 3", "ids 4"], 1),
        ("length tells", vec!["disk full", "disk is full"], 2),
    ] {
        assert_eq!(different(&lines), expected, "{name}: {:?}", templates(&lines));
    }
}

#[test]
fn two_places_that_vary_become_two_variables() {
    let lines: Vec<String> = (0..6)
        .flat_map(|a| (0..6).map(move |b| format!("move {} to {}", char::from(b'a' + a), char::from(b'a' + b))))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(different(&lines), 1);
    assert_eq!(templates(&lines)[0], "move <*> to <*>");
}

#[test]
fn levels_are_never_merged() {
    let mut miner = Miner::new();
    let info = miner.mine("disk 7 is slow", Some(Level::Info));
    let error = miner.mine("disk 7 is slow", Some(Level::Error));
    assert_ne!(info.id, error.id);
    assert!(error.first_seen);
}

#[test]
fn what_merged_is_not_new() {
    let (mut miner, out) = mined(&[
        "go to a now",
        "go to b now",
        "go to c now",
        "go to d now",
        "go to e now",
    ]);
    assert_eq!(
        out.iter().map(|l| l.first_seen).collect::<Vec<_>>(),
        [true, true, true, true, false]
    );
    let next = miner.mine("go to zzz now", None);
    assert!(!next.first_seen);
    assert_eq!(next.id, miner.canonical(out[0].id));
    assert_eq!(next.id, miner.mine("go to 42 now", None).id);
}

#[test]
fn the_template_outlives_a_flood_of_names_and_of_garbage() {
    let mut miner = Miner::with_forms_max(256);
    for _ in 0..2 {
        for line in ["the door is open", "the door is shut"] {
            miner.mine(line, None);
        }
    }
    for i in 0..20_000_u32 {
        let word = word(i);
        miner.mine(&format!("{word} likes {word}s and {i}"), None);
    }
    assert!(miner.len() <= 256, "{}", miner.len());
    assert!(miner.evicted() > 10_000);
    assert!(
        !miner.mine("the door is open", None).first_seen,
        "kept: it was seen twice"
    );
}

#[test]
fn what_was_evicted_is_not_new_again() {
    let mut miner = Miner::with_forms_max(64);
    assert!(miner.mine("a rare line", None).first_seen);
    for i in 0..1_000_u32 {
        let word = word(i);
        miner.mine(&format!("{word} x"), None);
    }
    assert_eq!(miner.template(miner.canonical(TemplateId(0))), None);
    assert!(!miner.mine("a rare line", None).first_seen);
}

#[test]
fn state_is_bounded_under_hostile_lines() {
    let mut miner = Miner::new();
    let mut seed = 1_u64;
    let mut random = move |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..3_000 {
        let words: Vec<String> = (0..70)
            .map(|_| {
                (0..60)
                    .map(|_| char::from(b'g' + u8::try_from(random(20)).unwrap_or(0)))
                    .collect()
            })
            .collect();
        miner.mine(&words.join(" "), None);
    }
    assert!(miner.state_bytes() < 16 << 20, "{}", miner.state_bytes());
}

#[test]
fn a_copy_from_bytes_goes_on_as_the_original_does() {
    let lines: Vec<String> = (0..4_000_u32)
        .map(|i| {
            format!(
                "{} of {} by {}",
                ["start", "stop"][i as usize % 2],
                char::from(b'g' + (i % 17) as u8),
                i % 7
            )
        })
        .collect();
    let (before, after) = lines.split_at(1_500);
    let mut original = Miner::with_forms_max(64);
    for line in before {
        original.mine(line, None);
    }
    let bytes = postcard::to_stdvec(&original).expect("encodes");
    let mut copy: Miner = postcard::from_bytes(&bytes).expect("decodes");
    assert_eq!(postcard::to_stdvec(&copy).expect("encodes"), bytes);
    for line in after {
        assert_eq!(copy.mine(line, None), original.mine(line, None));
    }
    assert_eq!(
        postcard::to_stdvec(&copy).expect("encodes"),
        postcard::to_stdvec(&original).expect("encodes")
    );
}

#[test]
fn counts_of_what_merged_add_up() {
    let (miner, out) = mined(&[
        "go to a now",
        "go to b now",
        "go to c now",
        "go to d now",
        "go to e now",
        "else",
    ]);
    let mut counts: Vec<TemplateCount> = (out.iter().rev())
        .map(|line| TemplateCount {
            id: line.id,
            count: 2,
            first_seen: line.first_seen,
            level: None,
            first_at: Timestamp::from_secs(0),
        })
        .collect();
    miner.canonicalise(&mut counts);
    assert_eq!(counts.len(), 2);
    assert!(counts.is_sorted_by_key(|c| c.id));
    let merged = counts
        .iter()
        .find(|c| c.id == miner.canonical(out[0].id))
        .expect("there");
    assert_eq!((merged.count, merged.first_seen), (10, false));
}

fn any_lines() -> impl Strategy<Value = Vec<String>> {
    let word = prop::sample::select(vec!["a", "b", "c", "d", "e", "f", "g", "7", "k=1", "failed", "user"]);
    let line = prop::collection::vec(word, 0..5).prop_map(|words| words.join(" "));
    prop::collection::vec(line, 0..120)
}

/// What is known of a line: its template, whether it is new, and its text.
type Known = (TemplateId, bool, Option<String>);

/// What two miners of the lines before and after `split` know of each line when each has absorbed the other, and what one
/// miner of all lines knows.
fn absorbed_and_whole(lines: &[String], split: usize) -> ([Vec<Known>; 2], Vec<Known>) {
    let (first, second) = lines.split_at(split);
    let mine = |lines: &[String]| {
        let mut miner = Miner::new();
        lines.iter().for_each(|line| {
            miner.mine(line, None);
        });
        miner
    };
    let (first, second, whole) = (mine(first), mine(second), mine(lines));
    let (mut one, mut other) = (first.clone(), second.clone());
    one.absorb(&second);
    other.absorb(&first);
    let known = |miner: &Miner| {
        let mut miner = miner.clone();
        let mined: Vec<MinedLine> = lines.iter().map(|line| miner.mine(line, None)).collect();
        let known = mined
            .iter()
            .map(|line| (miner.canonical(line.id), line.first_seen, miner.template(line.id)));
        known.collect()
    };
    ([known(&one), known(&other)], known(&whole))
}

#[test]
fn absorbing_by_case() {
    for (name, lines) in [
        (
            "one that merged is covered by one that merged",
            vec!["a 7 b 7", "a e b a", "a e b 7"],
        ),
        (
            "words of both make a variable",
            vec!["go to a", "go to b", "go to c", "go to d", "go to e"],
        ),
        (
            "a word that announces names and varies",
            vec!["user 7 a", "user a g", "user user g", "user 7 b", "user b g"],
        ),
        (
            "names beside a variable",
            vec!["user a a", "user b 7", "user c 7", "user g a", "user g 7"],
        ),
        (
            "a number in one, a word in the other",
            vec!["retry in 5", "retry in never"],
        ),
    ] {
        let lines: Vec<String> = lines.into_iter().map(String::from).collect();
        for split in 0..=lines.len() {
            let (together, whole) = absorbed_and_whole(&lines, split);
            assert_eq!(together, [whole.clone(), whole], "{name}, split at {split}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn final_ids_do_not_depend_on_the_order_of_lines(lines in any_lines(), seed in any::<u64>()) {
        let ids = |lines: &[String]| {
            let mut miner = Miner::new();
            let ids: Vec<(String, TemplateId)> = lines.iter().map(|l| (l.clone(), miner.mine(l, None).id)).collect();
            let ids = ids.into_iter().map(|(line, id)| (line, miner.canonical(id)));
            ids.collect::<BTreeMap<String, TemplateId>>()
        };
        let mut shuffled = lines.clone();
        shuffled.sort_by_key(|line| xxhash_rust::xxh3::xxh3_64_with_seed(line.as_bytes(), seed));
        prop_assert_eq!(ids(&lines), ids(&shuffled));
    }

    #[test]
    fn two_miners_of_half_the_lines_know_together_what_one_of_all_does(lines in any_lines(), at in 0.0f64..1.0) {
        let split = (lines.len() as f64 * at) as usize;
        let (together, whole) = absorbed_and_whole(&lines, split);
        prop_assert_eq!(&together[0], &whole);
        prop_assert_eq!(&together[1], &whole);
    }

    #[test]
    fn any_text_is_mined_and_found_again(lines in prop::collection::vec("\\PC{0,40}", 0..40)) {
        let mut miner = Miner::new();
        for line in &lines {
            let id = miner.mine(line, None).id;
            prop_assert!(miner.template(id).is_some());
        }
        for line in &lines {
            prop_assert!(!miner.mine(line, None).first_seen);
        }
    }
}

/// A miner that shows what is proven, after these lines of one source; its bytes too, as text.
fn redacting(lines: &[String]) -> (Miner, Vec<MinedLine>, String) {
    let mut miner = Miner::new();
    miner.set_showing(Showing::Proven);
    let out = lines.iter().map(|line| miner.mine(line, None)).collect();
    let bytes = postcard::to_stdvec(&miner).expect("encodes");
    (miner, out, String::from_utf8_lossy(&bytes).into_owned())
}

fn numbered(of: &[&str]) -> Vec<String> {
    let lines = of.iter().enumerate();
    lines.map(|(i, line)| line.replace('#', &i.to_string())).collect()
}

#[test]
fn a_word_is_shown_when_it_is_proven_to_be_constant() {
    let same = "zorkmid # minted";
    for (name, lines, expected) in [
        ("once", vec![same], "<?> <*> <?>"),
        ("four contents", vec![same; 4], "<?> <*> <?>"),
        ("five contents", vec![same; 5], "zorkmid <*> minted"),
        ("one content for ever", vec!["zorkmid 7 minted"; 50], "<?> <*> <?>"),
        ("plain words at once", vec!["request # failed"], "request <*> failed"),
        (
            "a first word that varies",
            [&[same; 9][..], &["doubloon # minted"]].concat(),
            "<?> <*> minted",
        ),
        (
            "a word that varies",
            [&[same; 9][..], &["zorkmid # melted"]].concat(),
            "zorkmid <*> <?>",
        ),
        (
            "one that varies first",
            [&["zorkmid # melted"; 5][..], &[same; 9]].concat(),
            "zorkmid <*> <?>",
        ),
        ("a name", vec!["door # opened for alice"; 9], "door <*> opened for <?>"),
        ("what went wrong", vec!["# alice_failed"; 9], "<*> alice_failed"),
        (
            "and varies",
            [&["# alice_failed"; 9][..], &["# bob_failed"]].concat(),
            "<*> <?>",
        ),
    ] {
        let (miner, out, _) = redacting(&numbered(&lines));
        assert_eq!(
            miner.template(miner.canonical(out[0].id)).as_deref(),
            Some(expected),
            "{name}"
        );
    }
}

#[test]
fn what_several_sources_write_is_shown() {
    let mut miner = Miner::new();
    miner.set_showing(Showing::Proven);
    let shown: Vec<_> = (0..4)
        .map(|source| {
            let id = miner.mine_from(source, "zorkmid minted", None).id;
            miner.template(id).expect("known")
        })
        .collect();
    assert_eq!(shown, ["<?> <?>", "<?> <?>", "zorkmid minted", "zorkmid minted"]);
}

#[test]
fn what_is_not_proven_is_in_no_snapshot() {
    let secrets = ["xyzzyplugh", "zaphod", "trillian", "marvin"];
    let mut lines = numbered(&["zorkmid # minted"; 9]);
    lines.extend(numbered(&[
        "zaphod logged in from #",
        "the answer of trillian is xyzzyplugh",
    ]));
    for i in 0..9 {
        lines.extend(["zaphod", "trillian"].map(|name| format!("quest {i} of {name} begins")));
        lines.push(format!("quest {i} under marvin"));
    }
    lines.extend(secrets[..3].iter().map(|name| format!("quest 99 under {name}")));
    let (miner, _, bytes) = redacting(&lines);
    assert!(bytes.contains("zorkmid <*> minted"));
    for secret in secrets {
        assert!(!bytes.contains(secret), "{secret}");
    }
    // And a copy goes on as the original does.
    let mut copy: Miner = postcard::from_bytes(&postcard::to_stdvec(&miner).expect("encodes")).expect("decodes");
    let mut miner = miner;
    for line in &lines {
        let ids = (miner.mine(line, None), copy.mine(line, None));
        assert_eq!(ids.0, ids.1);
        assert_eq!(miner.template(ids.0.id), copy.template(ids.1.id));
    }
}

#[test]
fn showing_can_be_changed() {
    let mut miner = Miner::new();
    let id = (0..9)
        .map(|i| miner.mine(&format!("zorkmid {i} minted"), None).id)
        .last()
        .expect("mined");
    miner.mine("zorkmid 3 melted", None);
    miner.mine("alice left", None);
    miner.set_showing(Showing::Proven);
    assert_eq!(miner.template(id).as_deref(), Some("<?> <*> <?>"));
    let bytes = postcard::to_stdvec(&miner).expect("encodes");
    assert!(!String::from_utf8_lossy(&bytes).contains("alice"));
    for i in 0..9 {
        miner.mine(&format!("zorkmid {i} minted"), None);
    }
    // Which first words there were nobody had noted, and that another word was at the end had been.
    assert_eq!(miner.template(id).as_deref(), Some("<?> <*> <?>"));
    miner.set_showing(Showing::All);
    miner.mine("zorkmid 3 minted", None);
    assert_eq!(miner.template(id).as_deref(), Some("<?> <*> <?>"), "complete already");
}
