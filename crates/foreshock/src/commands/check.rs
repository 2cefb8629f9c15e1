use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use foreshock_kafka::{
    BrokerView, Cadence, Operation, Resource, Rights, STATE_RECORD_BYTES, TopicView, look, missing_rights,
    needed_rights,
};

use crate::config::{Config, Objectives, Secrets};
use crate::error::{CommandError, Exit};
use crate::model;
use crate::screen::{Paint, Style, duration, print, table};

/// Inputs must be kept at least this many snapshot intervals: what a restart reads again is up to two, and one more while the
/// newest is being written; the rest is room for an outage.
const SNAPSHOTS_KEPT: u32 = 10;

/// Partitions proposed for an input that is not there.
const INPUT_PARTITIONS: usize = 6;

/// Arguments of `foreshock check`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  foreshock check --config foreshock.toml
  foreshock check --config foreshock.toml --offline      only the file, for a pipeline without brokers
  foreshock check --config foreshock.toml --acls         the commands that grant every right it needs, and no other

Exit code 0 when all is well or doubtful only, 78 when something must be changed, 74 when no broker answers.")]
pub struct CheckArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Look at the file alone: no secret is read, no broker asked
    #[arg(long)]
    offline: bool,

    /// Print the commands that grant the rights that are needed, and do nothing else
    #[arg(long)]
    acls: bool,
}

/// How a line of the table stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Ok,
    Warn,
    Fail,
}

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Input,
    Events,
    Signals,
    DeadLetters,
    State,
}

#[derive(Debug, PartialEq, Eq)]
struct Finding {
    standing: Standing,
    subject: String,
    text: String,
    /// What to do, where there is something.
    command: Option<String>,
}

impl Finding {
    fn new(standing: Standing, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            standing,
            subject: subject.into(),
            text: text.into(),
            command: None,
        }
    }
}

/// The command.
///
/// # Errors
/// 78 where the file is wrong or a topic won't do, 74 where no broker answers.
pub fn execute(args: &CheckArgs) -> Result<(), CommandError> {
    let secrets = if args.offline || args.acls {
        Secrets::Leave
    } else {
        Secrets::Read
    };
    let mut config = Config::load(&args.config, secrets)?;
    if args.acls {
        return print(&acls(&config));
    }
    let learned = model::of_config(&mut config);
    let mut findings = vec![Finding::new(
        Standing::Ok,
        args.config.display().to_string(),
        summary(&config),
    )];
    findings.extend(config.objectives.iter().flat_map(of_objectives));
    findings.extend(of_model(&config, learned));
    let mut unreachable = None;
    if !args.offline {
        let topics = topics(&config);
        let names: Vec<&str> = topics.iter().map(|(_, name)| *name).collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| CommandError::io("brokers can't be asked", e))?;
        match runtime.block_on(look(&config.connection, &names)) {
            Ok(view) => {
                let missing = missing_rights(&config.connection, &needed(&config));
                findings.extend(judge(&config, &topics, &view, missing.as_deref().unwrap_or_default()));
                if let Err(error) = missing {
                    let what = format!("the brokers don't say what is allowed: {error}");
                    findings.push(Finding::new(Standing::Warn, "rights", what));
                }
            }
            Err(error) => {
                let servers = config.connection.servers();
                findings.push(Finding::new(Standing::Fail, servers, error.to_string()));
                unreachable = Some(CommandError::unreached(&config.connection, &error));
            }
        }
    }
    print(&show(&findings, Paint::for_stdout()))?;
    if let Some(error) = unreachable {
        return Err(error.help("-v shows what the client tried"));
    }
    let failed = findings.iter().filter(|f| f.standing == Standing::Fail).count();
    if failed > 0 {
        return Err(
            CommandError::new(Exit::Config, format!("{failed} of {} checks failed", findings.len()))
                .help("do what is printed above, then check again"),
        );
    }
    Ok(())
}

