//! `hdfs`: abnormal sessions of HDFS blocks, told at a threshold that was set beforehand.
//!
//! Blocks go the way of the product: each of their lines is written out, named, mined, gathered into its session beside some
//! three hundred others under way, and judged when the session falls silent. While blocks are judged nothing is learned, but in the
//! row `stream`, where every session is judged and then learned. False positives are the share of held-out normal blocks,
//! scaled to the 553,366 normal blocks of the full set; recall is over all abnormal blocks not learned from.
//!
//! Choices are to be made on one half of the held-out and abnormal blocks (by hash of the block's id), and the other half is
//! reported. Few false positives decide, so `--half both` is to be looked at as well.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use foreshock_domain::{Learning, Millis, Timestamp};
use foreshock_logs::{Miner, SessionIds, Sessions};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::corpus::hdfs::{self, Block, Hdfs};
use crate::table::Table;

/// Normal blocks of the full set.
const NORMAL_BLOCKS: f64 = 553_366.0;
/// Abnormal blocks of the full set.
const ABNORMAL_BLOCKS: f64 = 16_838.0;
/// The threshold, a surprise: one normal session in a thousand.
const THRESHOLD: f64 = 3.0;
/// Share of abnormal blocks among all.
const NATURAL_SHARE: f64 = ABNORMAL_BLOCKS / (NORMAL_BLOCKS + ABNORMAL_BLOCKS);
/// A block begins this long after the one before, ms, and so do its lines after each other.
const BLOCK_EVERY: Millis = 200;
const LINE_EVERY: Millis = 400;
/// A session is over when silent for this long, ms.
const IDLE: Millis = 60_000;
/// Sessions after which the row `stream` is counted: a p of one in a thousand takes more than a thousand.
const STREAM_FROM: usize = 2_000;

/// Which held-out and abnormal blocks are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Half {
    /// On which choices were made.
    Tune,
    /// On which none were.
    Report,
    /// All.
    Both,
}

/// Options of `hdfs`.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder with `train_normal.txt.gz`, `heldout_normal.txt.gz` and `test_abnormal.txt.gz`
    pub folder: PathBuf,
    /// Which blocks are judged
    #[arg(long, value_enum, default_value_t = Half::Report)]
    pub half: Half,
    /// Orders of the training blocks, and choices of abnormal blocks among them
    #[arg(long, default_value_t = 8)]
    pub seeds: u64,
}

/// Precision, recall and their harmonic mean.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rates {
    /// Of what was told, how much was abnormal.
    pub precision: f64,
    /// Of what was abnormal, how much was told.
    pub recall: f64,
    /// Harmonic mean.
    pub f1: f64,
}

/// One way to learn and judge.
#[derive(Clone, Debug, Serialize)]
pub struct HdfsResult {
    /// Who judges.
    pub method: &'static str,
    /// What is learned from.
    pub learned: String,
    /// At the threshold set beforehand.
    pub fixed: Rates,
    /// At the best threshold in hindsight.
    pub best: Rates,
    /// That threshold, a surprise.
    pub best_threshold: f64,
}

/// A judged block.
struct Judged {
    is_abnormal: bool,
    surprise: f64,
}

/// # Errors
/// When the data can't be read.
pub fn measure(options: &Options) -> Result<Vec<HdfsResult>> {
    let data = hdfs::read(&options.folder)?;
    let mut results = vec![];
    let clean = data.train.iter().collect::<Vec<_>>();
    results.extend(judge_all(&data, options.half, &clean, "normals, as recorded")?);
    for seed in 0..options.seeds {
        let mut train = clean.clone();
        train.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        results.extend(judge_all(
            &data,
            options.half,
            &train,
            &format!("normals, shuffled {seed}"),
        )?);
    }
    for seed in 0..options.seeds {
        let train = mixed(&data, seed);
        results.extend(judge_all(
            &data,
            options.half,
            &train,
            &format!("2.9 % abnormal, {seed}"),
        )?);
    }
    for seed in 0..options.seeds {
        let result = stream(&data, options.half, seed)?;
        results.push(result);
    }
    Ok(results)
}

