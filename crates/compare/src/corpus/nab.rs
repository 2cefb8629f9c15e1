//! Reads the Numenta Anomaly Benchmark: `data/<category>/<file>.csv` and `labels/combined_windows.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use foreshock_domain::Timestamp;
use foreshock_history::metric_csv::MetricCsv;
use foreshock_history::open::open;

/// One file of the corpus.
#[derive(Clone, Debug)]
pub struct NabFile {
    /// `<category>/<file>.csv`.
    pub name: String,
    /// Event time of each row.
    pub at: Vec<Timestamp>,
    /// Value of each row; NaN where missing.
    pub values: Vec<f64>,
    /// First and last row of each labelled window, ascending.
    pub windows: Vec<(usize, usize)>,
}

impl NabFile {
    /// Folder of the file.
    #[must_use]
    pub fn category(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }

    /// Rows of a day by the median interval, if the file holds four; all files are of people or machines that know days.
    #[must_use]
    pub fn day(&self) -> Option<usize> {
        let mut gaps: Vec<i64> = self.at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        gaps.sort_unstable();
        let interval = gaps.get(gaps.len() / 2).copied().filter(|&ms| ms > 0)?;
        let rows = usize::try_from(86_400_000 / interval).ok()?;
        (rows > 1 && 4 * rows <= self.at.len()).then_some(rows)
    }
}

/// All labelled files, by name.
///
/// # Errors
/// When a file is missing or is not what it should be.
pub fn read(folder: &Path) -> Result<Vec<NabFile>> {
    let path = folder.join("labels").join("combined_windows.json");
    let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let labels: BTreeMap<String, Vec<(String, String)>> =
        serde_json::from_str(&text).with_context(|| format!("{}: expected windows by file", path.display()))?;
    ensure!(!labels.is_empty(), "{}: expected at least one file", path.display());
    labels
        .into_iter()
        .map(|(name, windows)| {
            let path = folder.join("data").join(&name);
            read_file(&path, name, &windows).with_context(|| format!("{}", path.display()))
        })
        .collect()
}

fn read_file(path: &Path, name: String, windows: &[(String, String)]) -> Result<NabFile> {
    let mut csv = MetricCsv::new(open(path)?)?;
    let mut file = NabFile {
        name,
        at: Vec::new(),
        values: Vec::new(),
        windows: Vec::new(),
    };
    let mut first_row: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    while let Some(row) = csv.next_row()? {
        first_row
            .entry(seconds(row.time_text()).to_vec())
            .or_insert(file.at.len());
        file.at.push(row.at);
        file.values.push(row.wide_value(0)?);
    }
    for (first, last) in windows {
        let find = |time: &String| {
            let row = first_row.get(seconds(time.as_bytes()));
            row.copied().with_context(|| format!("no row at {time}"))
        };
        file.windows.push((find(first)?, find(last)?));
    }
    Ok(file)
}

/// A time as written, without the fraction of a second, which only labels have.
fn seconds(time: &[u8]) -> &[u8] {
    time.split(|&byte| byte == b'.').next().unwrap_or_default()
}
