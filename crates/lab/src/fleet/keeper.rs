//! Looks after one instance: starts it, lets faults begin, samples it, tells by the [rules](super::rules) when it has
//! failed, and starts it again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::customers::Customers;
use super::output::{Event, Failure, FaultRow, Output};
use super::payment::Payment;
use super::rules::Rules;
use super::schedule::{Cause, Harmless, Schedule};
use super::tell;
use super::unit::Unit;
use crate::fault::{Fault, Growing};
use crate::random::Random;
use crate::record::telegraf::Tags;

const TICK: Duration = Duration::from_millis(100);
/// Seconds between samples.
const EVERY_S: i64 = 2;
/// A warning that comes in the last quarter of a fault's growth comes too late.
const LEAD_SHARE: f64 = 4.0;
/// Seconds that a failed instance is left failing, from and to, and then is down.
const FAILING_S: (f64, f64) = (10.0, 20.0);
const DOWN_S: f64 = 10.0;
/// A store that does not answer so long after its start is started again.
const RECOVERY: Duration = Duration::from_secs(20);
/// Growth times after which a fault has done nothing and is given up.
const PATIENCE: f64 = 2.0;
/// What the slowed provider takes in the end, in ms.
const SLOW_MS: f64 = 1_500.0;
/// Batch hours, from start to start.
const BATCH_EVERY: Duration = Duration::from_secs(300);

/// What goes on with the instance: healthy, until a fault begins and grows, until it is seen to fail, is stopped, is down
/// for a while, and is started and watched until it is well.
#[derive(Debug)]
enum State {
    Healthy {
        until: Option<Instant>,
    },
    Growing {
        row: usize,
        growing: Option<Growing>,
        deadline: Instant,
    },
    Failing {
        failure: usize,
        until: Instant,
    },
    Down {
        failure: usize,
        until: Instant,
    },
    Recovering {
        failure: Option<usize>,
        since: Instant,
    },
}

/// Something that goes on beside it, until then.
#[derive(Debug)]
struct Until {
    what: &'static str,
    from: Timestamp,
    end: Instant,
}

/// Keeper of one instance.
pub struct Keeper {
    /// The instance.
    pub unit: Unit,
    /// Its customers.
    pub customers: Arc<Customers>,
    /// Its payment provider.
    pub payment: Payment,
    /// Its faults; none for one that stays well.
    pub schedule: Option<Schedule>,
    /// When it has batch hours, the first of them.
    pub batch_at: Option<Instant>,
    /// Chance for all else.
    pub random: Random,
    /// Where everything is written.
    pub output: Arc<Output>,
    /// Offset of its samples inside the interval, so that not all are taken at once.
    pub offset_ms: i64,
}

/// What changes while a keeper runs.
struct Run {
    state: State,
    next: Option<Cause>,
    rules: Rules,
    sampled_s: i64,
    sampled_at: Timestamp,
    beside: Vec<Until>,
    harmless: (Instant, Harmless, u64),
}

fn after(seconds: f64) -> Instant {
    Instant::now() + Duration::from_secs_f64(seconds)
}

impl Keeper {
    /// Keeps the instance until `end`.
    ///
    /// # Errors
    /// Where it cannot be started or nothing can be written.
    pub fn run(mut self, end: Instant) -> Result<()> {
        self.start(false)?;
        let mut run = Run {
            state: State::Recovering {
                failure: None,
                since: Instant::now(),
            },
            next: None,
            rules: Rules::default(),
            sampled_s: Timestamp::now().as_second(),
            sampled_at: Timestamp::now(),
            beside: Vec::new(),
            harmless: self.draw_harmless(),
        };
        while Instant::now() < end {
            std::thread::sleep(TICK);
            self.tick(&mut run)?;
        }
        for until in run.beside {
            self.note_event(until.what, until.from)?;
        }
        Ok(())
    }

    fn start(&mut self, bad: bool) -> Result<()> {
        let seed = self.random.bits() >> 1;
        self.unit.start(seed, bad)
    }

    fn draw_harmless(&mut self) -> (Instant, Harmless, u64) {
        let (wait_s, what, seconds) = Harmless::draw(&mut self.random);
        (after(wait_s), what, seconds)
    }

    fn note_event(&self, kind: &'static str, start: Timestamp) -> Result<()> {
        self.output.event(Event {
            entity: self.unit.name.clone(),
            kind,
            start,
            end: Timestamp::now(),
        })
    }

