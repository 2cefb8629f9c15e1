//! What leaves the program: one JSON object an event, on the topics `anomalies` and `failures`, with CloudEvents binary-mode
//! headers. `docs/schema/event.schema.json` describes the value and is tested against what is written here.
//!
//! The same event gives the same bytes. Times are RFC 3339 in UTC; numbers that JSON can't say (NaN, ±Inf: no expected
//! range) are `null`. `kind` and the detail must agree, as the engine makes them: a precursor has [`PrecursorDetail`], a failure
//! has [`FailureDetail`]; the fields of a missing detail are left out.

use foreshock_domain::{
    Channel, Contributor, Direction, Entity, Event, EventAction, EventId, EventKind, Exhaustion, FailureDetail, Grade,
    IncidentId, KindRecord, Level, LogEvidence, PrecededBy, PrecursorDetail, Prediction, PredictionGround, Resolution,
    Score, Severity, SlowBurn, Source, SourcePosition, Timestamp, TrackRecord, Upstream,
};
use serde::{Deserialize, Serialize};

use crate::error::DecodeError;
use crate::limits::{PAYLOAD_BYTES_MAX, SUMMARY_BYTES_MAX, prefix};
use crate::time;

/// Version of the value's schema: a new major one where a field changes or goes, a new minor one where one comes.
pub const SCHEMA_VERSION: &str = "1.0";

/// Content type of the value.
pub const CONTENT_TYPE: &str = "application/json";

/// Which models made an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detector<'a> {
    /// Name of the model, `online` where nothing was trained.
    pub model: &'a str,
    /// Its version.
    pub model_version: &'a str,
}

impl Default for Detector<'_> {
    fn default() -> Self {
        Self {
            model: "online",
            model_version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// Writes one event onto the end of `out`, as made without a trained model.
pub fn encode(event: &Event, out: &mut Vec<u8>) {
    encode_with(event, Detector::default(), out);
}

/// Writes one event onto the end of `out`.
pub fn encode_with(event: &Event, detector: Detector<'_>, out: &mut Vec<u8>) {
    // Into memory, and every number and key has a form in JSON: nothing in it can fail.
    let _ = serde_json::to_writer(out, &Shape::of(event, detector));
}

/// CloudEvents headers of an event. `source` is a URI reference that names this deployment, such as `/foreshock/eu-1`.
#[must_use]
pub fn headers(event: &Event, source: &str) -> Vec<(&'static str, String)> {
    let kind = kind_name(event.kind);
    let action = match event.action {
        EventAction::Open => "open",
        EventAction::Update => "update",
        EventAction::Resolve => "resolve",
    };
    vec![
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", event.event_id.to_string()),
        ("ce_source", source.to_owned()),
        ("ce_type", format!("foreshock.{kind}.{action}.v1")),
        ("ce_time", time::format_rfc3339(event.observed_at)),
        ("content-type", CONTENT_TYPE.to_owned()),
    ]
}

/// Key under which a pager folds the events of one incident into one alert; at most 255 characters.
#[must_use]
pub fn dedup_key(event: &Event) -> String {
    format!("foreshock-{}-{}", kind_name(event.kind), event.incident_id)
}

const fn kind_name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Precursor => "precursor",
        EventKind::Failure => "failure",
    }
}

/// Reads an event back. Numbers that were written as `null` are NaN.
///
/// # Errors
/// Where it is not an event of this major version of the schema.
pub fn decode(payload: &[u8]) -> Result<Event, DecodeError> {
    if payload.len() > PAYLOAD_BYTES_MAX {
        let bytes = payload.len();
        return Err(DecodeError::new(&format!(
            "record of {bytes} bytes, expected at most {PAYLOAD_BYTES_MAX}"
        )));
    }
    let shape: Shape = serde_json::from_slice(payload).map_err(|e| DecodeError::json(&e, (1, 1)))?;
    shape.event()
}

