use super::*;

/// Ten-second windows, numbered.
fn at(window: i64) -> (Timestamp, Timestamp) {
    (
        Timestamp::from_secs(10 * window),
        Timestamp::from_secs(10 * window + 10),
    )
}

fn count(id: u64, count: u32) -> TemplateCount {
    TemplateCount {
        id: TemplateId(id),
        count,
        first_seen: true,
        level: None,
        first_at: Timestamp::from_secs(0),
    }
}

fn close(bank: &mut TemplateBank, window: i64, counts: &[TemplateCount]) -> Vec<TemplateVerdict> {
    let mut out = Vec::new();
    let (start, end) = at(window);
    bank.close_window(start, end, counts, Learning::Normal, &mut out);
    out
}

#[test]
fn what_came_before_is_counted_and_dated() {
    let mut bank = TemplateBank::new();
    let of = |id, n, second| TemplateCount {
        level: Some(Level::Error),
        first_at: Timestamp::from_secs(second),
        ..count(id, n)
    };
    let first = [of(1, 3, 4)];
    close(&mut bank, 0, &first);
    let past = |seen, second| TemplatePast {
        seen,
        first_at: Some(Timestamp::from_secs(second)),
        level: Some(Level::Error),
    };
    assert_eq!(bank.past(TemplateId(1), &first), past(0, 4));
    assert_eq!(bank.past(TemplateId(1), &[]), past(3, 4));
    // What is not learned was seen all the same.
    let (start, end) = at(1);
    let second = [of(1, 2, 11), of(2, 1, 12)];
    bank.close_window(start, end, &second, Learning::Paused, &mut Vec::new());
    assert_eq!(bank.past(TemplateId(1), &second), past(3, 4));
    assert_eq!(bank.past(TemplateId(2), &second), past(0, 12));
    close(&mut bank, 2, &[]);
    assert_eq!(bank.past(TemplateId(1), &[]), past(5, 4));
    assert_eq!(bank.past(TemplateId(9), &[]), TemplatePast::default());
}

/// Repeatable uniform numbers in 0..1 (`SplitMix64`).
struct Uniform(u64);

impl Uniform {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn poisson(&mut self, mean: f64) -> u32 {
        let (mut n, mut product) = (0, self.next());
        while product > (-mean).exp() {
            product *= self.next();
            n += 1;
        }
        n
    }
}

/// A bank that saw `windows` windows, each with 4 lines of template 1, Poisson counts of 2 and now and then 3 and 4.
fn settled(windows: i64) -> TemplateBank {
    let mut bank = TemplateBank::new();
    let mut random = Uniform(3);
    for window in 0..windows {
        let mut counts = vec![count(1, 4)];
        for (id, mean) in [(2, 20.0), (3, 0.2), (4, 0.02)] {
            let n = random.poisson(mean);
            if n > 0 {
                counts.push(count(id, n));
            }
        }
        close(&mut bank, window, &counts);
    }
    bank
}

fn strongest(out: &[TemplateVerdict], id: u64, channel: Channel) -> f64 {
    let matching = out.iter().filter(|v| v.id.0 == id && v.verdict.channel == channel);
    matching.map(|v| v.verdict.score.surprise()).fold(0.0, f64::max)
}

#[test]
fn warm_up_is_silent() {
    let mut bank = TemplateBank::new();
    for window in 0..12 {
        let out = close(
            &mut bank,
            window,
            &[count(1, 3), count(10 + u64::try_from(window).unwrap_or(0), 1)],
        );
        assert!(out.is_empty(), "{window}: {out:?}");
    }
}

