//! What an OAuth 2 token endpoint answers, <https://www.rfc-editor.org/rfc/rfc6749#section-5>.

use std::time::{Duration, SystemTime};

use http::HeaderValue;

use super::http::Reply;
use super::kept::Fetched;
use crate::secret::Secret;

/// A token that doesn't say how long it lives is taken for so long.
const USUAL_LIFE: u64 = 300;
/// No token is believed to live longer.
const LONGEST_LIFE: u64 = 7 * 24 * 3600;

#[derive(serde::Deserialize)]
struct Answer {
    access_token: Option<String>,
    expires_in: Option<Seconds>,
    #[serde(default)]
    error: serde_json::Value,
    error_description: Option<String>,
}

/// Some servers write the number as a string.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

/// Reads a token as the value of `authorization`. `secrets` were sent and are not shown, whatever the server repeats.
pub fn read(reply: &Reply, secrets: &[&Secret]) -> Result<Fetched<HeaderValue>, String> {
    let answer: Option<Answer> = serde_json::from_slice(&reply.body).ok();
    let Some(answer) = answer.filter(|_| reply.status == 200) else {
        return Err(refusal(reply, secrets));
    };
    let token = answer.access_token.filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| refusal(reply, secrets))?;
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| "the token can't be sent in a header")?;
    value.set_sensitive(true);
    let seconds = match answer.expires_in {
        Some(Seconds::Number(seconds)) if seconds >= 0.0 => seconds as u64,
        Some(Seconds::Text(text)) => text.trim().parse().unwrap_or(USUAL_LIFE),
        Some(Seconds::Number(_)) | None => USUAL_LIFE,
    };
    let life = Duration::from_secs(seconds.min(LONGEST_LIFE));
    Ok(Fetched {
        value,
        expires: Some(SystemTime::now() + life),
        again: None,
    })
}

/// Returns what a server said that gave no token, in short.
pub fn refusal(reply: &Reply, secrets: &[&Secret]) -> String {
    const LONGEST: usize = 300;
    let answer: Option<Answer> = serde_json::from_slice(&reply.body).ok();
    let mut said = format!("the answer was status {}", reply.status);
    let error = answer.as_ref().map(|answer| &answer.error);
    let code = error.and_then(|error| error.as_str().or_else(|| error.get("message")?.as_str()));
    let description = answer.as_ref().and_then(|a| a.error_description.as_deref());
    for part in [code, description].into_iter().flatten() {
        said.push_str(": ");
        said.extend(part.chars().filter(|c| !c.is_control()).take(LONGEST));
    }
    for secret in secrets {
        // A server that repeats what it was sent.
        if !secret.expose().is_empty() && said.contains(secret.expose()) {
            return format!("the answer was status {}", reply.status);
        }
    }
    said
}
