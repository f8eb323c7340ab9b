//! How people sign in to the administration API: at an OpenID provider, by authorization code with PKCE,
//! <https://openid.net/specs/openid-connect-core-1_0.html#CodeFlowAuth>.
//!
//! Between the two halves nothing is kept here: what the second has to know of the first is sealed into a cookie, so that
//! any node may end what another began, and nobody who only begins takes up room.

mod flow;
mod ticket;
mod who;

use std::time::Duration;

pub use flow::{Refused, Return, exchange, leave};
pub use ticket::{LIFE, Ticket, local};
pub use who::{Standing, Who};

use crate::directory::role::Role;
use crate::jwt::{Address, Algorithm};
use crate::provider::account::Url;
use crate::secret::Secret;

/// The path that the provider sends people back to.
pub const CALLBACK: &str = "/admin/v1/signin/callback";

/// The `[admin.oidc]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub address: Address,
    pub client_id: String,
    /// `None`: a public client, by PKCE alone.
    pub client_secret: Option<Secret>,
    pub scopes: Vec<String>,
    /// Where people reach [`CALLBACK`], as the provider knows it.
    pub redirect: String,
    pub algorithms: Vec<Algorithm>,
    /// The claim that has people's groups.
    pub groups: String,
    pub roles: Vec<Grant>,
    /// How long a session holds.
    pub session: Duration,
}

/// What the members of a group are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub group: String,
    pub is: Is,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Is {
    /// As good as the admin token.
    Operator,
    /// This, in the organisation, team or project of this id.
    Member(Role, String),
}

impl Settings {
    /// Returns whether people reach the API over TLS, as far as is told.
    pub fn is_secure(&self) -> bool {
        self.redirect.starts_with("https://")
    }

    /// Returns how browsers name where the API is, in `origin`.
    pub fn origin(&self) -> Option<String> {
        let url = Url::parse(&self.redirect)?;
        let scheme = if url.tls { "https" } else { "http" };
        Some(format!(
            "{scheme}://{}",
            url.authority().to_ascii_lowercase()
        ))
    }
}
