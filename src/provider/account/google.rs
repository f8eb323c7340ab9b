//! Google's access tokens: for a service account, for a user, or from the machine's metadata server.

use super::Url;
use crate::secret::Secret;

/// The metadata server's host name, from inside Google's cloud.
pub const METADATA: &str = "metadata.google.internal";
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

/// Who asks for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    ServiceAccount(Box<ServiceAccount>),
    /// What `gcloud auth application-default login` leaves.
    User(Box<User>),
    /// The machine's own account; the server's base URL.
    Metadata(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    pub email: String,
    /// PEM
    pub private_key: Secret,
    pub key_id: Option<String>,
    pub token_uri: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub client_id: String,
    pub client_secret: Secret,
    pub refresh_token: Secret,
    pub token_uri: String,
}

/// What a key file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    pub source: Source,
    pub project: Option<String>,
}

#[derive(serde::Deserialize)]
struct Written {
    #[serde(rename = "type")]
    kind: Option<String>,
    project_id: Option<String>,
    quota_project_id: Option<String>,
    client_email: Option<String>,
    private_key: Option<String>,
    private_key_id: Option<String>,
    token_uri: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    refresh_token: Option<String>,
}

impl KeyFile {
    /// Reads a key file's text. What is wrong is said without any of it.
    pub fn read(text: &str) -> Result<Self, String> {
        let written: Written = serde_json::from_str(text)
            .map_err(|_| "is not the JSON of a Google key file".to_owned())?;
        let need = |field: Option<String>, name: &str| {
            field
                .filter(|text| !text.is_empty())
                .ok_or_else(|| format!("is a Google key file without {name}"))
        };
        let token_uri = written.token_uri.unwrap_or_else(|| TOKEN_URI.to_owned());
        if Url::parse(&token_uri).is_none() {
            return Err("is a Google key file whose token_uri is no URL".into());
        }
        let source = match written.kind.as_deref() {
            Some("service_account") => {
                if !written
                    .private_key
                    .as_deref()
                    .unwrap_or("-----BEGIN ")
                    .contains("-----BEGIN ")
                {
                    return Err("is a Google key file whose private_key is not PEM".into());
                }
                let account = ServiceAccount {
                    email: need(written.client_email, "client_email")?,
                    private_key: Secret::new(need(written.private_key, "private_key")?),
                    key_id: written.private_key_id,
                    token_uri,
                };
                Source::ServiceAccount(Box::new(account))
            }
            Some("authorized_user") => Source::User(Box::new(User {
                client_id: need(written.client_id, "client_id")?,
                client_secret: Secret::new(need(written.client_secret, "client_secret")?),
                refresh_token: Secret::new(need(written.refresh_token, "refresh_token")?),
                token_uri,
            })),
            Some(_) => {
                return Err(
                    "is a Google key file of a type other than service_account and authorized_user"
                        .into(),
                );
            }
            None => return Err("is a Google key file without type".into()),
        };
        Ok(Self {
            source,
            project: written.project_id.or(written.quota_project_id),
        })
    }
}
