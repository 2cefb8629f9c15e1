//! The harness itself, tested: a harness that lies makes every other test here worthless.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, Producer};

use crate::broker::Broker;
use crate::process::Foreshock;
use crate::topics::{Outgoing, Reader, Topics, send};

const PATIENCE: Duration = Duration::from_secs(30);

fn transactional(broker: &Broker, topics: &Topics<'_>) -> BaseProducer {
    let mut config = broker.client();
    config.set("transactional.id", format!("{}t", topics.prefix()));
    let producer: BaseProducer = config.create().expect("a producer");
    producer.init_transactions(PATIENCE).expect("transactions");
    producer
}

#[test]
fn committed_records_are_read_back_whole_and_aborted_ones_never() {
    let Some(broker) = Broker::shared() else { return };
    let topics = Topics::new(broker, "transactions");
    // The record's time is years ago and the commit's marker is of today, so the segment is rolled at once: the broker may
    // then compact it, or delete it by age, unless told not to.
    let topic = topics.create("events", 2, &[("retention.ms", "-1")]);
    let producer = transactional(broker, &topics);

    let kept = Outgoing {
        partition: Some(1),
        timestamp_ms: Some(1_700_000_000_000),
        headers: vec![
            ("ce_id".into(), b"7".to_vec()),
            ("ce_id".into(), b"8".to_vec()),
            ("empty".into(), Vec::new()),
        ],
        ..Outgoing::new("shop-1", "kept")
    };
    let tombstone = Outgoing {
        value: None,
        ..kept.clone()
    };
    producer.begin_transaction().expect("begin");
    send(&producer, &topic, &kept);
    send(&producer, &topic, &tombstone);
    producer.commit_transaction(PATIENCE).expect("commit");
    producer.begin_transaction().expect("begin");
    send(&producer, &topic, &Outgoing::new("shop-1", "aborted"));
    producer.flush(PATIENCE).expect("flush");
    producer.abort_transaction(PATIENCE).expect("abort");
    producer.begin_transaction().expect("begin");
    send(&producer, &topic, &Outgoing::new("shop-1", "open still"));
    producer.flush(PATIENCE).expect("flush");

    let read = topics.read_committed(&topic);
    let values: Vec<_> = read.iter().map(|r| r.value.as_deref()).collect();
    assert_eq!(values, [Some(&b"kept"[..]), None]);
    assert_eq!(
        (read[0].partition, read[0].offset, read[0].timestamp_ms),
        (1, 0, Some(1_700_000_000_000))
    );
    assert_eq!((&read[0].key, &read[0].headers), (&kept.key, &kept.headers));
    assert_eq!((read[0].header("ce_id"), read[0].header("none")), (Some("7"), None));
    producer.abort_transaction(PATIENCE).expect("abort");
}

#[test]
fn a_reader_goes_on_where_it_stood() {
    let Some(broker) = Broker::shared() else { return };
    let topics = Topics::new(broker, "reader");
    let (a, b) = (topics.create("a", 3, &[]), topics.create("b", 1, &[]));
    let records: Vec<Outgoing> = (0..1_000)
        .map(|n| Outgoing::new(format!("k{n}"), format!("{n}")))
        .collect();
    topics.produce(&a, &records[..900]);
    let reader = Reader::new(broker, &[&a, &b]);
    assert_eq!(reader.to_end().len(), 900);
    assert_eq!(reader.until_quiet(Duration::from_millis(300), PATIENCE).len(), 0);
    topics.produce(&b, &records[900..]);
    assert_eq!(reader.expect(100, PATIENCE).len(), 100);
    assert_eq!(reader.expect(1, Duration::from_millis(300)).len(), 0);
    let partitions: std::collections::BTreeSet<i32> = topics.read_committed(&a).iter().map(|r| r.partition).collect();
    assert_eq!(partitions.len(), 3);
}

#[test]
fn a_killed_broker_comes_back_with_its_data() {
    let began = Instant::now();
    let Some(broker) = Broker::own() else { return };
    println!("started in {:.1} s", began.elapsed().as_secs_f64());
    let topics = Topics::new(&broker, "kill");
    let topic = topics.create("events", 1, &[]);
    let producer = transactional(&broker, &topics);
    let write = |value: &str| {
        producer.begin_transaction().expect("begin");
        send(&producer, &topic, &Outgoing::new("k", value));
        producer
            .commit_transaction(rdkafka::util::Timeout::Never)
            .expect("commit");
    };
    write("before");
    let reader = Reader::new(&broker, &[&topic]);
    assert_eq!(reader.to_end().len(), 1);
    broker.kill();
    let address = broker.bootstrap().parse().expect("an address");
    std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).expect_err("nobody listens");
    let began = Instant::now();
    broker.start();
    println!("restarted in {:.1} s", began.elapsed().as_secs_f64());
    // The producer of before the kill goes on by itself, and so does the reader.
    write("after");
    let read = reader.expect(1, PATIENCE);
    assert_eq!(
        read.iter().map(|r| r.value.as_deref()).collect::<Vec<_>>(),
        [Some(&b"after"[..])]
    );
    assert_eq!(topics.read_committed(&topic).len(), 2);
}

#[test]
fn a_process_is_waited_for_asked_to_end_and_killed() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("process-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let (program, stderr) = (folder.join("program"), folder.join("stderr"));
    let script = "#!/bin/sh\ntrap 'exit 7' TERM\necho \"$@\" >&2\nwhile :; do sleep 0.05; done\n";
    fs::write(&program, script).expect("a program");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("that may run");

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let server = std::thread::spawn(move || {
        for status in ["503 Service Unavailable", "200 OK"] {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 512];
            // A request may come in pieces.
            let mut n = 0;
            while !request[..n].ends_with(b"\r\n\r\n") {
                n += stream.read(&mut request[n..]).expect("a request");
            }
            assert!(request.starts_with(b"GET /readyz HTTP/1.1\r\n"));
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").expect("an answer");
        }
    });
    let mut process = Foreshock::start(&program, Path::new("a.toml"), port, &stderr);
    process.wait_ready(PATIENCE);
    server.join().expect("both answers given");
    assert_eq!(process.get("/readyz"), None);
    assert_eq!(process.stderr(), "run --config a.toml\n");
    assert_eq!(process.terminate(PATIENCE).code(), Some(7));

    let process = Foreshock::start(&program, Path::new("b.toml"), port, &stderr);
    let proc = format!("/proc/{}", process.id());
    process.kill();
    assert!(!Path::new(&proc).exists());
    fs::remove_dir_all(&folder).expect("the folder goes");
}
