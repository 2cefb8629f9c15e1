//! The report as one page: no script, no font and no picture from elsewhere, so that it can be sent and kept.

use foreshock_domain::{Millis, Timestamp};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::Backtested;
use super::chart::{Timeline, curve, histogram, reliability, span, timeline};
use super::evaluate::{ClassRow, FailureRow, Figures, Outcome, Share};
use crate::train::judge::RowFigures;

/// Failures drawn; further ones are in the table.
const DRAWN_MAX: usize = 120;
/// False alarms listed.
const FALSE_MAX: usize = 30;
const STYLE: &str = include_str!("report.css");

/// The whole page.
pub(super) fn page(of: &Backtested) -> Markup {
    let f = &of.figures;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Foreshock backtest" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "Backtest" }
                    p { (day(&f.scored.0)) " to " (day(&f.scored.1)) " UTC, " (f.entities) " entities, "
                        "a warning counts from " (span(f.lead_s_min)) " to " (span(f.horizon_s)) " before the failure" }
                }
                main {
                    (headline(of))
                    (failures_drawn(of))
                    (distributions(f))
                    @if let Some(c) = &of.calibration { (calibration(c)) }
                    (classes(f))
                    (signals(f))
                    (missed(of))
                    (false_alarms(of))
                    (method(f))
                }
            }
        }
    }
}

fn headline(of: &Backtested) -> Markup {
    let f = &of.figures;
    let told = if of.unusual.is_some() { "warnings" } else { "precursors" };
    let fits = f.false_per_day <= f.budget_per_day;
    let outcome = |name: &str| f.outcomes.get(name).copied().unwrap_or(0);
    html! {
        section.tiles {
            (tile("failures foretold", &percent(f.recall), &format!("{} of {}, {}; by chance {:.0} %", f.recall.hits, f.recall.of, interval(f.recall), f.chance_recall * 100.0), ""))
            (tile(&format!("precision of {told}"), &percent(f.precision), &format!("{} of {}, {}", f.precision.hits, f.precision.of, interval(f.precision)), ""))
            (tile("false alarms a day", &number(f.false_per_day), &format!("in the whole deployment, {} asked for; {} a day and entity", number(f.budget_per_day), number(f.false_per_entity_day)), if fits { "good" } else { "bad" }))
            @match f.lead_s {
                Some((low, median, high)) => (tile("lead time", &span(median), &format!("median; 80 % between {} and {}", span(low), span(high)), "")),
                None => (tile("lead time", "none", "nothing was foretold", "")),
            }
        }
        @if let Some(u) = &of.unusual {
            p.note { "These are the warnings of the model. All precursors, the merely unusual among them, foretold " (percent(u.recall)) " (" (u.recall.hits) " of "
                (u.recall.of) ", by chance " (format!("{:.0} %", u.chance_recall * 100.0)) ") with precision " (percent(u.precision)) " and "
                (number(u.false_per_day)) " false alarms a day." }
        }
        @if of.unusual.is_none() && of.watched.precision.of > 0 {
            @let w = &of.watched;
            p.note { "Those of grade watch and above, because something runs out or because failures followed their kind before, foretold "
                (percent(w.recall)) " (" (w.recall.hits) " of " (w.recall.of) ", by chance " (format!("{:.0} %", w.chance_recall * 100.0))
                ") with precision " (percent(w.precision)) " and " (number(w.false_per_day)) " false alarms a day." }
        }
        p.note { (outcome("late")) " " (told) " came too late, " (outcome("symptom")) " opened inside a failure, of " (outcome("unknown"))
            " the data ends before anybody knows. They count neither way." }
        @if f.left_out.merged + f.left_out.before + f.left_out.after + f.left_out.unknown_count > 0 {
            p.note { "Labels left out: " (f.left_out.before) " from before the scored part, " (f.left_out.after) " from after the data, "
                (f.left_out.unknown_count) " of entities without data"
                @if !f.left_out.unknown.is_empty() { " (" (f.left_out.unknown.join(", ")) ")" }
                "; " (f.left_out.merged) " rows were part of another failure." }
        }
    }
}

fn tile(name: &str, value: &str, more: &str, class: &str) -> Markup {
    html! { div.tile { h2 { (name) } div class=(format!("value {class}")) { (value) } p { (more) } } }
}

