//! The credential of a call: whether it is there, once, and of the kind that the provider takes.

use hyper::header::HeaderMap;
use hyper::http::request::Parts;
use serde_json::{Value, json};

use super::dialect::Dialect;
use super::strict::Problems;

/// The headers that may carry one.
const HEADERS: [&str; 4] = ["authorization", "x-api-key", "api-key", "x-goog-api-key"];

/// Reports what is wrong with the credential.
pub(super) fn check(dialect: Dialect, head: &Parts, problems: &mut Problems<'_>) {
    let headers = &head.headers;
    let mut given: Vec<&str> = HEADERS
        .into_iter()
        .filter(|name| headers.contains_key(*name))
        .collect();
    if key_in_query(head) {
        given.push("?key=");
    }
    let [name] = given[..] else {
        if !given.is_empty() {
            problems.add(format_args!(
                "headers {}: more than one credential",
                given.join(", ")
            ));
        } else if dialect != Dialect::Ollama {
            problems.add("header authorization, x-api-key or api-key: there is no credential");
        }
        return;
    };
    if name == "?key=" {
        if !dialect.is_google() {
            problems.add("the query has a `key`, which Google alone takes");
        }
        return;
    }
    let value = text(headers, name);
    if value.is_empty() {
        problems.add(format_args!("header {name}: is empty"));
    }
    let is_aws = matches!(dialect, Dialect::Bedrock | Dialect::BedrockInvoke);
    match name {
        "authorization" if is_aws && value.starts_with(SCHEME) => check_signature(head, problems),
        "authorization"
            if value
                .strip_prefix("Bearer ")
                .is_none_or(|credential| credential.trim().is_empty()) =>
        {
            problems.add("header authorization: not `Bearer` and a credential");
        }
        "x-api-key" if dialect != Dialect::Anthropic => {
            let family = if dialect.is_google() || is_aws {
                dialect.name()
            } else {
                "OpenAI"
            };
            problems.add(format_args!(
                "header x-api-key: {family} takes `authorization`"
            ));
        }
        "x-goog-api-key" if !dialect.is_google() => {
            problems.add("header x-goog-api-key: Google alone takes it");
        }
        "x-goog-api-key" if head.uri.path().contains("/publishers/anthropic/") => {
            problems.add("header x-goog-api-key: Vertex takes `authorization` for this");
        }
        _ => {}
    }
    if dialect == Dialect::Anthropic && text(headers, "anthropic-version").is_empty() {
        problems.add("header anthropic-version: is missing");
    }
}

/// Returns what `GET /_calls` tells of the credential.
pub(super) fn told(head: &Parts) -> Value {
    let headers = &head.headers;
    let authorization = text(headers, "authorization");
    if authorization.starts_with(SCHEME) {
        let signed = Signed::read(authorization);
        return json!({"kind": "sigv4", "access_key": signed.scope(0), "date": signed.scope(1),
            "region": signed.scope(2), "service": signed.scope(3), "signed_headers": signed.headers});
    }
    let kind = if authorization.starts_with("Bearer ") {
        "bearer"
    } else if let Some(name) = HEADERS.into_iter().find(|name| headers.contains_key(*name)) {
        name
    } else if key_in_query(head) {
        "query"
    } else {
        "none"
    };
    json!({"kind": kind})
}

const SCHEME: &str = "AWS4-HMAC-SHA256";

/// The parts of an AWS signature, <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>.
struct Signed<'a> {
    credential: Vec<&'a str>,
    headers: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Signed<'a> {
    fn read(authorization: &'a str) -> Self {
        let field = |name: &str| {
            let fields = authorization.strip_prefix(SCHEME).unwrap_or("").split(',');
            let mut pairs = fields.filter_map(|field| field.trim().split_once('='));
            pairs
                .find(|(known, _)| *known == name)
                .map_or("", |(_, value)| value)
        };
        Self {
            credential: field("Credential").split('/').collect(),
            headers: field("SignedHeaders").split(';').collect(),
            signature: field("Signature"),
        }
    }

    fn scope(&self, at: usize) -> &'a str {
        self.credential.get(at).copied().unwrap_or("")
    }
}

/// Reports what is wrong with the form of a signature. Whether it is right can't be known without the secret.
fn check_signature(head: &Parts, problems: &mut Problems<'_>) {
    let headers = &head.headers;
    let signed = Signed::read(text(headers, "authorization"));
    if signed.credential.len() != 5 || signed.scope(4) != "aws4_request" {
        problems
            .add("header authorization: `Credential` is not key/date/region/service/aws4_request");
    }
    if signed.scope(3) != "bedrock" {
        problems.add(format_args!(
            "header authorization: signed for {:?}, not for bedrock",
            signed.scope(3)
        ));
    }
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if signed.signature.len() != 64 || !signed.signature.bytes().all(is_hex) {
        problems.add("header authorization: `Signature` is not 64 hexadecimal digits");
    }
    let date = text(headers, "x-amz-date");
    if date.is_empty() || !date.starts_with(signed.scope(1)) {
        problems.add("header x-amz-date: is missing or of another day than the signature");
    }
    for name in ["host", "x-amz-date", "x-amz-security-token"] {
        if (name == "host" || headers.contains_key(name)) && !signed.headers.contains(&name) {
            problems.add(format_args!("header {name}: is not signed"));
        }
    }
    for name in &signed.headers {
        if *name != "host" && !headers.contains_key(*name) {
            problems.add(format_args!("header {name}: is signed, but not there"));
        }
    }
}

fn key_in_query(head: &Parts) -> bool {
    let query = head.uri.query().unwrap_or("");
    query.split('&').any(|pair| pair.starts_with("key="))
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("")
}
