//! Secrets come from a file or from the environment, never from the configuration itself, and are never printed.

use std::path::Path;

use super::error::{ConfigError, Text};

/// Longer than any password or passphrase.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Whether secrets are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// They are needed: brokers will be asked.
    Read,
    /// Only the file is being checked.
    Leave,
}

/// The secret that `key` names by file or by variable; `None` where it names none.
pub(super) fn read(
    text: &Text<'_>,
    secrets: Secrets,
    table: &str,
    name: &str,
    file: Option<&Path>,
    variable: Option<&str>,
) -> Result<Option<String>, ConfigError> {
    match (file, variable) {
        (Some(_), Some(_)) => Err(text
            .wrong(format!("{table}.{name}_env"), "the secret is named twice")
            .expected(format!("either `{name}_file` or `{name}_env`"))),
        (None, None) => Ok(None),
        _ if secrets == Secrets::Leave => Ok(Some(String::new())),
        (Some(file), None) => read_file(file).map(Some).map_err(|error| {
            text.wrong(
                format!("{table}.{name}_file"),
                format!("can't read {}: {error}", file.display()),
            )
            .expected("a readable file that holds the secret and nothing else")
        }),
        (None, Some(variable)) => match std::env::var(variable) {
            Ok(secret) if !secret.is_empty() => Ok(Some(secret)),
            _ => Err(text
                .wrong(
                    format!("{table}.{name}_env"),
                    format!("environment variable {variable:?} is not set"),
                )
                .expected("the name of a variable that holds the secret")),
        },
    }
}

fn read_file(file: &Path) -> std::io::Result<String> {
    use std::io::{Error, ErrorKind, Read};
    let mut secret = String::new();
    std::fs::File::open(file)?
        .take(SECRET_BYTES_MAX)
        .read_to_string(&mut secret)?;
    // Editors and `echo` end files with a newline.
    let end = secret.trim_end_matches(['\r', '\n']).len();
    secret.truncate(end);
    if secret.is_empty() {
        return Err(Error::new(ErrorKind::InvalidData, "it is empty"));
    }
    Ok(secret)
}