fn failures_drawn(of: &Backtested) -> Markup {
    html! {
        section {
            h2 { "The time before each failure" }
            p.note { "The line is the surprise of the entity's windows (−log10 p, the harmonic mean of its signals). "
                @if of.calibration.is_some() { span.key-likely { "Green" } " is the probability of a failure that the model gave. " }
                span.key-warned { "amber" } " a precursor is open, " span.key-fell { "red" } " it has failed." }
            div.timelines {
                @for row in of.figures.failures.iter().take(DRAWN_MAX) { (failure_drawn(of, row)) }
            }
            @if of.figures.failures.len() > DRAWN_MAX {
                p.note { (of.figures.failures.len() - DRAWN_MAX) " more are in the JSON." }
            }
        }
    }
}

fn failure_drawn(of: &Backtested, row: &FailureRow) -> Markup {
    let label = &of.labels[row.label];
    let before = &of.collected.before[row.label];
    let inside = |at: Timestamp| -> Millis { at - label.onset };
    let near = of.collected.episodes.iter().filter(|e| e.entity == label.entity);
    let spans: Vec<(Millis, Millis)> = near
        .filter_map(|e| {
            let opened = inside(e.alerts.first()?.at);
            let ended = e.ended.map_or(0, inside).min(0);
            (ended >= -of.horizon_ms && opened < 0).then_some((opened, ended))
        })
        .collect();
    let title = format!("{}, {}", row.entity, row.class);
    let verdict = match row.lead_s {
        Some(lead) => html! { span.good { (span(lead)) " before" } },
        None if row.late => html! { span.doubtful { "warned too late" } },
        None => html! { span.bad { "missed" } },
    };
    html! {
        figure {
            figcaption { strong { (row.entity) } " " (row.class) " · " (day(&row.onset)) " · " (verdict) }
            (timeline(&Timeline {
                points: &before.points,
                probabilities: &before.probabilities,
                episodes: &spans,
                horizon_ms: of.horizon_ms,
                end_ms: label.end.map(inside),
                title: &title,
            }))
            @if let Some(why) = &row.why { p.why { (shortened(why)) } }
        }
    }
}

fn distributions(f: &Figures) -> Markup {
    let points: Vec<(f64, f64, String)> = f
        .curve
        .iter()
        .map(|p| {
            let text = format!(
                "{} from {:.2}: {:.0} % foretold, precision {:.0} %, {} false a day",
                f.ranked_by,
                p.threshold,
                p.recall * 100.0,
                p.precision * 100.0,
                number(p.false_per_day)
            );
            (p.recall, p.precision, text)
        })
        .collect();
    html! {
        section.pair {
            figure {
                figcaption { strong { "Lead times" } " from the first warning to the failure" }
                @if f.leads_s.is_empty() { p.note { "Nothing was foretold." } }
                @else { (histogram("Lead times", &f.leads_s, f.horizon_s)) }
            }
            figure {
                figcaption { strong { "Precision against recall" } " at the minimum lead, by the " (f.ranked_by) " from which alerts count" }
                @if points.is_empty() { p.note { "No precursor was told." } }
                @else { (curve("Precision against recall", &points)) p.axes { "across: failures foretold; up: precursors that a failure followed" } }
            }
        }
    }
}

/// Whether what the model said came true as often as it said.
fn calibration(of: &RowFigures) -> Markup {
    html! {
        section.pair {
            figure {
                figcaption { strong { "Reliability" } " of the predicted probabilities" }
                (reliability("Reliability", &of.reliability))
                p.axes { "across: probability said; up: share of windows that a failure followed" }
            }
            figure {
                figcaption { strong { "Predictions" } " window by window" }
                table { tbody {
                    tr { td { "windows judged" } td.n { (format!("{:.0}", of.rows)) } }
                    tr { td { "average precision" } td.n { (format!("{:.3}, by chance {:.3}", of.average_precision, of.base_rate)) } }
                    tr { td { "Brier score" } td.n { (format!("{:.4}, always the base rate {:.4}", of.brier, of.brier_of_base_rate)) } }
                    tr { td { "reliability error" } td.n { (format!("{:.3}", of.reliability_error)) } }
                } }
            }
        }
    }
}

fn classes(f: &Figures) -> Markup {
    let row = |c: &ClassRow| {
        html! {
            tr {
                td { (c.class) @if c.apart { " " span.note { "(can't be foretold, in no total)" } } }
                td.n { (c.recall.hits) " of " (c.recall.of) }
                td.n { (percent(c.recall)) } td.n { (interval(c.recall)) }
                td.n { @match c.lead_s_median { Some(s) => (span(s)), None => "–" } }
                td.n { (c.seen.hits) " of " (c.seen.of) }
            }
        }
    };
    html! {
        section {
            h2 { "By class of failure" }
            table {
                thead { tr { th { "class" } th.n { "foretold" } th.n { "" } th.n { "95 %" } th.n { "median lead" } th.n { "seen by own rules" } } }
                tbody { @for c in &f.classes { (row(c)) } }
            }
        }
    }
}

