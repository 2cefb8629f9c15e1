//! Who injects what. Each takes a deployment's processes, does its worst while its turn goes on, and leaves processes that run.

use std::time::{Duration, Instant};

use super::{Injection, PATIENCE, Stage, Turn};
use crate::deployment::Deployment;
use crate::fleet::{LOG_PARTITIONS, METRIC_PARTITIONS};
use crate::process::Foreshock;
use crate::proxy::Weather;

/// Of the inputs and of the signals.
const PARTITIONS: i32 = METRIC_PARTITIONS + LOG_PARTITIONS + 2;

type Played = (Vec<Injection>, Vec<Foreshock>);

fn seconds(s: u64) {
    std::thread::sleep(Duration::from_secs(s));
}

/// `kill -9` of the detector 2 to 5 s after it was back, and every third time once more while it is coming back.
pub fn killed(stage: &Stage<'_>, of: &Deployment<'_>, mut processes: Vec<Foreshock>, turn: Turn) -> Played {
    let mut injections = Vec::new();
    let fault = "detector killed (SIGKILL)";
    while turn.goes_on() {
        let n = injections.len() as u64;
        seconds(2 + n * 7 % 4);
        processes.remove(0).kill();
        let began = Instant::now();
        let mut process = of.launch("a");
        if n % 3 == 2 {
            seconds(1);
            process.kill();
            injections.push(Injection { fault, recovery: None });
            process = of.launch("a");
        }
        let recovery = stage.recovery(of, began, &[&process]);
        injections.push(Injection {
            fault,
            recovery: Some(recovery),
        });
        processes.push(process);
    }
    (injections, processes)
}

/// One broker after the other is killed, stopped or paused, and comes back; the next only when all are whole again.
pub fn brokers(stage: &Stage<'_>, of: &Deployment<'_>, processes: Vec<Foreshock>, turn: Turn) -> Played {
    let mut injections = Vec::new();
    while turn.goes_on() {
        let n = injections.len();
        let node = stage.cluster.node(n);
        let began = Instant::now();
        std::thread::scope(|scope| {
            let recovery = || scope.spawn(|| stage.recovery(of, began, &[&processes[0]]));
            let (fault, recovery) = match n % 3 {
                0 => {
                    node.kill_hard();
                    let recovery = recovery();
                    seconds(8);
                    node.start();
                    ("broker killed (SIGKILL), back after 8 s", recovery)
                }
                1 => {
                    node.signal("STOP");
                    let recovery = recovery();
                    seconds(12);
                    node.signal("CONT");
                    ("broker paused (SIGSTOP) for 12 s", recovery)
                }
                _ => {
                    node.stop();
                    let recovery = recovery();
                    seconds(4);
                    node.start();
                    ("broker stopped (SIGTERM), back after 4 s", recovery)
                }
            };
            let recovery = recovery.join().expect("a recovery");
            injections.push(Injection {
                fault,
                recovery: Some(recovery),
            });
        });
        stage.cluster.wait_whole(PATIENCE);
    }
    (injections, processes)
}

/// The detector's connections are cut, slowed, and hold everything back, shorter and longer than its session and transactions live.
pub fn network(stage: &Stage<'_>, of: &Deployment<'_>, processes: Vec<Foreshock>, turn: Turn) -> Played {
    let proxy = stage.cluster.proxy();
    let mut injections = Vec::new();
    while turn.goes_on() {
        seconds(2);
        let began = Instant::now();
        std::thread::scope(|scope| {
            let recovery = || scope.spawn(|| stage.recovery(of, began, &[&processes[0]]));
            let (fault, recovery) = match injections.len() % 4 {
                0 => {
                    assert!(proxy.cut() > 0, "there are connections to cut");
                    ("connections cut", recovery())
                }
                1 => {
                    let slow = Weather {
                        holds: false,
                        latency: Duration::from_millis(150),
                        bytes_per_s: Some(100_000),
                    };
                    proxy.set(slow);
                    let recovery = recovery();
                    seconds(12);
                    ("connections slowed for 12 s (150 ms, 100 kB/s)", recovery)
                }
                n => {
                    proxy.set(Weather {
                        holds: true,
                        ..Weather::default()
                    });
                    let recovery = recovery();
                    let (fault, length) = if n == 2 {
                        ("network away for 4 s", 4)
                    } else {
                        ("network away for 20 s", 20)
                    };
                    seconds(length);
                    (fault, recovery)
                }
            };
            proxy.set(Weather::default());
            let recovery = recovery.join().expect("a recovery");
            injections.push(Injection {
                fault,
                recovery: Some(recovery),
            });
        });
    }
    (injections, processes)
}

