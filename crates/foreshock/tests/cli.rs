//! The command line as scripts see it: exit codes, what is printed where, and what is left behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

const COMMANDS: [&str; 10] = [
    "demo",
    "run",
    "check",
    "train",
    "backtest",
    "score",
    "templates",
    "replay",
    "inspect",
    "bench",
];

const LEAST: &str = "[kafka]\nbrokers = \"127.0.0.1:1\"\n[[source]]\ntopic = \"metrics\"\nformat = \"telegraf_json\"\n";

fn foreshock(args: &[&str]) -> Output {
    command(args).output().expect("the binary runs")
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foreshock"));
    command.args(args).env_remove("FORESHOCK_LOG").stdin(Stdio::null());
    command
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("UTF-8").to_owned()
}

/// Names in a folder, sorted.
fn left(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> = names
        .map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

#[test]
fn help_and_version_succeed_and_show_examples() {
    let version = foreshock(&["--version"]);
    assert_eq!(
        (code(&version), out(&version)),
        (0, format!("foreshock {}\n", env!("CARGO_PKG_VERSION")))
    );
    let all = foreshock(&["--help"]);
    assert_eq!(code(&all), 0);
    assert!(out(&all).contains("EXAMPLES"));
    for name in COMMANDS {
        assert!(out(&all).contains(&format!("  {name} ")), "{name} is listed");
        let help = foreshock(&[name, "--help"]);
        assert_eq!(code(&help), 0, "{name}");
        assert!(
            out(&help).contains("EXAMPLES\n  foreshock") || out(&help).contains(&format!("foreshock {name}")),
            "{name}"
        );
        assert!(!out(&help).contains('\u{1b}'), "{name}: no colours into a pipe");
    }
}

#[test]
fn wrong_usage_is_64() {
    let cases: [(&str, &[&str]); 9] = [
        ("nothing", &[]),
        ("unknown command", &["predict"]),
        ("unknown option", &["run", "--confg", "x"]),
        ("missing option", &["run"]),
        ("missing input", &["score", "--output", "x"]),
        ("no brokers", &["replay", "--topic", "t", "--format", "log_json", "f"]),
        (
            "unknown format",
            &["replay", "--brokers", "b:1", "--topic", "t", "--format", "xml", "f"],
        ),
        ("no format", &["replay", "--brokers", "b:1", "--input", "t=f"]),
        (
            "raw text can't move",
            &[
                "replay",
                "--brokers",
                "b:1",
                "--input",
                "t=f:log_text",
                "--shift-to-now",
            ],
        ),
    ];
    for (name, args) in cases {
        let output = foreshock(args);
        assert_eq!(code(&output), 64, "{name}: {}", err(&output));
        assert!(out(&output).is_empty(), "{name}: mistakes go to standard error");
    }
}

#[test]
fn a_wrong_configuration_is_78_and_says_where() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases = [
        (
            "unknown key",
            format!("{LEAST}[windows]\nlatenes = \"1s\"\n"),
            "error: unknown key `latenes`\n  where: F line 7, key windows.latenes\n  expected: `width` or `lateness`\n  help: did you mean `lateness`?\n",
        ),
        (
            "unknown format",
            LEAST.replace("telegraf_json", "telegraf"),
            "error: unknown value `telegraf`\n  where: F line 5, key source[0].format\n  expected: one of `telegraf_json`, `plain_json`, `log_text`, `log_json`, `syslog`, `logfmt`, `cri`, `otlp_json`, `otlp_proto`, `log`, `incident_json`\n",
        ),
        (
            "too late",
            format!("{LEAST}[windows]\nlateness = \"2m\"\n"),
            "error: 120000 ms\n  where: F line 7, key windows.lateness\n  expected: at most 6 times `windows.width`: 60000 ms\n",
        ),
        (
            "reads what it writes",
            LEAST.replace("\"metrics\"", "\"failures\""),
            "error: topic \"failures\" is `topics.failures` already: Foreshock would read what it writes\n  where: F line 4, key source[0].topic\n",
        ),
        ("empty", String::new(), "error: key `kafka` is missing\n"),
    ];
    let file = path(folder.path(), "foreshock.toml");
    for (name, text, expected) in cases {
        fs::write(&file, text).expect("written");
        for command in [
            &["check", "--offline", "--config", &file][..],
            &["run", "--config", &file],
            &["inspect", "--config", &file],
        ] {
            let output = foreshock(command);
            assert_eq!(code(&output), 78, "{name}: {}", err(&output));
            let said = err(&output).replace(&file, "F");
            assert!(said.starts_with(expected), "{name}: {said}");
        }
    }
    let missing = foreshock(&["check", "--config", "/nonexistent/foreshock.toml"]);
    assert_eq!(code(&missing), 78);
}

