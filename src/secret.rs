//! A string that never reaches a log: no `Display`, and a `Debug` that says nothing.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::codec::hex::hex;

/// A credential in memory. The only way to its text is [`Secret::expose`], so every use can be found.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for the one place that sends or hashes it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Returns 32 bytes of `secret` for one purpose alone.
pub fn derive(secret: &Secret, purpose: &str) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let mut derived = [0; 32];
    derived.copy_from_slice(hmac::sign(&key, purpose.as_bytes()).as_ref());
    derived
}

/// Makes a random secret of 64 digits, and keeps it in `path` for its owner alone. Returns what is there when another
/// process was first.
///
/// The file is there whole or not at all: a full disk leaves nothing behind that the next start would stumble over.
pub fn make(path: &Path) -> io::Result<Secret> {
    let mut bytes = [0u8; 32];
    let random = SystemRandom::new().fill(&mut bytes);
    random.map_err(|_| io::Error::other("no random numbers"))?;
    let text = hex(&bytes);
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = Path::new(&beside);
    let made = write(beside, &text).and_then(|()| fs::hard_link(beside, path));
    let made = match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::read_to_string(path).map(|text| Secret::new(text.trim()))
        }
        Err(error) => Err(error),
        Ok(()) => Ok(Secret::new(&*text)),
    };
    let _ = fs::remove_file(beside);
    made
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_kept_for_its_owner() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let first = make(&path).unwrap();
        assert_eq!(first.expose().len(), 64);
        assert_eq!(
            make(&path).unwrap(),
            first,
            "who comes second takes the first's"
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_that_can_not_be_written_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        // As on a full disk: the file opens, and nothing can be written into it.
        let beside = format!("token.{}.new", std::process::id());
        std::os::unix::fs::symlink("/dev/full", dir.path().join(beside)).unwrap();
        assert!(make(&dir.path().join("token")).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
