//! AWS's Signature Version 4 over one request, by the official signer.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{self, SignableBody, SignableRequest, SigningSettings};
use aws_sigv4::sign::v4;
use http::{HeaderName, HeaderValue};

use crate::provider::account::aws::Keys;

/// What is signed of a request.
#[derive(Clone, Copy)]
pub struct Signable<'a> {
    pub method: &'a str,
    /// As the `host` header has it.
    pub host: &'a str,
    /// The path as it is sent, with its query.
    pub target: &'a str,
    /// Headers to sign beside the host.
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

/// Returns the headers that prove who sends `request`.
pub fn sign(
    request: Signable<'_>,
    keys: &Keys,
    region: &str,
    service: &str,
    time: SystemTime,
) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let credentials = Credentials::new(
        keys.access_key_id.clone(),
        keys.secret_access_key.expose(),
        keys.session_token
            .as_ref()
            .map(|token| token.expose().to_owned()),
        None,
        "strait",
    );
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| error.to_string())?
        .into();
    let url = format!("https://{}{}", request.host, request.target);
    let headers = std::iter::once(("host", request.host)).chain(request.headers.iter().copied());
    let body = SignableBody::Bytes(request.body);
    let signable = SignableRequest::new(request.method, url, headers, body)
        .map_err(|error| error.to_string())?;
    let signed = http_request::sign(signable, &params).map_err(|error| error.to_string())?;
    let (headers, _) = signed.into_parts().0.into_parts();
    let mut made = Vec::with_capacity(headers.len());
    for header in headers {
        let name = HeaderName::from_static(header.name());
        let mut value =
            HeaderValue::from_str(header.value()).map_err(|_| "a key can't be sent in a header")?;
        value.set_sensitive(true);
        made.push((name, value));
    }
    Ok(made)
}
