use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Told again and again while brokers are waited for: who waits is alive, and starting it anew would not mend a broker.
pub type Pulse = Arc<dyn Fn() + Send + Sync>;

const EVERY: Duration = Duration::from_secs(1);

/// Makes a call to the brokers, which has its own limit of time, with the pulse going on.
pub(crate) fn during<T>(pulse: &Pulse, call: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        let (done, waits) = mpsc::channel::<()>();
        scope.spawn(move || {
            while waits.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                pulse();
            }
        });
        let answer = call();
        drop(done);
        answer
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_long_call_has_a_pulse_and_a_short_one_does_not_wait_for_it() {
        let beats = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&beats);
        let pulse: Pulse = Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(during(&pulse, || 7), 7);
        assert_eq!(beats.load(Ordering::Relaxed), 0);
        // Ends only because the pulse goes on.
        during(&pulse, || {
            while beats.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
        });
    }
}
