//! The tables of the comparison, and the page of the documentation.

use std::path::Path;

use anyhow::{Context, Result};
use foreshock_history::backtest::evaluate::Share;

use super::{FleetResult, Options};
use crate::table::Table;

fn share(s: &Share) -> String {
    s.share.map_or_else(
        || "none".into(),
        |x| {
            format!(
                "{:.0} % ({} of {}, {:.0} to {:.0} %)",
                x * 100.0,
                s.hits,
                s.of,
                s.low * 100.0,
                s.high * 100.0
            )
        },
    )
}

/// The tables.
#[must_use]
pub fn table(result: &FleetResult) -> String {
    let mut table = Table::new(&[
        "who",
        "failures foretold",
        "by chance",
        "precursors that came true",
        "false a day",
        "median lead",
    ]);
    for row in &result.rows {
        table.row(vec![
            format!("{}{}", row.name, if row.fell_back { " *" } else { "" }),
            share(&row.recall),
            format!("{:.0} %", row.chance * 100.0),
            share(&row.precision),
            format!("{:.0}", row.false_per_day),
            row.lead_s.map_or_else(|| "-".into(), |s| format!("{s:.0} s")),
        ]);
    }
    let mut classes = Table::new(&["class", "warned of"]);
    for (class, recall) in &result.classes {
        classes.row(vec![class.clone(), share(recall)]);
    }
    let mut out = format!(
        "Learned from {} failures, judged on {}, {} to {}.\n\n{table}\n\\* No threshold kept the budget and was right four times of five on the \
         first part; the one of the best F1 was taken.\n\n### By class, failures learned\n\n{classes}\n",
        result.failures.0, result.failures.1, result.judged.0, result.judged.1
    );
    if let Some(p) = &result.probabilities {
        out += &format!(
            "Probabilities by window: average precision {:.3} (chance {:.3}), Brier score {:.4} (chance {:.4}), reliability error {:.3}.\n",
            p.average_precision, p.base_rate, p.brier, p.brier_of_base_rate, p.reliability_error
        );
    }
    if !result.left_out.is_empty() {
        let mut left = Table::new(&[
            "class left out",
            "any precursor",
            "warned of",
            "warned of when learned",
            "false of any grade a day",
        ]);
        for l in &result.left_out {
            left.row(vec![
                l.class.clone(),
                share(&l.any),
                share(&l.warned),
                share(&l.warned_with),
                format!("{:.0}", l.false_per_day),
            ]);
        }
        out += &format!("\n### Each class left out of what is learned\n\n{left}\n");
    }
    out
}

/// The page of the documentation.
///
/// # Errors
/// Where it can't be written.
pub fn write(path: &Path, options: &Options, result: &FleetResult) -> Result<()> {
    let page = format!(
        "# Who foretells the failures of a fleet\n\nA page made by `foreshock-compare fleet`. All are judged by the code of `foreshock backtest` on the \
         same recording: a failure is foretold where a precursor opens (or escalates) at least a quarter of the fault's growth time \
         and at most {} s before it. Nothing is point-adjusted; intervals are Wilson's at 95 %. Everybody may have {} false alarms a day in \
         this fleet of compressed time, in which each store fails several times an hour.\n\nRivals: thresholds as people write them (a core at \
         90 %, memory and volume at 80 % of their limits, an ERROR line, half a second of response time); the largest |z| of a host's series \
         (exponentially weighted); a random cut forest a host (50 trees); boosted trees on raw windows (forust, last value, mean and slope of \
         a minute of each series, lines by level), learned from the same failures as ours.\n\n{}",
        options.horizon_s,
        options.budget,
        table(result)
    );
    std::fs::write(path, page).with_context(|| path.display().to_string())
}
