//! More than anybody should send: it is refused or cut, counted and told, and memory stays under a ceiling.

use std::fs;
use std::time::{Duration, Instant};

use foreshock_domain::Timestamp;
use foreshock_wire::time::format_rfc3339;
use rdkafka::producer::{BaseProducer, Producer};

use crate::broker::Broker;
use crate::deployment::Deployment;
use crate::process::Foreshock;
use crate::topics::{Outgoing, Topics, send};

const PATIENCE: Duration = Duration::from_secs(240);
const LARGE: usize = 10 << 20;
/// What batches unpack to. Of zstd the client takes up to 100 MB, and of other codecs what their format can hold.
const BOMBS_MIB: [usize; 2] = [60, 150];
/// Records of a flood.
const FLOOD: u32 = 1_000_000;

/// The most memory that a process has held so far.
fn peak_mib(process: &Foreshock) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

fn metric(process: &Foreshock, name: &str) -> f64 {
    process.metric(name).unwrap_or(0.0)
}

/// Waits until a counter has come so far; `/livez` must be good all the time.
fn wait_for(process: &Foreshock, name: &str, least: f64) {
    let until = Instant::now() + PATIENCE;
    while metric(process, name) < least {
        let (status, _) = process.get("/livez").unwrap_or_default();
        assert!(status == 200 || status == 0, "/livez says {status}");
        assert!(
            Instant::now() < until,
            "{name} is {} of {least}:\n{}",
            metric(process, name),
            process.last_stderr()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn at(s: u32) -> (Option<i64>, String) {
    let at = Timestamp::from_secs(1_700_000_000 + i64::from(s));
    (Some(at.as_millis()), format_rfc3339(at))
}

fn sample(s: u32, name: &str, host: u32) -> Outgoing {
    let (timestamp_ms, text) = at(s);
    let value = format!(r#"{{"timestamp":"{text}","name":"{name}","value":1.5,"labels":{{"host":"h{host}"}}}}"#);
    Outgoing {
        timestamp_ms,
        ..Outgoing::new(format!("h{host}"), value)
    }
}

fn line(s: u32, message: &str, host: u32) -> Outgoing {
    let (timestamp_ms, text) = at(s);
    let value = format!(r#"{{"@timestamp":"{text}","level":"INFO","host":"h{host}","message":"{message}"}}"#);
    Outgoing {
        timestamp_ms,
        ..Outgoing::new(format!("h{host}"), value)
    }
}

/// A word without digits, which would be taken for a variable: another for every number.
fn word(mut n: u32) -> String {
    let mut word = String::new();
    for _ in 0..6 {
        word.push(char::from(b'a' + u8::try_from(n % 26).unwrap()));
        n /= 26;
    }
    word
}

#[test]
fn records_of_10_mib_go_to_dead_letters_cut_and_the_partition_goes_on() {
    let Some(broker) = Broker::shared() else { return };
    let topics = Topics::new(broker, "large");
    let metrics = topics.create("metrics", 1, &[("max.message.bytes", "12582912")]);
    let source = format!("[[source]]\ntopic = \"{metrics}\"\nformat = \"plain_json\"\n");
    let deployment = Deployment::new(broker, &topics, "one", &source);
    let process = deployment.start("a");
    let mut config = broker.client();
    config.set("message.max.bytes", "12582912");
    let producer: BaseProducer = config.create().unwrap();
    // Noise, which no compression makes small enough for the dead-letter topic at its defaults.
    let mut noise = 1_u64;
    let mut noisy = || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (noise >> 33) as u8
    };
    let large: Vec<u8> = (0..LARGE).map(|_| noisy()).collect();
    for s in 0..10 {
        send(&producer, &metrics, &sample(s, "load", 1));
        if s % 5 == 2 {
            send(&producer, &metrics, &Outgoing::new("h1", large.clone()));
        }
    }
    producer.flush(PATIENCE).unwrap();
    wait_for(&process, "foreshock_samples_total", 10.0);
    let letters = deployment.dead_letters();
    assert_eq!(letters.len(), 2);
    for letter in &letters {
        let value = letter.value.as_deref().unwrap_or_default();
        assert!(value.len() < 1 << 20 && large.starts_with(value), "its beginning");
        assert_eq!(letter.header("source_value_bytes"), Some(&*LARGE.to_string()));
        println!("{}", letter.header("error").unwrap_or_default());
    }
    println!("two records of 10 MiB: {} MiB at most", peak_mib(&process));
    assert!(peak_mib(&process) < 400, "{} MiB", peak_mib(&process));
    assert!(process.terminate(Duration::from_secs(30)).success());
}

#[test]
fn batches_that_unpack_to_far_more_than_they_are_do_not_stop_a_partition() {
    let Some(broker) = Broker::shared() else { return };
    let topics = Topics::new(broker, "bombs");
    let metrics = topics.create("metrics", 1, &[]);
    let source = format!("[[source]]\ntopic = \"{metrics}\"\nformat = \"plain_json\"\n");
    let deployment = Deployment::new(broker, &topics, "one", &source);
    let process = deployment.start("a");
    let mut s = 0;
    for (mib, codec) in BOMBS_MIB
        .iter()
        .flat_map(|mib| ["zstd", "gzip", "lz4", "snappy"].map(|codec| (mib, codec)))
    {
        // Nothing but zeros: a thousandth and less of it is sent. What a codec can't make small enough no broker takes.
        let mut config = broker.client();
        config
            .set("message.max.bytes", "1000000000")
            .set("compression.type", codec);
        let producer: BaseProducer = config.create().unwrap();
        send(&producer, &metrics, &Outgoing::new("h1", vec![b'0'; mib << 20]));
        producer.flush(PATIENCE).unwrap();
        send(&producer, &metrics, &sample(s, "load", 1));
        producer.flush(PATIENCE).unwrap();
        s += 1;
    }
    wait_for(&process, "foreshock_samples_total", f64::from(s));
    let letters = deployment.dead_letters();
    println!(
        "batches of {BOMBS_MIB:?} MiB: {} letters, {} MiB at most",
        letters.len(),
        peak_mib(&process)
    );
    let (skipped, taken): (Vec<_>, Vec<_>) = letters.iter().partition(|l| l.header("source_last_offset").is_some());
    assert_eq!(skipped.len(), 1, "150 MiB of zstd");
    assert!(taken.len() >= 3, "those that brokers take: {}", taken.len());
    assert!(peak_mib(&process) < 1_024, "{} MiB", peak_mib(&process));
    assert!(process.terminate(Duration::from_secs(30)).success());
}

/// Sends a flood as fast as brokers take it, and tells how fast it was read and how much memory that took.
fn flood(
    (name, partitions): (&str, i32),
    format: &str,
    metric_of: &str,
    record: impl Fn(u32) -> Outgoing,
) -> (Foreshock, u64) {
    let broker = Broker::shared().expect("not skipped");
    let topics = Topics::new(broker, name);
    let input = topics.create("input", partitions, &[]);
    let source = format!("[[source]]\ntopic = \"{input}\"\nformat = \"{format}\"\n");
    let deployment = Deployment::new(broker, &topics, "one", &source);
    let process = deployment.start("a");
    let idle = peak_mib(&process);
    let mut config = broker.client();
    config
        .set("enable.idempotence", "true")
        .set("linger.ms", "20")
        .set("compression.type", "lz4");
    let producer: BaseProducer = config.create().unwrap();
    let began = Instant::now();
    for n in 0..FLOOD {
        send(&producer, &input, &record(n));
    }
    producer.flush(PATIENCE).unwrap();
    let sent = began.elapsed();
    wait_for(&process, metric_of, f64::from(FLOOD));
    let read = began.elapsed();
    // A window closes and a snapshot is taken.
    for n in 0..1_000 {
        send(&producer, &input, &record(n + FLOOD));
    }
    producer.flush(PATIENCE).unwrap();
    let snapshots = metric(&process, "foreshock_snapshots_total");
    wait_for(&process, "foreshock_snapshots_total", snapshots + f64::from(partitions));
    let peak = peak_mib(&process);
    let count = |what: &str| format!("{what} {}", metric(&process, what));
    println!(
        "{name}, {partitions} partitions: sent in {:.1} s, read in {:.1} s; {idle} MiB before, {peak} MiB at most; {}, {}, {}, {}",
        sent.as_secs_f64(),
        read.as_secs_f64(),
        count("foreshock_series"),
        count("foreshock_series_refused_total"),
        count("foreshock_entities_refused_total"),
        count("foreshock_dead_letters_total"),
    );
    (process, peak)
}

/// A topic's rate is some ten thousand a second; this comes as fast as the broker takes it.
#[test]
#[ignore = "takes some minutes"]
fn floods_are_held_under_a_ceiling() {
    if Broker::shared().is_none() {
        return;
    }
    let end = |(process, peak): (Foreshock, u64), most: u64| {
        assert!(peak < most, "{peak} MiB");
        assert!(process.terminate(Duration::from_secs(40)).success());
    };
    let fast = flood(("fast", 8), "plain_json", "foreshock_samples_total", |n| {
        sample(n / 1_000, "load", n % 1_000)
    });
    end(fast, 1_024);
    for (partitions, most) in [(1, 1_024), (8, 4_096)] {
        let series = flood(("series", partitions), "plain_json", "foreshock_records_total", |n| {
            sample(n / 16_667, &format!("m_{}", word(n)), n % 1_000)
        });
        let refused = metric(&series.0, "foreshock_series_refused_total");
        assert_eq!(
            refused > 0.0,
            partitions == 1,
            "200,000 series a partition, and no more"
        );
        end(series, most);
    }
    let templates = flood(("templates", 8), "log_json", "foreshock_lines_total", |n| {
        let words = format!("{} {} {}", word(n), word(n.wrapping_mul(2_654_435_761)), word(n / 7));
        line(n / 16_667, &words, n % 1_000)
    });
    end(templates, 4_096);
}
