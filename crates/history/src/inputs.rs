//! What a command line names as dumps: files, folders with everything below them, and patterns; each with the name that its
//! result gets below an output folder.
//!
//! A file that is named goes by its name, what a folder holds by its path below the folder, and what a pattern matches by its
//! path below the part of the pattern without wildcards. What says how a file is compressed is left out.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::open::STDIN;

/// A dump, and where its result goes below an output folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Input {
    /// The file, or `-`.
    pub path: PathBuf,
    /// Path below the output folder; empty for `-`, which has no name.
    pub name: PathBuf,
}

/// Why inputs can't be found.
#[derive(Debug, thiserror::Error)]
pub enum InputsError {
    /// Neither a file nor a pattern that can be read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// What was named.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder or pattern without a file.
    #[error("{path}: no file that ends in {endings}", path = path.display())]
    Empty {
        /// What was named.
        path: PathBuf,
        /// What was looked for.
        endings: String,
    },
}

/// Whether this names several files: a folder, or a pattern where no such file is.
#[must_use]
pub fn is_many(path: &Path) -> bool {
    path.is_dir() || is_pattern(path)
}

/// All files that `named` names, in that order and sorted within each. Of a folder those whose name, without `.gz` or `.zst`, ends
/// in one of `endings` (such as `csv`) and which don't lie below `except`; hidden ones are passed over.
///
/// # Errors
/// When a folder can't be read, or one holds no such file. A file that is named and not there is no error yet.
pub fn expand(named: &[PathBuf], endings: &[&str], except: &Path) -> Result<Vec<Input>, InputsError> {
    let mut found = Vec::new();
    for path in named {
        if !is_many(path) {
            let name = file_name(path);
            found.push(Input {
                path: path.clone(),
                name,
            });
            continue;
        }
        let before = found.len();
        let (root, pattern) = if path.is_dir() {
            let everything = format!("{}/**/*", glob::Pattern::escape(&path.to_string_lossy()));
            (path.clone(), everything)
        } else {
            (fixed_part(path), path.to_string_lossy().into_owned())
        };
        let options = glob::MatchOptions {
            require_literal_separator: true,
            require_literal_leading_dot: true,
            ..glob::MatchOptions::new()
        };
        let failed = |source| InputsError::Io {
            path: path.clone(),
            source,
        };
        let matches = glob::glob_with(&pattern, options)
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        for file in matches {
            let file = file.map_err(|error| failed(error.into()))?;
            let name = plain_name(file.strip_prefix(&root).unwrap_or(&file));
            let ends = name
                .extension()
                .and_then(OsStr::to_str)
                .is_some_and(|e| endings.contains(&e));
            if file.is_file() && !is_below(&file, except) && (ends || !path.is_dir()) {
                found.push(Input { path: file, name });
            }
        }
        found[before..].sort();
        if found.len() == before {
            let endings: Vec<String> = endings.iter().map(|e| format!(".{e}")).collect();
            return Err(InputsError::Empty {
                path: path.clone(),
                endings: endings.join(" or "),
            });
        }
    }
    Ok(found)
}

fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '[']) && !path.exists()
}

/// The leading components without wildcards.
fn fixed_part(path: &Path) -> PathBuf {
    let is_fixed = |c: &Component<'_>| !c.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    path.components().take_while(is_fixed).collect()
}

fn is_below(file: &Path, folder: &Path) -> bool {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    folder.is_dir() && whole(file).starts_with(whole(folder))
}

fn file_name(path: &Path) -> PathBuf {
    if path.as_os_str() == STDIN {
        return PathBuf::new();
    }
    plain_name(Path::new(path.file_name().unwrap_or_default()))
}

/// The name without what says how it is compressed.
fn plain_name(path: &Path) -> PathBuf {
    match path.extension().and_then(OsStr::to_str) {
        Some("gz" | "zst") => path.with_extension(""),
        _ => path.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test that can't go on should stop

    use std::fs;

    use super::*;

    #[test]
    fn cases() {
        let folder = tempfile::TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        for file in [
            "a.csv",
            "b.csv.gz",
            "d/c.csv",
            "d/e/f.csv.zst",
            "d/notes.txt",
            "d/.h.csv",
            "out/a.csv",
        ] {
            fs::create_dir_all(at(file).parent().unwrap()).unwrap();
            fs::write(at(file), "").unwrap();
        }
        // (named, names of the results)
        let cases: [(&[&str], &[&str]); 9] = [
            (&["a.csv"], &["a.csv"]),
            (&["b.csv.gz", "a.csv"], &["b.csv", "a.csv"]),
            (&["absent.csv"], &["absent.csv"]),
            (&["d"], &["c.csv", "e/f.csv"]),
            (&["."], &["a.csv", "b.csv", "d/c.csv", "d/e/f.csv"]),
            (&["*.csv"], &["a.csv"]),
            (&["*/*.csv"], &["d/c.csv"]),
            (&["d/n*"], &["notes.txt"]),
            (&["**/*.zst", "d/c.csv"], &["d/e/f.csv", "c.csv"]),
        ];
        for (named, expected) in cases {
            let named: Vec<PathBuf> = named.iter().map(|n| at(n)).collect();
            let found = expand(&named, &["csv"], &at("out")).unwrap();
            let names: Vec<&str> = found.iter().map(|i| i.name.to_str().unwrap()).collect();
            assert_eq!(names, expected, "{named:?}");
        }
        assert_eq!(
            expand(&[STDIN.into()], &["csv"], &at("out")).unwrap()[0].name,
            Path::new("")
        );
        for empty in ["out", "*.json", "[[[*"] {
            assert!(expand(&[at(empty)], &["csv"], &at("out")).is_err(), "{empty}");
        }
    }
}
