//! Fetches Google's access tokens: by a service account's signature, a user's refresh token, or from the machine's
//! metadata server.

use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::http::Request;
use super::kept::{Fetched, Source};
use super::token;
use crate::codec::base64;
use crate::provider::account::google;

/// Vertex AI has no narrower scope.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// An assertion may live an hour; it is used at once.
const LIFE: u64 = 3600;

impl Source for google::Source {
    type Value = HeaderValue;

    async fn fetch(&self) -> Result<Fetched<HeaderValue>, String> {
        match self {
            google::Source::ServiceAccount(account) => by_signature(account).await,
            google::Source::User(user) => by_refresh(user).await,
            google::Source::Metadata(server) => from_machine(server).await,
        }
    }
}

async fn by_signature(account: &google::ServiceAccount) -> Result<Fetched<HeaderValue>, String> {
    let assertion = assertion(account, SystemTime::now())?;
    let fields = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("assertion", assertion.as_str()),
    ];
    let reply = Request::form(&account.token_uri, &fields).send().await?;
    token::read(&reply, &[&account.private_key])
}

async fn by_refresh(user: &google::User) -> Result<Fetched<HeaderValue>, String> {
    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", user.client_id.as_str()),
        ("client_secret", user.client_secret.expose()),
        ("refresh_token", user.refresh_token.expose()),
    ];
    let reply = Request::form(&user.token_uri, &fields).send().await?;
    token::read(&reply, &[&user.client_secret, &user.refresh_token])
}

async fn from_machine(server: &str) -> Result<Fetched<HeaderValue>, String> {
    let url = format!(
        "{server}/computeMetadata/v1/instance/service-accounts/default/token?scopes={SCOPE}"
    );
    // The header proves that nobody was tricked into asking.
    let request = Request::get(&url).header("metadata-flavor", "Google");
    token::read(&request.send().await?, &[])
}

/// Returns a JWT that asks for a token, <https://developers.google.com/identity/protocols/oauth2/service-account>.
fn assertion(account: &google::ServiceAccount, now: SystemTime) -> Result<String, String> {
    let key = key(account.private_key.expose())?;
    let now = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let mut header = serde_json::Map::new();
    header.insert("alg".into(), "RS256".into());
    header.insert("typ".into(), "JWT".into());
    if let Some(id) = &account.key_id {
        header.insert("kid".into(), id.as_str().into());
    }
    let mut claims = serde_json::Map::new();
    claims.insert("iss".into(), account.email.as_str().into());
    claims.insert("scope".into(), SCOPE.into());
    claims.insert("aud".into(), account.token_uri.as_str().into());
    claims.insert("iat".into(), now.into());
    claims.insert("exp".into(), (now + LIFE).into());
    let text = |map| serde_json::Value::Object(map).to_string();
    let mut jwt = base64::url(text(header).as_bytes());
    jwt.push('.');
    jwt.push_str(&base64::url(text(claims).as_bytes()));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        jwt.as_bytes(),
        &mut signature,
    )
    .map_err(|_| "the private key can't sign")?;
    jwt.push('.');
    jwt.push_str(&base64::url(&signature));
    Ok(jwt)
}

fn key(pem: &str) -> Result<RsaKeyPair, String> {
    let wrong = "the key file's private_key is no RSA key in PEM";
    let parsed = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| wrong)?;
    let pair = match &parsed {
        PrivateKeyDer::Pkcs8(der) => pkcs8(der),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).ok(),
        // On a curve, or of a kind to come.
        PrivateKeyDer::Sec1(_) | _ => None,
    };
    pair.ok_or_else(|| wrong.to_owned())
}

fn pkcs8(der: &PrivatePkcs8KeyDer<'_>) -> Option<RsaKeyPair> {
    RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).ok()
}
