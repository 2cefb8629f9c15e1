//! The one sentence an event says to a person.

use std::fmt::Write;

use foreshock_domain::{
    Channel, Contributor, Direction, Exhaustion, Grade, KindRecord, Level, LogEvidence, Millis, Prediction, SlowBurn,
    Timestamp,
};
use foreshock_wire::time::format_rfc3339;

use super::incident::Incident;

/// Longest sentence, in bytes.
const LENGTH_MAX: usize = 1_000;

/// Four significant digits, without an exponent where that is readable.
fn number(x: f64) -> String {
    if !x.is_finite() {
        return "unknown".into();
    }
    if x == 0.0 {
        return "0".into();
    }
    let magnitude = x.abs().log10().floor();
    if !(-4.0..15.0).contains(&magnitude) {
        return format!("{x:.3e}");
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 0 and 7
    let digits = (3.0 - magnitude).clamp(0.0, 7.0) as usize;
    let text = format!("{x:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').into()
    } else {
        text
    }
}

/// What is odd about a session, by the direction that its model gave it.
fn session(c: &Contributor, template: &str, alike: u32) -> String {
    let who = if alike == 1 {
        "a session".to_owned()
    } else {
        format!("{alike} sessions")
    };
    let s = if alike == 1 { "s" } else { "" };
    let usual = if c.lower < c.upper {
        format!("{} to {}", number(c.lower), number(c.upper))
    } else {
        number(c.upper)
    };
    match c.direction {
        Direction::Absence => format!("{who} lack{s} a line that nearly all have: \"{template}\""),
        Direction::Up | Direction::Down => format!(
            "{who} with {} lines where {usual} {} usual: \"{template}\"",
            number(c.actual),
            if c.lower < c.upper || c.upper != 1.0 {
                "are"
            } else {
                "is"
            },
        ),
        Direction::Both if c.actual == 0.0 => {
            format!("{who} lack{s} a line that comes with the others: \"{template}\"")
        }
        Direction::Both => format!(
            "{who} with {} lines that do not go with the others: \"{template}\"",
            number(c.actual)
        ),
        Direction::Pattern => format!("{who} with a line that hardly any has: \"{template}\""),
    }
}

/// How grave a kind of line is and how often it came before: ` (ERROR; first seen 3 min ago, 0 times before)`.
fn past(log: &LogEvidence, now: Timestamp) -> String {
    let level = log.level.map(|level| match level {
        Level::Trace => "TRACE",
        Level::Debug => "DEBUG",
        Level::Info => "INFO",
        Level::Warning => "WARNING",
        Level::Error => "ERROR",
        Level::Fatal => "FATAL",
    });
    let first = log.first_seen.map(|first| {
        let times = if log.seen == 1 {
            "once"
        } else {
            &format!("{} times", log.seen)
        };
        format!("first seen {} ago, {times} before", span(now - first))
    });
    match (level, first) {
        (None, None) => String::new(),
        (Some(one), None) => format!(" ({one})"),
        (None, Some(one)) => format!(" ({one})"),
        (Some(level), Some(first)) => format!(" ({level}; {first})"),
    }
}

/// A length of time in its largest unit of which there are two.
fn span(ms: Millis) -> String {
    let seconds = ms.max(0) / 1_000;
    let units = [(86_400, "d"), (3_600, "h"), (60, "min")];
    let unit = units.iter().find(|(length, _)| seconds >= 2 * length);
    unit.map_or_else(
        || format!("{seconds} s"),
        |(length, name)| format!("{} {name}", seconds / length),
    )
}

fn phrase(c: &Contributor, now: Timestamp) -> String {
    if let Some(log) = &c.log {
        let past = past(log, now);
        let lines = if log.count == 1 {
            "1 line".to_owned()
        } else {
            format!("{} lines", log.count)
        };
        return match c.channel {
            Channel::NewTemplate => format!(
                "a kind of log line never seen before, {lines}: \"{}\"{past}",
                log.template
            ),
            Channel::Session => session(c, &log.template, log.count) + &past,
            Channel::TemplateSilence => format!("a regular log line stopped coming: \"{}\"{past}", log.template),
            Channel::TemplateRate => format!(
                "{lines} in a window where about {} are usual: \"{}\"{past}",
                number(c.expected),
                log.template
            ),
            Channel::Novelty if c.direction == Direction::Pattern => format!(
                "a value never seen before, {lines}: {} in \"{}\"{past}",
                c.name, log.template
            ),
            _ => format!("{} in \"{}\" {}{past}", c.name, log.template, figure(c)),
        };
    }
    if c.channel == Channel::Missing {
        return format!("{}: no value for {} intervals", c.name, number(c.actual));
    }
    if c.channel == Channel::Correlation {
        let share = c
            .share
            .map_or(String::new(), |s| format!(" ({:.0} % of the deviation)", 100.0 * s));
        return format!(
            "{} no longer moves with the entity's other series{share}: {} where they make {} to {} of it",
            c.name,
            number(c.actual),
            number(c.lower),
            number(c.upper)
        );
    }
    format!("{} {}", c.name, figure(c))
}

/// `is too high: 812 where 10 to 20 is usual`.
fn figure(c: &Contributor) -> String {
    let what = match (c.channel, c.direction) {
        (Channel::Spread, Direction::Down) => "stands unusually still",
        (Channel::Spread, _) => "is unusually noisy",
        (Channel::Trend, Direction::Down) => "keeps falling",
        (Channel::Trend, _) => "keeps rising",
        (Channel::Shape, _) => "does not move as it usually does",
        (Channel::Novelty, _) => "is where it has never been",
        (Channel::Seasonal, _) => "is unusual for the time of day",
        (_, Direction::Down) => "is too low",
        (_, Direction::Up) => "is too high",
        _ => "is unusual",
    };
    // What rounding left of a range that is a point at zero is not worth a reader's time.
    let around_zero = |x: f64| if x.abs() < c.actual.abs() * 1e-6 { 0.0 } else { x };
    format!(
        "{what}: {} where {} to {} is usual",
        number(c.actual),
        number(around_zero(c.lower)),
        number(around_zero(c.upper))
    )
}

/// What is odd and since when; `now` is the time of the event.
/// `83 % likely to fail within 5 min (so were 14 of 15 such warnings, 2 min before at the median): open_fds at 84 (usually 20 to 31)`.
#[allow(clippy::cast_possible_truncation)] // seconds of a horizon
fn prediction(p: &Prediction) -> String {
    let ms = |s: f64| (s * 1e3) as Millis;
    let mut text = format!(
        "{:.0} % likely to fail within {}",
        p.probability * 100.0,
        span(ms(p.horizon_s))
    );
    if let Some(r) = p.record.filter(|r| r.of > 0) {
        let lead = span(ms(r.lead_s));
        let _ = write!(
            text,
            " ({} of {} such warnings came true, {lead} before at the median)",
            r.right, r.of
        );
    }
    for (i, g) in p.grounds.iter().enumerate() {
        let (value, lower, upper) = (number(g.value), number(g.lower), number(g.upper));
        let _ = write!(
            text,
            "{} {} at {value} (usually {lower} to {upper})",
            if i == 0 { ":" } else { "," },
            g.name
        );
    }
    text
}

/// `disk_used_percent{path=/} at 91 and on its way to 100: runs out in 24 min`.
#[allow(clippy::cast_possible_truncation)] // seconds of a horizon
fn exhaustion(e: &Exhaustion) -> String {
    let (value, limit, left) = (number(e.value), number(e.limit), span((e.in_s * 1e3) as Millis));
    format!("{} at {value} and on its way to {limit}: runs out in {left}", e.name)
}

/// `error budget of checkout burns 3.4 times too fast over 1 d`.
#[allow(clippy::cast_possible_truncation)] // seconds of a window
fn burn(b: &SlowBurn) -> String {
    let (rate, window) = (number(b.rate), span((b.window_s * 1e3) as Millis));
    format!("error budget of {} burns {rate} times too fast over {window}", b.rule)
}

/// `; a failure followed 4 of 5 with "open_fds" before, 3 min later at the median`.
#[allow(clippy::cast_possible_truncation)] // seconds of a lead
fn record(r: &KindRecord) -> String {
    let name = &r.name;
    match (r.right, r.of) {
        (0, 1) => format!("; no failure followed the one with \"{name}\" before"),
        (0, of) => format!("; no failure followed the {of} with \"{name}\" before"),
        (right, of) => {
            let lead = r.lead_s.map_or(0.0, |s| s * 1e3) as Millis;
            format!(
                "; a failure followed {right} of {of} with \"{name}\" before, {} later at the median",
                span(lead)
            )
        }
    }
}

pub(crate) fn precursor(incident: &Incident, now: Timestamp) -> String {
    let contributors = &incident.contributors;
    let warned = incident
        .prediction
        .as_ref()
        .filter(|_| incident.grade == Grade::Warning);
    let mut text = warned.map(prediction).unwrap_or_default();
    if let Some(e) = &incident.exhaustion {
        text.push_str(if text.is_empty() { "" } else { "; " });
        text.push_str(&exhaustion(e));
    }
    if let Some(b) = &incident.burn {
        text.push_str(if text.is_empty() { "" } else { "; " });
        text.push_str(&burn(b));
    }
    if !text.is_empty() && !contributors.is_empty() {
        text.push_str("; ");
    }
    if let Some(first) = contributors.first() {
        let _ = write!(text, "{}, since {}", phrase(first, now), format_rfc3339(first.onset));
    }
    match contributors.len() {
        0 | 1 => {}
        2 => text.push_str("; and 1 more signal"),
        n => {
            let _ = write!(text, "; and {} more signals", n - 1);
        }
    }
    if let Some(of) = &incident.record {
        text.push_str(&record(of));
    }
    crate::detect::shorten(&text, LENGTH_MAX).into()
}

/// What a failure rule saw, and what was odd meanwhile.
pub(crate) fn failure(evidence: &str, contributors: &[Contributor], now: Timestamp) -> String {
    let mut text = evidence.to_owned();
    if let Some(first) = contributors.first() {
        let _ = write!(text, "; meanwhile {}", phrase(first, now));
    }
    crate::detect::shorten(&text, LENGTH_MAX).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let table = [
            (0.0, "0"),
            (1.0, "1"),
            (0.123_456, "0.1235"),
            (1234.567, "1235"),
            (98_765_432.1, "98765432"),
            (-2.5, "-2.5"),
            (1e-9, "1.000e-9"),
            (1e300, "1.000e300"),
            (f64::NAN, "unknown"),
        ];
        for (x, want) in table {
            assert_eq!(number(x), want, "{x}");
        }
    }

    #[test]
    fn the_past_of_a_line_is_told_in_words() {
        let now = Timestamp::from_secs(1_000_000);
        let said = |level, seen, seconds_ago: Option<i64>| {
            let log = LogEvidence {
                template_id: "1".into(),
                template: "disk full".into(),
                count: 1,
                seen,
                first_seen: seconds_ago.map(|s| Timestamp::from_secs(1_000_000 - s)),
                level,
                example: None,
            };
            past(&log, now)
        };
        for (told, want) in [
            (said(None, 0, None), ""),
            (said(Some(Level::Fatal), 0, None), " (FATAL)"),
            (said(None, 1, Some(3_700)), " (first seen 61 min ago, once before)"),
            (
                said(Some(Level::Error), 0, Some(180)),
                " (ERROR; first seen 3 min ago, 0 times before)",
            ),
            (
                said(Some(Level::Warning), 12_345, Some(9 * 86_400)),
                " (WARNING; first seen 9 d ago, 12345 times before)",
            ),
            (said(None, 2, Some(-5)), " (first seen 0 s ago, 2 times before)"),
        ] {
            assert_eq!(told, want);
        }
    }

    #[test]
    fn what_became_of_its_kind_is_told_in_words() {
        let said = |right, of, lead_s| {
            record(&KindRecord {
                name: "open_fds".into(),
                right,
                of,
                lead_s,
                lift: 3.0,
            })
        };
        for (told, want) in [
            (
                said(4, 5, Some(190.0)),
                "a failure followed 4 of 5 with \"open_fds\" before, 3 min later at the median",
            ),
            (said(0, 1, None), "no failure followed the one with \"open_fds\" before"),
            (said(0, 12, None), "no failure followed the 12 with \"open_fds\" before"),
        ] {
            assert_eq!(told, format!("; {want}"));
        }
    }

    #[test]
    fn values_inside_lines_are_told_in_words() {
        use foreshock_domain::{Score, Source};
        let now = Timestamp::from_secs(1_000);
        let said = |name: &str, channel, direction, actual| {
            let log = LogEvidence {
                template_id: "1".into(),
                template: "request <*> took <*>".into(),
                count: 3,
                seen: 0,
                first_seen: None,
                level: Some(Level::Info),
                example: None,
            };
            let c = Contributor {
                source: Source::Log,
                id: "2".into(),
                name: name.into(),
                channel,
                direction,
                score: Score::from_surprise(3.0),
                actual,
                expected: 15.0,
                lower: 10.0,
                upper: 20.0,
                onset: now,
                log: Some(log),
                share: None,
            };
            phrase(&c, now)
        };
        for (told, want) in [
            (
                said("took (ms)", Channel::Level, Direction::Up, 84.25),
                "took (ms) in \"request <*> took <*>\" is too high: 84.25 where 10 to 20 is usual (INFO)",
            ),
            (
                said("status=<?>", Channel::Novelty, Direction::Pattern, 3.0),
                "a value never seen before, 3 lines: status=<?> in \"request <*> took <*>\" (INFO)",
            ),
            (
                said("took (ms)", Channel::Novelty, Direction::Up, 99.0),
                "took (ms) in \"request <*> took <*>\" is where it has never been: 99 where 10 to 20 is usual (INFO)",
            ),
        ] {
            assert_eq!(told, want);
        }
    }

    #[test]
    fn sessions_are_told_in_words() {
        use foreshock_domain::{Score, Source, Timestamp};
        let said = |direction, actual, lower, upper, alike| {
            let c = Contributor {
                source: Source::Log,
                id: "1".into(),
                name: "committed <*>".into(),
                channel: Channel::Session,
                direction,
                score: Score::from_surprise(3.0),
                actual,
                expected: 1.0,
                lower,
                upper,
                onset: Timestamp::from_secs(0),
                log: None,
                share: None,
            };
            session(&c, "committed <*>", alike)
        };
        for (told, want) in [
            (
                said(Direction::Absence, 0.0, 1.0, 1.0, 2),
                "2 sessions lack a line that nearly all have",
            ),
            (
                said(Direction::Up, 60.0, 1.0, 4.0, 1),
                "a session with 60 lines where 1 to 4 are usual",
            ),
            (
                said(Direction::Up, 12.0, 1.0, 1.0, 1),
                "a session with 12 lines where 1 is usual",
            ),
            (
                said(Direction::Pattern, 1.0, 0.0, 0.0, 1),
                "a session with a line that hardly any has",
            ),
            (
                said(Direction::Both, 0.0, 0.0, 1.0, 1),
                "a session lacks a line that comes with the others",
            ),
        ] {
            assert_eq!(told, format!("{want}: \"committed <*>\""));
        }
    }
}
