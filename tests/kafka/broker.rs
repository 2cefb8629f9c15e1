//! A real Apache Kafka broker for tests: one that is given, or one of our own in KRaft mode from Maven's jars.
//!
//! `KAFKA_BROKERS=host:port` names a given one. Otherwise Java 17 and Maven have to be there; the jars are fetched once into
//! `target/kafka/<version>/jars`. `FORESHOCK_SKIP_KAFKA=1` leaves these tests out, and says so.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;

/// Version of the broker; `pom.xml` names the same.
const VERSION: &str = "4.1.1";
/// Any 16 bytes in base64: every broker here is a cluster of its own.
const CLUSTER_ID: &str = "Zm9yZXNob2NrLXRlc3RzMQ";
const START_MAX: Duration = Duration::from_secs(90);

/// A broker to test against.
#[derive(Debug)]
pub struct Broker {
    bootstrap: String,
    /// Copies of every topic that a test creates.
    replication: i32,
    /// `None` where the broker was given.
    node: Option<Node>,
}

/// A broker process of our own.
#[derive(Debug)]
pub struct Node {
    folder: PathBuf,
    jars: PathBuf,
    /// The guard whose standard input keeps the broker alive.
    guard: Mutex<Option<Child>>,
}

impl Broker {
    /// The broker that all tests of this process share; `None` where the user asked to skip them. Tests that kill their
    /// broker start one of their own.
    ///
    /// # Panics
    /// Where there is no broker to be had, with a line that says what to do.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Broker>> = OnceLock::new();
        SHARED.get_or_init(Self::find).as_ref()
    }

    fn find() -> Option<Self> {
        if is_skipped() {
            return None;
        }
        match std::env::var("KAFKA_BROKERS") {
            Ok(bootstrap) if !bootstrap.is_empty() => {
                let given = Self::given(bootstrap, 1);
                given.wait_until_it_answers();
                Some(given)
            }
            _ => Self::own(),
        }
    }

    /// A broker that no other test uses, gone when dropped; `None` where the user asked to skip these tests.
    ///
    /// # Panics
    /// Where there is no Java or Maven, or the broker does not come up in 90 s.
    pub fn own() -> Option<Self> {
        Self::with(&properties, &[])
    }

    /// The same with settings of one's own: `settings` is told the folder, the plain listener's port, which this program
    /// uses, and the controller's. `format` are further words for `StorageTool format`.
    pub fn with(settings: &dyn Fn(&Path, u16, u16) -> String, format: &[String]) -> Option<Self> {
        if is_skipped() {
            return None;
        }
        let [port, controller_port] = free_ports();
        let node = Node::new(|folder| settings(folder, port, controller_port), format);
        let broker = Self {
            bootstrap: format!("127.0.0.1:{port}"),
            replication: 1,
            node: Some(node),
        };
        broker.start();
        Some(broker)
    }

    /// Brokers that somebody else starts and ends; tests create topics there with so many copies.
    pub fn given(bootstrap: String, replication: i32) -> Self {
        Self {
            bootstrap,
            replication,
            node: None,
        }
    }

    /// Copies of every topic that a test creates.
    pub fn replication(&self) -> i32 {
        self.replication
    }

    /// `host:port` of it, for `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// A client configuration that knows the broker and gives up early enough for a test.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("allow.auto.create.topics", "false");
        // A killed broker is tried again soon.
        config
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "500");
        config
    }

    /// Runs one of Kafka's tools by the name of its class, and gives what it printed.
    ///
    /// # Panics
    /// Where it fails.
    pub fn tool(&self, class: &str, words: &[String]) -> String {
        let java = self.own_node().java();
        let mut command = Command::new(&java[0]);
        command.args(&java[1..]).arg(class).args(words).stdin(Stdio::null());
        let output = command.output().expect("java runs");
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{class} {words:?}: {}{}",
            said(&output.stdout),
            said(&output.stderr)
        );
        said(&output.stdout)
    }

    /// Kills the broker as `kill -9` does; its data stay. Clients see a closed port until [`Broker::start`].
    ///
    /// # Panics
    /// Where the broker was given and is not ours to kill.
    pub fn kill(&self) {
        self.own_node().kill_hard();
    }

    /// Asks the broker to end in order; its data stay.
    ///
    /// # Panics
    /// Where it does not end, or is not ours to end.
    pub fn stop(&self) {
        self.own_node().stop();
    }

    /// Whether its process has ended by itself.
    ///
    /// # Panics
    /// Where it is not ours.
    pub fn has_ended(&self) -> bool {
        let stat = format!("/proc/{}/stat", self.own_node().pid());
        // The guard asks for its exit status at last; until then it stays as a zombie.
        !fs::read_to_string(stat).is_ok_and(|stat| !stat.contains(") Z "))
    }

    /// All that it wrote to its output.
    ///
    /// # Panics
    /// Where it is not ours.
    pub fn output(&self) -> String {
        fs::read_to_string(self.own_node().folder.join("output")).unwrap_or_default()
    }

    /// The first file of a partition's records.
    ///
    /// # Panics
    /// Where the broker is not ours.
    pub fn segment(&self, topic: &str, partition: i32) -> PathBuf {
        let folder = self.own_node().folder.join("data").join(format!("{topic}-{partition}"));
        folder.join("00000000000000000000.log")
    }

    /// Starts the broker on the same port with the data it had; does nothing where it runs. Returns when it answers.
    ///
    /// # Panics
    /// Where it does not come up in 90 s, with the end of its output.
    pub fn start(&self) {
        self.own_node().start();
        self.wait_until_it_answers();
    }

    fn own_node(&self) -> &Node {
        self.node
            .as_ref()
            .expect("a broker that KAFKA_BROKERS names is not ours to start or kill")
    }

    /// Returns when some broker answers.
    ///
    /// # Panics
    /// Where none does in 90 s.
    pub fn wait_until_it_answers(&self) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("a client");
        let until = Instant::now() + START_MAX;
        loop {
            // A broker that is fenced still, right after its start, answers with no broker at all.
            match admin.inner().fetch_metadata(None, Duration::from_secs(1)) {
                Ok(metadata) if !metadata.brokers().is_empty() => return,
                answer if Instant::now() >= until => {
                    let why = answer.map_or_else(|e| e.to_string(), |_| "it knows no broker".to_owned());
                    let output = self.node.as_ref().map(Node::last_output).unwrap_or_default();
                    panic!("{} does not answer: {why}\n{output}", self.bootstrap);
                }
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }
}

