//! Training that was stopped goes on where it was: the rows kept so far and where reading stands, in one file beside the models.
//!
//! The file is `.unfinished` in the folder of the model, zstd, written beside and renamed; it is gone once the model is written. It begins
//! with what the training was of (dumps, failures, configuration, options): of anything else it is not used. Rows come in
//! parts, so that writing needs no second copy of them. Cost: a second or two every few minutes.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::rows::{Row, Rows};
use crate::dump_log::{Mark, Marking};

const NAME: &str = ".unfinished";
const MAGIC: [u8; 8] = *b"FSHKTRN1";
/// Between two marks.
const EVERY: Duration = Duration::from_secs(120);
/// Rows of one part.
const ROWS: usize = 1_024;
/// A part larger than this is not one of ours.
const PART_BYTES_MAX: usize = 1 << 31;
const LEVEL: i32 = 1;

/// A training that may be stopped, and gone on with.
#[derive(Clone, Debug)]
pub struct Resume {
    file: PathBuf,
    /// What it is of.
    of: String,
}

/// How far a stopped training got.
#[derive(Debug)]
pub struct Stopped {
    pub(super) mark: Mark,
    pub(super) rows: Rows,
}

impl Stopped {
    /// Records of all dumps that were read.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.mark.taken.iter().sum()
    }
}

#[derive(Serialize, Deserialize)]
struct Head<T> {
    of: String,
    version: u16,
    mark: T,
}

impl Resume {
    /// In the folder of a model; `of` names all that makes it this training and no other.
    #[must_use]
    pub fn new(folder: &Path, of: String) -> Self {
        Self {
            file: folder.join(NAME),
            of,
        }
    }

    /// What a stopped training of the same left; `None` where there is none, or of something else.
    ///
    /// # Errors
    /// When it is there and can't be read.
    pub fn find(&self) -> io::Result<Option<Stopped>> {
        let file = match File::open(&self.file) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut from = zstd::Decoder::new(BufReader::new(file))?;
        let mut magic = [0; MAGIC.len()];
        from.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not begin like one"));
        }
        let head: Head<Mark> = part(&mut from)?;
        if head.of != self.of || head.version != foreshock_engine::STATE_VERSION {
            return Ok(None);
        }
        let (mut rows, parts): (Rows, usize) = part(&mut from)?;
        for _ in 0..parts {
            rows.rows.extend(part::<Vec<Row>>(&mut from)?);
        }
        Ok(Some(Stopped { mark: head.mark, rows }))
    }

    /// Forgets it: the training is done.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn done(&self) -> io::Result<()> {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn write(&self, mark: &Mark, rows: &Rows) -> io::Result<()> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let beside = tempfile::NamedTempFile::new_in(folder)?;
        let mut to = zstd::Encoder::new(BufWriter::new(beside.as_file()), LEVEL)?;
        to.write_all(&MAGIC)?;
        let head = Head {
            of: self.of.clone(),
            version: foreshock_engine::STATE_VERSION,
            mark,
        };
        put(&mut to, &head)?;
        put(&mut to, &(rows, rows.rows.len().div_ceil(ROWS)))?;
        for some in rows.rows.chunks(ROWS) {
            put(&mut to, &some)?;
        }
        to.finish()?.flush()?;
        beside.as_file().sync_all()?;
        beside.persist(&self.file)?;
        Ok(())
    }
}

fn put<T: Serialize>(to: &mut impl Write, value: &T) -> io::Result<()> {
    let bytes = postcard::to_stdvec(value).map_err(io::Error::other)?;
    to.write_all(&(bytes.len() as u64).to_le_bytes())?;
    to.write_all(&bytes)
}

fn part<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > PART_BYTES_MAX {
        return Err(wrong(format!("a part of {length} bytes")));
    }
    let mut bytes = Vec::new();
    from.take(length as u64).read_to_end(&mut bytes)?;
    postcard::from_bytes(&bytes).map_err(|error| wrong(error.to_string()))
}

/// Writes marks of rows that grow meanwhile.
pub(super) struct Keeper<'a> {
    resume: &'a Resume,
    rows: &'a RefCell<Rows>,
    last: Instant,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(resume: &'a Resume, rows: &'a RefCell<Rows>) -> Self {
        Self {
            resume,
            rows,
            last: Instant::now(),
        }
    }
}

impl Marking for Keeper<'_> {
    fn is_due(&mut self) -> bool {
        self.last.elapsed() >= EVERY
    }

    fn keep(&mut self, mark: Mark) -> io::Result<()> {
        self.resume.write(&mark, &self.rows.borrow())?;
        self.last = Instant::now();
        Ok(())
    }
}

#[cfg(test)]
#[path = "resume_tests.rs"]
mod tests;
