//! What this program must be allowed to do, no more, and the commands that allow it.

use std::collections::BTreeSet;
use std::fmt;

use crate::settings::{Delivery, Topics};

/// What may be done with something. Read and Write both include Describe, as brokers have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Fetch records; join a group and commit its offsets.
    Read,
    /// Write records; use a transactional id.
    Write,
    /// See a topic's settings: only `check` does.
    DescribeConfigs,
}

impl Operation {
    /// As `kafka-acls.sh` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
            Self::DescribeConfigs => "DescribeConfigs",
        }
    }
}

/// What a right is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// A topic.
    Topic(String),
    /// The consumer group.
    Group(String),
    /// All transactional ids that begin so: one for each worker of each instance.
    TransactionalIds(String),
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topic {name}"),
            Self::Group(name) => write!(f, "group {name}"),
            Self::TransactionalIds(prefix) => write!(f, "transactional ids that begin with {prefix}"),
        }
    }
}

/// What must be allowed on one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// On what.
    pub on: Resource,
    /// What; never empty.
    pub operations: BTreeSet<Operation>,
}

impl Rights {
    fn of(on: Resource, operations: &[Operation]) -> Self {
        Self {
            on,
            operations: operations.iter().copied().collect(),
        }
    }

    /// The same without what `check` alone needs; `None` where nothing is left.
    #[must_use]
    pub fn to_run(mut self) -> Option<Self> {
        self.operations.remove(&Operation::DescribeConfigs);
        (!self.operations.is_empty()).then_some(self)
    }

    /// The command that grants them. `principal` is as the brokers see this program: `User:foreshock`.
    #[must_use]
    pub fn grant(&self, servers: &str, principal: &str) -> String {
        let mut command = format!("kafka-acls.sh --bootstrap-server {servers} --add --allow-principal '{principal}'");
        for operation in &self.operations {
            command += " --operation ";
            command += operation.name();
        }
        command += &match &self.on {
            Resource::Topic(name) => format!(" --topic {name}"),
            Resource::Group(name) => format!(" --group {name}"),
            Resource::TransactionalIds(prefix) => {
                format!(" --transactional-id {prefix} --resource-pattern-type prefixed")
            }
        };
        command
    }
}

/// `Write on topic anomalies`.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, operation) in self.operations.iter().enumerate() {
            let between = if i == 0 { "" } else { ", " };
            write!(f, "{between}{}", operation.name())?;
        }
        write!(f, " on {}", self.on)
    }
}

/// All that `run` and `check` need, and nothing else: least privilege.
#[must_use]
pub fn needed(topics: &Topics, group: &str, delivery: Delivery) -> Vec<Rights> {
    use Operation::{DescribeConfigs, Read, Write};
    let topic = |name: &str, operations: &[Operation]| Rights::of(Resource::Topic(name.to_owned()), operations);
    let mut all: Vec<Rights> = topics
        .inputs
        .iter()
        .map(|t| topic(t, &[Read, DescribeConfigs]))
        .collect();
    let ours: [(&str, &[Operation]); 6] = [
        (&topics.anomalies, &[Write, DescribeConfigs]),
        (&topics.failures, &[Write, DescribeConfigs]),
        (&topics.signals, &[Read, Write, DescribeConfigs]),
        (&topics.ledger, &[Write, DescribeConfigs]),
        (&topics.dead_letters, &[Write, DescribeConfigs]),
        (&topics.state, &[Read, Write, DescribeConfigs]),
    ];
    all.extend(ours.map(|(name, operations)| topic(name, operations)));
    all.push(Rights::of(Resource::Group(group.to_owned()), &[Read]));
    if delivery == Delivery::ExactlyOnce {
        all.push(Rights::of(Resource::TransactionalIds(format!("{group}-")), &[Write]));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics() -> Topics {
        Topics {
            inputs: vec!["metrics".into()],
            signals: "s".into(),
            anomalies: "a".into(),
            failures: "f".into(),
            ledger: "l".into(),
            dead_letters: "d".into(),
            state: "st".into(),
        }
    }

    #[test]
    fn commands_name_operation_and_resource() {
        let all = needed(&topics(), "g", Delivery::ExactlyOnce);
        let commands: Vec<String> = all.iter().map(|r| r.grant("b:9092", "User:u")).collect();
        let begin = "kafka-acls.sh --bootstrap-server b:9092 --add --allow-principal 'User:u'";
        assert_eq!(
            commands[0],
            format!("{begin} --operation Read --operation DescribeConfigs --topic metrics")
        );
        assert!(commands.contains(&format!("{begin} --operation Read --group g")));
        assert_eq!(
            commands.last(),
            Some(&format!(
                "{begin} --operation Write --transactional-id g- --resource-pattern-type prefixed"
            ))
        );
        assert_eq!(all[3].to_string(), "Read, Write, DescribeConfigs on topic s");
    }

    #[test]
    fn at_least_once_needs_no_transactional_id() {
        let all = needed(&topics(), "g", Delivery::AtLeastOnce);
        assert!(!all.iter().any(|r| matches!(r.on, Resource::TransactionalIds(_))));
    }
}
