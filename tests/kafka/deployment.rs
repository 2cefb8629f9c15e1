//! A deployment under test: its topics, its configuration file, and the processes that run it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::broker::{Broker, free_ports};
use crate::process::Foreshock;
use crate::topics::{Incoming, Topics};

/// Output and internal topics under a name of their own, over input topics that deployments may share.
pub struct Deployment<'a> {
    topics: &'a Topics<'a>,
    name: String,
    sources: String,
    /// Where its processes look for brokers.
    bootstrap: String,
    folder: PathBuf,
}

impl<'a> Deployment<'a> {
    /// Creates the topics. `sources` is the part of the configuration that names inputs and rules.
    pub fn new(broker: &'a Broker, topics: &'a Topics<'a>, name: &str, sources: &str) -> Self {
        topics.create(&format!("{name}.signals"), 2, &[]);
        topics.create(&format!("{name}.anomalies"), 1, &[]);
        topics.create(&format!("{name}.failures"), 1, &[]);
        topics.create(&format!("{name}.ledger"), 1, &[]);
        topics.create(&format!("{name}.dead-letters"), 1, &[]);
        topics.create(&format!("{name}.state"), 2, &[("cleanup.policy", "compact")]);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}{name}", topics.prefix()));
        fs::create_dir_all(&folder).unwrap();
        Self {
            topics,
            name: name.into(),
            sources: sources.into(),
            bootstrap: broker.bootstrap().into(),
            folder,
        }
    }

    /// The same, with processes that look for brokers elsewhere: behind a proxy.
    pub fn through(mut self, bootstrap: String) -> Self {
        self.bootstrap = bootstrap;
        self
    }

    /// Its consumer group.
    pub fn group(&self) -> String {
        format!("{}{}", self.topics.prefix(), self.name)
    }

    /// The full name of its own topic `what`.
    pub fn topic(&self, what: &str) -> String {
        self.topics.name(&format!("{}.{what}", self.name))
    }

    /// Starts an instance and waits until it owns partitions and has restored them.
    pub fn start(&self, instance: &str) -> Foreshock {
        let mut process = self.launch(instance);
        process.wait_ready(Duration::from_secs(120));
        process
    }

    /// Starts an instance and waits for nothing.
    pub fn launch(&self, instance: &str) -> Foreshock {
        let [port] = free_ports();
        let topic = |what: &str| self.topic(what);
        let text = format!(
            "[kafka]\nbrokers = \"{}\"\ngroup = \"{}\"\ninstance = \"{instance}\"\nworkers = 1\n\
             session_timeout = \"6s\"\n\n[topics]\nsignals = \"{}\"\nanomalies = \"{}\"\nfailures = \"{}\"\n\
             ledger = \"{}\"\ndead_letters = \"{}\"\nstate = \"{}\"\n\n[http]\nlisten = \"127.0.0.1:{port}\"\n\n{}",
            self.bootstrap,
            self.group(),
            topic("signals"),
            topic("anomalies"),
            topic("failures"),
            topic("ledger"),
            topic("dead-letters"),
            topic("state"),
            self.sources,
        );
        let config = self.folder.join(format!("{instance}.toml"));
        fs::write(&config, text).unwrap();
        let stderr = self.folder.join(format!("{instance}.log"));
        Foreshock::start(Path::new(env!("CARGO_BIN_EXE_foreshock")), &config, port, &stderr)
    }

    /// What a `read_committed` reader sees of the events so far: key, headers and value of each.
    pub fn events(&self) -> Vec<Incoming> {
        let mut all = self.topics.read_committed(&self.topic("anomalies"));
        all.extend(self.topics.read_committed(&self.topic("failures")));
        all
    }

    /// What there is once events satisfy `enough`, or when time is up.
    pub fn wait_for(&self, within: Duration, enough: impl Fn(&[Value]) -> bool) -> Vec<Incoming> {
        let until = Instant::now() + within;
        loop {
            let events = self.events();
            if enough(&events.iter().map(body).collect::<Vec<_>>()) || Instant::now() > until {
                return events;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Waits until events satisfy `enough`.
    pub fn events_until(&self, within: Duration, enough: impl Fn(&[Value]) -> bool) -> Vec<Incoming> {
        let events = self.wait_for(within, &enough);
        let bodies: Vec<Value> = events.iter().map(body).collect();
        assert!(
            enough(&bodies),
            "{}: expected events did not come in time; so far {:#?}",
            self.name,
            bodies.iter().map(summary).collect::<Vec<_>>()
        );
        events
    }

    /// Records that could not be read.
    pub fn dead_letters(&self) -> Vec<Incoming> {
        self.topics.read_committed(&self.topic("dead-letters"))
    }
}

/// The event in a record.
pub fn body(record: &Incoming) -> Value {
    serde_json::from_slice(record.value.as_deref().unwrap_or_default()).expect("an event is JSON")
}

/// What to call an event in a message.
pub fn summary(event: &Value) -> String {
    format!(
        "{} {} {} {} {}",
        event["kind"], event["event"], event["entity"], event["observed_at"], event["why"]
    )
}

/// Each event with how often it was written: the multiset that runs are compared by.
pub fn multiset(events: &[Incoming]) -> BTreeMap<(String, String), usize> {
    let mut all = BTreeMap::new();
    for record in events {
        let event = body(record);
        let id = event["event_id"].as_str().unwrap_or_default().to_owned();
        *all.entry((id, event.to_string())).or_default() += 1;
    }
    all
}
