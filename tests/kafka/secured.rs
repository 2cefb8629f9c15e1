//! An Apache Kafka as a company runs it: TLS, SCRAM users, client certificates, and an authorizer that denies what is not granted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use crate::acls::{self, Acl};
use crate::broker::{Broker, free_ports, properties};
use crate::secure::DENIALS;
use crate::topics::Topics;

/// Must be in nothing that any program ever writes.
pub const PASSWORD: &str = "hunter2-Xq7zP0w9";
/// The user that may do exactly what it must.
pub const USER: &str = "foreshock";
/// The user that may do nothing.
pub const STRANGER: &str = "stranger";
/// Subject of the client's certificate, as an authorizer sees it.
pub const SUBJECT: &str = "User:CN=foreshock-client";
/// Its consumer group, and prefix of its transactional ids.
pub const GROUP: &str = "watch";

/// The broker, with what clients need to reach it.
pub struct Secured {
    /// Through its plain listener, where whoever comes may do everything: what tests write and read with.
    pub broker: Broker,
    /// SCRAM over TLS.
    pub scram_port: u16,
    /// TLS with client certificates.
    pub mtls_port: u16,
    /// Certificates, keys and passwords, and whatever a test writes.
    pub folder: PathBuf,
    /// Input topics by their role's name.
    pub prefix: String,
}

impl Secured {
    /// The one that all tests share; `None` where the user asked to skip these tests or gave a broker, which is not ours to secure.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Secured>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    fn start() -> Option<Self> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("secured-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        make_certificates(&folder);
        fs::write(folder.join("password"), format!("{PASSWORD}\n")).unwrap();
        fs::write(folder.join("wrong-password"), "not-it-at-all").unwrap();
        let [scram_port, mtls_port] = free_ports();
        let settings = |own: &Path, port, controller_port| {
            let plain = properties(own, port, controller_port);
            secured_properties(&plain, &folder, port, scram_port, mtls_port)
        };
        // Users of a cluster in KRaft mode are there from its format on.
        let users = std::iter::once(USER.to_owned())
            .chain([STRANGER.to_owned()])
            .chain((0..DENIALS.len()).map(denied_user));
        let format: Vec<String> = users
            .flat_map(|user| {
                let scram = format!("SCRAM-SHA-512=[name={user},password={PASSWORD}]");
                ["--add-scram".to_owned(), scram]
            })
            .collect();
        let broker = Broker::with(&settings, &format)?;
        let mut secured = Self {
            broker,
            scram_port,
            mtls_port,
            folder,
            prefix: String::new(),
        };
        secured.prefix = secured.create_topics();
        secured.grant();
        Some(secured)
    }

    /// Topics under the same names that a configuration of [`Self::config`] has.
    fn create_topics(&self) -> String {
        let topics = Topics::new(&self.broker, "secure");
        topics.create("metrics", 2, &[]);
        topics.create("logs", 1, &[]);
        topics.create("signals", 2, &[]);
        for name in ["anomalies", "failures", "ledger", "dead-letters"] {
            topics.create(name, 1, &[]);
        }
        topics.create("state", 2, &[("cleanup.policy", "compact")]);
        topics.prefix().to_owned()
    }

    /// Grants what the commands say that `check --acls` prints: to the user, to the certificate's subject, and to those from whom
    /// one right is taken away again. One command goes through Kafka's own tool, which takes it as it is.
    fn grant(&self) {
        let config = self.config("acls", &self.scram(USER, "password"), "");
        let printed = self.foreshock(&["check", "--acls", "--config", config.to_str().unwrap()]);
        let commands = String::from_utf8(printed.stdout).unwrap();
        assert!(printed.status.success() && commands.lines().count() > 8, "{commands}");
        let denied = (0..DENIALS.len()).map(|i| format!("User:{}", denied_user(i)));
        let others: Vec<String> = std::iter::once(SUBJECT.to_owned()).chain(denied).collect();
        let (before, last) = commands.trim_end().rsplit_once('\n').unwrap();
        let mut acls: Vec<Acl> = before.lines().flat_map(|line| Acl::of_command(line, None)).collect();
        for other in &others {
            acls.extend(commands.lines().flat_map(|line| Acl::of_command(line, Some(other))));
        }
        for (i, (operation, resource, name)) in DENIALS.iter().enumerate() {
            let name = self.name_of(resource, name);
            acls.push(Acl::denial(
                &format!("User:{}", denied_user(i)),
                operation,
                resource,
                &name,
            ));
        }
        acls::create(self.broker.bootstrap(), &acls);
        let words = last.split(' ').skip(3).map(|word| word.trim_matches('\'').to_owned());
        let server = ["--bootstrap-server".to_owned(), self.broker.bootstrap().to_owned()];
        let words: Vec<String> = server.into_iter().chain(words).collect();
        self.broker.tool("org.apache.kafka.tools.AclCommand", &words);
    }

    /// The full name of a resource of [`DENIALS`].
    pub fn name_of(&self, resource: &str, name: &str) -> String {
        match resource {
            "--topic" => format!("{}{name}", self.prefix),
            _ => name.to_owned(),
        }
    }

    /// `kafka` keys for SCRAM over TLS.
    pub fn scram(&self, user: &str, password_file: &str) -> String {
        let folder = self.folder.display();
        format!(
            "brokers = \"localhost:{}\"\nsecurity = \"sasl_ssl\"\n\
             sasl = {{ mechanism = \"SCRAM-SHA-512\", username = \"{user}\", password_file = \"{folder}/{password_file}\" }}\n\
             tls = {{ ca_file = \"{folder}/ca.pem\" }}\n",
            self.scram_port
        )
    }

    /// `kafka` keys for a client certificate over TLS; without, the client shows none.
    pub fn mtls(&self, has_certificate: bool) -> String {
        let folder = self.folder.display();
        let own = if has_certificate {
            format!(", certificate_file = \"{folder}/client.pem\", key_file = \"{folder}/client.key\"")
        } else {
            String::new()
        };
        format!(
            "brokers = \"localhost:{}\"\nsecurity = \"ssl\"\ntls = {{ ca_file = \"{folder}/ca.pem\"{own} }}\n",
            self.mtls_port
        )
    }

    /// Writes a configuration with these `kafka` keys and gives its path.
    pub fn config(&self, name: &str, kafka: &str, further: &str) -> PathBuf {
        let p = &self.prefix;
        let text = format!(
            "[kafka]\ngroup = \"{GROUP}\"\ninstance = \"a\"\nworkers = 1\nsession_timeout = \"6s\"\n{kafka}\n\
             [topics]\nsignals = \"{p}signals\"\nanomalies = \"{p}anomalies\"\nfailures = \"{p}failures\"\n\
             ledger = \"{p}ledger\"\ndead_letters = \"{p}dead-letters\"\nstate = \"{p}state\"\n\n\
             [[source]]\ntopic = \"{p}metrics\"\nformat = \"plain_json\"\n\n\
             [[source]]\ntopic = \"{p}logs\"\nformat = \"log_json\"\n\n\
             [[failure.probe]]\nname = \"probe\"\nseries = \"up\"\nwindows = 3\n\n{further}"
        );
        let path = self.folder.join(format!("{name}.toml"));
        fs::write(&path, text).unwrap();
        path
    }

    /// Runs the program to its end. What it says is searched for the password.
    pub fn foreshock(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_foreshock"));
        let output = command
            .args(words)
            .stdin(Stdio::null())
            .output()
            .expect("the program runs");
        assert_no_secret(&format!("{words:?}"), &told(&output));
        output
    }
}

