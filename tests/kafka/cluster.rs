//! Three Apache Kafka nodes on this machine, each broker and controller: every topic in three copies, of which two must have a
//! record before it counts. One at a time can be killed, stopped or paused, and nothing is lost.
//!
//! Detectors reach the brokers through a [`Proxy`], the test's own clients do not: each node advertises a listener of its own for
//! either.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::broker::{Broker, Node, SMALL, is_skipped};
use crate::proxy::{Proxy, Weather};

pub const NODES: usize = 3;
const ASK_MAX: Duration = Duration::from_secs(2);

/// A cluster of our own, gone when dropped.
pub struct Cluster {
    broker: Broker,
    nodes: Vec<Node>,
    proxy: Proxy,
    watcher: BaseConsumer,
}

/// Ports of one node.
#[derive(Clone, Copy)]
struct Ports {
    broker: u16,
    behind_proxy: u16,
    controller: u16,
    proxy: u16,
}

impl Cluster {
    /// Starts all nodes and waits until they are whole; `None` where the user asked to skip these tests.
    ///
    /// # Panics
    /// Where there is no Java or Maven, or the nodes do not come up in two minutes.
    pub fn start() -> Option<Self> {
        if is_skipped() {
            return None;
        }
        let ports: Vec<Ports> = (0..NODES)
            .map(|_| Ports {
                broker: steady_port(),
                behind_proxy: steady_port(),
                controller: steady_port(),
                proxy: steady_port(),
            })
            .collect();
        let nodes: Vec<Node> = std::thread::scope(|scope| {
            let ports = &ports;
            let made: Vec<_> = (0..NODES)
                .map(|i| scope.spawn(move || Node::new(|folder| properties(folder, i, ports), &[])))
                .collect();
            made.into_iter().map(|node| node.join().expect("a node")).collect()
        });
        for node in &nodes {
            node.start();
        }
        let bootstrap: Vec<String> = ports.iter().map(|p| format!("127.0.0.1:{}", p.broker)).collect();
        let broker = Broker::given(bootstrap.join(","), i32::try_from(NODES).expect("a few"));
        let routes: Vec<(u16, u16)> = ports.iter().map(|p| (p.proxy, p.behind_proxy)).collect();
        let mut config: ClientConfig = broker.client();
        config.set("group.id", "watcher");
        let cluster = Self {
            watcher: config.create().expect("a client"),
            broker,
            nodes,
            proxy: Proxy::start(&routes),
        };
        cluster.broker.wait_until_it_answers();
        cluster.wait_whole(Duration::from_secs(120));
        Some(cluster)
    }

    /// The brokers, for the test's own clients.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The brokers behind the proxy, for `bootstrap.servers` of a detector.
    pub fn behind_proxy(&self) -> String {
        self.proxy.addresses().join(",")
    }

    /// What stands between detectors and brokers.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// One of the nodes, 0 to 2.
    pub fn node(&self, n: usize) -> &Node {
        &self.nodes[n % NODES]
    }

    /// Waits until every node is there and has every partition's newest records.
    ///
    /// # Panics
    /// Where that is not so `within` that time, with what is missing.
    pub fn wait_whole(&self, within: Duration) {
        let until = Instant::now() + within;
        while let Err(missing) = self.look() {
            if Instant::now() > until {
                let outputs: Vec<String> = self.nodes.iter().map(Node::last_output).collect();
                panic!(
                    "the cluster is not whole within {within:?}: {missing}\n{}",
                    outputs.join("\n---\n")
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Takes back whatever was done to nodes and network.
    ///
    /// # Panics
    /// Where they are not whole `within` that time.
    pub fn mend(&self, within: Duration) {
        self.proxy.set(Weather::default());
        for node in &self.nodes {
            node.start();
            node.signal("CONT");
        }
        self.wait_whole(within);
    }

    fn look(&self) -> Result<(), String> {
        let metadata = self
            .watcher
            .fetch_metadata(None, ASK_MAX)
            .map_err(|error| error.to_string())?;
        if metadata.brokers().len() < NODES {
            return Err(format!("{} brokers", metadata.brokers().len()));
        }
        let mut missing = String::new();
        for topic in metadata.topics() {
            for partition in topic.partitions() {
                if partition.isr().len() < partition.replicas().len() || partition.leader() < 0 {
                    let _ = write!(missing, "{}/{} ", topic.name(), partition.id());
                }
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(missing) }
    }
}

/// A port that stays ours while the node that listens there is away: below the range from which the system gives ports to
/// connections, which would take it.
fn steady_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FROM: u16 = 20_000;
    const RANGE: u16 = 12_000;
    // Other test processes begin elsewhere.
    let offset = u16::try_from(std::process::id() % u32::from(RANGE)).expect("a small remainder");
    for _ in 0..RANGE {
        let n = NEXT.fetch_add(1, Ordering::Relaxed) % RANGE;
        let port = FROM + (u32::from(n) + u32::from(offset) * 17) as u16 % RANGE;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FROM} on");
}

fn properties(folder: &Path, n: usize, ports: &[Ports]) -> String {
    let voters: Vec<String> = ports
        .iter()
        .enumerate()
        .map(|(i, p)| format!("{}@127.0.0.1:{}", i + 1, p.controller))
        .collect();
    let Ports {
        broker,
        behind_proxy,
        controller,
        proxy,
    } = ports[n];
    format!(
        "process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{broker},PROXIED://127.0.0.1:{behind_proxy},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker},PROXIED://127.0.0.1:{proxy}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT
log.dirs={data}
num.network.threads=2
num.io.threads=4
default.replication.factor=3
min.insync.replicas=2
unclean.leader.election.enable=false
offsets.topic.replication.factor=3
offsets.topic.num.partitions=6
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
transaction.state.log.num.partitions=6
broker.heartbeat.interval.ms=1000
broker.session.timeout.ms=6000
leader.imbalance.check.interval.seconds=10
{SMALL}",
        id = n + 1,
        voters = voters.join(","),
        data = folder.join("data").display()
    )
}
