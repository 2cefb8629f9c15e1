//! Topics and rights as the brokers hold them, against what this program needs of them, with the command that would mend each.

use std::time::Duration;

use foreshock_kafka::{BrokerView, Cadence, Operation, Resource, Rights, STATE_RECORD_BYTES, TopicView};
use foreshock_wire::dead_letter::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

use super::{Finding, Standing};
use crate::config::Config;

/// Inputs must be kept at least this many snapshot intervals: what a restart reads again is up to two, and one more while the
/// newest is being written; the rest is room for an outage.
const SNAPSHOTS_KEPT: u32 = 10;

/// Partitions proposed for an input that is not there.
const INPUT_PARTITIONS: usize = 6;

/// The largest record of signals or events, with its headers: measured under floods, and twice that.
const RECORD_BYTES: u64 = 256 << 10;
/// The largest dead letter, with its headers.
const DEAD_LETTER_BYTES: u64 = (VALUE_BYTES_MAX + KEY_BYTES_MAX) as u64 + (4 << 10);

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Input,
    Events,
    Signals,
    DeadLetters,
    State,
}

/// Every topic that the configuration names, and what it is for.
pub(super) fn topics(config: &Config) -> Vec<(Role, &str)> {
    let t = &config.topics;
    let mut topics: Vec<(Role, &str)> = t.inputs.iter().map(|name| (Role::Input, name.as_str())).collect();
    topics.extend([
        (Role::Events, t.anomalies.as_str()),
        (Role::Events, t.failures.as_str()),
        (Role::Signals, t.signals.as_str()),
        (Role::Events, t.ledger.as_str()),
        (Role::DeadLetters, t.dead_letters.as_str()),
        (Role::State, t.state.as_str()),
    ]);
    topics
}

/// What the brokers hold, against what is needed of it.
pub(super) fn judge(config: &Config, topics: &[(Role, &str)], view: &BrokerView, missing: &[Rights]) -> Vec<Finding> {
    let brokers = Finding::new(Standing::Ok, "brokers", view.brokers.join(", "));
    let servers = config.connection.servers();
    // Replicas that the cluster can hold; three are what a topic that matters has.
    let replicas = view.brokers.len().clamp(1, 3);
    let inputs = topics
        .iter()
        .zip(&view.topics)
        .filter(|((role, _), _)| *role == Role::Input);
    let widest = inputs.filter_map(|(_, v)| v.partitions.as_ref().ok()).max().copied();
    let widest = widest.unwrap_or(INPUT_PARTITIONS);
    let judged = topics.iter().zip(&view.topics).map(|((role, _), topic)| {
        let mut finding = judge_topic(*role, topic, servers, replicas, widest);
        let denied = missing.iter().find(|r| r.on == Resource::Topic(topic.name.clone()));
        if let Some(denied) = denied {
            deny(&mut finding, denied, topic.partitions.is_ok(), config);
        }
        finding
    });
    let apart = missing.iter().filter(|r| !matches!(r.on, Resource::Topic(_)));
    let apart = apart.map(|denied| {
        let mut finding = Finding::new(Standing::Ok, denied.on.to_string(), "");
        deny(&mut finding, denied, false, config);
        finding
    });
    std::iter::once(brokers).chain(judged).chain(apart).collect()
}

/// Adds what the brokers deny to what was found, or puts it in its place where nothing could be seen.
fn deny(finding: &mut Finding, denied: &Rights, is_seen: bool, config: &Config) {
    let names: Vec<&str> = denied.operations.iter().map(|o| o.name()).collect();
    let text = format!("the brokers deny {}", names.join(", "));
    // Settings that may not be read are doubtful and no more, and that is said already.
    let is_for_check_alone = denied.operations.iter().all(|o| *o == Operation::DescribeConfigs);
    if !is_seen {
        finding.text = text;
        finding.standing = Standing::Fail;
    } else if !is_for_check_alone {
        finding.text = format!("{}; {text}", finding.text);
        finding.standing = Standing::Fail;
    }
    finding.command = Some(denied.grant(config.connection.servers(), &config.connection.principal()));
}

