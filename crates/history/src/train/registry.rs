//! Models on disk: `<name>/<version>/model.json` with `manifest.json` and `MODEL_CARD.md`, and `<name>/current`, which holds
//! the number of the version in use.
//!
//! A version is written whole or not at all and never changed after. Going back is writing the number before into `current`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use foreshock_failure::predict::{HAZARD_VERSION, HazardModel};
use serde::{Deserialize, Serialize};

use super::TrainFigures;

/// Largest model that is read.
const BYTES_MAX: u64 = 64 << 20;
const CURRENT: &str = "current";
const MODEL: &str = "model.json";
const MANIFEST: &str = "manifest.json";
const CARD: &str = "MODEL_CARD.md";

/// What is known of a model without reading it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the format.
    pub hazard_version: u32,
    /// The version of Foreshock that trained it.
    pub foreshock: String,
    /// When, in RFC 3339.
    pub trained_at: String,
    /// Dumps and the file of failures, as named.
    pub inputs: Vec<String>,
    /// xxh3 of the schema (keys, means and spreads), in hex: the same rows give the same.
    pub schema_hash: String,
    /// Width of the windows in seconds.
    pub window_s: f64,
    /// Horizon in seconds.
    pub horizon_s: f64,
    /// Least lead in seconds.
    pub lead_s: f64,
    /// Classes that were not learned from.
    pub apart: Vec<String>,
    /// The examination.
    pub figures: TrainFigures,
    /// Against the version in use before, if there was one.
    pub paired: Option<Paired>,
}

/// A new model against the one in use, on the same rows.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Paired {
    /// The version in use.
    pub against: u32,
    /// Log loss of the one in use less that of the new one, a row: above 0 the new one is better.
    pub gain: f64,
    /// Ends of its 95 % interval, by resampling entities.
    pub low: f64,
    /// As said.
    pub high: f64,
}

/// Why a model can't be had.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It can't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is there is no model.
    #[error("{}: {what}", path.display())]
    Data {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what was expected.
        what: String,
    },
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> RegistryError {
    let path = path.to_owned();
    move |source| RegistryError::Io {
        path: path.clone(),
        source,
    }
}

/// The folder of the version in use: `dir` itself where it is a version, or the one that `dir/current` names.
///
/// # Errors
/// When neither is there.
pub fn resolve(dir: &Path) -> Result<PathBuf, RegistryError> {
    if dir.join(MODEL).is_file() {
        return Ok(dir.to_owned());
    }
    match current(dir)? {
        Some(version) => Ok(dir.join(version.to_string())),
        None => Err(RegistryError::Data {
            path: dir.to_owned(),
            what: format!("no model here, expected {MODEL}, or {CURRENT} with the number of a version"),
        }),
    }
}

/// The version in use, if there is one.
///
/// # Errors
/// When `current` can't be read or holds no number.
pub fn current(dir: &Path) -> Result<Option<u32>, RegistryError> {
    let path = dir.join(CURRENT);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| RegistryError::Data {
            path,
            what: "expected the number of a version, such as 1".into(),
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_at(&path)(e)),
    }
}

/// Reads the model of a folder, a version's or one with versions.
///
/// # Errors
/// When it can't be read, is damaged, or is of another version of the format.
pub fn load(dir: &Path) -> Result<HazardModel, RegistryError> {
    let path = resolve(dir)?.join(MODEL);
    decode(&path, &read(&path)?)
}

/// Reads a model from its bytes; `path` is for messages alone.
///
/// # Errors
/// When they are damaged, or of another version of the format.
pub fn decode(path: &Path, bytes: &[u8]) -> Result<HazardModel, RegistryError> {
    let bad = |what: String| RegistryError::Data {
        path: path.to_owned(),
        what,
    };
    // The version first: another one may have another shape.
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_slice(bytes)
        .map_err(|e| bad(format!("expected a model as `foreshock train` writes it: {e}")))?;
    if version != HAZARD_VERSION {
        return Err(bad(format!(
            "a model of format {version}, expected {HAZARD_VERSION}: train it again with this version of foreshock"
        )));
    }
    let model: HazardModel = serde_json::from_slice(bytes)
        .map_err(|e| bad(format!("expected a model as `foreshock train` writes it: {e}")))?;
    match model.fault() {
        Some(fault) => Err(bad(format!("the model {fault}"))),
        None => Ok(model),
    }
}

/// Numbers of all versions, ascending.
///
/// # Errors
/// When the folder can't be read.
pub fn versions(dir: &Path) -> Result<Vec<u32>, RegistryError> {
    let entries = fs::read_dir(dir).map_err(io_at(dir))?;
    let mut versions: Vec<u32> = entries
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    versions.sort_unstable();
    Ok(versions)
}

/// Reads the manifest beside a model.
///
/// # Errors
/// When it can't be read or is damaged.
pub fn manifest(dir: &Path) -> Result<Manifest, RegistryError> {
    let path = resolve(dir)?.join(MANIFEST);
    serde_json::from_slice(&read(&path)?).map_err(|e| RegistryError::Data {
        path,
        what: format!("expected a manifest as `foreshock train` writes it: {e}"),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, RegistryError> {
    let size = fs::metadata(path).map_err(io_at(path))?.len();
    if size > BYTES_MAX {
        return Err(RegistryError::Data {
            path: path.to_owned(),
            what: format!("{size} bytes, expected at most {BYTES_MAX}"),
        });
    }
    fs::read(path).map_err(io_at(path))
}

/// Writes a new version and gives its number. It is not in use before [`promote`].
///
/// # Errors
/// When it can't be written; then nothing of it is left.
pub fn add(dir: &Path, model: &HazardModel, manifest: &Manifest) -> Result<u32, RegistryError> {
    fs::create_dir_all(dir).map_err(io_at(dir))?;
    let version = versions(dir)?.last().map_or(1, |newest| newest + 1);
    let beside = dir.join(format!(".{version}.{}.partial", std::process::id()));
    let written = write_version(&beside, version, model, manifest)
        .and_then(|()| fs::rename(&beside, dir.join(version.to_string())).map_err(io_at(&beside)));
    if written.is_err() {
        // It may not even have been made.
        let _ = fs::remove_dir_all(&beside);
    }
    written.map(|()| version)
}

fn write_version(beside: &Path, version: u32, model: &HazardModel, manifest: &Manifest) -> Result<(), RegistryError> {
    fs::create_dir_all(beside).map_err(io_at(beside))?;
    let json = |name: &str, bytes: Result<Vec<u8>, serde_json::Error>| {
        let path = beside.join(name);
        let bytes = bytes.map_err(|e| io_at(&path)(e.into()))?;
        let mut file = fs::File::create(&path).map_err(io_at(&path))?;
        file.write_all(&bytes)
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| file.sync_all())
            .map_err(io_at(&path))
    };
    json(MODEL, serde_json::to_vec(model))?;
    json(MANIFEST, serde_json::to_vec_pretty(manifest))?;
    let card = beside.join(CARD);
    fs::write(&card, super::card::text(version, model, manifest)).map_err(io_at(&card))
}

/// Puts a version into use.
///
/// # Errors
/// When it can't be written.
pub fn promote(dir: &Path, version: u32) -> Result<(), RegistryError> {
    let path = dir.join(CURRENT);
    crate::backtest::whole(&path, |out| writeln!(out, "{version}")).map_err(io_at(&path))
}
