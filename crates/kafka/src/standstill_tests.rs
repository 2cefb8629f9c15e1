use foreshock_engine::TopicId;

use super::*;

/// A log: batches by first and last offset, and whether they can be read. What is between them is a gap.
struct Batches(Vec<(i64, i64, bool)>);

impl Batches {
    /// What a client says first: of the batch that holds the offset, or of the next one.
    fn first(&self, offset: i64) -> First {
        let (first, _, is_readable) = self.0.iter().find(|(_, last, _)| *last >= offset)?;
        (!is_readable).then(|| (*first, "no zstd".to_owned()))
    }

    fn stretches(&self, from: i64) -> (Vec<(i64, i64)>, usize) {
        let stable = self.0.last().unwrap().1 + 1;
        let mut asked = 0;
        let found = stretches(from, stable, |offset| {
            assert!((from..stable).contains(&offset), "{offset} was asked for");
            asked += 1;
            Ok(self.first(offset))
        });
        (found.unwrap().into_iter().map(|s| (s.from, s.to)).collect(), asked)
    }

    /// Every offset of a batch that can't be read, from there to the first record that can: what has to be found.
    fn expected(&self, from: i64) -> Vec<(i64, i64)> {
        let next = self.0.iter().filter(|(_, last, _)| *last >= from);
        let unread = next.take_while(|(_, _, is_readable)| !is_readable);
        // Found by what comes next: gaps behind a batch belong to what is passed over with it, if that is the end.
        unread.map(|(first, last, _)| (from.max(*first), last + 1)).collect()
    }
}

#[test]
fn all_of_a_batch_is_passed_over_and_nothing_else() {
    // A record of its own before each, then behind each, with and without gaps.
    for length in [1, 2, 3, 7, 100, 4_097, 1 << 20] {
        for before in [0, 1, 5] {
            let end = before + length;
            let batches = Batches(vec![
                (0, 0, true),
                (1 + before, end, false),
                (end + 1, end + 1, true),
                // One that can't be read is where doubled steps come by.
                (end + 2, end + 50, false),
                (end + 51, end + 51, true),
            ]);
            let (found, asked) = batches.stretches(1);
            assert_eq!(found, batches.expected(1), "{length} {before}");
            assert_eq!(found, [(1 + before, end + 1)]);
            assert!(
                asked <= 2 + 2 * length.ilog2() as usize + 2,
                "{asked} questions for {length}"
            );
            // From its middle, as after a restart, or where it was damaged after its beginning was read.
            let middle = 1 + before + length / 2;
            assert_eq!(batches.stretches(middle).0, [(middle, end + 1)]);
            // Behind it all is well.
            assert_eq!(batches.stretches(end + 1), (vec![], 1));
        }
    }
}

#[test]
fn one_after_the_other_is_found_at_once_and_the_last_may_be_the_end() {
    let batches = Batches(vec![(0, 3, false), (4, 4, false), (5, 20, false)]);
    assert_eq!(batches.stretches(0).0, [(0, 4), (4, 5), (5, 21)]);
    let many = Batches((0..2_000).map(|n| (n, n, false)).collect());
    let (found, asked) = many.stretches(0);
    assert_eq!(found.len(), STRETCHES_MAX);
    assert_eq!(asked, STRETCHES_MAX + 1, "the answer that ends one begins the next");
}

#[test]
fn what_is_not_answered_is_not_passed_over() {
    let batches = Batches(vec![(0, 9, false), (10, 19, false), (20, 20, true)]);
    let until = |last: i64| {
        stretches(0, 21, |offset| match offset {
            _ if offset > last => Err("away".to_owned()),
            _ => Ok(batches.first(offset)),
        })
    };
    assert_eq!(until(8), Err("away".to_owned()));
    let found: Vec<_> = until(15).unwrap().into_iter().map(|s| (s.from, s.to)).collect();
    assert_eq!(found, [(0, 10)]);
}

const OF: TopicPartition = TopicPartition {
    topic: TopicId(1),
    partition: 0,
};

fn note(standstill: &mut Standstill, next: i64, stable: i64) -> Vec<i64> {
    let fetched = BTreeMap::from([(OF, Fetched { next, stable })]);
    let still = standstill.still(fetched, |_| "in".to_owned());
    still.into_iter().map(|s| s.from).collect()
}

