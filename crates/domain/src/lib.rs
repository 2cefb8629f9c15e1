//! The nouns of Foreshock.
//!
//! Every other crate speaks in these words; nothing here computes more than a sum. The words are the field's
//! (see `docs/architecture.md`): a **sample** is one metric point, a **series** a name with labels, an **entity** what
//! can fail, a **score** the surprise of something (−log10 p), a **signal** one series' or template's surprise, and
//! **precursor** and **failure** are the two kinds of event that leave the program.
//!
//! Types that live in a partition's state are read by a format that does not describe itself (postcard), so they carry no
//! `flatten`, `tag`, `untagged` or `skip_serializing_if`.
//!
//! Architecture invariant: no I/O, no clock, no randomness, no dependency but serde.

mod clock;
mod detector;
mod entity;
mod entity_labels;
mod event;
mod input;
mod ledger;
mod score;
mod signal;
mod time;

pub mod text;

pub use clock::{Progress, Tick, Upstream};
pub use detector::{Detector, Learning};
pub use entity::{Entity, Labels, Series, SeriesId};
pub use entity_labels::{ENTITY_LABEL, ENTITY_LABELS, is_entity_label, is_label_column};
pub use event::{
    Contributor, Event, EventAction, EventId, EventKind, Exhaustion, FailureDetail, Grade, IncidentId, KindRecord,
    LogEvidence, PrecededBy, PrecursorDetail, Prediction, PredictionGround, Resolution, Severity, SlowBurn,
    TrackRecord,
};
pub use input::{Input, LabelPairs, Level, LogLine, MetricKind, Sample};
pub use ledger::{Censoring, Fate, LedgerEntry};
pub use score::{Channel, Direction, Score, Verdict};
pub use signal::{
    EntityWindow, Fact, Incident, Signal, SignalRecord, Source, SourcePosition, TemplateEntry, VectorEntry,
};
pub use time::{Millis, Timestamp};
