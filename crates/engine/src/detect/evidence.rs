//! Signals of log lines, with what a person needs to judge them: the template, how often it came before, since when, how grave.

use foreshock_domain::{Channel, LogEvidence, Signal, Source, Timestamp, Verdict};
use foreshock_logs::{Miner, SessionVerdict, TemplateId, TemplatePast, TemplateVerdict, Unit};
use xxhash_rust::xxh3::xxh3_64;

use super::window::{EXAMPLE_BYTES_MAX, EntityTally, shorten};

/// What is known of a template of which there are `count` lines in this tally, or none. An example is there only where the
/// source lets raw text leave, since only then the tally has any.
pub(super) fn evidence(
    miner: &Miner,
    id: TemplateId,
    count: u32,
    past: TemplatePast,
    tally: Option<&EntityTally>,
) -> LogEvidence {
    let of_template = |(tallied, _): &(&u64, _)| miner.canonical(TemplateId(**tallied)) == id;
    let tallied = tally.and_then(|t| {
        let with_example = t.templates.iter().filter(|(_, t)| t.example.is_some());
        with_example.filter(of_template).min_by_key(|(_, t)| t.first_at)
    });
    let template = miner.template(id).unwrap_or_default();
    LogEvidence {
        template_id: id.to_string().into(),
        template: shorten(&template, EXAMPLE_BYTES_MAX).into(),
        count,
        seen: past.seen,
        first_seen: past.first_at,
        level: past.level,
        example: tallied.and_then(|(_, t)| t.example.clone()),
    }
}

/// The signal of a template that is new, too frequent, too rare or away.
pub(super) fn template_signal(v: &TemplateVerdict, log: LogEvidence, start: Timestamp) -> Signal {
    Signal {
        source: Source::Log,
        id: log.template_id.clone(),
        name: log.template.clone(),
        unit: None,
        verdict: v.verdict,
        onset: v.onset.min(start),
        log: Some(log),
        share: None,
    }
}

/// The signal of a number inside lines, or of a new value; `id` is its place's.
pub(super) fn value_signal(
    id: u64,
    name: Box<str>,
    unit: Option<Unit>,
    verdict: Verdict,
    log: LogEvidence,
    onset: Timestamp,
) -> Signal {
    let unit = unit.map(Unit::symbol).filter(|symbol| !symbol.is_empty());
    Signal {
        source: Source::Log,
        id: format!("{id:016x}").into(),
        name,
        unit: unit.map(Into::into),
        verdict,
        onset,
        log: Some(log),
        share: None,
    }
}

/// The signal of a session, or of as many sessions odd in the same way as the evidence counts.
pub(super) fn session_signal(v: &SessionVerdict, log: LogEvidence, onset: Timestamp) -> Signal {
    debug_assert!(v.verdict.channel == Channel::Session);
    let id = xxh3_64(format!("session {} {}", v.oddity.word(), v.id).as_bytes());
    Signal {
        source: Source::Log,
        id: format!("{id:016x}").into(),
        name: log.template.clone(),
        unit: None,
        verdict: v.verdict,
        onset,
        log: Some(log),
        share: None,
    }
}
