//! A fleet that is alive and fails: metrics with a rhythm, leaks that end in a failed probe, log lines that nobody saw before and
//! then a fatal one, slow hours that end by themselves, and records that can't be read. The same bytes every time.

use std::f64::consts::TAU;

use foreshock_domain::Timestamp;
use foreshock_wire::time::format_rfc3339;

use crate::topics::Outgoing;

/// Seconds of event time between two samples of a series.
pub const STEP_S: i64 = 10;
pub const METRIC_PARTITIONS: i32 = 5;
pub const LOG_PARTITIONS: i32 = 4;
/// 2025-10-09T08:53:20Z, a whole number of windows.
const START_S: i64 = 1_760_000_000;
/// Steps before the first incident: what is usual has to be learned first.
const QUIET: u32 = 60;

/// What it is like.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    pub hosts: u32,
    pub steps: u32,
    /// Steps between two incidents of one host.
    pub every: u32,
}

/// Records of one step.
#[derive(Debug, Default)]
pub struct Step {
    pub metrics: Vec<Outgoing>,
    pub logs: Vec<Outgoing>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Incident {
    Leak,
    Fatal,
    Slow,
}

impl Fleet {
    /// All records of a step. The last step has a sample and a line of every host at the same time, so that all partitions come
    /// equally far.
    pub fn step(&self, step: u32) -> Step {
        let mut all = Step::default();
        for host in 0..self.hosts {
            self.samples(host, step, &mut all.metrics);
            self.lines(host, step, &mut all.logs);
        }
        all
    }

    /// The incident of a host that goes on in a step, and how far it is.
    fn incident(&self, host: u32, step: u32) -> Option<(Incident, u32)> {
        // Hosts fail in turn, each at a time of its own.
        let shift = QUIET + host * self.every / self.hosts.max(1);
        let since = step.checked_sub(shift)?;
        let kind = match (since / self.every + host) % 3 {
            0 => Incident::Leak,
            1 => Incident::Fatal,
            _ => Incident::Slow,
        };
        let length = match kind {
            Incident::Leak => 26,
            Incident::Fatal => 8,
            Incident::Slow => 10,
        };
        let age = since % self.every;
        (age < length).then_some((kind, age))
    }

    fn samples(&self, host: u32, step: u32, into: &mut Vec<Outgoing>) {
        let incident = self.incident(host, step);
        let phase = TAU * f64::from(step) / 90.0 + f64::from(host);
        let noise = |of: u32| unit(&[host, step, of]) - 0.5;
        let load = 50.0 + 12.0 * phase.sin() + 4.0 * noise(1);
        let leak = match incident {
            Some((Incident::Leak, age)) => 14.0 * f64::from(age),
            _ => 0.0,
        };
        let down = matches!(incident, Some((Incident::Leak, 20..)));
        let slow = matches!(incident, Some((Incident::Slow, _)));
        let latency = (8.0 + load / 10.0 + 2.0 * noise(2)) * if slow { 6.0 } else { 1.0 };
        let mut series = vec![("up", f64::from(u8::from(!down)))];
        if !down {
            series.extend([
                ("requests_per_s", load),
                ("cpu_percent", 20.0 + load / 2.0 + 3.0 * noise(3)),
                ("memory_mib", 400.0 + load + 5.0 * noise(4) + leak),
                ("latency_ms", latency),
                ("queue_length", (load / 20.0 + 2.0 * noise(5)).max(0.0).round()),
            ]);
        }
        let at = time(step);
        for (name, value) in series {
            let text = format!(
                r#"{{"timestamp":"{}","name":"{name}","value":{value:.4},"labels":{{"host":"{}"}}}}"#,
                format_rfc3339(at),
                name_of(host)
            );
            into.push(record(host, METRIC_PARTITIONS, at, text));
        }
        if (step * self.hosts + host) % 997 == 500 {
            into.push(record(
                host,
                METRIC_PARTITIONS,
                at,
                format!("{{\"timestamp\": torn at step {step}"),
            ));
        }
    }

    fn lines(&self, host: u32, step: u32, into: &mut Vec<Outgoing>) {
        let at = time(step);
        let mut line = |level: &str, message: String| {
            let text = format!(
                r#"{{"@timestamp":"{}","level":"{level}","host":"{}","message":"{message}"}}"#,
                format_rfc3339(at),
                name_of(host)
            );
            into.push(record(host, LOG_PARTITIONS, at, text));
        };
        let n = hash(&[host, step, 7]);
        line("INFO", format!("request {} took {} ms", n % 900_000, 5 + n % 20));
        match n % 4 {
            0 => line("INFO", format!("checkpoint {step} written, {} pages", n % 300)),
            1 => line("DEBUG", format!("connection from 10.0.{}.{} accepted", n % 7, n % 251)),
            _ => {}
        }
        match self.incident(host, step) {
            Some((Incident::Fatal, 6)) => line("FATAL", "storage engine gives up, no more writes".into()),
            Some((Incident::Fatal, age)) if age < 6 => {
                line("WARN", format!("write stalled, lock held by worker {}", n % 30));
                line("ERROR", format!("journal entry {} cannot be flushed", n % 5_000));
            }
            Some((Incident::Slow, _)) => line("WARN", format!("slow request, {} ms", 60 + n % 90)),
            _ => {}
        }
    }
}

fn time(step: u32) -> Timestamp {
    Timestamp::from_secs(START_S + i64::from(step) * STEP_S)
}

fn name_of(host: u32) -> String {
    format!("shop-{host}")
}

fn record(host: u32, partitions: i32, at: Timestamp, text: String) -> Outgoing {
    Outgoing {
        partition: i32::try_from(host).ok().map(|h| h % partitions),
        timestamp_ms: Some(at.as_millis()),
        ..Outgoing::new(name_of(host), text)
    }
}

/// The finaliser of `SplitMix64` over some numbers: noise without a generator's state.
fn hash(of: &[u32]) -> u64 {
    of.iter().fold(0x9e37_79b9_7f4a_7c15, |h: u64, n| {
        let mut z = h ^ u64::from(*n).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

fn unit(of: &[u32]) -> f64 {
    (hash(of) >> 11) as f64 / (1u64 << 53) as f64
}

#[test]
fn the_fleet_is_the_same_every_time_and_fails_often() {
    let fleet = Fleet {
        hosts: 24,
        steps: 200,
        every: 60,
    };
    let (mut records, mut fatal, mut down, mut torn) = (0, 0, 0, 0);
    for step in 0..fleet.steps {
        let now = fleet.step(step);
        let again = fleet.step(step);
        assert_eq!((&now.metrics, &now.logs), (&again.metrics, &again.logs));
        records += now.metrics.len() + now.logs.len();
        let has =
            |r: &Outgoing, what: &str| String::from_utf8_lossy(r.value.as_deref().unwrap_or_default()).contains(what);
        fatal += now.logs.iter().filter(|r| has(r, "FATAL")).count();
        down += now.metrics.iter().filter(|r| has(r, r#""up","value":0"#)).count();
        torn += now.metrics.iter().filter(|r| has(r, "torn")).count();
    }
    assert!(
        records > 30_000 && fatal > 10 && down > 50 && torn > 3,
        "{records} {fatal} {down} {torn}"
    );
}
