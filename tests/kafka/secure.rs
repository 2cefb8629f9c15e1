//! Security against Apache Kafka: least privilege is enough, each right that is missing is named, and so is each mistake in the
//! way to the brokers; and no secret is ever told.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::broker::free_ports;
use crate::deployment::body;
use crate::pipeline::{Incident, has};
use crate::process::Foreshock;
use crate::secured::{GROUP, STRANGER, Secured, USER, assert_no_secret, denied_user, told};
use crate::topics::Topics;

const PATIENCE: Duration = Duration::from_secs(120);

/// Rights without which the way through is broken: operation, kind of resource, its name. Of the four output topics one stands for
/// all; the user that may do nothing shows the rest.
pub const DENIALS: [(&str, &str, &str); 8] = [
    ("Read", "--topic", "metrics"),
    ("Read", "--topic", "signals"),
    ("Write", "--topic", "signals"),
    ("Read", "--topic", "state"),
    ("Write", "--topic", "state"),
    ("Write", "--topic", "anomalies"),
    ("Read", "--group", GROUP),
    ("Write", "--transactional-id", "watch-"),
];

/// A process over a configuration, its HTTP port put into it.
fn start(secured: &Secured, name: &str, kafka: &str) -> Foreshock {
    let [port] = free_ports();
    let config = secured.config(name, kafka, &format!("[http]\nlisten = \"127.0.0.1:{port}\"\n"));
    let stderr = secured.folder.join(format!("{name}.log"));
    Foreshock::start(Path::new(env!("CARGO_BIN_EXE_foreshock")), &config, port, &stderr)
}

/// Waits until its standard error satisfies `enough`, ends it, and gives all that it said there.
fn heard(process: Foreshock, enough: impl Fn(&str) -> bool) -> String {
    let until = Instant::now() + PATIENCE;
    while !enough(&process.stderr()) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    let (_, metrics) = process
        .get("/metrics")
        .expect("metrics are served however the brokers are");
    assert_no_secret("/metrics", &metrics);
    assert_ne!(process.get("/readyz").map(|(status, _)| status), Some(200), "not ready");
    assert_eq!(process.get("/livez").map(|(status, _)| status), Some(200), "but alive");
    let text = process.stderr();
    assert!(enough(&text), "it was not said:\n{text}");
    assert_no_secret("standard error", &text);
    let refusals = metrics
        .lines()
        .find_map(|l| l.strip_prefix("foreshock_broker_refusals_total "));
    assert!(refusals.is_some_and(|n| n != "0"), "refusals are counted: {refusals:?}");
    let status = process.terminate(Duration::from_secs(25));
    assert!(status.success(), "{status}");
    text
}

