//! Several dumps as one stream in event time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use foreshock_domain::Timestamp;

use crate::dump::{DumpError, TimedRecord};

/// Several dumps as one, by event time; see [`merge`].
pub struct Merged<I> {
    dumps: Vec<I>,
    /// Times of the heads and whose they are; the earliest first, the first dump where they are equal.
    heads: BinaryHeap<Reverse<(Timestamp, usize)>>,
    records: Vec<Option<TimedRecord>>,
    /// Dumps whose next record is not known yet.
    unread: Vec<usize>,
}

/// Merges dumps by event time. Each record comes with the place of its dump; records of one dump keep their order. The first
/// error of any dump is handed on, and that dump has ended.
pub fn merge<I>(dumps: Vec<I>) -> Merged<I>
where
    I: Iterator<Item = Result<TimedRecord, DumpError>>,
{
    Merged {
        heads: BinaryHeap::with_capacity(dumps.len()),
        records: dumps.iter().map(|_| None).collect(),
        unread: (0..dumps.len()).rev().collect(),
        dumps,
    }
}

impl<I> Merged<I> {
    /// The dumps, in the order they were given.
    #[must_use]
    pub fn dumps(&self) -> &[I] {
        &self.dumps
    }

    /// The same, before anything was taken of them.
    pub fn dumps_mut(&mut self) -> &mut [I] {
        &mut self.dumps
    }
}

impl<I> Iterator for Merged<I>
where
    I: Iterator<Item = Result<TimedRecord, DumpError>>,
{
    type Item = Result<(usize, TimedRecord), DumpError>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(place) = self.unread.pop() {
            match self.dumps[place].next() {
                None => {}
                Some(Err(error)) => return Some(Err(error)),
                Some(Ok(record)) => {
                    self.heads.push(Reverse((record.at, place)));
                    self.records[place] = Some(record);
                }
            }
        }
        let Reverse((_, place)) = self.heads.pop()?;
        self.unread.push(place);
        self.records[place].take().map(|record| Ok((place, record)))
    }
}
