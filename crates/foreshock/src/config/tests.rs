use super::*;
use crate::error::CommandError;

const LEAST: &str =
    "[kafka]\nbrokers = \"localhost:9092\"\n[[source]]\ntopic = \"metrics\"\nformat = \"telegraf_json\"\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("f.toml"), text, Secrets::Read)
}

#[test]
fn brokers_and_a_source_are_enough() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.group, "foreshock");
    assert!(config.workers >= 1 && !config.instance.is_empty());
    assert_eq!(config.topics.state, "foreshock.state");
    assert_eq!(config.listen.to_string(), "127.0.0.1:9464");
    assert_eq!(config.connection.properties["bootstrap.servers"], "localhost:9092");
    assert_eq!(config.engine.sources[0].entity.len(), ENTITY_LABELS.len());
    assert_eq!(config.log_settings(3).instance, format!("{}-3", config.instance));
}

#[test]
fn masks_are_compiled_and_text_is_redacted_unless_told_otherwise() {
    let log = |more: &str| parse(&format!("{LEAST}{more}")).unwrap().engine.sources[0].log.clone();
    let least = log("");
    assert!(!least.raw_text && least.masks.is_none());
    let told = log("log_text = \"raw\"\nmasks = [{ name = \"order\", pattern = 'ORD-\\w+' }]\n");
    assert!(told.raw_text);
    let masks = told.masks.expect("one");
    assert_eq!(
        foreshock_logs::Masking::default().apply(&masks, "ORD-a shipped"),
        "<order> shipped"
    );
}

#[test]
fn brokers_may_be_a_list_or_a_text_with_commas() {
    for brokers in ["\"a:9092, b:9093\"", "[\"a:9092\", \"b:9093\"]"] {
        let config = parse(&LEAST.replace("\"localhost:9092\"", brokers)).unwrap();
        assert_eq!(config.connection.properties["bootstrap.servers"], "a:9092,b:9093");
    }
}

/// Everything a person sees of a mistake, in one line.
fn complaint(text: &str) -> String {
    let error: CommandError = parse(text).expect_err(text).into();
    assert_eq!(error.exit(), crate::error::Exit::Config);
    error.to_string()
}

