//! Batches that nobody can unpack: they are skipped, a dead letter says so once, and all other records arrive.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use foreshock_domain::Timestamp;
use foreshock_wire::time::format_rfc3339;
use rdkafka::producer::{BaseProducer, Producer};

use crate::broker::Broker;
use crate::deployment::Deployment;
use crate::faults::Positions;
use crate::process::Foreshock;
use crate::topics::{Incoming, Outgoing, Topics, send};

const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes of a batch before its records, in the format of today; the first 12 are its first offset and its length without these 12.
const BATCH_HEADER: usize = 61;
/// Where the low byte of its attributes stands, of which three bits name the codec.
const ATTRIBUTES: usize = 22;

fn sample(s: u32) -> Outgoing {
    let at = Timestamp::from_secs(1_700_000_000 + i64::from(s));
    let text = format_rfc3339(at);
    let value = format!(r#"{{"timestamp":"{text}","name":"load","value":1.5,"labels":{{"host":"h1"}}}}"#);
    Outgoing {
        timestamp_ms: Some(at.as_millis()),
        ..Outgoing::new("h1", value)
    }
}

/// Nothing but zeros: a thousandth and less of it is sent.
fn zeros(mib: usize) -> Outgoing {
    Outgoing::new("h1", vec![b'0'; mib << 20])
}

/// Sends records as one batch. Within a transaction a marker follows, which no reader sees.
fn send_batch(
    (broker, topics, topic): (&Broker, &Topics<'_>, &str),
    in_transaction: bool,
    codec: &str,
    records: &[Outgoing],
) {
    let mut config = broker.client();
    config
        .set("message.max.bytes", "1000000000")
        .set("batch.size", "1000000000")
        .set("queue.buffering.max.kbytes", "1000000")
        .set("linger.ms", "10000")
        .set("compression.type", codec);
    if in_transaction {
        config.set("transactional.id", format!("{}writer", topics.prefix()));
    }
    let producer: BaseProducer = config.create().unwrap();
    if in_transaction {
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
    }
    records.iter().for_each(|record| send(&producer, topic, record));
    producer.flush(PATIENCE).unwrap();
    if in_transaction {
        producer.commit_transaction(PATIENCE).unwrap();
    }
}

fn wait_until(what: &str, process: &Foreshock, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "{what}:\n{}", process.last_stderr());
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn metric(process: &Foreshock, name: &str) -> u64 {
    process.metric(name).unwrap_or(0.0) as u64
}

fn skipped_of(letters: &[Incoming]) -> Vec<(String, String)> {
    let header = |letter: &Incoming, name| letter.header(name).unwrap_or_default().to_owned();
    let of = |letter: &Incoming| (header(letter, "source_offset"), header(letter, "source_last_offset"));
    letters.iter().map(of).collect()
}

fn offsets(skipped: &[(i64, i64)]) -> Vec<(String, String)> {
    skipped.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
}

#[test]
fn batches_that_unpack_to_too_much_are_skipped_and_told_of_once_whatever_is_killed() {
    let Some(broker) = Broker::shared() else { return };
    let topics = Topics::new(broker, "skips");
    let metrics = topics.create("metrics", 1, &[]);
    let source = format!("[[source]]\ntopic = \"{metrics}\"\nformat = \"plain_json\"\n");
    let deployment = Deployment::new(broker, &topics, "one", &source);
    let process = deployment.start("a");
    let batch = |codec: &str, records: &[Outgoing]| send_batch((broker, &topics, &metrics), true, codec, records);
    // Offsets 0 to 2, and a marker at 3; likewise for all that follow.
    batch("none", &[sample(0), sample(1), sample(2)]);
    batch("zstd", &[zeros(60), zeros(60), zeros(60)]); // 4 to 6
    batch("zstd", &[sample(3)]); // 8
    batch("zstd", &[zeros(150)]); // 10
    batch("zstd", &[sample(4), zeros(150), sample(5)]); // 12 to 14
    batch("none", &[sample(6), sample(7)]); // 16, 17
    let expected = offsets(&[(4, 6), (10, 10), (12, 14)]);
    wait_until("the first samples", &process, || {
        metric(&process, "foreshock_samples_total") >= 3
    });
    // Killed while it stands still, or looks, or has committed some of it.
    std::thread::sleep(Duration::from_secs(4));
    process.kill();
    let process = deployment.start("a");
    wait_until("all letters", &process, || deployment.dead_letters().len() >= 3);
    assert_eq!(skipped_of(&deployment.dead_letters()), expected);
    let positions = Positions::new(broker, &deployment.group(), std::slice::from_ref(&metrics));
    wait_until("all is committed", &process, || positions.committed() == Some(vec![18]));
    // Without a state it reads everything again, and meets them in what it replays.
    let told = process.stderr().matches("is skipped").count();
    process.kill();
    let state = deployment.topic("state");
    let forget = |r: Incoming| Outgoing {
        partition: Some(r.partition),
        key: r.key,
        ..Outgoing::default()
    };
    let stored = topics.read_committed(&state);
    assert!(!stored.is_empty(), "there is a state to forget");
    topics.produce(&state, &stored.into_iter().map(forget).collect::<Vec<_>>());
    let process = deployment.start("a");
    let more = 8..12;
    topics.produce(&metrics, &more.map(sample).collect::<Vec<_>>());
    wait_until("samples after a restart", &process, || {
        metric(&process, "foreshock_samples_total") >= 4
    });
    assert_eq!(
        process.stderr().matches("is skipped").count(),
        told + expected.len(),
        "they were met again"
    );
    assert!(
        metric(&process, "foreshock_records_replayed_total") >= 6,
        "all that can be read"
    );
    assert_eq!(
        metric(&process, "foreshock_batches_skipped_total"),
        0,
        "they were told of"
    );
    assert_eq!(metric(&process, "foreshock_dead_letters_total"), 0);
    assert!(process.terminate(Duration::from_secs(30)).success());
    let letters = deployment.dead_letters();
    assert_eq!(skipped_of(&letters), expected, "once");
    for letter in &letters {
        assert_eq!(
            (letter.header("source_topic"), letter.value.as_deref()),
            (Some(&*metrics), Some(&[][..]))
        );
        println!("{}", letter.header("error").unwrap_or_default());
    }
}

/// Where the batches of a file begin and end.
fn batches(file: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut all = Vec::new();
    let mut at = 0;
    while at + BATCH_HEADER <= file.len() {
        let length = u32::from_be_bytes(file[at + 8..at + 12].try_into().unwrap());
        let end = at + 12 + length as usize;
        all.push(at..end);
        at = end;
    }
    all
}

#[test]
fn batches_that_a_disk_has_damaged_are_skipped_and_all_others_are_read() {
    let Some(broker) = Broker::own() else { return };
    let topics = Topics::new(&broker, "rot");
    let metrics = topics.create("metrics", 1, &[]);
    let source = format!("[[source]]\ntopic = \"{metrics}\"\nformat = \"plain_json\"\n");
    let deployment = Deployment::new(&broker, &topics, "one", &source);
    let codecs = [
        "none", "zstd", "none", "gzip", "none", "lz4", "none", "none", "none", "snappy", "none",
    ];
    for (n, codec) in codecs.iter().enumerate() {
        let first = 3 * n as u32;
        let records: Vec<Outgoing> = (first..first + 3).map(sample).collect();
        // Without transactions: a marker of today behind records of long ago would begin another file.
        send_batch((&broker, &topics, &metrics), false, codec, &records);
    }
    broker.stop();
    let path = broker.segment(&metrics, 0);
    let mut file = fs::read(&path).unwrap();
    let all = batches(&file);
    assert_eq!(all.len(), codecs.len());
    let damaged: BTreeSet<usize> = [1, 3, 5, 7, 9].into();
    for n in &damaged {
        let batch = &all[*n];
        match codecs[*n] {
            // The length of its first record.
            "none" => file[batch.start + BATCH_HEADER] ^= 0x55,
            _ => file[batch.start + BATCH_HEADER..batch.end].fill(0xa5),
        }
    }
    fs::write(&path, file).unwrap();
    broker.start();
    let process = deployment.start("a");
    let good = 3 * (codecs.len() - damaged.len()) as u64;
    wait_until("all records of the others", &process, || {
        metric(&process, "foreshock_batches_skipped_total") >= damaged.len() as u64
            && metric(&process, "foreshock_samples_total") >= good
    });
    assert_eq!(metric(&process, "foreshock_samples_total"), good);
    let letters = deployment.dead_letters();
    letters
        .iter()
        .for_each(|l| println!("{}", l.header("error").unwrap_or_default()));
    let expected: Vec<(i64, i64)> = damaged.iter().map(|n| (3 * *n as i64, 3 * *n as i64 + 2)).collect();
    assert_eq!(skipped_of(&letters), offsets(&expected));
    assert!(process.terminate(Duration::from_secs(30)).success());
    // The same of its own state: what is lost of it is read again, and nothing is told twice.
    broker.stop();
    for partition in 0..2 {
        let path = broker.segment(&deployment.topic("state"), partition);
        let mut file = fs::read(&path).unwrap();
        // Markers are left alone.
        let packed: Vec<_> = batches(&file)
            .into_iter()
            .filter(|b| file[b.start + ATTRIBUTES] & 7 != 0)
            .collect();
        for batch in packed.iter().step_by(2) {
            file[batch.start + BATCH_HEADER..batch.end].fill(0xa5);
        }
        fs::write(&path, file).unwrap();
    }
    broker.start();
    let process = deployment.start("a");
    let said = process.stderr();
    assert!(said.contains("a batch of the state topic can't be unpacked"), "{said}");
    let more = 3 * codecs.len() as u32;
    topics.produce(&metrics, &[sample(more)]);
    wait_until("a sample after a restart", &process, || {
        metric(&process, "foreshock_samples_total") >= 1
    });
    assert_eq!(deployment.dead_letters(), letters, "and told once");
    assert!(process.terminate(Duration::from_secs(30)).success());
}