/// What was taken of a file of objectives, and what of it is done in another way.
fn of_objectives(objectives: &Objectives) -> Vec<Finding> {
    let told = objectives.taken.rules.iter().map(|rule| {
        let part = match (&rule.errors, &rule.good) {
            (Some(errors), _) => format!("errors {errors}"),
            (None, Some(good)) => format!("good {good}"),
            (None, None) => String::new(),
        };
        let text = format!("{}: {} of {}, {part}", rule.name, rule.objective, rule.total);
        Finding::new(Standing::Ok, objectives.file.as_str(), text)
    });
    let notes = objectives.taken.notes.iter();
    let notes = notes.map(|note| Finding::new(Standing::Warn, objectives.file.as_str(), note.as_str()));
    told.chain(notes).collect()
}

/// The model, where one is named.
fn of_model(config: &Config, learned: Result<(), CommandError>) -> Option<Finding> {
    let dir = config.model.as_ref()?.display().to_string();
    Some(match (learned, &config.engine.predictor) {
        (Err(error), _) => Finding::new(Standing::Fail, dir, error.to_string()),
        (Ok(()), Some(model)) => {
            let horizon = Duration::from_millis(model.horizon_ms.unsigned_abs());
            let series = model.schema.series.len();
            let what = format!(
                "foresees failures within {}, from {series} series and templates",
                duration(horizon)
            );
            Finding::new(Standing::Ok, dir, what)
        }
        (Ok(()), None) => return None,
    })
}

fn summary(config: &Config) -> String {
    let w = &config.engine.windows;
    format!(
        "sources: {}, workers: {}, windows: {} ms and {} ms for stragglers",
        config.engine.sources.len(),
        config.workers,
        w.width_ms,
        w.lateness_ms
    )
}

fn topics(config: &Config) -> Vec<(Role, &str)> {
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

/// Every right that the configuration asks for.
fn needed(config: &Config) -> Vec<Rights> {
    needed_rights(&config.topics, &config.group, config.delivery)
}

/// The commands that grant them, a line each.
fn acls(config: &Config) -> String {
    let (servers, principal) = (config.connection.servers(), config.connection.principal());
    needed(config)
        .iter()
        .map(|r| r.grant(servers, &principal) + "\n")
        .collect()
}

fn judge(config: &Config, topics: &[(Role, &str)], view: &BrokerView, missing: &[Rights]) -> Vec<Finding> {
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
    if let Some(bytes) = topic.max_message_bytes
        && role == Role::State
        && bytes < STATE_RECORD_BYTES
    {
        complain(
            Standing::Fail,
            format!("max.message.bytes is {bytes}: a block of state takes up to {STATE_RECORD_BYTES}"),
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

fn show(findings: &[Finding], paint: Paint) -> String {
    let rows: Vec<Vec<String>> = findings
        .iter()
        .map(|f| {
            let standing = match f.standing {
                Standing::Ok => "ok",
                Standing::Warn => "warn",
                Standing::Fail => "fail",
            };
            vec![standing.to_owned(), f.subject.clone(), f.text.clone()]
        })
        .collect();
    let mut out = String::new();
    // Painted after the widths are known: colours have none.
    for (line, finding) in table(&rows).lines().zip(findings) {
        let (style, length) = match finding.standing {
            Standing::Ok => (Style::Good, 2),
            Standing::Warn => (Style::Doubtful, 4),
            Standing::Fail => (Style::Bad, 4),
        };
        let (word, rest) = line.split_at(length);
        let _ = writeln!(out, "{}{rest}", paint.with(style, word));
    }
    let commands: Vec<&str> = findings.iter().filter_map(|f| f.command.as_deref()).collect();
    if !commands.is_empty() {
        let _ = write!(
            out,
            "\nThese commands would mend it (more partitions let more workers share the load):\n"
        );
        for command in commands {
            let _ = writeln!(out, "  {command}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
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
        let runbook = include_str!("../../../../docs/runbook.md");
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
}