#[test]
fn check_of_the_file_alone_needs_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = path(folder.path(), "foreshock.toml");
    fs::write(&file, LEAST).expect("written");
    let output = foreshock(&["check", "--offline", "--config", &file]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).starts_with("ok"), "{}", out(&output));
}

#[test]
fn objectives_come_from_a_file_beside_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = path(folder.path(), "foreshock.toml");
    let slo = path(folder.path(), "slo.yaml");
    let yaml = include_str!("../../failure/tests/openslo/several_documents/slo.yaml");
    let check = |toml: &str, yaml: &str| {
        fs::write(&file, format!("{LEAST}{toml}")).expect("written");
        fs::write(&slo, yaml).expect("written");
        let output = foreshock(&["check", "--offline", "--config", &file]);
        (
            code(&output),
            out(&output) + &err(&output).replace(&file, "F").replace(&slo, "S"),
        )
    };
    let all = "[[failure.openslo]]\nfile = \"slo.yaml\"\n";
    let (status, said) = check(all, yaml);
    assert_eq!(status, 0, "{said}");
    for taken in [
        "cart-availability: 0.995 of http_requests_total{service=\"cart\"}, errors http_requests_total{service=\"cart\",code=~\"5..\"}",
        "checkout-availability/1: 0.99 of checkout_total, errors checkout_errors_total",
    ] {
        assert!(said.contains(taken), "{taken} is not in {said}");
    }
    let (status, said) = check(&format!("{all}only = [\"cart-availability\"]\n"), yaml);
    assert!(status == 0 && !said.contains("checkout"), "{said}");

    let mistakes = [
        (
            all,
            yaml.replace("0.995", "1.995"),
            "error: S: document 1 (SLO cart-availability), spec.objectives[0].target: 1.995\n  where: F line 7, key failure.openslo[0].file\n  expected: a share above 0 and below 1",
        ),
        (
            "[[failure.openslo]]\nfile = \"none.yaml\"\n",
            yaml.to_owned(),
            "none.yaml can't be read",
        ),
        (
            "[[failure.openslo]]\npath = \"slo.yaml\"\n",
            yaml.to_owned(),
            "error: unknown key `path`",
        ),
        (
            "[[failure.openslo]]\nfile = \"slo.yaml\"\n[[failure.heartbeat]]\nname = \"cart-availability\"\nafter_s = 9\n",
            yaml.to_owned(),
            "slo.yaml: the name cart-availability twice\n  where: F line 6, key failure.openslo[0]\n",
        ),
    ];
    for (toml, yaml, expected) in mistakes {
        let (status, said) = check(toml, &yaml);
        assert!(status == 78 && said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn a_silent_broker_is_74() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = path(folder.path(), "foreshock.toml");
    fs::write(&file, LEAST).expect("written");
    let output = foreshock(&["check", "--config", &file]);
    assert_eq!(code(&output), 74, "{}", err(&output));
    assert!(out(&output).contains("fail  127.0.0.1:1"), "{}", out(&output));
    assert!(
        err(&output).contains("error: 127.0.0.1:1: no broker answers"),
        "{}",
        err(&output)
    );
}

const METRICS: &str = "timestamp,cpu\n2026-01-01 00:00:00,1\n2026-01-01 00:00:10,2\n2026-01-01 00:00:20,\n";

#[test]
fn score_writes_a_row_for_each_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (path(folder.path(), "in.csv"), path(folder.path(), "out.csv"));
    fs::write(&input, METRICS).expect("written");
    let done = foreshock(&["score", &input, "--output", &output]);
    assert_eq!(code(&done), 0, "{}", err(&done));
    let scores = fs::read_to_string(&output).expect("scores");
    assert_eq!(scores.lines().count(), 4);
    assert_eq!(scores.lines().next(), Some("timestamp,score,alert_score"));
    assert!(err(&done).contains("3 rows, 1 series"), "{}", err(&done));
    assert!(out(&done).is_empty());
}