fn signals(f: &Figures) -> Markup {
    html! {
        section {
            h2 { "Signals and what followed them" }
            table {
                thead { tr { th { "signal" } th { "what is odd" } th.n { "a failure followed" } th.n { "nothing did" } } }
                tbody { @for k in &f.kinds {
                    tr { td { code { (shortened(&k.name)) } } td { (k.channel.replace('_', " ")) } td.n { (k.before_failure) } td.n { (k.before_nothing) } }
                } }
            }
        }
    }
}

/// Why was it missed? What was the strangest that was seen?
fn missed(of: &Backtested) -> Markup {
    let missed: Vec<&FailureRow> = of.figures.failures.iter().filter(|r| r.lead_s.is_none()).collect();
    html! {
        section {
            h2 { "What was missed, and what was seen of it" }
            @if missed.is_empty() { p.note { "Nothing." } } @else {
                table {
                    thead { tr { th { "entity" } th { "class" } th { "onset" } th { "warned" } th.n { "strangest window" } th { "strongest signals in the horizon before it" } } }
                    tbody { @for r in missed {
                        tr {
                            td { (r.entity) } td { (r.class) } td { (day(&r.onset)) }
                            td { @if r.late { "too late" } @else { "not at all" } }
                            td.n { (format!("{:.1}", r.peak)) }
                            td { @for (i, s) in of.collected.before[r.label].signals.iter().take(3).enumerate() {
                                @if i > 0 { "; " } code { (shortened(&s.0.name)) } " " (s.0.channel.replace('_', " ")) " " (format!("{:.1}", s.2))
                            } }
                        }
                    } }
                }
            }
        }
    }
}

fn false_alarms(of: &Backtested) -> Markup {
    let both = of.collected.episodes.iter().zip(&of.outcomes);
    let falses: Vec<_> = both.filter(|(_, o)| **o == Outcome::False).map(|(e, _)| e).collect();
    html! {
        section {
            h2 { "False alarms" }
            @if falses.is_empty() { p.note { "None." } } @else {
                table {
                    thead { tr { th { "entity" } th { "opened" } th.n { (of.figures.ranked_by) } th { "what it said" } } }
                    tbody { @for e in falses.iter().take(FALSE_MAX) {
                        @if let Some(first) = e.alerts.first() {
                            tr { td { (e.entity.as_str()) } td { (day(&foreshock_wire::time::format_rfc3339(first.at))) } td.n { (format!("{:.2}", first.score)) } td.why { (shortened(&e.why)) } }
                        }
                    } }
                }
                @if falses.len() > FALSE_MAX { p.note { (falses.len() - FALSE_MAX) " more." } }
            }
        }
    }
}

fn method(f: &Figures) -> Markup {
    html! {
        section.method {
            h2 { "How it was measured" }
            p { "The records went through the engine of " code { "run" } " in order of their time; it scored before it learned and knew no label. "
                "A failure is foretold where a precursor of its entity opened or escalated from " (span(f.lead_s_min)) " to " (span(f.horizon_s))
                " before its onset; a precursor is false where no failure of its entity followed within " (span(f.horizon_s)) ". Every failure and every precursor counts once. "
                "Intervals are Wilson's at 95 %. Chance is the same alerts moved along each entity's record by random times: it reaches "
                (format!("{:.0} %", f.chance_recall * 100.0)) " on average, and as much as was measured with p = " (format!("{:.3}", f.chance_p)) "." }
            p { "Limits: a failure that somebody averted looks like a false alarm, and what precedes a failure need not cause it." }
        }
    }
}

fn percent(share: Share) -> String {
    share
        .share
        .map_or_else(|| "–".into(), |p| format!("{:.0} %", p * 100.0))
}

fn interval(share: Share) -> String {
    format!("{:.0}–{:.0} %", share.low * 100.0, share.high * 100.0)
}

fn number(x: f64) -> String {
    if x >= 10.0 || x == 0.0 {
        format!("{x:.0}")
    } else {
        format!("{x:.2}")
    }
}

/// `2026-01-31 10:00:00` of RFC 3339.
fn day(rfc3339: &str) -> String {
    rfc3339.get(..19).unwrap_or(rfc3339).replace('T', " ")
}

fn shortened(text: &str) -> String {
    const MOST: usize = 220;
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