#[test]
fn what_is_odd_is_found_by_case() {
    let base = settled(2_000);
    let usual = [count(1, 4), count(2, 20)];
    for (name, counts, id, channel, at_least) in [
        ("as usual", usual.to_vec(), 1, Channel::TemplateRate, 0.0),
        (
            "new",
            vec![count(1, 4), count(2, 20), count(99, 1)],
            99,
            Channel::NewTemplate,
            2.0,
        ),
        ("flood", vec![count(1, 4), count(2, 200)], 2, Channel::TemplateRate, 4.0),
        ("trickle", vec![count(1, 4), count(2, 1)], 2, Channel::TemplateRate, 3.0),
        ("silence", vec![count(2, 20)], 1, Channel::TemplateSilence, 2.5),
    ] {
        let out = close(&mut base.clone(), 2_000, &counts);
        let surprise = strongest(&out, id, channel);
        assert!(surprise >= at_least, "{name}: {surprise} in {out:?}");
        let others = out
            .iter()
            .filter(|v| v.id.0 != id)
            .map(|v| v.verdict.score.surprise())
            .fold(0.0, f64::max);
        assert!(others < 2.5, "{name}: {out:?}");
    }
}

#[test]
fn silence_says_since_when_and_grows_until_the_template_is_let_go() {
    let mut bank = settled(2_000);
    let mut before = 0.0;
    let mut told = 0;
    for window in 2_000..2_400 {
        let out = close(&mut bank, window, &[count(2, 20)]);
        if let Some(verdict) = out
            .iter()
            .find(|v| v.id.0 == 1 && v.verdict.channel == Channel::TemplateSilence)
        {
            assert_eq!(verdict.onset, at(1_999).1);
            assert_eq!((verdict.count, verdict.verdict.direction), (0, Direction::Absence));
            assert!(verdict.verdict.score.surprise() >= before);
            before = verdict.verdict.score.surprise();
            told += 1;
        }
    }
    assert!(before > 3.5 && (20..200).contains(&told), "{before} {told}");
}

#[test]
fn what_comes_now_and_then_may_stay_away() {
    let mut bank = settled(2_000);
    for window in 2_000..2_020 {
        let out = close(&mut bank, window, &[count(1, 4), count(2, 20)]);
        assert!(strongest(&out, 3, Channel::TemplateSilence) < 3.0, "{out:?}");
        assert!(strongest(&out, 4, Channel::TemplateSilence) < 2.0, "{out:?}");
    }
}

#[test]
fn what_creeps_is_found_over_a_stretch() {
    let mut bank = settled(4_000);
    let mut best = 0.0_f64;
    for window in 4_000..4_048 {
        let out = close(&mut bank, window, &[count(1, 4), count(2, 20), count(4, 1)]);
        best = best.max(strongest(&out, 4, Channel::TemplateRate));
    }
    assert!(best > 2.0, "one line in fifty windows, then one in each: {best}");
}

#[test]
fn a_hole_in_the_data_is_no_silence() {
    let mut bank = settled(2_000);
    let out = close(&mut bank, 9_000, &[count(2, 20)]);
    assert!(
        strongest(&out, 1, Channel::TemplateSilence) < 3.5,
        "one window, not seven thousand: {out:?}"
    );
    let mut bank = settled(2_000);
    assert!(close(&mut bank, 9_000, &[count(1, 4), count(2, 20)]).is_empty());
}

#[test]
fn nothing_is_learned_while_paused() {
    let mut bank = settled(500);
    let before = postcard::to_stdvec(&bank).expect("encodes");
    let mut out = Vec::new();
    for window in 500..600 {
        let (start, end) = at(window);
        bank.close_window(start, end, &[count(2, 900)], Learning::Paused, &mut out);
    }
    assert!(strongest(&out, 2, Channel::TemplateRate) > 3.0);
    let mut calm = Vec::new();
    let (start, end) = at(600);
    bank.close_window(start, end, &[count(1, 4), count(2, 20)], Learning::Normal, &mut calm);
    assert!(calm.is_empty(), "{calm:?}");
    assert_eq!(before.len(), postcard::to_stdvec(&settled(500)).expect("encodes").len());
}

