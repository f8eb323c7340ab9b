//! Finds AWS credentials: the standard chain, in the order of the official SDKs.

mod files;
mod process;
mod sts;

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::Method;

use super::http::{Reply, Request};
use super::kept::{Fetched, Source};
use crate::provider::account::Url;
use crate::provider::account::aws::{self, Chain, Container, Keys};
use crate::secret::Secret;

/// Keys in a file are looked at again after this: somebody may have renewed them.
const FILE_LASTS: Duration = Duration::from_secs(300);
/// Not every machine has a metadata server, and those that have answer at once.
const METADATA_PATIENCE: Duration = Duration::from_secs(2);

impl Source for aws::Source {
    type Value = Keys;

    async fn fetch(&self) -> Result<Fetched<Keys>, String> {
        match self {
            aws::Source::Keys(keys) => Ok(lasting(keys.clone())),
            aws::Source::Chain(chain) => find(chain).await,
        }
    }
}

fn lasting(keys: Keys) -> Fetched<Keys> {
    Fetched {
        value: keys,
        expires: None,
        again: None,
    }
}

async fn find(chain: &Chain) -> Result<Fetched<Keys>, String> {
    if !chain.only_profile
        && let Some(keys) = &chain.environment
    {
        return Ok(lasting(keys.clone()));
    }
    if let Some(profile) = files::profile(chain)? {
        return by_profile(chain, profile).await;
    }
    if chain.only_profile || chain.profile != "default" {
        return Err(format!(
            "there is no profile {} in the shared files",
            chain.profile
        ));
    }
    if let Some(identity) = &chain.web_identity {
        return sts::by_web_identity(identity, &chain.region).await;
    }
    if let Some(container) = &chain.container {
        return from_container(container).await;
    }
    match &chain.metadata {
        Some(server) => from_instance(server).await.map_err(|why| {
            format!("no AWS credentials in the environment, the shared files, a web identity or a container; the instance's metadata: {why}")
        }),
        None => Err("no AWS credentials in the environment, the shared files, a web identity or a container".into()),
    }
}

/// Follows a profile to keys, through the roles that it names.
async fn by_profile(chain: &Chain, profile: files::Profile) -> Result<Fetched<Keys>, String> {
    let files::Profile { base, roles } = profile;
    let mut keys = match base {
        files::Base::Keys(keys) => Fetched {
            again: Some(FILE_LASTS),
            ..lasting(keys)
        },
        files::Base::Process(command) => process::run(&command).await?,
        files::Base::WebIdentity(identity) => {
            sts::by_web_identity(&identity, &chain.region).await?
        }
        files::Base::Environment => {
            let keys = chain.environment.clone();
            lasting(keys.ok_or("credential_source is Environment, where there are no keys")?)
        }
        files::Base::Container => match &chain.container {
            Some(container) => from_container(container).await?,
            None => return Err("credential_source is EcsContainer, and there is none".into()),
        },
        files::Base::Instance => match &chain.metadata {
            Some(server) => from_instance(server).await?,
            None => return Err("credential_source is Ec2InstanceMetadata, switched off".into()),
        },
    };
    for role in roles {
        keys = sts::assume(&role, &keys.value, &chain.region).await?;
    }
    Ok(keys)
}

/// What the endpoints of containers and instances answer.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
}

fn read(reply: &Reply) -> Result<Fetched<Keys>, String> {
    if reply.status != 200 {
        return Err(format!("the answer was status {}", reply.status));
    }
    // The error of the parser might show a part of the answer.
    let answer: Answer =
        serde_json::from_slice(&reply.body).map_err(|_| "the answer holds no access keys")?;
    let expires = answer
        .expiration
        .map(|text| text.parse::<jiff::Timestamp>());
    let expires = expires
        .transpose()
        .map_err(|_| "the answer has an odd Expiration")?;
    Ok(Fetched {
        value: Keys {
            access_key_id: answer.access_key_id,
            secret_access_key: Secret::new(answer.secret_access_key),
            session_token: answer.token.map(Secret::new),
        },
        expires: expires.map(SystemTime::from),
        again: expires.is_none().then_some(FILE_LASTS),
    })
}

async fn from_container(container: &Container) -> Result<Fetched<Keys>, String> {
    let url = Url::parse(&container.url).ok_or("the container's credential address is no URL")?;
    if !url.tls && !is_near(&url.host) {
        return Err(format!(
            "the container's credential address {} is neither HTTPS nor on this machine",
            url.host
        ));
    }
    let mut request = Request::get(&container.url);
    request.patience = METADATA_PATIENCE;
    let token = match (&container.token_file, &container.token) {
        (Some(file), _) => Some(text_of(file)?),
        (None, Some(token)) => Some(token.expose().to_owned()),
        (None, None) => None,
    };
    if let Some(token) = token {
        request = request.header("authorization", token.trim());
    }
    let reply = request.send().await?;
    read(&reply).map_err(|why| format!("the container's credentials: {why}"))
}

/// Returns whether a host is this machine, or one of the addresses that containers are given.
fn is_near(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => {
            address.is_loopback()
                || ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"].contains(&host)
        }
        Err(_) => host == "localhost",
    }
}

/// Asks the instance's metadata, by its second version: first for a session.
async fn from_instance(server: &str) -> Result<Fetched<Keys>, String> {
    let server = server.trim_end_matches('/');
    let url = format!("{server}/latest/api/token");
    let mut session = Request::get(&url).header("x-aws-ec2-metadata-token-ttl-seconds", "21600");
    session.method = Method::PUT;
    session.patience = METADATA_PATIENCE;
    let session = text(session.send().await?)?;
    let ask = |url: String| {
        let session = session.clone();
        async move {
            let mut request = Request::get(&url).header("x-aws-ec2-metadata-token", &session);
            request.patience = METADATA_PATIENCE;
            request.send().await
        }
    };
    let roles = format!("{server}/latest/meta-data/iam/security-credentials/");
    let listed = text(ask(roles.clone()).await?)?;
    let role = listed.lines().next().unwrap_or_default().trim();
    if role.is_empty() {
        return Err("the instance has no role".into());
    }
    read(&ask(format!("{roles}{role}")).await?)
}

fn text(reply: Reply) -> Result<String, String> {
    match (reply.status, String::from_utf8(reply.body)) {
        (200, Ok(text)) => Ok(text),
        (status, _) => Err(format!("the answer was status {status}")),
    }
}

/// Reads a small file that another program renews.
fn text_of(path: &std::path::Path) -> Result<String, String> {
    const LONGEST: u64 = 1 << 20;
    let shown = path.display();
    let length = std::fs::metadata(path).map(|metadata| metadata.len());
    let length = length.map_err(|error| format!("{shown} can't be read: {error}"))?;
    if length > LONGEST {
        return Err(format!("{shown} is longer than {LONGEST} bytes"));
    }
    std::fs::read_to_string(path).map_err(|error| format!("{shown} can't be read: {error}"))
}
