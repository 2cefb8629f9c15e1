//! How fast `train` is, what memory it takes, and how long a model takes to come back, on a history made here.

use std::fmt::Write as _;
use std::io::Cursor;
use std::path::Path;
use std::time::{Duration, Instant};

use foreshock_domain::{Entity, Timestamp};
use foreshock_engine::{EngineConfig, SourceConfig, TopicId};
use foreshock_failure::{FailureConfig, Rules};
use foreshock_history::dump::Dump;
use foreshock_history::labels::{Label, Labels};
use foreshock_history::open::Opened;
use foreshock_history::train::{Progress, Training, registry};
use foreshock_wire::Format;

use super::{Noise, start};
use crate::error::{CommandError, Exit};
use crate::memory;

/// Hosts, series of each, and windows of ten seconds.
const HOSTS: usize = 40;
const SERIES: usize = 20;
const WINDOWS: usize = 2_000;
/// Windows between two failures of a host, and over which one grows.
const PERIOD: usize = 400;
const GROWTH: usize = 40;

/// What was measured.
pub(super) struct Measured {
    /// Samples read.
    pub(super) samples: f64,
    /// Until all was read, and until all was fitted.
    pub(super) reading: Duration,
    pub(super) fitting: Duration,
    /// Most memory that this process ever had, in bytes; `None` where the system does not say.
    pub(super) peak: Option<u64>,
    /// Until a model was read again, and its bytes on disk.
    pub(super) restore: Duration,
    pub(super) bytes: u64,
}

/// When a host fails, in windows.
fn onsets(host: usize) -> impl Iterator<Item = usize> {
    (1..)
        .map(move |k| k * PERIOD - 100 - host * 7 % PERIOD)
        .take_while(|w| *w < WINDOWS)
}

fn history() -> String {
    let mut noise = Noise(5);
    let mut text = String::from("timestamp,host");
    for series in 0..SERIES {
        let _ = write!(text, ",metric_{series}");
    }
    text.push('\n');
    for window in 0..WINDOWS {
        let at = (start() + i64::try_from(window).unwrap_or(0) * 10_000).as_millis();
        for host in 0..HOSTS {
            let grown = onsets(host)
                .find(|w| *w > window)
                .map_or(0, |next| GROWTH.saturating_sub(next - window));
            let _ = write!(text, "{at},web-{host:02}");
            for series in 0..SERIES {
                #[allow(clippy::cast_precision_loss)] // tens
                let value = noise.value() + if series == 3 { grown as f64 } else { 0.0 };
                let _ = write!(text, ",{value:.3}");
            }
            text.push('\n');
        }
    }
    text
}

fn labels() -> Labels {
    let label = |host: usize, window: usize| Label {
        entity: Entity::new(&format!("web-{host:02}")),
        class: "leak".into(),
        onset: start() + i64::try_from(window).unwrap_or(0) * 10_000,
        end: None,
        lead_ms: None,
    };
    Labels::settle((0..HOSTS).flat_map(|h| onsets(h).map(move |w| label(h, w))).collect())
}

/// Trains once.
pub(super) fn measure() -> Result<Measured, CommandError> {
    let failed = |e: &dyn std::fmt::Display| CommandError::new(Exit::Data, e.to_string());
    let rules = Rules::new(&FailureConfig::default()).map_err(|e| failed(&e))?;
    let source = SourceConfig::new("metrics", Format::PlainJson, &["host"]);
    let opened = Opened::new(Cursor::new(history().into_bytes()), None).map_err(|e| failed(&e))?;
    let dump = Dump::csv(Path::new("history.csv"), Format::PlainJson, opened).map_err(|e| failed(&e))?;
    let training = Training {
        config: EngineConfig::new(vec![source], rules),
        dumps: vec![(TopicId(1), dump.keyed_by(&["host"]))],
        labels: labels(),
        apart: Vec::new(),
        horizon_ms: 300_000,
        lead_ms: 60_000,
        until: Timestamp::LATEST,
        resume: None,
    };
    let (began, mut read) = (Instant::now(), None);
    let trained = training.run(&mut |progress| {
        if matches!(progress, Progress::Fitting(..)) {
            read.get_or_insert(began.elapsed());
        }
        true
    });
    let trained = trained.map_err(|e| failed(&e))?;
    let all = began.elapsed();
    let bytes = serde_json::to_vec(&trained.model).map_err(|e| failed(&e))?;
    let began = Instant::now();
    registry::decode(Path::new("model.json"), &bytes).map_err(|e| failed(&e))?;
    let reading = read.unwrap_or(all);
    #[allow(clippy::cast_precision_loss)] // millions
    Ok(Measured {
        samples: (HOSTS * SERIES * WINDOWS) as f64,
        reading,
        fitting: all.saturating_sub(reading),
        peak: memory::peak(),
        restore: began.elapsed(),
        bytes: bytes.len() as u64,
    })
}