/// The training blocks with abnormal ones inside, at the share at which they come.
fn mixed(data: &Hdfs, seed: u64) -> Vec<&Block> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // some hundred
    let wanted = (data.train.len() as f64 * NATURAL_SHARE / (1.0 - NATURAL_SHARE)).round() as usize;
    let mut abnormal: Vec<&Block> = data.abnormal.iter().collect();
    let (inside, _) = abnormal.partial_shuffle(&mut random, wanted);
    let mut train: Vec<&Block> = data.train.iter().chain(inside.iter().copied()).collect();
    train.shuffle(&mut random);
    train
}

fn is_in(half: Half, block: &Block) -> bool {
    // FNV-1a, of which the lowest bit is a parity: a higher one is taken.
    let hash = block.id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    match half {
        Half::Both => true,
        Half::Tune => hash >> 40 & 1 == 0,
        Half::Report => hash >> 40 & 1 == 1,
    }
}

fn judge_all(data: &Hdfs, half: Half, train: &[&Block], learned: &str) -> Result<Vec<HdfsResult>> {
    let inside: BTreeSet<&str> = train.iter().map(|b| b.id.as_str()).collect();
    let judged: Vec<(&Block, bool)> = (data.normal.iter().map(|b| (b, false)))
        .chain(data.abnormal.iter().map(|b| (b, true)))
        .filter(|(b, _)| is_in(half, b) && !inside.contains(b.id.as_str()))
        .collect();
    let mut pipeline = Pipeline::new()?;
    pipeline.feed(train, Learning::Normal)?;
    let blocks: Vec<&Block> = judged.iter().map(|(b, _)| *b).collect();
    let surprises = pipeline.feed(&blocks, Learning::Paused)?;
    let ours = judged.iter().zip(surprises).map(|((_, is_abnormal), surprise)| Judged {
        is_abnormal: *is_abnormal,
        surprise,
    });
    let rival = |method: &'static str, is_odd: &dyn Fn(&Block) -> bool| {
        let told = judged.iter().map(|(b, is_abnormal)| Judged {
            is_abnormal: *is_abnormal,
            surprise: if is_odd(b) { THRESHOLD } else { 0.0 },
        });
        result(method, learned, &told.collect::<Vec<_>>())
    };
    let known: BTreeSet<Vec<(u8, u32)>> = train.iter().map(|b| vector(b)).collect();
    let shares = shares(train);
    Ok(vec![
        result("ours", learned, &ours.collect::<Vec<_>>()),
        rival("a vector never seen", &|b| !known.contains(&vector(b))),
        rival("an event in < 1 %, or one in ≥ 97.5 % missing", &|b| {
            let vector = vector(b);
            let has = |event: &u8| vector.iter().any(|(e, _)| e == event);
            let is_rare = |e: &u8| shares.get(e).is_none_or(|s| *s < 0.01);
            vector.iter().any(|(e, _)| is_rare(e)) || shares.iter().any(|(e, s)| *s >= 0.975 && !has(e))
        }),
    ])
}

/// Every session is judged and then learned, abnormal ones among the normal ones.
fn stream(data: &Hdfs, half: Half, seed: u64) -> Result<HdfsResult> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let abnormal = mixed(data, seed);
    let mut blocks: Vec<&Block> = abnormal;
    blocks.extend(data.normal.iter().filter(|b| is_in(half, b)));
    blocks.shuffle(&mut random);
    let is_abnormal: BTreeSet<&str> = data.abnormal.iter().map(|b| b.id.as_str()).collect();
    let surprises = Pipeline::new()?.feed(&blocks, Learning::Normal)?;
    let judged: Vec<Judged> = (blocks.iter().zip(surprises).skip(STREAM_FROM))
        .map(|(b, surprise)| Judged {
            is_abnormal: is_abnormal.contains(b.id.as_str()),
            surprise,
        })
        .collect();
    Ok(result("ours", &format!("stream, 2.9 % abnormal, {seed}"), &judged))
}