#[test]
fn score_takes_many_files_into_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let (a, b, to) = (
        path(folder.path(), "a.csv"),
        path(folder.path(), "b.csv"),
        path(folder.path(), "to"),
    );
    fs::write(&a, METRICS).expect("written");
    fs::write(&b, METRICS).expect("written");
    let done = foreshock(&["score", &a, &b, "--output", &to]);
    assert_eq!(code(&done), 0, "{}", err(&done));
    assert_eq!(left(Path::new(&to)), ["a.csv", "b.csv"]);
    let same = foreshock(&["score", &a, &a, "--output", &to]);
    assert_eq!(code(&same), 64, "{}", err(&same));
}

/// Of many files each is scored as if it were alone, whatever the number of threads, and a bad one stops no other.
#[test]
fn score_of_many_is_the_score_of_each() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| path(folder.path(), name);
    fs::create_dir_all(at("dumps/deep")).expect("folders");
    let long = |shift: usize| {
        (0..300).fold("timestamp,series,value\n".to_owned(), |text, i| {
            let (time, series, value) = (1_700_000_000 + i * 10, i % 2, (i * 7919 + shift) % 13);
            format!("{text}{time},s{series},{value}\n")
        })
    };
    let wide = |shift: usize| {
        (0..300).fold("timestamp,a,b\n".to_owned(), |text, i| {
            let (time, a, b) = (1_700_000_000 + i * 10, (i * 7919 + shift) % 13, (i * 104_729) % 17);
            format!("{text}{time},{a},{b}\n")
        })
    };
    for (name, text) in [
        ("a.csv", wide(0)),
        ("b.csv", long(1)),
        ("deep/a.csv", wide(2)),
        ("deep/c.csv", long(3)),
    ] {
        fs::write(at("dumps").to_owned() + "/" + name, text).expect("written");
    }
    fs::write(at("dumps/bad.csv"), "timestamp,cpu\n1700000000,1\n1700000010,fast\n").expect("written");

    let (dumps, jobs) = (at("dumps"), ["1", "3"]);
    for jobs in jobs {
        let to = at(jobs);
        let done = foreshock(&["score", &dumps, "--output", &to, "--per-series", "--jobs", jobs]);
        assert_eq!(code(&done), 65, "{}", err(&done));
        assert!(
            err(&done).contains("bad.csv: line 3, column cpu: expected a number"),
            "{}",
            err(&done)
        );
        assert!(err(&done).contains("1 of 5 files"), "{}", err(&done));
        assert_eq!(
            left(Path::new(&to)),
            ["a.csv", "b.csv", "deep"],
            "nothing of the bad one"
        );
        for name in ["a.csv", "b.csv", "deep/a.csv", "deep/c.csv"] {
            let (input, alone) = (format!("{dumps}/{name}"), at("alone.csv"));
            assert_eq!(
                code(&foreshock(&["score", &input, "--output", &alone, "--per-series"])),
                0
            );
            let read = |path: String| fs::read_to_string(path).expect("scores");
            let scores = read(format!("{to}/{name}"));
            assert_eq!(scores, read(alone), "{name}");
            assert_eq!(scores.lines().count(), 301, "{name}");
        }
    }

    let (pattern, to) = (format!("{dumps}/deep/*.csv"), at("of-pattern"));
    assert_eq!(code(&foreshock(&["score", &pattern, "--output", &to])), 0);
    assert_eq!(left(Path::new(&to)), ["a.csv", "c.csv"]);
    let none = foreshock(&["score", &format!("{dumps}/*.parquet"), "--output", &to]);
    assert_eq!(code(&none), 64, "{}", err(&none));
}

#[test]
fn bad_data_is_65_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (path(folder.path(), "in.csv"), path(folder.path(), "out.csv"));
    let cases = [
        ("no timestamp", "time,cpu\n1,2\n"),
        (
            "no number",
            "timestamp,cpu\n2026-01-01 00:00:00,1\n2026-01-01 00:00:10,fast\n",
        ),
        ("no time", "timestamp,cpu\nsoon,1\n"),
        ("empty", ""),
    ];
    for (name, text) in cases {
        fs::write(&input, text).expect("written");
        let done = foreshock(&["score", &input, "--output", &output]);
        assert_eq!(code(&done), 65, "{name}: {}", err(&done));
        assert!(err(&done).contains("in.csv"), "{name}: {}", err(&done));
        assert_eq!(left(folder.path()), ["in.csv"], "{name}: nothing is half-written");
    }
}

