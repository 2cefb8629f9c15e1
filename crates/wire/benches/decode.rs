//! How fast records become domain: time and records a second for each format, on records of the usual size.
#![allow(missing_docs, clippy::unwrap_used)] // criterion's macros; a benchmark that can't decode its input should stop

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use foreshock_wire::{Decoder, Format};

/// 200 bytes, as an adapter writes one sample.
const PLAIN: &str = r#"{"timestamp":"2026-01-31T12:00:00.123Z","value":"97.12345678","name":"node_cpu_seconds_total","labels":{"cpu":"0","instance":"web-17.example.net:9100","job":"node","mode":"idle","zone":"eu-central-1"}}"#;
/// The same with numbers as numbers.
const NUMBERS: &str = r#"{"labels":{"cpu":"0","instance":"web-17.example.net:9100","job":"node","mode":"idle","zone":"eu-central-1a"},"name":"node_cpu_seconds_total","timestamp":1769860800123,"value":97.12345678}"#;
const TELEGRAF: &str = r#"{"fields":{"usage_guest":0,"usage_idle":97.1234567,"usage_iowait":0.02,"usage_irq":0,"usage_nice":0,"usage_softirq":0.12,"usage_steal":0,"usage_system":1.52,"usage_user":1.22},"name":"cpu","tags":{"cpu":"cpu-total","host":"web-17.example.net"},"timestamp":1458229140}"#;
const LOG_JSON: &str = r#"{"@timestamp":"2026-01-31T12:00:00.123Z","log":{"level":"error","file":{"path":"/var/log/app.log"},"offset":129387},"message":"Connection to db-3 refused after 3 attempts, giving up on request 8f14e45f","host":{"name":"web-17","ip":["10.0.0.17"]},"service":{"name":"checkout"},"agent":{"type":"filebeat","version":"8.12.0"}}"#;
const LOG_TEXT: &str = "2026-01-31 12:00:00,123 ERROR [http-nio-8080-exec-7] c.e.checkout.PaymentClient - Connection to db-3 refused after 3 attempts, giving up on request 8f14e45f";

fn decode(c: &mut Criterion) {
    let many = format!("[{}]", vec![NUMBERS; 100].join(","));
    let cases: [(&str, Format, &str, u64); 6] = [
        ("plain_json text", Format::PlainJson, PLAIN, 1),
        ("plain_json numbers", Format::PlainJson, NUMBERS, 1),
        ("plain_json array of 100", Format::PlainJson, &many, 100),
        ("telegraf_json 9 fields", Format::TelegrafJson, TELEGRAF, 9),
        ("log_json", Format::LogJson, LOG_JSON, 1),
        ("log_text", Format::LogText, LOG_TEXT, 1),
    ];
    let mut group = c.benchmark_group("decode");
    for (name, format, payload, items) in cases {
        let mut decoder = Decoder::new(format);
        assert_eq!(
            decoder.decode(payload.as_bytes(), &mut |_| {}).unwrap().items as u64,
            items,
            "{name}"
        );
        group.throughput(Throughput::Elements(items));
        group.bench_function(name, |b| {
            b.iter(|| {
                decoder.decode(black_box(payload.as_bytes()), &mut |input| {
                    black_box(&input);
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
