//! Mines the templates of a log file: one row per line with the template's id and text.
//!
//! Ids are those the miner has when the whole file was read, so lines before a merge get the same id as lines after it. They
//! wait in a spill file beside the output, 8 bytes a line, so that memory does not grow with the file and standard
//! input can be read as well. The output appears under its name only when it is complete.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use foreshock_domain::{Input, Timestamp};
use foreshock_logs::{LinePlace, Miner, TemplateId, TraceJoiner, telling_line};
use foreshock_wire::{Decoder, Format, Near, Origin};

use crate::open::{LineRead, open};

/// Longest line that is read; of a longer one the rest is passed over.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Forms the miner holds. A file is read once and has the process to itself, so there is room for sixteen partitions' worth.
const FORMS_MAX: usize = 1 << 17;
/// Texts remembered of templates that the miner may have to forget.
const TEXTS_MAX: usize = 1 << 17;
/// Lines between two reports of progress.
const PROGRESS_LINES: u64 = 4_096;

/// What to read and where to write.
#[derive(Clone, Debug)]
pub struct TemplatesOptions {
    /// Log file, plain, `.gz` or `.zst`; `-` is standard input. Bytes that are no UTF-8 count as U+FFFD.
    pub input: PathBuf,
    /// Envelope of the lines, which is taken off before they are mined; the lines of a stack trace then have the template of its
    /// first. `None`: each line is mined as it stands.
    pub format: Option<Format>,
    /// CSV to write: `line,template_id,template`, one row per line of the input, in order, lines counted from 1.
    pub output: PathBuf,
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TemplatesSummary {
    /// Lines read.
    pub lines: u64,
    /// Lines of which only the first 1 MiB was read.
    pub lines_too_long: u64,
    /// Different templates among them.
    pub templates: u64,
    /// Forms the miner had to forget; above 0 only where lines have hardly anything in common.
    pub evicted: u64,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum TemplatesError {
    /// The input can't be read, or its compression is damaged.
    #[error("{path}: line {line}: {source}", path = path.display())]
    Read {
        /// Input.
        path: PathBuf,
        /// Line, counted from 1, at which reading failed.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// The output can't be written.
    #[error("{path}: {source}", path = path.display())]
    Write {
        /// Output, or a partial file beside it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Mines a file. `progress` is told how many bytes of the input were taken so far, as they lie there (compressed ones
/// count compressed), every few thousand lines.
///
/// # Errors
/// When the input can't be read or the output can't be written; then there is no output, and no partial one either.
pub fn templates(
    options: &TemplatesOptions,
    progress: &mut dyn FnMut(u64),
) -> Result<TemplatesSummary, TemplatesError> {
    let ids = Partial::beside(&options.output, "ids");
    let rows = Partial::beside(&options.output, "rows");
    let mut mined = mine(options, &ids.path, progress)?;
    let written = |path: &Path| {
        let path = path.to_owned();
        move |source| TemplatesError::Write { path, source }
    };
    mined.write_rows(&ids.path, &rows.path).map_err(written(&rows.path))?;
    fs::rename(&rows.path, &options.output).map_err(written(&options.output))?;
    Ok(mined.summary)
}

struct Mined {
    miner: Miner,
    /// As they were when the templates were first seen.
    texts: BTreeMap<TemplateId, String>,
    summary: TemplatesSummary,
    envelope: Option<Envelope>,
}

/// Takes lines out of their envelope and tells the rest of a trace from its head.
struct Envelope {
    decoder: Decoder,
    joiner: TraceJoiner,
    last_at: Timestamp,
    last_id: Option<TemplateId>,
}

impl Envelope {
    fn new(format: Format) -> Self {
        Self {
            decoder: Decoder::new(format),
            joiner: TraceJoiner::default(),
            last_at: Timestamp::EARLIEST,
            last_id: None,
        }
    }

    /// Template of a line: of its first message, where it holds several; `None` where it is not for the miner. What no record
    /// may be is mined as it stands.
    fn mine(&mut self, line: &[u8], mine: &mut dyn FnMut(&str) -> TemplateId) -> TemplateId {
        let (joiner, last_at, last_id) = (&mut self.joiner, &mut self.last_at, &mut self.last_id);
        let mut id = None;
        let origin = Origin {
            key: b"",
            near: (*last_at > Timestamp::EARLIEST).then_some(Near::Before(*last_at)),
        };
        let read = self.decoder.decode_from(line, origin, &mut |input| {
            let (Input::Line(line), None) = (&input, id) else {
                return;
            };
            *last_at = line.at.unwrap_or(*last_at);
            let place = joiner.place(line.message, line.level, *last_at);
            id = match (place, *last_id) {
                (LinePlace::Rest, Some(head)) => Some(head),
                _ => Some(mine(telling_line(line.message).0)),
            };
            *last_id = id;
        });
        match (read, id) {
            (_, Some(id)) => id,
            (Ok(_), None) => mine(""),
            (Err(_), None) => mine(&String::from_utf8_lossy(line)),
        }
    }
}

fn mine(options: &TemplatesOptions, ids: &Path, progress: &mut dyn FnMut(u64)) -> Result<Mined, TemplatesError> {
    let mut mined = Mined {
        miner: Miner::with_forms_max(FORMS_MAX),
        texts: BTreeMap::new(),
        summary: TemplatesSummary::default(),
        envelope: options.format.map(Envelope::new),
    };
    let unread = |line: u64| {
        move |source| TemplatesError::Read {
            path: options.input.clone(),
            line: line + 1,
            source,
        }
    };
    let unwritten = |source| TemplatesError::Write {
        path: ids.to_owned(),
        source,
    };
    let mut input = open(&options.input).map_err(unread(0))?;
    let mut spill = BufWriter::new(File::create(ids).map_err(unwritten)?);
    let mut line = Vec::new();
    loop {
        match input
            .read_line(&mut line, LINE_BYTES_MAX)
            .map_err(unread(mined.summary.lines))?
        {
            LineRead::End => break,
            LineRead::Line => {}
            LineRead::TooLong => mined.summary.lines_too_long += 1,
        }
        let id = mined.mine(&line);
        spill.write_all(&id.0.to_le_bytes()).map_err(unwritten)?;
        if mined.summary.lines.is_multiple_of(PROGRESS_LINES) {
            progress(input.bytes_taken());
        }
    }
    progress(input.bytes_taken());
    spill.flush().map_err(unwritten)?;
    mined.summary.evicted = mined.miner.evicted();
    Ok(mined)
}

impl Mined {
    fn mine(&mut self, line: &[u8]) -> TemplateId {
        let Self {
            miner,
            texts,
            summary,
            envelope,
        } = self;
        summary.lines += 1;
        let mut mine = |message: &str| {
            let mined = miner.mine(message, None);
            if mined.first_seen && texts.len() < TEXTS_MAX {
                texts.insert(mined.id, miner.template(mined.id).unwrap_or_default());
            }
            mined.id
        };
        match envelope {
            Some(envelope) => envelope.mine(line, &mut mine),
            None => mine(&String::from_utf8_lossy(line)),
        }
    }

    fn write_rows(&mut self, ids: &Path, rows: &Path) -> io::Result<()> {
        let mut ids = BufReader::new(File::open(ids)?);
        let mut csv = csv::Writer::from_writer(BufWriter::new(File::create(rows)?));
        csv.write_record(["line", "template_id", "template"])?;
        // Id and text of each id as emitted; there are few, and each would otherwise be looked up once a line.
        let mut shown = BTreeMap::new();
        let mut id = [0; 8];
        for line in 1..=self.summary.lines {
            ids.read_exact(&mut id)?;
            let emitted = TemplateId(u64::from_le_bytes(id));
            let (id, text) = shown.entry(emitted).or_insert_with(|| self.show(emitted));
            csv.write_record([line.to_string().as_str(), id, text])?;
        }
        csv.into_inner()
            .map_err(|e| e.into_error())?
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .sync_all()?;
        let mut different: Vec<&String> = shown.values().map(|(id, _)| id).collect();
        different.sort_unstable();
        different.dedup();
        self.summary.templates = different.len() as u64;
        Ok(())
    }

    fn show(&self, emitted: TemplateId) -> (String, String) {
        let id = self.miner.canonical(emitted);
        let text = self.miner.template(id).or_else(|| self.texts.get(&id).cloned());
        (id.to_string(), text.unwrap_or_default())
    }
}

/// A file beside the output that goes away whatever happens, unless it was renamed.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn beside(output: &Path, what: &str) -> Self {
        let mut name = OsString::from(".");
        name.push(output.file_name().unwrap_or_default());
        name.push(format!(".{what}.partial"));
        Self {
            path: output.with_file_name(name),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already when it was renamed or never made; and if it can't be removed there is nobody to tell.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(input: &[u8]) -> (Vec<Vec<String>>, TemplatesSummary) {
        run_as(None, input)
    }

    fn run_as(format: Option<Format>, input: &[u8]) -> (Vec<Vec<String>>, TemplatesSummary) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = TemplatesOptions {
            input: folder.path().join("in.log"),
            format,
            output: folder.path().join("out.csv"),
        };
        fs::write(&options.input, input).expect("written");
        let summary = templates(&options, &mut |_| {}).expect("mined");
        let mut csv = csv::Reader::from_path(&options.output).expect("an output");
        let rows = csv
            .records()
            .map(|r| r.expect("a row").iter().map(str::to_owned).collect())
            .collect();
        assert_eq!(
            fs::read_dir(folder.path()).expect("a folder").count(),
            2,
            "no partial file is left"
        );
        (rows, summary)
    }

    #[test]
    fn every_line_has_a_row_with_the_id_of_the_end() {
        let names = ["ann", "bob", "cid", "dee", "eva", "fay"];
        let log: String = names.iter().map(|name| format!("session of {name} opened\n")).collect();
        let (rows, summary) = run(format!("{log}a \"quoted\", line\r\n\nlast").as_bytes());
        assert_eq!(rows.len(), 9);
        assert!(
            rows[..6]
                .iter()
                .all(|r| r[1] == rows[0][1] && r[2] == "session of <*> opened"),
            "{rows:?}"
        );
        assert_eq!(rows[6][2], "a \"quoted\", line");
        assert_eq!((rows[7][0].as_str(), rows[7][2].as_str()), ("8", ""));
        assert_eq!(rows[8][2], "last");
        assert_eq!(
            summary,
            TemplatesSummary {
                lines: 9,
                lines_too_long: 0,
                templates: 4,
                evicted: 0
            }
        );
    }

    #[test]
    fn envelopes_are_taken_off_and_traces_joined() {
        let log = "<11>Jan 31 12:00:00 web-1 app[7]: request 17 failed\n\
                   2026-01-31T12:00:00Z stdout F \\tat nothing\n\
                   {\"msg\":\"request 18 failed\",\"ts\":\"2026-01-31T12:00:01Z\"}\n\
                   \tat com.example.A.b(A.java:12)\n\
                   Caused by: java.io.IOException\n\
                   \x1b[31mnext\x1b[0m\n";
        let (rows, _) = run_as(Some(Format::Log), log.as_bytes());
        let texts: Vec<&str> = rows.iter().map(|r| r[2].as_str()).collect();
        let failed = "request <*> failed";
        assert_eq!(texts, [failed, "\\tat nothing", failed, failed, failed, "next"]);
    }

    #[test]
    fn no_template_holds_what_a_terminal_obeys() {
        let hostile = "\u{1b}]0;owned\u{7} \u{1b}[2Jx \u{9b}1A user\u{202e}txt a\u{0}b\n";
        for format in [None, Some(Format::LogText), Some(Format::Log)] {
            let (rows, _) = run_as(format, hostile.as_bytes());
            let text = &rows[0][2];
            assert!(!text.contains(foreshock_domain::text::is_unprintable), "{text:?}");
        }
    }

    #[test]
    fn any_bytes_will_do() {
        for (name, bytes, lines) in [
            ("empty", vec![], 0),
            ("not text", vec![0xff, 0xfe, b'\n', 0, 0x80], 2),
            ("one long line", vec![b'x'; 3 << 20], 1),
            ("only ends", b"\n\n\n".to_vec(), 3),
        ] {
            let (rows, summary) = run(&bytes);
            assert_eq!((rows.len(), summary.lines), (lines, lines as u64), "{name}");
        }
    }

    #[test]
    fn what_fails_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (input, output) = (folder.path().join("none.log"), folder.path().join("out.csv"));
        let missing = templates(
            &TemplatesOptions {
                input: input.clone(),
                format: None,
                output,
            },
            &mut |_| {},
        );
        assert!(
            matches!(missing, Err(TemplatesError::Read { line: 1, .. })),
            "{missing:?}"
        );
        fs::write(&input, "a line\n").expect("written");
        let output = folder.path().join("no/folder/out.csv");
        let unwritable = templates(
            &TemplatesOptions {
                input,
                format: None,
                output,
            },
            &mut |_| {},
        );
        assert!(
            matches!(unwritable, Err(TemplatesError::Write { .. })),
            "{unwritable:?}"
        );
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
