//! The tables and the page of `fleet`.

use std::path::Path;

use anyhow::{Context, Result};
use foreshock_history::backtest::evaluate::Share;

use super::{FleetResult, Options, Row};
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
    let learned = result.others.len();
    let mut out = format!(
        "Learned from {} failures, judged on {}, {} to {}.\n\n{}\n\\* No threshold kept the budget and was right four times of five on the \
         first part; the one of the best F1 was taken.\n",
        result.failures.0,
        result.failures.1,
        result.judged.0,
        result.judged.1,
        rows("who", &result.rows),
    );
    out += &format!(
        "\n### Foreshock at other budgets, limits stated, no failures learned\n\n{}",
        rows("budget", &result.budgets)
    );
    out += &format!("\n### Rivals by other rules\n\n{}", other_rules(result, learned));
    out += &format!("\n### Failures foretold by class\n\n{}\n", classes(&result.rows));
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

fn rows(who: &str, rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        who,
        "failures foretold",
        "by chance",
        "precursors that came true",
        "false a day",
        "median lead",
    ]);
    for row in rows {
        table.row(vec![
            format!("{}{}", row.name, if row.fell_back { " *" } else { "" }),
            share(&row.recall),
            format!("{:.0} %", row.chance * 100.0),
            share(&row.precision),
            format!("{:.0}", row.false_per_day),
            row.lead_s.map_or_else(|| "-".into(), |s| format!("{s:.0} s")),
        ]);
    }
    table
}

/// Recall, precision and false alarms of each rule in one cell.
fn other_rules(result: &FleetResult, rivals: usize) -> Table {
    let mut table = Table::new(&[
        "who",
        "average precision by window",
        "lowest threshold within the budget",
        "threshold of the best F1",
        "at the false alarms of Foreshock's warnings, in hindsight",
    ]);
    let brief = |row: &Row| {
        let percent = |s: &Share| s.share.map_or_else(|| "none".into(), |x| format!("{:.0} %", x * 100.0));
        let (recall, precision) = (percent(&row.recall), percent(&row.precision));
        format!(
            "{recall} (chance {:.0} %), {precision} right, {:.0} false",
            row.chance * 100.0,
            row.false_per_day
        )
    };
    let maybe = |row: &Option<Row>| row.as_ref().map_or_else(|| "none".into(), brief);
    for (row, other) in result.rows.iter().take(rivals).zip(&result.others) {
        table.row(vec![
            row.name.clone(),
            format!("{:.3}", other.average_precision),
            maybe(&other.lowest),
            brief(&other.f1),
            maybe(&other.hindsight),
        ]);
    }
    table.row(vec!["chance".into(), format!("{:.3}", result.base_rate)]);
    table
}

/// Failures foretold of each class, by who.
fn classes(rows: &[Row]) -> Table {
    let header: Vec<&str> = ["class", "failures"]
        .into_iter()
        .chain(rows.iter().map(|r| r.short))
        .collect();
    let mut table = Table::new(&header);
    for (class, of) in rows.first().map_or(&[][..], |r| &r.classes) {
        let foretold = rows.iter().map(|r| {
            let own = r.classes.iter().find(|c| c.0 == *class);
            own.map_or_else(|| "-".into(), |c| c.1.hits.to_string())
        });
        table.row([class.clone(), of.of.to_string()].into_iter().chain(foretold).collect());
    }
    table
}

/// The page of the documentation.
///
/// # Errors
/// Where it can't be written.
pub fn write(path: &Path, options: &Options, result: &FleetResult) -> Result<()> {
    std::fs::write(path, page(options, result)).with_context(|| path.display().to_string())
}

fn page(options: &Options, result: &FleetResult) -> String {
    let folder = options.folder.display();
    format!(
        "# Who foretells the failures of a fleet\n\nOf the recording `{folder}`, written by `foreshock-compare fleet {}`; nothing here is typed \
         by hand but the words. All are judged by the code of `foreshock backtest`, to the same end: a failure is foretold where \
         a precursor opens (or, of Foreshock, escalates) from its least lead to {} s before it. The least lead is a failure's own (`lead_s` in `failures.csv`), or {} s. \
         Nothing is point-adjusted; intervals are Wilson's at 95 %. \"By chance\" is what the same alerts reach when moved at random along each \
         host's record: where failures are dense it is high, and only what is above it is worth anything. Everybody may have {} false alarms a day \
         in this fleet of compressed time, in which one false alarm is already {:.0} a day.\n\nRivals: thresholds as people write \
         them (a core at 90 %, memory and volume at 80 % of their limits, an ERROR line, half a second of response time), for one window; the \
         largest |z| of a host's series (exponentially weighted); a random cut forest a host (50 trees); boosted trees on raw windows (forust, \
         last value, mean and slope of a minute of each series, lines by level), learned from the same failures as ours. Their \
         precursors close after a minute below half of the threshold. Thresholds come from the time before the judged part alone; those of \
         the boosted trees from parts of it that were scored by trees of the parts before, as `train` does. Only the last column of \
         \"Rivals by other rules\" is chosen in hindsight, in their favour.\n\n{}",
        arguments(options),
        options.horizon_s,
        options.lead_s,
        options.budget,
        1.0 / result.days,
        table(result)
    )
}

/// The command line that gives the same page.
fn arguments(options: &Options) -> String {
    let mut text = format!(
        "{} --lead-s {} --horizon-s {} --budget {}",
        options.folder.display(),
        options.lead_s,
        options.horizon_s,
        options.budget
    );
    if let Some(from) = options.from {
        text += &format!(" --from {from:.3}");
    }
    for class in &options.apart {
        text += &format!(" --apart {class}");
    }
    if options.leave_out {
        text += " --leave-out";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{FleetResult, OtherRules};
    use super::*;

    fn row(name: &str, short: &'static str, hits: usize) -> Row {
        Row {
            name: name.into(),
            short,
            fell_back: hits == 1,
            recall: Share::new(hits, 4),
            precision: Share::new(hits, hits),
            false_per_day: 12.0,
            lead_s: (hits > 0).then_some(61.0),
            chance: 0.25,
            classes: vec![("crash".into(), Share::new(hits, 4))],
        }
    }

    #[test]
    fn the_page_says_who_and_how() {
        let result = FleetResult {
            judged: ("a".into(), "b".into()),
            days: 0.5,
            failures: (6, 4),
            rows: vec![row("a rival", "rival", 1), row("ours", "ours", 3)],
            others: vec![OtherRules {
                average_precision: 0.5,
                lowest: None,
                f1: row("a rival", "rival", 0),
                hindsight: Some(row("a rival", "rival", 2)),
            }],
            base_rate: 0.125,
            budgets: vec![row("30 a day", "budget", 2)],
            probabilities: None,
            left_out: Vec::new(),
        };
        let options = Options {
            folder: "data/x".into(),
            from: None,
            lead_s: 15,
            horizon_s: 180,
            budget: 1_000.0,
            apart: vec!["kill".into()],
            leave_out: false,
            output: None,
        };
        let page = page(&options, &result);
        for expected in [
            "`foreshock-compare fleet data/x --lead-s 15 --horizon-s 180 --budget 1000 --apart kill`",
            "from its least lead to 180 s before it",
            "one false alarm is already 2 a day",
            "a rival *",
            "75 % (3 of 4, 30 to 95 %)",
            "50 % (chance 25 %), 100 % right, 12 false",
            "0 % (chance 25 %), none right, 12 false",
            "0.125",
            "| crash |        4 |     1 |    3 |",
        ] {
            assert!(page.contains(expected), "{expected:?} in {page}");
        }
    }
}
