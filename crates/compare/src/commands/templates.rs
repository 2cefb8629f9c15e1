//! `templates`: how lines are grouped, at what speed and in how much memory, and whether the rules carry over to a system on
//! which they were not chosen.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use foreshock_logs::{Miner, MiningRules};
use serde::Serialize;

use super::speed::resident_bytes;
use crate::corpus::loghub::{LogSet, read};
use crate::measures::grouping::Grouping;
use crate::parallel::in_parallel;
use crate::rivals::drain::{self, Mined};
use crate::table::Table;

/// Forms that a miner of these files holds: all of them.
const FORMS_MAX: usize = 1 << 17;
/// Lines of the flood that memory is measured by, no two of which are alike.
const FLOOD: u32 = 1_000_000;
/// Time that a speed is measured for.
const BUDGET: Duration = Duration::from_secs(2);

/// Options of `templates`.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder of loghub's `NAME_2k.csv` files
    pub folder: PathBuf,
    /// Python interpreter that has the package `drain3`; without it that rival is left out
    #[arg(long)]
    pub python: Option<PathBuf>,
    /// Leaves out the choice of rules on all systems but one, which takes a minute
    #[arg(long)]
    pub quick: bool,
    /// Folder for a `NAME_2k.csv` a system with the id that each line was given, for other tools to score
    #[arg(long, value_name = "FOLDER")]
    pub ids: Option<PathBuf>,
}

/// All figures.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// One a system.
    pub sets: Vec<SetResult>,
    /// Rules that were tried.
    pub rules_tried: usize,
    /// Lines a second over all systems' lines, again and again: name of the miner and speed.
    pub speed: Vec<(&'static str, f64)>,
    /// A million lines, no two alike: forms held, bytes by its own account, resident bytes grown.
    pub flood: Flood,
}

/// Memory after the flood.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Flood {
    /// Lines thrown at it.
    pub lines: u32,
    /// Forms held.
    pub forms: usize,
    /// Bytes by its own account.
    pub state_bytes: usize,
    /// Resident bytes that the process grew by, where the system tells.
    pub resident_bytes: Option<u64>,
}

/// One system.
#[derive(Clone, Debug, Serialize)]
pub struct SetResult {
    /// Name.
    pub name: String,
    /// Ids at the end of the file.
    pub ours: Grouping,
    /// Ids as each line was given them.
    pub emitted: Grouping,
    /// Under the rules that are best on all other systems.
    pub left_out: Option<Grouping>,
    /// The Rust crate.
    pub drain_rust: Grouping,
    /// The Python package.
    pub drain_python: Option<Grouping>,
}

/// Measures everything.
///
/// # Errors
/// When the folder can't be read, or the interpreter fails.
pub fn measure(options: &Options) -> Result<Results> {
    let sets = read(&options.folder)?;
    let rules = if options.quick { Vec::new() } else { all_rules() };
    let tried: Vec<Vec<Grouping>> = in_parallel(&rules, "rules", |rules| {
        sets.iter().map(|set| ours(set, *rules).0).collect()
    });
    let mut results = Vec::new();
    let mut python_speed = Vec::new();
    for (i, set) in sets.iter().enumerate() {
        let (last, emitted) = ours(set, MiningRules::default());
        if let Some(folder) = &options.ids {
            write_ids(folder, set)?;
        }
        let python = options
            .python
            .as_ref()
            .map(|p| drain::python(p, &set.messages))
            .transpose()?;
        python_speed.extend(python.as_ref().map(|m: &Mined| m.lines_per_s));
        let grouping = |mined: &Mined| Grouping::of(&mined.groups, &set.truth);
        results.push(SetResult {
            name: set.name.clone(),
            ours: last,
            emitted,
            left_out: best_without(&tried, i).and_then(|rule| tried.get(rule)?.get(i).copied()),
            drain_rust: grouping(&drain::rust(&set.messages)),
            drain_python: python.as_ref().map(grouping),
        });
    }
    Ok(Results {
        sets: results,
        rules_tried: rules.len(),
        speed: speeds(&sets, options)?,
        flood: flood(),
    })
}

/// The id of each line as it was given, a row a line.
fn write_ids(folder: &Path, set: &LogSet) -> Result<()> {
    let mut miner = Miner::with_rules(FORMS_MAX, MiningRules::default());
    let rows = set
        .messages
        .iter()
        .map(|m| format!("{:016x}\n", miner.mine(m, None).id.0));
    let csv: String = std::iter::once("template_id\n".to_owned()).chain(rows).collect();
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let path = folder.join(format!("{}_2k.csv", set.name));
    std::fs::write(&path, csv).with_context(|| path.display().to_string())
}

/// Grouping by the ids at the end, and by the ids as given.
fn ours(set: &LogSet, rules: MiningRules) -> (Grouping, Grouping) {
    let mut miner = Miner::with_rules(FORMS_MAX, rules);
    let emitted: Vec<_> = set.messages.iter().map(|m| miner.mine(m, None).id).collect();
    let last: Vec<_> = emitted.iter().map(|id| miner.canonical(*id)).collect();
    (Grouping::of(&last, &set.truth), Grouping::of(&emitted, &set.truth))
}

