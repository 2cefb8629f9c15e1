use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use foreshock_kafka::{BrokerView, Cadence, TopicView, look};

use crate::config::{Config, Objectives, Secrets};
use crate::error::{CommandError, Exit};
use crate::model;
use crate::screen::{Paint, Style, duration, print, table};

/// Inputs must be kept at least this many snapshot intervals: what a restart reads again, with room for an outage.
const SNAPSHOTS_KEPT: u32 = 10;

/// Partitions proposed for an input that is not there.
const INPUT_PARTITIONS: usize = 6;

/// Arguments of `foreshock check`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  foreshock check --config foreshock.toml
  foreshock check --config foreshock.toml --offline      only the file, for a pipeline without brokers

Exit code 0 when all is well or doubtful only, 78 when something must be changed, 74 when no broker answers.")]
pub struct CheckArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Look at the file alone: no secret is read, no broker asked
    #[arg(long)]
    offline: bool,
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
    let secrets = if args.offline { Secrets::Leave } else { Secrets::Read };
    let mut config = Config::load(&args.config, secrets)?;
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
            Ok(view) => findings.extend(judge(&config, &topics, &view)),
            Err(error) => {
                let brokers = config.connection.properties.get("bootstrap.servers");
                let brokers = brokers.map_or("brokers", String::as_str);
                findings.push(Finding::new(Standing::Fail, brokers, "no answer within 15 s"));
                unreachable = Some(CommandError::io(format!("{brokers}: no broker answers"), error));
            }
        }
    }
    print(&show(&findings, Paint::for_stdout()))?;
    if let Some(error) = unreachable {
        return Err(error
            .expected("a Kafka broker that this machine can reach, with `kafka.security` as the broker has it")
            .help("-v shows what the client tried"));
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

fn judge(config: &Config, topics: &[(Role, &str)], view: &BrokerView) -> Vec<Finding> {
    let brokers = Finding::new(Standing::Ok, "brokers", view.brokers.join(", "));
    let servers = config.connection.properties.get("bootstrap.servers");
    let servers = servers.map_or("localhost:9092", String::as_str);
    // Replicas that the cluster can hold; three are what a topic that matters has.
    let replicas = view.brokers.len().clamp(1, 3);
    let inputs = topics
        .iter()
        .zip(&view.topics)
        .filter(|((role, _), _)| *role == Role::Input);
    let widest = inputs.filter_map(|(_, v)| v.partitions.as_ref().ok()).max().copied();
    let found = topics
        .iter()
        .zip(&view.topics)
        .map(|((role, _), topic)| judge_topic(*role, topic, servers, replicas, widest.unwrap_or(INPUT_PARTITIONS)));
    std::iter::once(brokers).chain(found).collect()
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
        Role::State => " --config cleanup.policy=compact",
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
