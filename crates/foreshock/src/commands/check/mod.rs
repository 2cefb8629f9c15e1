mod topics;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use foreshock_kafka::{Rights, look, missing_rights, needed_rights};

use crate::config::{Config, Objectives, Secrets};
use crate::error::{CommandError, Exit};
use crate::model;
use crate::screen::{Paint, Style, duration, print, table};
use topics::{judge, topics};

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