#[test]
fn files_that_are_not_there_are_74() {
    let folder = tempfile::tempdir().expect("a folder");
    let to = path(folder.path(), "out.csv");
    fs::write(folder.path().join("in.csv"), METRICS).expect("written");
    fs::write(folder.path().join("in.log"), "hello\n").expect("written");
    let (input, log) = (path(folder.path(), "in.csv"), path(folder.path(), "in.log"));
    let cases: [&[&str]; 5] = [
        &["score", "/nonexistent/in.csv", "--output", &to],
        &["score", &input, "--output", "/nonexistent/out.csv"],
        &["templates", "/nonexistent/in.log", "--output", &to],
        &["templates", &log, "--output", "/nonexistent/out.csv"],
        &["inspect", "/nonexistent/metrics-0.state"],
    ];
    for args in cases {
        let done = foreshock(args);
        assert_eq!(code(&done), 74, "{args:?}: {}", err(&done));
        assert!(err(&done).contains("/nonexistent/"), "{args:?}: {}", err(&done));
    }
    assert_eq!(left(folder.path()), ["in.csv", "in.log"]);
}

#[test]
fn templates_writes_a_row_for_each_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (path(folder.path(), "in.log"), path(folder.path(), "out.csv"));
    fs::write(
        &input,
        "user 1 logged in\nuser 2 logged in\nuser 3 logged in\ndisk full\n",
    )
    .expect("written");
    let done = foreshock(&["templates", &input, "--output", &output]);
    assert_eq!(code(&done), 0, "{}", err(&done));
    let rows = fs::read_to_string(&output).expect("rows");
    assert_eq!(rows.lines().count(), 5, "{rows}");
    assert_eq!(rows.lines().next(), Some("line,template_id,template"));
    assert!(err(&done).contains("4 lines, 2 templates"), "{}", err(&done));
    assert_eq!(left(folder.path()), ["in.log", "out.csv"]);
}

/// The recorded incident, told to `backtest` as a user would, or with one argument changed.
fn backtest(folder: &Path, change: impl FnOnce(&mut Vec<String>)) -> Output {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/memory-leak");
    let mut args = vec![
        "backtest".to_owned(),
        "--lead".into(),
        "30s".into(),
        "--horizon".into(),
        "15m".into(),
    ];
    for (name, file) in [
        ("--config", "foreshock.toml"),
        ("--metrics", "metrics.jsonl.zst"),
        ("--logs", "logs.jsonl.zst"),
        ("--failures", "failures.csv"),
    ] {
        args.extend([name.to_owned(), path(&data, file)]);
    }
    for (name, file) in [("--report", "r.html"), ("--json", "r.json"), ("--events", "e.jsonl")] {
        args.extend([name.to_owned(), path(folder, file)]);
    }
    change(&mut args);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    foreshock(&args)
}

fn json(folder: &Path) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(folder.join("r.json")).expect("a report")).expect("JSON")
}

#[test]
fn backtest_judges_the_recorded_incident() {
    let folder = tempfile::tempdir().expect("a folder");
    let done = backtest(folder.path(), |_| {});
    assert_eq!((code(&done), err(&done)), (0, String::new()), "{}", out(&done));
    assert!(out(&done).contains("foretold"), "{}", out(&done));
    let figures = json(folder.path());
    assert_eq!(figures["recall"]["of"], 1);
    assert_eq!(figures["recall"]["hits"], 1, "{figures}");
    assert!(figures["leads_s"][0].as_f64().is_some_and(|s| s > 120.0), "{figures}");
    let events = fs::read_to_string(folder.path().join("e.jsonl")).expect("events");
    let first: serde_json::Value = serde_json::from_str(events.lines().next().expect("one")).expect("JSON");
    assert_eq!(first["kind"], "precursor");
    assert!(
        fs::read_to_string(folder.path().join("r.html"))
            .expect("a page")
            .contains("shop-2")
    );
    assert_eq!(left(folder.path()), ["e.jsonl", "r.html", "r.json"]);
    // Scored from after the failure on, there is none.
    let later = backtest(folder.path(), |args| {
        args.extend(["--from".into(), "2026-11-22T22:01:00Z".into()]);
    });
    assert_eq!(code(&later), 0, "{}", err(&later));
    assert_eq!(json(folder.path())["left_out"]["before"], 1);
}

