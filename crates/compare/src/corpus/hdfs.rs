//! Sessions of HDFS blocks (Xu et al., SOSP 2009) as event numbers per block: `blk_…,5 5 22 …`, one block a line.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result};
use flate2::read::GzDecoder;

/// All lines of one block, as numbers of their events, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// `blk_` and a number.
    pub id: String,
    /// Numbers of events, from 1.
    pub events: Vec<u8>,
}

/// The three files.
#[derive(Clone, Debug)]
pub struct Hdfs {
    /// Normal blocks to learn from.
    pub train: Vec<Block>,
    /// Normal blocks to judge.
    pub normal: Vec<Block>,
    /// Abnormal blocks.
    pub abnormal: Vec<Block>,
}

/// # Errors
/// When a file can't be read, or holds something else.
pub fn read(folder: &Path) -> Result<Hdfs> {
    Ok(Hdfs {
        train: blocks(&folder.join("train_normal.txt.gz"))?,
        normal: blocks(&folder.join("heldout_normal.txt.gz"))?,
        abnormal: blocks(&folder.join("test_abnormal.txt.gz"))?,
    })
}

fn blocks(path: &Path) -> Result<Vec<Block>> {
    let file = File::open(path).with_context(|| format!("{}", path.display()))?;
    let lines = BufReader::new(GzDecoder::new(file)).lines().enumerate();
    lines
        .map(|(i, line)| {
            let line = line?;
            block(&line).with_context(|| format!("{} line {}", path.display(), i + 1))
        })
        .collect()
}

fn block(line: &str) -> Result<Block> {
    let (id, events) = line.split_once(',').context("no comma")?;
    let events: Result<_, _> = events.split_whitespace().map(str::parse).collect();
    Ok(Block {
        id: id.to_owned(),
        events: events.context("not a number of an event")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_an_id_and_its_events() {
        let parsed = block("blk_-7,5 22 5").unwrap();
        assert_eq!((parsed.id.as_str(), parsed.events), ("blk_-7", vec![5, 22, 5]));
        assert!(block("blk_1").is_err() && block("blk_1,x").is_err());
    }
}
