//! Strait: an LLM gateway. The map, in the order a request meets the modules.
//!
//! The words we use, one for each thing:
//! *protocol* a way to say a request (OpenAI chat, Anthropic messages); *provider* who serves models;
//! *endpoint* one address of a provider; *key* what a client shows us; *credential* what we show a provider;
//! *target* a provider's model that may answer; *route* the targets of one request, in order;
//! *attempt* one try at one target; *cooldown* the time in which a target that failed is not asked;
//! *exchange* one request from its first byte to its record; *record* what is kept of it; *journal* the file in which
//! it stands until the database has it;
//! *usage* the tokens it took; *snapshot* one checked configuration, never changed after.
//!
//! Arrows of dependency run one way: `command → server → gateway → config → directory → {guard, limit, cache,
//! routing, access, ledger, observe, state} → upstream → provider → protocol → codec, secret, error`.

/// Who asks: client keys.
pub mod access;
/// Asked before? The exact cache and single flight.
pub mod cache;
/// Bytes: JSON edited by range, server-sent events.
pub mod codec;
/// One file per subcommand.
pub mod command;
/// What was wished: the file, checked into a snapshot and swapped.
pub mod config;
/// Who asks, where the configuration doesn't say: organisations, teams, projects, users, keys.
pub mod directory;
pub mod error;
/// One request, start to finish.
pub mod gateway;
pub mod glob;
/// Who we are to a provider that takes no plain key: tokens and signatures.
pub mod identity;
/// Tokens that others have signed, and whom of those we trust.
pub mod jwt;
/// What it came to: each exchange that reached a provider, kept for good. Administrative actions too:
/// [`ledger::Ledger::audit`] notes one, and whoever does one calls it.
pub mod ledger;
/// How much: requests, tokens, concurrency.
pub mod limit;
/// A scriptable fake provider.
pub mod mock;
/// What happened: records, metrics, log.
pub mod observe;
/// How it is said: each provider protocol, the hub between them, usage.
pub mod protocol;
/// Who serves it: provider rows, the catalogue, prices, quirks.
pub mod provider;
/// Where it goes: model name → targets, strategies, cooldowns.
pub mod routing;
pub mod secret;
/// Listeners, the admin port, signals.
pub mod server;
/// How people sign in to the administration API.
pub mod signin;
/// What must last: the state database.
pub mod state;
/// The wire out: peers, connections, DNS, health checks.
pub mod upstream;
