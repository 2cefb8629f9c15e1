use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Told again and again while brokers are waited for: who waits is alive, and starting it anew would not mend a broker.
pub type Pulse = Arc<dyn Fn() + Send + Sync>;

const EVERY: Duration = Duration::from_secs(1);
/// Between two tries of a call that was not done in its time.
const AGAIN: Duration = Duration::from_millis(20);
/// Whoever reads the log is told of a wait that lasts this long: longer than an election or a session, so that a healthy cluster makes
/// no lines.
pub(crate) const LONG: Duration = Duration::from_secs(10);

/// A wait for brokers, of which the log tells where it is long: once when it is, and once more when it is over.
pub(crate) struct Wait {
    what: &'static str,
    began: Instant,
    told: bool,
}

impl Wait {
    /// `what` completes "waits for".
    pub(crate) fn new(what: &'static str) -> Self {
        Self {
            what,
            began: Instant::now(),
            told: false,
        }
    }

    /// To be called now and then while it goes on.
    pub(crate) fn look(&mut self) {
        if !self.told && self.began.elapsed() > LONG {
            self.told = true;
            tracing::warn!(
                waits_for = self.what,
                waited_s = self.began.elapsed().as_secs(),
                advice = "look whether all brokers run, whether partitions are below `min.insync.replicas`, and whether a broker is \
                          overloaded; what is waited for in vain is given up and begun again, and nothing is lost",
                "waits for the brokers"
            );
        }
    }

    fn is_over(&self) {
        if self.told {
            tracing::info!(
                waited_for = self.what,
                waited_s = self.began.elapsed().as_secs(),
                "the wait is over"
            );
        }
    }
}

/// Makes a call to the brokers, which has its own limit of time, with the pulse going on.
pub(crate) fn during<T>(pulse: &Pulse, what: &'static str, call: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        let (done, waits) = mpsc::channel::<()>();
        scope.spawn(move || {
            let mut wait = Wait::new(what);
            while waits.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                pulse();
                wait.look();
            }
            wait.is_over();
        });
        let answer = call();
        drop(done);
        answer
    })
}

/// Makes a call again for as long as it only says that it was not done in its time, and shows that this thread is alive. Never for
/// much longer than `most`: the client may say so for ever, of what nobody does any more.
pub(crate) fn patiently(
    pulse: &Pulse,
    what: &'static str,
    most: Duration,
    mut call: impl FnMut(&mut Wait) -> Result<(), KafkaError>,
) -> Result<(), KafkaError> {
    let mut wait = Wait::new(what);
    loop {
        let Err(error) = call(&mut wait) else {
            wait.is_over();
            return Ok(());
        };
        let goes_on = match &error {
            KafkaError::Flush(code) => *code == RDKafkaErrorCode::OperationTimedOut,
            KafkaError::Transaction(error) => error.is_retriable(),
            _ => false,
        };
        if !goes_on || wait.began.elapsed() > most {
            return Err(error);
        }
        pulse();
        wait.look();
        thread::sleep(AGAIN);
    }
}

/// Makes a call that knows no limit of time on a thread of its own, and leaves it there if it takes longer than `most`.
pub(crate) fn leaving<T: Send + 'static>(
    pulse: &Pulse,
    wait: &mut Wait,
    most: Duration,
    call: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, KafkaError> {
    let until = Instant::now() + most;
    let (answers, answer) = mpsc::channel();
    let calling = thread::Builder::new().name("call".into()).spawn(move || {
        // Where nobody waits for it any more it is of no interest.
        let _ = answers.send(call());
    });
    // Without a thread there is no answer either.
    drop(calling);
    loop {
        match answer.recv_timeout(EVERY) {
            Ok(answer) => return answer,
            Err(RecvTimeoutError::Timeout) if Instant::now() < until => {
                pulse();
                wait.look();
            }
            Err(_) => return Err(KafkaError::Global(RDKafkaErrorCode::OperationTimedOut)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn counted() -> (Pulse, Arc<AtomicU32>) {
        let beats = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&beats);
        let pulse: Pulse = Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        (pulse, beats)
    }

    #[test]
    fn a_long_call_has_a_pulse_and_a_short_one_does_not_wait_for_it() {
        let (pulse, beats) = counted();
        assert_eq!(during(&pulse, "nothing", || 7), 7);
        assert_eq!(beats.load(Ordering::Relaxed), 0);
        // Ends only because the pulse goes on.
        during(&pulse, "a pulse", || {
            while beats.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
        });
    }

    #[test]
    fn what_is_never_done_is_given_up() {
        let (pulse, beats) = counted();
        let began = Instant::now();
        let most = Duration::from_millis(100);
        let not_yet = |_: &mut Wait| Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut));
        let error = patiently(&pulse, "nothing", most, not_yet).unwrap_err();
        assert_eq!(error, KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut));
        assert!(began.elapsed() >= most && beats.load(Ordering::Relaxed) > 0);
    }

    #[test]
    fn what_fails_is_not_tried_again_and_what_is_done_late_is_done() {
        let (pulse, _) = counted();
        let tries = AtomicU32::new(0);
        let most = Duration::from_secs(60);
        let fails = |_: &mut Wait| {
            tries.fetch_add(1, Ordering::Relaxed);
            Err(KafkaError::Flush(RDKafkaErrorCode::Fatal))
        };
        assert!(patiently(&pulse, "nothing", most, fails).is_err());
        assert_eq!(tries.load(Ordering::Relaxed), 1);
        let late = |_: &mut Wait| match tries.fetch_add(1, Ordering::Relaxed) {
            1 | 2 => Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)),
            _ => Ok(()),
        };
        assert!(patiently(&pulse, "nothing", most, late).is_ok());
        assert_eq!(tries.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn a_call_that_does_not_come_back_is_left() {
        let (pulse, beats) = counted();
        let mut wait = Wait::new("nothing");
        let most = Duration::from_millis(1_500);
        assert_eq!(leaving(&pulse, &mut wait, most, || Ok(7)), Ok(7));
        let began = Instant::now();
        let never = || {
            thread::sleep(Duration::from_secs(3_600));
            Ok(())
        };
        let error = leaving(&pulse, &mut wait, most, never).unwrap_err();
        assert_eq!(error, KafkaError::Global(RDKafkaErrorCode::OperationTimedOut));
        assert!(began.elapsed() < Duration::from_secs(60) && beats.load(Ordering::Relaxed) > 0);
    }
}