impl Node {
    /// A formatted node that does not run yet; `settings` gives its `server.properties` for its folder, `format` are
    /// further words for `StorageTool format`.
    ///
    /// # Panics
    /// Where there is no Java or Maven.
    pub fn new(settings: impl FnOnce(&Path) -> String, format: &[String]) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let jars = jars();
        let n = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = kafka_folder().join(format!("run-{}-{n}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the broker");
        fs::write(folder.join("server.properties"), settings(&folder)).expect("its settings");
        fs::write(folder.join("log4j2.properties"), include_str!("log4j2.properties")).expect("its log's settings");
        let node = Self {
            folder,
            jars,
            guard: Mutex::new(None),
        };
        node.format(format);
        node
    }

    fn java(&self) -> Vec<String> {
        let log4j = self.folder.join("log4j2.properties");
        let mut words: Vec<String> = [
            "java",
            "-Xms128m",
            "-Xmx512m",
            "-XX:MaxDirectMemorySize=128m",
            "-XX:+UseSerialGC",
        ]
        .map(str::to_owned)
        .into();
        // The first tier of compilation is enough for tests and starts in half the time.
        words.extend(["-XX:TieredStopAtLevel=1", "-Xss512k", "-Djava.awt.headless=true"].map(str::to_owned));
        words.push("-Djava.net.preferIPv4Stack=true".to_owned());
        words.push(format!("-Dlog4j2.configurationFile=file:{}", log4j.display()));
        words.extend(["-cp".to_owned(), format!("{}/*", self.jars.display())]);
        words
    }

    fn settings(&self) -> String {
        self.folder.join("server.properties").display().to_string()
    }