#[test]
fn mistakes_say_where_and_what_was_expected() {
    let with = |more: &str| format!("{LEAST}{more}");
    let cases = [
        ("empty", String::new(), "key `kafka` is missing", ""),
        ("syntax", "[kafka\n".into(), "", "f.toml line 1"),
        (
            "unknown table",
            with("[window]\nwidth = \"1s\"\n"),
            "unknown key `window` (f.toml line 6, key window)",
            "`windows`",
        ),
        (
            "unknown key",
            with("[windows]\nlatenes = \"1s\"\n"),
            "unknown key `latenes` (f.toml line 7, key windows.latenes)",
            "expected `width` or `lateness`",
        ),
        (
            "unknown format",
            LEAST.replace("telegraf_json", "telegraf-json"),
            "unknown value `telegraf-json` (f.toml line 5, key source[0].format)",
            "`telegraf_json`, `plain_json`, `log_text`, `log_json`, `syslog`, `logfmt`, `cri`, `otlp_json`, `otlp_proto`, `log`, `incident_json`",
        ),
        (
            "key of a later source",
            with("[[source]]\ntopic = \"logs\"\nformat = \"log_json\"\nentty = [\"host\"]\n"),
            "unknown key `entty` (f.toml line 9, key source[1].entty)",
            "`entity`",
        ),
        (
            "session without a name",
            with("session = { idle = \"1m\" }\n"),
            "neither `labels` nor `pattern` (f.toml line 6, key source[0].session)",
            "blk_-?",
        ),
        (
            "session pattern",
            with("session = { pattern = 'x*' }\n"),
            "it matches the empty string (f.toml line 6, key source[0].session.pattern)",
            "a regular expression",
        ),
        (
            "session idle",
            with("session = { labels = [\"trace_id\"], idle = \"5ms\" }\n"),
            "5 ms (f.toml line 6, key source[0].session.idle)",
            "\"1s\" to \"24h\"",
        ),
        (
            "log text",
            with("log_text = \"some\"\n"),
            "unknown value `some` (f.toml line 6, key source[0].log_text)",
            "`redacted` or `raw`",
        ),
        (
            "mask pattern",
            with("masks = [{ name = \"a\", pattern = \"x\" }, { name = \"b\", pattern = \"x*\" }]\n"),
            "it matches the empty string (f.toml line 6, key source[0].masks[1].pattern)",
            "a regular expression",
        ),
        (
            "mask name",
            with("masks = [{ name = \"order 1\", pattern = \"x\" }]\n"),
            "(f.toml line 6, key source[0].masks[0].name)",
            "1 to 32 letters",
        ),
        (
            "wrong type",
            LEAST.replace("\"metrics\"", "7"),
            "line 4, key source[0].topic",
            "expected a string",
        ),
        (
            "duration",
            with("[windows]\nwidth = \"10 sec\"\n"),
            "line 7, key windows.width",
            "a length of time such as \"500ms\"",
        ),
        (
            "duration as a number",
            with("[windows]\nwidth = 10\n"),
            "key windows.width",
            "a length of time",
        ),
        (
            "zero width",
            with("[windows]\nwidth = \"0s\"\n"),
            "0 ms (f.toml line 7, key windows.width)",
            "\"100ms\" to \"1h\"",
        ),
        (
            "lateness",
            with("[windows]\nwidth = \"10s\"\nlateness = \"61s\"\n"),
            "61000 ms (f.toml line 8, key windows.lateness)",
            "at most 6 times `windows.width`: 60000 ms",
        ),
        (
            "budget",
            with("[alarms]\nfalse_alarms_per_day = 0.0\n"),
            "key alarms.false_alarms_per_day",
            "above 0",
        ),
        (
            "budget nan",
            with("[alarms]\nfalse_alarms_per_day = nan\n"),
            "key alarms.false_alarms_per_day",
            "above 0",
        ),
        (
            "no brokers",
            LEAST.replace("localhost:9092", ""),
            "\"\" is no broker (f.toml line 2, key kafka.brokers)",
            "host:port",
        ),
        (
            "no sources",
            "[kafka]\nbrokers = \"a\"\n".into(),
            "there is no source",
            "[[source]]",
        ),
        (
            "twice the same source",
            with("[[source]]\ntopic = \"metrics\"\nformat = \"log_json\"\n"),
            "topic \"metrics\" is `source[0].topic` already (f.toml line 7, key source[1].topic)",
            "",
        ),
        (
            "source is an output",
            LEAST.replace("\"metrics\"", "\"anomalies\""),
            "is `topics.anomalies` already: Foreshock would read what it writes",
            "line 4",
        ),
        (
            "two outputs in one",
            with("[topics]\nfailures = \"x\"\nanomalies = \"x\"\n"),
            "topic \"x\" is `topics.anomalies` already (f.toml line 7, key topics.failures)",
            "",
        ),
        (
            "topic name",
            LEAST.replace("\"metrics\"", "\"a b\""),
            "\"a b\" can't be the name of a topic",
            "0-9",
        ),
        (
            "http",
            with("[http]\nlisten = \"localhost\"\n"),
            "key http.listen",
            "127.0.0.1:9464",
        ),
        (
            "workers",
            LEAST.replace("[[source]]", "workers = 0\n[[source]]"),
            "0 (f.toml line 3, key kafka.workers)",
            "1 to 256",
        ),
        ("limits", with("[limits]\nseries = 0\n"), "key limits.series", "1 to"),
        (
            "failure rule",
            with("[[failure.heartbeat]]\nname = \"a\"\nafter_s = 0\n"),
            "line 8, key failure.heartbeat[0].after_s",
            "expected",
        ),
        (
            "unknown key of a rule",
            with("[[failure.heartbeat]]\nname = \"a\"\nafter = 60\n"),
            "unknown key `after` (f.toml line 8, key failure.heartbeat[0].after)",
            "`after_s`",
        ),
        (
            "owned property",
            LEAST.replace(
                "[[source]]",
                "properties = { \"isolation.level\" = \"read_uncommitted\" }\n[[source]]",
            ),
            "`isolation.level` can't be changed",
            "line 3",
        ),
        (
            "property with a key",
            LEAST.replace("[[source]]", "properties = { \"group.id\" = \"x\" }\n[[source]]"),
            "`group.id` has a key of its own",
            "`kafka.group`",
        ),
        (
            "tls without ssl",
            LEAST.replace("[[source]]", "tls = { ca_file = \"/ca\" }\n[[source]]"),
            "it would not be used",
            "security = \"ssl\"",
        ),
        (
            "sasl without password",
            LEAST.replace(
                "[[source]]",
                "security = \"sasl_ssl\"\nsasl = { mechanism = \"PLAIN\", username = \"u\" }\n[[source]]",
            ),
            "there is no password (f.toml line 4, key kafka.sasl)",
            "`password_file` or `password_env`",
        ),
        (
            "mechanism",
            LEAST.replace(
                "[[source]]",
                "security = \"sasl_ssl\"\nsasl = { mechanism = \"GSSAPI\", username = \"u\" }\n[[source]]",
            ),
            "unknown value `GSSAPI`",
            "`SCRAM-SHA-512`",
        ),
    ];
    for (name, text, one, other) in cases {
        let got = complaint(&text);
        assert!(got.contains(one) && got.contains(other), "{name}: {got}");
    }
}