#[test]
fn a_flood_of_templates_is_bounded_and_spares_what_is_known() {
    let mut bank = settled(300);
    for window in 300..360 {
        let first = 1_000 * u64::try_from(window).unwrap_or(0);
        let mut counts = vec![count(1, 4), count(2, 20)];
        counts.extend((0..500).map(|i| count(first + i, 1)));
        let out = close(&mut bank, window, &counts);
        assert!(bank.len() <= TEMPLATES_MAX && out.len() <= 2 * TEMPLATES_MAX);
    }
    assert!(
        bank.evicted() > 0 && bank.state_bytes() < 1 << 20,
        "{}",
        bank.state_bytes()
    );
    let out = close(&mut bank, 360, &[count(2, 20)]);
    assert!(
        strongest(&out, 1, Channel::TemplateSilence) > 1.5,
        "still known: {out:?}"
    );
}

#[test]
fn odd_windows_do_no_harm() {
    let mut bank = settled(50);
    let (now, later) = at(50);
    for (name, start, end) in [
        ("empty", now, now),
        ("backwards", later, now),
        ("long past", Timestamp::MIN, Timestamp::MIN + 1),
        ("far ahead", Timestamp::LATEST, Timestamp::LATEST + 1),
        ("everything", Timestamp::MIN, Timestamp::from_millis(i64::MAX)),
    ] {
        let mut out = Vec::new();
        bank.close_window(start, end, &[], Learning::Normal, &mut out);
        bank.close_window(
            start,
            end,
            &[count(0, 7), count(2, u32::MAX)],
            Learning::Normal,
            &mut out,
        );
        assert!(
            out.iter().all(|v| v.verdict.score.surprise().is_finite()),
            "{name}: {out:?}"
        );
    }
}

#[test]
fn a_copy_from_bytes_goes_on_as_the_original_does() {
    let mut original = settled(300);
    let bytes = postcard::to_stdvec(&original).expect("encodes");
    let mut copy: TemplateBank = postcard::from_bytes(&bytes).expect("decodes");
    assert_eq!(copy, original);
    for window in 300..400 {
        let counts = [count(1, 4), count(2, 5 + u32::try_from(window).unwrap_or(0) % 30)];
        assert_eq!(close(&mut copy, window, &counts), close(&mut original, window, &counts));
    }
    assert_eq!(
        postcard::to_stdvec(&copy).expect("encodes"),
        postcard::to_stdvec(&original).expect("encodes")
    );
}

#[test]
fn merged_templates_share_their_habits() {
    let mut miner = Miner::new();
    let mut bank = TemplateBank::new();
    let words = ["a", "b", "c", "d"];
    for window in 0..200 {
        let id = miner
            .mine(
                &format!("go to {} now", words[usize::try_from(window % 4).unwrap_or(0)]),
                None,
            )
            .id;
        close(
            &mut bank,
            window,
            &[TemplateCount {
                id,
                count: 1,
                first_seen: false,
                level: None,
                first_at: Timestamp::from_secs(0),
            }],
        );
    }
    assert_eq!(bank.len(), 4);
    let merged = miner.mine("go to e now", None).id;
    bank.reconcile(&miner);
    assert_eq!(bank.len(), 1);
    let out = close(
        &mut bank,
        200,
        &[TemplateCount {
            id: merged,
            count: 1,
            first_seen: false,
            level: None,
            first_at: Timestamp::from_secs(0),
        }],
    );
    assert!(out.is_empty(), "{out:?}");
}

/// Shares of tests that pass a surprise of 2 and of 3, which should be 1e-2 and 1e-3, after a warm-up.
fn shares(windows: i64, mut counts: impl FnMut(&mut Uniform, u64, i64) -> u32) -> (f64, f64) {
    let (mut tested, mut past_2, mut past_3) = (0.0, 0.0, 0.0);
    let mut bank = TemplateBank::new();
    let mut random = Uniform(11);
    for window in 0..windows {
        let lines: Vec<TemplateCount> = (1..=12)
            .map(|id| TemplateCount {
                first_seen: false,
                ..count(id, counts(&mut random, id, window))
            })
            .filter(|c| c.count > 0)
            .collect();
        let mut out = Vec::new();
        let (start, end) = at(window);
        let made = bank.close_window(start, end, &lines, Learning::Normal, &mut out);
        if window >= 500 {
            tested += f64::from(made);
            past_2 += out.iter().filter(|v| v.verdict.score.surprise() >= 2.0).count() as f64;
            past_3 += out.iter().filter(|v| v.verdict.score.surprise() >= 3.0).count() as f64;
        }
    }
    (past_2 / tested, past_3 / tested)
}