/// Whose right of this number is taken away.
pub fn denied_user(number: usize) -> String {
    format!("less-{number}")
}

/// All that a program said.
pub fn told(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// The password is nowhere in `text`, nor what would give it away.
pub fn assert_no_secret(what: &str, text: &str) {
    for secret in [PASSWORD, "not-it-at-all", "PRIVATE KEY"] {
        assert!(!text.contains(secret), "{what} tells a secret:\n{text}");
    }
}

fn secured_properties(plain: &str, folder: &Path, port: u16, scram_port: u16, mtls_port: u16) -> String {
    let mut text: String = plain
        .lines()
        .map(|line| match line.split_once('=') {
            Some(("listeners", all)) => {
                format!("listeners={all},SCRAM://127.0.0.1:{scram_port},MTLS://127.0.0.1:{mtls_port}\n")
            }
            Some(("advertised.listeners", _)) => format!(
                "advertised.listeners=PLAINTEXT://127.0.0.1:{port},SCRAM://localhost:{scram_port},MTLS://localhost:{mtls_port}\n"
            ),
            Some(("listener.security.protocol.map", all)) => {
                format!("listener.security.protocol.map={all},SCRAM:SASL_SSL,MTLS:SSL\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let folder = folder.display();
    text += &format!(
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=false
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.scram.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.mtls.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker-key-and-certificate.pem
ssl.truststore.type=PEM
ssl.truststore.location={folder}/ca.pem
"
    );
    text
}

/// Two authorities, of which the brokers know the first; the brokers' certificate, for `localhost` alone; the client's.
fn make_certificates(folder: &Path) {
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), Issuer::new(params, key))
    };
    let (ca_pem, ca) = authority("ours");
    let (other_pem, _) = authority("another");
    let signed = |name: &str, hosts: &[&str], usage| {
        let mut params = CertificateParams::new(hosts.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>()).unwrap();
        // The name that comes by itself would be a part of the subject.
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let (broker, broker_key) = signed("broker", &["localhost"], ExtendedKeyUsagePurpose::ServerAuth);
    let (client, client_key) = signed("foreshock-client", &[], ExtendedKeyUsagePurpose::ClientAuth);
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write("ca.pem", &ca_pem);
    write("other-ca.pem", &other_pem);
    write(
        "broker-key-and-certificate.pem",
        &format!("{broker_key}{broker}{ca_pem}"),
    );
    write("client.pem", &client);
    write("client.key", &client_key);
}
