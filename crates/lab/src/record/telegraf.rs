//! Metric lines as Telegraf's JSON output has them: one object a measurement, its fields, tags and a time in seconds.

use std::io::{self, Write};

use serde::Serialize;

/// Tags of every line.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Tags<'a> {
    /// Which instance.
    pub host: &'a str,
    /// What kind of service.
    pub service: &'a str,
}

/// One measurement.
#[derive(Debug, Serialize)]
struct Line<'a, F> {
    fields: &'a F,
    name: &'a str,
    tags: Tags<'a>,
    timestamp: i64,
}

/// The black-box probe: a request from outside, on a connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Probe {
    /// 1 where it was answered with 200 in time, else 0.
    pub up: u8,
    /// How long it took to be answered or to fail, in seconds.
    pub response_time: f64,
}

/// Writes the measurement `name` with the fields of `fields`, taken at `timestamp` seconds.
///
/// # Errors
/// Where the output fails.
pub fn write(
    to: &mut impl Write,
    name: &str,
    tags: Tags<'_>,
    timestamp: i64,
    fields: &impl Serialize,
) -> io::Result<()> {
    serde_json::to_writer(
        &mut *to,
        &Line {
            fields,
            name,
            tags,
            timestamp,
        },
    )?;
    to.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_telegraf_writes_it() {
        let mut line = Vec::new();
        let tags = Tags {
            host: "shop-1",
            service: "shop",
        };
        write(
            &mut line,
            "probe",
            tags,
            1_458_229_140,
            &Probe {
                up: 1,
                response_time: 0.25,
            },
        )
        .expect("memory");
        let expected = r#"{"fields":{"up":1,"response_time":0.25},"name":"probe","tags":{"host":"shop-1","service":"shop"},"timestamp":1458229140}"#;
        assert_eq!(String::from_utf8(line).expect("text"), format!("{expected}\n"));
    }
}