/// The value as it lies in the topic; the order here is the order there.
#[derive(Serialize, Deserialize)]
struct Shape {
    schema_version: String,
    kind: EventKind,
    event: EventAction,
    incident_id: Hex,
    event_id: Hex,
    dedup_key: String,
    seq: u32,
    entity: Entity,
    group_key: Entity,
    started_at: Rfc3339,
    observed_at: Rfc3339,
    ended_at: Option<Rfc3339>,
    severity: Severity,
    score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    grade: Option<Grade>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resolution: Option<Resolution>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lead_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prediction: Option<PredictionShape>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exhaustion: Option<Exhaustion>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    burn: Option<SlowBurn>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<KindRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preceded_by: Option<Vec<PrecededShape>>,
    contributors: Vec<ContributorShape>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<SourceShape>,
    why: String,
    detector: DetectorShape,
}

/// Numbers that are not finite can't be in a model that was checked; they are written as 0.
#[derive(Serialize, Deserialize)]
struct PredictionShape {
    probability: f64,
    horizon_s: f64,
    grounds: Vec<GroundShape>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<TrackRecord>,
}

#[derive(Serialize, Deserialize)]
struct GroundShape {
    name: Box<str>,
    value: Option<f64>,
    lower: Option<f64>,
    upper: Option<f64>,
    odds: f64,
}

#[derive(Serialize, Deserialize)]
struct PrecededShape {
    incident_id: Hex,
    warned_at: Rfc3339,
    lead_s: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct ContributorShape {
    source: Source,
    series_id: Box<str>,
    name: Box<str>,
    channel: Channel,
    direction: Direction,
    score: f64,
    actual: Option<f64>,
    expected: Option<f64>,
    lower: Option<f64>,
    upper: Option<f64>,
    onset: Rfc3339,
    /// Whether no other contributor began earlier: where to look first.
    lead: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<LogShape>,
    /// Of a broken relation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct LogShape {
    template_id: Box<str>,
    template: Box<str>,
    count: u32,
    #[serde(default)]
    seen: u64,
    #[serde(default)]
    first_seen: Option<Rfc3339>,
    #[serde(default)]
    level: Option<Level>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    example: Option<Box<str>>,
}

#[derive(Serialize, Deserialize)]
struct SourceShape {
    topic: Box<str>,
    partition: i32,
    offset_first: i64,
    offset_last: i64,
}

#[derive(Serialize, Deserialize)]
struct DetectorShape {
    id: String,
    model: String,
    model_version: String,
}

impl Shape {
    fn of(event: &Event, detector: Detector<'_>) -> Self {
        let precursor = event.precursor.as_ref();
        let failure = event.failure.as_ref();
        // "Began first": the earliest onset; of equal ones, the strongest, which stands first.
        let lead = (0..event.contributors.len()).min_by_key(|i| event.contributors[*i].onset);
        Self {
            schema_version: SCHEMA_VERSION.to_owned(),
            kind: event.kind,
            event: event.action,
            incident_id: Hex(event.incident_id.0),
            event_id: Hex(event.event_id.0),
            dedup_key: dedup_key(event),
            seq: event.seq,
            entity: event.entity.clone(),
            group_key: event.entity.clone(),
            started_at: Rfc3339(event.started_at),
            observed_at: Rfc3339(event.observed_at),
            ended_at: event.ended_at.map(Rfc3339),
            severity: event.severity,
            score: event.score.surprise(),
            grade: precursor.map(|p| p.grade),
            threshold: precursor.map(|p| p.threshold.surprise()),
            resolution: precursor.and_then(|p| p.resolution),
            lead_s: precursor.and_then(|p| p.lead_s).filter(|s| s.is_finite()),
            prediction: precursor.and_then(|p| p.prediction.as_ref()).map(PredictionShape::of),
            exhaustion: precursor
                .and_then(|p| p.exhaustion.as_ref())
                .filter(|e| are_finite(&[e.value, e.limit, e.in_s]))
                .cloned(),
            burn: precursor
                .and_then(|p| p.burn.as_ref())
                .filter(|b| are_finite(&[b.rate, b.limit, b.window_s]))
                .cloned(),
            record: precursor
                .and_then(|p| p.record.as_ref())
                .filter(|r| are_finite(&[r.lift, r.lead_s.unwrap_or(0.0)]))
                .cloned(),
            class: failure.map(|f| f.class.clone()),
            rule: failure.map(|f| f.rule.clone()),
            evidence: failure.map(|f| prefix(&f.evidence, SUMMARY_BYTES_MAX).into()),
            preceded_by: failure.map(|f| f.preceded_by.iter().map(PrecededShape::of).collect()),
            contributors: (0..)
                .zip(&event.contributors)
                .map(|(i, c)| ContributorShape::of(c, lead == Some(i)))
                .collect(),
            source: event.position.as_ref().map(SourceShape::of),
            why: prefix(&event.why, SUMMARY_BYTES_MAX).to_owned(),
            detector: DetectorShape {
                id: "foreshock".to_owned(),
                model: detector.model.to_owned(),
                model_version: detector.model_version.to_owned(),
            },
        }
    }