    fn format(&self, further: &[String]) {
        let java = self.java();
        let tool = [
            "kafka.tools.StorageTool",
            "format",
            "-t",
            CLUSTER_ID,
            "-c",
            &self.settings(),
        ];
        let output = Command::new(&java[0])
            .args(&java[1..])
            .args(tool)
            .args(further)
            .stdin(Stdio::null())
            .output();
        let output = output.expect("java runs");
        assert!(
            output.status.success(),
            "kafka.tools.StorageTool: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Starts the process with the data it had; does nothing where it runs.
    ///
    /// # Panics
    /// Where there is no shell.
    pub fn start(&self) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.is_some() {
            return;
        }
        // The guard writes it anew.
        let _ = fs::remove_file(self.folder.join("pid"));
        let mut command = Command::new("sh");
        command
            .args(["-c", include_str!("guard.sh"), "guard"])
            .arg(&self.folder)
            .args(self.java())
            .arg("kafka.Kafka")
            .arg(self.settings());
        *guard = Some(
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .expect("sh runs"),
        );
    }

    /// Kills it as `kill -9` does; its data stay.
    pub fn kill_hard(&self) {
        self.kill(b"keep\n");
    }

    /// Asks it to end in order (SIGTERM), and returns when it has.
    ///
    /// # Panics
    /// Where it has not ended within a minute.
    pub fn stop(&self) {
        self.signal("TERM");
        let stat = format!("/proc/{}/stat", self.pid());
        let until = Instant::now() + Duration::from_secs(60);
        // The guard has not asked for its exit status yet, so its number stays its own.
        while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(
                Instant::now() < until,
                "a broker does not end on SIGTERM:\n{}",
                self.last_output()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill_hard();
    }

    /// Sends a signal, such as `STOP` or `CONT`.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "no broker to signal");
    }

    fn pid(&self) -> String {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            match fs::read_to_string(self.folder.join("pid")) {
                Ok(pid) if pid.ends_with('\n') => return pid.trim().to_owned(),
                _ => assert!(Instant::now() < until, "the guard does not say which process it guards"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn kill(&self, word: &[u8]) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut guard) = guard.take() {
            // Where the guard is gone so is the broker.
            let _ = guard.stdin.take().map(|mut stdin| stdin.write_all(word));
            let _ = guard.wait();
        }
    }

    /// The end of its output.
    pub fn last_output(&self) -> String {
        let output = fs::read_to_string(self.folder.join("output")).unwrap_or_default();
        let lines: Vec<&str> = output.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill(b"");
    }
}

/// Whether the user asked to leave these tests out; said on the real standard error, which the test harness does not catch.
pub fn is_skipped() -> bool {
    let skipped = std::env::var("FORESHOCK_SKIP_KAFKA").is_ok_and(|v| v == "1");
    if skipped {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: FORESHOCK_SKIP_KAFKA=1, so nothing is tested against Apache Kafka"
        );
    }
    skipped
}

/// `target/kafka`, wherever the build lies.
pub fn kafka_folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("kafka")
}

/// The folder with Kafka's jars, fetched where it is not there yet.
fn jars() -> PathBuf {
    static FETCH: Mutex<()> = Mutex::new(());
    let _one_at_a_time = FETCH.lock().unwrap_or_else(PoisonError::into_inner);
    let runs = |program: &str| {
        Command::new(program)
            .arg("-version")
            .stdin(Stdio::null())
            .output()
            .is_ok()
    };
    let help = "name a broker in KAFKA_BROKERS=host:port, or install Java 17 and Maven, or set FORESHOCK_SKIP_KAFKA=1";
    assert!(runs("java"), "no Java for a Kafka broker: {help}");
    let jars = kafka_folder().join(VERSION).join("jars");
    if jars.is_dir() {
        return jars;
    }
    assert!(runs("mvn"), "no Maven to fetch a Kafka broker with: {help}");
    let partial = jars.with_file_name(format!("jars.{}", std::process::id()));
    fs::create_dir_all(&partial).expect("a folder for the jars");
    let pom = jars.with_file_name(format!("jars.{}.pom.xml", std::process::id()));
    fs::write(&pom, include_str!("pom.xml")).expect("the list of jars");
    let mut mvn = Command::new("mvn");
    mvn.args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime"]);
    mvn.arg("-f")
        .arg(&pom)
        .arg(format!("-Dkafka.version={VERSION}"))
        .arg(format!("-DoutputDirectory={}", partial.display()));
    let output = mvn.stdin(Stdio::null()).output().expect("mvn runs");
    assert!(
        output.status.success(),
        "mvn: {}\n{help}",
        String::from_utf8_lossy(&output.stdout)
    );
    fs::remove_file(&pom).expect("the list goes");
    // Another process may have been faster; then its jars are as good.
    if fs::rename(&partial, &jars).is_err() {
        fs::remove_dir_all(&partial).expect("the second copy goes");
    }
    jars
}

/// Ports that were free a moment ago; all are held until the last is found, so that none comes twice.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let held: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    held.map(|listener| listener.local_addr().expect("its address").port())
}

/// What every broker of the tests has: little memory and disk, topics made by hand, and groups and transactions that notice soon.
pub const SMALL: &str = "transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
auto.create.topics.enable=false
log.segment.bytes=16777216
log.retention.ms=-1
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=16777216
log.cleaner.io.buffer.size=262144
log.cleaner.backoff.ms=1000
";

/// Settings for one small broker that is its own controller, with internal topics small enough to come up at once, and a
/// session short enough that a killed broker may register anew soon.
pub fn properties(folder: &Path, port: u16, controller_port: u16) -> String {
    let data = folder.join("data");
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
num.network.threads=2
num.io.threads=2
num.partitions=4
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
{SMALL}",
        data = data.display()
    )
}
