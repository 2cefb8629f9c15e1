//! The card of a model: what it was learned from, what it is worth, and what it is not to be asked.

use std::fmt::Write;

use foreshock_failure::predict::HazardModel;

use super::registry::Manifest;
use crate::backtest::evaluate::Share;

/// Series named.
const NAMED_MAX: usize = 25;

fn share(s: &Share) -> String {
    s.share.map_or_else(
        || "none to count".into(),
        |x| {
            format!(
                "{:.0} % ({} of {}, 95 %: {:.0} to {:.0} %)",
                x * 100.0,
                s.hits,
                s.of,
                s.low * 100.0,
                s.high * 100.0
            )
        },
    )
}

/// The card in Markdown.
pub(super) fn text(version: u32, model: &HazardModel, m: &Manifest) -> String {
    let f = &m.figures;
    let mut out = format!(
        "# Model, version {version}\n\nThe probability that an entity fails within {} s, from the windows of {} s of its metrics and \
         logs.\nLearned {} by foreshock {} from {} windows of {} entities with {} failures,\n{} to {}. Inputs: {}.\n\n",
        m.horizon_s,
        m.window_s,
        m.trained_at,
        m.foreshock,
        f.windows,
        f.entities,
        f.failures,
        f.data.0,
        f.data.1,
        m.inputs.join(", "),
    );
    let _ = write!(
        out,
        "Kind: {} over {} series; {} of a failure's classes were left out as not to be foretold ({} failures).\n\n\
         ## What it is worth\n\nOn the last fifth of the failures, by a model of the time before, with calibration and threshold of the \
         time before:\n\n| | |\n|---|---|\n| average precision | {:.3} (chance {:.3}) |\n| Brier score | {:.4} (always the base rate: \
         {:.4}) |\n| reliability error | {:.3} |\n",
        f.kind,
        f.series,
        m.apart.len(),
        f.failures_apart,
        f.by_row.average_precision,
        f.by_row.base_rate,
        f.by_row.brier,
        f.by_row.brier_of_base_rate,
        f.by_row.reliability_error,
    );
    match &f.warnings {
        Some(w) => {
            let _ = write!(
                out,
                "| warned of, at least {} s before | {} |\n| warnings that came true | {} |\n| false warnings a day and entity | {:.2} \
                 |\n| median lead | {:.0} s |\n| threshold | {} |\n",
                m.lead_s,
                share(&w.recall),
                share(&w.precision),
                w.false_per_entity_day,
                w.lead_s,
                w.threshold
            );
        }
        None => out.push_str("| warnings | none: no threshold kept the budget and was right four times of five |\n"),
    }
    out.push_str("\nWhat came true of what was said:\n\n| said | came | rows |\n|---|---|---|\n");
    for b in &f.by_row.reliability {
        let _ = writeln!(out, "| {:.2} | {:.2} | {:.0} |", b.said, b.came, b.rows);
    }
    out.push_str("\n## Warnings by threshold\n\nOn all parts that were predicted from the time before.\n\n");
    out.push_str(
        "| threshold | warned of | came true | false a day and entity | quiet time under warning | median lead |\n|---|---|---|---|---|---|\n",
    );
    for p in model.points.iter().filter(|p| p.right + p.wrong > 0) {
        let _ = writeln!(
            out,
            "| {:.2} | {} of {} | {} of {} | {:.2} | {:.1} % | {:.0} s |",
            p.threshold,
            p.foretold,
            p.failures,
            p.right,
            p.right + p.wrong,
            p.false_per_entity_day,
            p.quiet_share * 100.0,
            p.lead_s
        );
    }
    out.push_str("\n## What it looks at\n\n");
    let mut names: Vec<&str> = model
        .schema
        .series
        .iter()
        .map(|s| &*s.name)
        .filter(|n| !n.is_empty())
        .collect();
    names.sort_unstable();
    for name in names.iter().take(NAMED_MAX) {
        // Names come from whoever can write a metric or a line.
        let _ = writeln!(out, "- `{}`", foreshock_domain::text::printable(name).replace('`', "'"));
    }
    if names.len() > NAMED_MAX {
        let _ = writeln!(out, "- and {} more", names.len() - NAMED_MAX);
    }
    out.push_str(
        "\n## What it does not know\n\nFailures of kinds that are not in its history, entities whose metrics have other names, and other \
         widths of windows.\nIts probabilities hold as long as failures come as often as they did there.\n",
    );
    out
}