    fn event(self) -> Result<Event, DecodeError> {
        if self.schema_version.split('.').next() != SCHEMA_VERSION.split('.').next() {
            let found = prefix(&self.schema_version, 16);
            return Err(DecodeError::new(&format!(
                "schema version {found}, expected {SCHEMA_VERSION}"
            )));
        }
        let precursor = match (self.kind, self.grade, self.threshold) {
            (EventKind::Failure, ..) => None,
            (EventKind::Precursor, Some(grade), Some(threshold)) => Some(PrecursorDetail {
                grade,
                threshold: Score::from_surprise(threshold),
                resolution: self.resolution,
                lead_s: self.lead_s,
                prediction: self.prediction.map(PredictionShape::domain),
                exhaustion: self.exhaustion,
                burn: self.burn,
                record: self.record,
            }),
            (EventKind::Precursor, ..) => return Err(DecodeError::new("a precursor, expected grade and threshold")),
        };
        let failure = match (self.kind, self.class, self.rule, self.evidence, self.preceded_by) {
            (EventKind::Precursor, ..) => None,
            (EventKind::Failure, Some(class), Some(rule), Some(evidence), Some(preceded_by)) => Some(FailureDetail {
                class,
                rule,
                evidence,
                preceded_by: preceded_by.into_iter().map(PrecededShape::domain).collect(),
            }),
            (EventKind::Failure, ..) => {
                return Err(DecodeError::new(
                    "a failure, expected class, rule, evidence and preceded_by",
                ));
            }
        };
        Ok(Event {
            kind: self.kind,
            action: self.event,
            incident_id: IncidentId(self.incident_id.0),
            event_id: EventId(self.event_id.0),
            seq: self.seq,
            entity: self.entity,
            started_at: self.started_at.0,
            observed_at: self.observed_at.0,
            ended_at: self.ended_at.map(|at| at.0),
            severity: self.severity,
            score: Score::from_surprise(self.score),
            contributors: self.contributors.into_iter().map(ContributorShape::domain).collect(),
            position: self.source.map(SourceShape::domain),
            why: self.why,
            precursor,
            failure,
        })
    }
}

/// JSON has no form for what is not.
fn are_finite(numbers: &[f64]) -> bool {
    numbers.iter().all(|x| x.is_finite())
}

impl PredictionShape {
    fn of(p: &Prediction) -> Self {
        let number = |x: f64| finite(x).unwrap_or(0.0);
        let ground = |g: &PredictionGround| GroundShape {
            name: g.name.clone(),
            value: finite(g.value),
            lower: finite(g.lower),
            upper: finite(g.upper),
            odds: number(g.odds),
        };
        Self {
            probability: number(p.probability),
            horizon_s: number(p.horizon_s),
            grounds: p.grounds.iter().map(ground).collect(),
            record: p.record.map(|r| TrackRecord {
                lead_s: number(r.lead_s),
                ..r
            }),
        }
    }

