//! Listeners, the admin port, signals.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;

/// The `[server]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub listen: Vec<String>,
    pub tls: Option<Tls>,
    /// Bytes.
    pub max_body: u64,
    /// The whole request body must arrive within this.
    pub body_timeout: Duration,
    /// Worker threads; 0 is one for each core.
    pub threads: usize,
    /// Serve without client keys on an address that is not loopback.
    pub open: bool,
    /// In-flight requests and streams get this long to end after SIGTERM.
    pub drain: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// The `[admin]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSettings {
    pub listen: String,
    /// `None`: generated into the state directory at first start.
    pub token: Option<Secret>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec!["127.0.0.1:8080".into()],
            tls: None,
            max_body: 64 << 20,
            body_timeout: Duration::from_secs(60),
            threads: 0,
            open: false,
            drain: Duration::from_secs(30),
        }
    }
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8081".into(), token: None }
    }
}