/// A second instance joins, and leaves on SIGTERM or by `kill -9`.
pub fn shared(stage: &Stage<'_>, of: &Deployment<'_>, mut processes: Vec<Foreshock>, turn: Turn) -> Played {
    let mut injections = Vec::new();
    let mut n = 0;
    while turn.goes_on() {
        let began = Instant::now();
        let other = of.launch(["b", "c"][n / 2 % 2]);
        let recovery = stage.recovery(of, began, &[&processes[0], &other]);
        injections.push(Injection {
            fault: "an instance joins",
            recovery: Some(recovery),
        });
        seconds(2);
        let began = Instant::now();
        let fault = if n % 2 == 0 {
            let status = other.terminate(PATIENCE);
            assert!(status.success(), "SIGTERM ends it in order: {status}");
            "an instance leaves (SIGTERM)"
        } else {
            other.kill();
            "an instance dies (SIGKILL), the other takes over"
        };
        let recovery = stage.recovery(of, began, &[&processes[0]]);
        injections.push(Injection {
            fault,
            recovery: Some(recovery),
        });
        n += 1;
    }
    processes.truncate(1);
    (injections, processes)
}

/// One of two instances stands still for longer than its session and its transactions live; the other takes over; then it wakes
/// and believes to be the owner still.
pub fn frozen(stage: &Stage<'_>, of: &Deployment<'_>, mut processes: Vec<Foreshock>, turn: Turn) -> Played {
    let mut injections = Vec::new();
    while turn.goes_on() {
        let sleeper = injections.len() % 2;
        let began = Instant::now();
        processes[sleeper].signal("STOP");
        let recovery = stage.recovery(of, began, &[&processes[1 - sleeper]]);
        injections.push(Injection {
            fault: "one of two instances stands still for 22 s (SIGSTOP)",
            recovery: Some(recovery),
        });
        std::thread::sleep((began + Duration::from_secs(22)).saturating_duration_since(Instant::now()));
        processes[sleeper].signal("CONT");
        // It works again: that it is ready is not enough, since it believes so when it wakes, and both own the same.
        let woke = Instant::now();
        let owned = |p: &Foreshock| p.metric("foreshock_owned_partitions").unwrap_or(0.0) as i32;
        let shared =
            |all: &[Foreshock]| all.iter().all(|p| owned(p) > 0) && all.iter().map(owned).sum::<i32>() == PARTITIONS;
        while !shared(&processes) {
            assert_eq!(
                processes[sleeper].ended(),
                None,
                "it wakes and goes on:\n{}",
                processes[sleeper].last_stderr()
            );
            // Only after a while: when it wakes it has not come round for as long as it stood still.
            let live = processes[sleeper].get("/livez").is_none_or(|(status, _)| status == 200);
            assert!(
                live || woke.elapsed() < Duration::from_secs(10),
                "/livez asks for a restart, which would mend nothing:\n{}",
                processes[sleeper].last_stderr()
            );
            assert!(
                woke.elapsed() < PATIENCE,
                "it works again:\n{}",
                processes[sleeper].last_stderr()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        stage.recovery(of, woke, &[&processes[0], &processes[1]]);
    }
    (injections, processes)
}

/// A second process of the same instance name: the older is fenced and ends, the younger goes on.
pub fn twins(stage: &Stage<'_>, of: &Deployment<'_>, mut processes: Vec<Foreshock>, turn: Turn) -> Played {
    let mut injections = Vec::new();
    while turn.goes_on() {
        seconds(3);
        let began = Instant::now();
        let mut younger = of.launch("a");
        let recovery = stage.recovery(of, began, &[&younger]);
        injections.push(Injection {
            fault: "a second process of the same instance name",
            recovery: Some(recovery),
        });
        let mut older = processes.remove(0);
        let until = Instant::now() + PATIENCE;
        let status = loop {
            assert_eq!(younger.ended(), None, "the younger goes on:\n{}", younger.last_stderr());
            if let Some(status) = older.ended() {
                break status;
            }
            assert!(Instant::now() < until, "two of one name:\n{}", older.last_stderr());
            std::thread::sleep(Duration::from_millis(100));
        };
        assert!(!status.success(), "the older says that it did not end in order");
        assert!(
            older.stderr().contains("another process runs as this instance"),
            "and why:\n{}",
            older.last_stderr()
        );
        processes.push(younger);
    }
    (injections, processes)
}