fn judge_topic(role: Role, topic: &TopicView, servers: &str, replicas: usize, widest: usize) -> Finding {
    let partitions = match &topic.partitions {
        Ok(partitions) => *partitions,
        Err(why) => {
            let mut finding = Finding::new(Standing::Fail, &topic.name, why);
            finding.command = Some(create(role, &topic.name, servers, replicas, widest));
            return finding;
        }
    };
    let mut texts = vec![match partitions {
        1 => "1 partition".to_owned(),
        n => format!("{n} partitions"),
    }];
    let mut standing = Standing::Ok;
    let mut command = None;
    let mut complain = |how: Standing, text: String| {
        standing = standing.max(how);
        texts.push(text);
    };
    let name = &topic.name;
    let alter = |what: &str| {
        format!("kafka-configs.sh --bootstrap-server {servers} --alter --topic {name} --add-config {what}")
    };
    let compacted = topic
        .cleanup_policy
        .as_ref()
        .map(|policy| policy.split(',').any(|p| p.trim() == "compact"));
    let deleted = topic
        .cleanup_policy
        .as_ref()
        .map(|policy| policy.split(',').any(|p| p.trim() == "delete"));
    match (role, compacted) {
        (_, None) => complain(Standing::Warn, "its settings may not be read (DescribeConfigs)".into()),
        (Role::State, Some(false)) => {
            complain(
                Standing::Fail,
                "cleanup.policy must be compact: snapshots would grow without end".into(),
            );
            command = Some(alter("cleanup.policy=compact"));
        }
        (Role::State, Some(true)) if deleted == Some(true) => {
            complain(
                Standing::Fail,
                "cleanup.policy deletes: a snapshot would be lost by its age".into(),
            );
            command = Some(alter("cleanup.policy=compact"));
        }
        (Role::Events | Role::Signals | Role::DeadLetters | Role::Input, Some(true)) => {
            complain(
                Standing::Fail,
                "cleanup.policy must not be compact: records of one key would be lost".into(),
            );
            command = Some(alter("cleanup.policy=delete"));
        }
        _ => {}
    }
    let (written, largest) = match role {
        Role::State => ("a block of state", STATE_RECORD_BYTES),
        Role::DeadLetters => ("a dead letter", DEAD_LETTER_BYTES),
        Role::Events | Role::Signals => ("a record", RECORD_BYTES),
        Role::Input => ("", 0),
    };
    if let Some(bytes) = topic.max_message_bytes
        && bytes < largest
    {
        complain(
            Standing::Fail,
            format!("max.message.bytes is {bytes}: {written} takes up to {largest}"),
        );
        command = command.or_else(|| Some(alter("max.message.bytes=1048588")));
    }
    let needed = Cadence::default().snapshot * SNAPSHOTS_KEPT;
    if let Some(kept) = topic
        .retention_ms
        .and_then(|ms| u64::try_from(ms).ok())
        .map(Duration::from_millis)
        && matches!(role, Role::Input | Role::Signals)
        && kept < needed
    {
        let text = format!(
            "keeps records for {} s: a restart may not find what it must read again",
            kept.as_secs()
        );
        complain(Standing::Fail, text);
        command = command.or_else(|| Some(alter(&format!("retention.ms={}", needed.as_millis()))));
    }
    let mut finding = Finding::new(standing, name, texts.join("; "));
    finding.command = command;
    finding
}

/// The command that makes a topic as it should be.
fn create(role: Role, name: &str, servers: &str, replicas: usize, widest: usize) -> String {
    let partitions = match role {
        Role::Input => INPUT_PARTITIONS,
        Role::Signals => widest,
        Role::State | Role::Events | Role::DeadLetters => 1,
    };
    let mut command = format!(
        "kafka-topics.sh --create --if-not-exists --bootstrap-server {servers} --topic {name} \
         --partitions {partitions} --replication-factor {replicas}"
    );
    let settings = match role {
        // Compaction leaves the newest segment alone: small ones keep the topic small.
        Role::State => {
            " --config cleanup.policy=compact --config segment.bytes=104857600 --config min.cleanable.dirty.ratio=0.2"
        }
        Role::Signals => " --config cleanup.policy=delete --config retention.ms=86400000",
        Role::Input | Role::Events | Role::DeadLetters => " --config cleanup.policy=delete",
    };
    command.push_str(settings);
    command
}

#[cfg(test)]
#[path = "topics_tests.rs"]
mod tests;
