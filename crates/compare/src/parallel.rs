//! One function over many items on a few threads, in order, with a progress bar.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use indicatif::{ProgressBar, ProgressStyle};

/// Most threads: the machine is rarely ours alone.
const THREADS_MAX: usize = 2;

/// `work` of each item, in the order of the items. A thread takes the next item when it is done with one.
pub fn in_parallel<I: Sync, O: Send>(items: &[I], name: &str, work: impl Fn(&I) -> O + Sync) -> Vec<O> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX);
    // indicatif draws nothing where standard error is not a terminal.
    let bar = ProgressBar::new(items.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg:>24} {bar:40} {pos}/{len} {elapsed} eta {eta}") {
        bar.set_style(style);
    }
    bar.set_message(name.to_owned());
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, O)>> = Mutex::new(Vec::with_capacity(items.len()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((i, item)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, items.get(i)?)))
                {
                    let out = work(item);
                    bar.inc(1);
                    done.lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .push((i, out));
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, out)| out).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept() {
        let items: Vec<u64> = (0..1_000).collect();
        let squares = in_parallel(&items, "squares", |x| x * x);
        assert!(squares.iter().zip(&items).all(|(s, i)| *s == i * i) && squares.len() == 1_000);
    }
}