/// Counts of events in octaves.
fn vector(block: &Block) -> Vec<(u8, u32)> {
    let mut counts = BTreeMap::new();
    for event in &block.events {
        *counts.entry(*event).or_insert(0_u32) += 1;
    }
    counts.into_iter().map(|(e, n)| (e, n.ilog2())).collect()
}

/// Share of blocks with each event.
fn shares(train: &[&Block]) -> BTreeMap<u8, f64> {
    let mut shares = BTreeMap::new();
    for block in train {
        for (event, _) in vector(block) {
            *shares.entry(event).or_insert(0.0) += 1.0 / train.len() as f64;
        }
    }
    shares
}

/// What a partition of the product does with log lines, as far as sessions go.
struct Pipeline {
    ids: SessionIds,
    miner: Miner,
    sessions: Sessions,
    clock: Timestamp,
}

impl Pipeline {
    fn new() -> Result<Self> {
        let ids = SessionIds::new(&[], Some(r"blk_-?\d+"), None).map_err(anyhow::Error::msg)?;
        let mut pipeline = Self {
            ids,
            miner: Miner::new(),
            sessions: Sessions::default(),
            clock: Timestamp::from_secs(1_226_000_000),
        };
        // Whatever was under way when the first line came is not judged.
        pipeline.sessions.open.tick(pipeline.clock);
        pipeline.clock = pipeline.clock + 2 * IDLE;
        Ok(pipeline)
    }

    /// Feeds the lines of blocks that overlap, and gives back the surprise of each block, 0 where nothing is said.
    fn feed(&mut self, blocks: &[&Block], learning: Learning) -> Result<Vec<f64>> {
        let mut lines: Vec<(Millis, usize, usize)> = Vec::new();
        for (i, block) in blocks.iter().enumerate() {
            let at = |j: usize| i as Millis * BLOCK_EVERY + j as Millis * LINE_EVERY;
            lines.extend((0..block.events.len()).map(|j| (at(j), i, j)));
        }
        lines.sort_unstable();
        let mut places = BTreeMap::new();
        let mut surprises = vec![0.0; blocks.len()];
        let mut close = |sessions: &mut Sessions, miner: &Miner, places: &BTreeMap<u64, usize>, now: Timestamp| {
            sessions.close(
                now,
                IDLE,
                miner,
                |_| learning,
                |session, verdict| {
                    if let Some(surprise) = places.get(&session.id).and_then(|place| surprises.get_mut(*place)) {
                        *surprise = verdict.map_or(0.0, |v| v.score().surprise());
                    }
                },
            );
        };
        let begin = self.clock;
        for (ms, i, j) in lines {
            let block = blocks.get(i).context("a line of no block")?;
            let at = begin + ms;
            if at - self.clock >= 10_000 {
                close(&mut self.sessions, &self.miner, &places, at);
                self.clock = at;
            }
            let message = line(block, j);
            let template = self.miner.mine(&message, None).id;
            let sessions = &mut self.sessions;
            self.ids.each(&[], &message, |id| {
                places.insert(id, i);
                sessions.open.add(id, template, at, 0, false);
            });
        }
        self.clock = self.clock + 4 * IDLE;
        close(&mut self.sessions, &self.miner, &places, self.clock);
        Ok(surprises)
    }
}

/// A line of a block as a writer would write it; each event begins with a word of its own.
fn line(block: &Block, line: usize) -> String {
    let event = block.events.get(line).copied().unwrap_or(0);
    let word: String = [event / 26, event % 26]
        .map(|n| char::from(b'a' + n % 26))
        .iter()
        .collect();
    format!("event{word} of {} took {line} ms", block.id)
}

fn rates(false_positives: f64, recall: f64) -> Rates {
    let (fp, tp) = (false_positives * NORMAL_BLOCKS, recall * ABNORMAL_BLOCKS);
    let precision = if tp > 0.0 { tp / (tp + fp) } else { 0.0 };
    let f1 = if tp > 0.0 {
        2.0 * precision * recall / (precision + recall)
    } else {
        0.0
    };
    Rates { precision, recall, f1 }
}