#[test]
fn the_nearest_name_is_suggested() {
    let cases = [
        ("[windows]\nlatenes = \"1s\"\n", Some("did you mean `lateness`?")),
        ("[window]\n", Some("did you mean `windows`?")),
        ("[zzzzzzzz]\n", None),
    ];
    for (more, expected) in cases {
        let error = parse(&format!("{LEAST}{more}")).expect_err(more);
        assert_eq!(error.help.as_deref(), expected, "{more}");
    }
}

#[test]
fn secrets_are_named_and_never_shown() {
    let sasl = |rest: &str| {
        LEAST.replace(
            "[[source]]",
            &format!("security = \"sasl_plaintext\"\nsasl = {{ mechanism = \"PLAIN\", username = \"u\", {rest} }}\n[[source]]"),
        )
    };
    let inline = parse(&sasl("password = \"hunter2\"")).expect_err("inline");
    let shown = format!("{inline:?}");
    assert!(!shown.contains("hunter2") && shown.contains("password_file"), "{shown}");
    let in_place = LEAST.replace("[[source]]", "sasl = \"hunter2\"\n[[source]]");
    assert!(!format!("{:?}", parse(&in_place).expect_err("no table")).contains("hunter2"));
    let property = LEAST.replace(
        "[[source]]",
        "properties = { \"sasl.oauthbearer.client.secret\" = \"hunter2\" }\n[[source]]",
    );
    assert!(!format!("{:?}", parse(&property).expect_err("secret")).contains("hunter2"));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "hunter2\n").unwrap();
    let config = parse(&sasl(&format!("password_file = {:?}", file.display().to_string()))).unwrap();
    assert_eq!(config.connection.properties["sasl.password"], "hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));

    let missing = complaint(&sasl("password_file = \"/nonexistent/password\""));
    assert!(missing.contains("key kafka.sasl.password_file"), "{missing}");
    let offline = Config::parse(
        Path::new("f.toml"),
        &sasl("password_env = \"FORESHOCK_NOT_SET\""),
        Secrets::Leave,
    );
    assert!(offline.is_ok(), "the file alone is right");
    assert!(complaint(&sasl("password_env = \"FORESHOCK_NOT_SET\"")).contains("is not set"));
    assert!(complaint(&sasl("password_env = \"A\", password_file = \"b\"")).contains("named twice"));
}

/// `docs/configuration.md` shows the whole file with every key; what it shows must be true.
#[test]
fn the_documented_example_is_read_and_shows_the_defaults() {
    let docs = include_str!("../../../../docs/configuration.md");
    let examples: Vec<&str> = docs
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(examples.len() >= 2, "a short and a whole example");
    for example in &examples {
        Config::parse(Path::new("docs"), example, Secrets::Leave).unwrap_or_else(|e| panic!("{e:?}\n{example}"));
    }
    let whole = Config::parse(Path::new("docs"), examples[1], Secrets::Leave).unwrap();
    let least = parse(LEAST).unwrap();
    assert_eq!(whole.engine.windows.width_ms, least.engine.windows.width_ms);
    assert_eq!(whole.engine.windows.lateness_ms, least.engine.windows.lateness_ms);
    assert_eq!(whole.engine.limits.series, least.engine.limits.series);
    assert_eq!(whole.engine.limits.entities, least.engine.limits.entities);
    assert_eq!(whole.session_timeout, least.session_timeout);
    assert_eq!(whole.listen, least.listen);
    assert_eq!(whole.topics.dead_letters, least.topics.dead_letters);
    let labels: Vec<&str> = whole.engine.sources[0].entity.iter().map(AsRef::as_ref).collect();
    assert_eq!(labels, ENTITY_LABELS);
}
