use super::super::*;
use super::*;

fn view(partitions: Result<usize, &str>, policy: Option<&str>, retention_ms: Option<i64>) -> TopicView {
    TopicView {
        name: "t".into(),
        partitions: partitions.map_err(Into::into),
        cleanup_policy: policy.map(Into::into),
        retention_ms,
        max_message_bytes: None,
    }
}

fn of_small_records(view: TopicView) -> TopicView {
    TopicView {
        max_message_bytes: Some(100_000),
        ..view
    }
}

#[test]
fn topics_are_judged_by_their_role() {
    use Standing::{Fail, Ok as Good, Warn};
    let week = Some(7 * 86_400_000);
    let cases = [
        (
            "an input",
            Role::Input,
            view(Ok(6), Some("delete"), week),
            Good,
            "6 partitions",
            None,
        ),
        (
            "kept for ever",
            Role::Input,
            view(Ok(1), Some("delete"), Some(-1)),
            Good,
            "1 partition",
            None,
        ),
        (
            "kept too short",
            Role::Input,
            view(Ok(1), Some("delete"), Some(60_000)),
            Fail,
            "60 s",
            Some("retention.ms=600000"),
        ),
        (
            "compacted input",
            Role::Input,
            view(Ok(1), Some("compact"), week),
            Fail,
            "must not be compact",
            Some("cleanup.policy=delete"),
        ),
        (
            "compacted events",
            Role::Events,
            view(Ok(1), Some("compact,delete"), week),
            Fail,
            "must not",
            Some("delete"),
        ),
        (
            "short events",
            Role::Events,
            view(Ok(1), Some("delete"), Some(1)),
            Good,
            "",
            None,
        ),
        ("state", Role::State, view(Ok(1), Some("compact"), week), Good, "", None),
        (
            "state that deletes",
            Role::State,
            view(Ok(1), Some("delete"), week),
            Fail,
            "must be compact",
            Some("cleanup.policy=compact"),
        ),
        (
            "state that does both",
            Role::State,
            view(Ok(1), Some("compact,delete"), week),
            Fail,
            "deletes",
            Some("compact"),
        ),
        (
            "no policy was set for state: the broker's own deletes",
            Role::State,
            view(Ok(1), Some("delete"), Some(604_800_000)),
            Fail,
            "must be compact",
            Some("cleanup.policy=compact"),
        ),
        (
            "state with small records",
            Role::State,
            of_small_records(view(Ok(1), Some("compact"), week)),
            Fail,
            "max.message.bytes is 100000",
            Some("max.message.bytes=1048588"),
        ),
        (
            "dead letters that will not fit",
            Role::DeadLetters,
            of_small_records(view(Ok(1), Some("delete"), week)),
            Fail,
            "a dead letter takes up to",
            Some("max.message.bytes=1048588"),
        ),
        (
            "signals that will not fit",
            Role::Signals,
            of_small_records(view(Ok(1), Some("delete"), week)),
            Fail,
            "max.message.bytes is 100000",
            Some("max.message.bytes=1048588"),
        ),
        (
            "small input records are the producers' affair",
            Role::Input,
            of_small_records(view(Ok(1), Some("delete"), week)),
            Good,
            "",
            None,
        ),
        (
            "signals kept shorter than a snapshot interval",
            Role::Signals,
            view(Ok(1), Some("delete"), Some(30_000)),
            Fail,
            "30 s",
            Some("retention.ms=600000"),
        ),
        (
            "no right",
            Role::State,
            view(Ok(1), None, None),
            Warn,
            "DescribeConfigs",
            None,
        ),
        (
            "missing",
            Role::Signals,
            view(Err("none"), None, None),
            Fail,
            "none",
            Some("--topic t --partitions 8 --replication-factor 3"),
        ),
        (
            "missing state",
            Role::State,
            view(Err("none"), None, None),
            Fail,
            "none",
            Some("--config cleanup.policy=compact"),
        ),
    ];
    for (name, role, topic, standing, text, command) in cases {
        let found = judge_topic(role, &topic, "b:9092", 3, 8);
        assert_eq!(found.standing, standing, "{name}: {found:?}");
        assert!(found.text.contains(text), "{name}: {found:?}");
        match command {
            None => assert_eq!(found.command, None, "{name}"),
            Some(part) => assert!(
                found.command.as_ref().is_some_and(|c| c.contains(part)),
                "{name}: {found:?}"
            ),
        }
    }
}

/// The list of rights in the runbook is what the command prints.
#[test]
fn the_runbook_has_the_rights_that_are_printed() {
    let text = "[kafka]\nbrokers = [\"kafka-1:9093\", \"kafka-2:9093\"]\nsecurity = \"sasl_ssl\"\n\
                sasl = { mechanism = \"SCRAM-SHA-512\", username = \"foreshock\", password_env = \"NONE\" }\n\
                [[source]]\ntopic = \"metrics\"\nformat = \"plain_json\"\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("foreshock.toml");
    std::fs::write(&path, text).unwrap();
    let printed = acls(&Config::load(&path, Secrets::Leave).unwrap());
    let runbook = include_str!("../../../../../docs/runbook.md");
    let listed: String = runbook
        .lines()
        .filter(|l| l.starts_with("kafka-acls.sh"))
        .map(|l| format!("{l}\n"))
        .collect();
    assert_eq!(listed, printed);
}

#[test]
fn what_the_brokers_deny_is_added_to_what_was_found() {
    use Standing::{Fail, Ok as Good};
    let text = "[kafka]\nbrokers = \"b:1\"\n[[source]]\ntopic = \"m\"\nformat = \"plain_json\"\n";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("foreshock.toml");
    std::fs::write(&path, text).unwrap();
    let config = Config::load(&path, Secrets::Leave).unwrap();
    let denied = |operations: &[Operation]| Rights {
        on: Resource::Topic("m".into()),
        operations: operations.iter().copied().collect(),
    };
    let cases = [
        (
            "one right",
            &[Operation::Read][..],
            true,
            Fail,
            "1 partition; the brokers deny Read",
        ),
        (
            "settings alone",
            &[Operation::DescribeConfigs],
            true,
            Good,
            "1 partition",
        ),
        (
            "not even to be seen",
            &[Operation::Read, Operation::DescribeConfigs],
            false,
            Fail,
            "the brokers deny Read, DescribeConfigs",
        ),
    ];
    for (name, operations, is_seen, standing, text) in cases {
        let mut finding = Finding::new(Good, "m", "1 partition");
        deny(&mut finding, &denied(operations), is_seen, &config);
        assert_eq!((finding.standing, finding.text.as_str()), (standing, text), "{name}");
        assert!(
            finding
                .command
                .is_some_and(|c| c.contains("--operation") && c.ends_with("--topic m")),
            "{name}"
        );
    }
}

#[test]
fn the_table_aligns_and_ends_with_the_commands() {
    let mut fail = Finding::new(Standing::Fail, "long-name", "gone");
    fail.command = Some("do this".into());
    let findings = [Finding::new(Standing::Ok, "a", "fine"), fail];
    let shown = show(&findings, Paint::for_stdout());
    assert!(
        shown.starts_with("ok    a          fine\nfail  long-name  gone\n"),
        "{shown}"
    );
    assert!(shown.ends_with("  do this\n"), "{shown}");
}
