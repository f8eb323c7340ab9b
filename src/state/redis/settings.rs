//! What `state.redis` says, and what its addresses may be.

use std::path::PathBuf;
use std::time::Duration;

use ::redis::IntoConnectionInfo as _;

use crate::secret::Secret;

/// Where Redis is, and how it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// At least one. A URL may hold a password.
    pub urls: Vec<Secret>,
    pub mode: Mode,
    /// Authorities in PEM to trust instead of the system's.
    pub ca: Option<PathBuf>,
    /// What this node shows a server that asks who it is.
    pub identity: Option<Identity>,
    /// Before every key and channel.
    pub prefix: String,
    /// What one call takes at most.
    pub timeout: Duration,
}

/// A certificate and its key: files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// What the addresses are those of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// The one server.
    Single,
    /// Some nodes of a cluster.
    Cluster,
    /// Sentinels, which know the server that takes writes.
    Sentinel {
        /// Its name there.
        master: String,
        user: Option<String>,
        password: Option<Secret>,
    },
}

impl Settings {
    /// The prefix where none is given.
    pub const PREFIX: &'static str = "strait:";
    /// A call within a data centre takes a fraction of a millisecond.
    pub const TIMEOUT: Duration = Duration::from_millis(50);

    /// Returns those of a server at `url`, the rest as it is by default.
    pub fn single(url: &str) -> Self {
        Self {
            urls: vec![Secret::new(url)],
            mode: Mode::Single,
            ca: None,
            identity: None,
            prefix: Self::PREFIX.into(),
            timeout: Self::TIMEOUT,
        }
    }
}

const SCHEMES: [&str; 4] = ["redis", "rediss", "valkey", "valkeys"];

/// Says what is wrong with the URL of a Redis, without repeating any of it.
pub fn check_url(url: &str) -> Result<(), String> {
    let form = "write redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// for TLS";
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    if !scheme.is_some_and(|scheme| SCHEMES.contains(&scheme)) {
        return Err(format!("must be the URL of a Redis: {form}"));
    }
    if url.contains(['?', '#']) {
        return Err(format!(
            "must hold no ? and no #, or they must be percent-encoded: {form}"
        ));
    }
    let unfit = || format!("is not a URL: {form}, with what is special in it percent-encoded");
    url.into_connection_info().map(drop).map_err(|_| unfit())
}

/// Returns whether a URL, which was checked, asks for TLS.
pub fn is_tls(url: &Secret) -> bool {
    let url = url.expose();
    url.starts_with("rediss://") || url.starts_with("valkeys://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_what_is_secret() {
        for url in [
            "redis://h",
            "redis://:p4ss@h:6380/2",
            "rediss://u:p4ss@h.example",
            "valkey://[::1]:7000",
        ] {
            assert_eq!(check_url(url), Ok(()), "{url}");
        }
        for url in [
            "p4ss",
            "http://p4ss@h",
            "redis://:p4ss@",
            "redis://:p4ss@h/p4ss",
            "redis://:p4ss@h:port",
            "redis://:p4#ss@h",
            "rediss://:p4ss@h#insecure",
            "redis://h?protocol=p4ss",
        ] {
            let wrong = check_url(url).expect_err(url);
            assert!(!wrong.contains("p4"), "{url}: {wrong}");
        }
    }
}