#[test]
fn least_privilege_goes_the_whole_way_and_each_missing_right_is_named() {
    let Some(secured) = Secured::shared() else { return };
    let began = Instant::now();
    // With what `check --acls` printed and nothing else, over SCRAM and TLS.
    let topics = Topics::with_prefix(&secured.broker, &secured.prefix);
    let kafka = secured.scram(USER, "password");
    let config = secured.config("whole", &kafka, "");
    let checked = secured.foreshock(&["check", "--config", config.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", told(&checked));
    assert!(!told(&checked).contains("warn"), "{}", told(&checked));
    let mut process = start(secured, "whole", &kafka);
    process.wait_ready(PATIENCE);
    Incident::new().send(&topics, 0.0, 1.0);
    let until = Instant::now() + PATIENCE;
    // Of every topic of events something, and of both inputs.
    let complete = |events: &[Value]| {
        has(events, "precursor", "open", "web-1")
            && has(events, "failure", "open", "web-1")
            && has(events, "failure", "open", "db-1")
    };
    let events = loop {
        let mut events = topics.read_committed(&topics.name("anomalies"));
        events.extend(topics.read_committed(&topics.name("failures")));
        let events: Vec<_> = events.iter().map(body).collect();
        if complete(&events) || Instant::now() > until {
            break events;
        }
        std::thread::sleep(Duration::from_millis(300));
    };
    assert!(complete(&events), "{events:#?}\n{}", process.stderr());
    assert_no_secret("/metrics", &process.get("/metrics").unwrap().1);
    let log = process.stderr();
    assert!(
        !log.contains(" WARN ") && !log.contains("ERROR"),
        "nothing to complain of:\n{log}"
    );
    assert_no_secret("standard error", &log);
    assert!(process.terminate(Duration::from_secs(25)).success());
    assert!(
        !topics.read_committed(&topics.name("state")).is_empty(),
        "a last snapshot"
    );
    println!("the whole way in {:.1} s", began.elapsed().as_secs_f64());

    // Each right taken away: `check` says which and how to grant it, and so does `run`, and neither ends in silence.
    for (number, (operation, resource, name)) in DENIALS.iter().enumerate() {
        let began = Instant::now();
        let user = denied_user(number);
        let case = format!("{operation} {name} denied");
        let grant = format!(
            "--allow-principal 'User:{user}' --operation {operation} {resource} {}",
            secured.name_of(resource, name)
        );
        let kafka = secured.scram(&user, "password");
        let config = secured.config(&user, &kafka, "");
        let checked = secured.foreshock(&["check", "--config", config.to_str().unwrap()]);
        let text = told(&checked);
        assert_eq!(checked.status.code(), Some(78), "{case}: {text}");
        assert!(text.contains(&grant), "{case}: expected {grant} in {text}");
        assert_eq!(
            text.matches("kafka-acls.sh").count(),
            1,
            "{case}: that right and no other: {text}"
        );
        let said = heard(start(secured, &user, &kafka), |log| log.contains(&grant));
        assert!(said.contains(&format!("deny {operation} on")), "{case}: {said}");
        println!("{case}: named in {:.1} s", began.elapsed().as_secs_f64());
    }
}

#[test]
fn who_may_do_nothing_is_told_every_right() {
    let Some(secured) = Secured::shared() else { return };
    let config = secured.config(STRANGER, &secured.scram(STRANGER, "password"), "");
    let config = config.to_str().unwrap();
    let all = told(&secured.foreshock(&["check", "--acls", "--config", config]));
    let checked = secured.foreshock(&["check", "--config", config]);
    let text = told(&checked);
    assert_eq!(checked.status.code(), Some(78), "{text}");
    let expected: Vec<&str> = all.lines().collect();
    let found: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| l.starts_with("kafka-acls.sh"))
        .collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn a_client_certificate_is_enough() {
    let Some(secured) = Secured::shared() else { return };
    let config = secured.config("mtls", &secured.mtls(true), "");
    let checked = secured.foreshock(&["check", "--config", config.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", told(&checked));
}

#[test]
fn each_mistake_on_the_way_to_the_brokers_is_named() {
    let Some(secured) = Secured::shared() else { return };
    let good = secured.scram(USER, "password");
    let plain = |port: u16| format!("brokers = \"localhost:{port}\"\n");
    let plain_port = secured.broker.bootstrap().rsplit_once(':').unwrap().1;
    let swap = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} in {good}");
        good.replace(from, to)
    };
    let cases = [
        (
            "wrong password",
            secured.scram(USER, "wrong-password"),
            "refuse user name and password",
            "`kafka.sasl`",
        ),
        (
            "unknown user",
            secured.scram("nobody", "password"),
            "refuse user name and password",
            "`kafka.sasl`",
        ),
        (
            "another mechanism",
            swap("SCRAM-SHA-512", "PLAIN"),
            "refuse user name and password",
            "mechanism",
        ),
        (
            "wrong authority",
            swap("/ca.pem", "/other-ca.pem"),
            "certificate is not believed",
            "ca_file",
        ),
        (
            "wrong host name",
            swap("localhost:", "127.0.0.1:"),
            "certificate is not believed",
            "host names",
        ),
        (
            "plain text to TLS",
            plain(secured.scram_port),
            "speak another protocol",
            "`kafka.security`",
        ),
        (
            "TLS to plain text",
            swap(
                &format!("localhost:{}", secured.scram_port),
                &format!("localhost:{plain_port}"),
            ),
            "speak another protocol",
            "`kafka.security`",
        ),
        (
            "no client certificate",
            secured.mtls(false),
            "do not believe the client's certificate",
            "certificate_file",
        ),
    ];
    std::thread::scope(|scope| {
        for (name, kafka, what, help) in &cases {
            scope.spawn(move || {
                let config = secured.config(&name.replace(' ', "-"), kafka, "");
                let began = Instant::now();
                let checked = secured.foreshock(&["check", "--config", config.to_str().unwrap()]);
                let text = told(&checked);
                assert_eq!(checked.status.code(), Some(78), "{name}: {text}");
                assert!(text.contains(what) && text.contains(help), "{name}: {text}");
                println!("{name}: named in {:.1} s", began.elapsed().as_secs_f64());
            });
        }
    });
    let kafka = secured.scram(USER, "wrong-password");
    let said = heard(start(secured, "run-wrong-password", &kafka), |log| {
        log.contains("refuse user name")
    });
    assert!(said.contains("`kafka.sasl`"), "{said}");
}

#[test]
fn no_secret_is_told_however_much_is_logged() {
    let Some(secured) = Secured::shared() else { return };
    // The wrong password: it would be told as an error, and nobody's group is disturbed.
    let kafka = secured.scram(USER, "wrong-password") + "properties = { debug = \"all\" }\n";
    let [port] = free_ports();
    let config = secured.config("loud", &kafka, &format!("[http]\nlisten = \"127.0.0.1:{port}\"\n"));
    let log = secured.folder.join("loud.log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_foreshock"));
    command
        .env("FORESHOCK_LOG", "trace")
        .args(["run", "--config"])
        .arg(&config);
    command.stdin(Stdio::null()).stderr(File::create(&log).unwrap());
    let mut child = command.spawn().unwrap();
    let until = Instant::now() + PATIENCE;
    let text = loop {
        let text = String::from_utf8_lossy(&fs::read(&log).unwrap()).into_owned();
        if text.contains("refuse user name") || Instant::now() > until {
            break text;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(text.contains("refuse user name"), "{text}");
    assert!(
        text.contains("librdkafka") && text.contains("SCRAM"),
        "the client tells how it logs in"
    );
    assert_no_secret("the loudest log", &text);
    for base64 in ["aHVudGVyMi1YcTd6UDB3O", "bm90LWl0LWF0LWFsb"] {
        assert!(!text.contains(base64), "the password in base64");
    }
}
