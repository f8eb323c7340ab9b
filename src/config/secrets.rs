//! Secrets as people write them: a reference to where one is kept, or the secret itself.

use std::io::Read;
use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::Env;
use super::mistake::{Wrong, nearest, quoted};
use super::read::{Parsed, text};
use crate::secret::Secret;

/// Where a secret is kept. Resolved only for what is in use, so that a disabled provider needs no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    /// `env:NAME` or `${NAME}`
    Env(String),
    /// `file:/path`
    File(PathBuf),
    /// `credential:NAME`: in the directory that systemd hands over.
    Credential(String),
    Literal(Secret),
}

/// No secret is longer; a file that is was named by mistake.
const LONGEST: u64 = 64 * 1024;

/// Reads a reference or a literal secret.
pub(super) fn secret(value: &DeValue<'_>) -> Parsed<Reference> {
    reference(&text(value)?)
}

fn reference(written: &str) -> Parsed<Reference> {
    if written.is_empty() {
        return Err("must not be empty".into());
    }
    if let Some(name) = written
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
    {
        return variable(name);
    }
    match written.split_once(':') {
        Some(("env", name)) => variable(name),
        Some(("file", path)) => match path.strip_prefix("//").unwrap_or(path) {
            "" => Err("file: must name a file".into()),
            path => Ok(Reference::File(path.into())),
        },
        Some(("credential", name)) => {
            let is_plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
            let wrong =
                || "credential: must name a file in $CREDENTIALS_DIRECTORY, without /".into();
            if is_plain {
                Ok(Reference::Credential(name.to_string()))
            } else {
                Err(wrong())
            }
        }
        // `ENV:NAME`, `Env:NAME` and the like would be sent to the provider as they stand.
        Some((scheme, _)) => match SCHEMES
            .iter()
            .find(|known| known.eq_ignore_ascii_case(scheme))
        {
            Some(known) => Err(Wrong::suggest(
                "a reference to a secret is written in lower case",
                Some(quoted(&format!("{known}:…"))),
            )),
            None => match nearest(scheme, SCHEMES) {
                Some(known) => Err(Wrong::suggest(
                    "looks like a reference to a secret, of a kind that there isn't",
                    Some(quoted(&format!("{known}:…"))),
                )),
                None => Ok(Reference::Literal(Secret::new(written))),
            },
        },
        None => Ok(Reference::Literal(Secret::new(written))),
    }
}

const SCHEMES: [&str; 3] = ["env", "file", "credential"];

fn variable(name: &str) -> Parsed<Reference> {
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_name {
        return Ok(Reference::Env(name.to_string()));
    }
    // Not shown: whoever writes `env:sk-…` wrote a secret.
    Err(
        "env: must be followed by the name of an environment variable, of letters, digits and _"
            .into(),
    )
}

impl Reference {
    /// Fetches a secret that travels in a header; what is wrong is said by the reference's name alone.
    pub fn resolve(&self, env: Env<'_>) -> Result<Secret, Wrong> {
        let (secret, shown) = self.fetch(env)?;
        // A line break would start another header.
        if !secret
            .expose()
            .bytes()
            .all(|b| b.is_ascii_graphic() || b == b' ')
        {
            return Err(format!(
                "{shown} holds a line break, or a character that a header can't hold"
            )
            .into());
        }
        Ok(secret)
    }

    /// Fetches a secret of any text, such as a key file.
    pub fn resolve_text(&self, env: Env<'_>) -> Result<Secret, Wrong> {
        self.fetch(env).map(|(secret, _)| secret)
    }

    /// Returns the secret, which is not empty, and how to name it.
    fn fetch(&self, env: Env<'_>) -> Result<(Secret, String), Wrong> {
        let (secret, shown) = match self {
            Reference::Literal(secret) => (secret.clone(), "the secret".to_string()),
            Reference::Env(name) => match env(name) {
                Some(value) => (
                    Secret::new(value),
                    format!("the environment variable {name}"),
                ),
                None => return Err(format!("the environment variable {name} is not set").into()),
            },
            Reference::File(path) => (read_secret(path)?, format!("the file {}", path.display())),
            Reference::Credential(name) => {
                let directory =
                    env("CREDENTIALS_DIRECTORY").filter(|directory| !directory.is_empty());
                let Some(directory) = directory else {
                    let message = format!(
                        "the credential {name} is missing: CREDENTIALS_DIRECTORY is not set (systemd sets it for LoadCredential={name}:…)"
                    );
                    return Err(message.into());
                };
                let found = read_secret(&Path::new(&directory).join(name));
                (
                    found.map_err(|wrong| {
                        format!("the credential {name} is missing: {}", wrong.message)
                    })?,
                    format!("the credential {name}"),
                )
            }
        };
        if secret.expose().trim().is_empty() {
            return Err(format!("{shown} is empty").into());
        }
        Ok((secret, shown))
    }
}

fn read_secret(path: &Path) -> Result<Secret, Wrong> {
    let text = read_bounded(path, LONGEST)?;
    Ok(Secret::new(
        text.strip_suffix('\n')
            .map(|text| text.strip_suffix('\r').unwrap_or(text))
            .unwrap_or(&text),
    ))
}

/// Reads a small text file.
pub(super) fn read_bounded(path: &Path, longest: u64) -> Result<String, Wrong> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| format!("the file {shown} can't be read: {error}");
    // A pipe or a device may block for ever or never end.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(format!("{shown} is not a file").into());
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .map_err(unreadable)?
        .take(longest + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > longest {
        return Err(format!("the file {shown} is longer than {longest} bytes").into());
    }
    String::from_utf8(bytes).map_err(|_| format!("the file {shown} is not text").into())
}