    fn tick(&mut self, run: &mut Run) -> Result<()> {
        let died = self.unit.has_died();
        if died && matches!(run.state, State::Healthy { .. } | State::Growing { .. }) {
            self.fail(run, Timestamp::now())?;
        }
        let due_s = (Timestamp::now().as_millisecond() - self.offset_ms).div_euclid(1_000 * EVERY_S) * EVERY_S;
        if due_s > run.sampled_s {
            run.sampled_s = due_s;
            self.sample(run)?;
        }
        self.step(run)?;
        self.beside(run)
    }

    /// One sample of everything; what is not there is not written.
    fn sample(&mut self, run: &mut Run) -> Result<()> {
        let tags = Tags {
            host: &self.unit.name,
            service: "shop",
        };
        let at_s = run.sampled_s;
        if let Some(usage) = self.unit.usage() {
            self.output.metric("procstat", tags, at_s, &usage)?;
        }
        if let Some(stats) = self.unit.stats() {
            self.output.metric("shop", tags, at_s, &stats)?;
        }
        let at = Timestamp::now();
        let probe = self.unit.probe();
        self.output.metric("probe", tags, at_s, &probe)?;
        let (good, failed) = self.customers.take();
        let (by_probe, by_requests) = (
            run.rules.probe(at, probe.up == 1),
            run.rules.requests(run.sampled_at, good, failed),
        );
        run.sampled_at = at;
        match run.state {
            State::Healthy { .. } | State::Growing { .. } => {
                let onset = match (by_probe, by_requests) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
                if let Some(onset) = onset {
                    self.fail(run, onset)?;
                }
            }
            State::Recovering { failure, .. } if probe.up == 1 => {
                if let Some(failure) = failure {
                    self.output.failure_ends(failure, Timestamp::now())?;
                }
                run.rules = Rules::default();
                let step = self.schedule.as_mut().map(Schedule::next);
                run.next = step.map(|(_, cause)| cause);
                run.state = State::Healthy {
                    until: step.map(|(gap_s, _)| after(gap_s)),
                };
            }
            _ => {}
        }
        Ok(())
    }

    /// The instance has failed.
    fn fail(&mut self, run: &mut Run, onset: Timestamp) -> Result<()> {
        let (class, lead_s) = match (&run.state, run.next) {
            (State::Growing { row, .. }, Some(cause)) => {
                self.output.fault_failed(*row, onset)?;
                let lead_s = match cause {
                    Cause::Fault { growth_s, .. } => Some(growth_s / LEAD_SHARE),
                    Cause::Kill | Cause::BadConfig => None,
                };
                (name(cause), lead_s)
            }
            _ => ("unplanned", None),
        };
        tell(format_args!("{} failed: {class}", self.unit.name));
        let entity = self.unit.name.clone();
        let failure = self.output.failure(Failure {
            entity,
            class,
            onset,
            end: None,
            lead_s,
        })?;
        let until = after(FAILING_S.0 + (FAILING_S.1 - FAILING_S.0) * self.random.unit());
        // What is worn out stays so; a slowed provider stays as slow as it is now.
        run.state = State::Failing { failure, until };
        Ok(())
    }

    fn step(&mut self, run: &mut Run) -> Result<()> {
        let now = Instant::now();
        match run.state {
            State::Healthy { until: Some(until) } if now >= until => {
                if let Some(cause) = run.next {
                    run.state = self.begin(cause)?;
                }
            }
            State::Growing { growing, deadline, .. } => {
                if let Some(growing) = growing.filter(|g| g.fault == Fault::SlowDependency) {
                    self.payment.slow_down(ms(growing.severity()));
                }
                if now >= deadline {
                    tell(format_args!("{} did not fail and is restarted", self.unit.name));
                    let from = Timestamp::now();
                    self.payment.slow_down(0);
                    self.unit.quit();
                    self.start(false)?;
                    self.note_event("restart", from)?;
                    run.state = State::Recovering {
                        failure: None,
                        since: now,
                    };
                }
            }
            State::Failing { failure, until } if now >= until => {
                self.unit.stop();
                self.payment.slow_down(0);
                run.state = State::Down {
                    failure,
                    until: after(DOWN_S),
                };
            }
            State::Down { failure, until } if now >= until => {
                self.start(false)?;
                run.state = State::Recovering {
                    failure: Some(failure),
                    since: now,
                };
            }
            State::Recovering { failure, since } if since.elapsed() > RECOVERY => {
                tell(format_args!("{} does not answer and is started again", self.unit.name));
                self.start(false)?;
                run.state = State::Recovering { failure, since: now };
            }
            _ => {}
        }
        Ok(())
    }