    fn domain(self) -> Prediction {
        let ground = |g: GroundShape| PredictionGround {
            name: g.name,
            value: g.value.unwrap_or(f64::NAN),
            lower: g.lower.unwrap_or(f64::NAN),
            upper: g.upper.unwrap_or(f64::NAN),
            odds: g.odds,
        };
        Prediction {
            probability: self.probability,
            horizon_s: self.horizon_s,
            grounds: self.grounds.into_iter().map(ground).collect(),
            record: self.record,
        }
    }
}

impl PrecededShape {
    fn of(p: &PrecededBy) -> Self {
        Self {
            incident_id: Hex(p.incident_id.0),
            warned_at: Rfc3339(p.warned_at),
            lead_s: finite(p.lead_s),
        }
    }

    fn domain(self) -> PrecededBy {
        PrecededBy {
            incident_id: IncidentId(self.incident_id.0),
            warned_at: self.warned_at.0,
            lead_s: self.lead_s.unwrap_or(f64::NAN),
        }
    }
}

impl ContributorShape {
    fn of(c: &Contributor, lead: bool) -> Self {
        Self {
            source: c.source,
            series_id: c.id.clone(),
            name: c.name.clone(),
            channel: c.channel,
            direction: c.direction,
            score: c.score.surprise(),
            actual: finite(c.actual),
            expected: finite(c.expected),
            lower: finite(c.lower),
            upper: finite(c.upper),
            onset: Rfc3339(c.onset),
            lead,
            log: c.log.as_ref().map(LogShape::of),
            share: c.share,
        }
    }

    fn domain(self) -> Contributor {
        Contributor {
            source: self.source,
            id: self.series_id,
            name: self.name,
            channel: self.channel,
            direction: self.direction,
            score: Score::from_surprise(self.score),
            actual: self.actual.unwrap_or(f64::NAN),
            expected: self.expected.unwrap_or(f64::NAN),
            lower: self.lower.unwrap_or(f64::NAN),
            upper: self.upper.unwrap_or(f64::NAN),
            onset: self.onset.0,
            log: self.log.map(LogShape::domain),
            share: self.share,
        }
    }
}

impl LogShape {
    fn of(l: &LogEvidence) -> Self {
        Self {
            template_id: l.template_id.clone(),
            template: l.template.clone(),
            count: l.count,
            seen: l.seen,
            first_seen: l.first_seen.map(Rfc3339),
            level: l.level,
            example: l.example.clone(),
        }
    }

    fn domain(self) -> LogEvidence {
        LogEvidence {
            template_id: self.template_id,
            template: self.template,
            count: self.count,
            seen: self.seen,
            first_seen: self.first_seen.map(|at| at.0),
            level: self.level,
            example: self.example,
        }
    }
}

impl SourceShape {
    fn of(p: &SourcePosition) -> Self {
        Self {
            topic: p.upstream.topic.clone(),
            partition: p.upstream.partition,
            offset_first: p.offset_first,
            offset_last: p.offset_last,
        }
    }

    fn domain(self) -> SourcePosition {
        SourcePosition {
            upstream: Upstream {
                topic: self.topic,
                partition: self.partition,
            },
            offset_first: self.offset_first,
            offset_last: self.offset_last,
        }
    }
}

fn finite(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}

/// 128 bits as 32 hex digits.
pub(crate) struct Hex(pub(crate) u128);

impl Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format_args!("{:032x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let id = if digits {
            u128::from_str_radix(&text, 16).ok()
        } else {
            None
        };
        id.map(Self)
            .ok_or_else(|| serde::de::Error::custom("invalid id, expected 32 hex digits"))
    }
}

/// A time as RFC 3339.
#[derive(Clone, Copy)]
pub(crate) struct Rfc3339(pub(crate) Timestamp);

impl Serialize for Rfc3339 {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&time::format_rfc3339(self.0))
    }
}

impl<'de> Deserialize<'de> for Rfc3339 {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        time::parse_rfc3339(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("invalid time, expected RFC 3339 from 1970 to 9999"))
    }
}