/// The default first, so that it wins a draw.
fn all_rules() -> Vec<MiningRules> {
    let mut all = vec![MiningRules::default()];
    for words_min in [3, 4, 5, 7, 10] {
        for names_min in [2, 3, 5] {
            for words_beside_variable_min in [1, 2, 3] {
                for hex_min in [6, 8, 12] {
                    for flags in 0..16 {
                        all.push(MiningRules {
                            words_min,
                            names_min,
                            words_beside_variable_min,
                            hex_min,
                            units: flags & 1 == 0,
                            keys: flags & 2 == 0,
                            paths: flags & 4 == 0,
                            hosts: flags & 8 == 0,
                        });
                    }
                }
            }
        }
    }
    all
}

/// The rules with the best mean over all systems but one.
fn best_without(tried: &[Vec<Grouping>], left_out: usize) -> Option<usize> {
    let of = |sets: &Vec<Grouping>| {
        let others = sets.iter().enumerate().filter(|(i, _)| *i != left_out);
        others.map(|(_, g)| g.both()).sum::<f64>()
    };
    let mut best: Option<(usize, f64)> = None;
    for (i, sets) in tried.iter().enumerate() {
        if best.is_none_or(|(_, score)| of(sets) > score + 1e-12) {
            best = Some((i, of(sets)));
        }
    }
    best.map(|(i, _)| i)
}

/// Lines a second of each miner over the same lines, which it has seen before; in turns, so that a busy machine is fair.
fn speeds(sets: &[LogSet], options: &Options) -> Result<Vec<(&'static str, f64)>> {
    let lines: Vec<String> = sets.iter().flat_map(|set| set.messages.iter().cloned()).collect();
    let mut miner = Miner::new();
    let mut round = || {
        for line in &lines {
            black_box(miner.mine(line, None));
        }
    };
    round();
    let began = Instant::now();
    let mut rounds = 0u32;
    while began.elapsed() < BUDGET {
        round();
        rounds += 1;
    }
    let ours = f64::from(rounds) * lines.len() as f64 / began.elapsed().as_secs_f64();
    let twice: Vec<String> = lines.iter().chain(&lines).cloned().collect();
    let mut speeds = vec![("foreshock", ours), ("drain3 (Rust)", drain::rust(&twice).lines_per_s)];
    if let Some(python) = &options.python {
        speeds.push(("Drain3 (Python)", drain::python(python, &lines)?.lines_per_s));
    }
    Ok(speeds)
}

/// A different word for each number, no two of which look like a variable.
fn word(number: u32) -> String {
    (0..6)
        .map(|digit| char::from(b'g' + (number / 20_u32.pow(digit) % 20) as u8))
        .collect()
}

fn flood() -> Flood {
    let before = resident_bytes();
    let mut miner = Miner::new();
    for i in 0..FLOOD {
        // Words of which no two lines share any, so that nothing merges.
        let line = format!("{} {} {}", word(i), word(i.wrapping_mul(7)), word(i.wrapping_mul(31)));
        black_box(miner.mine(&line, None));
    }
    Flood {
        lines: FLOOD,
        forms: miner.len(),
        state_bytes: miner.state_bytes(),
        resident_bytes: resident_bytes()
            .zip(before)
            .map(|(after, before)| after.saturating_sub(before)),
    }
}

/// All figures as tables.
#[must_use]
pub fn tables(results: &Results) -> String {
    let mut table = Table::new(&[
        "system",
        "ours GA",
        "FGA",
        "as emitted GA",
        "FGA",
        "left out GA",
        "FGA",
        "drain3 (Rust) GA",
        "FGA",
        "Drain3 (Python) GA",
        "FGA",
    ]);
    let columns = |set: &SetResult| {
        [
            Some(set.ours),
            Some(set.emitted),
            set.left_out,
            Some(set.drain_rust),
            set.drain_python,
        ]
    };
    let cells = |name: &str, columns: [Option<Grouping>; 5]| {
        let mut cells = vec![name.to_owned()];
        for grouping in columns {
            let shown = |x: f64| format!("{x:.3}");
            let [ga, fga] = grouping.map_or(["".into(), "".into()], |g| [shown(g.ga), shown(g.fga)]);
            cells.extend([ga, fga]);
        }
        cells
    };
    for set in &results.sets {
        table.row(cells(&set.name, columns(set)));
    }
    let mean = |column: usize| {
        let all: Option<Vec<Grouping>> = results.sets.iter().map(|set| columns(set)[column]).collect();
        all.map(|all| Grouping::mean(&all))
    };
    table.row(cells("average", std::array::from_fn(mean)));
    let mut speed = Table::new(&["miner", "lines/s"]);
    for (name, lines_per_s) in &results.speed {
        speed.row(vec![(*name).to_owned(), format!("{lines_per_s:.0}")]);
    }
    let flood = &results.flood;
    let resident = flood
        .resident_bytes
        .map_or("unknown".into(), |b| format!("{:.1} MB", b as f64 / 1e6));
    format!(
        "{table}\n`left out`: the rules, of {} tried, that are best on all other systems.\n\n{speed}\n\
         {} lines, no two alike: {} forms, {:.1} MB by its own account, resident memory grown by {resident}\n",
        results.rules_tried,
        flood.lines,
        flood.forms,
        flood.state_bytes as f64 / 1e6,
    )
}