#[test]
fn backtest_says_what_is_wrong_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let bad = tempfile::tempdir().expect("a folder");
    let labels = path(bad.path(), "failures.csv");
    fs::write(&labels, "entity,class,onset,end\nshop-2,crash,soon,\n").expect("written");
    let empty = path(bad.path(), "metrics.jsonl");
    fs::write(&empty, "{\"name\":\n").expect("written");
    let replaced = |args: &mut Vec<String>, name: &str, value: &str| {
        let place = args.iter().position(|a| a == name).expect("it is there") + 1;
        args[place] = value.to_owned();
    };
    let cases: [(&str, &str, i32, &str); 6] = [
        ("--failures", &labels, 65, "line 2, column onset: expected a time"),
        ("--metrics", &empty, 65, "metrics.jsonl line 1"),
        ("--logs", "/nowhere.jsonl", 74, "/nowhere.jsonl"),
        ("--config", "/nowhere.toml", 78, "/nowhere.toml"),
        ("--horizon", "10s", 64, "--horizon"),
        ("--json", "/nowhere/r.json", 74, "/nowhere/r.json"),
    ];
    for (name, value, expected, text) in cases {
        let failed = backtest(folder.path(), |args| replaced(args, name, value));
        assert_eq!(code(&failed), expected, "{name}: {}", err(&failed));
        assert!(err(&failed).contains(text), "{name}: {}", err(&failed));
        if expected != 74 || name == "--logs" {
            assert!(left(folder.path()).is_empty(), "{name}: {:?}", left(folder.path()));
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    for args in [&["--help"][..], &["replay", "--help"]] {
        let mut child = command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(code(&output), 0);
        assert!(!err(&output).contains("panicked"), "{}", err(&output));
    }
}

#[test]
fn colours_are_for_terminals_alone() {
    let output = command(&["run", "--config", "/nonexistent"])
        .env("CLICOLOR_FORCE", "1")
        .output()
        .expect("runs");
    assert!(!err(&output).contains('\u{1b}'));
}

#[test]
fn a_state_that_is_none_is_65() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = path(folder.path(), "x.state");
    fs::write(&file, "hello\n").expect("written");
    let output = foreshock(&["inspect", &file]);
    assert_eq!(code(&output), 65);
    assert!(
        err(&output).contains("expected: a file that `foreshock inspect --save` wrote"),
        "{}",
        err(&output)
    );
}

#[test]
fn the_demo_foretells_the_failure_and_ends_by_itself() {
    let output = Command::new(env!("CARGO_BIN_EXE_foreshock"))
        .arg("demo")
        .output()
        .expect("the demo runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("PRECURSOR opens  shop-2"), "{text}");
    assert!(
        text.contains("shop-2 failed at 22:00:01. Foreshock warned at"),
        "{text}"
    );
}

/// Ctrl-C ends it at once and says so. Sent with `kill`, since nothing else here may send signals.
#[cfg(unix)]
#[test]
fn an_interrupted_demo_ends_at_once_and_says_so() {
    let mut demo = command(&["demo"]);
    let mut child = demo
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the demo runs");
    let pid = child.id().to_string();
    // It listens for Ctrl-C from before its first line on, however busy the machine is. The pipeline may or may not be ready
    // by then; either way it has to end.
    let mut told = BufReader::new(child.stdout.take().expect("piped"));
    told.read_line(&mut String::new()).expect("its first line");
    std::thread::sleep(std::time::Duration::from_secs(1));
    let sent = Command::new("kill")
        .args(["-s", "INT", &pid])
        .status()
        .expect("kill is there");
    assert!(sent.success());
    let done = child.wait_with_output().expect("it ends");
    assert_eq!(code(&done), 130, "{}", err(&done));
    assert!(
        err(&done).contains("stopped before the recording was over"),
        "{}",
        err(&done)
    );
}
