//! The recorder end to end, in half a minute: shops with hardly any memory, so many customers that they die soon, and a
//! recording that shows it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("a recording");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect()
}

#[test]
fn a_shop_without_memory_dies_and_the_recording_shows_it() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recording");
    let mut record = Command::new(env!("CARGO_BIN_EXE_foreshock-lab"));
    record.args([
        "record",
        "--every-s",
        "1",
        "--healthy-s",
        "2",
        "--leak-s-max",
        "120",
        "--down-s",
        "3",
    ]);
    record
        .args([
            "--aftermath-s",
            "9",
            "--memory-limit-mib",
            "26",
            "--rate",
            "500",
            "--output",
        ])
        .arg(&folder);
    let output = record.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let failures = fs::read_to_string(folder.join("failures.csv")).expect("failures");
    let mut rows = failures.lines();
    assert_eq!(rows.next(), Some("entity,class,onset,end"));
    let row: Vec<&str> = rows.next().expect("a failure").split(',').collect();
    let [entity, class, onset, end]: [&str; 4] = row.try_into().expect("four columns");
    assert_eq!(class, "crash");
    let time = |text: &str| text.parse::<jiff::Timestamp>().expect("a time");
    assert!(time(end).as_second() - time(onset).as_second() >= 2, "{failures}");

    let logs = lines(&folder.join("logs.jsonl"));
    let is_last_word = |line: &&Value| {
        let message = line["message"].as_str().unwrap_or_default();
        let grave = ["out of memory:", "memory allocation of", "failed to allocate"];
        line["host"] == entity && grave.iter().any(|g| message.contains(g))
    };
    let last_word = logs.iter().find(is_last_word).expect("a line about the lack of memory");
    assert!(time(last_word["@timestamp"].as_str().expect("its time")) <= time(onset));

    let metrics = lines(&folder.join("metrics.jsonl"));
    let names: BTreeSet<&str> = metrics.iter().filter_map(|m| m["name"].as_str()).collect();
    assert_eq!(names, BTreeSet::from(["probe", "procstat", "shop"]));
    let is_up: BTreeSet<u64> = metrics
        .iter()
        .filter(|m| m["name"] == "probe" && m["tags"]["host"] == entity)
        .filter_map(|m| m["fields"]["up"].as_u64())
        .collect();
    assert_eq!(is_up, BTreeSet::from([0, 1]));
    fs::remove_dir_all(&folder).expect("the recording goes");
}
