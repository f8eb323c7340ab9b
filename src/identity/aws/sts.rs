//! Keys of a role, from the security token service.

use std::time::SystemTime;

use super::super::http::{Reply, Request};
use super::super::kept::Fetched;
use super::super::sign::{Signable, sign};
use super::files::Role;
use super::text_of;
use crate::provider::account::Url;
use crate::provider::account::aws::{Keys, WebIdentity};
use crate::secret::Secret;

const VERSION: (&str, &str) = ("Version", "2011-06-15");

/// Exchanges another identity provider's token for keys of a role. Nobody signs: the token is the proof.
pub async fn by_web_identity(
    identity: &WebIdentity,
    region: &str,
) -> Result<Fetched<Keys>, String> {
    let token = text_of(&identity.token_file)?;
    let url = address(identity.endpoint.as_deref(), region);
    let fields = [
        ("Action", "AssumeRoleWithWebIdentity"),
        VERSION,
        ("RoleArn", identity.role_arn.as_str()),
        ("RoleSessionName", identity.session_name.as_str()),
        ("WebIdentityToken", token.trim()),
    ];
    let mut request = Request::form(&url, &fields);
    // The form is secret, the answer is XML.
    request.headers.push((
        http::header::ACCEPT,
        http::HeaderValue::from_static("application/xml"),
    ));
    read(&request.send().await?)
}

/// Takes on a role with the keys of another.
pub async fn assume(role: &Role, keys: &Keys, region: &str) -> Result<Fetched<Keys>, String> {
    let url = address(role.endpoint.as_deref(), region);
    let mut fields = vec![
        ("Action", "AssumeRole"),
        VERSION,
        ("RoleArn", role.arn.as_str()),
        ("RoleSessionName", role.session_name.as_str()),
    ];
    if let Some(id) = &role.external_id {
        fields.push(("ExternalId", id));
    }
    let mut request = Request::form(&url, &fields);
    let parsed = Url::parse(&url).ok_or("the security token service's address is no URL")?;
    let host = parsed.authority();
    let signable = Signable {
        method: "POST",
        host: &host,
        target: &parsed.target,
        headers: &[("content-type", "application/x-www-form-urlencoded")],
        body: &request.body,
    };
    let signed = sign(signable, keys, region, "sts", SystemTime::now())?;
    request.headers.extend(signed);
    request.headers.push((
        http::header::ACCEPT,
        http::HeaderValue::from_static("application/xml"),
    ));
    read(&request.send().await?)
}

fn address(endpoint: Option<&str>, region: &str) -> String {
    match endpoint {
        Some(endpoint) => format!("{}/", endpoint.trim_end_matches('/')),
        None if region.starts_with("cn-") => format!("https://sts.{region}.amazonaws.com.cn/"),
        None => format!("https://sts.{region}.amazonaws.com/"),
    }
}

fn read(reply: &Reply) -> Result<Fetched<Keys>, String> {
    let body = String::from_utf8_lossy(&reply.body);
    if reply.status != 200 {
        let code = element(&body, "Code").unwrap_or("no code");
        let message = element(&body, "Message").unwrap_or_default();
        let message: String = message.chars().take(300).collect();
        let status = reply.status;
        return Err(format!(
            "the security token service answered status {status}: {code}: {message}"
        ));
    }
    let need = |name| {
        element(&body, name)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| format!("the security token service's answer has no {name}"))
    };
    let expiration = need("Expiration")?.parse::<jiff::Timestamp>();
    let expiration =
        expiration.map_err(|_| "the security token service's answer has an odd Expiration")?;
    Ok(Fetched {
        value: Keys {
            access_key_id: need("AccessKeyId")?.to_owned(),
            secret_access_key: Secret::new(need("SecretAccessKey")?),
            session_token: Some(Secret::new(need("SessionToken")?)),
        },
        expires: Some(SystemTime::from(expiration)),
        again: None,
    })
}

/// Returns the text of the first element of that name: keys and times hold nothing that XML would escape.
fn element<'x>(xml: &'x str, name: &str) -> Option<&'x str> {
    let open = format!("<{name}>");
    let from = xml.find(&open)? + open.len();
    let length = xml[from..].find("</")?;
    Some(xml[from..from + length].trim())
}
