//! One checked configuration, never changed after: what a request is served by, from its start to its end.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::provider::Provider;
use crate::routing::Model;
use crate::{access, cache, ledger, observe, server, state};

#[derive(Debug)]
pub struct Snapshot {
    /// Counts up with every swap; 1 is the one that the program started with.
    pub generation: u64,
    /// The file it came from, if any.
    pub file: Option<PathBuf>,
    pub server: server::Settings,
    pub admin: server::AdminSettings,
    pub state_dir: PathBuf,
    pub database: state::Location,
    pub secrets: state::Secrets,
    pub redis: Option<state::redis::Settings>,
    /// How nodes count together, where there is a Redis.
    pub shared: crate::limit::shared::Settings,
    /// Enabled providers: those of the file, and those of the catalogue whose usual key variable is set.
    pub providers: Vec<Arc<Provider>>,
    /// Name or alias → index into `providers`.
    pub provider_index: HashMap<String, usize>,
    /// Catalogue providers that are not enabled, and why ("OPENAI_API_KEY is not set").
    pub disabled: Vec<(String, String)>,
    pub models: HashMap<String, Arc<Model>>,
    pub rules: crate::routing::rules::Rules,
    pub keys: Vec<access::KeySettings>,
    /// Of end users and tags, whichever key asks.
    pub budgets: Vec<crate::limit::named::Named>,
    pub tokens: Vec<access::TokenSettings>,
    pub catalogue: crate::provider::catalogue::Settings,
    pub cache: cache::Settings,
    pub responses: state::Settings,
    pub ledger: ledger::Settings,
    pub alerts: ledger::alert::Settings,
    pub records: observe::Sink,
    /// `info`, or levels by module (`info,strait::routing=debug`).
    pub log_level: String,
}
