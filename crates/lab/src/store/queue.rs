//! A bounded queue of jobs in front of two workers: mails, recommendations and other things that may be late.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Jobs that may wait.
pub const CAPACITY: usize = 200;

/// The queue; a job is nothing but the time it came.
#[derive(Debug, Default)]
pub struct Queue(Mutex<VecDeque<Instant>>);

impl Queue {
    /// Adds a job; false where the queue is full.
    pub fn push(&self) -> bool {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = jobs.len() < CAPACITY;
        if room {
            jobs.push_back(Instant::now());
        }
        room
    }

    /// The oldest job, unless no more than `backlog` wait: a worker that falls behind leaves those.
    pub fn pop(&self, backlog: usize) -> Option<Instant> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.len() > backlog { jobs.pop_front() } else { None }
    }

    /// Jobs that wait, and for how long the oldest has.
    pub fn depth(&self) -> (usize, Duration) {
        let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (jobs.len(), jobs.front().map_or(Duration::ZERO, Instant::elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_leaves_the_backlog() {
        let queue = Queue::default();
        assert_eq!((queue.depth().0, queue.pop(0)), (0, None));
        assert_eq!((0..2 * CAPACITY).filter(|_| queue.push()).count(), CAPACITY);
        assert!(queue.pop(CAPACITY).is_none() && queue.pop(CAPACITY - 1).is_some());
        assert_eq!(queue.depth().0, CAPACITY - 1);
    }
}
