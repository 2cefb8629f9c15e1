//! `all`: everything in one run, and the page.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Args;

use super::{calibration, injected, nab, speed};
use crate::corpus::injected::Half;
use crate::report::{self, Results};
use crate::rivals::Method;
use crate::selection::Selection;

/// Options of `all`.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder of the Numenta benchmark
    #[arg(long)]
    pub nab: PathBuf,
    /// Folder for the page and its figures
    #[arg(long)]
    pub output: PathBuf,
    /// Copies of the injected set, with seeds of their own
    #[arg(long, default_value_t = 1)]
    pub copies: u64,
}

/// Measures everything and writes the page.
///
/// # Errors
/// When the benchmark can't be read or the page not be written.
pub fn run(options: &Options) -> Result<Results> {
    let begin = Instant::now();
    let selection = Selection {
        rivals: true,
        methods: Vec::new(),
    };
    let half = Half::Report;
    let on = |contaminated| {
        injected::measure(&injected::Options {
            half,
            copies: options.copies,
            selection: selection.clone(),
            kinds: Vec::new(),
            contaminated,
            by_family: false,
        })
    };
    let nab = nab::measure(&nab::Options {
        folder: options.nab.clone(),
        selection: selection.clone(),
        per_file: false,
    })?;
    let results = Results {
        half,
        copies: options.copies,
        clean: on(false),
        contaminated: on(true),
        nab: nab.into_iter().map(|rated| rated.result).collect(),
        calibration: calibration::measure(&calibration::Options {
            half,
            copies: 8,
            method: Method::Foreshock,
        }),
        speed: speed::measure(&speed::Options {
            series: vec![1, 1_000, 100_000],
            selection: Selection {
                rivals: false,
                methods: vec![Method::Foreshock, Method::Rcf3],
            },
            in_process: false,
        })?,
        took: begin.elapsed(),
    };
    report::write(&options.output, &results)?;
    Ok(results)
}
