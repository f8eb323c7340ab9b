//! AWS credentials: where the standard chain finds them.
//!
//! The order is that of the official SDKs: the environment, the profile in the shared files, a web identity, the
//! container's endpoint, the instance's metadata.

use std::path::PathBuf;

use crate::secret::Secret;

/// A set of access keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    pub access_key_id: String,
    pub secret_access_key: Secret,
    pub session_token: Option<Secret>,
}

/// Where the access keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// As they are written in the configuration.
    Keys(Keys),
    Chain(Box<Chain>),
}

/// The standard chain, its places resolved. The first that has something decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    pub environment: Option<Keys>,
    /// The profile's name, and the files that may hold it.
    pub profile: String,
    pub files: Vec<PathBuf>,
    pub web_identity: Option<WebIdentity>,
    pub container: Option<Container>,
    /// The base URL of the instance's metadata; `None` when it is switched off.
    pub metadata: Option<String>,
    /// Where the security token service is asked.
    pub region: String,
    /// The profile was named in the configuration: nothing else may answer in its place.
    pub only_profile: bool,
}

/// A token of another identity provider, exchanged for keys of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebIdentity {
    pub token_file: PathBuf,
    pub role_arn: String,
    pub session_name: String,
    /// The security token service, where it isn't the region's.
    pub endpoint: Option<String>,
}

/// The endpoint that a container's credentials are asked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub url: String,
    pub token: Option<Secret>,
    pub token_file: Option<PathBuf>,
}

impl Chain {
    /// Returns the chain as the environment directs it; `profile` is the one that the configuration names.
    pub fn new(env: &dyn Fn(&str) -> Option<String>, profile: Option<&str>, region: &str) -> Self {
        let set = |name: &str| env(name).filter(|value| !value.trim().is_empty());
        let home = set("HOME").map(PathBuf::from);
        let file = |variable: &str, usual: &str| {
            set(variable)
                .map(PathBuf::from)
                .or_else(|| Some(home.as_ref()?.join(usual)))
        };
        let files = [
            file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
            file("AWS_CONFIG_FILE", ".aws/config"),
        ];
        let keys = || {
            Some(Keys {
                access_key_id: set("AWS_ACCESS_KEY_ID")?.trim().to_owned(),
                secret_access_key: Secret::new(set("AWS_SECRET_ACCESS_KEY")?.trim()),
                session_token: set("AWS_SESSION_TOKEN").map(Secret::new),
            })
        };
        let web_identity = || {
            Some(WebIdentity {
                token_file: set("AWS_WEB_IDENTITY_TOKEN_FILE")?.into(),
                role_arn: set("AWS_ROLE_ARN")?,
                session_name: set("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "strait".into()),
                endpoint: set("AWS_ENDPOINT_URL_STS"),
            })
        };
        let container = || {
            let relative = set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
                .map(|path| format!("http://169.254.170.2{path}"));
            Some(Container {
                url: relative.or_else(|| set("AWS_CONTAINER_CREDENTIALS_FULL_URI"))?,
                token: set("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Secret::new),
                token_file: set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(PathBuf::from),
            })
        };
        let metadata = || {
            let off = set("AWS_EC2_METADATA_DISABLED")
                .is_some_and(|value| value.eq_ignore_ascii_case("true"));
            let usual = || "http://169.254.169.254".to_owned();
            (!off).then(|| set("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(usual))
        };
        Self {
            environment: keys(),
            profile: profile
                .map(str::to_owned)
                .or_else(|| set("AWS_PROFILE"))
                .unwrap_or_else(|| "default".into()),
            files: files.into_iter().flatten().collect(),
            web_identity: web_identity(),
            container: container(),
            metadata: metadata(),
            region: region.to_owned(),
            only_profile: profile.is_some(),
        }
    }

    /// Returns whether somebody named credentials. What a machine or a container has by itself is no wish to use it.
    pub fn is_directed(env: &dyn Fn(&str) -> Option<String>) -> bool {
        let set = |name| env(name).is_some_and(|value| !value.trim().is_empty());
        set("AWS_ACCESS_KEY_ID") || set("AWS_PROFILE")
    }
}