#[test]
fn a_partition_stands_still_when_it_does_not_move_though_there_is_something_to_read() {
    let mut standstill = Standstill::default();
    assert_eq!(note(&mut standstill, 5, 9), [0; 0], "not ours");
    standstill.came(OF, 5);
    assert_eq!(note(&mut standstill, 5, 9), [0; 0], "seen once");
    assert_eq!(note(&mut standstill, 5, 9), [5]);
    standstill.handed(OF, 5);
    assert_eq!(note(&mut standstill, 6, 9), [0; 0], "it has moved");
    // The marker of a transaction: no record, and nothing more to read.
    for _ in 0..3 {
        assert_eq!(note(&mut standstill, 9, 9), [0; 0]);
    }
    // What was fetched and not handed over yet.
    assert_eq!(note(&mut standstill, 9, 12), [0; 0]);
    standstill.handed(OF, 7);
    assert_eq!(note(&mut standstill, 9, 12), [0; 0], "records are handed over");
    assert_eq!(note(&mut standstill, 9, 12), [8]);
    // Read from further back.
    standstill.came(OF, 2);
    assert_eq!(note(&mut standstill, 2, 12), [0; 0]);
    assert_eq!(note(&mut standstill, -1001, 12), [0; 0]);
    standstill.went(OF);
    assert_eq!(note(&mut standstill, 2, 12), [0; 0]);
}

#[test]
fn what_was_found_holds_only_where_the_partition_still_stands() {
    let found = |moved: bool, looked: Result<Vec<Stretch>, String>| {
        let mut standstill = Standstill::default();
        standstill.came(OF, 5);
        note(&mut standstill, 5, 9);
        let (answers, looking) = mpsc::channel();
        standstill.looking = Some(looking);
        let still = Still {
            of: OF,
            topic: "in".into(),
            from: 5,
            stable: Some(9),
        };
        answers.send((still, looked)).unwrap();
        if moved {
            standstill.handed(OF, 5);
        }
        let found = standstill.found();
        drop(answers);
        assert_eq!(standstill.found(), None);
        assert!(standstill.looking.is_none(), "the next may be looked at");
        let left_alone = note(&mut standstill, 5, 9).is_empty();
        (found.is_some(), left_alone)
    };
    let stretch = Stretch {
        from: 5,
        to: 7,
        reason: "no zstd".into(),
    };
    assert_eq!(found(false, Ok(vec![stretch.clone()])), (true, false));
    assert!(!found(true, Ok(vec![stretch])).0);
    assert_eq!(found(false, Ok(Vec::new())), (false, true));
    assert_eq!(found(false, Err("away".into())), (false, true));
}

#[test]
fn where_there_was_one_the_clients_word_is_enough() {
    let other = TopicPartition { partition: 1, ..OF };
    let mut standstill = Standstill::default();
    standstill.came(OF, 5);
    standstill.came(other, 5);
    let name = |_| "in".to_owned();
    assert_eq!(standstill.suspected(name), []);
    let (answers, looking) = mpsc::channel();
    standstill.looking = Some(looking);
    let still = |from, stable| Still {
        of: OF,
        topic: "in".into(),
        from,
        stable,
    };
    let stretch = Stretch {
        from: 5,
        to: 7,
        reason: "no zstd".into(),
    };
    answers.send((still(5, Some(9)), Ok(vec![stretch]))).unwrap();
    assert!(standstill.found().is_some());
    standstill.came(OF, 7);
    standstill.handed(OF, 7);
    assert_eq!(standstill.suspected(name), [still(8, None)], "and no other");
    // Too early: it is looked at again at once.
    answers.send((still(8, None), Ok(Vec::new()))).unwrap();
    assert_eq!(standstill.found(), None);
    assert!(standstill.left_alone.is_empty());
    standstill.went(OF);
    assert_eq!(standstill.suspected(name), []);
}

#[test]
fn a_batch_whose_offsets_are_nonsense_is_not_passed_over() {
    let said = stretches(3, 9, |_| Ok(Some((i64::MAX - 1, "no sum".to_owned()))));
    assert!(said.unwrap_err().contains("no sum"));
}
