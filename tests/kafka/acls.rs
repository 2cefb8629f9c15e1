//! Access control lists, written to a broker in Kafka's own protocol: one request where the tools need a Java for each.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// One entry: who may do what with which resource, or may not.
#[derive(Clone, Debug)]
pub struct Acl {
    principal: String,
    operation: String,
    /// As the tool's option: `--topic`, `--group`, `--transactional-id`.
    resource: String,
    name: String,
    is_prefix: bool,
    is_denial: bool,
}

impl Acl {
    /// The entry that takes a right away again, whatever else grants it.
    pub fn denial(principal: &str, operation: &str, resource: &str, name: &str) -> Self {
        Self {
            principal: principal.to_owned(),
            operation: operation.to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            is_prefix: resource == "--transactional-id",
            is_denial: true,
        }
    }

    /// What a printed `kafka-acls.sh` command adds, for another principal too where one is given.
    ///
    /// # Panics
    /// Where it is no such command, or has an option that this does not know.
    pub fn of_command(line: &str, principal: Option<&str>) -> Vec<Self> {
        let mut words = line.split(' ');
        assert_eq!(words.next(), Some("kafka-acls.sh"), "{line}");
        let (mut operations, mut place, mut granted, mut is_prefix) = (Vec::new(), None, None, false);
        while let Some(option) = words.next() {
            let mut value = || {
                words
                    .next()
                    .unwrap_or_else(|| panic!("{option} without a value in {line}"))
            };
            match option {
                "--add" => {}
                "--bootstrap-server" => drop(value()),
                "--allow-principal" => granted = Some(value().trim_matches('\'')),
                "--operation" => operations.push(value()),
                "--topic" | "--group" | "--transactional-id" => place = Some((option, value())),
                "--resource-pattern-type" => is_prefix = value() == "prefixed",
                _ => panic!("{option} in {line}"),
            }
        }
        let (resource, name) = place.expect("a resource");
        let entry = |operation: &&str| Self {
            principal: principal.or(granted).expect("a principal").to_owned(),
            operation: (*operation).to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            is_prefix,
            is_denial: false,
        };
        operations.iter().map(entry).collect()
    }

    /// `CreateAclsRequest`, version 1: <https://kafka.apache.org/protocol#The_Messages_CreateAcls>.
    fn encode(&self, out: &mut Vec<u8>) {
        let resource = match &*self.resource {
            "--topic" => 2,
            "--group" => 3,
            "--transactional-id" => 5,
            other => panic!("a resource {other}"),
        };
        let operation = match &*self.operation {
            "Read" => 3,
            "Write" => 4,
            "DescribeConfigs" => 10,
            other => panic!("an operation {other}"),
        };
        out.push(resource);
        string(&self.name, out);
        out.push(if self.is_prefix { 4 } else { 3 });
        string(&self.principal, out);
        string("*", out);
        out.push(operation);
        out.push(if self.is_denial { 2 } else { 3 });
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.extend(i16::try_from(text.len()).unwrap().to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Writes all entries through a plain listener, as whoever may.
///
/// # Panics
/// Where the broker refuses one.
pub fn create(broker: &str, acls: &[Acl]) {
    let mut request = Vec::new();
    for number in [30i16, 1] {
        request.extend(number.to_be_bytes());
    }
    request.extend(7i32.to_be_bytes());
    string("test", &mut request);
    request.extend(i32::try_from(acls.len()).unwrap().to_be_bytes());
    for acl in acls {
        acl.encode(&mut request);
    }
    let mut stream = TcpStream::connect(broker).expect("the plain listener");
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
        .write_all(&i32::try_from(request.len()).unwrap().to_be_bytes())
        .unwrap();
    stream.write_all(&request).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer");
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut answer).expect("a whole answer");
    // Correlation id, throttling, number of results; then an error and its message each.
    let mut rest = &answer[12..];
    assert_eq!(
        answer[8..12],
        i32::try_from(acls.len()).unwrap().to_be_bytes(),
        "a result for each"
    );
    for acl in acls {
        let (error, message) = (
            i16::from_be_bytes([rest[0], rest[1]]),
            i16::from_be_bytes([rest[2], rest[3]]),
        );
        let message = usize::try_from(message).unwrap_or(0);
        assert_eq!(error, 0, "{acl:?}: {}", String::from_utf8_lossy(&rest[4..4 + message]));
        rest = &rest[4 + message..];
    }
}
