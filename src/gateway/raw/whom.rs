//! Whom to ask where the path names no provider.

use std::sync::Arc;

use http::HeaderMap;

use crate::error::{Error, Kind, Result};
use crate::gateway::Now;
use crate::protocol::Protocol;

/// Returns the provider for a path that names none: the one asked for by header, that of the model in the query,
/// else OpenAI (Anthropic for its own batches), else the first that speaks as OpenAI does.
pub fn provider(now: &Now, rest: &str, query: Option<&str>, headers: &HeaderMap) -> Result<String> {
    if let Some(wanted) = headers.get("x-strait-provider") {
        let wanted = wanted.to_str().unwrap_or_default();
        return match now.table.has_provider(wanted) {
            true => Ok(wanted.to_owned()),
            false => Err(Error::field(
                "x-strait-provider",
                "The header `x-strait-provider` names a provider that is not configured here.",
            )),
        };
    }
    let model = query
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("model="));
    if let Some(model) = model
        && let Ok(route) = now.table.resolve(model)
        && let Some(target) = route.targets.first()
    {
        return Ok(target.provider.name.clone());
    }
    let usual = if rest.starts_with("messages/") {
        ("anthropic", Protocol::Anthropic)
    } else {
        ("openai", Protocol::OpenaiChat)
    };
    if now.table.has_provider(usual.0) {
        return Ok(usual.0.to_owned());
    }
    let speaks = |provider: &&Arc<crate::provider::Provider>| {
        !provider.demo
            && provider
                .protocols
                .iter()
                .any(|speaks| speaks.protocol == usual.1)
    };
    match now.table.providers().iter().find(speaks) {
        Some(provider) => Ok(provider.name.clone()),
        None => Err(Error::new(
            Kind::PathNotFound,
            "No provider that serves this path is configured here.",
        )),
    }
}