#[test]
fn surprises_are_calibrated_by_case() {
    type Counts = Box<dyn FnMut(&mut Uniform, u64, i64) -> u32>;
    let cases: [(&str, Counts); 5] = [
        ("steady", Box::new(|r, id, _| r.poisson(2.0 * id as f64))),
        ("rare", Box::new(|r, id, _| r.poisson(0.02 * id as f64))),
        (
            "bursty",
            Box::new(|r, _, _| {
                if r.next() < 0.3 {
                    r.poisson(3.0 * r.0 as f64 / u64::MAX as f64 * 9.0)
                } else {
                    0
                }
            }),
        ),
        (
            "periodic",
            Box::new(|r, id, w| {
                if w % (10 + 20 * id as i64) == 0 {
                    1 + r.poisson(20.0)
                } else {
                    0
                }
            }),
        ),
        ("drifting", Box::new(|r, _, w| r.poisson(5.0 + w as f64 / 500.0))),
    ];
    for (name, counts) in cases {
        let (past_2, past_3) = shares(5_000, counts);
        assert!(past_2 <= 0.02 && past_3 <= 0.003, "{name}: {past_2} {past_3}");
    }
}

/// Lines of one template in a window: by its number from 1, and by the window's.
type Stream = fn(&mut Uniform, u64, i64) -> u32;

/// What a deployment without failures may write, each template on its own.
const STREAMS: [(&str, Stream); 10] = [
    ("Poisson, 0.06–0.35 a window", |r, id, _| {
        r.poisson(spread(id, 0.06, 0.35))
    }),
    ("Poisson, 2.5–7 a window", |r, id, _| r.poisson(spread(id, 2.5, 7.0))),
    ("Poisson, 50–150 a window", |r, id, _| {
        r.poisson(spread(id, 50.0, 150.0))
    }),
    ("Poisson with a rate of Exp(1)²", |r, _, _| {
        let rate = r.next().ln().powi(2);
        r.poisson(rate)
    }),
    (
        "in each third window, Pareto, exponent 1.5 (infinite variance)",
        |r, _, _| {
            if r.next() < 1.0 / 3.0 {
                (r.next().powf(-1.0 / 1.5)) as u32
            } else {
                0
            }
        },
    ),
    ("bursts each 10–300 windows", |r, id, window| {
        let period = spread(id, 10.0, 300.0) as i64;
        if window % period == 0 { 1 + r.poisson(20.0) } else { 0 }
    }),
    ("Poisson, mean rising from 5 to 25", |r, _, window| {
        r.poisson(5.0 + 20.0 * window as f64 / WINDOWS as f64)
    }),
    ("Poisson, mean ×19 between night and day", |r, _, window| {
        let day = window as f64 * std::f64::consts::TAU / 8_640.0;
        r.poisson(5.0 * (1.0 + 0.9 * day.sin()))
    }),
    ("on and off at random, 50 windows at a time", |r, id, window| {
        // A hash says whether this half hundred is on, so that no state is needed.
        let state = Uniform(id << 32 | (window / 50) as u64).next();
        if state < 0.5 { r.poisson(5.0) } else { 0 }
    }),
    ("exactly one a window", |_, _, _| 1),
];

/// Windows of a run, and those after which it is counted.
const WINDOWS: i64 = 20_000;
const WARM_UP: i64 = 500;
const TEMPLATES: u64 = 12;