    /// Lets what is planned begin.
    fn begin(&mut self, cause: Cause) -> Result<State> {
        let begin = Timestamp::now();
        let mut growing = None;
        let mut deadline = after(10.0);
        let (mut shape, mut growth_s) = ("", 0.0);
        match cause {
            Cause::Fault {
                fault,
                shape: course,
                growth_s: seconds,
            } => {
                (shape, growth_s) = (course.name(), seconds);
                deadline = after(PATIENCE * growth_s);
                let growth = Duration::from_secs_f64(growth_s);
                growing = Some(Growing {
                    fault,
                    shape: course,
                    growth,
                    since: Instant::now(),
                });
                let what = format!("fault/{}/{shape}/{}", fault.name(), growth.as_millis());
                if fault != Fault::SlowDependency && !self.unit.control(&what) {
                    tell(format_args!("{} would not begin {}", self.unit.name, fault.name()));
                }
            }
            Cause::Kill => self.unit.kill(),
            Cause::BadConfig => {
                self.unit.quit();
                self.start(true)?;
            }
        }
        let row = self.output.fault(FaultRow {
            entity: self.unit.name.clone(),
            fault: name(cause),
            shape,
            begin,
            growth_s,
            failure_onset: None,
            foreseeable: growing.is_some(),
        })?;
        Ok(State::Growing { row, growing, deadline })
    }

    /// What goes on beside and does no harm.
    fn beside(&mut self, run: &mut Run) -> Result<()> {
        let now = Instant::now();
        let (over, going) = std::mem::take(&mut run.beside).into_iter().partition(|u| now >= u.end);
        run.beside = going;
        let over: Vec<Until> = over;
        for until in over {
            match until.what {
                "burst" => self.customers.burst.store(false, Ordering::Relaxed),
                // A fault that slows the provider does so again with the next tick.
                "slow-patch" => self.payment.slow_down(0),
                "batch" => self.customers.batch.store(false, Ordering::Relaxed),
                _ => {}
            }
            self.note_event(until.what, until.from)?;
        }
        if self.batch_at.is_some_and(|at| now >= at) {
            self.batch_at = Some(now + BATCH_EVERY);
            self.customers.batch.store(true, Ordering::Relaxed);
            run.note("batch", 60 + self.random.below(60));
        }
        let (at, what, seconds) = run.harmless;
        if now < at {
            return Ok(());
        }
        match what {
            Harmless::Burst => {
                self.customers.burst.store(true, Ordering::Relaxed);
                run.note("burst", seconds);
            }
            Harmless::Noise => {
                if self.unit.control(&format!("noise/{seconds}")) {
                    run.note("noise", seconds);
                }
            }
            Harmless::SlowPatch => {
                if matches!(run.state, State::Healthy { .. }) {
                    self.payment.slow_down(100 + self.random.below(200));
                    run.note("slow-patch", seconds);
                }
            }
            Harmless::Deploy => {
                // While a fault grows a restart would heal it.
                if matches!(run.state, State::Healthy { .. }) {
                    self.deploy()?;
                }
            }
        }
        run.harmless = self.draw_harmless();
        Ok(())
    }

    /// A planned restart: the balancer sends nobody, the store ends, and a new one starts.
    fn deploy(&mut self) -> Result<()> {
        let from = Timestamp::now();
        self.customers.away.store(true, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(300));
        self.unit.quit();
        self.start(false)?;
        let until = Instant::now() + Duration::from_secs(2);
        while self.unit.stats().is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.customers.away.store(false, Ordering::Relaxed);
        self.note_event("deploy", from).context("cannot write events")
    }
}

impl Run {
    fn note(&mut self, what: &'static str, seconds: u64) {
        self.beside.push(Until {
            what,
            from: Timestamp::now(),
            end: Instant::now() + Duration::from_secs(seconds),
        });
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 3,000
fn ms(severity: f64) -> u64 {
    (severity * SLOW_MS) as u64
}

/// The class of a failure is what the cause is called.
fn name(cause: Cause) -> &'static str {
    match cause {
        Cause::Fault { fault, .. } => fault.name(),
        Cause::Kill => "kill",
        Cause::BadConfig => "bad-config",
    }
}
