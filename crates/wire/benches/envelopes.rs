//! Lines a second of each log format, decoded alone and decoded and mined: `cargo bench -p foreshock-wire --bench envelopes`.
#![allow(missing_docs, clippy::unwrap_used)] // criterion's macros; a benchmark that can't decode its input should stop

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foreshock_domain::Input;
use foreshock_logs::{Miner, telling_line};
use foreshock_wire::{Decoder, Format};

const MESSAGE: &str = "Connection to db-3 refused after 3 attempts, giving up on request 8f14e45f";

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut n = bytes.len();
    while n > 0x7f {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out.extend(bytes);
    out
}

fn otlp_proto(records: usize) -> Vec<u8> {
    let pair = |key: &str, value: &str| [field(1, key.as_bytes()), field(2, &field(1, value.as_bytes()))].concat();
    let record = [
        &[1 << 3 | 1][..],
        &1_769_860_800_123_456_789_u64.to_le_bytes(),
        &[2 << 3, 17],
        &field(5, &field(1, MESSAGE.as_bytes())),
        &field(6, &pair("http.route", "/checkout")),
        &field(9, &[0xab; 16]),
    ]
    .concat();
    let resource = [
        field(1, &pair("service.name", "checkout")),
        field(1, &pair("k8s.pod.name", "checkout-7f")),
    ]
    .concat();
    let scope = field(2, &record).repeat(records);
    field(1, &[field(1, &resource), field(2, &scope)].concat())
}

fn cases() -> Vec<(&'static str, Format, Vec<u8>, u64)> {
    let line = |format, text: String| (format, text.into_bytes());
    let (json, filebeat) = (
        format!(
            r#"{{"ts":"2026-01-31T12:00:00.123Z","level":"error","host":"web-17","service":"checkout","msg":"{MESSAGE}"}}"#
        ),
        format!(
            r#"{{"@timestamp":"2026-01-31T12:00:00.123Z","log":{{"level":"error","file":{{"path":"/var/log/app.log"}},"offset":129387}},"message":"{MESSAGE}","host":{{"name":"web-17","ip":["10.0.0.17"]}},"service":{{"name":"checkout"}},"agent":{{"type":"filebeat","version":"8.12.0"}}}}"#
        ),
    );
    let docker = format!(
        r#"{{"log":"2026-01-31 12:00:00 ERROR {MESSAGE}\n","stream":"stderr","time":"2026-01-31T12:00:00.123456789Z"}}"#
    );
    let otlp = format!(
        r#"{{"resourceLogs":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"checkout"}}}}]}},"scopeLogs":[{{"scope":{{}},"logRecords":[{{"timeUnixNano":"1769860800123456789","severityNumber":17,"severityText":"ERROR","body":{{"stringValue":"{MESSAGE}"}},"traceId":"5b8efff798038103d269b633813fc60c"}}]}}]}}]}}"#
    );
    let all = [
        ("json", line(Format::LogJson, json.clone())),
        ("json, as log", line(Format::Log, json.clone())),
        ("filebeat", line(Format::LogJson, filebeat)),
        ("docker", line(Format::LogJson, docker)),
        (
            "text",
            line(
                Format::LogText,
                format!("2026-01-31 12:00:00,123 ERROR [http-7] c.e.PaymentClient - {MESSAGE}"),
            ),
        ),
        (
            "text with colours",
            line(
                Format::LogText,
                format!("2026-01-31 12:00:00,123 \u{1b}[31mERROR\u{1b}[0m {MESSAGE}"),
            ),
        ),
        (
            "text, as log",
            line(
                Format::Log,
                format!("2026-01-31 12:00:00,123 ERROR [http-7] c.e.PaymentClient - {MESSAGE}"),
            ),
        ),
        (
            "syslog 3164",
            line(
                Format::Syslog,
                format!("<11>Jan 31 12:00:00 web-17 checkout[77]: {MESSAGE}"),
            ),
        ),
        (
            "syslog 5424",
            line(
                Format::Syslog,
                format!(r#"<11>1 2026-01-31T12:00:00.123Z web-17 checkout 77 - [o@1 ip="10.0.0.17"] {MESSAGE}"#),
            ),
        ),
        (
            "logfmt",
            line(
                Format::Logfmt,
                format!(r#"ts=2026-01-31T12:00:00.123Z level=error host=web-17 app=checkout msg="{MESSAGE}""#),
            ),
        ),
        (
            "cri",
            line(
                Format::Cri,
                format!("2026-01-31T12:00:00.123456789Z stderr F ERROR {MESSAGE}"),
            ),
        ),
        (
            "cri with json",
            line(Format::Cri, format!("2026-01-31T12:00:00.123456789Z stderr F {json}")),
        ),
        ("otlp_json", line(Format::OtlpJson, otlp)),
        ("otlp_proto", (Format::OtlpProto, otlp_proto(1))),
    ];
    let mut cases: Vec<_> = all
        .into_iter()
        .map(|(name, (format, payload))| (name, format, payload, 1))
        .collect();
    let many = format!("{json}\n").repeat(100);
    cases.push(("json, 100 a record", Format::LogJson, many.into_bytes(), 100));
    cases.push(("otlp_proto, 100 a record", Format::OtlpProto, otlp_proto(100), 100));
    cases
}

fn envelopes(c: &mut Criterion) {
    for (what, mines) in [("decode", false), ("decode and mine", true)] {
        let mut group = c.benchmark_group(what);
        for (name, format, payload, lines) in cases() {
            let (mut decoder, mut miner) = (Decoder::new(format), Miner::new());
            assert_eq!(
                decoder.decode(&payload, &mut |_| {}).unwrap().items as u64,
                lines,
                "{name}"
            );
            group.throughput(Throughput::Elements(lines));
            group.bench_function(name, |b| {
                b.iter(|| {
                    decoder.decode(black_box(&payload), &mut |input| match input {
                        Input::Line(line) if mines => {
                            black_box(miner.mine(telling_line(line.message).0, line.level));
                        }
                        input => {
                            black_box(&input);
                        }
                    })
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(std::time::Duration::from_millis(300)).measurement_time(std::time::Duration::from_secs(1));
    targets = envelopes
}
criterion_main!(benches);
