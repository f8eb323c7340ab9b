//! Microsoft Entra ID: an application's own token, by its client secret.

use crate::secret::Secret;

/// What Azure OpenAI's tokens are made for.
pub const SCOPE: &str = "https://cognitiveservices.azure.com/.default";
/// Who makes them, outside the national clouds.
pub const AUTHORITY: &str = "https://login.microsoftonline.com";

/// An application that signs in as itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// The base URL of who makes the tokens.
    pub authority: String,
    pub tenant: String,
    pub client_id: String,
    pub client_secret: Secret,
    pub scope: String,
}
