//! Opening what somebody dumped: plain, gzip or zstd, a file or standard input, always as a stream.
//!
//! Compression is told by the first bytes and not by the name, so that a pipe works like a file. Memory is bounded by the
//! decompressor's window (at most 128 MiB for zstd) and the caller's line limit.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What stands for standard input in place of a path.
pub const STDIN: &str = "-";

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const BUFFER_BYTES: usize = 1 << 16;

/// A dump being read; the bytes that come out are decompressed.
pub struct Opened {
    reader: Box<dyn BufRead + Send>,
    taken: Arc<AtomicU64>,
    bytes_total: Option<u64>,
    packed: bool,
}

/// Counts what is taken from the file itself, so that progress compares with the file's size.
struct Counted<R> {
    inner: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.taken.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// What one call of [`Opened::read_line`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineRead {
    /// A line is in the buffer, without its end.
    Line,
    /// The line is longer than allowed; its beginning is in the buffer.
    TooLong,
    /// There are no more.
    End,
}

/// Opens a dump, or standard input for `-`.
///
/// # Errors
/// When the file can't be opened or its first bytes can't be read.
pub fn open(path: &Path) -> io::Result<Opened> {
    if path.as_os_str() == STDIN {
        return Opened::new(io::stdin(), None);
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a folder"));
    }
    Opened::new(file, metadata.is_file().then_some(metadata.len()))
}

impl Opened {
    /// Reads `inner`, of which `bytes_total` is the size where it is known.
    ///
    /// # Errors
    /// When the first bytes can't be read.
    pub fn new(inner: impl Read + Send + 'static, bytes_total: Option<u64>) -> io::Result<Self> {
        let taken = Arc::new(AtomicU64::new(0));
        let mut inner = Counted {
            inner,
            taken: taken.clone(),
        };
        let mut first = Vec::with_capacity(ZSTD.len());
        inner.by_ref().take(ZSTD.len() as u64).read_to_end(&mut first)?;
        let (gzip, zstd) = (first.starts_with(GZIP), first.starts_with(ZSTD));
        let whole = Cursor::new(first).chain(inner);
        let reader: Box<dyn BufRead + Send> = if gzip {
            let whole = BufReader::with_capacity(BUFFER_BYTES, whole);
            Box::new(BufReader::with_capacity(
                BUFFER_BYTES,
                flate2::bufread::MultiGzDecoder::new(whole),
            ))
        } else if zstd {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, zstd::Decoder::new(whole)?))
        } else {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, whole))
        };
        Ok(Self {
            reader,
            taken,
            bytes_total,
            packed: gzip || zstd,
        })
    }

    /// Whether it is compressed.
    #[must_use]
    pub const fn is_packed(&self) -> bool {
        self.packed
    }

    /// The first `bytes` of what comes, or all where it is less; they come again.
    ///
    /// # Errors
    /// When the file can't be read or its compression is damaged.
    pub fn peek(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut first = Vec::with_capacity(bytes);
        self.reader.by_ref().take(bytes as u64).read_to_end(&mut first)?;
        let rest = std::mem::replace(&mut self.reader, Box::new(io::empty()));
        self.reader = Box::new(Cursor::new(first.clone()).chain(rest));
        Ok(first)
    }

    /// Bytes taken from the file so far, as they lie there: compressed ones count compressed.
    #[must_use]
    pub fn bytes_taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The same number, for a progress bar that outlives the borrow of this.
    #[must_use]
    pub fn bytes_taken_handle(&self) -> Arc<AtomicU64> {
        self.taken.clone()
    }

    /// Size of the file, where it is a file.
    #[must_use]
    pub const fn bytes_total(&self) -> Option<u64> {
        self.bytes_total
    }

    /// Replaces `line` by the next line without its `\n` or `\r\n`. A last line without an end counts. Of a line of more
    /// than `bytes_max` bytes the first `bytes_max` are kept and the rest is read over.
    ///
    /// # Errors
    /// When the file can't be read or its compression is damaged.
    pub fn read_line(&mut self, line: &mut Vec<u8>, bytes_max: usize) -> io::Result<LineRead> {
        line.clear();
        // Room for the end of the line: `\r\n`.
        let limit = bytes_max.saturating_add(2) as u64;
        if self.reader.by_ref().take(limit).read_until(b'\n', line)? == 0 {
            return Ok(LineRead::End);
        }
        let ended = line.last() == Some(&b'\n');
        if ended {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        }
        if line.len() <= bytes_max {
            return Ok(LineRead::Line);
        }
        line.truncate(bytes_max);
        if !ended {
            self.skip_line()?;
        }
        Ok(LineRead::TooLong)
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(());
            }
            let end = buffer.iter().position(|b| *b == b'\n');
            let used = end.map_or(buffer.len(), |at| at + 1);
            self.reader.consume(used);
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

impl Read for Opened {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buf)
    }
}

impl BufRead for Opened {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.reader.consume(amount);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Opened::new(Cursor::new(bytes), None)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn compression_is_told_by_the_first_bytes() {
        let text = b"one\ntwo\n".to_vec();
        let two_members = [gzip(b"one\n"), gzip(b"two\n")].concat();
        let cases = [
            ("plain", text.clone()),
            ("gzip", gzip(&text)),
            ("gzip of two members", two_members),
            ("zstd", zstd::encode_all(&text[..], 1).unwrap()),
        ];
        for (name, bytes) in cases {
            assert_eq!(read(bytes).unwrap(), text, "{name}");
        }
        assert_eq!(read(Vec::new()).unwrap(), b"");
        assert_eq!(read(vec![0x1f]).unwrap(), [0x1f], "shorter than any magic");
        let mut cut = gzip(&text);
        cut.truncate(cut.len() - 9);
        assert!(read(cut).is_err(), "damage is an error and not an end");
    }

    #[test]
    fn lines_are_bounded() {
        let mut opened = Opened::new(Cursor::new(b"ab\r\nabc\nabcd\nabcdefgh\n\nlast".to_vec()), None).unwrap();
        let mut line = Vec::new();
        let mut found = Vec::new();
        loop {
            let read = opened.read_line(&mut line, 3).unwrap();
            if read == LineRead::End {
                break;
            }
            found.push((read == LineRead::Line, String::from_utf8(line.clone()).unwrap()));
        }
        let expected = [
            (true, "ab"),
            (true, "abc"),
            (false, "abc"),
            (false, "abc"),
            (true, ""),
            (false, "las"),
        ];
        let found: Vec<(bool, &str)> = found.iter().map(|(whole, text)| (*whole, text.as_str())).collect();
        assert_eq!(found, expected);
        assert_eq!(opened.bytes_taken(), 27);
    }
}
