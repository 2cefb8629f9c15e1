use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::pulse::Pulse;

/// A client that ends in order takes well under a second; brokers that don't answer make it some seconds.
const ENDS_WITHIN: Duration = Duration::from_secs(15);
const EVERY: Duration = Duration::from_secs(1);

/// Lets clients go. To drop a client is to wait until its threads have ended and its group was left, and the client library sets no
/// limit to that; whoever has to begin anew can't wait for it without one.
///
/// It holds what it is given to the last, so it must be dropped after all others that hold it.
pub(crate) struct Farewell {
    clients: Vec<Box<dyn Any + Send>>,
    pulse: Pulse,
    /// Counts the times that some did not end.
    left: Arc<AtomicU64>,
    within: Duration,
}

impl Farewell {
    pub(crate) fn new(pulse: Pulse, left: Arc<AtomicU64>) -> Self {
        Self {
            clients: Vec::new(),
            pulse,
            left,
            within: ENDS_WITHIN,
        }
    }

    pub(crate) fn hold(&mut self, client: impl Any + Send) {
        self.clients.push(Box::new(client));
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let clients = std::mem::take(&mut self.clients);
        if clients.is_empty() {
            return;
        }
        let (gone, waits) = mpsc::channel::<()>();
        // Where the system gives no thread they are dropped at once, by this one.
        let ending = thread::Builder::new().name("farewell".into()).spawn(move || {
            drop(clients);
            drop(gone);
        });
        let until = Instant::now() + self.within;
        while waits.recv_timeout(EVERY.min(self.within)) == Err(RecvTimeoutError::Timeout) {
            (self.pulse)();
            if Instant::now() > until {
                self.left.fetch_add(1, Ordering::Relaxed);
                // Its place in the group goes to the next member of its name, and its transactions to the next producer.
                tracing::warn!(
                    waited_s = self.within.as_secs(),
                    advice = "nothing, if it is rare: the next one takes its place and nothing is lost; if it comes again and again, \
                              restart this process, since each keeps some memory",
                    "a Kafka client does not end, and is left to itself"
                );
                return;
            }
        }
        drop(ending.map(thread::JoinHandle::join));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    struct Ends(Duration, Arc<AtomicU32>);

    impl Drop for Ends {
        fn drop(&mut self) {
            thread::sleep(self.0);
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_ends_is_waited_for_and_what_does_not_is_left() {
        let ended = Arc::new(AtomicU32::new(0));
        let beats = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&beats);
        let pulse: Pulse = Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let left = Arc::new(AtomicU64::new(0));
        let mut prompt = Farewell::new(Arc::clone(&pulse), Arc::clone(&left));
        prompt.hold(Ends(Duration::from_millis(50), Arc::clone(&ended)));
        prompt.hold(Ends(Duration::ZERO, Arc::clone(&ended)));
        drop(prompt);
        assert_eq!((ended.load(Ordering::Relaxed), left.load(Ordering::Relaxed)), (2, 0));
        let mut stuck = Farewell::new(pulse, Arc::clone(&left));
        stuck.within = Duration::from_millis(100);
        stuck.hold(Ends(Duration::from_secs(3_600), Arc::clone(&ended)));
        let began = Instant::now();
        drop(stuck);
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        assert!(beats.load(Ordering::Relaxed) > 0, "this thread is alive");
        assert_eq!(left.load(Ordering::Relaxed), 1);
    }
}
