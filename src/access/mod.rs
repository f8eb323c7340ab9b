//! Who asks: client keys, hashed in memory, and tokens that others have signed.

mod gate;
mod presented;
mod table;
mod tokens;

use std::sync::Arc;

pub use gate::{Gate, Lists, Net};
pub use presented::presented;
pub use table::{Key, Keys};
pub use tokens::{Bearer, Grant, Places, To, TokenSettings, Tokens};

use crate::limit::Limited;
use crate::limit::budget::Budget;
use crate::limit::named::Named;
use crate::limit::overload::Priority;
use crate::routing::constraints::Constraints;
use crate::secret::Secret;

/// A `[[keys]]` table as written.
#[derive(Debug, Clone, PartialEq)]
pub struct KeySettings {
    /// For records and metrics; unique.
    pub name: String,
    pub key: Secret,
    /// Globs over model names as the client writes them; empty allows every model.
    pub models: Vec<String>,
    /// Its own: for all models, and for some.
    /// The very ones that its key is held to.
    pub limits: Vec<Arc<Limited>>,
    pub budgets: Vec<Budget>,
    /// Of the end users and tags that its requests name.
    pub named: Vec<Named>,
    pub constraints: Option<Arc<Constraints>>,
    /// It may ask why a request went where it went.
    pub explain: bool,
    /// How long an answer that is over its time may stand in for one that can't be had; goes before the model's.
    pub stale_if_error: Option<std::time::Duration>,
    /// Where not all can be served at once.
    pub priority: Priority,
}

/// Whom a key of the directory belongs to, by id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    pub organisation: Arc<str>,
    pub team: Arc<str>,
    pub project: Arc<str>,
    pub user: Option<Arc<str>>,
}

/// What the ledger keeps of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Whose key it was, who answered, tokens, cost and times: nothing of what the client said, not even who it is.
    Amounts,
    /// All that a record holds.
    Metadata,
    /// The request and the answer, too.
    Bodies,
}

impl Keep {
    pub const ALL: [(&'static str, Keep); 3] = [
        ("none", Keep::Amounts),
        ("metadata", Keep::Metadata),
        ("bodies", Keep::Bodies),
    ];
    pub const NAMES: [&'static str; 3] = ["none", "metadata", "bodies"];

    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|(known, _)| *known == name).map(|(_, keep)| keep)
    }
}

/// What a project, or what it belongs to, says of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub keep: Keep,
    /// How long bodies are kept; `None`: as the configuration says.
    pub bodies: Option<std::time::Duration>,
}
