//! A stop in the middle of a stream: in order, in time, and without a trace in what is written.

use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::deployment::{Deployment, multiset};
use crate::pipeline::{Incident, complete, golden};
use crate::topics::{Outgoing, Topics};

const PATIENCE: Duration = Duration::from_secs(240);
/// What `run` promises; orchestrators kill after 30 s.
const STOP_MAX: Duration = Duration::from_secs(25);
const RECORDS: usize = 100_000;
/// Parts in which the records are sent, with a pause after each: a stream and not a heap.
const PARTS: usize = 40;

/// The records of the incident among those of healthy hosts, about [`RECORDS`] in all, by topic.
fn crowd() -> Vec<(String, Outgoing)> {
    let mut rows = golden("leak_then_down");
    let calm: Vec<_> = rows
        .iter()
        .filter(|(_, _, r)| r.key.as_deref() == Some(b"web-2"))
        .cloned()
        .collect();
    for host in 0..RECORDS / calm.len() {
        rows.extend(calm.iter().map(|(at, topic, record)| {
            let text = std::str::from_utf8(record.value.as_deref().unwrap()).unwrap();
            let name = format!("crowd-{host}");
            let record = Outgoing {
                key: Some(name.clone().into_bytes()),
                value: Some(text.replace("web-2", &name).into_bytes()),
                ..record.clone()
            };
            (*at, topic.clone(), record)
        }));
    }
    rows.extend(golden("new_lines_then_fatal"));
    rows.sort_by_key(|(at, ..)| *at);
    rows.into_iter().map(|(_, topic, record)| (topic, record)).collect()
}

#[test]
fn a_stop_under_load_is_in_time_and_nothing_is_lost_or_doubled() {
    let Some(broker) = Broker::shared() else { return };
    let topics = Topics::new(broker, "stop");
    let sources = Incident::create_inputs(&topics);
    let (calm, stopped) = (
        Deployment::new(broker, &topics, "calm", &sources),
        Deployment::new(broker, &topics, "stopped", &sources),
    );
    let rows = crowd();
    assert!(rows.len() >= RECORDS, "{} records", rows.len());
    let calm_process = calm.start("a");
    let victim = stopped.start("a");
    let records = |p: &crate::process::Foreshock| {
        let (_, text) = p.get("/metrics").expect("metrics are served");
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix("foreshock_records_total ").map(str::to_owned));
        line.expect("a counter").parse::<f64>().expect("a number")
    };
    std::thread::scope(|scope| {
        let (topics, rows) = (&topics, &rows);
        let sender = scope.spawn(move || {
            for part in rows.chunks(rows.len().div_ceil(PARTS)) {
                for topic in ["metrics", "logs"] {
                    let of_it = part.iter().filter(|(t, _)| t == topic);
                    topics.produce(&topics.name(topic), &of_it.map(|(_, r)| r.clone()).collect::<Vec<_>>());
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let until = Instant::now() + PATIENCE;
        while records(&victim) < rows.len() as f64 / 5.0 {
            assert!(Instant::now() < until, "only {} records were read", records(&victim));
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!sender.is_finished(), "the stream still runs");
        let began = Instant::now();
        let log = victim.stderr_file();
        let status = victim.terminate(STOP_MAX);
        println!("stopped in {:.2} s", began.elapsed().as_secs_f64());
        assert!(status.success(), "{status}");
        let log = std::fs::read_to_string(log).unwrap();
        assert!(log.contains("has committed everything and ends"), "{log}");
    });
    let again = stopped.start("a");
    let expected = multiset(&calm.events_until(PATIENCE, complete));
    assert!(expected.values().all(|n| *n == 1), "undisturbed: each event once");
    let events = stopped.wait_for(PATIENCE, |seen| seen.len() >= expected.len() && complete(seen));
    assert_eq!(multiset(&events), expected, "as if it had never been stopped");
    assert!(records(&again) > rows.len() as f64 / 10.0, "the stop was in the middle");
    for process in [calm_process, again] {
        assert!(process.terminate(STOP_MAX).success());
    }
}
