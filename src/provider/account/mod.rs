//! Whose account is used at a provider that takes no plain key: where its credentials come from, as data.
//!
//! Nothing is read from the environment after the configuration was checked; `identity` fetches and signs.

pub mod aws;
pub mod entra;
pub mod google;
mod url;

pub use url::Url;
