//! The recorded incident that comes with the program.

use foreshock_domain::{Input, Timestamp};
use foreshock_history::open::{LineRead, Opened};
use foreshock_wire::{Decoder, Format};

use crate::error::{CommandError, Exit};

const METRICS: &[u8] = include_bytes!("../../../../data/memory-leak/metrics.jsonl.zst");
const LOGS: &[u8] = include_bytes!("../../../../data/memory-leak/logs.jsonl.zst");
const CONFIG: &str = include_str!("../../../../data/memory-leak/foreshock.toml");
const WHAT: &str = "Three instances of a small shop, one of which leaks memory until it can't allocate any more.";
/// Far longer than any recorded line.
const LINE_BYTES_MAX: usize = 1 << 16;

/// One record and when it was made.
pub(crate) struct Recorded {
    pub(crate) at: Timestamp,
    pub(crate) topic: &'static str,
    /// The entity, so that all records of one stand in one partition, in order.
    pub(crate) key: String,
    pub(crate) payload: Vec<u8>,
}

/// An incident in order of time.
pub(crate) struct Recording {
    pub(crate) what: &'static str,
    pub(crate) config: &'static str,
    pub(crate) records: Vec<Recorded>,
}

impl Recording {
    /// Unpacks it.
    pub(crate) fn load() -> Result<Self, CommandError> {
        let mut records = read("metrics", Format::TelegrafJson, METRICS)?;
        records.extend(read("logs", Format::LogJson, LOGS)?);
        records.sort_by_key(|r| r.at);
        if records.is_empty() {
            return Err(CommandError::new(Exit::Data, "the recording is empty"));
        }
        Ok(Self {
            what: WHAT,
            config: CONFIG,
            records,
        })
    }

    pub(crate) fn first(&self) -> Timestamp {
        self.records.first().map_or(Timestamp::MIN, |r| r.at)
    }

    pub(crate) fn last(&self) -> Timestamp {
        self.records.last().map_or(Timestamp::MIN, |r| r.at)
    }
}

fn read(topic: &'static str, format: Format, packed: &'static [u8]) -> Result<Vec<Recorded>, CommandError> {
    let refused = |e: &dyn std::fmt::Display| CommandError::new(Exit::Data, format!("the recorded {topic}: {e}"));
    let mut file = Opened::new(packed, None).map_err(|e| refused(&e))?;
    let (mut decoder, mut line, mut records) = (Decoder::new(format), Vec::new(), Vec::new());
    while !matches!(
        file.read_line(&mut line, LINE_BYTES_MAX).map_err(|e| refused(&e))?,
        LineRead::End
    ) {
        let (mut at, mut key) = (None, String::new());
        let seen = &mut |input: Input<'_>| {
            let own = match &input {
                Input::Sample(s) => s.at,
                Input::Line(l) => l.at,
                Input::Incident(i) => Some(i.onset),
            };
            at = at.or(own);
            key = input.label("host").unwrap_or_default().to_owned();
        };
        decoder.decode(&line, seen).map_err(|e| refused(&e))?;
        let at = at.ok_or_else(|| refused(&"a record has no time"))?;
        records.push(Recorded {
            at,
            topic,
            key,
            payload: line.clone(),
        });
    }
    Ok(records)
}