/// Evenly from `from` to `to` over the templates of a run.
fn spread(id: u64, from: f64, to: f64) -> f64 {
    from + (to - from) * (id - 1) as f64 / (TEMPLATES - 1) as f64
}

/// Tests of one channel, and those that passed a surprise of 2, 3 and 4.
#[derive(Clone, Copy, Default)]
struct Passed {
    tests: u64,
    past: [u64; 3],
}

impl Passed {
    fn add(&mut self, surprise: f64) {
        for (n, limit) in self.past.iter_mut().zip([2.0, 3.0, 4.0]) {
            *n += u64::from(surprise >= limit);
        }
    }
}

/// Tests of counts and of silence over one run.
fn run(seed: u64, stream: Stream) -> [Passed; 2] {
    let mut bank = TemplateBank::new();
    let mut random = Uniform(seed);
    let [mut rate, mut silence] = [Passed::default(); 2];
    let mut out = Vec::new();
    for window in 0..WINDOWS {
        let lines: Vec<TemplateCount> = (1..=TEMPLATES)
            .map(|id| count(id, stream(&mut random, id, window)))
            .filter(|c| c.count > 0)
            .collect();
        let is_absent = |id: &TemplateId| lines.binary_search_by_key(id, |c| c.id).is_err();
        let absent = bank.templates.iter().filter(|(id, _)| is_absent(id));
        let silences = absent
            .filter(|(_, o)| o.score_absence(bank.clock + 1).is_some())
            .count() as u64;
        out.clear();
        let (start, end) = at(window);
        let made = bank.close_window(start, end, &lines, Learning::Normal, &mut out);
        if window < WARM_UP {
            continue;
        }
        // Where a template came it was not silent, which is a test with a p of 1.
        silence.tests += TEMPLATES;
        rate.tests += u64::from(made) - silences;
        for verdict in &out {
            match verdict.verdict.channel {
                Channel::TemplateSilence => silence.add(verdict.verdict.score.surprise()),
                _ => rate.add(verdict.verdict.score.surprise()),
            }
        }
    }
    [rate, silence]
}

/// Run with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement: makes the table of docs/models/logs.md"]
#[allow(clippy::print_stdout)] // that is what it is for
fn calibration_table() {
    for (name, stream) in STREAMS {
        let mut sum = [Passed::default(); 2];
        for seed in 1..=8 {
            for (sum, part) in sum.iter_mut().zip(run(seed, stream)) {
                sum.tests += part.tests;
                sum.past = [0, 1, 2].map(|k| sum.past[k] + part.past[k]);
            }
        }
        let cells = sum.map(|s| {
            let share = |n: u64| n as f64 / s.tests.max(1) as f64;
            let [two, three, four] = s.past.map(share);
            format!("{} | {two:.1e} | {three:.1e} | {four:.1e}", s.tests)
        });
        println!("| {name} | {} |", cells.join(" | "));
    }
    // Ten thousand kinds by Zipf's law: there is nearly always one more.
    let (mut random, mut bank, mut passed) = (Uniform(5), TemplateBank::new(), [0_u32; 2]);
    for window in 0..WINDOWS {
        let draw = |r: &mut Uniform| (r.next() * 1e4_f64.ln()).exp() as u64;
        let mut ids: Vec<u64> = (0..5).map(|_| draw(&mut random)).collect();
        ids.sort_unstable();
        ids.dedup();
        let counts: Vec<TemplateCount> = ids.into_iter().map(|id| count(id, 1)).collect();
        let out = close(&mut bank, window, &counts);
        let new = out.iter().filter(|v| v.verdict.channel == Channel::NewTemplate);
        let surprise = new.map(|v| v.verdict.score.surprise()).fold(0.0, f64::max);
        for (n, limit) in passed.iter_mut().zip([1.0, 2.0]) {
            *n += u32::from(surprise >= limit);
        }
    }
    println!("new templates, of {WINDOWS} windows: {passed:?} pass 1 and 2");
}