fn result(method: &'static str, learned: &str, judged: &[Judged]) -> HdfsResult {
    let of = |kind: bool| {
        let mut surprises: Vec<f64> = judged
            .iter()
            .filter(|j| j.is_abnormal == kind)
            .map(|j| j.surprise)
            .collect();
        surprises.sort_unstable_by(f64::total_cmp);
        surprises
    };
    let (normal, abnormal) = (of(false), of(true));
    let told = |surprises: &[f64], threshold: f64| {
        let quiet = surprises.partition_point(|s| *s < threshold);
        (surprises.len() - quiet) as f64 / surprises.len().max(1) as f64
    };
    let at = |threshold: f64| rates(told(&normal, threshold), told(&abnormal, threshold));
    let mut best = (at(THRESHOLD), THRESHOLD);
    for surprise in normal.iter().chain(&abnormal).filter(|s| **s > 0.0) {
        let rates = at(*surprise);
        if rates.f1 > best.0.f1 {
            best = (rates, *surprise);
        }
    }
    HdfsResult {
        method,
        learned: learned.to_owned(),
        fixed: at(THRESHOLD),
        best: best.0,
        best_threshold: best.1,
    }
}

/// Table of the results.
#[must_use]
pub fn table(results: &[HdfsResult]) -> String {
    let mut table = Table::new(&["learned from", "method", "P", "R", "F1", "best F1", "at"]);
    for r in results {
        table.row(vec![
            r.learned.clone(),
            r.method.to_owned(),
            format!("{:.3}", r.fixed.precision),
            format!("{:.4}", r.fixed.recall),
            format!("{:.4}", r.fixed.f1),
            format!("{:.4}", r.best.f1),
            format!("{:.2}", r.best_threshold),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_halves() {
        let blocks: Vec<Block> = (0..10_000)
            .map(|i| Block {
                id: format!("blk_{}", i * 7_919),
                events: vec![],
            })
            .collect();
        let tune = blocks.iter().filter(|b| is_in(Half::Tune, b)).count();
        let report = blocks.iter().filter(|b| is_in(Half::Report, b)).count();
        assert_eq!(tune + report, blocks.len());
        assert!((4_500..5_500).contains(&tune), "{tune}");
    }

    #[test]
    fn figures_by_case() {
        let judged = |is_abnormal, surprise| Judged { is_abnormal, surprise };
        let perfect = result("x", "y", &[judged(true, 4.0), judged(false, 1.0)]);
        assert!((perfect.fixed.f1 - 1.0).abs() < 1e-12);
        let blind = result("x", "y", &[judged(true, 2.0), judged(false, 1.0)]);
        assert!(blind.fixed.f1 == 0.0 && (blind.best.f1 - 1.0).abs() < 1e-12);
        // The rule of the literature: 20 of 5,530 normals told, all abnormal ones told.
        assert!((rates(20.0 / 5_530.0, 1.0).f1 - 0.944).abs() < 1e-3);
    }

    #[test]
    fn blocks_that_lack_lines_are_told_through_the_whole_pipeline() {
        let normal = |i: usize| Block {
            id: format!("blk_{i}"),
            events: [vec![1, 2, 2, 3], vec![4; i % 3]].concat(),
        };
        let train: Vec<Block> = (0..2_000).map(normal).collect();
        let mut pipeline = Pipeline::new().unwrap();
        pipeline
            .feed(&train.iter().collect::<Vec<_>>(), Learning::Normal)
            .unwrap();
        let mut lacking = normal(2_001);
        lacking.events.retain(|e| *e > 2);
        let surprises = pipeline.feed(&[&normal(2_002), &lacking], Learning::Paused).unwrap();
        assert!(surprises[0] < 1.5 && surprises[1] > 3.0, "{surprises:?}");
    }
}
