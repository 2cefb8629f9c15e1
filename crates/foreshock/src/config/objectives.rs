use std::path::Path;

use foreshock_failure::{FailureConfig, OpenSlo, OpenSloFile, Rules};

use super::error::Text;
use super::{ConfigError, FILE_BYTES_MAX, read_capped};

/// What was taken of one file of objectives.
#[derive(Clone, Debug, PartialEq)]
pub struct Objectives {
    /// The file, as the configuration names it.
    pub file: String,
    /// Rules and notes.
    pub taken: OpenSlo,
}

/// Reads the files of `failure.openslo`, and puts what they say into `failure.slo`, from where it is as if a person had written it.
pub(super) fn take(text: &Text<'_>, failure: &mut FailureConfig) -> Result<Vec<Objectives>, ConfigError> {
    let mut all = Vec::new();
    for (i, named) in std::mem::take(&mut failure.openslo).into_iter().enumerate() {
        let key = format!("failure.openslo[{i}]");
        let taken = parse(text, &key, &named)?;
        failure.slo.extend(taken.rules.iter().cloned());
        // Here, where it is known whence they came: a name twice, or one too many.
        Rules::new(failure).map_err(|e| {
            text.wrong(key, format!("{}: {}", named.file, e.what))
                .expected(e.expected)
        })?;
        all.push(Objectives {
            file: named.file,
            taken,
        });
    }
    Ok(all)
}

fn parse(text: &Text<'_>, key: &str, named: &OpenSloFile) -> Result<OpenSlo, ConfigError> {
    // Relative to the file that names it, wherever one is when one runs it.
    let path = text.file.parent().unwrap_or(Path::new("")).join(&named.file);
    let key_of_file = format!("{key}.file");
    let yaml = read_capped(&path).map_err(|error| {
        let what = format!("{} can't be read: {error}", path.display());
        text.wrong(key_of_file.as_str(), what)
            .expected("a readable text file in YAML")
    })?;
    let yaml = yaml.ok_or_else(|| {
        text.wrong(key_of_file.as_str(), format!("{} is too large", path.display()))
            .expected(format!("at most {FILE_BYTES_MAX} bytes"))
    })?;
    OpenSlo::parse(&yaml, named.only.as_deref()).map_err(|e| {
        let what = format!("{}: {}: {}", path.display(), e.place, e.what);
        let error = text.wrong(key_of_file.as_str(), what).expected(e.expected);
        match e.help {
            Some(help) => error.help(help),
            None => error,
        }
    })
}
